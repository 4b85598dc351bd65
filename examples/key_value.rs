//! A store of keys and values that speaks RESP, the protocol of redis: redis-cli, redis-benchmark and the
//! clients of most languages talk to it. Worth copying: a codec of your own (`key_value/resp.rs`), bounded
//! memory (`key_value/store.rs`), keys that expire in the loop's time, and subscribers that do not read.
//!
//! Run, and speak with it:
//!
//!     cargo run --example key_value -- --listen 127.0.0.1:6380 --memory 64
//!     redis-cli -p 6380 SET name Ada
//!     redis-cli -p 6380 SUBSCRIBE news
//!
//! Expect `OK`, and the messages of `redis-cli -p 6380 PUBLISH news hello`. Above 64 MiB the values go that
//! were not used for the longest time. It speaks RESP 2; newer versions of redis-py ask for another one
//! unless they are told `protocol=2`.

#[path = "key_value/channels.rs"]
mod channels;
#[path = "key_value/commands.rs"]
mod commands;
#[path = "key_value/resp.rs"]
pub(crate) mod resp;
#[path = "key_value/store.rs"]
mod store;

use channels::{Channels, Subscriptions};
use resp::{Reply, Requests};
use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use store::{Refused, Store};
use tidegate::{
    BoxError, CloseReason, Closed, EventLoop, Handle, ListenOptions, Result, Server, Transport,
    WriteLimits,
};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};
use tidegate_framing::{FrameProtocol, Framed};

/// A subscriber that is this far behind is cut. Others never are: while a client does not read its
/// replies, its requests are not read.
pub(crate) const CAP: usize = 1 << 20;
/// Maximum time in which a client takes nothing of what is sent to it, and in which it leaves.
const PATIENCE: Duration = Duration::from_secs(60);
/// Maximum time of a request, from its first byte to its last. Until then a part of one keeps its memory.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Maximum time without a byte. A subscriber that expects longer silence sends `PING`.
pub(crate) const IDLE: Duration = Duration::from_secs(600);
/// Maximum number of bytes that wait for all clients together.
const WRITE_BUDGET: usize = 256 << 20;

/// The state that connections share.
struct Shared {
    store: Rc<RefCell<Store>>,
    channels: Rc<Channels>,
    /// The memory of replies, used again.
    reply: RefCell<Reply>,
}

pub(crate) struct Client {
    codec: Requests,
    shared: Rc<Shared>,
    subscriptions: Subscriptions,
}

impl Client {
    fn execute(
        &mut self,
        transport: &Transport,
        command: &[u8],
        arguments: &[&[u8]],
        reply: &mut Reply,
    ) -> Result<(), Refused> {
        match (command, arguments) {
            (b"SUBSCRIBE", [_, ..]) => self.subscriptions.subscribe(arguments, transport, reply)?,
            (b"UNSUBSCRIBE", _) => self.subscriptions.unsubscribe(arguments, transport, reply),
            (b"PING", [] | [_]) if !self.subscriptions.is_empty() => {
                reply.array(2);
                reply.bulk(b"pong");
                reply.bulk(arguments.first().unwrap_or(&&b""[..]));
            }
            (b"PING", []) => reply.status("PONG"),
            (b"PING", [text]) => reply.bulk(text),
            (b"QUIT", _) => reply.status("OK"),
            // A client could not tell its replies from messages.
            _ if !self.subscriptions.is_empty() => {
                return Err("ERR only (UN)SUBSCRIBE, PING and QUIT in this context");
            }
            (b"PUBLISH", [channel, message]) => {
                reply.integer(self.shared.channels.publish(channel, message) as i64);
            }
            _ => {
                let store = &self.shared.store;
                commands::execute(store, transport.handle(), command, arguments, reply)?;
            }
        }
        Ok(())
    }
}

impl FrameProtocol for Client {
    type Codec = Requests;

    fn codec(&mut self) -> &mut Requests {
        &mut self.codec
    }

    /// A client may send a thousand requests at once, and read later: when its replies cross the high-water
    /// mark, no further request comes until it has read. So there is nothing to do about it here.
    fn frame_received(&mut self, transport: &Transport, words: Vec<&[u8]>) -> Result {
        let [name, arguments @ ..] = &words[..] else {
            return Ok(());
        };
        let mut command = [0; 16];
        let command = &mut command[..name.len().min(16)];
        command.copy_from_slice(&name[..command.len()]);
        command.make_ascii_uppercase();
        let mut reply = self.shared.reply.take();
        if let Err(error) = self.execute(transport, command, arguments, &mut reply) {
            reply.clear();
            reply.error(error);
        }
        transport.write(&reply.0)?;
        if command == b"QUIT" {
            transport.close();
        }
        reply.clear();
        self.shared.reply.replace(reply);
        Ok(())
    }

    fn frame_failed(&mut self, transport: &Transport, error: BoxError) -> Result {
        write!(transport, "-ERR Protocol error: {error}\r\n")?;
        transport.close();
        Ok(())
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.subscriptions.leave_all(transport);
        let peer = transport.peer_addr();
        match closed.reason() {
            CloseReason::LocalAbort | CloseReason::Memory | CloseReason::Timeout(_)
                if closed.unsent() > 0 =>
            {
                let unsent = closed.unsent();
                log::warn!("{peer} read too slowly: cut, {unsent} bytes unsent");
            }
            _ => log::info!("{peer}: {closed}"),
        }
    }
}

/// Returns a factory of protocols that share a store of this number of bytes.
pub(crate) fn clients(memory: usize) -> impl Fn() -> Framed<Client> + 'static {
    let shared = Rc::new(Shared {
        store: Rc::new(RefCell::new(Store::new(memory))),
        channels: Rc::default(),
        reply: RefCell::default(),
    });
    move || {
        Framed::new(Client {
            codec: Requests,
            shared: shared.clone(),
            subscriptions: Subscriptions::new(&shared.channels),
        })
        .frame_timeout(REQUEST_TIME)
    }
}

/// Makes a server, whose store has this number of bytes.
pub(crate) fn serve(
    handle: &Handle,
    at: impl Into<ListenOptions>,
    memory: usize,
) -> std::io::Result<Server> {
    let options = at
        .into()
        .write_limits(WriteLimits::new().with_cap(CAP))
        .max_connections(10_000)
        .idle_timeout(IDLE)
        .write_timeout(PATIENCE)
        .close_timeout(PATIENCE);
    handle.create_server(options, clients(memory))
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, ("memory", "MIB")])?;
    let memory = args.number("memory", 1..=1 << 20, 64)? << 20;
    let mut event_loop = EventLoop::builder().write_budget(WRITE_BUDGET).build()?;
    let at = args.listen("127.0.0.1:6379");
    let server = serve(event_loop.handle(), at, memory)?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
