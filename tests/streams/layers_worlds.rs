//! Streams over layers in simulated worlds: with a network that takes little at a time, and with one
//! that fails.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use support::seal::{Seal, hello};
use support::{Authority, pattern};
use tidegate::{BoxError, ListenOptions, Result, WriteLimits};
use tidegate_streams::{
    ReadError, StreamReader, StreamWriter, open_connection, spawn_on, start_server_on, timeout,
};
use tidegate_testkit::{Fault, Faults, Host, Link, World};
use tidegate_tls::prelude::*;

/// The maximum number of bytes that a layer is given at once: those of a record of TLS.
const PIECE: usize = 16 * 1024;

/// A time in which everything is over, unless it never ends.
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_drain_through_a_layer_ends_within_one_record_of_the_low_mark() {
    let low = 64 * 1024;
    let link = Link::new().send_buffer(100).receive_buffer(100);
    let mut world = World::builder().link(link).build();
    let host = world.add_host("a").unwrap();
    let left: Rc<RefCell<Vec<usize>>> = Rc::default();
    let noted = left.clone();
    let options = ListenOptions::new(host.addr(1)).layer(Seal::server);
    let server = start_server_on(host.handle(), options, async move |_reader, writer| {
        let transport = writer.transport();
        transport.set_write_limits(WriteLimits::new().with_high(2 * low).with_low(low))?;
        for _ in 0..4 {
            writer.write(&[7; 150_000])?;
            writer.drain().await?;
            noted.borrow_mut().push(transport.write_buffer_size());
        }
        Ok(())
    });
    server.unwrap();
    let peer = world.network().dial(host.addr(1)).unwrap();
    world.settle().unwrap();
    peer.send(&hello()).unwrap();
    while left.borrow().len() < 4 {
        world.settle().unwrap();
        peer.read(&mut [0; 100]).unwrap();
    }
    for left in left.borrow().iter() {
        assert!((low - PIECE..=low).contains(left), "{left} bytes were left");
    }
}

/// Puts a layer on.
trait Secure: Clone + 'static {
    async fn server(&self, reader: &mut StreamReader) -> std::io::Result<()>;
    async fn client(&self, reader: &mut StreamReader) -> std::io::Result<()>;
}

#[derive(Clone)]
struct Sealed;

impl Secure for Sealed {
    async fn server(&self, reader: &mut StreamReader) -> std::io::Result<()> {
        reader.start_layer(Seal::server()).await
    }

    async fn client(&self, reader: &mut StreamReader) -> std::io::Result<()> {
        reader.start_layer(Seal::client()).await
    }
}

#[derive(Clone)]
struct Encrypted {
    server: Arc<tidegate_tls::rustls::ServerConfig>,
    client: Arc<tidegate_tls::rustls::ClientConfig>,
}

impl Secure for Encrypted {
    async fn server(&self, reader: &mut StreamReader) -> std::io::Result<()> {
        reader.start_tls_server(self.server.clone()).await
    }

    async fn client(&self, reader: &mut StreamReader) -> std::io::Result<()> {
        reader
            .start_tls_client(self.client.clone(), "localhost")
            .await
    }
}

/// Sends and reads at the same time, each to its end. All of it is read, or there is an error. One
/// that is to be cut aborts behind the piece of that number.
async fn exchange(
    mut reader: StreamReader,
    writer: StreamWriter,
    ours: Vec<u8>,
    theirs: Vec<u8>,
    cut_after: Option<usize>,
) -> Result<bool> {
    let writing = tidegate_streams::spawn(async move {
        for (number, piece) in ours.chunks(9_000).enumerate() {
            writer.write(piece)?;
            writer.drain().await?;
            if cut_after == Some(number) {
                // No byte is unsent, so over TCP this looks like an end of stream.
                writer.flush().await?;
                writer.abort();
            }
        }
        writer.write_eof()?;
        Ok::<_, BoxError>(writer)
    });
    let mut got = Vec::new();
    let ended = loop {
        match reader.read_chunk(5_000).await {
            Ok(piece) if piece.is_empty() => break true,
            Ok(piece) => got.extend_from_slice(&piece),
            Err(ReadError::Closed(_)) => break false,
            Err(error) => return Err(error.into()),
        }
    };
    assert!(theirs.starts_with(&got), "bytes that were not sent");
    assert!(
        !ended || got == theirs,
        "a stream that was cut seemed whole"
    );
    let written = writing.await?.is_ok();
    Ok(ended && written)
}

