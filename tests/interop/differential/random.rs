//! Random scripts, of operations that mean the same in both worlds, and the rules for what differs
//! in their traces all the same.

use super::{Both, Script};
use support::Rng;

/// The calls that a script may still make without a deviation that no rule below covers.
struct Writer {
    rng: Rng,
    keep_open: bool,
    clogged: bool,
    /// Reading is paused, or may be by a callback.
    paused: bool,
    pauses_itself: bool,
    /// The peer has ended its side.
    peer_ended: bool,
    peer_gone: bool,
    wrote: bool,
    wrote_eof: bool,
    steps: Vec<String>,
}

/// Returns `count` scripts for each kind of socket, always the same.
pub(crate) fn random_scripts(count: usize) -> Vec<Script> {
    let texts = (0..count as u64).map(|seed| Writer::new(seed).script());
    texts
        .collect::<Vec<_>>()
        .iter()
        .flat_map(|text| Script::on_all(text))
        .collect()
}

impl Writer {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            keep_open: rng.below(3) == 0,
            clogged: rng.below(2) == 0,
            rng,
            paused: false,
            pauses_itself: false,
            peer_ended: false,
            peer_gone: false,
            wrote: false,
            wrote_eof: false,
            steps: Vec::new(),
        }
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.below(all.len())]
    }

    fn script(mut self) -> String {
        for (wanted, word) in [(self.keep_open, "eof keep"), (self.clogged, "clogged")] {
            if wanted {
                self.steps.push(word.to_owned());
            }
        }
        if self.rng.below(3) == 0 {
            self.steps.push("buffered".to_owned());
        }
        for name in [
            "made",
            "data",
            "eof",
            "pause_writing",
            "resume_writing",
            "lost",
        ] {
            if self.rng.below(6) == 0 {
                let call = self.hooked(name);
                self.steps.push(format!("on {name} {call}"));
            }
        }
        for _ in 0..4 + self.rng.below(9) {
            let step = self.step();
            self.steps.extend(step);
        }
        if self.steps.iter().all(|step| step.starts_with("on ")) {
            self.steps.push("settle".to_owned());
        }
        self.steps.join("; ")
    }

    /// A call for a callback. With a kept-open end of stream, reading and our own end of stream
    /// are left alone: there the worlds differ. In connection_made versions of CPython do.
    fn hooked(&mut self, name: &str) -> String {
        let all = if self.keep_open || name == "made" {
            4
        } else {
            7
        };
        match self.rng.below(all) {
            0 | 1 => {
                self.wrote = true;
                format!("put {}", self.one_of(&[1, 100, 2000]))
            }
            2 => "close".to_owned(),
            3 => "abort".to_owned(),
            4 => {
                self.wrote_eof = true;
                "put_eof".to_owned()
            }
            5 => {
                self.pauses_itself = true;
                "pause".to_owned()
            }
            _ => "resume".to_owned(),
        }
    }

    /// Large writes only while nothing drains, so that what is buffered is known; an empty one is
    /// an error for asyncio after the end of the stream, for us it is nothing.
    fn put(&mut self) -> String {
        self.wrote = true;
        let len = match (self.rng.below(6), self.clogged) {
            (0, _) if !self.wrote_eof => 0,
            (_, true) => self.one_of(&[1, 100, 5000, 20_000, 70_000]),
            (_, false) => self.one_of(&[1, 100, 2000]),
        };
        format!("put {len}")
    }

    fn step(&mut self) -> Option<String> {
        let step = match self.rng.below(20) {
            0..=4 => return Some(self.put()),
            5 if !self.peer_gone => format!("peer sends {}", self.one_of(&[1, 100, 3000])),
            6 | 7 if !self.peer_ended => format!("peer sends {}", self.one_of(&[1, 50, 2000])),
            8 if !self.keep_open || !self.peer_ended => {
                self.paused = true;
                "pause".to_owned()
            }
            9 | 10 => {
                self.paused = self.pauses_itself;
                "resume".to_owned()
            }
            11 | 12 => {
                self.clogged = false;
                "peer reads".to_owned()
            }
            13 => "peer stops".to_owned(),
            // Later they might raise the marks of a paused transport.
            14 | 15 if !self.wrote => {
                let marks = ["100 10", "0 -", "70000 -", "- 1000", "5 6", "100000 70000"];
                format!("limits {}", self.one_of(&marks))
            }
            16 if !self.keep_open || !self.peer_ended => {
                self.wrote_eof = true;
                "put_eof".to_owned()
            }
            17 if !(self.peer_ended || self.keep_open && self.wrote_eof) => {
                self.peer_ended = true;
                "peer shuts".to_owned()
            }
            18 if !self.peer_ended && !self.keep_open && !self.paused && !self.pauses_itself => {
                (self.peer_ended, self.peer_gone) = (true, true);
                self.one_of(&["peer closes", "peer resets"]).to_owned()
            }
            19 => self.one_of(&["close", "abort"]).to_owned(),
            _ => return None,
        };
        Some(step)
    }
}

/// Takes what the rules explain out of both traces.
pub(crate) fn explain(both: &mut Both) {
    let Both { asyncio, ours, .. } = both;
    let mut was_closing = false;
    for theirs in asyncio.iter_mut() {
        // Once it is closing, our protocol is told of its end and of nothing else.
        if was_closing {
            *theirs = without_resume(theirs);
        }
        was_closing = theirs.contains("[closing");
    }
    // An end that asyncio came to by itself it does not know of in abort.
    for theirs in asyncio.iter_mut() {
        *theirs = theirs.replace("abort error [lost]", "abort ok [lost]");
    }
    // An end that loses bytes is a reset of ours, and none of asyncio's.
    let is_cut = lost_bytes(ours);
    if let (Some(theirs), Some(ours)) = (asyncio.last_mut(), ours.last_mut())
        && is_cut
        && let (Some(more), Some(got)) = (peer_got(theirs, "eof"), peer_got(ours, "reset"))
        && got <= more
    {
        theirs.clone_from(ours);
    }
    // asyncio closes with input unread, so that the kernel resets the connection.
    if let (Some(theirs), Some(ours)) = (asyncio.last_mut(), ours.last_mut())
        && let (Some(got), Some(more)) = (peer_got(theirs, "reset"), peer_got(ours, "eof"))
        && got <= more
    {
        theirs.clone_from(ours);
    }
}

/// Whether bytes were buffered when the connection was lost, or written in the step that lost it.
fn lost_bytes(trace: &[String]) -> bool {
    let Some(at) = trace.iter().position(|line| line.ends_with("[lost]")) else {
        return false;
    };
    let wrote = ["put ok", "pause_writing"];
    let buffered = at > 0 && !trace[at - 1].ends_with(" 0]");
    buffered || wrote.iter().any(|word| trace[at].contains(word))
}

/// The line without `resume_writing` and the call that is made in it.
fn without_resume(line: &str) -> String {
    let mut events: Vec<_> = line.split(", ").collect();
    if let Some(at) = events.iter().position(|event| *event == "resume_writing") {
        events.remove(at);
        if !events[at].starts_with("lost") {
            events.remove(at);
        }
    }
    events.join(", ")
}

/// Returns the bytes that the peer got, if this is how it ended.
fn peer_got(line: &str, end: &str) -> Option<u64> {
    let (_, peer) = line.split_once("peer got ")?;
    let (count, rest) = peer.split_once(", ")?;
    rest.starts_with(end).then(|| count.parse().ok())?
}
