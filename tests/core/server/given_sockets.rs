//! Sockets that are given to a server as listeners of the standard library, which need not be any:
//! a descriptor from elsewhere can be called one.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use support::{Kind, Recorder, Served, TempDir, assert_refused, assert_serves, each_kind, settle};
use tidegate::{EventLoop, ListenOptions};

/// Calls any descriptor a listener.
fn given(kind: Kind, descriptor: impl Into<OwnedFd>) -> ListenOptions {
    let descriptor = descriptor.into();
    match kind {
        Kind::Tcp => TcpListener::from(descriptor).into(),
        Kind::Unix => UnixListener::from(descriptor).into(),
    }
}

fn unbound(kind: Kind, r#type: Type) -> Socket {
    let domain = match kind {
        Kind::Tcp => Domain::IPV4,
        Kind::Unix => Domain::UNIX,
    };
    Socket::new(domain, r#type, None).unwrap()
}

fn bound(kind: Kind, r#type: Type, dir: &TempDir) -> Socket {
    let socket = unbound(kind, r#type);
    let addr = match kind {
        Kind::Tcp => "127.0.0.1:0"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
        Kind::Unix => SockAddr::unix(dir.path("s")).unwrap(),
    };
    socket.bind(&addr).unwrap();
    socket
}

#[track_caller]
fn assert_invalid(kind: Kind, descriptor: impl Into<OwnedFd>, says: &str) {
    let mut event_loop = EventLoop::new().unwrap();
    let factory = || -> Recorder { panic!("no server") };
    let created = event_loop
        .handle()
        .create_server(given(kind, descriptor), factory);
    let error = created.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    let text = error.to_string();
    let wanted = format!("give a {kind:?} socket").replace("Tcp", "TCP");
    assert!(text.contains(says) && text.contains(&wanted), "{text}");
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().listeners, 0);
}

each_kind!(a_socket_that_is_only_bound_is_made_to_listen_when_the_server_starts);
fn a_socket_that_is_only_bound_is_made_to_listen_when_the_server_starts(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = given(kind, bound(kind, Type::STREAM, &dir)).start_serving(false);
    let served = Served::echo(event_loop.handle(), options);
    assert_refused(&served.address());
    served.server.start_serving().unwrap();
    assert_serves(&mut event_loop, &served.address());
    served.server.close();
    std::fs::remove_file(dir.path("s")).ok();
    let served = Served::echo(
        event_loop.handle(),
        given(kind, bound(kind, Type::STREAM, &dir)),
    );
    assert_serves(&mut event_loop, &served.address());
}

/// On Unix sockets, because a full TCP backlog does not tell its clients.
#[test]
fn a_socket_that_listens_keeps_its_backlog() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let socket = bound(Kind::Unix, Type::STREAM, &dir);
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap();
    let _served = Served::echo(event_loop.handle(), given(Kind::Unix, socket).backlog(100));
    let mut waiting = Vec::new();
    loop {
        let client = unbound(Kind::Unix, Type::STREAM);
        client.set_nonblocking(true).unwrap();
        if let Err(error) = client.connect(&addr) {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            break;
        }
        waiting.push(client);
        assert!(waiting.len() < 10, "there is room for more than 0");
    }
}

each_kind!(a_datagram_socket_is_no_listener);
fn a_datagram_socket_is_no_listener(kind: Kind) {
    let dir = TempDir::new();
    match kind {
        Kind::Tcp => {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            assert_invalid(kind, socket, "no stream socket");
        }
        Kind::Unix => {
            let socket = UnixDatagram::bind(dir.path("d")).unwrap();
            assert_invalid(kind, socket, "no stream socket");
            let packets = bound(kind, Type::SEQPACKET, &dir);
            packets.listen(1).unwrap();
            assert_invalid(kind, packets, "no stream socket");
        }
    }
}

each_kind!(a_socket_of_the_other_kind_is_no_listener_of_this_one);
fn a_socket_of_the_other_kind_is_no_listener_of_this_one(kind: Kind) {
    let dir = TempDir::new();
    match kind {
        Kind::Tcp => {
            let socket = UnixListener::bind(dir.path("s")).unwrap();
            assert_invalid(kind, socket, "no TCP socket");
        }
        Kind::Unix => {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            assert_invalid(kind, socket, "no Unix socket");
        }
    }
}

each_kind!(a_connected_socket_is_no_listener_and_is_to_be_adopted);
fn a_connected_socket_is_no_listener_and_is_to_be_adopted(kind: Kind) {
    match kind {
        Kind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert_invalid(kind, client, "adopt");
            assert_invalid(kind, listener.accept().unwrap().0, "adopt");
        }
        Kind::Unix => {
            let (one, _other) = UnixStream::pair().unwrap();
            assert_invalid(kind, one, "adopt");
        }
    }
}

each_kind!(a_socket_without_an_address_is_no_listener);
fn a_socket_without_an_address_is_no_listener(kind: Kind) {
    assert_invalid(kind, unbound(kind, Type::STREAM), "not bound");
}

each_kind!(a_descriptor_that_is_no_socket_is_no_listener);
fn a_descriptor_that_is_no_socket_is_no_listener(kind: Kind) {
    assert_invalid(kind, File::open("/dev/null").unwrap(), "is none");
}
