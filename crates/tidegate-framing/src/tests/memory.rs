//! The memory of torn frames.

use super::feed::{Feed, Packets, Seen};
use crate::torn::Torn;
use crate::{LengthPrefix, Lines, Overlong, Prefix};

const MIB: usize = 1024 * 1024;

fn announced(len: u32) -> Feed<LengthPrefix> {
    let mut feed = Feed::new(LengthPrefix::new(Prefix::Big(4)).max(usize::MAX), &[]);
    feed.assembly.set_limit(usize::MAX);
    feed.give(&len.to_be_bytes());
    feed
}

#[test]
fn memory_follows_the_bytes_that_came_and_never_an_announced_length() {
    let mut feed = announced(u32::MAX);
    let mut received = 4;
    while received < 3 * MIB {
        let capacity = feed.assembly.torn_capacity();
        assert!(
            capacity <= (2 * received).max(64),
            "{capacity} bytes for {received}"
        );
        feed.give(&[7; 1000]);
        received += 1000;
    }
}

#[test]
fn a_frame_that_comes_whole_is_lent_and_not_copied() {
    let mut feed = Feed::new(Lines::new(), &[]);
    feed.give(b"one\ntwo\n");
    assert_eq!((feed.assembly.torn_capacity(), Torn::pooled()), (0, (0, 0)));
}

#[test]
fn what_is_behind_a_torn_frame_is_lent_again() {
    let mut feed = Feed::new(Lines::new(), &[]);
    feed.give(b"on");
    let more = [&b"e\n"[..], &b"two\n".repeat(1000)].concat();
    feed.give(&more);
    assert_eq!(feed.taker.seen.len(), 1001);
    // The 2,000 bytes behind were not copied.
    let (buffers, bytes) = Torn::pooled();
    assert_eq!(buffers, 1);
    assert!(bytes < 200, "{bytes}");
}

#[test]
fn at_most_4096_frames_are_given_in_one_go() {
    let mut feed = Feed::new(Lines::new(), &[]);
    feed.give_once(&b"\n".repeat(5000));
    assert_eq!(feed.taker.seen.len(), 4096);
    assert_eq!(feed.source.given_back.borrow().len(), 5000 - 4096);
    // Also when the first one was torn.
    let mut feed = Feed::new(Lines::new(), &[]);
    feed.give_once(b"a");
    feed.give_once(&b"\n".repeat(5000));
    assert_eq!(feed.taker.seen.len(), 4096);
    assert_eq!(feed.source.given_back.borrow().len(), 5000 - 4096);
}

#[test]
fn a_torn_frame_of_unknown_length_is_copied_in_pieces_that_double() {
    let mut feed = Feed::new(Lines::new(), &[]);
    feed.give(b"a");
    let more = [&[b'a'; 999][..], b"\n", &[b'b'; 60_000]].concat();
    feed.give_once(&more);
    assert_eq!(feed.taker.seen, [Seen::Bytes(vec![b'a'; 1000])]);
    let (_, bytes) = Torn::pooled();
    assert!(bytes < 4096, "{bytes}");
}

#[test]
fn a_codec_that_looks_at_later_frames_keeps_none_of_the_earlier_ones() {
    for says_what_it_needs in [false, true] {
        for read in [1, 100, 188, 1000, 65_536] {
            let mut feed = Feed::new(Packets { says_what_it_needs }, &[]);
            feed.assembly.set_limit(400);
            let mut received = 0;
            while received < 200_000 {
                feed.give(&vec![7; read]);
                received += read;
                let capacity = feed.assembly.torn_capacity();
                assert!(capacity <= 2000, "{capacity} of {received} in {read}");
            }
            let packets = (received - Packets::LEN - 1) / Packets::LEN;
            assert_eq!(feed.taker.seen.len(), packets);
            feed.end();
            assert_eq!(feed.taker.seen.len(), received / Packets::LEN);
        }
    }
}

#[test]
fn a_complete_frame_gives_its_buffer_back_and_the_next_torn_one_takes_it() {
    let mut feeds: Vec<_> = (0..3).map(|_| Feed::new(Lines::new(), &[])).collect();
    for round in 0..4 {
        for feed in &mut feeds {
            feed.give(b"torn");
            assert!(feed.assembly.is_torn());
        }
        assert_eq!(Torn::pooled().0, 0);
        for feed in &mut feeds {
            feed.give(b"\n");
            assert!(!feed.assembly.is_torn());
            assert_eq!(feed.taker.seen.len(), round + 1);
        }
        assert_eq!(Torn::pooled().0, 3);
    }
}

#[test]
fn an_overlong_line_that_is_left_out_keeps_no_buffer() {
    let lines = Lines::new().max(10).overlong(Overlong::Skip);
    let mut feed = Feed::new(lines, &[]);
    feed.give(b"1234");
    assert_eq!(Torn::pooled().0, 0);
    for _ in 0..100 {
        feed.give(&[b'x'; 1000]);
        assert!(!feed.assembly.is_torn());
        assert_eq!(Torn::pooled().0, 1);
    }
    feed.give(b"\nline\n");
    assert_eq!(feed.taker.seen, [Seen::Bytes(b"line".to_vec())]);
}

#[test]
fn the_pool_has_at_most_32_buffers_and_none_above_16_kib() {
    let mut feeds: Vec<_> = (0..40).map(|_| Feed::new(Lines::new(), &[])).collect();
    feeds.iter_mut().for_each(|feed| feed.give(&[b'a'; 5000]));
    feeds.iter_mut().for_each(|feed| feed.give(b"\n"));
    let (buffers, bytes) = Torn::pooled();
    assert_eq!(buffers, 32);
    assert!(bytes <= 32 * 16 * 1024, "{bytes}");
    feeds.iter_mut().for_each(|feed| feed.give(&[b'a'; 17_000]));
    feeds.iter_mut().for_each(|feed| feed.give(b"\n"));
    assert_eq!(Torn::pooled(), (0, 0));
}

#[test]
fn a_torn_frame_above_the_limit_is_refused_also_when_it_is_only_announced() {
    let feed = announced(2000);
    assert!(feed.assembly.is_torn());
    let mut feed = Feed::new(LengthPrefix::new(Prefix::Big(4)), &[]);
    feed.assembly.set_limit(1000);
    feed.give(&997_u32.to_be_bytes());
    assert!(!feed.assembly.is_torn());
    let mut feed = Feed::new(LengthPrefix::new(Prefix::Big(4)), &[]);
    feed.assembly.set_limit(1000);
    feed.give(&996_u32.to_be_bytes());
    feed.give(&[0; 995]);
    assert!(feed.assembly.is_torn());
    feed.give(&[0; 1]);
    assert_eq!(feed.taker.seen.len(), 1);
    let mut feed = Feed::new(Lines::new(), &[]);
    feed.assembly.set_limit(10);
    feed.give(b"123456789");
    assert!(feed.assembly.is_torn());
    feed.give(b"0");
    assert!(!feed.assembly.is_torn());
}
