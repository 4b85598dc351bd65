//! When the closure of a watch is called.

use super::heard::{Heard, pair};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use support::{drive, settle, strict_loop, tick};
use tidegate::{Protocol, Result, Transport, Watch, WatchFor};

#[test]
fn the_closure_is_called_until_it_would_block_and_again_at_the_next_event() {
    let mut event_loop = strict_loop();
    let (ours, theirs) = pair();
    let heard = Heard::default();
    heard.watch(&event_loop, ours);
    for round in 1..=3_u8 {
        for byte in 0..5 {
            theirs.send(&[byte]).unwrap();
        }
        settle(&mut event_loop);
        assert_eq!(heard.bytes(), [0, 1, 2, 3, 4].repeat(round.into()));
        assert_eq!(heard.calls(), 6 * usize::from(round));
    }
}

#[test]
fn the_first_call_comes_from_the_loop_also_for_what_was_ready_before() {
    let mut event_loop = strict_loop();
    let (ours, theirs) = pair();
    theirs.send(b"early").unwrap();
    let heard = Heard::default();
    heard.watch(&event_loop, ours);
    assert_eq!(heard.calls(), 0);
    tick(&mut event_loop);
    assert_eq!(heard.bytes(), b"early");
}

#[test]
fn a_closure_that_goes_on_has_sixteen_calls_in_a_tick_and_holds_nobody_up() {
    let mut event_loop = strict_loop();
    let handle = event_loop.handle().clone();
    let (busy, peer) = pair();
    peer.send(b"go").unwrap();
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let watch = handle.watch(busy, WatchFor::Read, move |_, _| {
        counted.set(counted.get() + 1);
        Ok(())
    });
    let watch = watch.unwrap();
    let (ours, theirs) = pair();
    let heard = Heard::default();
    heard.watch(&event_loop, ours);
    for ticks in 1..=5 {
        let soon = Rc::new(Cell::new(false));
        let ran = soon.clone();
        handle.call_soon(move |_| ran.set(true));
        theirs.send(&[1]).unwrap();
        // A new event beside the calls that are owed.
        peer.send(b"more").unwrap();
        // It does not sleep, whatever time it is given.
        event_loop.run_once(None).unwrap();
        assert_eq!(calls.get(), 16 * ticks);
        assert!(soon.get());
        assert_eq!(heard.bytes().len(), ticks);
    }
    watch.stop();
    settle(&mut event_loop);
    assert_eq!(calls.get(), 16 * 5);
}

#[test]
fn an_interruption_is_no_error_and_no_end() {
    let mut event_loop = strict_loop();
    let failures = support::failures(event_loop.handle());
    let (ours, theirs) = pair();
    let heard = Heard::default();
    let receiver = heard.clone();
    let mut interrupted = false;
    let handle = event_loop.handle();
    let watch = handle.watch(ours, WatchFor::Read, move |_, socket| {
        interrupted = !interrupted;
        match interrupted {
            true => Err(ErrorKind::Interrupted.into()),
            false => receiver.receive(socket),
        }
    });
    watch.unwrap();
    for _ in 0..2 {
        theirs.send(b"x").unwrap();
        settle(&mut event_loop);
    }
    assert_eq!(heard.bytes(), b"xx");
    assert!(failures.borrow().is_empty(), "{failures:?}");
}

#[test]
fn room_to_write_is_told_when_there_is_some_again() {
    let mut event_loop = strict_loop();
    let (reader, writer) = io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let written = Rc::new(Cell::new(0));
    let counted = written.clone();
    let handle = event_loop.handle();
    let watch = handle.watch(writer, WatchFor::Write, move |_, mut pipe| {
        counted.set(counted.get() + pipe.write(&[7; 1000])?);
        Ok(())
    });
    watch.unwrap();
    settle(&mut event_loop);
    let full = written.get();
    assert!(full > 0);
    read_exactly(&reader, full);
    drive(&mut event_loop, "room", || written.get() > full);
}

fn read_exactly(mut reader: &PipeReader, len: usize) {
    let mut all = vec![0; len];
    reader.read_exact(&mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == 7));
}

