//! Files that others have open too: neither their flags change, nor do they bring events after the end.

use super::kinds::{both_ends, connected, fifo};
use super::terminals::terminal;
use socket2::SockRef;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use support::child::part;
use support::{Log, Recorder, TempDir, descriptors, drive, settle, strict_loop};
use tidegate::{Protocol, Result, Transport};

fn blocks(fd: &impl AsFd) -> bool {
    let fd = fd.as_fd();
    !SockRef::from(&fd).nonblocking().unwrap()
}

#[test]
fn a_pipe_and_a_fifo_are_opened_anew_so_that_their_flags_stay() {
    let dir = TempDir::new();
    let (reader, writer) = io::pipe().unwrap();
    let (from_fifo, to_fifo) = both_ends(&fifo(&dir));
    let ends: [(OwnedFd, OwnedFd); 2] = [
        (reader.into(), writer.into()),
        (from_fifo.into(), to_fifo.into()),
    ];
    for (reader, writer) in ends {
        let copies = [reader.try_clone().unwrap(), writer.try_clone().unwrap()];
        let mut event_loop = strict_loop();
        let (from, to, writing) = connected(&event_loop, reader, writer);
        writing.write(b"there").unwrap();
        drive(&mut event_loop, "data", || from.data() == b"there");
        assert!(copies.iter().all(blocks), "while it is used");
        writing.close();
        drive(&mut event_loop, "lost", || to.is_lost());
        assert!(copies.iter().all(blocks), "and after it");
        // The copies are ends too: of these the reader goes on.
        let [_, to] = copies;
        File::from(to).write_all(b" and back").unwrap();
        drive(&mut event_loop, "data", || from.data() == b"there and back");
    }
}

#[test]
fn the_flag_of_a_socket_is_taken_back_at_the_end() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let copy = ours.try_clone().unwrap();
    let mut event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    let transport = event_loop
        .handle()
        .connect_read_pipe(ours, recorder)
        .unwrap();
    theirs.write_all(b"hello").unwrap();
    drive(&mut event_loop, "data", || log.data() == b"hello");
    assert!(!blocks(&copy));
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(blocks(&copy));

    // It was set before, and not by us.
    copy.set_nonblocking(true).unwrap();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    let end = copy.try_clone().unwrap();
    event_loop
        .handle()
        .connect_read_pipe(end, recorder)
        .unwrap()
        .close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(!blocks(&copy));
}

#[test]
fn the_flag_of_a_file_with_two_ends_is_taken_back_with_the_last_of_them() {
    for reader_ends_first in [true, false] {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (master, _slave) = terminal();
        let (one, _other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let files: [(OwnedFd, bool); 3] = [
            (ours.into(), true),
            (master.into(), true),
            (one.into(), false),
        ];
        for (file, blocked) in files {
            let mut event_loop = strict_loop();
            let (from, to) = (Log::new(), Log::new());
            let handle = event_loop.handle().clone();
            let reading = handle
                .connect_read_pipe(file.try_clone().unwrap(), Recorder::new(&from))
                .unwrap();
            let writing = handle
                .connect_write_pipe(file.try_clone().unwrap(), Recorder::new(&to))
                .unwrap();
            assert!(!blocks(&file));
            let ((first, first_log), (second, second_log)) = match reader_ends_first {
                true => ((reading, from), (writing, to)),
                false => ((writing, to), (reading, from)),
            };
            first.close();
            drive(&mut event_loop, "the first end", || first_log.is_lost());
            assert!(!blocks(&file), "the loop would wait in the other end");
            second.close();
            drive(&mut event_loop, "the second end", || second_log.is_lost());
            assert_eq!(blocks(&file), blocked);
        }
    }
}

#[test]
fn a_pipe_that_others_have_open_brings_no_event_after_its_end() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let dir = TempDir::new();
    let (from_fifo, mut to_fifo) = both_ends(&fifo(&dir));
    let mut to_pipe = writer.try_clone().unwrap();
    let copies: [OwnedFd; 3] = [
        ours.try_clone().unwrap().into(),
        reader.try_clone().unwrap().into(),
        from_fifo.try_clone().unwrap().into(),
    ];
    let ends: [OwnedFd; 3] = [ours.into(), reader.into(), from_fifo.into()];
    let mut event_loop = strict_loop();
    for end in ends {
        let log = Log::new();
        let recorder = Recorder::new(&log);
        let transport = event_loop
            .handle()
            .connect_read_pipe(end, recorder)
            .unwrap();
        settle(&mut event_loop);
        transport.close();
        drive(&mut event_loop, "lost", || log.is_lost());
    }
    for _ in 0..3 {
        for writer in [&mut theirs as &mut dyn Write, &mut to_pipe, &mut to_fifo] {
            writer.write_all(b"to the copy").unwrap();
        }
        settle(&mut event_loop);
    }
    assert_eq!(event_loop.handle().stats().stale_events, 0);
    drop(copies);
}

