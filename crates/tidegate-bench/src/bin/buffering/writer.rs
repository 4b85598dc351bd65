//! Tidegate's writers that are offered more than their peer takes.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tidegate::{Closed, EventLoop, Protocol, Result, Transport, WriteError};
use tidegate_streams::{block_on, open_connection, sleep};

/// Bytes a second.
pub(crate) const OFFERED: f64 = 48.0 * 1_048_576.0;

static PIECE: [u8; 16 << 10] = [b'.'; 16 << 10];
const TICK: Duration = Duration::from_millis(10);

/// How a writer is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// A callback protocol that does not look at `Flow`.
    Deaf,
    /// Async code that never awaits `drain`.
    Undrained,
    /// Async code that awaits `drain`.
    Drained,
}

pub(crate) const STYLES: [(Style, &str); 3] = [
    (Style::Deaf, "deaf"),
    (Style::Undrained, "undrained"),
    (Style::Drained, "drained"),
];

impl FromStr for Style {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let found = STYLES.iter().find(|(_, style)| *style == name);
        let found = found.map(|(style, _)| *style);
        found.ok_or_else(|| format!("no such writer: {name}"))
    }
}

/// Writes to the address until the connection ends.
pub(crate) fn write(style: Style, address: SocketAddr) -> Result {
    match style {
        Style::Deaf => with_callbacks(address),
        Style::Undrained => block_on(with_streams(address, false))?,
        Style::Drained => block_on(with_streams(address, true))?,
    }
}

/// What is to be written by now, and was not offered yet.
struct Offer {
    started: Instant,
    offered: u64,
}

impl Offer {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            offered: 0,
        }
    }

    fn take(&mut self) -> bool {
        let due = OFFERED * self.started.elapsed().as_secs_f64();
        let is_due = (self.offered + PIECE.len() as u64) as f64 <= due;
        if is_due {
            self.offered += PIECE.len() as u64;
        }
        is_due
    }
}

/// A full buffer is not the end: what does not fit is dropped, as a source that is too fast must.
fn dropped(written: std::result::Result<tidegate::Flow, WriteError>) -> Result {
    match written {
        Ok(_) | Err(WriteError::BufferFull { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct Deaf(Offer);

impl Deaf {
    fn tick(&mut self, transport: &Transport) -> Result {
        while self.0.take() {
            dropped(transport.write(&PIECE))?;
        }
        transport.call_later(TICK, Self::tick);
        Ok(())
    }
}

impl Protocol for Deaf {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.tick(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
        transport.handle().stop();
    }
}

fn with_callbacks(address: SocketAddr) -> Result {
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle();
    handle
        .create_connection(address, Deaf(Offer::new()))
        .detach();
    event_loop.run_forever()?;
    Ok(())
}

async fn with_streams(address: SocketAddr, drains: bool) -> Result {
    let (_reader, writer) = open_connection(address).await?;
    let mut offer = Offer::new();
    loop {
        while offer.take() {
            dropped(writer.write(&PIECE))?;
            if drains {
                writer.drain().await?;
            }
        }
        sleep(TICK).await;
    }
}
