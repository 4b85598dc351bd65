//! Crowds of peers that send as slowly as they can, in virtual time: each is cut in its time, and others
//! are served at once.

use crate::{Note, Notes, Reader};
use std::time::Duration;
use tidegate::{ListenOptions, Result, Transport};
use tidegate_framing::{Framed, Lines, Overlong, framed};
use tidegate_testkit::{Host, Peer, World};

const FRAME: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);

/// The time that the end of a connection may take beside its limit: the ticks of the loop take none.
const STEP: Duration = Duration::from_millis(1);

/// The number of slow peers.
const CROWD: usize = 3_000;

fn echo(transport: &Transport, line: &[u8]) -> Result {
    Lines::new().write(transport, line)?;
    Ok(())
}

/// A server of lines with both limits.
struct Limited {
    world: World,
    host: Host,
    server: tidegate::Server,
}

impl Limited {
    fn new() -> Self {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let options = ListenOptions::new(host.addr(7)).idle_timeout(IDLE);
        let make = || framed(Lines::new(), echo);
        let server = host
            .handle()
            .create_server(options, move || make().frame_timeout(FRAME))
            .unwrap();
        Self {
            world,
            host,
            server,
        }
    }

    fn dial(&mut self, count: usize) -> Vec<Peer> {
        let dial = |_| self.world.network().dial(self.host.addr(7)).unwrap();
        let peers = (0..count).map(dial).collect();
        self.world.settle().unwrap();
        peers
    }

    /// A line comes back while the clock stands.
    #[track_caller]
    fn assert_serves(&mut self, peer: &Peer) {
        let now = self.world.elapsed();
        peer.send(b"ping\n").unwrap();
        self.world.settle().unwrap();
        assert_eq!(peer.take(), b"ping\n");
        assert_eq!(self.world.elapsed(), now);
    }

    #[track_caller]
    fn assert_nothing_left(&mut self) {
        self.world.settle().unwrap();
        assert_eq!(self.server.connection_count(), 0);
        let stats = self.host.handle().stats();
        assert_eq!(
            (stats.connections, stats.lingering, stats.timers),
            (0, 0, 0),
            "{stats:#?}"
        );
    }
}

#[test]
fn each_of_a_crowd_that_sends_a_byte_now_and_then_is_cut_when_its_frame_is_late() {
    let mut limited = Limited::new();
    let [good] = <[Peer; 1]>::try_from(limited.dial(1)).unwrap();
    let crowd = limited.dial(CROWD);
    let begun = limited.world.elapsed();
    // They begin one after the other, and each sends a byte a second.
    let begins = |n: usize| Duration::from_millis(n as u64);
    let (mut next, mut ended_at) = (0, vec![None; CROWD]);
    let mut last_bytes = 0;
    while ended_at.iter().any(Option::is_none) {
        let now = limited.world.elapsed() - begun;
        while next < CROWD && begins(next) <= now {
            crowd[next].send(b"x").unwrap();
            next += 1;
        }
        for (n, peer) in crowd.iter().enumerate().take(next) {
            let since = now.saturating_sub(begins(n));
            if ended_at[n].is_none() && since.subsec_millis() < 50 {
                // It may have ended in this very instant.
                last_bytes += usize::from(peer.send(b"x").is_ok());
            }
        }
        limited.world.advance(50 * STEP).unwrap();
        let now = limited.world.elapsed() - begun;
        for (n, peer) in crowd.iter().enumerate().take(next) {
            if ended_at[n].is_none() && (peer.is_ended() || peer.is_reset()) {
                ended_at[n] = Some(now);
            }
        }
        limited.assert_serves(&good);
        assert!(now < 2 * FRAME, "{} never began", CROWD - next);
    }
    assert!(last_bytes > 8 * CROWD, "{last_bytes} bytes");
    for (n, ended) in ended_at.iter().enumerate() {
        // The clock is looked at every 50 ms, before they begin and after they end.
        let lived = ended.unwrap() - begins(n);
        assert!(
            (FRAME..FRAME + 100 * STEP).contains(&lived),
            "{n}: {lived:?}"
        );
    }
    assert_eq!(limited.server.connection_count(), 1);
    drop(good);
    limited.assert_nothing_left();
}

