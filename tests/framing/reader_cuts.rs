//! A reader of frames has the frames of a protocol: however the stream is cut, in both of its ways, and
//! wherever a read is dropped.

use crate::streams::{Check, STREAMS, check_stream};
use crate::{Note, Noted, Notes, Reader, connection, lent};
use std::task::Poll;
use std::time::Instant;
use support::{BOUND, Kind, Polled, Rng, Streamed, drive, each_kind, tick};
use tidegate_framing::{
    Delimiter, Fixed, Framed, LengthPrefix, LineEnd, Lines, Netstring, Overlong, Prefix, Raw,
    TokioCodec,
};
use tidegate_streams::{FramedError, FramedReader, StreamOptions, StreamReader, start_server_on};
use tidegate_testkit::{Fault, Faults, Link, World};
use tokio_util::codec::LinesCodec;

const CASES: usize = 300;

/// Notes a frame, or the end.
fn note(notes: &Notes, read: Result<Option<Note>, FramedError>) {
    notes.add(match read {
        Ok(Some(note)) => note,
        Ok(None) => Note::Eof,
        Err(error) => Note::Failed(error.to_string()),
    });
}

#[track_caller]
fn assert_same(notes: &Notes, expected: &[Note], told: &str) {
    let notes = notes.all();
    let first = notes
        .iter()
        .zip(expected)
        .position(|(one, other)| one != other);
    assert!(notes == expected, "{told}: other frames from {first:?} on");
}

/// Reads of all kinds on a connection, which are often dropped.
struct OnConnection(Kind);

