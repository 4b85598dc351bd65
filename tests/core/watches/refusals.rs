//! Descriptors that cannot be watched, and what the error says.

use super::heard::{Heard, is_closed, pair};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use support::{TempDir, settle, strict_loop};
use tidegate::{Handle, LoopClosed, WatchFor};

/// Returns the error of a watch that fails, after a check that nothing is left of it.
#[track_caller]
fn refusal_of(handle: &Handle, fd: impl AsFd + 'static, events: WatchFor) -> io::Error {
    let before = handle.stats().watches;
    let refused = handle.watch(fd, events, |_: &Handle, _: &_| panic!("it is not watched"));
    assert_eq!(handle.stats().watches, before);
    refused.unwrap_err()
}

#[test]
fn a_file_that_epoll_refuses_fails_the_call_with_advice() {
    let mut event_loop = strict_loop();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let path = dir.path("file");
    std::fs::write(&path, b"text").unwrap();
    let writing = OpenOptions::new().write(true).open(&path).unwrap();
    let files = [
        (File::open(&path).unwrap(), WatchFor::Read),
        (writing, WatchFor::Write),
        (File::open("/").unwrap(), WatchFor::Read),
        (File::open("/dev/null").unwrap(), WatchFor::Both),
    ];
    for (file, events) in files {
        let refused = refusal_of(&handle, file, events);
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("in a job (Handle::run_in_executor)"),
            "{text}"
        );
    }
    settle(&mut event_loop);
}

#[test]
fn a_descriptor_that_is_watched_already_fails_the_call_with_advice() {
    let mut event_loop = strict_loop();
    let handle = event_loop.handle().clone();
    let (ours, theirs) = pair();
    let ours = Rc::new(ours);
    let heard = Heard::default();
    let receiver = heard.clone();
    let ready = move |_: &Handle, socket: &Rc<UnixDatagram>| receiver.receive(socket);
    handle.watch(ours.clone(), WatchFor::Read, ready).unwrap();
    let refused = refusal_of(&handle, ours.clone(), WatchFor::Write);
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    assert!(refused.to_string().contains("give a copy"), "{refused}");
    assert_eq!(Rc::strong_count(&ours), 3, "no drop within the call");
    settle(&mut event_loop);
    assert_eq!(Rc::strong_count(&ours), 2);
    // A copy can be watched, and the first watch goes on.
    let copy = ours.try_clone().unwrap();
    heard.watch(&event_loop, copy);
    theirs.send(b"x").unwrap();
    settle(&mut event_loop);
    assert_eq!(heard.bytes(), b"x");
    assert_eq!(heard.calls(), 3, "one of them finds nothing");
}

#[test]
fn a_loop_that_is_gone_watches_nothing() {
    let event_loop = strict_loop();
    let handle = event_loop.handle().clone();
    drop(event_loop);
    let (ours, theirs) = pair();
    let refused = refusal_of(&handle, ours, WatchFor::Read);
    let inner = refused.get_ref();
    assert!(inner.is_some_and(|inner| inner.is::<LoopClosed>()));
    assert!(is_closed(&theirs));
}

#[test]
fn a_simulated_world_has_no_descriptors() {
    let mut world = tidegate_testkit::World::new();
    let host = world.add_host("host").unwrap();
    let (ours, theirs) = pair();
    let refused = refusal_of(host.handle(), ours, WatchFor::Read);
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    world.run_until_idle().unwrap();
    assert!(is_closed(&theirs));
}
