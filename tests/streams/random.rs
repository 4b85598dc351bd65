//! Bytes sent in any pieces and read in any way: the read bytes are the sent ones, and
//! each read returns the result that follows from the whole stream.

use futures_io::{AsyncBufRead, AsyncRead};
use proptest::prelude::*;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use support::{BOUND, Kind, Peer, Polled, Streamed};
use tidegate::EventLoop;
use tidegate_streams::ReadError;

const SEPARATORS: [&[&[u8]]; 6] = [
    &[b"\n"],
    &[b"\r\n"],
    &[b"\r\n", b"\n"],
    &[b"ab", b"\r\n", b"bb"],
    &[b"ab", b"aab\n"],
    &[b"\n\r\r\na"],
];

#[derive(Debug, Clone)]
enum Step {
    Read(usize),
    PollRead(usize),
    Chunk(usize),
    Exact(usize),
    /// Up to one of these separators, within the limit of the reader or another one.
    Until(usize, Option<usize>),
    Line(Option<usize>),
    ToEnd(usize),
    /// This number of the lent bytes is used up.
    Fill(usize),
    SetLimit(usize),
    /// The peer goes ahead by this number of pieces.
    Send(usize),
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1..10_usize, 1..3000_usize, 1..200_000_usize]
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..20_usize, 3 => 1..3000_usize, 1 => Just(64 * 1024)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => size().prop_map(Step::Read),
        1 => size().prop_map(Step::PollRead),
        2 => size().prop_map(Step::Chunk),
        2 => size().prop_map(Step::Exact),
        6 => (0..SEPARATORS.len(), prop::option::of(limit()))
            .prop_map(|(which, limit)| Step::Until(which, limit)),
        4 => prop::option::of(limit()).prop_map(Step::Line),
        1 => size().prop_map(Step::ToEnd),
        3 => size().prop_map(Step::Fill),
        1 => limit().prop_map(Step::SetLimit),
        4 => (1..8_usize).prop_map(Step::Send),
    ]
}

/// Runs of few letters, so that separators are found, partly, and overlap.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let letter = prop::sample::select(b"ab\r\n".as_slice());
    let run = prop_oneof![8 => 1..3_usize, 1 => 1..100_usize, 1 => 1..30_000_usize];
    let text = prop::collection::vec((letter, run), 0..400);
    text.prop_map(|runs| {
        let runs = runs.into_iter();
        runs.flat_map(|(letter, len)| vec![letter; len]).collect()
    })
}

/// The peer's bytes, in pieces of these sizes, over and over.
struct Sender<'a> {
    data: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    sent: usize,
    ended: bool,
}

impl Sender<'_> {
    fn send(&mut self, peer: &mut Peer) {
        if self.ended {
            return;
        }
        let size = *self.sizes.next().unwrap();
        let end = self.data.len().min(self.sent + size);
        self.sent += peer.write(&self.data[self.sent..end]);
        if self.sent == self.data.len() {
            self.ended = true;
            peer.shutdown_write();
        }
    }
}

/// Polls a read when it was woken, while the peer sends; drops it when it waits more often than
/// `patience` says.
fn run<T>(
    event_loop: &mut EventLoop,
    mut send: impl FnMut(),
    patience: usize,
    read: impl Future<Output = T>,
) -> Option<T> {
    let mut read = Polled::new(read);
    let (mut polls, begun) = (0, Instant::now());
    loop {
        if read.is_woken() {
            if let Poll::Ready(value) = read.poll() {
                return Some(value);
            }
            polls += 1;
        }
        if polls > patience {
            return None;
        }
        send();
        event_loop.run_once(Some(Duration::from_millis(1))).unwrap();
        assert!(begun.elapsed() < BOUND, "a read was not woken");
    }
}

/// The result of a read up to a separator, for this rest of the stream: a number of bytes, or
/// the overrun with its `consumed` where it is certain.
#[derive(Debug)]
enum Expected {
    Piece(usize),
    Overrun,
    Incomplete,
}

fn expected(rest: &[u8], separators: &[&[u8]], limit: usize) -> Expected {
    let end = (0..=rest.len()).find_map(|end| {
        let ending = |one: &&&[u8]| rest[..end].ends_with(one);
        let shortest = separators.iter().filter(ending).map(|one| one.len()).min();
        shortest.map(|len| (end, end - len))
    });
    let longest = separators.iter().map(|one| one.len()).max().unwrap();
    match end {
        Some((end, start)) if start <= limit => Expected::Piece(end),
        Some(_) => Expected::Overrun,
        None if (rest.len() + 1).saturating_sub(longest) > limit => Expected::Overrun,
        None => Expected::Incomplete,
    }
}

/// Checks the result of a read up to a separator; returns the number of bytes that it took.
#[track_caller]
fn check_until(
    result: Result<bytes::Bytes, ReadError>,
    rest: &[u8],
    separators: &[&[u8]],
    limit: usize,
    is_line: bool,
) -> usize {
    match (result, expected(rest, separators, limit)) {
        (Ok(piece), Expected::Piece(len)) => {
            assert!(piece == rest[..len], "the piece");
            len
        }
        (Ok(last), Expected::Incomplete) if is_line => {
            assert!(last == rest, "the last line");
            rest.len()
        }
        (Err(ReadError::Incomplete(incomplete)), Expected::Incomplete) if !is_line => {
            assert!(incomplete.partial == rest && incomplete.expected.is_none());
            rest.len()
        }
        (Err(ReadError::LimitOverrun(overrun)), Expected::Overrun) => {
            assert!(overrun.consumed > limit, "{overrun:?}");
            let after = &rest[overrun.consumed..];
            let starts = separators.iter().any(|one| after.starts_with(one));
            assert!(starts || !overrun.found, "{overrun:?}");
            // Without these bytes no separator is missed.
            let consumed = &rest[..overrun.consumed];
            let has = |one: &&[u8]| consumed.windows(one.len()).any(|place| place == *one);
            assert!(!separators.iter().any(has), "{overrun:?}");
            0
        }
        (result, expected) => panic!("{result:?} instead of {expected:?}"),
    }
}

