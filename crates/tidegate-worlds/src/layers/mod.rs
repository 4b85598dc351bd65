//! The layers of these worlds: TLS, and layers as users write them, in stacks.

mod framing;
mod header;
mod slow;
mod tls;

use crate::ledger::Ledger;
use framing::Framing;
use header::Header;
use slow::Slow;
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use tidegate::{Completion, ConnectOptions, ListenOptions, Transport};
use tidegate_testkit::Clock;
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::{ClientConfig, ServerConfig};

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tls,
    Framing,
    Slow,
    Header,
}

/// Layers from the wire up. Its text has a letter for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stack(Vec<Kind>);

impl Stack {
    /// Returns by how much more a peer may receive than was counted as sent. Bytes count when all that
    /// stands for the piece in which a layer got them is sent. A record of TLS stands for a whole piece,
    /// and has no bytes before all of it has come; of other layers a part may have.
    pub(crate) fn slack(&self) -> u64 {
        /// The maximum number of bytes that a layer is given at a time.
        const PIECE: u64 = 16 * 1024;
        let is_loose = |kind: &Kind| matches!(kind, Kind::Framing | Kind::Slow);
        match self.0.iter().any(is_loose) {
            true => self.0.len() as u64 * PIECE,
            false => 0,
        }
    }
}

impl Stack {
    /// Whether one of them has an end of its own.
    pub(crate) fn knows_cuts(&self) -> bool {
        let has_end = |kind: &Kind| matches!(kind, Kind::Tls | Kind::Framing);
        self.0.iter().any(has_end)
    }
}

/// Which end of a connection has the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Kind {
    const ALL: [(Self, char); 4] = [
        (Self::Tls, 't'),
        (Self::Framing, 'f'),
        (Self::Slow, 's'),
        (Self::Header, 'h'),
    ];
}

impl Stack {
    /// One in two is TLS alone, the others are all that there is.
    pub(crate) fn any(rng: &mut fastrand::Rng) -> Self {
        const STACKS: [&str; 12] = [
            "tf", "ft", "tt", "st", "ts", "f", "s", "h", "ht", "sft", "tsf", "ftf",
        ];
        let text = match rng.bool() {
            true => "t",
            false => STACKS[rng.usize(..STACKS.len())],
        };
        Self(text.chars().filter_map(kind).collect())
    }
}

fn kind(letter: char) -> Option<Kind> {
    let known = Kind::ALL.iter().find(|(_, own)| *own == letter);
    known.map(|(kind, _)| *kind)
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = Kind::ALL;
        self.0.iter().try_for_each(|kind| {
            let found = letters.iter().find(|(other, _)| other == kind);
            found.map_or(Ok(()), |(_, letter)| write!(f, "{letter}"))
        })
    }
}

impl FromStr for Stack {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds: Option<Vec<_>> = text.chars().map(kind).collect();
        kinds
            .map(Self)
            .ok_or_else(|| format!("{text} is no stack of layers"))
    }
}

/// Makes the layers of a world.
#[derive(Clone)]
pub(crate) struct Layers {
    ledger: Rc<Ledger>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Layers {
    pub(crate) fn new(ledger: &Rc<Ledger>, clock: &Clock, rng: &mut fastrand::Rng) -> Self {
        let (client, server) = tls::configs(clock, rng);
        Self {
            ledger: ledger.clone(),
            server: Arc::new(server),
            client: Arc::new(client),
        }
    }

    pub(crate) fn listen(
        &self,
        mut options: ListenOptions,
        stack: &Stack,
        rng: &mut fastrand::Rng,
    ) -> ListenOptions {
        for kind in &stack.0 {
            let (ledger, mut rng) = (self.ledger.clone(), rng.fork());
            options = match kind {
                Kind::Tls => options.tls(self.server.clone()),
                Kind::Framing => options.layer(move || Framing::new(&ledger, &mut rng)),
                Kind::Slow => options.layer(move || Slow::new(&ledger, &mut rng)),
                Kind::Header => options.layer(move || Header::read(&ledger)),
            };
        }
        options
    }

    pub(crate) fn connect(
        &self,
        mut options: ConnectOptions,
        stack: &Stack,
        rng: &mut fastrand::Rng,
    ) -> ConnectOptions {
        for kind in &stack.0 {
            options = match kind {
                Kind::Tls => options.tls_as(self.client.clone(), tls::NAME),
                Kind::Framing => options.layer(Framing::new(&self.ledger, rng)),
                Kind::Slow => options.layer(Slow::new(&self.ledger, rng)),
                Kind::Header => options.layer(Header::write(&self.ledger, rng)),
            };
        }
        options
    }

    /// Puts all layers of a stack on a connection. Returns the completion of each.
    pub(crate) fn push(
        &self,
        transport: &Transport,
        stack: &Stack,
        side: Side,
        unread: &[u8],
        rng: &mut fastrand::Rng,
    ) -> Vec<Completion<()>> {
        let mut unread = unread;
        let pushed = stack.0.iter().map(|kind| {
            // It is input of the lowest one.
            let unread = std::mem::take(&mut unread);
            self.push_one(transport, *kind, side, unread, rng)
        });
        pushed.collect()
    }

    fn push_one(
        &self,
        transport: &Transport,
        kind: Kind,
        side: Side,
        unread: &[u8],
        rng: &mut fastrand::Rng,
    ) -> Completion<()> {
        let ledger = &self.ledger;
        match (kind, side) {
            (Kind::Tls, Side::Server) => transport.start_tls_server(self.server.clone(), unread),
            (Kind::Tls, Side::Client) => {
                transport.start_tls_client(self.client.clone(), tls::NAME, unread)
            }
            (Kind::Framing, _) => transport.push_layer(Framing::new(ledger, rng), unread),
            (Kind::Slow, _) => transport.push_layer(Slow::new(ledger, rng), unread),
            (Kind::Header, Side::Server) => transport.push_layer(Header::read(ledger), unread),
            (Kind::Header, Side::Client) => {
                transport.push_layer(Header::write(ledger, rng), unread)
            }
        }
    }
}
