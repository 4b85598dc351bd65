//! Protocols whose peer reads late or slowly: what they may write while they are paused.

use super::right::Lines;
use super::{assert_caught, caught, lines};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder, Seen};
use tidegate::{OnEof, OnPause, Protocol, Result, Transport};
use tidegate_testkit::{Conversation, Rule, check_case, check_handler, check_protocol};

/// Keeps its replies while it is paused, and reads on.
#[derive(Default)]
struct Holds {
    held: Vec<u8>,
    has_ended: bool,
    on_resume: OnResume,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum OnResume {
    #[default]
    WritesHeld,
    LosesHeld,
    Forgets,
}

impl Holds {
    fn wrongly(on_resume: OnResume) -> Self {
        Self {
            on_resume,
            ..Self::default()
        }
    }
}

impl Protocol for Holds {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        if transport.flow().is_paused() || !self.held.is_empty() {
            self.held.extend_from_slice(data);
        } else {
            transport.write(data)?;
        }
        Ok(())
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        if self.on_resume == OnResume::Forgets {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        if self.on_resume == OnResume::WritesHeld {
            transport.write(&held)?;
        }
        if self.has_ended {
            transport.close();
        }
        Ok(())
    }

    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        self.has_ended = true;
        Ok(match self.held.is_empty() {
            true => OnEof::Close,
            false => OnEof::KeepOpen,
        })
    }
}

/// Replies to each line with as many bytes as it says, without a look at the flow.
#[derive(Default)]
struct Repeats(Lines);

impl Protocol for Repeats {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let mut next = self.0.take(data);
        while let Some(line) = next {
            let len: usize = std::str::from_utf8(&line)?.trim().parse()?;
            transport.write(&vec![b'x'; len])?;
            next = self.0.take(b"");
        }
        Ok(())
    }
}

/// Replies a moment later, also within a pause to a message from before.
struct Delays;

impl Protocol for Delays {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let reply = data.to_vec();
        let moment = Duration::from_millis(10);
        transport.call_later(moment, move |_: &mut Self, transport| {
            transport.write(&reply)?;
            Ok(())
        });
        Ok(())
    }
}

/// Writes on while it is paused.
struct WritesOn;

impl Protocol for WritesOn {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }
}

/// Writes on, and takes a write that fails for the end.
struct WritesUntilFull;

impl Protocol for WritesUntilFull {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        if transport.write(data).is_err() {
            transport.close();
        }
        Ok(())
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }
}

/// Stops reading by itself in a pause, and does not go on.
struct StaysStopped;

impl Protocol for StaysStopped {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        transport.pause_reading();
        Ok(OnPause::KeepReading)
    }
}

/// Returns the callbacks of an echo in one case.
fn echo_in(case: &str) -> Vec<Seen> {
    let logs: Rc<RefCell<Vec<Log>>> = Rc::default();
    let made = logs.clone();
    let factory = move || {
        let log = Log::new();
        made.borrow_mut().push(log.clone());
        Recorder::echo(&log)
    };
    let conversation = Conversation::new().say(b"0123456789");
    check_case(factory, &conversation, &case.parse().unwrap()).unwrap();
    // The first run is the plain one.
    logs.borrow()[1].seen()
}

#[test]
fn a_peer_that_reads_slowly_reads_only_while_the_protocol_does_not() {
    let chunks = |case| -> Vec<usize> {
        let seen = echo_in(case).into_iter();
        let lens = seen.filter_map(|seen| match seen {
            Seen::Data(data) => Some(data.len()),
            _ => None,
        });
        lens.collect()
    };
    // The second chunk comes after a pause, and before the peer has sent the third.
    assert_eq!(chunks("cut 7 9, slow 2"), [7, 2, 1]);
    assert_eq!(chunks("cut 7 9, pause 2"), [7, 3]);
    let seen = echo_in("cut 7 9, slow 2");
    let at = |what: Seen| seen.iter().position(|seen| *seen == what);
    assert!(
        at(Seen::Resume) < at(Seen::Data(b"78".to_vec())),
        "{seen:?}"
    );

    let report = check_protocol(Lines::default, &lines()).unwrap();
    assert_eq!(report.slow_readers(), report.paused());
    assert!(report.slow_readers() >= 3, "{report}");
}

#[test]
fn a_protocol_that_answers_all_of_a_read_before_it_looks_at_the_flow_passes() {
    let conversation = Conversation::new().say(b"100\n7\n300\n1\n50\n");
    check_protocol(Repeats::default, &conversation).unwrap();
}

#[test]
fn a_protocol_that_holds_its_replies_back_may_write_them_all_at_the_end_of_a_pause() {
    check_protocol(Holds::default, &lines()).unwrap();
}

#[test]
fn a_protocol_that_was_asked_before_a_pause_may_answer_within() {
    let conversation = lines().stay().wait(Duration::from_secs(1));
    check_protocol(|| Delays, &conversation.may_answer_when_cut_short()).unwrap();
}

#[test]
fn a_protocol_that_writes_on_while_it_is_paused_is_caught() {
    for factory in [
        (|| Box::new(WritesOn) as Box<dyn Protocol>) as fn() -> _,
        || Box::new(WritesUntilFull),
    ] {
        let broken = caught(factory, &lines());
        assert_eq!(broken.rule(), Rule::Flow, "{broken}");
    }
}

#[test]
fn a_handler_that_does_not_drain_is_caught() {
    let handler = async |mut reader: tidegate_streams::StreamReader,
                         writer: tidegate_streams::StreamWriter| {
        while let Some(line) = reader.lines().next().await? {
            writer.write(&line)?;
        }
        Ok(())
    };
    let broken = check_handler(handler, &lines().may_answer_when_cut_short()).unwrap_err();
    assert_eq!(broken.rule(), Rule::Flow, "{broken}");
}

#[test]
fn replies_that_are_lost_at_the_end_of_a_pause_are_caught() {
    let loses = || Holds::wrongly(OnResume::LosesHeld);
    assert_eq!(caught(loses, &lines()).rule(), Rule::Reply);
    let forgets = || Holds::wrongly(OnResume::Forgets);
    assert_eq!(caught(forgets, &lines()).rule(), Rule::Reply);
}

#[test]
fn a_protocol_that_does_not_read_again_after_a_pause_is_caught() {
    assert_caught(|| StaysStopped, &lines(), Rule::Ending, "pause 1");
}
