//! A reader of frames: what it takes, and what it lends.

use crate::{Note, frame, lent};
use std::convert::Infallible;
use std::task::Poll;
use support::{Kind, Polled, Streamed, drive, each_kind, give_up, now, settle, wait};
use tidegate_framing::{Decode, Fixed, LengthPrefix, Lines, Piece, Prefix, Raw, Step};
use tidegate_streams::{Feed, FramedReader, StreamOptions, StreamReader};

const STREAM: &[u8] = b"ab\ncde\r\n\nfgh\n";
const LINES: [&[u8]; 4] = [b"ab", b"cde", b"", b"fgh"];

fn fed<C: Decode>(codec: C) -> (FramedReader<C>, Feed) {
    let (reader, feed) = StreamReader::detached(StreamOptions::new());
    (FramedReader::new(reader, codec), feed)
}

/// Returns a read of either way.
fn read<C>(frames: &mut FramedReader<C>, lends: bool) -> Polled<'_, Vec<u8>>
where
    C: for<'a> Decode<Frame<'a> = &'a [u8]>,
{
    Polled::new(async move {
        if lends {
            while frames.ready().await.unwrap() {
                if let Some(line) = frames.next_ready().unwrap() {
                    return line.to_vec();
                }
            }
        }
        frames.next().await.unwrap().expect("a frame").to_vec()
    })
}

each_kind!(a_read_dropped_at_each_place_before_it_is_polled_while_it_waits_or_woken_takes_no_frame);
fn a_read_dropped_at_each_place_before_it_is_polled_while_it_waits_or_woken_takes_no_frame(
    kind: Kind,
) {
    for at in 0..=STREAM.len() {
        for (lends, polls_again) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut s = Streamed::new(kind);
            let mut frames = FramedReader::new(s.reader, Lines::new());
            let mut lines = Vec::new();
            s.peer.send(&STREAM[..at]);
            settle(&mut s.event_loop);
            loop {
                drop(read(&mut frames, lends));
                let mut waiting = read(&mut frames, lends);
                if let Poll::Ready(line) = waiting.poll() {
                    lines.push(line);
                    continue;
                }
                if at < STREAM.len() {
                    s.peer.send(&STREAM[at..]);
                    drive(&mut s.event_loop, "a wake", || waiting.is_woken());
                    if polls_again && let Poll::Ready(line) = waiting.poll() {
                        lines.push(line);
                    }
                }
                break;
            }
            while lines.len() < LINES.len() {
                let mut next = read(&mut frames, !lends);
                drive(&mut s.event_loop, "a line", || match next.poll() {
                    Poll::Ready(line) => {
                        lines.push(line);
                        true
                    }
                    Poll::Pending => false,
                });
            }
            assert_eq!(lines, LINES, "at {at}, lent: {lends}");
        }
    }
}

#[test]
fn a_reader_that_waits_is_ready_when_there_are_bytes_that_the_codec_has_not_seen() {
    let (mut frames, feed) = fed(Lines::new());
    give_up(frames.ready());
    feed.data(b"to");
    assert!(now(frames.ready()).unwrap());
    assert!(now(frames.ready()).unwrap(), "nothing was looked at");
    assert_eq!(frames.next_ready().unwrap(), None);
    give_up(frames.ready());
    assert_eq!(frames.next_ready().unwrap(), None);
    let mut ready = Polled::new(frames.ready());
    assert!(ready.poll().is_pending());
    feed.data(b"rn\n");
    assert!(ready.is_woken());
    assert!(ready.value().unwrap());
    drop(ready);
    assert_eq!(frames.next_ready().unwrap(), Some(&b"torn"[..]));
    assert_eq!(frames.next_ready().unwrap(), None);
    give_up(frames.ready());
    // Of a frame whose length is known all of it.
    let (mut frames, feed) = fed(LengthPrefix::new(Prefix::Big(1)));
    feed.data(b"\x05");
    assert!(now(frames.ready()).unwrap());
    assert_eq!(frames.next_ready().unwrap(), None);
    feed.data(b"fiv");
    give_up(frames.ready());
    feed.data(b"es");
    assert!(now(frames.ready()).unwrap());
    assert_eq!(frames.next_ready().unwrap(), Some(&b"fives"[..]));
}

#[test]
fn bytes_behind_a_torn_frame_that_is_lent_are_not_hidden() {
    let (mut frames, feed) = fed(Lines::new());
    feed.data(b"one\nto");
    assert!(now(frames.ready()).unwrap());
    assert_eq!(frames.next_ready().unwrap(), Some(&b"one"[..]));
    // They come while the first part is lent.
    feed.data(b"rn\nthree\n");
    assert_eq!(frames.next_ready().unwrap(), None);
    assert!(now(frames.ready()).unwrap());
    assert_eq!(frames.next_ready().unwrap(), Some(&b"torn"[..]));
    feed.data(b"four\n");
    assert!(now(frames.ready()).unwrap());
    assert_eq!(frames.next_ready().unwrap(), Some(&b"three"[..]));
    // All that was lent is used up: what came meanwhile is lent.
    assert_eq!(frames.next_ready().unwrap(), Some(&b"four"[..]));
    assert_eq!(frames.next_ready().unwrap(), None);
    give_up(frames.ready());
}

