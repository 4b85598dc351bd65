//! The flood takes the processor from other tests, so nothing else runs in the process.
//!
//! An endpoint is flooded with a million datagrams. Before each tick of the loop more of them come than the
//! endpoint may receive in it. Beside it a quiet connection of TCP and a timer have their turn in each tick,
//! and the flood has its share of the tick and no more. Before each tick the kernel and the clock are asked
//! what is due in it.

use socket2::SockRef;
use std::cell::Cell;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use support::{BOUND, drive};
use tidegate::{
    Address, DatagramOptions, DatagramProtocol, DatagramTransport, EventLoop, Handle, Protocol,
    Result, Transport,
};

const DATAGRAMS: u64 = 1_000_000;

/// The maximum number of datagrams that one endpoint receives in a tick.
const SHARE: u64 = 64;

/// Datagrams that come before a tick. The kernel drops those for which the receive buffer has no room.
const WAVE: u64 = SHARE + 16;

const PERIOD: Duration = Duration::from_millis(1);

struct Sink;

impl DatagramProtocol for Sink {
    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
        Ok(())
    }
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

/// A connection that the loop echoes on.
struct Quiet {
    peer: TcpStream,
    /// The loop's end of it.
    ours: TcpStream,
    transport: Transport,
}

impl Quiet {
    fn new(handle: &Handle) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(BOUND)).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let transport = handle.adopt(ours.try_clone().unwrap(), Echo).unwrap();
        Self {
            peer,
            ours,
            transport,
        }
    }

    /// Sends a byte, and waits until the kernel has it for the loop.
    fn send(&mut self) {
        self.peer.write_all(b".").unwrap();
        let begun = Instant::now();
        while SockRef::from(&self.ours)
            .peek(&mut [MaybeUninit::uninit()])
            .unwrap_or(0)
            == 0
        {
            assert!(begun.elapsed() < BOUND, "nothing to read");
            thread::yield_now();
        }
    }

    fn assert_echoed(&mut self) {
        self.peer.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn beside_a_flood_of_datagrams_a_connection_and_a_timer_have_their_turn_in_each_tick() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let mut quiet = Quiet::new(&handle);
    let options = DatagramOptions::new("127.0.0.1:0").receive_buffer(1 << 20);
    let endpoint = handle.create_datagram_endpoint(options, Sink).unwrap();
    let fired = Rc::new(Cell::new((0_u64, Instant::now())));
    let fires = fired.clone();
    let _timer = handle.call_every(PERIOD, move |_| {
        fires.set((fires.get().0 + 1, Instant::now()));
    });
    drive(&mut event_loop, "the first beat", || fired.get().0 > 0);
    let flooding = UdpSocket::bind("127.0.0.1:0").unwrap();
    flooding
        .connect(endpoint.local_addr().as_inet().unwrap())
        .unwrap();
    for tick in 1..=DATAGRAMS / WAVE {
        for _ in 0..WAVE {
            assert_eq!(flooding.send(&[7; 64]).unwrap(), 64);
        }
        quiet.send();
        let (beats, last) = fired.get();
        // Beyond the next one, as the times of a repeating timer have no relation to when it last ran.
        let is_due = last.elapsed() > 2 * PERIOD;
        let (echoed, received) = (quiet.transport.stats().sent, endpoint.stats().received);
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        let context = format!("tick {tick}: {endpoint:?} {:?}", handle.stats());
        let echoed = quiet.transport.stats().sent - echoed;
        assert_eq!(echoed, 1, "the quiet connection, {context}");
        assert!(!is_due || fired.get().0 > beats, "the timer, {context}");
        let received = endpoint.stats().received - received;
        assert_eq!(received, SHARE, "{context}");
        quiet.assert_echoed();
    }
}
