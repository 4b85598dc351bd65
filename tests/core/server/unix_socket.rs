//! The file of a listening Unix socket, and what else differs from TCP.

use socket2::{Domain, SockAddr, Socket, Type};
use std::cell::Cell;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{Log, Peer, Recorder, Seen, Served, TempDir, drive, settle};
use tidegate::{Address, ConnectOptions, EventLoop, ListenOptions, Server};

fn at(path: &Path) -> Address {
    Address::Unix(path.to_path_buf())
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// The error of listening where that must fail.
fn refused(event_loop: &EventLoop, path: &Path) -> io::Error {
    let created = event_loop
        .handle()
        .create_server(at(path), || -> Recorder { panic!("no server") });
    let error = created.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    error
}

fn assert_echoes(event_loop: &mut EventLoop, path: &Path) {
    let mut peer = Peer::connect(&at(path));
    peer.send(b"ping");
    peer.expect(event_loop, 4);
}

#[test]
fn the_file_appears_with_the_server_and_goes_when_it_is_closed() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    for start in [true, false] {
        let options = ListenOptions::new(at(&path)).start_serving(start);
        let served = Served::echo(event_loop.handle(), options);
        assert!(is_socket(&path));
        if start {
            assert_echoes(&mut event_loop, &path);
        }
        served.server.close();
        assert!(!path.exists());
        served.server.close();
    }
}

#[test]
fn the_file_goes_with_the_loop() {
    let dir = TempDir::new();
    let path = dir.path("s");
    for start in [true, false] {
        let event_loop = EventLoop::new().unwrap();
        let options = ListenOptions::new(at(&path)).start_serving(start);
        let served = Served::echo(event_loop.handle(), options);
        assert!(is_socket(&path));
        drop(event_loop);
        assert!(!path.exists());
        assert!(!served.server.is_serving());
    }
}

#[test]
fn connections_outlive_the_file() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let served = Served::echo(event_loop.handle(), at(&path));
    let mut peer = Peer::connect(&at(&path));
    drive(&mut event_loop, "accepted", || served.accepted() == 1);
    served.server.close();
    peer.send(b"on");
    peer.expect(&mut event_loop, 2);
}

#[test]
fn a_stale_file_is_replaced() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    // A listener that died leaves its file behind.
    drop(UnixListener::bind(&path).unwrap());
    assert!(is_socket(&path));
    let served = Served::echo(event_loop.handle(), at(&path));
    assert_echoes(&mut event_loop, &path);
    served.server.close();
    assert!(!path.exists(), "the new one was ours");
}

#[test]
fn a_path_that_somebody_listens_on_is_in_use_and_says_so() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let served = Served::echo(event_loop.handle(), at(&path));
    let error = refused(&event_loop, &path);
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("listening"), "{error}");
    assert!(served.server.is_serving() && is_socket(&path));
    assert_echoes(&mut event_loop, &path);
}

#[test]
fn a_listener_whose_backlog_is_full_is_in_use_too() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let full = Full::new(&path);
    let error = refused(&event_loop, &path);
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(is_socket(&path));
    drop(full);
}

#[test]
fn what_is_no_socket_is_in_the_way_and_stays() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (file, folder, link) = (dir.path("file"), dir.path("folder"), dir.path("link"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&folder).unwrap();
    drop(UnixListener::bind(dir.path("stale")).unwrap());
    symlink(dir.path("stale"), &link).unwrap();
    for path in [&file, &folder, &link] {
        let error = refused(&event_loop, path);
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("no socket"), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(folder.is_dir());
    assert!(link.is_symlink() && is_socket(&dir.path("stale")));
    assert_eq!(event_loop.handle().stats().listeners, 0);
}

#[test]
fn a_folder_that_is_missing_is_an_error() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let error = refused(&event_loop, &dir.path("missing/s"));
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_path_that_is_too_long_is_invalid_for_both_ends() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    // sun_path holds 108 bytes on Linux (unix(7)).
    let path = dir.path("x".repeat(108));
    let error = refused(&event_loop, &path);
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let says = format!("{} bytes", path.as_os_str().len());
    assert!(error.to_string().contains(&says), "{error}");
    assert!(error.to_string().contains("at most 107"), "{error}");
    let log = Log::new();
    let connecting = event_loop
        .handle()
        .create_connection(at(&path), Recorder::new(&log));
    let error = event_loop.run_until(connecting).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains(&path.display().to_string()),
        "{error}"
    );
    assert!(error.to_string().contains("at most 107"), "{error}");
    settle(&mut event_loop);
    assert!(log.seen().is_empty());
    assert_eq!(log.dropped(), 1);
    // The longest that there is.
    let rest = 107 - dir.path("").as_os_str().len();
    let path = dir.path("x".repeat(rest));
    assert_eq!(path.as_os_str().len(), 107);
    let _served = Served::echo(event_loop.handle(), at(&path));
    assert_echoes(&mut event_loop, &path);
}