#[test]
fn a_crowd_that_sends_nothing_or_whole_frames_is_cut_when_it_is_idle_and_not_before() {
    let mut limited = Limited::new();
    let silent = limited.dial(CROWD);
    let chatty = limited.dial(CROWD);
    for peer in &chatty {
        peer.send(b"once\n").unwrap();
    }
    limited.world.advance(IDLE - STEP).unwrap();
    assert_eq!(limited.server.connection_count(), 2 * CROWD);
    limited.world.advance(IDLE / 4 + 2 * STEP).unwrap();
    assert_eq!(limited.server.connection_count(), 0);
    drop((silent, chatty));
    limited.assert_nothing_left();
}

#[test]
fn a_frame_timeout_starts_no_timer_for_whole_frames_and_one_for_a_torn_one() {
    let mut limited = Limited::new();
    let peers = limited.dial(CROWD);
    let timers = |limited: &Limited| limited.host.handle().stats().timers;
    for peer in &peers {
        peer.send(b"one\ntwo\n").unwrap();
    }
    limited.world.settle().unwrap();
    // The sweep of the server.
    assert_eq!(timers(&limited), 1);
    for _ in 0..3 {
        for peer in &peers {
            peer.send(b"x").unwrap();
        }
        limited.world.settle().unwrap();
        assert_eq!(timers(&limited), 1 + CROWD);
    }
    drop(peers);
    limited.assert_nothing_left();
}

/// A server that skips lines above ten bytes, and a peer of it.
fn skips_long_lines() -> (World, Peer) {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let lines = || Lines::new().max(10).overlong(Overlong::Skip);
    let make = move || framed(lines(), echo).frame_timeout(FRAME);
    host.handle().create_server(host.addr(7), make).unwrap();
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.settle().unwrap();
    (world, peer)
}

#[test]
fn a_line_that_is_skipped_and_does_not_end_in_time_ends_the_connection() {
    let (mut world, peer) = skips_long_lines();
    let begun = world.elapsed();
    while !peer.is_ended() && !peer.is_reset() {
        // After the end it is refused.
        let _ = peer.send(b"twelve bytes");
        world.advance(FRAME / 10).unwrap();
        let lived = world.elapsed() - begun;
        assert!(lived <= FRAME + STEP, "{lived:?}");
    }
    assert!(world.elapsed() - begun >= FRAME);
}

#[test]
fn skipped_lines_that_each_end_in_time_are_not_late_however_many_come_without_a_break() {
    let (mut world, peer) = skips_long_lines();
    for _ in 0..20 {
        // The end of one, and the begin of the next: a line is always being skipped.
        peer.send(b"is the end\nof a line, which").unwrap();
        world.advance(FRAME / 2).unwrap();
    }
    peer.send(b"\nbe").unwrap();
    world.advance(FRAME - STEP).unwrap();
    peer.send(b"gin\n").unwrap();
    world.settle().unwrap();
    assert_eq!(peer.take(), b"is the end\nbegin\n");
    // Between two lines there is no limit.
    world.advance(10 * FRAME).unwrap();
    peer.send(b"end\n").unwrap();
    world.settle().unwrap();
    assert_eq!(peer.take(), b"end\n");
}

/// Notes of a failure show that the time was over, and that no frame came.
#[test]
fn a_frame_that_comes_whole_at_the_last_instant_is_in_time() {
    for late in [false, true] {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let notes = Notes::default();
        let noted = notes.clone();
        let make = move || Framed::new(Reader::new(Lines::new(), &noted)).frame_timeout(FRAME);
        host.handle().create_server(host.addr(7), make).unwrap();
        let peer = world.network().dial(host.addr(7)).unwrap();
        world.settle().unwrap();
        peer.send(b"to").unwrap();
        world.settle().unwrap();
        world.advance(FRAME - STEP).unwrap();
        if late {
            world.advance(STEP).unwrap();
        }
        // After its end it is refused.
        let _ = peer.send(b"rn\n");
        world.settle().unwrap();
        let failed = notes.failed();
        assert_eq!(failed.len(), usize::from(late), "{failed:?}");
        assert_eq!(notes.has(&Note::Frame(b"torn".to_vec())), !late);
    }
}
