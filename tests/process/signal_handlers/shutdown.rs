//! Servers that end in order at a signal, as callbacks and as async code.

use rustix::process::{Pid, Signal as System, kill_process};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use support::BOUND;
use support::child::{Child, part, say};
use tidegate::{EventLoop, Protocol, Result, Signal, Transport};
use tidegate_streams::{block_on, start_server, wait_signal};

const BOTH: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];
const GRACE: Duration = Duration::from_secs(10);

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

/// Waits for the signal, and shuts the server down.
fn by_run_until() -> Result {
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let server = handle.create_server("127.0.0.1:0", || Echo)?;
    let waiting = handle.wait_signal(&BOTH);
    say(&server.local_addrs()[0]);
    event_loop.run_until(waiting)?;
    let report = event_loop.run_until(server.shutdown(GRACE))?;
    say(format_args!(
        "{} closed, {} cut",
        report.closed, report.aborted
    ));
    Ok(())
}

/// Stops the loop at the signal.
fn by_run_forever() -> Result {
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let server = handle.create_server("127.0.0.1:0", || Echo)?;
    handle.wait_signal(&BOTH).then(|handle, _| handle.stop());
    say(&server.local_addrs()[0]);
    event_loop.run_forever()?;
    let report = event_loop.run_until(server.shutdown(GRACE))?;
    say(format_args!(
        "{} closed, {} cut",
        report.closed, report.aborted
    ));
    Ok(())
}

fn by_block_on() -> Result {
    block_on(async {
        let server = start_server("127.0.0.1:0", async |mut reader, writer| {
            while !reader.at_eof() {
                let data = reader.read_chunk(1024).await?;
                writer.write_all(&data).await?;
            }
            Ok(())
        })?;
        let waiting = wait_signal(&BOTH);
        say(&server.local_addrs()[0]);
        waiting.await?;
        // The handler waits for its peer.
        server.close_clients();
        let report = server.shutdown(GRACE).await?;
        say(format_args!(
            "{} closed, {} cut",
            report.closed, report.aborted
        ));
        Ok(())
    })?
}

#[test]
fn servers_end_in_order_at_sigint_and_at_sigterm() {
    match part().as_deref() {
        Some("run_until") => return by_run_until().unwrap(),
        Some("run_forever") => return by_run_forever().unwrap(),
        Some(_) => return by_block_on().unwrap(),
        None => {}
    }
    for part in ["run_until", "run_forever", "block_on"] {
        for signal in [System::INT, System::TERM] {
            let mut child = Child::start(
                "shutdown::servers_end_in_order_at_sigint_and_at_sigterm",
                part,
            );
            let mut peer = TcpStream::connect(child.line()).unwrap();
            peer.set_read_timeout(Some(BOUND)).unwrap();
            peer.write_all(b"hello").unwrap();
            let mut echo = [0; 5];
            peer.read_exact(&mut echo).unwrap();
            kill_process(Pid::from_raw(child.pid() as i32).unwrap(), signal).unwrap();
            // The end of the stream, and no reset.
            assert_eq!(peer.read(&mut echo).unwrap(), 0, "{part}, {signal:?}");
            drop(peer);
            assert_eq!(child.line(), "1 closed, 0 cut", "{part}, {signal:?}");
            let status = child.ended();
            assert!(status.success(), "{part}, {signal:?}: {status}");
        }
    }
}