fn serve(event_loop: &EventLoop, path: &Path) -> Server {
    Served::echo(event_loop.handle(), at(path)).server
}

#[test]
fn a_file_that_was_replaced_is_not_removed() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let server = serve(&event_loop, &path);
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    server.close();
    assert!(is_socket(&path), "it belongs to somebody else now");
    UnixStream::connect(&path).unwrap();
    drop(other);
    fs::remove_file(&path).unwrap();

    let server = serve(&event_loop, &path);
    fs::rename(&path, dir.path("moved")).unwrap();
    fs::write(&path, "precious").unwrap();
    server.close();
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_file_that_is_gone_already_is_no_trouble() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let server = serve(&event_loop, &path);
    fs::remove_file(&path).unwrap();
    server.close();
    assert!(!server.is_serving());
    event_loop.run_until(server.wait_closed()).unwrap();
}

#[test]
fn a_change_of_the_files_permissions_does_not_make_it_foreign() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let server = serve(&event_loop, &path);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_echoes(&mut event_loop, &path);
    server.close();
    assert!(!path.exists());
}

#[test]
fn the_file_of_a_listener_of_std_stays() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("s");
    let listener = UnixListener::bind(&path).unwrap();
    let served = Served::echo(event_loop.handle(), listener);
    assert_echoes(&mut event_loop, &path);
    served.server.close();
    assert!(is_socket(&path));
}

/// A listener whose backlog is full.
struct Full {
    listener: Socket,
    waiting: Vec<Socket>,
}

impl Full {
    fn new(path: &Path) -> Self {
        let addr = SockAddr::unix(path).unwrap();
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&addr).unwrap();
        listener.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            match socket.connect(&addr) {
                Ok(()) => waiting.push(socket),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return Self { listener, waiting };
                }
            }
        }
    }

    fn accept(&self) -> Socket {
        self.listener.accept().unwrap().0
    }
}

#[test]
fn a_connect_to_a_full_backlog_gets_in_when_there_is_room() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let full = Full::new(&dir.path("s"));
    let log = Log::new();
    let options = ConnectOptions::new(at(&dir.path("s"))).timeout(Duration::from_secs(3600));
    let answered = Rc::new(Cell::new(false));
    let answer = answered.clone();
    event_loop
        .handle()
        .create_connection(options, Recorder::echo(&log))
        .then(move |_, result| {
            result.unwrap();
            answer.set(true);
        });
    let waited = Rc::new(Cell::new(false));
    let end = waited.clone();
    event_loop
        .handle()
        .call_later(Duration::from_millis(150), move |_| end.set(true));
    let before = event_loop.handle().stats();
    while !waited.get() {
        event_loop.run_once(None).unwrap();
    }
    let after = event_loop.handle().stats();
    assert!(log.seen().is_empty() && !answered.get());
    assert_eq!(after.connecting, 1);
    let ticks = after.polls - before.polls;
    assert!(ticks < 75, "it waits by a timer, not {ticks} ticks");
    // One leaves the backlog, and the connect takes its place.
    let _first = full.accept();
    drive(&mut event_loop, "connected", || answered.get());
    assert_eq!(log.words(), ["made"]);
    assert_eq!(event_loop.handle().stats().timers, 0);
    let mut peer = None;
    for _ in 0..full.waiting.len() {
        peer = Some(full.accept());
    }
    let mut peer = Peer::new(peer.unwrap());
    peer.send(b"hello");
    peer.expect(&mut event_loop, 5);
    assert!(log.has(&Seen::Data(b"hello".to_vec())));
}

#[test]
fn a_connect_to_a_full_backlog_ends_with_its_timeout() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let _full = Full::new(&dir.path("s"));
    let log = Log::new();
    let limit = Duration::from_millis(60);
    let options = ConnectOptions::new(at(&dir.path("s"))).timeout(limit);
    let begun = Instant::now();
    let connecting = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    let error = event_loop.run_until(connecting).unwrap_err();
    assert!(begun.elapsed() >= limit);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(
        error.to_string().contains(&at(&dir.path("s")).to_string()),
        "{error}"
    );
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connecting, stats.timers), (0, 0));
    assert!(log.seen().is_empty());
    assert_eq!(log.dropped(), 1);
}

#[test]
fn a_connect_to_a_full_backlog_can_be_cancelled_and_fails_with_the_listener() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let full = Full::new(&dir.path("s"));
    let (cancelled, waiting) = (Log::new(), Log::new());
    let connect = |log: &Log| {
        event_loop
            .handle()
            .create_connection(at(&dir.path("s")), Recorder::new(log))
    };
    let dropped = connect(&cancelled);
    let waits = connect(&waiting);
    assert_eq!(event_loop.handle().stats().timers, 2);
    drop(dropped);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connecting, stats.timers), (1, 1));
    drop(full);
    let error = event_loop.run_until(waits).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    settle(&mut event_loop);
    for log in [&cancelled, &waiting] {
        assert!(log.seen().is_empty());
        assert_eq!(log.dropped(), 1);
    }
}
