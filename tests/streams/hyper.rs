//! hyper on our streams: server and client on one loop, and what hyper asks a runtime for.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::rt::{Executor, Sleep, Timer};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};
use support::wakers::{Wakes, waker_fn};
use support::{
    BOUND, Dropped, Kind, TempDir, drive, each_kind, failures, pattern, settle, strict_loop,
};
use tidegate::{Address, EventLoop, Handle, Transport};
use tidegate_streams::hyper::{LoopExecutor, LoopTimer};
use tidegate_streams::{
    Connection, StreamServer, block_on, open_connection, spawn, spawn_on, start_server, timeout,
};

/// Runs async code on a loop of its own, for a bounded time.
#[track_caller]
fn run<F: Future<Output = ()> + 'static>(future: F) {
    let ended = block_on(async { timeout(2 * BOUND, future).await });
    assert!(
        ended.unwrap().is_ok(),
        "waited in vain for the end of the test"
    );
}

/// Sends back what it gets, and says in a header where the request went.
async fn echo(request: Request<Incoming>) -> hyper::Result<Response<Incoming>> {
    let path = request.uri().path().to_owned();
    let answer = Response::builder().header("path", path);
    Ok(answer.body(request.into_body()).unwrap())
}

fn server(at: &str, timer: Option<Duration>) -> StreamServer {
    let started = start_server(at, async move |reader, writer| {
        let mut http = hyper::server::conn::http1::Builder::new();
        if let Some(limit) = timer {
            http.timer(LoopTimer::new()).header_read_timeout(limit);
        }
        // Clients may come and go as they like.
        let _ = http
            .serve_connection(Connection::new(reader, writer), service_fn(echo))
            .await;
        Ok(())
    });
    started.unwrap()
}

/// A client, and the transport under it.
async fn client<B>(to: &Address) -> (SendRequest<B>, Transport)
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin + 'static,
{
    let (reader, writer) = open_connection(to).await.unwrap();
    let transport = writer.transport().clone();
    let made = hyper::client::conn::http1::handshake(Connection::new(reader, writer)).await;
    let (sender, connection) = made.unwrap();
    LoopExecutor::new().execute(async { connection.await.unwrap() });
    (sender, transport)
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, path: &str, body: Bytes) {
    sender.ready().await.unwrap();
    let request = Request::post(path)
        .header("host", "localhost")
        .body(Full::new(body.clone()));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["path"], path);
    let came = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(
        came == body,
        "{} of {} bytes, or others",
        came.len(),
        body.len()
    );
}

each_kind!(many_requests_are_answered_on_one_connection_that_is_kept_alive);
fn many_requests_are_answered_on_one_connection_that_is_kept_alive(kind: Kind) {
    run(async move {
        let dir = TempDir::new();
        let server = server(&kind.somewhere(&dir), None);
        let (mut sender, transport) = client(&server.local_addrs()[0]).await;
        for number in 0..500 {
            // From none to more than all buffers on the way.
            let len = if number % 50 == 49 {
                number * 2000
            } else {
                number
            };
            let body = Bytes::from(pattern(number as u64, len));
            ask(&mut sender, &format!("/{number}"), body).await;
            assert_eq!(server.connection_count(), 1);
        }
        drop(sender);
        assert!(transport.wait_closed().await.unwrap().is_clean());
        server.close();
        server.wait_closed().await.unwrap();
    });
}

