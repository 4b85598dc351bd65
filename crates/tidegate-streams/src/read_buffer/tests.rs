//! Compares the contents, the lending and the searches of a read buffer with plain models.

use super::*;

fn holding(data: &[u8]) -> ReadBuffer {
    let mut buffer = ReadBuffer::default();
    buffer.push(data);
    buffer
}

fn overrun(consumed: usize, found: bool) -> Search {
    Search::Overrun(LimitOverrun { consumed, found })
}

#[test]
fn a_separator_may_begin_at_the_limit_and_not_behind_it() {
    let buffer = holding(b"four\r\n");
    assert_eq!(buffer.find(&[b"\r\n"], 0, 4), Search::Found(6));
    assert_eq!(buffer.find(&[b"\r\n"], 0, 3), overrun(4, true));
    assert_eq!(buffer.find(&[b"\n"], 0, 4), overrun(5, true));
}

#[test]
fn what_may_be_the_begin_of_a_separator_does_not_count_against_the_limit() {
    assert_eq!(holding(b"four").find(&[b"\n"], 0, 4), Search::Missing(4));
    assert_eq!(holding(b"four+").find(&[b"\n"], 0, 4), overrun(5, false));
    let separators: &[&[u8]] = &[b"\n", b"---"];
    assert_eq!(
        holding(b"four--").find(separators, 0, 4),
        Search::Missing(4)
    );
    assert_eq!(holding(b"four---").find(separators, 0, 4), Search::Found(7));
}

#[test]
fn a_buffer_whose_lent_bytes_are_used_up_is_given_back() {
    for len in [10, KEPT + 1] {
        let spare = Rc::new(Spare::default());
        let mut buffer = ReadBuffer::default();
        buffer.keep_in(spare.clone());
        buffer.push(&vec![b'+'; len]);
        let mut place = None;
        assert_eq!(buffer.lend(&mut place), len);
        buffer.put_back(&mut place, 0);
        assert!(buffer.held.is_none());
        // One that was large is no longer there for others.
        assert_eq!(spare.take(1).is_some(), len <= KEPT);
    }
    let mut buffer = holding(b"two");
    let mut place = None;
    buffer.lend(&mut place);
    buffer.push(b"more");
    buffer.put_back(&mut place, 0);
    assert_eq!(buffer.len(), 4);
}

#[test]
fn of_separators_that_end_in_the_same_place_the_shortest_counts_in_whatever_order() {
    let buffer = holding(b"four\r\n");
    let (long, short): (&[u8], &[u8]) = (b"\r\n", b"\n");
    for separators in [[long, short], [short, long]] {
        assert_eq!(buffer.find(&separators, 0, 4), overrun(5, true));
        assert_eq!(buffer.find(&separators, 0, 5), Search::Found(6));
    }
}

#[test]
fn a_search_that_goes_on_looks_at_nothing_twice_but_the_begin_of_a_separator() {
    let mut buffer = ReadBuffer::default();
    let mut from = 0;
    for len in 1..1000 {
        buffer.push(b"+");
        let found = buffer.find(&[b"ab", b"c"], from, usize::MAX);
        assert_eq!(found, Search::Missing(len - 1), "after {from}");
        from = len - 1;
    }
    // Searched bytes are not looked at again: here the separator would be found.
    assert_eq!(holding(b"ab++").find(&[b"ab"], 1, 9), Search::Missing(3));
}

#[test]
fn what_was_lent_and_put_back_is_not_copied_when_nothing_came_meanwhile() {
    let mut buffer = holding(&[7; 1000]);
    let place = buffer.bytes().as_ptr();
    let mut lent = None;
    for _ in 0..10 {
        let len = buffer.lend(&mut lent);
        buffer.put_back(&mut lent, len - 1);
    }
    assert_eq!(buffer.len(), 990);
    assert_eq!(buffer.bytes().as_ptr(), place.wrapping_add(10));
}

#[test]
fn what_others_take_over_begins_with_what_was_lent_and_not_used() {
    for used in [0, 1, 3] {
        let (mut buffer, mut place) = (holding(b"one"), None);
        let len = buffer.lend(&mut place);
        buffer.push(b"two");
        assert_eq!(buffer.leave(len - used), &b"onetwo"[used..]);
        assert_eq!((buffer.len(), buffer.leave(0)), (0, Vec::new()));
        // A reader that has it still puts nothing back.
        buffer.put_back(&mut place, 0);
        assert_eq!(buffer.len(), 0);
    }
}

#[test]
fn a_buffer_that_was_large_and_is_empty_holds_no_memory() {
    for empty in [
        (|buffer| drop(buffer.take(usize::MAX))) as fn(&mut ReadBuffer),
        |buffer| buffer.give(usize::MAX, |_| {}),
    ] {
        let mut buffer = holding(&[7; KEPT + 1]);
        empty(&mut buffer);
        assert!(
            !buffer
                .held
                .is_some_and(|mut held| held.bytes.try_reclaim(1))
        );
        let mut buffer = holding(&[7; KEPT]);
        empty(&mut buffer);
        assert!(
            buffer
                .held
                .is_some_and(|mut held| held.bytes.try_reclaim(1))
        );
    }
}
