//! HTTP/1.1 by hand: a callback protocol over `Framed`, with httparse for the heads. Requests come one
//! after the other on a connection, also before the replies of earlier ones (pipelining), with bodies of
//! a length or in chunks.
//!
//! Run:
//!
//!     cargo run --example http -- --listen 127.0.0.1:8080
//!
//! Expect `listening on 127.0.0.1:8080`; then
//!
//!     curl http://127.0.0.1:8080/
//!     curl --data-binary @Cargo.toml http://127.0.0.1:8080/echo
//!     curl --output /dev/null http://127.0.0.1:8080/bytes/1000000000
//!
//! and with a Unix socket, `curl --unix-socket /path http://localhost/`. `--max-body` sets the maximum
//! size of a body. Ctrl-C ends it.
//!
//! A connection takes little memory, however long its bodies are. An echo goes back while it comes, and
//! the transport stops both when its write buffer is full. A long reply stops in the same way.
//!
//! | file | contents |
//! | --- | --- |
//! | `head.rs` | the head of a request, and which ones are refused |
//! | `codec.rs` | where a head, a chunk and the trailers end |
//! | `connection.rs` | the protocol: what each request gets |
//! | `reply.rs`, `site.rs` | the heads of replies |
//! | `tests` | its tests: `cargo test --example http` |

mod codec;
mod connection;
mod head;
mod reply;
mod site;
#[cfg(test)]
mod tests;

use codec::Limits;
use connection::Http;
use site::Site;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tidegate::{EventLoop, ListenOptions, Result};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};
use tidegate_framing::Framed;

/// Maximum number of bytes in a head: what nginx and Apache take of one line.
const MAX_HEAD: usize = 8 * 1024;

/// Maximum number of bytes in a body, unless `--max-body` sets it.
const MAX_BODY: u64 = 64 * 1024 * 1024;

/// Time in which a head has to come, and the line before a chunk.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of connections. Others wait in the backlog.
const MAX_CONNECTIONS: usize = 10_000;

/// Time without a byte, as between two requests; without a byte that the client takes of a reply; and of the
/// rest of a reply behind the close.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the protocol of a connection.
fn connection(site: &Rc<Site>) -> Framed<Http> {
    Framed::new(Http::new(site)).frame_timeout(HEAD_TIMEOUT)
}

/// The limits of a server that strangers may reach.
fn limits(at: impl Into<ListenOptions>) -> ListenOptions {
    at.into()
        .max_connections(MAX_CONNECTIONS)
        .idle_timeout(IDLE_TIMEOUT)
        .write_timeout(WRITE_TIMEOUT)
        .close_timeout(CLOSE_TIMEOUT)
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, ("max-body", "BYTES")])?;
    let site = Rc::new(Site::new(Limits {
        head: MAX_HEAD,
        body: args.number("max-body", 0..=u64::MAX - 1, MAX_BODY)?,
    }));
    let mut event_loop = EventLoop::new()?;
    let clock = Rc::clone(&site);
    clock.set_time(SystemTime::now());
    event_loop
        .handle()
        .call_every(Duration::from_secs(1), move |_| {
            clock.set_time(SystemTime::now());
        });
    let at = limits(args.listen("127.0.0.1:8080"));
    let make = move || connection(&site);
    let server = event_loop.handle().create_server(at, make)?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