/// Sends its input on, and says a line by the usual way.
struct Pass {
    to: Transport,
}

impl Protocol for Pass {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
        self.to.write(data)?;
        Ok(())
    }

    fn connection_lost(&mut self, _: &Transport, _: &tidegate::Closed) {
        println!("said by println");
        self.to.close();
    }
}

#[test]
fn the_standard_streams_stay_as_they_are_for_those_who_share_them() {
    if part().is_some() {
        let mut event_loop = strict_loop();
        let handle = event_loop.handle().clone();
        let out = io::stdout().as_fd().try_clone_to_owned().unwrap();
        let to = handle
            .connect_write_pipe(out, Recorder::new(&Log::new()))
            .unwrap();
        let input = io::stdin().as_fd().try_clone_to_owned().unwrap();
        handle
            .connect_read_pipe(input, Pass { to: to.clone() })
            .unwrap();
        event_loop.run_until(to.wait_closed()).unwrap();
        return;
    }
    let (stdin, mut to_child) = io::pipe().unwrap();
    let (mut from_child, stdout) = io::pipe().unwrap();
    let copies: [OwnedFd; 2] = [
        stdin.try_clone().unwrap().into(),
        stdout.try_clone().unwrap().into(),
    ];
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg("pipes::shared::the_standard_streams_stay_as_they_are_for_those_who_share_them")
        .env("TIDEGATE_TEST_CHILD", "pass")
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    to_child.write_all(b"through the child\n").unwrap();
    let mut output = Vec::new();
    while !output.ends_with(b"through the child\n") {
        let mut some = [0; 1024];
        let len = from_child.read(&mut some).unwrap();
        output.extend_from_slice(&some[..len]);
    }
    assert!(copies.iter().all(blocks), "while the child uses them");
    drop((to_child, copies));
    from_child.read_to_end(&mut output).unwrap();
    assert!(child.wait().unwrap().success());
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("said by println\n"), "{output}");
}

#[test]
fn an_end_is_closed_with_its_connection_and_when_it_is_refused() {
    if part().is_none() {
        // In a process of its own: other tests open descriptors meanwhile.
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--test-threads=1"])
            .arg("pipes::shared::an_end_is_closed_with_its_connection_and_when_it_is_refused")
            .env("TIDEGATE_TEST_CHILD", "count")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let dir = TempDir::new();
    let path = fifo(&dir);
    let mut event_loop = strict_loop();
    settle(&mut event_loop);
    let before = descriptors();
    for _ in 0..3 {
        let (from_fifo, to_fifo) = both_ends(&path);
        let (reader, writer) = io::pipe().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ends: [(OwnedFd, OwnedFd); 3] = [
            (from_fifo.into(), to_fifo.into()),
            (reader.into(), writer.into()),
            (ours.into(), theirs.into()),
        ];
        for (reader, writer) in ends {
            let (from, to) = (Log::new(), Log::new());
            let handle = event_loop.handle().clone();
            handle
                .connect_read_pipe(reader, Recorder::new(&from))
                .unwrap();
            handle
                .connect_write_pipe(writer, Recorder::new(&to))
                .unwrap()
                .close();
            drive(&mut event_loop, "both", || from.is_lost() && to.is_lost());
        }
        let null = File::open("/dev/null").unwrap();
        let refused = event_loop
            .handle()
            .connect_read_pipe(null, Recorder::new(&Log::new()));
        refused.unwrap_err();
    }
    assert_eq!(descriptors(), before);
}
