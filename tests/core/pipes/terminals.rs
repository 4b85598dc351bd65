//! Terminals: lines, the end of the stream, a hang-up, and the master that must not be opened anew.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr};
use socket2::SockRef;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use support::{Log, MIB, Recorder, Seen, drive, pattern, settle, strict_loop};
use tidegate::CloseReason;

/// A pseudoterminal that neither echoes nor changes what is written.
pub(super) fn terminal() -> (File, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        // O_NOCTTY
        .custom_flags(0o400)
        .open(OsStr::from_bytes(name.as_bytes()))
        .unwrap();
    let mut modes = tcgetattr(&slave).unwrap();
    modes.local_modes.remove(LocalModes::ECHO);
    modes.output_modes.remove(OutputModes::OPOST);
    tcsetattr(&slave, OptionalActions::Now, &modes).unwrap();
    (File::from(master), slave)
}

fn blocks(file: &File) -> bool {
    let fd = file.as_fd();
    !SockRef::from(&fd).nonblocking().unwrap()
}

#[test]
fn all_lines_of_a_terminal_come_though_a_read_brings_one() {
    let (mut master, slave) = terminal();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let copy = slave.try_clone().unwrap();
    let recorder = Recorder::new(&log);
    event_loop
        .handle()
        .connect_read_pipe(slave, recorder)
        .unwrap();
    master.write_all(b"one\ntwo\nthree\n").unwrap();
    drive(&mut event_loop, "three lines", || {
        log.data() == b"one\ntwo\nthree\n"
    });
    assert_eq!(
        log.seen()
            .iter()
            .filter(|seen| matches!(seen, Seen::Data(_)))
            .count(),
        3
    );
    assert!(blocks(&copy), "it was opened anew");
}

#[test]
fn the_end_of_file_key_ends_a_terminal() {
    let (mut master, slave) = terminal();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    event_loop
        .handle()
        .connect_read_pipe(slave, recorder)
        .unwrap();
    master.write_all(b"one\n\x04").unwrap();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.data(), b"one\n");
    assert_eq!(log.reason(), "peer-eof");
}

#[test]
fn a_hang_up_ends_the_reading_of_a_terminal() {
    let (master, slave) = terminal();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    event_loop
        .handle()
        .connect_read_pipe(slave, recorder)
        .unwrap();
    settle(&mut event_loop);
    drop(master);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "eof", "lost"]);
    assert_eq!(log.reason(), "peer-eof");
}

#[test]
fn an_error_of_input_and_output_is_the_end_of_a_master() {
    let (master, mut slave) = terminal();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    event_loop
        .handle()
        .connect_read_pipe(master, recorder)
        .unwrap();
    slave.write_all(b"the last words").unwrap();
    drop(slave);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.data(), b"the last words");
    assert_eq!(log.reason(), "peer-eof");
}

#[test]
fn a_hang_up_ends_the_writing_of_a_terminal_without_a_write() {
    let (master, slave) = terminal();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    event_loop
        .handle()
        .connect_write_pipe(slave, recorder)
        .unwrap();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    drop(master);
    drive(&mut event_loop, "lost", || log.is_lost());
    match log.closed().reason() {
        CloseReason::Io(error) => assert_eq!(error.raw_os_error(), Some(5), "EIO"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_terminal_that_is_slow_takes_everything() {
    let (mut master, slave) = terminal();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    let transport = event_loop
        .handle()
        .connect_write_pipe(slave, recorder)
        .unwrap();
    let sent: Vec<u8> = pattern(0, MIB / 4)
        .iter()
        .map(|byte| b'a' + byte % 26)
        .collect();
    transport.write(&sent).unwrap();
    settle(&mut event_loop);
    assert!(transport.write_buffer_size() > 0);
    let wanted = sent.len();
    let reading = std::thread::spawn(move || {
        let mut got = vec![0; wanted];
        master.read_exact(&mut got).map(|()| (got, master))
    });
    drive(&mut event_loop, "everything", || {
        transport.sent() == wanted as u64
    });
    assert!(reading.join().unwrap().unwrap().0 == sent);
}

#[test]
fn a_master_is_not_opened_anew_which_would_make_another_terminal() {
    let (master, mut slave) = terminal();
    let copy = master.try_clone().unwrap();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    let transport = event_loop
        .handle()
        .connect_read_pipe(master, recorder)
        .unwrap();
    slave.write_all(b"of this terminal").unwrap();
    drive(&mut event_loop, "data", || {
        log.data() == b"of this terminal"
    });
    assert!(!blocks(&copy));
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(blocks(&copy), "the flag is taken back");
    let refused = (&copy).read(&mut []).map_err(|error| error.kind());
    assert_ne!(refused, Err(ErrorKind::NotFound), "it is still open");
}
