//! The protocols of this workspace in every way in which a peer may talk to them.

use support::{Log, Recorder};
use tidegate::{Protocol, Result, Transport};
use tidegate_framing::{Decode, Fixed, LengthPrefix, Lines, Netstring, Prefix, framed};
use tidegate_service::{Bucket, ProxyProtocol, Throttle};
use tidegate_testkit::{Conversation, check_protocol};

const HEADER: &str = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
const LINES: &str = "one\nthree\n\nlonger than the others\n";
const REPLIES: &str = "3 one 5 three 0  22 longer than the others ";

/// Replies to each frame with its length and itself.
fn counted<C>(codec: C) -> impl Protocol
where
    C: for<'a> Decode<Frame<'a> = &'a [u8]> + 'static,
{
    framed(codec, |transport: &Transport, frame: &[u8]| -> Result {
        write!(transport, "{} ", frame.len())?;
        transport.write(frame)?;
        transport.write(b" ")?;
        Ok(())
    })
}

#[track_caller]
fn check<P: Protocol>(factory: fn() -> P, said: impl AsRef<[u8]>) {
    let conversation = Conversation::new().say(said).answer(REPLIES);
    // A frame, or a header, of which the end is missing is an error; the last line needs no end.
    let conversation = conversation.may_fail_when_cut_short();
    let report = check_protocol(factory, &conversation.may_answer_when_cut_short()).unwrap();
    assert!(report.pauses() > 0, "{report}");
}

fn framed_as(frame: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    LINES.lines().flat_map(frame).collect()
}

#[test]
fn framed_protocols_keep_the_rules_for_every_way_in_which_a_peer_may_talk() {
    check(|| counted(Lines::new()), LINES);
    check(
        || counted(Netstring::new()),
        framed_as(|line| format!("{}:{line},", line.len()).into_bytes()),
    );
    check(
        || counted(LengthPrefix::new(Prefix::Big(1))),
        framed_as(|line| [&[line.len() as u8], line.as_bytes()].concat()),
    );
}

#[test]
fn a_throttled_protocol_keeps_the_rules_for_every_way_in_which_a_peer_may_talk() {
    check(
        || Throttle::new(Bucket::new(10, 4), counted(Lines::new())),
        LINES,
    );
}

#[test]
fn a_protocol_behind_a_proxy_keeps_the_rules_for_every_way_in_which_a_peer_may_talk() {
    let said = format!("{HEADER}{LINES}");
    check(
        || ProxyProtocol::new(|_| counted(Lines::new())),
        said.as_bytes(),
    );
    check(
        || {
            let throttled = |_: &_| Throttle::new(Bucket::new(10, 4), counted(Lines::new()));
            ProxyProtocol::new(throttled)
        },
        said.as_bytes(),
    );
}

#[test]
fn an_echo_keeps_the_rules_with_a_buffer_of_its_own_and_in_frames() {
    let conversation = Conversation::new().say(LINES).answer(LINES);
    check_protocol(|| Recorder::echo(&Log::new()), &conversation).unwrap();
    let bytes = || {
        framed(Fixed::new(1), |transport, byte| {
            transport.write(byte)?;
            Ok(())
        })
    };
    check_protocol(bytes, &conversation).unwrap();
}
