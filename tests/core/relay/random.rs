//! A relay between two peers that send, read and end as they like: each gets what the other sent.

use proptest::prelude::*;
use std::time::Duration;
use support::{Kind, Peer, Tied, drive, pattern, splicing_from};
use tidegate::{EventLoop, WriteLimits};

#[derive(Debug, Clone)]
enum Step {
    Send(usize, usize),
    Read(usize, usize),
    End(usize),
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![1..100_usize, 1..5000_usize, 1..300_000_usize];
    prop_oneof![
        6 => (0..2_usize, size.clone()).prop_map(|(side, len)| Step::Send(side, len)),
        3 => (0..2_usize, size).prop_map(|(side, most)| Step::Read(side, most)),
        1 => (0..2_usize).prop_map(Step::End),
        6 => Just(Step::Tick),
    ]
}

/// High, low and cap in every relation that is allowed, the cap often in the way.
fn write_limits() -> impl Strategy<Value = WriteLimits> {
    let high = prop_oneof![Just(0), 1..3000_usize, 1..100_000_usize];
    (high, 0..=4_usize, 0..3000_usize).prop_map(|(high, quarters, more)| {
        WriteLimits::new()
            .with_high(high)
            .with_low(high / 4 * quarters)
            .with_cap((high + more).max(1))
    })
}

/// How many bytes at a time are spliced: all, none, or what may come with one step and not with another.
fn splice_from() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(usize::MAX), 1..5000_usize, 5000..50_000_usize]
}

/// One peer and what it has sent, which is the pattern from its own start.
struct Sender {
    peer: Peer,
    start: u64,
    sent: usize,
    ended: bool,
}

impl Sender {
    fn run(&mut self, len: usize) {
        if !self.ended {
            let data = pattern(self.start + self.sent as u64, len);
            self.sent += self.peer.write(&data);
        }
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.peer.shutdown_write();
        }
    }
}

fn run(kind: Kind, limits: WriteLimits, buffer: usize, steps: &[Step]) {
    let mut event_loop = EventLoop::new().unwrap();
    let Tied {
        server: _server,
        front,
        back,
        reports,
        dir: _dir,
    } = Tied::with(&mut event_loop, kind, limits, |socket| {
        socket.set_send_buffer_size(buffer).unwrap();
        socket.set_recv_buffer_size(buffer).unwrap();
    });
    let mut n = 0;
    let mut sides = [front, back].map(|peer| {
        n += 1;
        Sender {
            peer,
            start: n << 40,
            sent: 0,
            ended: false,
        }
    });
    for step in steps {
        match *step {
            Step::Send(side, len) => sides[side].run(len),
            Step::Read(side, most) => {
                sides[side].peer.read_some(most);
            }
            Step::End(side) => sides[side].end(),
            Step::Tick => event_loop.run_once(Some(Duration::ZERO)).unwrap(),
        }
    }
    sides.iter_mut().for_each(Sender::end);
    drive(&mut event_loop, "both ends of stream", || {
        sides.iter_mut().for_each(|side| side.peer.read_available());
        sides.iter().all(|side| side.peer.is_ended())
    });
    let [front, back] = &sides;
    for (from, to) in [(front, back), (back, front)] {
        assert!(to.peer.saw_eof(), "{:?}", to.peer.saw_error());
        assert_eq!(to.peer.received().len(), from.sent);
        assert!(to.peer.received() == pattern(from.start, from.sent));
    }
    drive(&mut event_loop, "the report", || {
        !reports.borrow().is_empty()
    });
    let report = &reports.borrow()[0];
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.to_back.sent, front.sent as u64);
    assert_eq!(report.to_front.sent, back.sent as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn whatever_both_peers_do_until_they_end_each_gets_exactly_what_the_other_sent(
        tcp in any::<bool>(),
        splice_from in splice_from(),
        limits in write_limits(),
        buffer in prop_oneof![Just(16_384_usize), Just(65_536)],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let kind = if tcp { Kind::Tcp } else { Kind::Unix };
        splicing_from(splice_from, || run(kind, limits, buffer, &steps));
    }
}
