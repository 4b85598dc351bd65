//! The write buffer beside a queue that keeps every write apart.

use super::{CHUNK_SIZE, Chunk, MAX_OFFER, MAX_SLICES, Offer, WriteBuffer};
use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::LazyLock;

const MOST_OPS: usize = 200;
/// A case with more bytes than this would only be slow.
const MOST_BYTES: usize = 2 * MAX_OFFER;

/// Writes are parts of it: no two of them are alike, nor two places of one.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let places = 0..MOST_BYTES;
    places.map(|at| (at * 31 + at / 251) as u8).collect()
});

#[derive(Debug)]
enum Op {
    Copy(usize),
    Share(usize),
    /// Offers a number of bytes in a number of slices, with more behind the queue if there is room, and
    /// forgets a number of 255ths of the offered part of the queue.
    Send {
        slices: Slices,
        most: usize,
        behind: usize,
        taken: u8,
    },
}

#[derive(Debug)]
enum Slices {
    One,
    Few,
    Most,
}

/// Mostly small: many operations show more than many bytes.
fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=255)? {
        0..=239 => usize::from(u8::arbitrary(u)?),
        240..=244 => usize::from(u16::arbitrary(u)?),
        245..=254 => CHUNK_SIZE - 8 + u.int_in_range(0..=16)?,
        _ => MAX_OFFER - 8 + u.int_in_range(0..=16)?,
    })
}

impl<'a> Arbitrary<'a> for Op {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=3)? {
            0 => Self::Copy(size(u)?),
            1 => Self::Share(size(u)?),
            _ => Self::Send {
                slices: match u.int_in_range(0..=2)? {
                    0 => Slices::One,
                    1 => Slices::Few,
                    _ => Slices::Most,
                },
                most: match u.int_in_range(0..=1)? {
                    0 => usize::MAX,
                    _ => size(u)?,
                },
                behind: usize::from(u8::arbitrary(u)?),
                taken: u8::arbitrary(u)?,
            },
        })
    }
}

fn ops(input: &[u8]) -> Option<Vec<Op>> {
    let mut u = Unstructured::new(input);
    let next = || (!u.is_empty()).then(|| Op::arbitrary(&mut u));
    std::iter::from_fn(next)
        .take(MOST_OPS)
        .collect::<Result<_>>()
        .ok()
}

struct Write {
    data: Vec<u8>,
    sent: usize,
    shared: bool,
}

#[derive(Default)]
struct Model {
    writes: VecDeque<Write>,
    len: usize,
    spent: Vec<Vec<u8>>,
}

impl Model {
    fn push(&mut self, data: &[u8], shared: bool) {
        if !data.is_empty() {
            self.len += data.len();
            self.writes.push_back(Write {
                data: data.to_vec(),
                sent: 0,
                shared,
            });
        }
    }

    /// Returns the first bytes, at least `most` if there are.
    fn bytes(&self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for write in &self.writes {
            if bytes.len() >= most {
                break;
            }
            bytes.extend_from_slice(&write.data[write.sent..]);
        }
        bytes
    }

    fn advance(&mut self, mut taken: usize) {
        self.len -= taken;
        while taken > 0 {
            let first = self.writes.front_mut().unwrap();
            let part = taken.min(first.data.len() - first.sent);
            first.sent += part;
            taken -= part;
            if first.sent == first.data.len()
                && let Some(write) = self.writes.pop_front()
                && write.shared
            {
                self.spent.push(write.data);
            }
        }
    }
}

struct Pair {
    buffer: WriteBuffer,
    model: Model,
    spent: Vec<Bytes>,
}

impl Pair {
    fn send<const N: usize>(&mut self, most: usize, behind: &[u8], taken: u8) {
        let mut offer = Offer::<'_, N>::new(most);
        self.buffer.fill(&mut offer);
        let of_queue = offer.bytes();
        offer.push(behind);
        let (slices, len) = (offer.slices(), offer.bytes());
        let room = most.min(MAX_OFFER);
        assert!(slices.len() <= N && len <= room, "{len} bytes in {room}");
        assert!(slices.iter().all(|slice| !slice.is_empty()));
        let all = [self.model.bytes(len), behind.to_vec()].concat();
        let offered: Vec<_> = slices.iter().map(|slice| &**slice).collect();
        assert!(offered.concat() == all[..len], "{of_queue} of the queue");
        // Less than there is only for want of room.
        let full = slices.len() == N || len == room;
        assert!(full || len == self.model.len + behind.len());
        let taken = of_queue * usize::from(taken) / 255;
        self.buffer.advance(taken, &mut self.spent);
        self.model.advance(taken);
        // Spent chunks come out whole.
        assert!(self.spent.drain(..).eq(self.model.spent.drain(..)));
    }

    fn agree(&self) {
        let (buffer, model) = (&self.buffer, &self.model);
        assert_eq!(buffer.len(), model.len);
        assert_eq!(buffer.is_empty(), model.len == 0);
        let chunks: Vec<_> = buffer.chunks.iter().collect();
        let shared = chunks
            .iter()
            .filter(|chunk| matches!(chunk, Chunk::Shared(_)));
        let expected = model.writes.iter().filter(|write| write.shared);
        assert_eq!(shared.count(), expected.count());
        // Copies join up.
        for two in chunks.windows(2) {
            if let [Chunk::Copied(one), Chunk::Copied(_)] = two {
                assert!(one.len() >= CHUNK_SIZE, "{} bytes by themselves", one.len());
            }
        }
        assert_eq!(buffer.chunks() == 0, model.len == 0);
    }
}

fn check(ops: &Vec<Op>) {
    let mut pair = Pair {
        buffer: WriteBuffer::default(),
        model: Model::default(),
        spent: Vec::new(),
    };
    let (mut written, mut number) = (0, 0_u8);
    for op in ops {
        number = number.wrapping_add(1);
        match op {
            Op::Copy(len) | Op::Share(len) => {
                written += len;
                if written > MOST_BYTES {
                    continue;
                }
                let begin = 37 * usize::from(number);
                let data = &PATTERN[begin..begin + len];
                let shared = matches!(op, Op::Share(_));
                pair.model.push(data, shared);
                if shared {
                    pair.buffer.push_shared(Bytes::copy_from_slice(data));
                } else {
                    pair.buffer.push_copy(data);
                }
            }
            Op::Send {
                slices,
                most,
                behind,
                taken,
            } => {
                let behind = vec![number; *behind];
                match slices {
                    Slices::One => pair.send::<1>(*most, &behind, *taken),
                    Slices::Few => pair.send::<3>(*most, &behind, *taken),
                    Slices::Most => pair.send::<MAX_SLICES>(*most, &behind, *taken),
                }
            }
        }
        pair.agree();
    }
    // The rest goes out too.
    while !pair.buffer.is_empty() {
        pair.send::<MAX_SLICES>(usize::MAX, &[], 255);
        pair.agree();
    }
}

#[test]
fn whatever_is_written_and_sent_the_buffer_agrees_with_a_queue_of_writes() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/write_buffer");
    tidegate_testkit::fuzz(corpus, ops, check);
}
