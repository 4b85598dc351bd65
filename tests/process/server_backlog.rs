//! Raises the limit on descriptors of the process.
//!
//! Servers that are shut down with a thousand connections in their backlog.

use std::time::Duration;
use support::{Kind, Log, Peer, Recorder, TempDir, answer_of, drive, that_fit};
use tidegate::{EventLoop, ListenOptions};

const WAITING: usize = 1000;

#[test]
fn none_of_a_thousand_peers_in_the_backlog_is_reset_by_a_shutdown() {
    let waiting = that_fit(WAITING, 2);
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let options = ListenOptions::new(kind.somewhere(&dir)).backlog(WAITING as u32);
        let factory = || {
            Recorder::new(&Log::new()).on_made(|transport| {
                transport.write(b"hello")?;
                Ok(())
            })
        };
        let server = event_loop.handle().create_server(options, factory).unwrap();
        // The loop does not run meanwhile.
        let mut peers: Vec<_> = (0..waiting)
            .map(|n| {
                let mut peer = Peer::connect(&server.local_addrs()[0]);
                if n % 2 == 0 {
                    peer.send(b"a request");
                }
                peer
            })
            .collect();
        let answer = answer_of(server.shutdown(Duration::from_secs(3600)));
        drive(&mut event_loop, "the shutdown", || {
            for peer in peers.iter_mut().filter(|peer| !peer.is_closed()) {
                peer.read_available();
                if peer.saw_eof() {
                    peer.close();
                }
            }
            answer.borrow().is_some()
        });
        for (n, peer) in peers.iter().enumerate() {
            assert_eq!(peer.saw_error(), None, "{kind:?}: {n}");
            assert_eq!(peer.received(), b"hello", "{kind:?}: {n}");
        }
        let report = answer.borrow().unwrap();
        assert_eq!((report.closed, report.aborted), (waiting, 0), "{kind:?}");
        assert_eq!(
            (report.unsent, report.from_backlog),
            (0, waiting),
            "{kind:?}"
        );
    }
}
