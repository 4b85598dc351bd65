//! The services on mio and nothing else: a framework on mio cannot be faster.
//!
//! ```sh
//! serve_mio echo [--udp] --listen 127.0.0.1:7000
//! ```
//!
//! Edge-triggered, one read buffer for all connections, replies written at once; bytes that the
//! kernel has no room for are kept, and its connection is not read until that has gone. `--udp` is for
//! `echo`, `sink` and `source`.

mod udp;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use pico_args::Arguments;
use slab::Slab;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use tidegate_bench::page_buffer::PageBuffer;
use tidegate_bench::program;
use tidegate_bench::service::{
    self, READ_BUFFER, ServerArguments, Service, announce, megabyte, source_block,
};
use tidegate_bench::usage;

const LISTENER: Token = Token(usize::MAX);

/// Reads or writes of one connection before it is the turn of the others.
const STEPS: usize = 16;

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// That a connection is over, well or badly.
struct Over;

/// The result of a step.
#[derive(PartialEq)]
enum Step {
    More,
    /// It waits for an event.
    Waits,
}

struct Connection {
    stream: TcpStream,
    /// Bytes that the kernel had no room for, and the number of them that has gone since.
    kept: Vec<u8>,
    gone: usize,
    /// A line of which the end is missing.
    partial: Vec<u8>,
    is_readable: bool,
    /// An event told of the end of what the peer sends: there is no other event for it.
    is_hung_up: bool,
    /// It is over when what is kept has gone.
    is_ending: bool,
    /// How far a source is in its block.
    place: usize,
}

impl Connection {
    fn send(&mut self, data: &[u8]) -> Result<(), Over> {
        let sent = write_all(&mut self.stream, data)?;
        self.kept.extend_from_slice(&data[sent..]);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Over> {
        self.gone += write_all(&mut self.stream, &self.kept[self.gone..])?;
        if self.gone < self.kept.len() {
            return Ok(());
        }
        self.gone = 0;
        self.kept = Vec::new();
        if self.is_ending { Err(Over) } else { Ok(()) }
    }
}

/// Writes what the kernel takes, and returns how much that is.
fn write_all(stream: &mut TcpStream, data: &[u8]) -> Result<usize, Over> {
    let mut sent = 0;
    while sent < data.len() {
        match stream.write(&data[sent..]) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Over),
        }
    }
    Ok(sent)
}

struct Server {
    service: Service,
    buffer: PageBuffer,
    /// The replies to one read, which go out together.
    replies: Vec<u8>,
    block: Vec<u8>,
}

impl Server {
    fn serve(
        &mut self,
        connection: &mut Connection,
        event: &Event,
        registry: &Registry,
    ) -> Result<(), Over> {
        connection.is_readable |= event.is_readable();
        connection.is_hung_up |= event.is_read_closed();
        if event.is_writable() && !connection.kept.is_empty() {
            connection.flush()?;
        }
        for _ in 0..STEPS {
            let mut step = Step::Waits;
            if connection.is_readable && connection.kept.is_empty() {
                step = self.read(connection)?;
            }
            if self.service == Service::Source && self.produce(connection)? == Step::More {
                step = Step::More;
            }
            if step == Step::Waits {
                return Ok(());
            }
        }
        // To be told at once of what was told before.
        let again = registry.reregister(&mut connection.stream, event.token(), BOTH);
        again.map_err(|_| Over)
    }

    fn read(&mut self, connection: &mut Connection) -> Result<Step, Over> {
        let len = match connection.stream.read(&mut self.buffer) {
            Ok(0) => {
                connection.is_readable = false;
                connection.is_ending = true;
                return connection.flush().map(|()| Step::Waits);
            }
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.is_readable = false;
                return Ok(Step::Waits);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Step::More),
            Err(_) => return Err(Over),
        };
        let data = &self.buffer[..len];
        match self.service {
            Service::Echo => connection.send(data)?,
            Service::Lines => {
                self.replies.clear();
                let mut rest = data;
                while let Some((line, after)) = service::split_line(rest) {
                    if !connection.partial.is_empty() {
                        self.replies.append(&mut connection.partial);
                    }
                    self.replies.extend_from_slice(line);
                    rest = after;
                }
                connection.partial.extend_from_slice(rest);
                connection.send(&self.replies)?;
            }
            Service::Megabyte => connection.send(&megabyte())?,
            Service::Sink | Service::Source => {}
        }
        // As much as was there: the next byte will be an event of its own.
        connection.is_readable = len == self.buffer.len() || connection.is_hung_up;
        Ok(if connection.is_readable {
            Step::More
        } else {
            Step::Waits
        })
    }

    fn produce(&mut self, connection: &mut Connection) -> Result<Step, Over> {
        match connection.stream.write(&self.block[connection.place..]) {
            Ok(len) => connection.place = (connection.place + len) % self.block.len(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Waits),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Over),
        }
        Ok(Step::More)
    }
}

/// Takes all connections that wait.
fn accept(
    listener: &TcpListener,
    connections: &mut Slab<Connection>,
    registry: &Registry,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Of a connection that is gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let entry = connections.vacant_entry();
        registry.register(&mut stream, Token(entry.key()), BOTH)?;
        entry.insert(Connection {
            stream,
            kept: Vec::new(),
            gone: 0,
            partial: Vec::new(),
            is_readable: false,
            is_hung_up: false,
            is_ending: false,
            place: 0,
        });
    }
}

fn run(arguments: &ServerArguments) -> io::Result<()> {
    usage::raise_descriptor_limit();
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(arguments.listen)?;
    let readable = Interest::READABLE;
    poll.registry()
        .register(&mut listener, LISTENER, readable)?;
    announce(listener.local_addr()?);
    let mut server = Server {
        service: arguments.service,
        buffer: PageBuffer::new(READ_BUFFER),
        replies: Vec::new(),
        block: source_block(),
    };
    let mut connections: Slab<Connection> = Slab::new();
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            // A process that is stopped and continued is interrupted.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &mut connections, poll.registry())?;
                continue;
            }
            let Token(key) = event.token();
            if let Some(connection) = connections.get_mut(key)
                && server.serve(connection, event, poll.registry()).is_err()
            {
                connections.remove(key);
            }
        }
    }
}

fn main() -> ExitCode {
    let parse = |words: &mut Arguments| {
        let udp = words.contains("--udp");
        Ok((udp, ServerArguments::parse(words)?))
    };
    let result = program::read(Arguments::from_env(), parse)
        .map_err(io::Error::other)
        .and_then(|(udp, arguments)| match udp {
            true => udp::run(&arguments),
            false => run(&arguments),
        });
    if let Err(error) = result {
        eprintln!("serve_mio: {error}");
    }
    ExitCode::FAILURE
}
