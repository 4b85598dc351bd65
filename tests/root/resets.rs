//! Connections of the example server that the kernel resets in mid traffic: ss(8) has it do that
//! to a chosen socket, of either end. TCP only: there is no such thing for Unix sockets.

use std::io::ErrorKind;
use support::Kind;
use support::root::{Client, Crowd, Mode, Server, Traffic, output_of, wait_until};

const AFTERWARDS: Traffic = Traffic {
    clients: 10,
    messages: 2,
    most: 10_000,
    late: false,
};

/// Resets the connected socket that has these two ports.
#[track_caller]
fn kill(own: u16, peer: u16) {
    let socket = format!("( sport = :{own} and dport = :{peer} )");
    destroy("established", &socket);
}

/// Has the kernel destroy the socket that is in this state; exactly one was there.
#[track_caller]
fn destroy(state: &str, socket: &str) {
    let killed = output_of("ss", &["-K", "-H", "-n", "-t", "state", state, socket]);
    assert_eq!(
        killed.lines().count(),
        1,
        "ss -K {socket} answers {killed:?}; has this kernel no CONFIG_INET_DIAG_DESTROY?"
    );
}

fn port(server: &Server) -> u16 {
    server.address().as_inet().expect("a TCP address").port()
}

#[test]
fn a_reset_ends_the_connection_it_is_for_at_both_ends_and_no_other() {
    const CLIENTS: usize = 50;
    for mode in Mode::ALL {
        let server = Server::start(Kind::Tcp, mode);
        let port = port(&server);
        let ends = Crowd::around(&server, CLIENTS as u64, 20_000, |crowd| {
            for i in (0..CLIENTS).step_by(10) {
                kill(port, crowd.port(i));
                kill(crowd.port(i + 5), port);
            }
            wait_until("ten have ended at the server", || {
                server.connections() <= CLIENTS - 10
            });
            crowd.goes_on(10);
            assert_eq!(server.connections(), CLIENTS - 10);
        });
        for (i, end) in ends.into_iter().enumerate() {
            let expected = match i % 10 {
                0 => Err(ErrorKind::ConnectionReset),
                5 => Err(ErrorKind::ConnectionAborted),
                _ => Ok(()),
            };
            assert_eq!(end.map_err(|error| error.kind()), expected, "client {i}");
        }
        AFTERWARDS.verify(&server);
        server.assert_is_well();
        server.assert_lines(0);
    }
}

#[test]
fn a_reset_is_noticed_on_a_connection_that_is_not_read_from() {
    for mode in Mode::ALL {
        let server = Server::start(Kind::Tcp, mode);
        let port = port(&server);
        let mut clients: Vec<_> = (0..3)
            .map(|number| Client::connect(server.address(), number).unwrap())
            .collect();
        for client in &mut clients {
            client.flood().unwrap();
        }
        // One from either end.
        kill(port, clients[0].port().unwrap());
        kill(clients[1].port().unwrap(), port);
        wait_until("both have ended at the server", || {
            server.connections() <= 1
        });
        assert_eq!(clients[0].error().kind(), ErrorKind::ConnectionReset);
        assert_eq!(clients[1].error().kind(), ErrorKind::ConnectionAborted);
        let mut newcomer = Client::connect(server.address(), 3).unwrap();
        newcomer.exchange(100_000).unwrap();
        assert_eq!(server.connections(), 2, "the third was ended too");
        server.assert_sleeps(&mut newcomer);
        drop((newcomer, clients));
        AFTERWARDS.verify(&server);
        server.assert_is_well();
        server.assert_lines(0);
    }
}

#[test]
fn a_listener_that_the_kernel_has_taken_away_costs_no_work_and_one_line() {
    let server = Server::start(Kind::Tcp, Mode::Protocol);
    let mut client = Client::connect(server.address(), 0).unwrap();
    client.exchange(1).unwrap();
    destroy("listening", &format!("sport = :{}", port(&server)));
    wait_until("noticed", || !server.lines().is_empty());
    server.assert_sleeps(&mut client);
    client.exchange(100_000).unwrap();
    client.half_close().unwrap();
    server.assert_lines(1);
}