/// A line in the clear, then both ways at once through a layer. Returns the number of worlds in which
/// all arrived.
fn run_worlds(seeds: u64, resets: f64, secure: &impl Secure) -> u64 {
    let mut whole = 0;
    for seed in 0..seeds {
        let faults = Faults::none()
            .with(Fault::ShortRead, 0.3)
            .with(Fault::ShortWrite, 0.3)
            .with(Fault::ReadAgain, 0.05)
            .with(Fault::WriteAgain, 0.05)
            .with(Fault::NoMemory, 0.01)
            .with(Fault::Stall, 0.02)
            .with(Fault::Reset, resets);
        let mut world = World::builder().seed(seed).faults(faults).build();
        let hosts = [world.add_host("a").unwrap(), world.add_host("b").unwrap()];
        let outcomes = converse(&hosts, secure, seed);
        world.advance(2 * HOUR).unwrap();
        let told = format!("seed {seed}: {:?}, {}", outcomes, world.fault_counts());
        assert_eq!(outcomes.borrow().len(), 2, "{told}");
        whole += u64::from(outcomes.borrow().iter().all(|&all| all));
        for host in &hosts {
            let left = host.handle().stats();
            assert_eq!((left.connections, left.completions), (0, 0), "{told}");
        }
    }
    whole
}

fn converse(hosts: &[Host; 2], secure: &impl Secure, seed: u64) -> Rc<RefCell<Vec<bool>>> {
    let outcomes: Rc<RefCell<Vec<bool>>> = Rc::default();
    let (question, reply) = (pattern(seed, 40_000), pattern(seed + 1_000_000, 60_000));
    let (served, secured) = (outcomes.clone(), secure.clone());
    let (asked, replied) = (question.clone(), reply.clone());
    let serve = async move |mut reader: StreamReader, writer: StreamWriter| {
        let talk = async {
            if reader.read_line().await? != "start\n" {
                return Ok(false);
            }
            writer.write(b"go ahead\n")?;
            secured.server(&mut reader).await?;
            exchange(reader, writer, replied.clone(), asked.clone(), None).await
        };
        let outcome: Result<Result<bool>, _> = timeout(HOUR, talk).await;
        served.borrow_mut().push(matches!(outcome, Ok(Ok(true))));
        Ok(())
    };
    let server = start_server_on(hosts[1].handle(), hosts[1].addr(7), serve).unwrap();
    // Every other client goes away in the middle.
    let cut_after = (seed % 2 == 1).then_some(seed as usize % 4);
    let (to, secure, noted) = (hosts[1].addr(7), secure.clone(), outcomes.clone());
    drop(spawn_on(hosts[0].handle(), async move {
        let talk = async {
            let (mut reader, writer) = open_connection(to).await?;
            writer.write(b"start\n")?;
            if reader.read_line().await? != "go ahead\n" {
                return Ok(false);
            }
            secure.client(&mut reader).await?;
            exchange(reader, writer, question, reply, cut_after).await
        };
        let outcome: Result<Result<bool>, _> = timeout(HOUR, talk).await;
        noted.borrow_mut().push(matches!(outcome, Ok(Ok(true))));
        server.close();
    }));
    outcomes
}

#[test]
fn a_stream_that_gets_a_layer_is_whole_or_ends_with_an_error_in_every_world() {
    let whole = run_worlds(400, 0.0005, &Sealed);
    assert!((100..=200).contains(&whole), "{whole} of 400 were whole");
}

#[test]
fn a_stream_that_turns_to_tls_is_whole_or_ends_with_an_error_in_every_world() {
    let authority = Authority::new();
    let secure = Encrypted {
        server: Arc::new(authority.server()),
        client: Arc::new(authority.client()),
    };
    let whole = run_worlds(100, 0.005, &secure);
    assert!((20..=50).contains(&whole), "{whole} of 100 were whole");
}
