//! Counts the resident memory of the process.
//!
//! A server that overrides nothing but `data_received` is bounded against peers that flood and
//! never read.

use std::cell::RefCell;
use std::rc::Rc;
use support::{Kind, Peer, TempDir, drive, pattern, resident, settle};
use tidegate::{EventLoop, Protocol, Result, Transport, WriteLimits};

const KIB: usize = 1024;

/// The size of the loop's read buffer.
const ONE_READ: usize = 128 * KIB;

const PEERS: usize = 60;

/// The maximum memory of each connection: its buffer, in chunks of which the last is not full.
const EACH: usize = 64 * KIB + ONE_READ + 64 * KIB;

const CONSTANT: usize = 6 * KIB * KIB;

type Transports = Rc<RefCell<Vec<Transport>>>;

struct Echo {
    transports: Transports,
    met: bool,
}

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        if !std::mem::replace(&mut self.met, true) {
            self.transports.borrow_mut().push(transport.clone());
        }
        transport.write(data)?;
        Ok(())
    }
}

#[test]
fn an_echo_server_without_flow_control_is_bounded_by_high_water_and_one_read() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let transports = Transports::default();
        let each = transports.clone();
        let server = event_loop
            .handle()
            .create_server(kind.somewhere(&dir), move || Echo {
                transports: each.clone(),
                met: false,
            })
            .unwrap();
        let mut peers: Vec<_> = (0..PEERS)
            .map(|_| Peer::connect(&server.local_addrs()[0]))
            .collect();
        let data = pattern(0, KIB * KIB);
        for peer in &peers {
            // The kernel's part of it is not what is tested.
            peer.as_sock().set_recv_buffer_size(16 * KIB).unwrap();
        }
        settle(&mut event_loop);
        let before = resident();
        let high = WriteLimits::new().high();
        let bound = high + ONE_READ;
        let mut sent = [0; PEERS];
        let mut largest = 0;
        let mut idle = 0;
        // Until the kernel takes nothing more from any of them: the server has stopped reading.
        while idle < 20 {
            let mut taken = 0;
            for (peer, sent) in peers.iter_mut().zip(&mut sent) {
                let n = peer.write(&data[*sent % data.len()..]);
                *sent += n;
                taken += n;
            }
            event_loop
                .run_once(Some(std::time::Duration::from_millis(1)))
                .unwrap();
            for transport in transports.borrow().iter() {
                let stats = transport.stats();
                assert_eq!(
                    stats.write_buffer_size as u64,
                    stats.written - stats.sent,
                    "the counter is the difference"
                );
                assert!(stats.write_buffer_size <= bound, "{stats:?}");
                largest = largest.max(stats.write_buffer_size);
            }
            idle = if taken == 0 { idle + 1 } else { 0 };
        }
        assert_eq!(transports.borrow().len(), PEERS);
        assert!(largest > high, "they were paused");
        for transport in transports.borrow().iter() {
            assert!(transport.flow().is_paused() && !transport.is_reading());
        }
        let grown = resident().saturating_sub(before) as usize;
        assert!(
            grown <= PEERS * EACH + CONSTANT,
            "{kind:?}: {PEERS} stalled peers took {} KiB",
            grown / KIB
        );
        // It was backpressure, not a deadlock: a peer that reads gets everything.
        let (peer, sent) = (&mut peers[0], sent[0]);
        peer.expect(&mut event_loop, sent);
        let expected: Vec<_> = data.iter().copied().cycle().take(sent).collect();
        assert!(peer.received() == expected);
        server.close();
        server.abort_clients();
        drive(&mut event_loop, "the end", || {
            server.connection_count() == 0
        });
    }
}
