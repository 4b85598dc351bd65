//! Checks two rules with random inputs: the buffer holds what a queue of bytes holds, and a search
//! finds what looking at every end finds, however the bytes arrive.

use super::{ReadBuffer, Search};
use crate::Separators;
use crate::error::LimitOverrun;
use arbitrary::{Arbitrary, Result, Unstructured};

const MAX_OPS: usize = 100;

#[derive(Debug)]
enum Op {
    Push(Vec<u8>),
    Take(usize),
    Give(usize),
    /// Lends all bytes, pushes, uses up the given number of the lent bytes and puts the rest back.
    Lend(Vec<u8>, usize),
}

impl<'a> Arbitrary<'a> for Op {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let piece = |u: &mut Unstructured<'a>| {
            let len = u.int_in_range(0..=20)?;
            Ok(u.bytes(len.min(u.len()))?.to_vec())
        };
        Ok(match u.int_in_range(0..=3)? {
            0 => Self::Push(piece(u)?),
            1 => Self::Take(u.int_in_range(0..=30)?),
            2 => Self::Give(u.int_in_range(0..=30)?),
            _ => Self::Lend(piece(u)?, u.int_in_range(0..=30)?),
        })
    }
}

fn ops(input: &[u8]) -> Option<Vec<Op>> {
    let mut u = Unstructured::new(input);
    let next = || (!u.is_empty()).then(|| Op::arbitrary(&mut u));
    let ops = std::iter::from_fn(next).take(MAX_OPS);
    ops.collect::<Result<_>>().ok()
}

fn check_ops(ops: &Vec<Op>) {
    let (mut buffer, mut model) = (ReadBuffer::default(), Vec::new());
    let (mut taken, mut place) = (Vec::new(), None);
    for op in ops {
        match op {
            Op::Push(data) => {
                model.extend_from_slice(data);
                assert_eq!(buffer.push(data), model.len());
            }
            Op::Take(most) => {
                let expected: Vec<_> = model.drain(..model.len().min(*most)).collect();
                taken.push((buffer.take(*most), expected));
            }
            Op::Give(most) => {
                let expected: Vec<_> = model.drain(..model.len().min(*most)).collect();
                buffer.give(*most, |data| assert_eq!(data, expected));
            }
            Op::Lend(data, used) => {
                #[cfg(feature = "framing")]
                let len = match used % 2 {
                    0 => buffer.lend(&mut place),
                    _ => buffer.lend_briefly(&mut place),
                };
                #[cfg(not(feature = "framing"))]
                let len = buffer.lend(&mut place);
                assert_eq!(len, model.len());
                assert!(len == 0 || place.as_ref().is_some_and(|lent| **lent == model));
                buffer.push(data);
                let used = len.min(*used);
                buffer.put_back(&mut place, len - used);
                model.drain(..used);
                model.extend_from_slice(data);
            }
        }
        assert_eq!(buffer.bytes(), model);
        assert_eq!(buffer.len(), model.len());
    }
    // Taken bytes share memory with the buffer, and must not have changed since.
    for (taken, expected) in taken {
        assert_eq!(taken, expected);
    }
}

#[test]
fn whatever_is_pushed_taken_and_lent_the_buffer_holds_what_a_queue_of_bytes_would() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/read_buffer");
    tidegate_testkit::fuzz(corpus, ops, check_ops);
}

#[derive(Debug)]
struct Case {
    separators: Vec<Vec<u8>>,
    limit: usize,
    /// How many bytes arrive at a time, over and over; and whether a piece is then copied out.
    arrivals: Vec<(usize, bool)>,
    data: Vec<u8>,
}

