//! The writes of one callback make few records.

use super::ending::sealed_scene;
use support::seal::{HEADER, Said, hello};
use support::{Kind, Scene, each_kind, settle, text};
use tidegate::{Result, Transport};

/// Writes the text in small pieces.
type Write = fn(&Transport, &[u8]) -> Result;

const WRITES: [(&str, Write); 5] = [
    ("write", |transport, data| {
        for byte in data {
            transport.write(&[*byte])?;
        }
        Ok(())
    }),
    ("write_owned", |transport, data| {
        for byte in data {
            transport.write_owned(vec![*byte])?;
        }
        Ok(())
    }),
    ("write_vectored", |transport, data| {
        for part in data.chunks(50) {
            let slices: Vec<_> = part.chunks(1).map(std::io::IoSlice::new).collect();
            transport.write_vectored(&slices)?;
        }
        Ok(())
    }),
    ("write_fmt", |transport, data| {
        for byte in data {
            write!(transport, "{}", char::from(*byte))?;
        }
        Ok(())
    }),
    ("all in turn", |transport, data| {
        for part in data.chunks(4) {
            transport.write(&part[..1])?;
            transport.write_owned(part[1..2].to_vec())?;
            transport.write_fmt(format_args!("{}", char::from(part[2])))?;
            transport.write_owned(part[3..].to_vec())?;
        }
        Ok(())
    }),
];

const LEN: usize = 4_000;

/// The maximum number of slices in one offer, each of which has a record of its own here at worst.
const SLICES: usize = 64;

fn small_writes_of_one_callback_are_put_together(kind: Kind) {
    for (name, write) in WRITES {
        let (mut event_loop, _log, transport, mut peer) =
            sealed_scene(Scene::of(kind), |recorder| {
                recorder.on_data(move |transport, _| write(transport, &text(0, LEN)))
            });
        peer.send(&support::seal::sealed(b"go"));
        let said = [Said::Hello, Said::Data(text(0, LEN))];
        peer.expect_said(&mut event_loop, &said);
        let records = (peer.received().len() - hello().len() - LEN) / HEADER;
        assert!(records <= LEN / SLICES + 1, "{name}: {records} records");
        assert_eq!(transport.sent() as usize, LEN);
    }
}
each_kind!(small_writes_of_one_callback_are_put_together);

/// Bytes that wait for the layer to open are put together too.
fn small_writes_that_are_buffered_are_put_together(kind: Kind) {
    let (mut event_loop, _log, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    let pushed = transport.push_layer(support::seal::Seal::server(), b"");
    for byte in text(0, LEN) {
        transport.write_owned(vec![byte]).unwrap();
        settle_sometimes(&mut event_loop, byte);
    }
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    let said = [Said::Hello, Said::Data(text(0, LEN))];
    peer.expect_said(&mut event_loop, &said);
    let records = (peer.received().len() - hello().len() - LEN) / HEADER;
    assert!(records <= LEN / SLICES + 1, "{records} records");
}
each_kind!(small_writes_that_are_buffered_are_put_together);

fn settle_sometimes(event_loop: &mut tidegate::EventLoop, byte: u8) {
    if byte == 0 {
        support::tick(event_loop);
    }
}