#[test]
fn both_directions_are_told_to_one_closure() {
    let mut event_loop = strict_loop();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (read, unsent) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(3_000_000)));
    let (count, left) = (read.clone(), unsent.clone());
    let handle = event_loop.handle();
    let watch = handle.watch(ours, WatchFor::Both, move |_, mut socket| {
        let mut data = [0; 1000];
        let reading = socket.read(&mut data);
        let reading = reading.map(|len| count.set(count.get() + len));
        let writing = match left.get().min(1000) {
            0 => Err(ErrorKind::WouldBlock.into()),
            chunk => socket.write(&[7; 1000][..chunk]),
        };
        let writing = writing.map(|len| left.set(left.get() - len));
        // One of them goes on, or both wait.
        reading.or(writing)
    });
    watch.unwrap();
    settle(&mut event_loop);
    assert!(unsent.get() > 0, "the kernel took all");
    theirs.write_all(&[1; 2500]).unwrap();
    drive(&mut event_loop, "the input", || read.get() == 2500);
    let reading = std::thread::spawn(move || {
        let mut all = vec![0; 3_000_000];
        theirs.read_exact(&mut all).map(|()| theirs)
    });
    drive(&mut event_loop, "the output", || unsent.get() == 0);
    drop(reading.join().unwrap().unwrap());
}

#[test]
fn a_hang_up_is_told_to_a_watch_for_writing() {
    let mut event_loop = strict_loop();
    let failures = support::failures(event_loop.handle());
    let (reader, writer) = io::pipe().unwrap();
    let handle = event_loop.handle();
    let watch = handle.watch(writer, WatchFor::Write, |_, mut pipe| {
        match pipe.write(b"x") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(error),
            // Nothing more to write, whatever room there is.
            _ => Err(ErrorKind::WouldBlock.into()),
        }
    });
    watch.unwrap();
    settle(&mut event_loop);
    assert!(failures.borrow().is_empty(), "{failures:?}");
    drop(reader);
    drive(&mut event_loop, "EPIPE", || failures.borrow().len() == 1);
}

#[test]
fn a_timer_of_the_system_and_an_eventfd_are_watched() {
    let mut event_loop = strict_loop();
    let handle = event_loop.handle().clone();
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
    let every = Timespec::try_from(Duration::from_millis(1)).unwrap();
    let times = Itimerspec {
        it_interval: every,
        it_value: every,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).unwrap();
    let counter = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let (timer, counter) = (File::from(timer), Rc::new(File::from(counter)));

    let add = counter.clone();
    let expirations = Rc::new(Cell::new(0));
    let counted = expirations.clone();
    let watch = handle.watch(timer, WatchFor::Read, move |_, mut timer| {
        counted.set(counted.get() + number(&mut timer)?);
        (&*add).write_all(&1_u64.to_ne_bytes())
    });
    watch.unwrap();
    let sum = Rc::new(Cell::new(0));
    let added = sum.clone();
    let watch = handle.watch(counter, WatchFor::Read, move |_, counter| {
        added.set(added.get() + number(&mut &**counter)?);
        Ok(())
    });
    watch.unwrap();
    drive(&mut event_loop, "five of each", || {
        expirations.get() >= 5 && sum.get() >= 5
    });
}

fn number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Watches a socket of its own from a callback, and tells its peer the bytes.
struct Watcher {
    socket: Option<OwnedFd>,
    watch: Rc<OnceCell<Watch>>,
}

impl Protocol for Watcher {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        if let Some(socket) = self.socket.take() {
            let transport = transport.clone();
            let handle = transport.handle().clone();
            let socket = UnixStream::from(socket);
            let watch = handle.watch(socket, WatchFor::Read, move |_, mut socket| {
                let mut data = [0; 100];
                let len = socket.read(&mut data)?;
                transport.write(&data[..len]).map_err(io::Error::from)?;
                Ok(())
            })?;
            self.watch.set(watch).unwrap();
        }
        Ok(())
    }
}

#[test]
fn a_protocol_watches_from_a_callback_and_writes_from_the_closure() {
    let mut event_loop = strict_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let watch: Rc<OnceCell<Watch>> = Rc::default();
    let protocol = Watcher {
        socket: Some(ours.into()),
        watch: watch.clone(),
    };
    let accepted = listener.accept().unwrap().0;
    event_loop.handle().adopt(accepted, protocol).unwrap();
    theirs.write_all(b"from the descriptor").unwrap();
    drive(&mut event_loop, "the watch", || watch.get().is_some());
    settle(&mut event_loop);
    let mut data = [0; 19];
    client.read_exact(&mut data).unwrap();
    assert_eq!(&data, b"from the descriptor");
}