#[test]
fn bytes_that_the_reader_has_lent_before_come_first() {
    for lends in [false, true] {
        let (mut reader, feed) = StreamReader::detached(StreamOptions::new());
        feed.data(b"on");
        assert_eq!(now(reader.peek(1)).unwrap(), b"o");
        feed.data(b"e\ntwo\n");
        let mut frames = FramedReader::new(reader, Lines::new());
        for line in ["one", "two"] {
            assert_eq!(read(&mut frames, lends).value(), line.as_bytes());
        }
    }
}

#[test]
fn both_ways_to_read_take_turns() {
    let (mut frames, feed) = fed(Lines::new());
    feed.data(b"one\ntwo\nthree\nfo");
    assert!(now(frames.ready()).unwrap());
    assert_eq!(frames.next_ready().unwrap(), Some(&b"one"[..]));
    assert_eq!(now(frames.next()).unwrap().unwrap(), "two");
    assert_eq!(frames.next_ready().unwrap(), Some(&b"three"[..]));
    assert_eq!(frames.next_ready().unwrap(), None);
    give_up(frames.next());
    feed.data(b"ur\n");
    assert_eq!(now(frames.next()).unwrap().unwrap(), "four");
}

#[test]
fn a_change_of_the_codec_holds_from_the_next_frame_on() {
    let (mut frames, feed) = fed(Raw::new(Lines::new()));
    feed.data(b"head\nbo\ndy!tail\n");
    assert!(now(frames.ready()).unwrap());
    let head = frames.next_ready().unwrap();
    assert_eq!(head, Some(Piece::Frame(&b"head"[..])));
    frames.codec().expect(6);
    let bytes = &b"bo\ndy!"[..];
    let body = frames.next_ready().unwrap();
    assert_eq!(body, Some(Piece::Raw { bytes, left: 0 }));
    let tail = frames.next_ready().unwrap();
    assert_eq!(tail, Some(Piece::Frame(&b"tail"[..])));
    // Bytes that are returned alone, too.
    let (mut frames, feed) = fed(Lines::new());
    feed.data(b"one\ntwo\r\n");
    assert_eq!(now(frames.next()).unwrap().unwrap(), "one");
    *frames.codec() = Lines::new().keep_end(true);
    assert_eq!(now(frames.next()).unwrap().unwrap(), "two\r\n");
}

/// Frames with a length in front, and bytes between them, which are frames too.
struct Flat(Raw<LengthPrefix>);

impl Decode for Flat {
    type Frame<'a> = &'a [u8];
    type Error = tidegate::BoxError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> tidegate::Result<Step<&'a [u8]>> {
        Ok(match self.0.decode(input)? {
            Step::Frame(Piece::Frame(bytes) | Piece::Raw { bytes, .. }, len) => {
                Step::Frame(bytes, len)
            }
            Step::Skip(len) => Step::Skip(len),
            Step::Need(len) => Step::Need(len),
        })
    }

    fn is_changed(&self) -> bool {
        self.0.is_changed()
    }
}

each_kind!(a_codec_that_is_changed_within_a_frame_is_asked_as_soon_as_a_byte_has_come);
fn a_codec_that_is_changed_within_a_frame_is_asked_as_soon_as_a_byte_has_come(kind: Kind) {
    for lends in [false, true] {
        let mut s = Streamed::new(kind);
        let codec = Flat(Raw::new(LengthPrefix::new(Prefix::Big(2))));
        let mut frames = FramedReader::new(s.reader, codec);
        // 98 bytes are missing.
        s.peer.send(b"\0\x64ab");
        settle(&mut s.event_loop);
        assert!(read(&mut frames, lends).poll().is_pending());
        frames.codec().0.expect(4);
        let mut next = read(&mut frames, lends);
        assert!(next.poll().is_pending(), "no byte has come");
        s.peer.send(b"\0");
        drive(&mut s.event_loop, "a wake", || next.is_woken());
        assert_eq!(next.value(), b"\0\x64ab");
        drop(next);
        // Frames follow, and they wait for all of their bytes.
        assert!(read(&mut frames, lends).poll().is_pending());
        s.peer.send(b"\x64ab");
        settle(&mut s.event_loop);
        assert!(read(&mut frames, lends).poll().is_pending());
        s.peer.send(b"cd");
        settle(&mut s.event_loop);
        assert!(read(&mut frames, lends).poll().is_pending());
        // These two have come since the codec was asked.
        frames.codec().0.expect(6);
        assert_eq!(read(&mut frames, lends).value(), b"\0\x64abcd");
    }
}

