//! Two ends that put layers on their connection while it is in use, each behind a plain line, and
//! then send both at once.

use crate::client::Client;
use crate::layers::{Layers, Side, Stack};
use crate::ledger::{Guard, Ledger};
use std::collections::VecDeque;
use std::rc::Rc;
use tidegate::{Closed, OnEof, OnPause, Protocol, Result, Transport};

/// The bytes between two layers: bytes of the client, and of the server, that go past the second.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stage {
    stack: Stack,
    /// The number of bytes behind the client's line.
    padding: usize,
    /// The server replies with this many bytes before the layers are put on.
    reply: Option<usize>,
    is_last: bool,
    /// The connection's number.
    of: u64,
}

impl Stage {
    fn line(&self) -> Vec<u8> {
        let Self {
            stack,
            padding,
            reply,
            is_last,
            of,
        } = self;
        let reply = reply.map_or("none".to_owned(), |len| len.to_string());
        let mut line = format!("{stack} {padding} {reply} {is_last} {of}\n").into_bytes();
        line.resize(line.len() + padding, b'.');
        line
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split(' ');
        Some(Self {
            stack: words.next()?.parse().ok()?,
            padding: words.next()?.parse().ok()?,
            reply: match words.next()? {
                "none" => None,
                len => Some(len.parse().ok()?),
            },
            is_last: words.next()?.parse().ok()?,
            of: words.next()?.parse().ok()?,
        })
    }
}

/// The event that an end waits for.
#[derive(Debug)]
enum Phase {
    /// A line of the client, and its padding.
    Line(Vec<u8>),
    /// The rest of the server's reply.
    Reply(usize),
    /// All layers are on.
    Talk,
    /// Writing is over, so that no further layer could be put on for the bytes that still come.
    Over,
}

pub(crate) struct Talker {
    side: Side,
    phase: Phase,
    stages: VecDeque<Stage>,
    talk: Client,
    layers: Layers,
    ledger: Rc<Ledger>,
    rng: fastrand::Rng,
}

/// The number of the stream from a server.
fn of_server(of: u64) -> u64 {
    of + (1 << 20)
}

impl Talker {
    pub(crate) fn client(ledger: &Rc<Ledger>, layers: &Layers, of: u64, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(1..4);
        let stages = (1..=count).map(|n| Stage {
            stack: Stack::any(&mut rng),
            padding: some_len(&mut rng),
            reply: rng.bool().then(|| some_len(&mut rng)),
            is_last: n == count,
            of,
        });
        Self {
            side: Side::Client,
            phase: Phase::Talk,
            stages: stages.collect(),
            talk: Client::talking(ledger, of, of_server(of), rng.u64(..)),
            layers: layers.clone(),
            ledger: ledger.clone(),
            rng,
        }
    }

    pub(crate) fn server(ledger: &Rc<Ledger>, layers: &Layers, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            side: Side::Server,
            phase: Phase::Line(Vec::new()),
            stages: VecDeque::new(),
            talk: Client::talking(ledger, 0, 0, rng.u64(..)),
            layers: layers.clone(),
            ledger: ledger.clone(),
            rng,
        }
    }

    /// The client asks for layers until it has to wait, or has them all.
    fn ask(&mut self, transport: &Transport) -> Result {
        while let Some(stage) = self.stages.front() {
            transport.write(&stage.line())?;
            if let Some(len) = stage.reply {
                self.phase = Phase::Reply(len);
                return Ok(());
            }
            self.put_on(transport, &[])?;
        }
        Ok(())
    }

    /// Puts the layers of the next stage on.
    fn put_on(&mut self, transport: &Transport, unread: &[u8]) -> Result {
        let Some(stage) = self.stages.pop_front() else {
            return Ok(());
        };
        self.ledger.give_back(transport, unread.len());
        self.ledger.behind(transport, &stage.stack);
        if transport.is_closing() {
            self.phase = Phase::Over;
            return Ok(());
        }
        if self.side == Side::Client {
            self.ledger
                .count_stack(format!("{} in mid-stream", stage.stack));
        }
        let (layers, side) = (self.layers.clone(), self.side);
        let pushed = layers.push(transport, &stage.stack, side, unread, &mut self.rng);
        for completion in pushed {
            let guard = Guard::new(&self.ledger, |ledger| &ledger.waiters);
            let (ledger, transport) = (self.ledger.clone(), transport.clone());
            completion.then(move |_, result| {
                drop(guard);
                if let Err(error) = result
                    && !transport.is_closing()
                {
                    ledger.violation(format!("a layer was not put on: {error} {transport:?}"));
                }
            });
        }
        if !stage.is_last {
            if self.side == Side::Server {
                self.phase = Phase::Line(Vec::new());
            }
            return Ok(());
        }
        self.phase = Phase::Talk;
        self.talk.connection_made(transport)
    }

    fn received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        match &mut self.phase {
            Phase::Talk => return self.talk.data_received(transport, data),
            // They are for the layer that was not put on.
            Phase::Over => self.ledger.give_back(transport, data.len()),
            Phase::Reply(left) => {
                let len = data.len().min(*left);
                let (reply, rest) = data.split_at(len);
                *left -= len;
                if reply.iter().any(|byte| *byte != b'+') {
                    self.ledger.violation("another reply than was sent");
                }
                if *left == 0 {
                    self.put_on(transport, rest)?;
                    self.ask(transport)?;
                }
            }
            Phase::Line(line) => {
                line.extend_from_slice(data);
                let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
                    return Ok(());
                };
                let Some(stage) = Stage::parse(&line[..end]) else {
                    self.ledger.violation("another line than was sent");
                    return Err("no line".into());
                };
                let end = end + 1 + stage.padding;
                if line.len() < end {
                    return Ok(());
                }
                let rest = line.split_off(end);
                self.talk.talks_of(of_server(stage.of), stage.of);
                if let Some(len) = stage.reply {
                    transport.write(&vec![b'+'; len])?;
                }
                self.stages.push_back(stage);
                self.put_on(transport, &rest)?;
            }
        }
        Ok(())
    }
}

fn some_len(rng: &mut fastrand::Rng) -> usize {
    let most = 1 << rng.u32(1..16);
    rng.usize(1..most + 1)
}

impl Protocol for Talker {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.ask(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.received(transport, data)
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        match self.phase {
            Phase::Talk => self.talk.eof_received(transport),
            // The rest of what it waits for does not come any more.
            _ => Ok(OnEof::Close),
        }
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        self.talk.pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        match self.phase {
            Phase::Talk => self.talk.resume_writing(transport),
            _ => Ok(()),
        }
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.talk.connection_lost(transport, closed);
    }

    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut self.talk)
    }
}
