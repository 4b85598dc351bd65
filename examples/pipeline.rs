//! A program in a shell's pipe: its input in capitals, with backpressure from its output.
//!
//! Run:
//!
//!     head -c 100000000 /dev/zero | tr '\0' x | cargo run --example pipeline | wc -c
//!     yes | cargo run --example pipeline | head -n 2
//!
//! Expect `100000000`, and `Y` twice. A line on stderr tells the largest buffer: at most some 200 KiB,
//! however slow the reader is. Neither the shell's terminal nor the pipes become non-blocking.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use tidegate::{Closed, EventLoop, Protocol, Result, Transport};
use tidegate_examples::{Args, exit_code};

struct Input {
    output: Transport,
    largest_buffer: Rc<Cell<usize>>,
}

impl Protocol for Input {
    fn data_received(&mut self, input: &Transport, data: &[u8]) -> Result {
        match self.output.write_owned(data.to_ascii_uppercase()) {
            Ok(flow) => {
                let buffered = self.output.write_buffer_size();
                self.largest_buffer
                    .set(self.largest_buffer.get().max(buffered));
                if flow.is_paused() {
                    input.pause_reading();
                }
            }
            // The reader is gone, as `head` when it has seen enough: not a failure of this side.
            Err(_) => input.close(),
        }
        Ok(())
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        self.output.close();
    }
}

#[derive(Default)]
struct Output {
    input: Rc<RefCell<Option<Transport>>>,
}

impl Protocol for Output {
    fn resume_writing(&mut self, _: &Transport) -> Result {
        if let Some(input) = &*self.input.borrow() {
            input.resume_reading();
        }
        Ok(())
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        if let Some(input) = self.input.take() {
            input.close();
        }
    }
}

/// The loop closes what it is given, so it gets copies of the standard streams.
fn copy(stream: impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

fn run() -> Result {
    Args::from_env(&[])?;
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let largest_buffer = Rc::new(Cell::new(0));
    let protocol = Output::default();
    let slot = protocol.input.clone();
    let output = handle.connect_write_pipe(copy(io::stdout())?, protocol)?;
    let protocol = Input {
        output: output.clone(),
        largest_buffer: largest_buffer.clone(),
    };
    slot.replace(Some(
        handle.connect_read_pipe(copy(io::stdin())?, protocol)?,
    ));
    let closed = event_loop.run_until(output.wait_closed())?;
    let (sent, kib) = (output.sent(), largest_buffer.get().div_ceil(1024));
    eprintln!("{sent} bytes written, at most {kib} KiB buffered; {closed}");
    if closed.is_clean() || closed.is_reset() {
        return Ok(());
    }
    Err(closed.into())
}

fn main() -> ExitCode {
    exit_code(run)
}
