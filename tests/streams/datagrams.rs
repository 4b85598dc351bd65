//! Datagrams, awaited.

use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;
use support::datagrams::{DatagramPeer, Datagrams};
use support::{BOUND, TempDir, poll_once};
use tidegate::{Closed, DatagramOptions, Result};
use tidegate_streams::{DatagramSocket, block_on, spawn, timeout, yield_now};

fn run<T: 'static>(future: impl Future<Output = Result<T>> + 'static) -> T {
    block_on(async { timeout(BOUND, future).await.unwrap().unwrap() }).unwrap()
}

#[test]
fn a_socket_receives_from_everybody_and_replies() {
    for wire in Datagrams::each() {
        run(async move {
            let dir = TempDir::new();
            let socket = DatagramSocket::bind(wire.local(&dir, "a"))?;
            for name in ["b", "c"] {
                let peer = DatagramPeer::new(wire, &dir, name);
                peer.send_to(name.as_bytes(), socket.local_addr());
                let (data, from) = socket.recv_from().await?;
                assert_eq!((&data[..], &from), (name.as_bytes(), &peer.address()));
                socket.send_to(b"reply", &from)?;
                socket.flush().await?;
                assert_eq!(peer.receive(), b"reply");
            }
            Ok(())
        });
    }
}

#[test]
fn a_connected_socket_is_told_of_a_refusal_and_goes_on() {
    run(async {
        let dir = TempDir::new();
        let gone = DatagramPeer::new(Datagrams::V4, &dir, "b");
        let addr = gone.address().as_inet().unwrap();
        drop(gone);
        let socket = DatagramSocket::connect("127.0.0.1", addr.port()).await?;
        socket.send(b"anybody?")?;
        let refused = socket.recv_from().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let again = std::net::UdpSocket::bind(addr)?;
        socket.send(b"hello")?;
        socket.flush().await?;
        let mut buffer = [0; 10];
        let (len, from) = again.recv_from(&mut buffer)?;
        again.send_to(&buffer[..len], from)?;
        assert_eq!(&socket.recv_from().await?.0[..], b"hello");
        Ok(())
    });
}

#[test]
fn a_socket_without_a_remote_address_does_not_fail_because_of_one_peer() {
    run(async {
        let dir = TempDir::new();
        let socket = DatagramSocket::bind("127.0.0.1:0")?;
        let broadcast: std::net::SocketAddr = "255.255.255.255:9".parse()?;
        socket.send_to(b"forbidden", &broadcast)?;
        socket.flush().await?;
        assert_eq!(socket.transport().stats().failed, 1);
        let denied = socket.send_to_and_wait(b"forbidden", &broadcast).await;
        assert_eq!(denied.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
        peer.send_to(b"x", socket.local_addr());
        assert_eq!(&socket.recv_from().await?.0[..], b"x");
        Ok(())
    });
}

#[test]
fn unread_datagrams_are_bounded_and_reading_goes_on_when_they_are_read() {
    run(async {
        let dir = TempDir::new();
        let socket = DatagramSocket::bind(Datagrams::Unix.local(&dir, "a"))?;
        let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
        let DatagramPeer::Unix(plain) = &peer else {
            unreachable!("it was made so");
        };
        plain.set_nonblocking(true)?;
        let mut sent = 0_u64;
        let mut refused = 0;
        while refused < 20 {
            match peer.try_send_to(&sent.to_be_bytes().repeat(125), socket.local_addr()) {
                Ok(_) => (sent, refused) = (sent + 1, 0),
                Err(_) => {
                    refused += 1;
                    yield_now().await;
                }
            }
        }
        assert!(!socket.transport().is_reading());
        assert!(sent < 200, "128 KiB and what the kernel keeps: {sent}");
        for i in 0..sent {
            assert_eq!(&socket.recv_from().await?.0[..8], i.to_be_bytes());
        }
        Ok(())
    });
}

#[test]
fn several_tasks_receive_and_a_dropped_wait_loses_nothing() {
    run(async {
        let dir = TempDir::new();
        let socket = std::rc::Rc::new(DatagramSocket::bind("127.0.0.1:0")?);
        let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
        let waits = timeout(Duration::from_millis(1), socket.recv_from()).await;
        assert!(waits.is_err(), "nothing was sent");
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let socket = socket.clone();
                spawn(async move { socket.recv_from().await.map(|(data, _)| data) })
            })
            .collect();
        for i in 0..3_u8 {
            peer.send_to(&[i], socket.local_addr());
        }
        let mut got = Vec::new();
        for task in tasks {
            got.push(task.await??[0]);
        }
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
        Ok(())
    });
}

