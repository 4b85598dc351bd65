//! Headers of both versions, their cuts, and what is none.

use super::*;
use proptest::prelude::*;

fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [PREFIX_2, &[command, family], &len, block].concat()
}

fn inet_block() -> Vec<u8> {
    [&[192, 0, 2, 1, 192, 0, 2, 2][..], &[0xDC, 0x04, 0x01, 0xBB]].concat()
}

fn unix_block(client: &[u8], destination: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 216];
    block[..client.len()].copy_from_slice(client);
    block[108..108 + destination.len()].copy_from_slice(destination);
    block
}

/// Headers, with the client that they tell of.
fn headers() -> Vec<(Vec<u8>, u8, Option<&'static str>)> {
    let inet6 = [
        &Ipv6Addr::LOCALHOST.octets()[..],
        &Ipv6Addr::UNSPECIFIED.octets(),
        &[0, 1, 0, 2],
    ];
    let tlv = [&inet_block()[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
    let long = [inet_block(), vec![7; MAX_2 - FIXED_2 - 12]].concat();
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                   ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_1 - 16));
    vec![
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n".to_vec(),
            1,
            Some("192.0.2.1:56324"),
        ),
        (
            b"PROXY TCP6 ::1 :: 0 65535\r\n".to_vec(),
            1,
            Some("[::1]:0"),
        ),
        (
            longest.as_bytes().to_vec(),
            1,
            Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), 1, None),
        (unknown.into_bytes(), 1, None),
        (
            version_2(0x21, 0x11, &inet_block()),
            2,
            Some("192.0.2.1:56324"),
        ),
        (version_2(0x21, 0x11, &tlv), 2, Some("192.0.2.1:56324")),
        (version_2(0x21, 0x11, &long), 2, Some("192.0.2.1:56324")),
        (version_2(0x21, 0x21, &inet6.concat()), 2, Some("[::1]:1")),
        (
            version_2(0x21, 0x31, &unix_block(b"/run/a", b"/run/b")),
            2,
            Some("unix:/run/a"),
        ),
        (
            version_2(0x21, 0x31, &unix_block(&[b'/'; 108], b"")),
            2,
            Some(
                "unix:////////////////////////////////////////////////////////////////////////////////////////////////////////////",
            ),
        ),
        (
            version_2(0x21, 0x31, &unix_block(b"", b"/run/b")),
            2,
            Some("unnamed"),
        ),
        (version_2(0x21, 0x00, b""), 2, None),
        (version_2(0x21, 0x00, b"ignored"), 2, None),
        (version_2(0x20, 0x00, b""), 2, None),
        (version_2(0x20, 0x11, &inet_block()), 2, None),
        (version_2(0x20, 0x42, b"to be ignored"), 2, None),
    ]
}

#[test]
fn a_header_is_read_at_its_last_byte_and_not_before() {
    for (bytes, version, client) in headers() {
        let text = bytes.escape_ascii().to_string();
        for cut in 0..bytes.len() {
            assert_eq!(ProxyHeader::parse(&bytes[..cut]), Ok(None), "{cut}: {text}");
        }
        for behind in [&b""[..], b"more", b"\r\nPROXY "] {
            let stream = [&bytes, behind].concat();
            let (header, len) = ProxyHeader::parse(&stream).unwrap().unwrap();
            assert_eq!(len, bytes.len(), "{text}");
            assert_eq!(header.version(), version);
            let told = header.client().map(Address::to_string);
            assert_eq!(told.as_deref(), client, "{text}");
            assert_eq!(header.destination().is_some(), client.is_some());
        }
    }
}

#[test]
fn the_destination_is_the_second_address() {
    let headers = [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n".to_vec(),
        version_2(0x21, 0x11, &inet_block()),
    ];
    for bytes in headers {
        let (header, _) = ProxyHeader::parse(&bytes).unwrap().unwrap();
        assert_eq!(header.destination().unwrap().to_string(), "192.0.2.2:443");
    }
}

/// As soon as bytes cannot become a header any more, they are refused: at which byte.
#[test]
fn anything_else_is_an_error_at_the_first_byte_that_is_wrong() {
    use ProxyError::{Malformed, NoHeader, TooLong};
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_1 - 15));
    let block = vec![0; MAX_2 - FIXED_2 + 1];
    let none = [
        (b"GET / HTTP/1.1\r\n".to_vec(), 1, NoHeader),
        (b"proxy TCP4".to_vec(), 1, NoHeader),
        (b"PROXYTCP4".to_vec(), 6, NoHeader),
        (b"\r\n\r\n\0\r\nQUIX\n".to_vec(), 11, NoHeader),
        (b"PROXY UNKNOWN\n".to_vec(), 14, Malformed),
        (b"PROXY \r\n".to_vec(), 8, Malformed),
        (b"PROXY TCP5 ::1 ::1 1 1\r\n".to_vec(), 24, Malformed),
        (b"PROXY TCP4 ::1 ::1 1 1\r\n".to_vec(), 24, Malformed),
        (b"PROXY TCP6 1.2.3.4 ::1 1 1\r\n".to_vec(), 28, Malformed),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n".to_vec(), 30, Malformed),
        (
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n".to_vec(),
            33,
            Malformed,
        ),
        (
            b"PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n".to_vec(),
            33,
            Malformed,
        ),
        (
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n".to_vec(),
            33,
            Malformed,
        ),
        (
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n".to_vec(),
            33,
            Malformed,
        ),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4  1\r\n".to_vec(), 31, Malformed),
        (
            b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n".to_vec(),
            36,
            Malformed,
        ),
        (
            b"PROXY TCP4 1.2.3.4 1.2.3.\xFF 1 1\r\n".to_vec(),
            32,
            Malformed,
        ),
        (long.into_bytes(), MAX_1, TooLong),
        (version_2(0x11, 0x11, &inet_block()), 13, Malformed),
        (version_2(0x22, 0x11, &inet_block()), 13, Malformed),
        (version_2(0x21, 0x12, &inet_block()), 14, Malformed),
        (version_2(0x21, 0x41, &inet_block()), 14, Malformed),
        (version_2(0x21, 0x11, &inet_block()[..11]), 16, Malformed),
        (version_2(0x21, 0x21, &[0; 35]), 16, Malformed),
        (version_2(0x21, 0x31, &[0; 215]), 16, Malformed),
        (version_2(0x21, 0x11, &block), 16, TooLong),
        (version_2(0x20, 0x00, &block), 16, TooLong),
    ];
    for (bytes, at, error) in none {
        let text = bytes.escape_ascii().to_string();
        for cut in 0..at {
            assert_eq!(ProxyHeader::parse(&bytes[..cut]), Ok(None), "{cut}: {text}");
        }
        for cut in at..=bytes.len() {
            assert_eq!(
                ProxyHeader::parse(&bytes[..cut]),
                Err(error),
                "{cut}: {text}"
            );
        }
    }
}

proptest! {
    /// One that is close to a header.
    #[test]
    fn no_bytes_make_it_panic_and_more_bytes_change_no_result(
        place in 0..headers().len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = headers().swap_remove(place).0;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = ProxyHeader::parse(&bytes);
        let part = ProxyHeader::parse(&bytes[..cut.index(bytes.len() + 1)]);
        prop_assert!(part == Ok(None) || part == whole, "{:?} {:?}", part, whole);
    }
}
