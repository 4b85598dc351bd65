//! Input that is no frame, and lengths that nobody has.

use crate::{Decode, FrameError, LengthPrefix, Netstring, Prefix, Step};
use std::io::ErrorKind;

#[track_caller]
fn malformed<C: Decode<Error = FrameError>>(codec: &mut C, input: &[u8]) {
    match codec.decode(input) {
        Err(FrameError::Malformed { .. }) => {}
        Err(other) => panic!("{input:?}: {other}"),
        Ok(_) => panic!("{input:?} is taken"),
    }
}

#[track_caller]
fn too_long<C: Decode<Error = FrameError>>(codec: &mut C, input: &[u8], expected: usize) {
    match codec.decode(input) {
        Err(FrameError::TooLong { max }) => assert_eq!(max, expected),
        Err(other) => panic!("{input:?}: {other}"),
        Ok(_) => panic!("{input:?} is taken"),
    }
}

#[test]
fn a_length_above_the_maximum_is_refused_when_it_is_there() {
    for number in [
        1025,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        (1 << 63) + 1,
        u64::MAX - 1,
        u64::MAX,
    ] {
        let (big, little) = (number.to_be_bytes(), number.to_le_bytes());
        for adjustment in [0, 1, i64::MAX] {
            let codec = |prefix| LengthPrefix::new(prefix).adjustment(adjustment).max(1024);
            too_long(&mut codec(Prefix::Big(8)), &big, 1024);
            too_long(&mut codec(Prefix::Little(8)), &little, 1024);
            too_long(
                &mut codec(Prefix::Big(8)).offset(1),
                &[&[0], &big[..]].concat(),
                1024,
            );
            too_long(
                &mut codec(Prefix::Big(8)).includes_header().max(1016),
                &big,
                1016,
            );
        }
    }
    too_long(&mut LengthPrefix::new(Prefix::Big(3)), &[16, 0, 1], 1 << 20);
    too_long(
        &mut LengthPrefix::new(Prefix::Varint),
        &[0x81, 0x80, 0x40],
        1 << 20,
    );
    too_long(&mut Netstring::new().max(99), b"100", 99);
    too_long(
        &mut Netstring::new(),
        b"99999999999999999999999999999",
        1 << 20,
    );
    too_long(
        &mut Netstring::new().max(usize::MAX),
        b"18446744073709551616",
        usize::MAX,
    );
}

#[test]
fn without_a_maximum_a_length_that_no_memory_has_is_waited_for_or_refused() {
    let unlimited = |prefix| LengthPrefix::new(prefix).max(usize::MAX);
    let mut codec = unlimited(Prefix::Big(8));
    assert_eq!(
        codec.decode(&[0x80, 0, 0, 0, 0, 0, 0, 0]),
        Ok(Step::Need(1 << 63))
    );
    too_long(&mut codec, &[0xff; 8], usize::MAX);
    too_long(
        &mut unlimited(Prefix::Big(8)).adjustment(i64::MAX),
        &[0xff; 8],
        usize::MAX,
    );
    assert_eq!(
        unlimited(Prefix::Big(8)).adjustment(-8).decode(&[0xff; 8]),
        Ok(Step::Need(usize::MAX - 8))
    );
    let varint = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    too_long(&mut unlimited(Prefix::Varint), &varint, usize::MAX);
    let netstring = Netstring::new()
        .max(usize::MAX)
        .decode(b"18446744073709551615:");
    assert_eq!(netstring, Ok(Step::Need(usize::MAX)));
}

#[test]
fn a_length_that_does_not_count_its_header_where_it_should_is_malformed() {
    malformed(
        &mut LengthPrefix::new(Prefix::Big(2)).includes_header(),
        &[0, 1],
    );
    malformed(
        &mut LengthPrefix::new(Prefix::Big(2))
            .includes_header()
            .offset(3),
        &[0, 0, 0, 0, 4],
    );
    malformed(&mut LengthPrefix::new(Prefix::Big(1)).adjustment(-3), &[2]);
    malformed(
        &mut LengthPrefix::new(Prefix::Big(8)).adjustment(i64::MIN),
        &[0x7f, 255, 255, 255, 255, 255, 255, 255],
    );
    malformed(
        &mut LengthPrefix::new(Prefix::Varint).includes_header(),
        &[0],
    );
    malformed(&mut LengthPrefix::new(Prefix::Big(1)).strip(4), &[2]);
}

#[test]
fn a_varint_of_more_than_64_bits_is_malformed() {
    let mut codec = LengthPrefix::new(Prefix::Varint);
    malformed(&mut codec, &[0x80; 10]);
    malformed(&mut codec, &[0xff; 100]);
    malformed(
        &mut codec,
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2],
    );
    assert_eq!(codec.decode(&[0x80; 9]), Ok(Step::Need(0)));
    // Zeros on the left are no error, as in protobuf.
    let padded = [0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 7];
    assert_eq!(codec.decode(&padded), Ok(Step::Frame(&[7][..], 11)));
}

#[test]
fn a_netstring_has_a_number_without_zeros_in_front_a_colon_and_a_comma() {
    for input in [
        &b":,"[..],
        b"a",
        b"00:,",
        b"01:a,",
        b" 1:a,",
        b"+1:a,",
        b"-1:a,",
        b"1a:",
        b"1;a,",
        b"1:a;",
        b"1:ab,",
        b"0:a",
    ] {
        malformed(&mut Netstring::new(), input);
    }
}

#[test]
fn a_payload_that_the_length_has_no_room_for_is_invalid_input() {
    let refused = |codec: LengthPrefix, payload: &[u8]| {
        let error = codec.parts(payload).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    };
    let big = |width| LengthPrefix::new(Prefix::Big(width));
    refused(big(1), &[0; 256]);
    refused(big(2), &[0; 65536]);
    refused(big(1).includes_header(), &[0; 255]);
    refused(big(1).adjustment(1), &[]);
    refused(big(1).adjustment(-200), &[0; 56]);
    refused(big(1).offset(2), &[0]);
    refused(LengthPrefix::new(Prefix::Little(1)), &[0; 256]);
    refused(big(8).adjustment(i64::MAX), &[]);
    assert_eq!(big(1).parts(&[0; 255]).unwrap().1.bytes(), [255]);
    assert_eq!(
        big(1).includes_header().parts(&[0; 254]).unwrap().1.bytes(),
        [255]
    );
}
