//! How evenly connections that stay come to the loops: the busiest loop over the mean. Changes the limit of
//! descriptors.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use support::that_fit;
use tidegate::{EventLoop, Protocol, Result, Transport};
use tidegate_service::{Spread, Workers, WorkersServer};

struct Greeter;

impl Protocol for Greeter {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.write(b"!")?;
        Ok(())
    }
}

/// Makes connections, and returns the connections of the busiest loop over the mean of the loops.
fn imbalance(loops: usize, connections: usize, spread: Spread) -> f64 {
    let workers = Workers::start(loops, "web", EventLoop::builder).unwrap();
    let server = workers.create_server("127.0.0.1:0", |options| options, spread, |_| || Greeter);
    let server: WorkersServer = server.unwrap();
    let addr: SocketAddr = server.local_addrs()[0].as_inet().unwrap();
    let mut peers: Vec<_> = (0..connections)
        .map(|_| TcpStream::connect(addr).unwrap())
        .collect();
    for peer in &mut peers {
        peer.read_exact(&mut [0]).unwrap();
    }
    let by_loop = server.connections();
    assert_eq!(by_loop.iter().sum::<usize>(), connections);
    drop(peers);
    workers.shutdown(std::time::Duration::from_secs(60));
    let busiest = by_loop.into_iter().max().unwrap_or(0);
    busiest as f64 * loops as f64 / connections as f64
}

#[test]
fn the_loops_are_even_but_for_the_kernels_spread_which_is_bounded() {
    // Both ends are in this process.
    assert!(that_fit(1000, 2) >= 1000);
    for (loops, connections) in [(2, 64), (2, 1000), (4, 64), (4, 1000), (8, 64), (8, 1000)] {
        for spread in [Spread::LeastConnections, Spread::RoundRobin] {
            assert_eq!(imbalance(loops, connections, spread), 1.0);
        }
    }
    // The kernel draws lots. The bounds are those of the mean of 20 draws, with room of five standard
    // deviations.
    for (loops, connections, most) in [(2, 64, 1.2), (4, 64, 1.45), (8, 64, 1.75), (4, 1000, 1.12)]
    {
        let trials: Vec<_> = (0..20)
            .map(|_| imbalance(loops, connections, Spread::ReusePort))
            .collect();
        let mean = trials.iter().sum::<f64>() / trials.len() as f64;
        assert!(
            mean <= most,
            "{loops} loops, {connections} connections: {mean}, of {trials:?}"
        );
    }
}