#[test]
fn send_to_and_wait_waits_for_room_and_keeps_the_order() {
    run(async {
        let dir = TempDir::new();
        let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
        let options = Datagrams::Unix.local(&dir, "a").remote(peer.address());
        let socket = DatagramSocket::bind(options)?;
        let to = peer.address();
        let sender = spawn(async move {
            for i in 0..100_u8 {
                socket.send_to_and_wait(&[i], &to).await?;
            }
            Ok::<_, std::io::Error>(())
        });
        for i in 0..100_u8 {
            let data = loop {
                let DatagramPeer::Unix(plain) = &peer else {
                    unreachable!("it was made so");
                };
                plain.set_nonblocking(true)?;
                let mut buffer = [0; 10];
                match plain.recv(&mut buffer) {
                    Ok(len) => break buffer[..len].to_vec(),
                    Err(_) => yield_now().await,
                }
            };
            assert_eq!(data, [i]);
        }
        sender.await??;
        Ok(())
    });
}

#[test]
fn a_socket_that_was_closed_fails_with_its_end() {
    run(async {
        let socket = DatagramSocket::bind("127.0.0.1:0")?;
        socket.transport().close();
        let error = socket.recv_from().await.unwrap_err();
        assert!(Closed::of(&error).unwrap().is_clean(), "{error}");
        assert!(socket.drain().await.is_err());
        Ok(())
    });
}

#[test]
fn there_is_no_socket_without_a_loop() {
    let error = DatagramSocket::bind("127.0.0.1:0").unwrap_err();
    assert!(
        error
            .get_ref()
            .unwrap()
            .is::<tidegate_streams::NoEventLoop>()
    );
}

#[test]
fn errors_that_nobody_reads_are_bounded() {
    run(async {
        let dir = TempDir::new();
        let gone = DatagramPeer::new(Datagrams::V4, &dir, "b");
        let port = gone.address().as_inet().unwrap().port();
        drop(gone);
        let socket = DatagramSocket::connect("127.0.0.1", port).await?;
        for _ in 0..100 {
            socket.send(b"anybody?")?;
            socket.flush().await?;
            yield_now().await;
        }
        let mut errors = 0;
        while poll_once(pin!(socket.recv_from())).is_ready() {
            errors += 1;
        }
        assert!((1..=16).contains(&errors), "{errors}");
        Ok(())
    });
}

#[test]
fn what_a_coalesced_read_brought_is_read_in_order_also_when_too_much_waits_unread() {
    run(async {
        let options = DatagramOptions::new("127.0.0.1:0").receive_buffer(1 << 20);
        let socket = DatagramSocket::bind(options.coalesce(true))?;
        let port = socket.local_addr().as_inet().unwrap().port();
        let sender = DatagramSocket::connect("127.0.0.1", port).await?;
        // Each run is one call, and the third fills what may wait unread.
        for number in 0..150 {
            sender.send(&[number; 1_200])?;
        }
        sender.flush().await?;
        while socket.transport().is_reading() {
            yield_now().await;
        }
        for number in 0..150 {
            let (data, _) = socket.recv_from().await?;
            assert_eq!((data[0], data.len()), (number, 1_200));
        }
        Ok(())
    });
}