/// Few letters, so that separators are found, partly, and overlap.
fn letters(bytes: &[u8]) -> Vec<u8> {
    let letter = |byte: &u8| b"ab\r\n"[usize::from(byte % 4)];
    bytes.iter().map(letter).collect()
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut separators = Vec::new();
        for _ in 0..u.int_in_range(1..=4)? {
            let len = u.int_in_range(1..=5)?;
            separators.push(letters(u.bytes(len)?));
        }
        let limit = match u.int_in_range(0..=1)? {
            0 => usize::MAX,
            _ => usize::from(u8::arbitrary(u)?),
        };
        let mut arrivals = Vec::new();
        for _ in 0..u.int_in_range(1..=4)? {
            arrivals.push((u.int_in_range(1..=40)?, bool::arbitrary(u)?));
        }
        Ok(Self {
            separators,
            limit,
            arrivals,
            data: letters(u.bytes(u.len())?),
        })
    }
}

/// The first place where a separator ends, and where the shortest that ends there begins.
fn first_end(data: &[u8], separators: &[&[u8]]) -> Option<(usize, usize)> {
    (1..=data.len()).find_map(|end| {
        let ending = separators.iter().filter(|one| data[..end].ends_with(one));
        ending
            .map(|one| one.len())
            .min()
            .map(|len| (end - len, end))
    })
}

fn naive(data: &[u8], separators: &[&[u8]], limit: usize) -> Search {
    let overrun = |consumed, found| Search::Overrun(LimitOverrun { consumed, found });
    let longest = separators.iter().map(|one| one.len()).max().unwrap_or(1);
    // Bytes that may be the begin of a separator are not counted.
    let searched = (data.len() + 1).saturating_sub(longest);
    match first_end(data, separators) {
        Some((start, _)) if start > limit => overrun(start, true),
        Some((_, end)) => Search::Found(end),
        None if searched > limit => overrun(searched, false),
        None => Search::Missing(searched),
    }
}

/// All pieces of what is there at once.
fn pieces(mut data: &[u8], separators: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while let Some((_, end)) = first_end(data, separators) {
        pieces.push(data[..end].to_vec());
        data = &data[end..];
    }
    pieces
}

/// Reads as a reader does, discards bytes beyond the limit, and returns the pieces.
fn read(case: &Case, separators: Separators<'_>, limit: usize) -> Vec<Vec<u8>> {
    let separators = separators.as_slices();
    let (mut buffer, mut held) = (ReadBuffer::default(), Vec::new());
    let (mut rest, mut from, mut read) = (case.data.as_slice(), 0, Vec::new());
    for &(len, copied) in case.arrivals.iter().cycle() {
        if rest.is_empty() {
            return read;
        }
        let (arrived, later) = rest.split_at(len.min(rest.len()));
        rest = later;
        held.extend_from_slice(arrived);
        assert_eq!(buffer.push(arrived), held.len());
        loop {
            let search = buffer.find(separators, from, limit);
            assert_eq!(search, naive(&held, separators, limit));
            let line = buffer.find_byte(b'\n', 0, limit);
            assert_eq!(line, naive(&held, &[b"\n"], limit));
            from = 0;
            let len = match search {
                Search::Found(end) => end,
                Search::Overrun(overrun) => overrun.consumed,
                Search::Missing(searched) => {
                    from = searched;
                    break;
                }
            };
            let mut piece = Vec::new();
            if copied {
                buffer.give(len, |data| piece.extend_from_slice(data));
            } else {
                piece.extend_from_slice(&buffer.take(len));
            }
            let expected: Vec<_> = held.drain(..len).collect();
            assert_eq!(piece, expected);
            assert_eq!(buffer.len(), held.len());
            if matches!(search, Search::Found(_)) {
                read.push(piece);
            }
        }
    }
    read
}

fn check(case: &Case) {
    let separators: Vec<_> = case.separators.iter().map(Vec::as_slice).collect();
    let given = || match separators[..] {
        [one] => Separators::from(one),
        _ => Separators::from(&separators[..]),
    };
    read(case, given(), case.limit);
    // Without a limit the pieces are those of one arrival, however many there were.
    let expected = pieces(&case.data, &separators);
    assert_eq!(read(case, given(), usize::MAX), expected);
}

#[test]
fn however_bytes_arrive_the_pieces_end_at_the_first_end_of_a_separator() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/read_until");
    tidegate_testkit::fuzz(
        corpus,
        |input| Case::arbitrary(&mut Unstructured::new(input)).ok(),
        check,
    );
}
