//! Broadcasts in a simulated network.

use std::io::ErrorKind::PermissionDenied;
use std::net::SocketAddr;
use support::datagrams::Heard;
use tidegate::{DatagramOptions, DatagramTransport};
use tidegate_testkit::{Host, World};

fn endpoint(host: &Host, options: impl Into<DatagramOptions>, heard: &Heard) -> DatagramTransport {
    host.handle()
        .create_datagram_endpoint(options, heard.protocol())
        .unwrap()
}

#[test]
fn a_broadcast_reaches_every_host_and_is_refused_unless_it_was_asked_for() {
    let mut world = World::new();
    let hosts = ["a", "b", "c"].map(|name| world.add_host(name).unwrap());
    let everywhere = SocketAddr::from(([255, 255, 255, 255], 7));
    let heard: [Heard; 3] = Default::default();
    for (host, heard) in hosts.iter().zip(&heard) {
        endpoint(host, "0.0.0.0:7", heard);
    }
    let elsewhere = Heard::default();
    endpoint(&hosts[1], hosts[1].addr(8), &elsewhere);
    let sender = Heard::default();
    let transport = endpoint(&hosts[0], "0.0.0.0:0", &sender);
    let refused = transport.try_send_to(b"x", &everywhere).unwrap_err();
    assert_eq!(refused.kind(), PermissionDenied);
    transport.send_to(b"x", &everywhere).unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(sender.errors().len(), 1, "{sender:?}");
    let connected = DatagramOptions::connected(everywhere);
    let refused = hosts[0]
        .handle()
        .create_datagram_endpoint(connected, sender.protocol());
    assert_eq!(refused.unwrap_err().kind(), PermissionDenied);
    transport.set_broadcast(true).unwrap();
    transport.try_send_to(b"all", &everywhere).unwrap();
    let options = DatagramOptions::connected(everywhere).broadcast(true);
    let connected = Heard::default();
    endpoint(&hosts[0], options, &connected)
        .send(b"too")
        .unwrap();
    // Nothing receives there, and nothing tells of it.
    let nobody = SocketAddr::from(([255, 255, 255, 255], 9));
    transport.send_to(b"x", &nobody).unwrap();
    world.run_until_idle().unwrap();
    for heard in &heard {
        assert_eq!(heard.datagrams(), [b"all", b"too"]);
    }
    assert_eq!(elsewhere.datagrams(), [b""; 0]);
    assert_eq!((sender.errors().len(), connected.errors().len()), (1, 0));
    transport.set_broadcast(false).unwrap();
    assert!(transport.try_send_to(b"x", &everywhere).is_err());
}
