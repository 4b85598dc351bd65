//! Checks one rule with random inputs: a stream has the same frames, and the same end, however it is
//! cut and wherever its reader stops, also when it is no stream of frames.

use super::feed::{End, Tested, run};
use crate::{Delimiter, Fixed, LengthPrefix, LineEnd, Lines, Netstring, Overlong, Prefix, Raw};
use arbitrary::{Arbitrary, Result, Unstructured};

#[derive(Debug)]
enum Kind {
    Lines(Lines),
    Delimiter(Delimiter),
    Fixed(Fixed),
    Length(LengthPrefix),
    Netstring(Netstring),
    RawLines(Lines),
    RawLength(LengthPrefix),
    #[cfg(feature = "tokio-util")]
    TokioLines,
    #[cfg(feature = "tokio-util")]
    TokioLength,
}

#[derive(Debug)]
struct Case {
    kind: Kind,
    pieces: Vec<usize>,
    stops: Vec<bool>,
    stream: Vec<u8>,
}

fn max(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=2)? {
        0 => usize::MAX,
        1 => u.int_in_range(0..=4)?,
        _ => usize::from(u8::arbitrary(u)?),
    })
}

fn lines(u: &mut Unstructured<'_>) -> Result<Lines> {
    let end = *u.choose(&[LineEnd::Either, LineEnd::Lf, LineEnd::CrLf])?;
    let overlong = *u.choose(&[Overlong::Error, Overlong::Skip])?;
    Ok(Lines::new()
        .end(end)
        .overlong(overlong)
        .max(max(u)?)
        .keep_end(bool::arbitrary(u)?))
}

fn length(u: &mut Unstructured<'_>) -> Result<LengthPrefix> {
    let width = u.int_in_range(1..=8)?;
    let prefix = *u.choose(&[Prefix::Big(width), Prefix::Little(width), Prefix::Varint])?;
    let mut codec = LengthPrefix::new(prefix)
        .offset(u.int_in_range(0..=3)?)
        .max(max(u)?);
    codec = codec.adjustment(match u.int_in_range(0..=3)? {
        0 => i64::arbitrary(u)?,
        1 => i64::from(i8::arbitrary(u)?),
        _ => 0,
    });
    if bool::arbitrary(u)? {
        codec = codec.includes_header();
    }
    if bool::arbitrary(u)? {
        codec = codec.strip(u.int_in_range(0..=6)?);
    }
    Ok(codec)
}

/// Few letters, so that ends are found, partly, and overlap.
fn letters(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .map(|byte| b"ab\r\n"[usize::from(byte % 4)])
        .collect()
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let kind = match u.int_in_range(0..=8)? {
            0 => Kind::Lines(lines(u)?),
            1 => {
                let len = u.int_in_range(1..=4)?;
                Kind::Delimiter(Delimiter::new(letters(u.bytes(len)?)).max(max(u)?))
            }
            2 => Kind::Fixed(Fixed::new(u.int_in_range(1..=20)?)),
            3 => Kind::Length(length(u)?),
            4 => Kind::Netstring(Netstring::new().max(max(u)?)),
            5 => Kind::RawLines(lines(u)?),
            #[cfg(feature = "tokio-util")]
            6 => Kind::TokioLines,
            #[cfg(feature = "tokio-util")]
            7 => Kind::TokioLength,
            _ => Kind::RawLength(length(u)?),
        };
        let mut pieces = Vec::new();
        for _ in 0..u.int_in_range(1..=4)? {
            pieces.push(u.int_in_range(1..=80)?);
        }
        let mut stops = Vec::new();
        for _ in 0..u.int_in_range(0..=4)? {
            stops.push(bool::arbitrary(u)?);
        }
        let few = bool::arbitrary(u)?;
        let stream = u.bytes(u.len())?;
        Ok(Self {
            kind,
            pieces,
            stops,
            stream: if few {
                letters(stream)
            } else {
                stream.to_vec()
            },
        })
    }
}

fn compare<C: Tested>(case: &Case, codec: impl Fn() -> C) -> C {
    let (expected, end, _) = run(codec(), &case.stream, &[], &[]);
    let (seen, ended, codec) = run(codec(), &case.stream, &case.pieces, &case.stops);
    assert_eq!((seen, ended), (expected, end));
    codec
}

fn check(case: &Case) {
    match &case.kind {
        Kind::Lines(codec) => {
            let skipped = compare(case, || codec.clone()).skipped();
            let (_, end, whole) = run(codec.clone(), &case.stream, &[], &[]);
            assert!(end == End::Eof || skipped == 0);
            assert_eq!(skipped, whole.skipped());
        }
        Kind::Delimiter(codec) => drop(compare(case, || codec.clone())),
        Kind::Fixed(codec) => drop(compare(case, || codec.clone())),
        Kind::Length(codec) => drop(compare(case, || codec.clone())),
        Kind::Netstring(codec) => drop(compare(case, || codec.clone())),
        Kind::RawLines(codec) => drop(compare(case, || Raw::new(codec.clone()))),
        Kind::RawLength(codec) => drop(compare(case, || Raw::new(codec.clone()))),
        #[cfg(feature = "tokio-util")]
        Kind::TokioLines => {
            use tokio_util::codec::LinesCodec;
            drop(compare(case, || crate::TokioCodec::new(LinesCodec::new())));
        }
        #[cfg(feature = "tokio-util")]
        Kind::TokioLength => {
            use tokio_util::codec::LengthDelimitedCodec;
            drop(compare(case, || {
                crate::TokioCodec::new(LengthDelimitedCodec::new())
            }));
        }
    }
}

#[test]
fn however_a_stream_is_cut_its_frames_and_its_end_are_the_same() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/cuts");
    tidegate_testkit::fuzz(
        corpus,
        |input| Case::arbitrary(&mut Unstructured::new(input)).ok(),
        check,
    );
}
