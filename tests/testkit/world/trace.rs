//! The trace of a world, with the bytes of connections and without.

use support::{Log, Recorder};
use tidegate_testkit::{Trace, World};

/// A world of one seed in which a peer sends something, and gets it back.
fn trace_of(message: &[u8], only_lengths: bool) -> Trace {
    let mut world = World::builder()
        .trace(true)
        .trace_lengths(only_lengths)
        .build();
    let host = world.add_host("host").unwrap();
    let factory = || Recorder::echo(&Log::new());
    host.handle().create_server(host.addr(7), factory).unwrap();
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.run_until_idle().unwrap();
    peer.send(message).unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(peer.take(), message);
    world.trace()
}

#[test]
fn of_two_runs_that_send_other_bytes_of_the_same_number_the_traces_of_lengths_are_equal() {
    let [bytes, others] = [b"one message", b"another one"].map(|sent| trace_of(sent, true));
    assert_eq!(bytes.digest(), others.digest(), "{bytes}\n{others}");
    assert_eq!(bytes.lines(), others.lines());
    assert_eq!(bytes.events(), others.events());
    // No byte is shown, and the number of them is.
    let text = bytes.to_string();
    assert!(!text.contains("message") && text.contains("11"), "{text}");
    // The default tells them apart.
    let [bytes, others] = [b"one message", b"another one"].map(|sent| trace_of(sent, false));
    assert_ne!(bytes.digest(), others.digest(), "{bytes}\n{others}");
    assert_ne!(bytes.lines(), others.lines());
    assert_eq!(bytes.events(), others.events());
}

#[test]
fn of_two_runs_that_send_another_number_of_bytes_all_traces_differ() {
    for only_lengths in [false, true] {
        let short = trace_of(b"a message", only_lengths);
        let long = trace_of(b"a message.", only_lengths);
        assert_ne!(short.digest(), long.digest(), "{short}\n{long}");
        assert_ne!(short.lines(), long.lines());
    }
}
