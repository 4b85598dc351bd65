//! The right to the path of a Unix socket: one server has it, and the others are told why not.
//! Races of several processes are in `process/unix_path_races.rs`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use support::{Log, Recorder, Served, TempDir, assert_refused, assert_serves};
use tidegate::{Address, EventLoop, ListenOptions};

fn at(path: &Path) -> Address {
    Address::Unix(path.to_path_buf())
}

fn lock_of(path: &Path) -> PathBuf {
    format!("{}.lock", path.display()).into()
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// The names in a folder, in order.
fn names(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path("")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The error of listening where that must fail.
#[track_caller]
fn refused(event_loop: &EventLoop, path: &Path) -> io::Error {
    let created = event_loop
        .handle()
        .create_server(at(path), || -> Recorder { panic!("no server") });
    let error = created.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    error
}

fn bound(event_loop: &EventLoop, path: &Path) -> Served {
    let options = ListenOptions::new(at(path)).start_serving(false);
    Served::echo(event_loop.handle(), options)
}

#[test]
fn a_server_that_does_not_listen_yet_keeps_its_path() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let first = bound(&event_loop, &path);
    let error = refused(&event_loop, &path);
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(
        text.contains("bound or listening") && text.contains("s.lock"),
        "{text}"
    );
    // Another loop, and another name for the same folder.
    let other = EventLoop::new().unwrap();
    symlink(dir.path(""), dir.path("here")).unwrap();
    let error = refused(&other, &dir.path("here/s"));
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    first.server.start_serving().unwrap();
    assert_serves(&mut event_loop, &at(&path));
    first.server.close();
    let mut other = other;
    let _second = bound(&other, &path).server.start_serving();
    assert_serves(&mut other, &at(&path));
}

#[test]
fn the_lock_file_is_there_as_long_as_the_server() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    for start in [true, false] {
        let options = ListenOptions::new(at(&path)).start_serving(start);
        let served = Served::echo(event_loop.handle(), options);
        assert_eq!(names(&dir), ["s", "s.lock"]);
        let mode = fs::metadata(lock_of(&path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "others may lock it: {mode:o}");
        served.server.close();
        assert_eq!(names(&dir), [""; 0]);
    }
    let listener = UnixListener::bind(&path).unwrap();
    let served = Served::echo(event_loop.handle(), listener);
    assert_serves(&mut event_loop, &at(&path));
    assert_eq!(names(&dir), ["s"], "none for a listener that was given");
    served.server.close();
    assert_eq!(names(&dir), ["s"]);
}

#[test]
fn a_server_that_fails_leaves_no_lock_behind() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let _foreign = UnixListener::bind(dir.path("foreign")).unwrap();
    fs::write(dir.path("file"), "precious").unwrap();
    for name in ["foreign", "file"] {
        let error = refused(&event_loop, &dir.path(name));
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
    assert_eq!(names(&dir), ["file", "foreign"]);
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ListenOptions::new(at(&dir.path("s"))).also(busy.local_addr().unwrap());
    let created = event_loop
        .handle()
        .create_server(options, || Recorder::new(&Log::new()));
    assert_eq!(created.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(names(&dir), ["file", "foreign"]);
}

#[test]
fn a_lock_file_that_nobody_holds_is_taken_over_and_one_that_is_held_keeps_the_path() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    // As a server that was killed leaves them behind.
    drop(UnixListener::bind(&path).unwrap());
    let lock = File::create(lock_of(&path)).unwrap();
    lock.lock().unwrap();
    let error = refused(&event_loop, &path);
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(is_socket(&path));
    lock.unlock().unwrap();
    let served = Served::echo(event_loop.handle(), at(&path));
    assert!(lock.try_lock().is_err(), "the very file is locked");
    assert_serves(&mut event_loop, &at(&path));
    served.server.close();
    assert_eq!(names(&dir), [""; 0]);
    lock.try_lock().unwrap();
}

#[test]
fn a_lock_file_that_was_replaced_is_not_removed() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let served = Served::echo(event_loop.handle(), at(&path));
    for name in ["s", "s.lock"] {
        fs::remove_file(dir.path(name)).unwrap();
    }
    // Without its files the first server has lost its path.
    let second = Served::echo(event_loop.handle(), at(&path));
    served.server.close();
    assert_eq!(names(&dir), ["s", "s.lock"]);
    let error = refused(&event_loop, &path);
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    second.server.close();
    assert_eq!(names(&dir), [""; 0]);
}

#[test]
fn a_lock_that_cannot_be_had_is_an_error_that_names_its_file() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let lock = lock_of(&path);
    fs::create_dir(&lock).unwrap();
    refused_for(&event_loop, &path, "s.lock");
    fs::remove_dir(&lock).unwrap();
    symlink(dir.path("elsewhere"), &lock).unwrap();
    refused_for(&event_loop, &path, "s.lock");
    assert!(!dir.path("elsewhere").exists(), "no link is followed");
    fs::write(dir.path("elsewhere"), "precious").unwrap();
    let error = refused_for(&event_loop, &path, "s.lock");
    assert_ne!(error.kind(), io::ErrorKind::AddrInUse, "nor locked");
    fs::remove_file(&lock).unwrap();
    let listener = UnixListener::bind(&lock).unwrap();
    refused_for(&event_loop, &path, "s.lock");
    assert!(is_socket(&lock), "it is not ours");
    drop(listener);
    let missing = dir.path("missing/s");
    let error = refused_for(&event_loop, &missing, "no such folder");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_refused(&at(&path));
}

#[track_caller]
fn refused_for(event_loop: &EventLoop, path: &Path, reason: &str) -> io::Error {
    let error = refused(event_loop, path);
    assert!(error.to_string().contains(reason), "{error}");
    assert!(!path.exists());
    error
}
