//! A server that says good bye after ten minutes of silence, tested in milliseconds.
//!
//! Run, and run its tests, which are at the end of this file:
//!
//!     cargo run --example virtual_time
//!     cargo test --example virtual_time
//!
//! Expect what a client says and hears in eleven minutes of a simulated world, and a last line
//! with these minutes and the few milliseconds that they took.

use std::process::ExitCode;
use std::time::{Duration, Instant};
use tidegate::{CallbackHandle, Closed, Protocol, Result, Transport};
use tidegate_examples::{Args, exit_code, say};
use tidegate_testkit::pair;

const PATIENCE: Duration = Duration::from_secs(600);

/// Echoes, and hangs up on a peer that has said nothing for ten minutes.
#[derive(Default)]
struct Patient {
    timer: Option<CallbackHandle>,
}

impl Patient {
    fn wait(&mut self, transport: &Transport) {
        let timer = transport.call_later(PATIENCE, |_: &mut Self, transport| {
            transport.write(b"good bye\n")?;
            transport.close();
            Ok(())
        });
        if let Some(before) = self.timer.replace(timer) {
            before.cancel();
        }
    }
}

impl Protocol for Patient {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.wait(transport);
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.wait(transport);
        transport.write(data)?;
        Ok(())
    }
}

/// Says hello once, a minute after the connection was made.
struct Client;

impl Protocol for Client {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.call_later(Duration::from_secs(60), |_: &mut Self, transport| {
            say!("Send: 'hello'");
            transport.write(b"hello\n")?;
            Ok(())
        });
        Ok(())
    }

    /// These few bytes come in one piece here.
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
        say!("Received: '{}'", String::from_utf8_lossy(data).trim_end());
        Ok(())
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        say!("{closed}");
    }
}

fn run() -> Result {
    Args::from_env(&[])?;
    let start = Instant::now();
    let mut pair = pair(Client, Patient::default())?;
    pair.run_until_idle()?;
    let (virtual_time, real) = (pair.elapsed().as_secs(), start.elapsed().as_millis());
    say!("{virtual_time} s of virtual time in {real} ms");
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_testkit::{Conversation, Script, check_protocol};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_hangs_up_after_ten_minutes_of_silence_and_not_before() {
        let played = Script::new()
            .expect_nothing(PATIENCE - SECOND)
            .send("still here\n")
            .expect("still here\n")
            .expect_nothing(PATIENCE - SECOND)
            .wait(SECOND)
            .expect("good bye\n")
            .expect_eof()
            .play(Patient::default())
            .unwrap();
        assert!(played.closed().unwrap().is_clean());
        assert_eq!(played.elapsed(), PATIENCE * 2 - SECOND);
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_come_or_where_the_peer_breaks_off() {
        let conversation = Conversation::new().say("hello\nworld\n");
        let report = check_protocol(Patient::default, &conversation).unwrap();
        assert!(report.runs() > 2000);
    }
}
