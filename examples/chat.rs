//! A chat by lines: the first line of a member is its nickname, every other goes to all the rest.
//! Worth copying: state that connections share, a limit for lines, members that read too slowly or send
//! too fast, and an error of one that stays its own.
//!
//! Run:
//!
//!     cargo run --example chat -- --listen 127.0.0.1:8888
//!
//! Expect `listening on 127.0.0.1:8888`; then run `nc 127.0.0.1 8888` in some terminals, give each
//! a nickname and type. Lines that begin with `*` are the server's, with `!` its refusals. Stop one
//! of them with Ctrl-Z and send much with another (`(echo bot; seq 2000000) | nc 127.0.0.1 8888`):
//! the stopped one is disconnected, and the log names it and counts what it did not get. Ctrl-C
//! ends the server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{
    CallbackHandle, CloseReason, Closed, EventLoop, ListenOptions, OnEof, OnPause, Protocol,
    Result, Transport, WriteError, WriteLimits,
};
use tidegate_examples::{exit_code, listen_from_args, print_addresses};

/// Maximum length of a line in bytes, with its end.
const MAX_LINE: usize = 1024;
const MAX_NICKNAME: usize = 16;

/// Above this a member counts as behind, and must catch up within `PATIENCE`.
const HIGH: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(3);
/// A member this far behind is cut at once. So its memory is bounded: by this and one more write.
const CAP: usize = 1 << 20;

/// A member that has sent this number of bytes is not read for a moment; others could not keep up.
const BURST: usize = 64 << 10;
const REST: Duration = Duration::from_millis(50);

/// Maximum time that a leaving member takes to read the rest.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The members, by nickname.
///
/// All members share it in a plain `Rc<RefCell<_>>`, and hold a borrow while they write to each other,
/// abort each other, or ask a transport. That is safe because none of these calls back: the loop delivers
/// the effects of a write later, when the running callback has returned and its borrow is over.
///
/// The members hold the room and the room their transports. `connection_lost`, which always comes,
/// takes them apart.
#[derive(Default)]
struct Room {
    members: BTreeMap<String, Transport>,
}

impl Room {
    fn tell_all_but(&self, nickname: &str, text: &str) {
        for (name, transport) in &self.members {
            if name != nickname {
                tell(transport, text);
            }
        }
    }
}

/// Writes to a member, in the callback of any.
///
/// There is no `?` here. An error that a callback returns ends the connection of that callback: the
/// speaker's, when a listener has failed. So each write is judged alone.
fn tell(transport: &Transport, text: &str) {
    match transport.write(text.as_bytes()) {
        // Taken. If it is now behind, its own `pause_writing` is called and sees to that.
        Ok(_) => {}
        // `CAP` is reached.
        Err(WriteError::BufferFull { .. }) => transport.abort(),
        // It is ending or has ended, and its own `connection_lost` is on its way.
        Err(_) => {}
    }
}

/// Whether a terminal only draws the character: control characters move the cursor, and the format
/// characters of Unicode hide text or turn its direction, as U+202E does.
fn is_harmless(c: char) -> bool {
    let is_format = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_control() && !is_format
}

struct Member {
    room: Rc<RefCell<Room>>,
    nickname: Option<String>,
    /// A line that has not ended yet.
    line: Vec<u8>,
    /// Bytes received since the last rest.
    burst: usize,
    patience: Option<CallbackHandle>,
}

impl Member {
    fn new(room: &Rc<RefCell<Room>>) -> Self {
        Self {
            room: room.clone(),
            nickname: None,
            line: Vec::new(),
            burst: 0,
            patience: None,
        }
    }

    fn join(&mut self, transport: &Transport, nickname: String) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if nickname.is_empty() || nickname.len() > MAX_NICKNAME || !nickname.chars().all(allowed) {
            let rule = format!("! 1 to {MAX_NICKNAME} letters, digits, - and _; try again\n");
            return tell(transport, &rule);
        }
        let mut room = self.room.borrow_mut();
        if room.members.contains_key(&nickname) {
            return tell(transport, &format!("! {nickname} is taken; try again\n"));
        }
        room.tell_all_but(&nickname, &format!("* {nickname} joined\n"));
        let here: Vec<_> = room.members.keys().map(String::as_str).collect();
        let here = here.join(" ");
        tell(transport, &format!("* welcome, {nickname}; here: {here}\n"));
        room.members.insert(nickname.clone(), transport.clone());
        self.nickname = Some(nickname);
    }
}

impl Protocol for Member {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        tell(transport, "* your nickname?\n");
        Ok(())
    }

    /// There may be a part of a line in `data`, or many.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let mut said = String::new();
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + piece.len() > MAX_LINE {
                tell(transport, &format!("! over {MAX_LINE} bytes in a line\n"));
                // Not `abort`: it is to read why. Not `close` alone: it might never read.
                transport.close_within(LAST_WORDS);
                break;
            }
            self.line.extend_from_slice(piece);
            if !piece.ends_with(b"\n") {
                break;
            }
            let line = String::from_utf8_lossy(&self.line);
            let text: String = line.chars().filter(|&c| is_harmless(c)).collect();
            self.line.clear();
            match &self.nickname {
                None => self.join(transport, text),
                Some(_) if text.is_empty() => {}
                Some(nickname) => writeln!(said, "{nickname}: {text}")?,
            }
        }
        if let Some(nickname) = &self.nickname {
            self.room.borrow().tell_all_but(nickname, &said);
        }
        self.burst += data.len();
        if self.burst >= BURST {
            self.burst = 0;
            transport.pause_reading();
            transport.call_later(REST, |_: &mut Self, transport| {
                transport.resume_reading();
                Ok(())
            });
        }
        Ok(())
    }

    /// Reads on. A server that replies to its peer stops reading here, and so writes no more replies. But
    /// the others fill a member's buffer: without reading, the member would be mute, and its leaving
    /// unseen. The buffer is bounded because a member that stays behind is cut.
    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        let give_up = |_: &mut Self, transport: &Transport| {
            transport.abort();
            Ok(())
        };
        self.patience = Some(transport.call_later(PATIENCE, give_up));
        Ok(OnPause::KeepReading)
    }

    /// It has caught up.
    fn resume_writing(&mut self, _: &Transport) -> Result {
        if let Some(patience) = self.patience.take() {
            patience.cancel();
        }
        Ok(())
    }

    /// The default would wait for ever for a peer that ended its side and does not read.
    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        transport.close_within(LAST_WORDS);
        Ok(OnEof::Close)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let peer = transport.peer_addr();
        let name = self.nickname.as_deref().unwrap_or("(no nickname)");
        match closed.reason() {
            CloseReason::LocalAbort | CloseReason::Timeout(_) => {
                let unsent = closed.unsent();
                log::warn!("{name} at {peer} read too slowly: cut, {unsent} bytes unsent");
            }
            _ => log::info!("{name} at {peer}: {closed}"),
        }
        if let Some(nickname) = self.nickname.take() {
            let mut room = self.room.borrow_mut();
            room.members.remove(&nickname);
            room.tell_all_but(&nickname, &format!("* {nickname} left\n"));
        }
    }
}

fn run() -> Result {
    let listen = listen_from_args("127.0.0.1:8888")?;
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let limits = WriteLimits::new().with_high(HIGH).with_cap(CAP);
    let options = ListenOptions::new(listen).write_limits(limits);
    let room = Rc::default();
    let server = event_loop
        .handle()
        .create_server(options, move || Member::new(&room))?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
