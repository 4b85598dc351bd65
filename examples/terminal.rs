//! A client on a terminal and a socket at once: it sends the lines that are typed, and prints those of the server.
//!
//! Run, with `cargo run --example chat` in another terminal:
//!
//!     cargo run --example terminal -- --connect 127.0.0.1:8888
//!     printf 'alice\nhello\n' | cargo run --example terminal -- --connect 127.0.0.1:8888
//!
//! Expect the server's lines while you type. Ctrl-D, or the end of a pipe, ends our side; what the server still
//! says is printed. The server's end ends the program, also while it waits for a line. The loop cannot wait for a
//! regular file: then one line says so, and the exit code is 2.
//!
//! The terminal stays as it is for the shell: it does not become non-blocking.

use std::cell::OnceCell;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::rc::Rc;
use tidegate::{Closed, EventLoop, Handle, OnPause, Result, Transport};
use tidegate_examples::{Args, LISTEN, exit_code, say};
use tidegate_framing::{FrameProtocol, Framed, Lines};

/// The lines that are typed.
struct Input {
    codec: Lines,
    server: Transport,
}

impl FrameProtocol for Input {
    type Codec = Lines;

    fn codec(&mut self) -> &mut Lines {
        &mut self.codec
    }

    fn frame_received(&mut self, input: &Transport, line: &[u8]) -> Result {
        match self.server.write(line) {
            // At once: a read may bring many lines.
            Ok(flow) if flow.is_paused() => input.pause_reading(),
            Ok(_) => {}
            // The server's end is told by its own connection.
            Err(_) => input.close(),
        }
        Ok(())
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        // It fails when the server has ended before.
        let _ = self.server.write_eof();
    }
}

/// The lines of the server.
#[derive(Default)]
struct Server {
    codec: Lines,
    input: Rc<OnceCell<Transport>>,
}

impl FrameProtocol for Server {
    type Codec = Lines;

    fn codec(&mut self) -> &mut Lines {
        &mut self.codec
    }

    fn frame_received(&mut self, _: &Transport, line: &[u8]) -> Result {
        say!("{}", String::from_utf8_lossy(line));
        Ok(())
    }

    /// Goes on reading: a server that is held up by its own replies would wait for us.
    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, _: &Transport) -> Result {
        if let Some(input) = self.input.get() {
            input.resume_reading();
        }
        Ok(())
    }
}

/// Reads standard input, of which the loop gets a copy: it closes what it is given.
fn read_stdin(handle: &Handle, server: &Transport) -> io::Result<Transport> {
    let protocol = Framed::new(Input {
        codec: Lines::new().keep_end(true),
        server: server.clone(),
    });
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    handle.connect_read_pipe(stdin, protocol).map_err(|error| {
        let message = format!("no lines from standard input, try `cat FILE |`: {error}");
        io::Error::new(error.kind(), message)
    })
}

fn run() -> Result {
    let args = Args::from_env(&[("connect", LISTEN.1)])?;
    let address = args.get("connect").unwrap_or("127.0.0.1:8888");
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let protocol = Server::default();
    let slot = protocol.input.clone();
    let server = event_loop.run_until(handle.create_connection(address, Framed::new(protocol)))?;
    let input = read_stdin(&handle, &server)?;
    slot.get_or_init(|| input);
    let closed = event_loop.run_until(server.wait_closed())?;
    match closed.is_clean() {
        true => Ok(()),
        false => Err(closed.into()),
    }
}

fn main() -> ExitCode {
    exit_code(run)
}
