//! The example `udp_echo` while its system calls fail: strace(1) sees to that. An error costs the datagram that it
//! strikes, and no other.

use support::datagrams::{DatagramPeer, Datagrams};
use support::root::{Server, wait_until};
use support::{Kind, TempDir, each_kind};
use tidegate::Address;

/// A peer of a server, and datagrams to it of which no two have one length.
struct Scene {
    server: Server,
    peer: DatagramPeer,
    _dir: TempDir,
}

const COUNT: usize = 20;

impl Scene {
    fn new(kind: Kind, injections: &[&str]) -> Self {
        let dir = TempDir::new();
        let wire = match kind {
            Kind::Unix => Datagrams::Unix,
            _ => Datagrams::V4,
        };
        Self {
            server: Server::of_datagrams_traced(kind, injections),
            peer: DatagramPeer::new(wire, &dir, "peer"),
            _dir: dir,
        }
    }

    /// Sends all of them, but at most 5 that wait for a reply: a Unix socket takes no more than 10. Those with these
    /// numbers, from 1, get none.
    fn echo_all_but(&self, lost: &[usize]) {
        let mut awaited = Vec::new();
        for number in 1..=COUNT {
            self.peer
                .send_to(&vec![number as u8; number], self.address());
            if !lost.contains(&number) {
                awaited.push(number);
            }
            if awaited.len() == 5 || number == COUNT {
                for number in awaited.drain(..) {
                    assert_eq!(self.peer.receive(), vec![number as u8; number]);
                }
            }
        }
    }

    fn address(&self) -> &Address {
        self.server.address()
    }
}

each_kind!(a_send_without_memory_costs_its_datagram_and_no_other);
fn a_send_without_memory_costs_its_datagram_and_no_other(kind: Kind) {
    for error in ["ENOBUFS", "ENOMEM"] {
        let scene = Scene::new(kind, &[&format!("sendto:error={error}:when=3+5")]);
        scene.echo_all_but(&[3, 8, 13, 18]);
        let lines = scene.server.lines();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        for (line, len) in lines.iter().zip([3, 8, 13, 18]) {
            assert!(
                line.contains(&format!("a datagram of {len} bytes")),
                "{line}"
            );
        }
        let calls = scene.server.calls();
        assert_eq!(calls["sendto"], COUNT, "a send was made again: {calls:?}");
    }
}

each_kind!(an_error_of_receiving_is_told_and_costs_nothing);
fn an_error_of_receiving_is_told_and_costs_nothing(kind: Kind) {
    for error in ["ECONNREFUSED", "ENOMEM", "EHOSTUNREACH"] {
        let scene = Scene::new(kind, &[&format!("recvfrom:error={error}:when=2+4")]);
        scene.echo_all_but(&[]);
        let lines = scene.server.lines().len();
        let injected = scene.server.injected()["recvfrom"];
        assert!(
            injected >= 5 && lines + 1 >= injected,
            "{lines} lines, {injected}"
        );
    }
}

each_kind!(a_call_for_datagrams_that_a_signal_interrupts_is_made_again);
fn a_call_for_datagrams_that_a_signal_interrupts_is_made_again(kind: Kind) {
    let calls = ["recvfrom", "sendto", "epoll_wait"];
    let injections = calls.map(|call| format!("{call}:error=EINTR:when=1+3"));
    let scene = Scene::new(kind, &injections.each_ref().map(String::as_str));
    scene.echo_all_but(&[]);
    scene.server.assert_lines(0);
    let injected = scene.server.injected();
    assert!(calls.iter().all(|call| injected[*call] > 0), "{injected:?}");
}

each_kind!(a_socket_that_is_of_no_more_use_ends_its_endpoint);
fn a_socket_that_is_of_no_more_use_ends_its_endpoint(kind: Kind) {
    for error in ["EBADF", "ENOTSOCK", "EINVAL", "EFAULT"] {
        let scene = Scene::new(kind, &[&format!("recvfrom:error={error}:when=1")]);
        let before = scene.server.descriptor_numbers().len();
        scene.peer.send_to(b"x", scene.address());
        // It lets go of the socket at once, and of nothing else.
        wait_until("the endpoint ended", || {
            scene.server.descriptor_numbers().len() < before
        });
    }
}

/// The number of calls that sent several datagrams each, in a burst, after those with which the server asked whether
/// the kernel cuts datagrams.
fn runs(injections: &[&str]) -> usize {
    const BURST: usize = 200;
    let scene = Scene::new(Kind::Tcp, injections);
    for i in 0..BURST {
        scene.peer.send_to(&[i as u8; 100], scene.address());
    }
    for i in 0..BURST {
        assert_eq!(scene.peer.receive(), [i as u8; 100]);
    }
    let calls = scene.server.calls();
    calls["sendmsg"] - 2
}

#[test]
fn a_kernel_that_ignores_segmentation_gets_each_datagram_by_itself() {
    // A delay of nothing has strace look at the call.
    assert!(runs(&["sendmsg:delay_exit=0"]) > 0);
    // The first one is malformed: one that ignores that looks at the address.
    assert_eq!(runs(&["sendmsg:error=EACCES:when=1"]), 0);
}

#[test]
fn a_kernel_that_refuses_segmentation_gets_each_datagram_by_itself() {
    // Of the first run that fails each datagram is sent by itself, and all that come later are.
    assert_eq!(runs(&["sendmsg:error=EIO:when=3+1"]), 1);
}
