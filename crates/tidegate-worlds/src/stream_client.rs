//! A client of async code: one task writes, another reads.

use crate::client::{byte, bytes, some_total};
use crate::layers::Stack;
use crate::ledger::{Guard, Ledger};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tidegate::ConnectOptions;
use tidegate_streams::{StreamReader, StreamWriter, open_connection, sleep, spawn, timeout};

pub(crate) async fn run(
    ledger: Rc<Ledger>,
    to: ConnectOptions,
    stack: Option<Stack>,
    of: u64,
    seed: u64,
) {
    let _guard = Guard::new(&ledger, |ledger| &ledger.tasks);
    let mut rng = fastrand::Rng::with_seed(seed);
    // Refused, timed out, no descriptor: the faults of the world.
    let Ok((reader, writer)) = open_connection(to).await else {
        return;
    };
    ledger.connections.begin();
    ledger.connections.end();
    let total = some_total(&mut rng, 17);
    let saw_eof = ledger.follow(writer.transport(), stack.as_ref());
    let reading = spawn(read(ledger.clone(), reader, saw_eof, of, total));
    write(&ledger, &writer, of, total, rng).await;
    if let Ok(whole) = reading.await
        && whole
    {
        ledger.echoed_whole.set(ledger.echoed_whole.get() + 1);
    }
    if writer.closed().is_none() && !writer.is_closing() {
        // Its result is that of `wait_closed`: an error when bytes were lost.
        if timeout(Duration::from_secs(1000), writer.close())
            .await
            .is_err()
        {
            writer.abort();
        }
    }
    let stats = writer.transport().stats();
    if let Some(closed) = writer.closed()
        && closed.unsent() != stats.written - stats.sent
    {
        ledger.violation(format!("{closed:?} does not add up with {stats:?}"));
    }
}

async fn write(
    ledger: &Rc<Ledger>,
    writer: &StreamWriter,
    of: u64,
    total: u64,
    mut rng: fastrand::Rng,
) {
    let mut at = 0;
    while at < total {
        let most = 1 << rng.u32(0..14);
        let len = rng.u64(1..=most).min(total - at) as usize;
        let data = bytes(of, at, len);
        let result = match rng.u32(..8) {
            0 => writer.write_all(&data).await,
            1 => match writer.write(&data) {
                Ok(_) => writer.flush().await,
                Err(error) => Err(error.into()),
            },
            _ => match writer.write(&data) {
                Ok(_) => writer.drain().await,
                Err(error) => Err(error.into()),
            },
        };
        if result.is_err() {
            if !writer.is_closing() {
                ledger.violation(format!(
                    "{result:?} and not closing: {:?}",
                    writer.transport()
                ));
            }
            return;
        }
        at += len as u64;
        match rng.u32(..64) {
            0 => sleep(Duration::from_millis(rng.u64(..2000))).await,
            1 => writer.abort(),
            // A cancelled wait loses nothing.
            2 => drop(timeout(Duration::from_micros(10), writer.drain()).await),
            _ => {}
        }
    }
    ledger.ends_stream(writer.transport());
    // Refused when the connection is over, which the reader tells.
    let _ = writer.write_eof();
}

/// Reads the bytes that come back, and returns whether all of them did.
async fn read(
    ledger: Rc<Ledger>,
    mut reader: StreamReader,
    saw_eof: Rc<Cell<bool>>,
    of: u64,
    total: u64,
) -> bool {
    let _guard = Guard::new(&ledger, |ledger| &ledger.tasks);
    let mut at = 0;
    let mut buffer = vec![0; 3000];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => {
                saw_eof.set(true);
                break;
            }
            Ok(len) => {
                let expected = (at..).map(|at| byte(of, at));
                if !buffer[..len].iter().copied().eq(expected.take(len)) {
                    ledger.violation(format!("other bytes came back at {at}: {reader:?}"));
                }
                at += len as u64;
            }
            Err(_) => break,
        }
    }
    if at > total {
        ledger.violation(format!("{at} of {total} bytes came back"));
    }
    at == total
}
