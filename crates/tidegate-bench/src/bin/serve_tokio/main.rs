//! The services on tokio, one thread, a task for each connection.
//!
//! ```sh
//! serve_tokio echo [--buffers task|shared] [--lines write|buffered] [--tls | --udp]
//!     --listen 127.0.0.1:7000
//! ```
//!
//! `--buffers task` is how its documentation writes a server: each task has a read buffer.
//! `--buffers shared` waits for readiness and then reads into one that all tasks share, which is
//! the best it can do for memory. `--lines write` sends each line back by a write;
//! `--lines buffered` with a `BufWriter` that is flushed when no complete line is left. `--tls` is
//! tokio-rustls, for `echo` and `megabyte`; `--udp` is for `echo`, `sink` and `source`.

mod over_tls;
mod udp;

use pico_args::Arguments;
use serde::Deserialize;
use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use tidegate_bench::page_buffer::PageBuffer;
use tidegate_bench::program::{self, Result, named};
use tidegate_bench::service::{
    READ_BUFFER, ServerArguments, Service, announce, megabyte, source_block, split_line,
};
use tidegate_bench::{tls, usage};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

const USAGE: &str = "\
usage: serve_tokio echo|lines|sink|source|megabyte [--buffers task|shared]
                   [--lines write|buffered] [--tls | --udp] [--listen IP:PORT]";

/// The buffers that bytes are read to.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Buffers {
    Task,
    Shared,
}

/// How lines are sent back.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Lines {
    Write,
    Buffered,
}

/// The data that the tasks share.
struct Shared {
    service: Service,
    buffers: Buffers,
    lines: Lines,
    buffer: RefCell<PageBuffer>,
    block: Vec<u8>,
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    match (shared.service, shared.buffers) {
        (Service::Echo | Service::Sink, Buffers::Shared) => read_shared(&mut stream, shared).await,
        (Service::Echo | Service::Sink, Buffers::Task) => {
            let mut buffer = vec![0; READ_BUFFER];
            loop {
                let len = stream.read(&mut buffer).await?;
                if len == 0 {
                    return Ok(());
                }
                if shared.service == Service::Echo {
                    stream.write_all(&buffer[..len]).await?;
                }
            }
        }
        (Service::Lines, _) => send_lines(stream, shared.lines).await,
        (Service::Source, _) => loop {
            stream.write_all(&shared.block).await?;
        },
        (Service::Megabyte, _) => {
            while stream.read(&mut [0; 64]).await? > 0 {
                stream.write_all(&shared.block).await?;
            }
            Ok(())
        }
    }
}

/// Echoes, or only reads, with no buffer while there is nothing to read.
async fn read_shared(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        stream.readable().await?;
        // Bytes that the kernel has no room for cannot stay in a buffer that others use.
        let mut rest = Vec::new();
        {
            let mut buffer = shared.buffer.borrow_mut();
            let len = match stream.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            if shared.service == Service::Sink {
                continue;
            }
            let sent = match stream.try_write(&buffer[..len]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            rest.extend_from_slice(&buffer[sent..len]);
        }
        stream.write_all(&rest).await?;
    }
}

async fn send_lines(mut stream: TcpStream, lines: Lines) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::with_capacity(READ_BUFFER, reader);
    let mut line = Vec::new();
    match lines {
        Lines::Write => {
            while reader.read_until(b'\n', &mut line).await? > 0 {
                writer.write_all(&line).await?;
                line.clear();
            }
        }
        Lines::Buffered => {
            let mut writer = BufWriter::with_capacity(READ_BUFFER, writer);
            while reader.read_until(b'\n', &mut line).await? > 0 {
                writer.write_all(&line).await?;
                line.clear();
                // The lines written so far must go before it waits for more.
                if split_line(reader.buffer()).is_none() {
                    writer.flush().await?;
                }
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    program::main(USAGE, parse, run)
}

/// The options of this server alone.
struct Options {
    buffers: Buffers,
    lines: Lines,
    tls: bool,
    udp: bool,
}

fn parse(words: &mut Arguments) -> Result<(Options, ServerArguments)> {
    let buffers = words.opt_value_from_fn("--buffers", named)?;
    let lines = words.opt_value_from_fn("--lines", named)?;
    let options = Options {
        buffers: buffers.unwrap_or(Buffers::Task),
        lines: lines.unwrap_or(Lines::Write),
        tls: words.contains("--tls"),
        udp: words.contains("--udp"),
    };
    let arguments = ServerArguments::parse(words)?;
    let has_tls = matches!(arguments.service, Service::Echo | Service::Megabyte);
    if options.tls && !has_tls {
        return Err("--tls is for echo and megabyte".into());
    }
    let has_udp = !matches!(arguments.service, Service::Lines | Service::Megabyte);
    if options.udp && !has_udp {
        return Err("--udp is for echo, sink and source".into());
    }
    Ok((options, arguments))
}

fn run((options, arguments): &(Options, ServerArguments)) -> Result<ExitCode> {
    usage::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    if options.udp {
        return runtime.block_on(async {
            udp::serve(arguments).await?;
            Ok(ExitCode::SUCCESS)
        });
    }
    let shared = Rc::new(Shared {
        service: arguments.service,
        buffers: options.buffers,
        lines: options.lines,
        buffer: RefCell::new(PageBuffer::new(READ_BUFFER)),
        block: match arguments.service {
            Service::Megabyte => megabyte(),
            _ => source_block(),
        },
    });
    let acceptor = options.tls.then(|| TlsAcceptor::from(tls::server_config()));
    runtime.block_on(LocalSet::new().run_until(async {
        let listener = TcpListener::bind(arguments.listen).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let shared = Rc::clone(&shared);
            // How a connection ends is the client's business. A task without TLS must not have room
            // for it.
            match acceptor.clone() {
                Some(acceptor) => tokio::task::spawn_local(async move {
                    let _ = over_tls::serve(stream, &acceptor, &shared).await;
                }),
                None => tokio::task::spawn_local(async move {
                    let _ = serve(stream, &shared).await;
                }),
            };
        }
    }))
}