#[test]
fn many_clients_are_served_beside_each_other() {
    run(async {
        let server = server("127.0.0.1:0", None);
        let clients = (0..40).map(|client_number| {
            let to = server.local_addrs()[0].clone();
            spawn(async move {
                let (mut sender, _) = client(&to).await;
                for number in 0..25 {
                    let body = Bytes::from(pattern(client_number * 1000, 5000));
                    ask(&mut sender, &format!("/{client_number}/{number}"), body).await;
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        server.close();
        server.wait_closed().await.unwrap();
        assert_eq!(Handle::current().unwrap().stats().connections, 0);
    });
}

/// A body that is made while it is sent; notes the most that its transport held.
struct Made {
    sent: u64,
    len: u64,
    transport: Rc<Cell<Option<Transport>>>,
    peak: Rc<Cell<usize>>,
}

impl Body for Made {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let transport = self.transport.take().unwrap();
        self.peak
            .set(self.peak.get().max(transport.write_buffer_size()));
        self.transport.set(Some(transport));
        let len = (self.len - self.sent).min(32 * 1024);
        let data = pattern(self.sent, len as usize);
        self.sent += len;
        Poll::Ready((len > 0).then(|| Ok(Frame::data(data.into()))))
    }
}

each_kind!(a_long_body_is_made_no_faster_than_it_is_read);
fn a_long_body_is_made_no_faster_than_it_is_read(kind: Kind) {
    const LEN: u64 = 48 << 20;
    run(async move {
        let dir = TempDir::new();
        let server = server(&kind.somewhere(&dir), None);
        let (mut sender, transport) = client(&server.local_addrs()[0]).await;
        let peak = Rc::new(Cell::new(0));
        let body = Made {
            sent: 0,
            len: LEN,
            transport: Rc::new(Cell::new(Some(transport))),
            peak: peak.clone(),
        };
        let request = Request::post("/").body(body).unwrap();
        let mut answer = sender.send_request(request).await.unwrap().into_body();
        let mut came = 0;
        while let Some(frame) = answer.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data == pattern(came, data.len()), "after {came} bytes");
            came += data.len() as u64;
        }
        assert_eq!(came, LEN);
        // The high-water mark, and what hyper writes at once at most.
        assert!(peak.get() > 0, "nothing ever waited");
        assert!(peak.get() < 1 << 20, "{}", peak.get());
    });
}

#[test]
fn a_client_that_does_not_say_what_it_wants_is_cut_off_by_the_timer() {
    run(async {
        let server = server("127.0.0.1:0", Some(Duration::from_millis(30)));
        let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await.unwrap();
        writer.write(b"GET / HTTP/1.1\r\nhost: ").unwrap();
        let answer = reader.read_to_end(1000).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
        drop(writer);
        server.close();
        server.wait_closed().await.unwrap();
    });
}

// Sleeps.

type Sleeping = Pin<Box<dyn Sleep>>;

/// Begins a sleep on the loop, as hyper does from a task.
fn begin(
    event_loop: &mut EventLoop,
    start: impl FnOnce(&LoopTimer) -> Sleeping + 'static,
) -> Sleeping {
    let (completer, completion) = event_loop.handle().completion();
    event_loop
        .handle()
        .call_soon(move |_| completer.complete(Ok(start(&LoopTimer::new()))));
    event_loop.run_until(completion).unwrap()
}

fn poll(sleep: &mut Sleeping, wakes: &Wakes) -> Poll<()> {
    wakes.poll(sleep.as_mut())
}

fn timers(event_loop: &EventLoop) -> usize {
    event_loop.handle().stats().timers
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_sleep_wakes_its_task_when_its_time_has_come_and_no_sooner() {
    run(async {
        let timer = LoopTimer::new();
        let start = Instant::now();
        timer.sleep(Duration::from_millis(20)).await;
        assert!(start.elapsed() >= Duration::from_millis(20));
        timer.sleep_until(start).await;
        let deadline = timer.now() + Duration::from_millis(20);
        timer.sleep_until(deadline).await;
        assert!(Instant::now() >= deadline);
        assert_eq!(
            Handle::current().unwrap().stats().timers,
            1,
            "that of the test"
        );
    });
}

#[test]
fn only_the_last_waker_is_woken_and_only_once() {
    let mut event_loop = strict_loop();
    let mut sleep = begin(&mut event_loop, |timer| {
        timer.sleep(Duration::from_millis(1))
    });
    let (first, second) = (Wakes::new(), Wakes::new());
    assert!(poll(&mut sleep, &first).is_pending());
    assert!(poll(&mut sleep, &second).is_pending());
    drive(&mut event_loop, "the time", || second.count() > 0);
    settle(&mut event_loop);
    assert_eq!(first.count(), 0);
    assert_eq!(second.count(), 1);
    assert_eq!(first.kept() + second.kept(), 0);
    assert!(poll(&mut sleep, &first).is_ready());
    assert!(poll(&mut sleep, &first).is_ready());
}

#[test]
fn dropping_a_sleep_cancels_its_timer() {
    let mut event_loop = strict_loop();
    let sleep = begin(&mut event_loop, |timer| timer.sleep(LONG));
    assert_eq!(timers(&event_loop), 1);
    drop(sleep);
    settle(&mut event_loop);
    assert_eq!(timers(&event_loop), 0);
}

#[test]
fn dropping_a_sleep_on_another_thread_cancels_its_timer_too() {
    let mut event_loop = strict_loop();
    let wakes = Wakes::new();
    let mut sleeps: Vec<Sleeping> = (0..8)
        .map(|_| begin(&mut event_loop, |timer| timer.sleep(LONG)))
        .collect();
    let kept = sleeps.pop().unwrap();
    for sleep in &mut sleeps {
        assert!(poll(sleep, &wakes).is_pending());
    }
    assert_eq!(timers(&event_loop), 8);
    thread::spawn(move || drop(sleeps)).join().unwrap();
    let handle = event_loop.handle().clone();
    drive(&mut event_loop, "the timers to be cancelled", || {
        handle.stats().timers == 1
    });
    assert_eq!(wakes.kept(), 0);
    drop(kept);
    settle(&mut event_loop);
    assert_eq!(timers(&event_loop), 0);
}

#[test]
fn a_sleep_may_be_waited_for_on_another_thread() {
    let mut event_loop = strict_loop();
    let mut sleep = begin(&mut event_loop, |timer| {
        timer.sleep(Duration::from_millis(5))
    });
    let (tell, ended) = mpsc::channel();
    let waits = thread::spawn(move || {
        let waiting = thread::current();
        let waker = waker_fn(move || waiting.unpark());
        let start = Instant::now();
        while sleep
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            assert!(start.elapsed() < BOUND, "never woken");
            thread::park_timeout(BOUND);
        }
        tell.send(()).unwrap();
    });
    drive(&mut event_loop, "the other thread to be woken", || {
        ended.try_recv().is_ok()
    });
    waits.join().unwrap();
}

#[test]
fn a_sleep_that_is_reset_ends_at_its_new_time_only() {
    let mut event_loop = strict_loop();
    let wakes = Wakes::new();
    let mut sleep = begin(&mut event_loop, |timer| {
        let mut sleep = timer.sleep(Duration::ZERO);
        timer.reset(&mut sleep, timer.now() + LONG);
        sleep
    });
    assert!(poll(&mut sleep, &wakes).is_pending());
    settle(&mut event_loop);
    assert!(poll(&mut sleep, &wakes).is_pending());
    assert_eq!(timers(&event_loop), 1);
    let mut sleep = begin(&mut event_loop, move |timer| {
        timer.reset(&mut sleep, timer.now());
        sleep
    });
    assert!(poll(&mut sleep, &wakes).is_pending() || timers(&event_loop) == 0);
    drive(&mut event_loop, "the new time", || {
        poll(&mut sleep, &wakes).is_ready()
    });
    assert_eq!(timers(&event_loop), 0);
}

#[test]
fn a_sleep_outlives_its_loop_and_is_dropped_anywhere() {
    let mut event_loop = strict_loop();
    let wakes = Wakes::new();
    let mut sleeps: Vec<Sleeping> = (0..2)
        .map(|_| begin(&mut event_loop, |timer| timer.sleep(LONG)))
        .collect();
    drop(event_loop);
    assert!(poll(&mut sleeps[0], &wakes).is_pending());
    let here = sleeps.pop();
    thread::spawn(move || drop(sleeps)).join().unwrap();
    drop(here);
    assert_eq!(wakes.kept(), 0);
}

#[test]
fn a_sleep_without_a_loop_or_beyond_the_clock_never_ends_and_does_no_harm() {
    let wakes = Wakes::new();
    let timer = LoopTimer::new();
    assert!(poll(&mut timer.sleep(Duration::ZERO), &wakes).is_pending());
    assert!(poll(&mut timer.sleep_until(Instant::now()), &wakes).is_pending());
    let mut event_loop = strict_loop();
    let mut sleep = begin(&mut event_loop, |timer| timer.sleep(Duration::MAX));
    settle(&mut event_loop);
    assert!(poll(&mut sleep, &wakes).is_pending());
    assert_eq!(timers(&event_loop), 0);
}

// Tasks.

#[test]
fn the_executor_runs_what_it_is_given_on_the_loop_and_reports_its_panic() {
    let mut event_loop = strict_loop();
    let told = failures(event_loop.handle());
    let steps = Rc::new(Cell::new(0));
    let inside = steps.clone();
    let outer = spawn_on(event_loop.handle(), async move {
        let executor = LoopExecutor::new();
        let counted = inside.clone();
        executor.execute(async move {
            counted.set(counted.get() + 1);
            tidegate_streams::yield_now().await;
            counted.set(counted.get() + 1);
        });
        executor.execute(async { panic!("a task of hyper's") });
        assert_eq!(inside.get(), 0, "never within the call");
    });
    drive(&mut event_loop, "the tasks", || {
        steps.get() == 2 && !told.borrow().is_empty()
    });
    assert!(outer.is_finished());
    assert_eq!(told.borrow().len(), 1);
    assert!(told.borrow()[0].to_string().contains("a task of hyper's"));
}

#[test]
fn without_a_loop_the_executor_drops_what_it_is_given() {
    let (kept, dropped) = Dropped::new();
    LoopExecutor::new().execute(async move {
        let _kept = kept;
        poll_fn(|_| Poll::<()>::Pending).await;
    });
    assert_eq!(dropped.try_recv().unwrap(), thread::current().id());
}
