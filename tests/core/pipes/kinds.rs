//! The kinds of files that are ends, and those that are none.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::child::part;
use support::{Log, MIB, Recorder, TempDir, drive, pattern, settle, strict_loop};
use tidegate::{EventLoop, PipeEnd, Transport};

fn refusal_of(end: impl Into<PipeEnd>, reads: bool) -> io::Error {
    let event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    let handle = event_loop.handle();
    let connected = match reads {
        true => handle.connect_read_pipe(end, recorder),
        false => handle.connect_write_pipe(end, recorder),
    };
    let refused = connected.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    let stats = handle.stats();
    assert_eq!((stats.connections, log.words().len()), (0, 0));
    drop(event_loop);
    assert_eq!(log.dropped(), 1, "the protocol is dropped");
    refused
}

fn assert_advice(refused: &io::Error) {
    let text = refused.to_string();
    assert!(text.contains("in a job"), "{text}");
}

pub(super) fn fifo(dir: &TempDir) -> PathBuf {
    let path = dir.path("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

/// Opens both ends; each waits for the other.
pub(super) fn both_ends(path: &Path) -> (File, File) {
    let of_writer = path.to_owned();
    let opening = std::thread::spawn(move || OpenOptions::new().write(true).open(of_writer));
    let reader = File::open(path).unwrap();
    (reader, opening.join().unwrap().unwrap())
}

/// Connects both ends of one pipe to a loop. Returns the log of each, and the end that is written.
pub(super) fn connected(
    event_loop: &EventLoop,
    reader: impl Into<PipeEnd>,
    writer: impl Into<PipeEnd>,
) -> (Log, Log, Transport) {
    let handle = event_loop.handle();
    let (from, to) = (Log::new(), Log::new());
    handle
        .connect_read_pipe(reader, Recorder::new(&from))
        .unwrap();
    let writing = handle
        .connect_write_pipe(writer, Recorder::new(&to))
        .unwrap();
    (from, to, writing)
}

#[test]
fn a_regular_file_is_refused_with_advice() {
    let dir = TempDir::new();
    let path = dir.path("file");
    std::fs::write(&path, b"text").unwrap();
    assert_advice(&refusal_of(File::open(&path).unwrap(), true));
    assert_advice(&refusal_of(File::create(&path).unwrap(), false));
}

#[test]
fn a_folder_is_refused_with_advice() {
    assert_advice(&refusal_of(File::open("/").unwrap(), true));
}

#[test]
fn a_device_that_epoll_refuses_is_refused_with_advice() {
    assert_advice(&refusal_of(File::open("/dev/null").unwrap(), true));
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    assert_advice(&refusal_of(null, false));
}

#[test]
fn a_standard_stream_that_was_closed_is_refused_with_advice() {
    const DONE: i32 = 7;
    if part().is_some() {
        let input = io::stdin().as_fd().try_clone_to_owned().unwrap();
        assert_advice(&refusal_of(input, true));
        let output = io::stdout().as_fd().try_clone_to_owned().unwrap();
        assert_advice(&refusal_of(output, false));
        std::process::exit(DONE);
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" <&- >&-"]);
    shell.arg(std::env::current_exe().unwrap());
    shell.args(["--exact", "--nocapture", "--test-threads=1"]);
    shell.arg("pipes::kinds::a_standard_stream_that_was_closed_is_refused_with_advice");
    let status = shell.env("TIDEGATE_TEST_CHILD", "closed").status();
    assert_eq!(status.unwrap().code(), Some(DONE));
}

#[test]
fn the_wrong_end_of_a_pipe_is_refused() {
    let (reader, writer) = io::pipe().unwrap();
    let refused = refusal_of(writer, true).to_string();
    assert!(refused.contains("not open for reading"), "{refused}");
    let refused = refusal_of(reader, false).to_string();
    assert!(refused.contains("not open for writing"), "{refused}");
}

#[test]
fn a_socket_of_datagrams_is_refused() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    refusal_of(OwnedFd::from(socket), true);
}

#[test]
fn a_fifo_is_read_and_written() {
    let dir = TempDir::new();
    let (reader, writer) = both_ends(&fifo(&dir));
    let mut event_loop = strict_loop();
    let (from, to, writing) = connected(&event_loop, reader, writer);
    let sent = pattern(0, MIB);
    writing.write(&sent).unwrap();
    writing.close();
    drive(&mut event_loop, "both ends", || {
        from.is_lost() && to.is_lost()
    });
    assert!(from.data() == sent);
    assert_eq!(from.reason(), "peer-eof");
}

#[test]
fn a_fifo_whose_writer_has_left_before_is_read_to_its_end() {
    for text in ["", "all that was said"] {
        let dir = TempDir::new();
        let (reader, mut writer) = both_ends(&fifo(&dir));
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        let mut event_loop = strict_loop();
        let log = Log::new();
        let recorder = Recorder::new(&log);
        event_loop
            .handle()
            .connect_read_pipe(reader, recorder)
            .unwrap();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.data(), text.as_bytes());
    }
}

#[test]
fn a_fifo_without_a_writer_yet_waits_for_the_first() {
    let dir = TempDir::new();
    let path = fifo(&dir);
    let reader = OpenOptions::new()
        .read(true)
        // O_NONBLOCK
        .custom_flags(0o4000)
        .open(&path)
        .unwrap();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    event_loop
        .handle()
        .connect_read_pipe(reader, recorder)
        .unwrap();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    std::fs::write(&path, b"the first").unwrap();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.data(), b"the first");
}

#[test]
fn a_fifo_that_was_opened_for_both_never_ends() {
    let dir = TempDir::new();
    let path = fifo(&dir);
    let both = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    event_loop
        .handle()
        .connect_read_pipe(both, recorder)
        .unwrap();
    for text in ["one", " two"] {
        std::fs::write(&path, text).unwrap();
        settle(&mut event_loop);
    }
    assert_eq!(log.data(), b"one two");
    assert!(!log.is_lost());
}

#[test]
fn a_socket_is_read_and_written_one_way() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (tcp, _) = listener.accept().unwrap();
    let (one, other) = UnixStream::pair().unwrap();
    let pairs = [
        (OwnedFd::from(ours), OwnedFd::from(tcp)),
        (OwnedFd::from(one), OwnedFd::from(other)),
    ];
    for (reader, writer) in pairs {
        let mut event_loop = strict_loop();
        let (from, to, writing) = connected(&event_loop, reader, writer);
        let sent = pattern(0, MIB);
        writing.write(&sent).unwrap();
        writing.write_eof().unwrap();
        drive(&mut event_loop, "both ends", || {
            from.is_lost() && to.is_lost()
        });
        assert!(from.data() == sent);
        assert!(to.closed().is_clean() && from.closed().is_clean());
    }
}

#[test]
fn the_descriptor_of_a_pipe_can_be_seen() {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    let transport = event_loop
        .handle()
        .connect_read_pipe(reader, recorder)
        .unwrap();
    let mut copy = transport
        .with_fd(|fd| Ok(File::from(fd.try_clone_to_owned()?)))
        .unwrap();
    writer.write_all(b"!").unwrap();
    let mut got = [0];
    copy.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"!");
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
}
