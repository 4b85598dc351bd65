//! Random streams of frames, of each codec.

use crate::{Note, Noted, Packets, frame};
use support::Rng;
use tidegate_framing::{
    Delimiter, Fixed, LengthPrefix, LineEnd, Lines, Netstring, Overlong, Prefix, Raw, TokioCodec,
};
use tokio_util::codec::LinesCodec;

/// The number of codecs.
pub(crate) const STREAMS: usize = 10;

/// A check of a stream, and of its frames.
pub(crate) trait Check {
    fn check<C: Noted>(&mut self, rng: &mut Rng, codec: C, stream: &[u8], expected: Vec<Note>);
}

/// Payloads of these bytes, mostly short ones.
fn payloads(rng: &mut Rng, letters: &[u8]) -> Vec<Vec<u8>> {
    let longest = [20.0, 300.0, 10_000.0][rng.below(3)];
    let most = 60_000.0 / longest;
    let payload = |rng: &mut Rng| {
        let len = rng.magnitude(longest) - 1;
        (0..len)
            .map(|_| letters[rng.below(letters.len())])
            .collect()
    };
    (0..rng.magnitude(most)).map(|_| payload(rng)).collect()
}

fn frames(payloads: &[Vec<u8>]) -> Vec<Note> {
    payloads.iter().map(|payload| frame(payload)).collect()
}

fn joined(payloads: &[Vec<u8>], mut encode: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
    payloads
        .iter()
        .flat_map(|payload| encode(payload))
        .collect()
}

/// Makes a stream of the codec of this number, and checks it.
pub(crate) fn check_stream(rng: &mut Rng, which: usize, check: &mut impl Check) {
    match which {
        0 => {
            let payloads = payloads(rng, b"ab\r ");
            let mut stream = joined(&payloads, |line| [line, &b"\r\n"[..]].concat());
            let mut expected = frames(&payloads);
            if rng.percent(50) {
                stream.extend_from_slice(b"without an end");
                expected.push(frame(b"without an end"));
            }
            check.check(rng, Lines::new(), &stream, expected);
        }
        1 => {
            let payloads = payloads(rng, b"ab\n");
            let stream = joined(&payloads, |line| [line, &b"\r\n"[..]].concat());
            let expected = frames(&payloads);
            check.check(rng, Lines::new().end(LineEnd::CrLf), &stream, expected);
        }
        2 => {
            let mut payloads = payloads(rng, b"abc");
            let stream = joined(&payloads, |line| [line, &b"\n"[..]].concat());
            payloads.retain(|line| line.len() <= 100);
            let codec = Lines::new().max(100).overlong(Overlong::Skip);
            check.check(rng, codec, &stream, frames(&payloads));
        }
        3 => {
            let payloads = payloads(rng, b"-ab");
            let stream = joined(&payloads, |frame| [frame, &b"-+"[..]].concat());
            check.check(rng, Delimiter::new(b"-+"), &stream, frames(&payloads));
        }
        4 => {
            let len = 1 + rng.below(9);
            let stream: Vec<_> = (0..len * rng.magnitude(10_000.0))
                .map(|at| at as u8)
                .collect();
            let expected = stream.chunks(len).map(frame).collect();
            check.check(rng, Fixed::new(len), &stream, expected);
        }
        5 => {
            let payloads = payloads(rng, &[0, 1, 2, 255]);
            let stream = joined(&payloads, |payload| {
                let head = (payload.len() as u32 + 5).to_le_bytes();
                [&b"k"[..], &head[..], payload].concat()
            });
            let codec = LengthPrefix::new(Prefix::Little(4))
                .offset(1)
                .includes_header();
            check.check(rng, codec, &stream, frames(&payloads));
        }
        6 => {
            let payloads = payloads(rng, b"0:,");
            let stream = joined(&payloads, |payload| {
                let head = format!("{}:", payload.len());
                [head.as_bytes(), payload, b","].concat()
            });
            check.check(rng, Netstring::new(), &stream, frames(&payloads));
        }
        7 => {
            let len = Packets::LEN * rng.magnitude(500.0);
            let stream: Vec<_> = (0..len).map(|at| at as u8).collect();
            let expected = stream.chunks(Packets::LEN).map(frame).collect();
            check.check(rng, Packets, &stream, expected);
        }
        8 => {
            let payloads = payloads(rng, b"abc");
            let stream = joined(&payloads, |line| [line, &b"\n"[..]].concat());
            let codec = TokioCodec::new(LinesCodec::new());
            check.check(rng, codec, &stream, frames(&payloads));
        }
        _ => {
            let payloads = payloads(rng, b"a\n ");
            let head = |body: &[u8]| format!("head {}", body.len());
            let stream = joined(&payloads, |body| {
                [head(body).as_bytes(), b"\n", body].concat()
            });
            let mut expected = Vec::new();
            for body in &payloads {
                expected.push(frame(head(body).as_bytes()));
                if !body.is_empty() {
                    expected.push(Note::Raw(body.clone(), true));
                }
            }
            check.check(rng, Raw::new(Lines::new()), &stream, expected);
        }
    }
}
