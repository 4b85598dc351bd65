//! Harm to the example server's process as a whole: its limits are changed, it is
//! stopped and continued.

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use std::time::Duration;
use support::root::{Client, Crowd, Mode, Server, wait_until};
use support::{Kind, each_kind};

each_kind!(a_backlog_is_served_once_the_limit_on_descriptors_is_raised);
fn a_backlog_is_served_once_the_limit_on_descriptors_is_raised(kind: Kind) {
    let server = Server::start(kind, Mode::Protocol);
    let mut established = Client::connect(server.address(), 0).unwrap();
    established.exchange(1).unwrap();
    let taken = server.descriptor_numbers();
    let free = (0..).find(|number| !taken.contains(number)).unwrap();
    let set_limit = |limit| prlimit(Some(server.pid()), Resource::Nofile, limit).unwrap();
    let before = set_limit(Rlimit {
        current: Some(free),
        maximum: getrlimit(Resource::Nofile).maximum,
    });

    let mut waiting: Vec<_> = (1..=10)
        .map(|number| {
            let mut client = Client::connect(server.address(), number).unwrap();
            client.send(1000).unwrap();
            client
        })
        .collect();
    established.exchange(100_000).unwrap();
    // A few tries in a second are not much to do.
    server.assert_sleeps(&mut waiting[0]);
    established.exchange(100_000).unwrap();
    assert_eq!(server.connections(), 1);

    set_limit(before);
    for client in &mut waiting {
        client.receive(1000).unwrap();
        client.exchange(50_000).unwrap();
    }
    drop((established, waiting));
    server.assert_is_well();
    // That it ran out, and that this is over.
    server.assert_lines(2);
}

each_kind!(a_server_that_is_stopped_in_mid_traffic_goes_on_where_it_was);
fn a_server_that_is_stopped_in_mid_traffic_goes_on_where_it_was(kind: Kind) {
    for mode in Mode::ALL {
        let server = Server::start(kind, mode);
        let ends = Crowd::around(&server, 20, 200_000, |crowd| {
            for freeze in 1..=4 {
                server.signal(Signal::STOP);
                wait_until("stopped", || server.is_stopped());
                let mut newcomer = Client::connect(server.address(), 100 * freeze).unwrap();
                newcomer.send(1000).unwrap();
                // The others fill the kernel's buffers.
                newcomer.assert_hears_nothing(Duration::from_millis(100));
                server.signal(Signal::CONT);
                newcomer.receive(1000).unwrap();
                newcomer.half_close().unwrap();
                crowd.goes_on(0);
            }
        });
        let failed: Vec<_> = ends.iter().filter(|end| end.is_err()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        server.assert_is_well();
        server.assert_lines(0);
    }
}
