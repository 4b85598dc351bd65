//! A reader of frames at the end of its stream, and its errors.

use crate::{Noted, frame, lent};
use std::io;
use support::{Kind, Polled, Streamed, each_kind, give_up, now, wait};
use tidegate_framing::{
    Decode, Delimiter, Fixed, FrameError, LengthPrefix, Lines, Netstring, Prefix,
};
use tidegate_streams::{Feed, FramedError, FramedReader, StreamOptions, StreamReader};

fn fed<C: Decode>(codec: C) -> (FramedReader<C>, Feed) {
    let (reader, feed) = StreamReader::detached(StreamOptions::new());
    (FramedReader::new(reader, codec), feed)
}

/// Reads to the end of a stream that has ended. Returns the frames and the error.
fn read_all<C: Noted>(
    frames: &mut FramedReader<C>,
    lends: bool,
) -> (Vec<crate::Note>, Option<FramedError>) {
    let mut notes = Vec::new();
    loop {
        let read = match lends {
            true => now(lent(frames)),
            false => now(C::next(frames)),
        };
        match read {
            Ok(Some(note)) => notes.push(note),
            Ok(None) => return (notes, None),
            Err(error) => return (notes, Some(error)),
        }
    }
}

#[test]
fn a_last_line_without_an_end_is_a_frame_and_then_the_end_comes_each_time() {
    for lends in [false, true] {
        for (stream, lines) in [
            (&b"one\ntwo"[..], &[&b"one"[..], b"two"][..]),
            (b"one\n", &[b"one"]),
            (b"", &[]),
        ] {
            let (mut frames, feed) = fed(Lines::new());
            feed.data(stream);
            feed.eof();
            for lines in [lines, &[]] {
                let (read, error) = read_all(&mut frames, lends);
                let lines: Vec<_> = lines.iter().map(|line| frame(line)).collect();
                assert_eq!(read, lines);
                assert!(error.is_none());
                assert!(!now(frames.ready()).unwrap());
                assert_eq!(frames.next_ready().unwrap(), None);
            }
        }
    }
}

#[test]
fn an_error_of_the_codec_comes_once_behind_its_frames_and_its_bytes_stay() {
    for lends in [false, true] {
        let (mut frames, feed) = fed(Netstring::new());
        feed.data(b"1:a,1:b,x:c,1:d,");
        let (read, error) = read_all(&mut frames, lends);
        assert_eq!(read, [frame(b"a"), frame(b"b")]);
        let error = error.unwrap();
        let malformed = error.as_frame_error().unwrap();
        assert!(matches!(malformed, FrameError::Malformed { .. }));
        assert_eq!(error.to_string(), malformed.to_string());
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidData);
        // Nothing is decoded any more, whatever comes.
        feed.data(b"1:e,");
        assert_eq!(now(frames.next()).unwrap(), None);
        assert!(!now(frames.ready()).unwrap());
        assert_eq!(frames.next_ready().unwrap(), None);
        let mut reader = frames.into_reader();
        assert_eq!(now(reader.read_chunk(100)).unwrap(), "x:c,1:d,1:e,");
    }
}

#[test]
fn bytes_that_are_no_frame_at_the_end_are_a_truncated_one_and_stay() {
    for lends in [false, true] {
        let (mut frames, feed) = fed(Delimiter::new(b"--"));
        feed.data(b"a--b-");
        feed.eof();
        let (read, error) = read_all(&mut frames, lends);
        assert_eq!(read, [frame(b"a")]);
        let error = error.unwrap();
        let truncated = error.as_frame_error().unwrap();
        assert!(matches!(truncated, FrameError::Truncated { have: 2, .. }));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(frames.next_ready().unwrap(), None);
        assert!(!now(frames.ready()).unwrap());
        let mut reader = frames.into_reader();
        assert_eq!(now(reader.read_to_end(100)).unwrap(), "b-");
    }
}

#[test]
fn a_torn_frame_above_the_limit_is_refused_as_soon_as_its_length_is_known() {
    for lends in [false, true] {
        let codec = LengthPrefix::new(Prefix::Big(4)).max(usize::MAX);
        let (frames, feed) = fed(codec.clone());
        let mut frames = frames.limit(100);
        feed.data(b"\0\0\0\x60");
        feed.data(&[7; 0x60]);
        let (read, error) = {
            let first = Polled::new(lent(&mut frames)).value();
            (first.unwrap(), {
                feed.data(b"\0\0\0\x61");
                read_all(&mut frames, lends).1.unwrap()
            })
        };
        assert_eq!(read, Some(frame(&[7; 0x60])));
        let too_long = error.as_frame_error().unwrap();
        assert!(matches!(too_long, FrameError::TooLong { max: 100, .. }));
        // No frame has begun before its first byte.
        let (frames, feed) = fed(Fixed::new(101));
        let mut frames = frames.limit(100);
        feed.data(&[7; 101]);
        assert_eq!(now(lent(&mut frames)).unwrap(), Some(frame(&[7; 101])));
        give_up(lent(&mut frames));
        feed.data(b"x");
        let (read, error) = read_all(&mut frames, lends);
        assert!(read.is_empty() && error.unwrap().as_frame_error().is_some());
        // By default it is 16 MiB.
        for (head, is_refused) in [(0x00ff_fffc_u32, false), (0x00ff_fffd, true)] {
            let (mut frames, feed) = fed(codec.clone());
            feed.data(&head.to_be_bytes());
            let mut read = Polled::new(frames.next());
            assert_eq!(read.poll().is_ready(), is_refused, "{head}");
        }
    }
}

each_kind!(an_error_behind_the_data_of_the_stream_comes_after_its_frames_each_time);
fn an_error_behind_the_data_of_the_stream_comes_after_its_frames_each_time(kind: Kind) {
    for lends in [false, true] {
        let mut s = Streamed::new(kind);
        let transport = s.writer.transport().clone();
        s.feed(b"one\ntwo\nthr");
        let mut frames = FramedReader::new(s.reader, Lines::new());
        // A Unix socket is reset when it has not read something.
        s.writer.write(b"not read").unwrap();
        support::settle(&mut s.event_loop);
        s.peer.reset();
        support::drive(&mut s.event_loop, "the end", || {
            transport.closed().is_some()
        });
        support::settle(&mut s.event_loop);
        for lines in [&[frame(b"one"), frame(b"two")][..], &[]] {
            let (read, error) = read_all(&mut frames, lends);
            assert_eq!(read, lines);
            let error = error.unwrap();
            let closed = error.as_closed().unwrap();
            assert_eq!(closed.transport(), transport.id());
            assert!(!closed.is_clean());
            assert_eq!(
                io::Error::from(error).kind(),
                io::Error::from(transport.closed().unwrap()).kind()
            );
        }
        // The torn line is not lost.
        let mut reader = frames.into_reader();
        let rest = reader.read_chunk(100);
        assert_eq!(wait(&mut s.event_loop, "the rest", rest).unwrap(), "thr");
    }
}
