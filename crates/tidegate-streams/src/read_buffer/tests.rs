//! What a read buffer holds, gives back and finds, beside plain models of it.

use super::*;
use proptest::prelude::*;

fn holding(data: &[u8]) -> ReadBuffer {
    let mut buffer = ReadBuffer::default();
    buffer.push(data);
    buffer
}

fn overrun(consumed: usize, found: bool) -> Search {
    Search::Overrun(LimitOverrun { consumed, found })
}

/// Returns what `find` has to return, by looking everywhere.
fn naive(data: &[u8], separators: &[&[u8]], limit: usize) -> Search {
    let ends = (0..=data.len()).flat_map(|end| {
        let start = |one: &&[u8]| data[..end].ends_with(one).then(|| (end, end - one.len()));
        separators
            .iter()
            .filter_map(start)
            .max_by_key(|found| found.1)
    });
    let longest = separators.iter().map(|one| one.len()).max().unwrap();
    let searched = (data.len() + 1).saturating_sub(longest);
    match { ends }.next() {
        Some((_, start)) if start > limit => overrun(start, true),
        Some((end, _)) => Search::Found(end),
        None if searched > limit => overrun(searched, false),
        None => Search::Missing(searched),
    }
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
        let lent = buffer.lend();
        assert_eq!(lent.len(), len);
        drop(lent);
        buffer.used_up();
        assert!(buffer.held.is_none());
        // One that was large is no longer there for others.
        assert_eq!(spare.take(1).is_some(), len <= KEPT);
    }
    let mut buffer = holding(b"two");
    let lent = buffer.lend();
    buffer.push(b"more");
    drop(lent);
    buffer.used_up();
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
    // What was searched is not looked at again: here it would be found.
    assert_eq!(holding(b"ab++").find(&[b"ab"], 1, 9), Search::Missing(3));
}

#[test]
fn what_was_lent_and_put_back_is_not_copied_when_nothing_came_meanwhile() {
    let mut buffer = holding(&[7; 1000]);
    let place = buffer.bytes().as_ptr();
    for _ in 0..10 {
        let mut lent = buffer.lend();
        lent.advance(1);
        buffer.put_back(lent);
    }
    assert_eq!(buffer.len(), 990);
    assert_eq!(buffer.bytes().as_ptr(), place.wrapping_add(10));
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

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u8>),
    Take(usize),
    Give(usize),
    /// Lends all, pushes, uses up some of what was lent and puts it back.
    Lend(Vec<u8>, usize),
}

/// Of few letters, so that separators are found, partly, and overlap.
fn letters(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b"ab\r\n".as_slice()), 0..=len)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        letters(20).prop_map(Step::Push),
        (0..30_usize).prop_map(Step::Take),
        (0..30_usize).prop_map(Step::Give),
        (letters(20), 0..30_usize).prop_map(|(data, used)| Step::Lend(data, used)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn it_holds_what_a_queue_of_bytes_would(steps in prop::collection::vec(step(), 0..60)) {
        let (mut buffer, mut model) = (ReadBuffer::default(), Vec::new());
        let mut taken = Vec::new();
        for step in steps {
            match step {
                Step::Push(data) => {
                    buffer.push(&data);
                    model.extend(data);
                }
                Step::Take(most) => {
                    let expected: Vec<_> = model.drain(..most.min(model.len())).collect();
                    taken.push((buffer.take(most), expected));
                }
                Step::Give(most) => {
                    let expected: Vec<_> = model.drain(..most.min(model.len())).collect();
                    buffer.give(most, |data| assert_eq!(data, expected));
                }
                Step::Lend(data, used) => {
                    let mut lent = buffer.lend();
                    prop_assert_eq!(&lent[..], &model[..]);
                    buffer.push(&data);
                    let used = used.min(lent.len());
                    lent.advance(used);
                    buffer.put_back(lent);
                    model.drain(..used);
                    model.extend(data);
                }
            }
            prop_assert_eq!(buffer.bytes(), &model[..]);
            prop_assert_eq!(buffer.len(), model.len());
        }
        // What was taken shares memory with the buffer, and did not change since.
        for (taken, expected) in taken {
            prop_assert_eq!(&taken[..], &expected[..]);
        }
    }

    #[test]
    fn a_search_in_one_go_and_one_that_goes_on_find_what_looking_everywhere_finds(
        data in letters(60),
        separators in prop::collection::vec(letters(4), 1..4),
        cuts in prop::collection::vec(0..60_usize, 0..5),
        limit in 0..70_usize,
    ) {
        let separators: Vec<_> = separators.iter().filter(|one| !one.is_empty()).collect();
        prop_assume!(!separators.is_empty());
        let separators: Vec<_> = separators.iter().map(|one| one.as_slice()).collect();
        prop_assert_eq!(
            holding(&data).find_byte(b'\n', 0, limit),
            naive(&data, &[b"\n"], limit)
        );
        prop_assert_eq!(
            holding(&data).find(&separators, 0, limit),
            naive(&data, &separators, limit)
        );
        let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(data.len())).collect();
        cuts.push(data.len());
        cuts.sort_unstable();
        let (mut buffer, mut from) = (ReadBuffer::default(), 0);
        for cut in cuts {
            buffer.push(&data[buffer.len()..cut]);
            let found = buffer.find(&separators, from, limit);
            prop_assert_eq!(found, naive(&data[..cut], &separators, limit));
            match found {
                Search::Missing(searched) => from = searched,
                _ => break,
            }
        }
    }
}
