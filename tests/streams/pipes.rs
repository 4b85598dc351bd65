//! Pipes as readers and writers.

use std::io::{self, ErrorKind, Read};
use support::{MIB, finish, pattern, settle, strict_loop};
use tidegate::Closed;
use tidegate_streams::{NoEventLoop, read_pipe, spawn, write_pipe};

#[test]
fn megabytes_go_through_a_pipe_with_the_bounds_of_both_halves() {
    let mut event_loop = strict_loop();
    let sent = pattern(0, 4 * MIB);
    let expected = sent.clone();
    let talk = async move {
        let (reader, writer) = io::pipe()?;
        let mut reader = read_pipe(reader)?;
        let writing = spawn(async move {
            let writer = write_pipe(writer)?;
            for chunk in sent.chunks(10_000) {
                writer.write(chunk).map_err(io::Error::from)?;
                writer.drain().await?;
                assert!(writer.transport().write_buffer_size() <= 64 * 1024);
            }
            writer.close().await
        });
        let mut got = Vec::new();
        while !reader.at_eof() {
            got.extend_from_slice(&reader.read_chunk(MIB).await?);
        }
        writing.await.unwrap()?;
        Ok::<_, tidegate::BoxError>(got)
    };
    let got = finish(&mut event_loop, "the talk", talk).unwrap();
    assert!(got == expected);
}

#[test]
fn dropping_the_reader_closes_the_pipe() {
    let mut event_loop = strict_loop();
    let handle = event_loop.handle().clone();
    let talk = async {
        let (reader, writer) = io::pipe()?;
        drop(read_pipe(reader)?);
        let writer = write_pipe(writer)?;
        writer.transport().wait_closed().await
    };
    let closed = finish(&mut event_loop, "the end of the writer", talk).unwrap();
    assert!(closed.is_reset(), "{closed}");
    settle(&mut event_loop);
    assert_eq!(handle.stats().connections, 0);
}

#[test]
fn dropping_the_writer_sends_the_rest_and_closes_the_pipe() {
    let mut event_loop = strict_loop();
    let (mut reader, writer) = io::pipe().unwrap();
    let talk = async {
        let writer = write_pipe(writer)?;
        writer.write(&pattern(0, MIB)).map_err(io::Error::from)?;
        drop(writer);
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        while !reading.is_finished() {
            tidegate_streams::yield_now().await;
        }
        reading.join().unwrap()
    };
    let got = finish(&mut event_loop, "the rest", talk).unwrap();
    assert!(got == pattern(0, MIB));
}

#[test]
fn a_reader_that_is_gone_fails_the_writers_waits() {
    let mut event_loop = strict_loop();
    let talk = async {
        let (reader, writer) = io::pipe()?;
        let writer = write_pipe(writer)?;
        drop(reader);
        writer.write_all(&pattern(0, MIB)).await
    };
    let failed = finish(&mut event_loop, "the error", talk).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::BrokenPipe);
    assert!(Closed::of(&failed).is_some_and(|closed| closed.unsent() > 0));
}

#[test]
fn without_a_loop_and_with_a_regular_file_it_fails() {
    let (reader, writer) = io::pipe().unwrap();
    for failed in [read_pipe(reader).err(), write_pipe(writer).err()] {
        let failed = failed.unwrap();
        assert!(
            failed
                .get_ref()
                .is_some_and(|inner| inner.is::<NoEventLoop>())
        );
    }
    let mut event_loop = strict_loop();
    let manifest = async { read_pipe(std::fs::File::open("Cargo.toml")?) };
    let refused = finish(&mut event_loop, "the error", manifest).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}
