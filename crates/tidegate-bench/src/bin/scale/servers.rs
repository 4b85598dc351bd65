//! The servers: each message of [`MESSAGE`] bytes is replied to with its digest.

use super::{MESSAGE, Server};
use rustls::crypto::hash::Hash;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tidegate::{EventLoop, Protocol, Transport};
use tidegate_bench::program::Result;
use tidegate_bench::service::announce;
use tidegate_service::{Spread, Workers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// The work for a message, in digests of it.
const DIGESTS: usize = 10;

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

pub(super) fn run(server: Server) -> Result<()> {
    match server {
        Server::OneLoop => on_one_loop()?,
        Server::LeastConnections => on_two_loops(Spread::LeastConnections)?,
        Server::ReusePort => on_two_loops(Spread::ReusePort)?,
        Server::CurrentThread => on_tokio(&Builder::new_current_thread().enable_all().build()?)?,
        Server::MultiThread => {
            let mut builder = Builder::new_multi_thread();
            on_tokio(&builder.worker_threads(2).enable_all().build()?)?;
        }
    }
    Ok(())
}

/// Returns the SHA-256 of a message, which is that of the TLS library in use here.
pub(super) fn digest(message: &[u8]) -> Result<Vec<u8>> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().ok_or("no SHA-256")?;
    let hash: &dyn Hash = suite.common.hash_provider;
    let mut digest = hash.hash(message);
    for _ in 1..DIGESTS {
        digest = hash.hash(message);
    }
    Ok(digest.as_ref().to_vec())
}

/// A protocol that collects a message.
struct Digests(Vec<u8>);

impl Digests {
    fn new() -> Self {
        Self(Vec::with_capacity(MESSAGE))
    }
}

impl Protocol for Digests {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> tidegate::Result {
        // One message is under way.
        self.0.extend_from_slice(data);
        if self.0.len() == MESSAGE {
            transport.write(&digest(&self.0)?)?;
            self.0.clear();
        }
        Ok(())
    }
}

fn announce_first(addresses: &[tidegate::Address]) -> Result<()> {
    let address = addresses.first().and_then(tidegate::Address::as_inet);
    announce(address.ok_or("no address")?);
    Ok(())
}

fn on_one_loop() -> Result<()> {
    let mut event_loop = EventLoop::new()?;
    let any = SocketAddr::from(ANY);
    let server = event_loop.handle().create_server(any, Digests::new)?;
    announce_first(server.local_addrs())?;
    Ok(event_loop.run_forever()?)
}

fn on_two_loops(spread: Spread) -> Result<()> {
    let workers = Workers::start(2, "scale", EventLoop::builder)?;
    let any = SocketAddr::from(ANY);
    let server = workers.create_server(any, |options| options, spread, |_| Digests::new)?;
    announce_first(server.local_addrs())?;
    Ok(workers.wait()?)
}

fn on_tokio(runtime: &Runtime) -> io::Result<()> {
    runtime.block_on(accept())
}

async fn accept() -> io::Result<()> {
    let listener = TcpListener::bind(ANY).await?;
    announce(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // Ends with its connection.
        tokio::spawn(async move { serve(stream).await.is_ok() });
    }
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut message = vec![0; MESSAGE];
    loop {
        stream.read_exact(&mut message).await?;
        stream.write_all(&digest(&message)?).await?;
    }
}
