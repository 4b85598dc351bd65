//! Completions that are mapped to another value, and such as are ready from the start.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use support::wakers::Wakes;
use support::{Kind, Log, Recorder, adopted, drive, settle};
use tidegate::{CloseReason, Completer, Completion, EventLoop, Handle};

const MS: Duration = Duration::from_millis(1);

fn poll<T>(completion: &mut Completion<T>, wakes: &Wakes) -> Poll<io::Result<T>> {
    wakes.poll(Pin::new(completion))
}

/// A completion whose value is doubled, its completer, and how often that was done.
fn doubled(handle: &Handle) -> (Completer<u32>, Completion<u32>, Rc<Cell<u32>>) {
    let calls = Rc::new(Cell::new(0));
    let (completer, completion) = handle.completion();
    let count = calls.clone();
    let doubled = completion.map(move |value: u32| {
        count.set(count.get() + 1);
        2 * value
    });
    (completer, doubled, calls)
}

#[test]
fn a_mapped_value_goes_through_the_closure_when_it_is_taken() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let wakes = Wakes::new();
    let (completer, mut mapped, calls) = doubled(&handle);
    assert!(poll(&mut mapped, &wakes).is_pending());
    completer.complete(Ok(4));
    assert_eq!((wakes.count(), calls.get()), (1, 0), "taken by nobody yet");
    assert!(matches!(poll(&mut mapped, &wakes), Poll::Ready(Ok(8))));
    assert!(matches!(poll(&mut mapped, &wakes), Poll::Ready(Err(_))));
    assert_eq!(calls.get(), 1);

    let (completer, mapped, _) = doubled(&handle);
    completer.complete(Ok(5));
    assert_eq!(event_loop.run_until(mapped).unwrap(), 10);

    let (completer, mapped, calls) = doubled(&handle);
    let told = Rc::new(Cell::new(0));
    let tell = told.clone();
    mapped
        .map(|value| value + 1)
        .then(move |_, answer| tell.set(answer.unwrap()));
    completer.complete(Ok(6));
    assert_eq!((told.get(), calls.get()), (0, 0), "run inside of complete");
    drive(&mut event_loop, "the answer", || told.get() == 13);
}

#[test]
fn an_error_passes_a_mapped_completion_by() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (completer, mapped, calls) = doubled(&handle);
    completer.complete(Err(io::ErrorKind::NotFound.into()));
    let error = event_loop.run_until(mapped).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);

    let (completer, mapped, more_calls) = doubled(&handle);
    let error = event_loop.run_until(mapped.within(MS)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(completer.is_cancelled());
    assert_eq!((calls.get(), more_calls.get()), (0, 0));
}

#[test]
fn dropping_a_mapped_completion_cancels_as_dropping_the_original_does() {
    let event_loop = EventLoop::new().unwrap();
    let (completer, mapped, calls) = doubled(event_loop.handle());
    assert!(!completer.is_cancelled());
    drop(mapped);
    assert!(completer.is_cancelled());
    assert_eq!(Rc::strong_count(&calls), 1, "the closure was kept");
    assert_eq!(calls.get(), 0);
}

#[test]
fn a_connection_that_a_mapped_completion_never_took_is_closed() {
    for kind in Kind::ALL {
        for by_then in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let dir = support::TempDir::new();
            let (_listener, address) = kind.listen(&dir);
            let (log, taken) = (Log::new(), Rc::new(Cell::new(false)));
            let take = taken.clone();
            let connect = event_loop
                .handle()
                .create_connection(&address, Recorder::new(&log));
            let mapped = connect.map(move |_| take.set(true));
            drive(&mut event_loop, "the connection", || mapped.is_ready());
            if by_then {
                let (gone, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
                gone.abort();
                settle(&mut event_loop);
                mapped.then_on(&gone, |_: &mut Recorder, _, _| panic!("too late"));
            } else {
                drop(mapped);
            }
            drive(&mut event_loop, "lost", || log.is_lost());
            assert_eq!(log.reason(), "local-close");
            assert!(!taken.get());
        }
    }
}

#[test]
fn a_panic_of_a_mapping_closure_is_reported_and_what_follows_is_dropped() {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = support::failures(event_loop.handle());
    let (completer, completion) = event_loop.handle().completion::<()>();
    completion
        .map(|()| panic!("cannot be mapped"))
        .then(|_, _: io::Result<()>| unreachable!("there is no value"));
    completer.complete(Ok(()));
    settle(&mut event_loop);
    let reasons = || {
        failures
            .borrow()
            .iter()
            .map(|f| f.reason().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(reasons(), [CloseReason::Panic("cannot be mapped".into())]);
}

#[test]
fn the_end_of_the_loop_drops_the_closure_of_a_mapped_completion_uncalled() {
    let event_loop = EventLoop::new().unwrap();
    let (completer, mapped, calls) = doubled(event_loop.handle());
    mapped.then(|_, _| panic!("after the end"));
    drop(event_loop);
    assert_eq!((Rc::strong_count(&calls), calls.get()), (1, 0));
    drop(completer);
}

#[test]
fn a_completion_is_ready_when_the_next_poll_does_not_wait() {
    let event_loop = EventLoop::new().unwrap();
    let wakes = Wakes::new();
    let (completer, mut completion) = event_loop.handle().completion();
    let (mapped_completer, mut mapped, _) = doubled(event_loop.handle());
    assert!(!completion.is_ready() && !mapped.is_ready());
    assert!(poll(&mut completion, &wakes).is_pending() && poll(&mut mapped, &wakes).is_pending());
    assert!(!completion.is_ready() && !mapped.is_ready());
    completer.complete(Ok(()));
    mapped_completer.complete(Ok(1));
    assert!(completion.is_ready() && mapped.is_ready());
    assert!(poll(&mut completion, &wakes).is_ready() && poll(&mut mapped, &wakes).is_ready());
    assert!(completion.is_ready() && mapped.is_ready(), "taken");
}

#[test]
fn a_ready_completion_has_its_answer_from_the_start() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let ready = Completion::ready(&handle, Ok(3));
    assert!(ready.is_ready());
    assert_eq!(
        event_loop.run_until(ready.within(Duration::ZERO)).unwrap(),
        3
    );
    let failed = Completion::<u32>::ready(&handle, Err(io::ErrorKind::NotFound.into()));
    let error = event_loop
        .run_until(failed.map(|value| value + 1))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let told = Rc::new(Cell::new(0));
    let tell = told.clone();
    Completion::ready(&handle, Ok(4)).then(move |_, answer| tell.set(answer.unwrap()));
    assert_eq!(told.get(), 0, "never inside the call");
    drive(&mut event_loop, "the answer", || told.get() == 4);
}
