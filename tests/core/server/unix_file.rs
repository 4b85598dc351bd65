//! The permissions, the owner and the removal of the file of a Unix socket.

use rustix::process::{getegid, geteuid};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use support::{Recorder, Served, TempDir, assert_refused, assert_serves};
use tidegate::{Address, EventLoop, ListenOptions};

fn at(path: &Path) -> ListenOptions {
    Address::Unix(path.to_path_buf()).into()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[track_caller]
fn refused(event_loop: &EventLoop, options: ListenOptions) -> io::Error {
    let factory = || -> Recorder { panic!("no server") };
    let created = event_loop.handle().create_server(options, factory);
    created.unwrap_err()
}

#[test]
fn a_socket_file_has_its_mode_before_a_client_can_connect() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (one, other) = (dir.path("one"), dir.path("other"));
    for wanted in [0o600, 0o660, 0o777, 0o000] {
        let options = at(&one).also(at(&other)).unix_mode(wanted);
        let served = Served::echo(event_loop.handle(), options.start_serving(false));
        for path in [&one, &other] {
            assert_refused(&Address::Unix(path.clone()));
            assert_eq!(mode(path), wanted, "{:o}", mode(path));
        }
        served.server.start_serving().unwrap();
        if wanted == 0o600 {
            assert_serves(&mut event_loop, &Address::Unix(one.clone()));
        }
        assert_eq!(mode(&one), wanted);
        served.server.close();
        assert!(!one.exists() && !other.exists());
    }
    let served = Served::echo(event_loop.handle(), at(&one).unix_mode(0o640));
    assert_eq!(mode(&one), 0o640, "at once listening");
    served.server.close();
}

#[test]
fn a_mode_that_is_no_permission_is_invalid_and_says_how_to_write_one() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    for wrong in [660, 600, 755, 777, 0o1000, 0o100_644, u32::MAX] {
        let error = refused(&event_loop, at(&dir.path("s")).unix_mode(wrong));
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("octal"), "{error}");
        assert_eq!(fs::read_dir(dir.path("")).unwrap().count(), 0);
    }
}

#[test]
fn a_socket_file_has_its_owner_before_a_client_can_connect() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    for owner in [
        (Some(user), Some(group)),
        (Some(user), None),
        (None, Some(group)),
        (None, None),
    ] {
        let options = at(&path).unix_owner(owner.0, owner.1).unix_mode(0o700);
        let served = Served::echo(event_loop.handle(), options.start_serving(false));
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (user, group));
        served.server.start_serving().unwrap();
        assert_serves(&mut event_loop, &Address::Unix(path.clone()));
        served.server.close();
        assert!(!path.exists());
    }
}

#[test]
fn a_socket_file_that_is_to_stay_stays_and_is_replaced_by_the_next_server() {
    let dir = TempDir::new();
    let path = dir.path("s");
    for stays in [true, true, false] {
        for at_the_end_of_the_loop in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let options = at(&path).remove_socket_file(!stays);
            let served = Served::echo(event_loop.handle(), options);
            let address = Address::Unix(path.clone());
            assert_serves(&mut event_loop, &address);
            if at_the_end_of_the_loop {
                drop(event_loop);
            } else {
                served.server.close();
            }
            assert_eq!(path.exists(), stays);
            assert!(!dir.path("s.lock").exists(), "the path is free");
            assert_refused(&address);
        }
    }
}

#[test]
fn the_settings_of_socket_files_do_nothing_to_tcp_and_to_files_that_are_not_ours() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let listener = UnixListener::bind(&path).unwrap();
    let before = mode(&path);
    let options = ListenOptions::new(listener)
        .also("127.0.0.1:0")
        .unix_mode(0o100)
        .unix_owner(Some(12), Some(34))
        .remove_socket_file(true);
    let served = Served::echo(event_loop.handle(), options);
    for address in served.server.local_addrs().to_vec() {
        assert_serves(&mut event_loop, &address);
    }
    assert_eq!(mode(&path), before);
    served.server.close();
    assert!(path.exists());
}
