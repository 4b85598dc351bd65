//! Lengths that no frame has, of every codec: an error that names them, the end of that connection, and
//! of no other.

use crate::{Noted, Notes, Reader};
use std::cell::Cell;
use std::rc::Rc;
use support::{Kind, MIB, Peer, TempDir, drive, each_kind, settle};
use tidegate::{EventLoop, Server};
use tidegate_framing::{
    Delimiter, Fixed, Framed, LengthPrefix, LineEnd, Lines, Netstring, Prefix, Raw, TokioCodec,
};
use tokio_util::codec::LinesCodec;

/// A server of each codec on one loop, and a connection that is served beside the one under test.
struct Servers {
    event_loop: EventLoop,
    kind: Kind,
    dir: TempDir,
    made: Rc<Cell<usize>>,
}

impl Servers {
    fn new(kind: Kind) -> Self {
        let event_loop = EventLoop::new().unwrap();
        event_loop.handle().set_error_handler(|_, _| {});
        Self {
            event_loop,
            kind,
            dir: TempDir::new(),
            made: Rc::default(),
        }
    }

    fn serve<C: Noted>(&self, codec: C) -> (Server, Notes) {
        let (notes, noted) = (Notes::default(), Notes::default());
        // The first connection is the hostile one.
        let (first, made) = (notes.clone(), self.made.clone());
        made.set(made.get() + 1);
        let mut is_first = true;
        let place = match self.kind {
            Kind::Tcp => "127.0.0.1:0".to_owned(),
            Kind::Unix => {
                let path = self.dir.path(format!("{}", made.get()));
                format!("unix:{}", path.display())
            }
        };
        let make = move || {
            let notes = if is_first { &first } else { &noted };
            is_first = false;
            let reader = Reader::new(codec.clone(), notes).on_frame(|transport, _, _| {
                transport.write(b"frame")?;
                Ok(())
            });
            Framed::new(reader)
        };
        let server = self.event_loop.handle().create_server(place, make).unwrap();
        (server, notes)
    }

    /// Sends `hostile` in one piece or byte by byte: it fails with `error`, and another connection is
    /// served with `good` before and after.
    #[track_caller]
    fn refuses<C: Noted>(&mut self, codec: C, good: &[u8], hostile: &[u8], error: &str) {
        for whole in [true, false] {
            let (server, notes) = self.serve(codec.clone());
            let address = server.local_addrs()[0].clone();
            let mut peer = Peer::connect(&address);
            drive(&mut self.event_loop, "the first", || {
                server.connection_count() == 1
            });
            let mut other = Peer::connect(&address);
            other.send(good);
            other.expect(&mut self.event_loop, 5);
            if whole {
                peer.send(hostile);
            } else {
                for byte in hostile {
                    // The server may have refused it already.
                    let _ = peer.try_write(&[*byte]);
                    support::tick(&mut self.event_loop);
                }
            }
            let failed = || !notes.failed().is_empty();
            drive(&mut self.event_loop, error, failed);
            peer.expect_end(&mut self.event_loop);
            assert_eq!(notes.failed(), [error], "whole: {whole}");
            other.send(good);
            other.expect(&mut self.event_loop, 10);
            assert_eq!(server.connection_count(), 1);
            other.close();
            drive(&mut self.event_loop, "the end", || {
                server.connection_count() == 0
            });
            server.close();
        }
        settle(&mut self.event_loop);
        assert_eq!(self.event_loop.handle().stats().timers, 0);
    }
}

fn too_long(max: usize) -> String {
    format!("a frame is longer than {max} bytes")
}

fn malformed(what: &str) -> String {
    format!("a malformed frame: {what}")
}

/// The maximum of what is kept of a torn frame.
const NET: usize = 16 * MIB;

/// The greatest numbers of every sign.
const GREAT: [u64; 4] = [1 << 63, u64::MAX, (1 << 63) - 1, 1 << 32];

each_kind!(a_length_of_an_integer_beyond_the_maximum_is_refused_with_its_head);
fn a_length_of_an_integer_beyond_the_maximum_is_refused_with_its_head(kind: Kind) {
    let mut servers = Servers::new(kind);
    for length in GREAT {
        let big = length.to_be_bytes();
        let good = [&4_u64.to_be_bytes()[..], b"good"].concat();
        let codec = LengthPrefix::new(Prefix::Big(8));
        servers.refuses(codec.clone(), &good, &big, &too_long(MIB));
        // Without a maximum the net catches it, or the length of the address space.
        let most = if length == u64::MAX { usize::MAX } else { NET };
        servers.refuses(codec.max(usize::MAX), &good, &big, &too_long(most));
        let little = LengthPrefix::new(Prefix::Little(8));
        let good = [&4_u64.to_le_bytes()[..], b"good"].concat();
        servers.refuses(little, &good, &length.to_le_bytes(), &too_long(MIB));
    }
}

