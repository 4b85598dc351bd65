//! Callbacks and async code on one loop: a server that is a callback protocol, and clients that are
//! tasks; neither knows how the other is written.
//!
//! Run:
//!
//!     cargo run --example mixed
//!
//! Expect the replies to both clients, each line in capitals, and the number of bytes of the protocol.

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use tidegate::{Address, EventLoop, Handle, Protocol, Result, Transport};
use tidegate_examples::{Args, exit_code, say};
use tidegate_streams::{open_connection, spawn_on};

/// Sends back what it gets, in capitals.
struct Capitals {
    bytes: Rc<Cell<usize>>,
}

impl Protocol for Capitals {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.bytes.set(self.bytes.get() + data.len());
        transport.write(&data.to_ascii_uppercase())?;
        Ok(())
    }
}

async fn ask(server: Address, name: &str) -> Result {
    let (mut reader, writer) = open_connection(&server).await?;
    for word in ["hello", "good bye"] {
        writeln!(writer, "{name}: {word}")?;
        writer.drain().await?;
        let line = reader.read_line().await?;
        print!("{}", String::from_utf8_lossy(&line));
    }
    writer.close().await?;
    Ok(())
}

/// Async code can wait for another task, and callbacks for the end of all.
async fn clients(handle: Handle, server: Address) -> Result {
    let second = spawn_on(&handle, ask(server.clone(), "second"));
    ask(server, "first").await?;
    second.await?
}

fn run() -> Result {
    Args::from_env(&[])?;
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let bytes = Rc::new(Cell::new(0));
    let counted = bytes.clone();
    let server = handle.create_server("127.0.0.1:0", move || Capitals {
        bytes: counted.clone(),
    })?;
    let address = server.local_addrs()[0].clone();

    let (completer, completion) = handle.completion();
    let work = clients(handle.clone(), address);
    // Not joined: the completion brings its result to code that does not await.
    spawn_on(&handle, async move {
        completer.complete(Ok(work.await));
    });
    event_loop.run_until(completion)??;
    say!("The protocol received {} bytes", bytes.get());
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