fn read_all(kind: Kind, data: &[u8], sizes: &[usize], steps: &[(Step, usize)]) {
    let Streamed {
        mut reader,
        writer: _writer,
        mut peer,
        mut event_loop,
    } = Streamed::new(kind);
    let mut sender = Sender {
        data,
        sizes: sizes.iter().cycle(),
        sent: 0,
        ended: false,
    };
    let mut at = 0;
    // The last one must be done.
    let last = (Step::ToEnd(usize::MAX), usize::MAX);
    for (step, patience) in steps.iter().chain([&last]) {
        let rest = &data[at..];
        let used = Cell::new(0);
        // Takes these bytes, which must be the next.
        let took = |bytes: &[u8]| {
            assert!(rest.starts_with(bytes), "{step:?} at {at}");
            used.set(bytes.len());
        };
        let limit = reader.limit();
        let send = || sender.send(&mut peer);
        match *step {
            Step::Read(len) => {
                let mut buffer = vec![0; len];
                let read = reader.read(&mut buffer);
                if let Some(len) = run(&mut event_loop, send, *patience, read) {
                    took(&buffer[..len.unwrap()]);
                    assert_eq!(used.get() == 0, rest.is_empty());
                }
            }
            Step::PollRead(len) => {
                let mut buffer = vec![0; len];
                let read = poll_fn(|context| {
                    AsyncRead::poll_read(Pin::new(&mut reader), context, &mut buffer)
                });
                if let Some(len) = run(&mut event_loop, send, *patience, read) {
                    took(&buffer[..len.unwrap()]);
                    assert_eq!(used.get() == 0, rest.is_empty());
                }
            }
            Step::Chunk(most) => {
                let read = reader.read_chunk(most);
                if let Some(chunk) = run(&mut event_loop, send, *patience, read) {
                    let chunk = chunk.unwrap();
                    assert!(chunk.len() <= most);
                    took(&chunk);
                    assert_eq!(used.get() == 0, rest.is_empty());
                }
            }
            Step::Exact(len) => {
                let mut buffer = vec![0; len];
                let read = reader.read_exact(&mut buffer);
                match run(&mut event_loop, send, *patience, read) {
                    None => {}
                    Some(Ok(())) => took(&buffer),
                    Some(Err(error)) => {
                        let incomplete = error.as_incomplete().unwrap();
                        assert!(incomplete.partial == rest && rest.len() < len);
                        assert_eq!(incomplete.expected, Some(len));
                        took(&incomplete.partial);
                    }
                }
            }
            Step::Until(which, own) => {
                let separators = SEPARATORS[which];
                let within = own.unwrap_or(limit);
                let result = match own {
                    Some(own) => {
                        let read = reader.with_limit(own).read_until(separators);
                        run(&mut event_loop, send, *patience, read)
                    }
                    None => run(
                        &mut event_loop,
                        send,
                        *patience,
                        reader.read_until(separators),
                    ),
                };
                if let Some(result) = result {
                    used.set(check_until(result, rest, separators, within, false));
                }
            }
            Step::Line(own) => {
                let result = match own {
                    Some(own) => {
                        let read = reader.with_limit(own).read_line();
                        run(&mut event_loop, send, *patience, read)
                    }
                    None => run(&mut event_loop, send, *patience, reader.read_line()),
                };
                if let Some(result) = result {
                    let within = own.unwrap_or(limit);
                    used.set(check_until(result, rest, &[b"\n"], within, true));
                }
            }
            Step::ToEnd(most) => {
                match run(&mut event_loop, send, *patience, reader.read_to_end(most)) {
                    None => {}
                    Some(Ok(all)) => {
                        assert!(all == rest && rest.len() <= most);
                        took(&all);
                    }
                    Some(Err(error)) => {
                        assert!(error.as_overrun().unwrap().consumed > most);
                        assert!(rest.len() > most);
                    }
                }
            }
            Step::Fill(len) => {
                let fill = poll_fn(|context| {
                    let filled = Pin::new(&mut reader).poll_fill_buf(context);
                    filled.map_ok(<[u8]>::to_vec)
                });
                if let Some(lent) = run(&mut event_loop, send, *patience, fill) {
                    let lent = lent.unwrap();
                    took(&lent);
                    assert_eq!(lent.is_empty(), rest.is_empty());
                    used.set(lent.len().min(len));
                    Pin::new(&mut reader).consume(len);
                }
            }
            Step::SetLimit(limit) => reader.set_limit(limit),
            Step::Send(pieces) => {
                for _ in 0..pieces {
                    sender.send(&mut peer);
                    event_loop.run_once(Some(Duration::ZERO)).unwrap();
                }
            }
        }
        at += used.get();
    }
    assert_eq!(at, data.len());
    assert!(reader.at_eof());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn what_is_read_in_whatever_way_is_what_was_sent_in_whatever_pieces(
        tcp in any::<bool>(),
        data in data(),
        sizes in prop::collection::vec(size(), 1..10),
        steps in prop::collection::vec((step(), prop_oneof![Just(usize::MAX), 0..3_usize]), 0..80),
    ) {
        read_all(if tcp { Kind::Tcp } else { Kind::Unix }, &data, &sizes, &steps);
    }
}