#[test]
fn a_frame_of_no_bytes_comes_without_a_wait_for_those_behind_it() {
    for lends in [false, true] {
        let (mut frames, feed) = fed(Empty(true));
        feed.data(b"x");
        for bytes in [&b"x"[..], b""] {
            if lends {
                assert!(now(frames.ready()).unwrap());
                assert_eq!(frames.next_ready().unwrap(), Some(bytes));
            } else {
                assert_eq!(now(frames.next()).unwrap().unwrap(), bytes);
            }
        }
        give_up(frames.next());
    }
}

/// Behind each byte a frame of none.
struct Empty(bool);

impl Decode for Empty {
    type Frame<'a> = &'a [u8];
    type Error = Infallible;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>, Infallible> {
        let len = usize::from(self.0);
        if input.len() < len {
            return Ok(Step::Need(0));
        }
        self.0 = !self.0;
        Ok(Step::Frame(&input[..len], len))
    }
}

/// Numbers, each with a word of its own.
struct Words;

impl Decode for Words {
    type Frame<'a> = &'a [u8];
    type Error = Infallible;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>, Infallible> {
        Ok(match input {
            [b'1', ..] => Step::Frame(b"one", 1),
            // Of its own bytes the last.
            [b'2', _, _, ..] => Step::Frame(&input[2..3], 3),
            // Empty ones, anywhere.
            [b'3', ..] => Step::Frame(&[], 1),
            [b'4', ..] => Step::Frame(&input[1..1], 1),
            [b'5', ..] => Step::Skip(1),
            _ => Step::Need(0),
        })
    }
}

#[test]
fn a_frame_is_what_the_codec_says_wherever_its_bytes_are() {
    let expected: [&[u8]; 6] = [b"one", b"c", b"", b"", b"one", b"z"];
    for lends in [false, true] {
        let (mut frames, feed) = fed(Words);
        feed.data(b"12bc534512yz5");
        let mut read = Vec::new();
        while read.len() < expected.len() {
            if lends {
                assert!(now(frames.ready()).unwrap());
                read.push(frames.next_ready().unwrap().unwrap().to_vec());
            } else {
                read.push(now(frames.next()).unwrap().unwrap().to_vec());
            }
        }
        assert_eq!(read, expected, "lent: {lends}");
        // Skipped bytes are gone, too.
        give_up(frames.next());
        assert_eq!(frames.into_reader().buffered(), 0);
    }
}

#[test]
fn a_frame_that_is_returned_is_not_copied() {
    let (mut frames, feed) = fed(Lines::new());
    feed.data(b"one\ntwo\n");
    let one = now(frames.next()).unwrap().unwrap();
    let two = now(frames.next()).unwrap().unwrap();
    assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"two"[..]));
    assert_eq!(one.as_ptr().addr() + 4, two.as_ptr().addr());
}

each_kind!(a_frame_may_be_longer_than_the_readers_limit);
fn a_frame_may_be_longer_than_the_readers_limit(kind: Kind) {
    const LEN: usize = 1 << 20;
    for lends in [false, true] {
        let mut s = Streamed::new(kind);
        s.reader.set_limit(10);
        let mut frames = FramedReader::new(s.reader, Fixed::new(LEN));
        let mut sent = 0;
        let mut next = Polled::new(async {
            match lends {
                true => match lent(&mut frames).await {
                    Ok(Some(Note::Frame(bytes))) => bytes.len(),
                    other => panic!("{other:?}"),
                },
                false => frames.next().await.unwrap().unwrap().len(),
            }
        });
        let mut read = None;
        drive(&mut s.event_loop, "the frame", || {
            sent += s.peer.write(&vec![7; LEN - sent]);
            if let Poll::Ready(len) = next.poll() {
                read = Some(len);
            }
            read.is_some()
        });
        assert_eq!(read, Some(LEN));
    }
}

each_kind!(lent_frames_that_are_used_up_make_room_for_more);
fn lent_frames_that_are_used_up_make_room_for_more(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(4);
    let transport = s.writer.transport().clone();
    let mut frames = FramedReader::new(s.reader, Lines::new());
    s.peer.send(&b"line\n".repeat(4));
    drive(&mut s.event_loop, "a full reader", || {
        !transport.is_reading()
    });
    assert!(now(frames.ready()).unwrap());
    for _ in 0..4 {
        assert_eq!(frames.next_ready().unwrap(), Some(&b"line"[..]));
    }
    assert_eq!(frames.next_ready().unwrap(), None);
    assert!(transport.is_reading());
    s.peer.send(b"more\n");
    let more = wait(&mut s.event_loop, "one more", lent(&mut frames));
    assert_eq!(more.unwrap(), Some(frame(b"more")));
    // Also when nothing looks for more frames.
    s.peer.send(&b"line\n".repeat(4));
    drive(&mut s.event_loop, "a full reader", || {
        !transport.is_reading()
    });
    assert!(now(frames.ready()).unwrap());
    for _ in 0..4 {
        assert_eq!(frames.next_ready().unwrap(), Some(&b"line"[..]));
    }
    let _reader = frames.into_reader();
    assert!(transport.is_reading());
}