impl Check for OnConnection {
    fn check<C: Noted>(&mut self, rng: &mut Rng, codec: C, stream: &[u8], mut expected: Vec<Note>) {
        let Streamed {
            reader,
            writer: _writer,
            mut peer,
            mut event_loop,
        } = Streamed::new(self.0);
        let notes = Notes::default();
        let mut frames = FramedReader::new(reader, codec);
        let most = [3.0, 100.0, 3_000.0, 100_000.0][rng.below(4)];
        let drops = [0, 30][rng.below(2)];
        let (mut rest, mut is_shut) = (stream, false);
        let start = Instant::now();
        while !notes.has(&Note::Eof) {
            assert!(start.elapsed() < BOUND, "{} frames", notes.len());
            assert_eq!(notes.failed(), [""; 0]);
            if rest.is_empty() && !is_shut && rng.percent(50) {
                peer.shutdown_write();
                is_shut = true;
            }
            let len = rest.len().min(rng.magnitude(most));
            if len > 0 {
                rest = &rest[peer.write(&rest[..len])..];
            }
            for _ in 0..rng.below(3) {
                tick(&mut event_loop);
            }
            if rng.percent(5) {
                let codec = frames.codec().clone();
                let mut reader = frames.into_reader();
                reader.set_limit(rng.magnitude(100_000.0));
                frames = FramedReader::new(reader, codec);
            }
            let reads = rng.magnitude(50.0);
            for _ in 0..reads {
                let mut read = match rng.percent(50) {
                    true => Polled::new(C::next(&mut frames)),
                    false => Polled::new(lent(&mut frames)),
                };
                if rng.percent(drops) {
                    continue;
                }
                match read.poll() {
                    Poll::Ready(read @ Ok(Some(_))) => note(&notes, read),
                    Poll::Ready(end) => {
                        note(&notes, end);
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        expected.push(Note::Eof);
        assert_same(&notes, &expected, "on a connection");
    }
}

each_kind!(a_reader_has_the_same_frames_wherever_it_is_cut_and_a_read_is_dropped);
fn a_reader_has_the_same_frames_wherever_it_is_cut_and_a_read_is_dropped(kind: Kind) {
    let mut rng = Rng::from_environment();
    for case in 0..CASES {
        check_stream(&mut rng, case % STREAMS, &mut OnConnection(kind));
    }
}

/// A handler in a simulated world.
struct InWorld(u64);

impl Check for InWorld {
    fn check<C: Noted>(&mut self, rng: &mut Rng, codec: C, stream: &[u8], mut expected: Vec<Note>) {
        let faults = Faults::none()
            .with(Fault::ShortRead, 0.3)
            .with(Fault::ReadAgain, 0.1)
            .with(Fault::Stall, 0.02);
        let link = Link::new().receive_buffer(rng.magnitude(100_000.0));
        let builder = World::builder().seed(self.0).faults(faults).link(link);
        let mut world = builder.build();
        let host = world.add_host("a").unwrap();
        let notes = Notes::default();
        let (noted, limit, lends) = (notes.clone(), rng.magnitude(100_000.0), rng.percent(50));
        let serve = async move |mut reader: StreamReader, _writer| {
            reader.set_limit(limit);
            let mut frames = FramedReader::new(reader, codec.clone());
            while !noted.has(&Note::Eof) {
                note(
                    &noted,
                    match lends {
                        true => lent(&mut frames).await,
                        false => C::next(&mut frames).await,
                    },
                );
            }
            Ok(())
        };
        start_server_on(host.handle(), host.addr(7), serve).unwrap();
        let peer = world.network().dial(host.addr(7)).unwrap();
        let mut rest = stream;
        while !rest.is_empty() {
            let len = rest.len().min(rng.magnitude(10_000.0));
            // Refused while there is no room.
            rest = &rest[peer.send(&rest[..len]).unwrap_or(0)..];
            world.settle().unwrap();
        }
        peer.send_eof().unwrap();
        world.settle().unwrap();
        expected.push(Note::Eof);
        assert_same(&notes, &expected, &format!("in world {}", self.0));
    }
}

#[test]
fn a_reader_has_the_same_frames_in_every_simulated_world() {
    let mut rng = Rng::from_environment();
    for seed in 0..200 {
        check_stream(&mut rng, seed % STREAMS, &mut InWorld(seed as u64));
    }
}

/// Returns what a protocol is told of this stream, up to its end.
fn of_protocol<C: Noted>(codec: C, stream: &[u8]) -> Vec<Note> {
    let notes = Notes::default();
    let reader = Reader::new(codec, &notes);
    let (mut event_loop, _transport, mut peer) = connection(Kind::Unix, Framed::new(reader));
    peer.send(stream);
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || notes.has(&Note::Lost));
    let mut all = notes.all();
    all.pop();
    all
}

/// Returns what a reader reads of this stream in these pieces, up to its end.
fn of_reader<C: Noted>(codec: C, pieces: &[&[u8]], lends: bool) -> Vec<Note> {
    let (reader, feed) = StreamReader::detached(StreamOptions::new());
    let mut frames = FramedReader::new(reader, codec);
    let notes = Notes::default();
    let mut pieces = pieces.iter();
    let mut feed = Some(feed);
    loop {
        let read = match lends {
            true => Polled::new(lent(&mut frames)).poll(),
            false => Polled::new(C::next(&mut frames)).poll(),
        };
        match read {
            Poll::Ready(Ok(Some(frame))) => notes.add(frame),
            Poll::Ready(end) => {
                note(&notes, end);
                return notes.all();
            }
            Poll::Pending => match (pieces.next(), &feed) {
                (Some(piece), Some(feed)) => feed.data(piece),
                // The end of the stream.
                _ => assert!(feed.take().is_some(), "it waits at the end"),
            },
        }
    }
}

/// Each stream at each cut, in single bytes, and cut at two places.
#[track_caller]
fn check_cuts<C: Noted>(codec: C, streams: &[&[u8]]) {
    for stream in streams {
        let expected = of_protocol(codec.clone(), stream);
        let single: Vec<_> = stream.chunks(1).collect();
        let mut cases = vec![single];
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                cases.push(pieces.into_iter().filter(|one| !one.is_empty()).collect());
            }
        }
        for pieces in cases {
            for lends in [false, true] {
                let read = of_reader(codec.clone(), &pieces, lends);
                assert_eq!(read, expected, "{pieces:?}, lent: {lends}");
            }
        }
    }
}

#[test]
fn a_reader_has_the_frames_and_the_error_of_a_protocol_at_every_cut() {
    let lines = Lines::new().max(3);
    let streams: [&[u8]; 5] = [b"one\r\n\ntwo", b"abc\nabcd\nx", b"ab\r", b"\n", b""];
    check_cuts(lines.clone(), &streams);
    check_cuts(
        lines.clone().end(LineEnd::CrLf),
        &[b"a\nb\r\nabc\r\n\r", b"abcd\n\r\n"],
    );
    check_cuts(
        lines.overlong(Overlong::Skip),
        &[b"abcd\nabc\nabcdefghi\r\n\nx", b"abcdef"],
    );
    check_cuts(Lines::new().keep_end(true), &[b"one\r\ntwo\nthree"]);
    let delimiter = Delimiter::new(b"--").max(3);
    check_cuts(delimiter, &[b"a----b---", b"ab--abcd--", b"abcd", b""]);
    check_cuts(Fixed::new(3), &[b"abcdef", b"abcd", b"ab"]);
    let lengths = LengthPrefix::new(Prefix::Big(2)).max(5);
    check_cuts(
        lengths,
        &[
            b"\0\x02hi\0\0\0\x01!",
            b"\0\x02hi\0\x06",
            b"\0\x03hi",
            b"\0",
        ],
    );
    let included = LengthPrefix::new(Prefix::Varint).includes_header();
    check_cuts(included, &[b"\x03hi\x01\0", b"\x03h"]);
    let netstrings = Netstring::new().max(12);
    check_cuts(
        netstrings,
        &[b"5:hello,0:,", b"3:abcd", b"x:", b"13:", b"2:a"],
    );
    check_cuts(
        Raw::new(Lines::new()),
        &[b"a 3\nx\nyb 0\nc 1\nz", b"a 3\nx\n", b"a 2\n"],
    );
    check_cuts(TokioCodec::new(LinesCodec::new()), &[b"one\n\r\ntwo", b""]);
}

#[test]
fn a_reader_that_goes_on_from_frames_to_bytes_has_every_byte_once() {
    let stream = b"one\ntwo\nthr";
    for cut in 0..=stream.len() {
        for lends in [false, true] {
            let (reader, feed) = StreamReader::detached(StreamOptions::new());
            let mut frames = FramedReader::new(reader, Lines::new());
            feed.data(&stream[..cut]);
            let mut taken = Vec::new();
            loop {
                let read = match lends {
                    true => Polled::new(lent(&mut frames)).poll(),
                    false => Polled::new(Lines::next(&mut frames)).poll(),
                };
                let Poll::Ready(Ok(Some(Note::Frame(line)))) = read else {
                    break;
                };
                taken.extend_from_slice(&[&line[..], b"\n"].concat());
            }
            feed.data(&stream[cut..]);
            drop(feed);
            let rest = support::now(frames.into_reader().read_to_end(100)).unwrap();
            taken.extend_from_slice(&rest);
            assert_eq!(taken, stream, "cut at {cut}, lent: {lends}");
        }
    }
}
