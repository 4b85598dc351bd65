//! A connection of streams that gets another protocol.

use futures_io::AsyncBufRead;
use std::future::poll_fn;
use std::pin::Pin;
use support::{Kind, Log, Recorder, Streamed, drive, each_kind, now};

/// Leaves the last bytes of `one two ` unread, in each way in which a reader has looked at them.
const WAYS: [fn(&mut Streamed); 6] = [
    |_| {},
    |s| drop(now(s.reader.read_chunk(4)).unwrap()),
    |s| assert_eq!(now(s.reader.peek(3)).unwrap(), b"one"),
    |s| {
        now(s.reader.peek(3)).unwrap();
        drop(now(s.reader.read_chunk(5)).unwrap());
    },
    // Lent, and partly used up.
    |s| {
        let fill = |context: &mut std::task::Context<'_>| {
            Pin::new(&mut s.reader)
                .poll_fill_buf(context)
                .map_ok(<[u8]>::len)
        };
        now(poll_fn(fill)).unwrap();
        Pin::new(&mut s.reader).consume(4);
    },
    |s| drop(now(s.reader.read_chunk(8)).unwrap()),
];

each_kind!(bytes_that_were_not_read_come_to_a_protocol_that_takes_over_in_order_and_once);
fn bytes_that_were_not_read_come_to_a_protocol_that_takes_over_in_order_and_once(kind: Kind) {
    for (way, used) in WAYS.iter().zip([0, 4, 0, 5, 4, 8]) {
        for more in [&b""[..], b"three "] {
            let mut s = Streamed::new(kind);
            s.feed(b"one two ");
            way(&mut s);
            if !more.is_empty() {
                // Behind what is lent.
                s.feed(more);
            }
            let log = Log::new().switched_in();
            let transport = s.writer.transport().clone();
            transport.set_protocol(Recorder::new(&log), b"").unwrap();
            s.peer.send(b"kernel");
            s.peer.shutdown_write();
            drive(&mut s.event_loop, "the end", || log.is_lost());
            let expected = [&b"one two "[used..], more, b"kernel"].concat();
            assert_eq!(log.data(), expected, "{used} used");
            assert_eq!(s.reader.buffered(), 0);
        }
    }
}

each_kind!(a_protocol_that_takes_over_from_a_full_reader_is_read);
fn a_protocol_that_takes_over_from_a_full_reader_is_read(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(2);
    let transport = s.writer.transport().clone();
    s.peer.send(b"more than");
    drive(&mut s.event_loop, "a full reader", || {
        !transport.is_reading()
    });
    s.peer.send(b" enough");
    let log = Log::new().switched_in();
    transport.set_protocol(Recorder::new(&log), b"").unwrap();
    drive(&mut s.event_loop, "all of it", || log.data_len() == 16);
    assert_eq!(log.data(), b"more than enough");
    // The reader has no hand in it any more.
    transport.pause_reading();
    drop(s.reader);
    assert!(!transport.is_reading());
}
