//! The forms of a write: slices, bytes that are handed over, formatted text, nothing at all.

use bytes::Bytes;
use std::fmt;
use std::io::IoSlice;
use support::{
    How, Kind, Log, Recorder, Scene, adopted, drive, each_kind, never_paused, no_limits, put,
    run_in, settle, stall, strict_loop, text, thread_time, writes,
};
use tidegate::{Flow, Transport, WriteError};

each_kind!(more_slices_and_chunks_than_the_system_takes_in_one_call_go_in_order);
fn more_slices_and_chunks_than_the_system_takes_in_one_call_go_in_order(kind: Kind) {
    const COUNT: usize = 5000;
    for (clogged, inside) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
        if clogged {
            stall(&mut event_loop, never_paused(&transport), 1000);
        }
        transport.set_write_limits(no_limits()).unwrap();
        run_in(&mut event_loop, &transport, inside, |transport| {
            for size in [3, 20] {
                let data = text(transport.written(), COUNT * size);
                let empty = IoSlice::new(&[]);
                let slices: Vec<_> = data
                    .chunks(size)
                    .flat_map(|chunk| [IoSlice::new(chunk), empty])
                    .collect();
                assert_eq!(slices.len(), 2 * COUNT);
                assert_eq!(transport.write_vectored(&slices).unwrap(), Flow::Open);
                for chunk in 0..COUNT {
                    let written = transport.written();
                    How::Owned.put(transport, 1 + chunk % size).unwrap();
                    assert_eq!(transport.written(), written + 1 + (chunk % size) as u64);
                }
            }
        });
        peer.expect_text(&mut event_loop, &transport);
    }
}
each_kind!(an_empty_write_is_no_write_whatever_the_state);
fn an_empty_write_is_no_write_whatever_the_state(kind: Kind) {
    fn empty_writes(transport: &Transport) {
        let before = (transport.stats(), writes(transport.handle()));
        let flow = transport.flow();
        let empty = IoSlice::new(&[]);
        assert_eq!(transport.write(b"").unwrap(), flow);
        assert_eq!(transport.write_owned(Bytes::new()).unwrap(), flow);
        assert_eq!(transport.write_vectored(&[]).unwrap(), flow);
        assert_eq!(transport.write_vectored(&[empty; 3]).unwrap(), flow);
        assert_eq!(write!(transport, "").unwrap(), flow);
        assert_eq!(write!(transport, "{}", String::new()).unwrap(), flow);
        assert_eq!((transport.stats(), writes(transport.handle())), before);
    }
    for clogged in [false, true] {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let protocol = Recorder::new(&log).on_data(|transport, _| {
            empty_writes(transport);
            Ok(())
        });
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        empty_writes(&transport);
        settle(&mut event_loop);
        assert_eq!(writes(event_loop.handle()), 0);
        if clogged {
            stall(&mut event_loop, never_paused(&transport), 1000);
        }
        peer.send(b"x");
        settle(&mut event_loop);
        // Between others they leave no trace, and the close is not kept waiting.
        put(&transport, 5);
        empty_writes(&transport);
        put(&transport, 5);
        empty_writes(&transport);
        transport.close();
        empty_writes(&transport);
        peer.expect_end(&mut event_loop);
        assert!(peer.received() == text(0, transport.written() as usize));
        peer.close();
        drive(&mut event_loop, "lost", || log.is_lost());
        empty_writes(&transport);
        assert_eq!(log.reason(), "local-close");
        settle(&mut event_loop);
    }
}
struct Failing;
impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half of it")?;
        Err(fmt::Error)
    }
}
each_kind!(a_value_that_fails_to_format_writes_nothing);
fn a_value_that_fails_to_format_writes_nothing(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let stats = transport.stats();
    let result = write!(transport, "before {Failing} after");
    assert!(
        matches!(result, Err(WriteError::Format { transport: id, .. }) if id == transport.id()),
        "{result:?}"
    );
    assert_eq!(transport.stats(), stats);
    assert_eq!(write!(transport, "well {}", 1).unwrap(), Flow::Open);
    peer.expect(&mut event_loop, 6);
    assert_eq!(peer.received(), b"well 1");
    assert_eq!(log.words(), ["made"]);
}
#[test]
fn any_number_of_slices_costs_time_in_proportion_to_it() {
    const MORE: usize = 16;
    let time = |count: usize| {
        let mut event_loop = strict_loop();
        let log = Log::new();
        // The kernel is to take all of it, in many system calls.
        let roomy = |socket: &socket2::Socket| {
            socket.set_send_buffer_size(8 << 20).unwrap();
            socket.set_recv_buffer_size(8 << 20).unwrap();
        };
        let recorder = Recorder::new(&log);
        let (transport, mut peer) = Scene::of(Kind::Tcp)
            .sockets(roomy)
            .on(&mut event_loop, recorder);
        settle(&mut event_loop);
        transport.set_write_limits(no_limits()).unwrap();
        let data = text(0, count);
        let slices: Vec<_> = data.chunks(1).map(IoSlice::new).collect();
        let begun = thread_time();
        transport.write_vectored(&slices).unwrap();
        let took = thread_time() - begun;
        peer.expect(&mut event_loop, count);
        took
    };
    // Other work on the machine can only lengthen a run, by what it does to the caches.
    let least = |count| (0..3).map(|_| time(count)).min().unwrap();
    let (few, many) = (least(25_000), least(MORE * 25_000));
    // Were each system call to look at all slices again, this would be the square.
    assert!(many < few * 5 * MORE as u32, "{few:?}, {many:?}");
}