each_kind!(a_length_that_is_below_zero_with_its_header_is_malformed);
fn a_length_that_is_below_zero_with_its_header_is_malformed(kind: Kind) {
    let mut servers = Servers::new(kind);
    let error = malformed("a length that is less than that of its header");
    let codec = LengthPrefix::new(Prefix::Big(2)).includes_header();
    let good = [0, 6, 1, 2, 3, 4];
    servers.refuses(codec, &good, &[0, 1], &error);
    let codec = LengthPrefix::new(Prefix::Big(2)).adjustment(-4);
    let good = [0, 8, 1, 2, 3, 4];
    servers.refuses(codec, &good, &[0, 3], &error);
    let codec = LengthPrefix::new(Prefix::Little(8)).adjustment(i64::MIN);
    let good = [&(i64::MIN as u64 + 1).to_le_bytes()[..], b"1"].concat();
    servers.refuses(codec.clone(), &good, &[0; 8], &error);
    servers.refuses(codec, &good, &u64::MAX.to_le_bytes(), &too_long(MIB));
    let codec = LengthPrefix::new(Prefix::Big(2)).strip(5);
    let error = malformed("a frame that is shorter than the part to strip");
    servers.refuses(codec, &[0, 4, 1, 2, 3, 4], &[0, 2], &error);
}

each_kind!(a_varint_of_more_than_64_bits_is_malformed_and_a_great_one_too_long);
fn a_varint_of_more_than_64_bits_is_malformed_and_a_great_one_too_long(kind: Kind) {
    let mut servers = Servers::new(kind);
    let error = malformed("a varint of more than 64 bits");
    let codec = LengthPrefix::new(Prefix::Varint);
    let great = |last| [&[0xff; 9][..], &[last]].concat();
    servers.refuses(codec.clone(), b"\x04good", &[0x80; 10], &error);
    servers.refuses(codec.clone(), b"\x04good", &[0xff; 10], &error);
    servers.refuses(codec.clone(), b"\x04good", &great(2), &error);
    servers.refuses(codec.clone(), b"\x04good", &great(1), &too_long(MIB));
    let codec = codec.includes_header();
    let error = malformed("a length that is less than that of its header");
    let zero = [&[0x80; 9][..], &[0]].concat();
    servers.refuses(codec, b"\x05good", &zero, &error);
}

each_kind!(a_length_of_a_netstring_is_a_number_without_zeros_in_front);
fn a_length_of_a_netstring_is_a_number_without_zeros_in_front(kind: Kind) {
    let mut servers = Servers::new(kind);
    let good = b"4:good,";
    let zero = malformed("a length with a zero in front");
    for hostile in ["00:,", "01:a,", "000000000000000000000000000"] {
        servers.refuses(Netstring::new(), good, hostile.as_bytes(), &zero);
    }
    let no_number = malformed("a length that is no number");
    for hostile in [
        ":",
        "-1:a,",
        "+1:a,",
        " 1:a,",
        "1 :a,",
        "0x1:a,",
        "\u{661}:a,",
    ] {
        servers.refuses(Netstring::new(), good, hostile.as_bytes(), &no_number);
    }
    let digits = "9".repeat(1000);
    for hostile in [
        "9223372036854775808:",
        "18446744073709551615:",
        "18446744073709551616:",
        digits.as_str(),
    ] {
        servers.refuses(Netstring::new(), good, hostile.as_bytes(), &too_long(MIB));
    }
    let open = Netstring::new().max(usize::MAX);
    servers.refuses(open.clone(), good, b"9223372036854775808:", &too_long(NET));
    servers.refuses(open.clone(), good, b"18446744073709551615:", &too_long(NET));
    servers.refuses(open.clone(), good, digits.as_bytes(), &too_long(usize::MAX));
    let no_comma = malformed("no comma after the bytes");
    servers.refuses(open, good, b"4:good;", &no_comma);
}

each_kind!(a_frame_without_an_end_is_refused_at_its_maximum);
fn a_frame_without_an_end_is_refused_at_its_maximum(kind: Kind) {
    const MAX: usize = 100;
    let mut servers = Servers::new(kind);
    let endless = [b'x'; MAX + 3];
    for end in [LineEnd::Either, LineEnd::Lf, LineEnd::CrLf] {
        let lines = Lines::new().end(end).max(MAX);
        servers.refuses(lines, b"good\r\n", &endless, &too_long(MAX));
    }
    let raw = Raw::new(Lines::new().max(MAX));
    servers.refuses(raw, b"good 0\n", &endless, &too_long(MAX));
    let delimiter = Delimiter::new(b"--").max(MAX);
    servers.refuses(delimiter, b"good--", &endless, &too_long(MAX));
    // One that has all of it but its last byte, again and again.
    let delimiter = Delimiter::new(b"-+").max(MAX);
    servers.refuses(delimiter, b"good-+", &[b'-'; MAX + 3], &too_long(MAX));
    let tokio = TokioCodec::new(LinesCodec::new_with_max_length(MAX));
    servers.refuses(tokio, b"good\n", &endless, "max line length exceeded");
}

each_kind!(a_fixed_length_beyond_the_net_is_refused_with_its_first_byte);
fn a_fixed_length_beyond_the_net_is_refused_with_its_first_byte(kind: Kind) {
    // Every peer of such a server is refused, so there is none beside it.
    for len in [NET + 1, usize::MAX] {
        let servers = Servers::new(kind);
        let (server, notes) = servers.serve(Fixed::new(len));
        let mut event_loop = servers.event_loop;
        let mut peer = Peer::connect(&server.local_addrs()[0]);
        peer.send(b"1");
        peer.expect_end(&mut event_loop);
        assert_eq!(notes.failed(), [too_long(NET)]);
        assert_eq!(server.connection_count(), 0);
    }
}
