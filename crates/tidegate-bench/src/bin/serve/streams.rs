//! The services as async code.

use crate::Writes;
use bytes::Bytes;
use tidegate::{Address, Handle, ListenOptions, Result};
use tidegate_bench::service::{READ_BUFFER, Service, megabyte, source_block};
use tidegate_framing::Lines;
use tidegate_streams::{FramedReader, StreamReader, StreamWriter, start_server_on};

/// Serves, and says where.
pub(crate) fn listen(
    handle: &Handle,
    service: Service,
    writes: Writes,
    at: ListenOptions,
) -> std::io::Result<Vec<Address>> {
    let server = match service {
        Service::Echo => start_server_on(handle, at, echo),
        Service::Lines => start_server_on(handle, at, lines),
        Service::Sink => start_server_on(handle, at, sink),
        Service::Source => {
            let block = Bytes::from(source_block());
            start_server_on(handle, at, async move |_reader, writer| {
                source(&writer, &block, writes).await
            })
        }
        Service::Megabyte => start_server_on(handle, at, megabytes),
    };
    server.map(|server| server.local_addrs().to_vec())
}

/// Serves lines by a codec, and says where: lent ones, or each by itself.
pub(crate) fn listen_framed(
    handle: &Handle,
    service: Service,
    are_lent: bool,
    at: ListenOptions,
) -> std::io::Result<Vec<Address>> {
    if service != Service::Lines {
        return Err(std::io::Error::other("a reader of frames serves lines"));
    }
    let server = match are_lent {
        true => start_server_on(handle, at, lines_ready),
        false => start_server_on(handle, at, lines_next),
    };
    server.map(|server| server.local_addrs().to_vec())
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result {
    loop {
        let data = reader.read_chunk(READ_BUFFER).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(&data)?;
        writer.drain().await?;
    }
}

async fn lines(mut reader: StreamReader, writer: StreamWriter) -> Result {
    let mut lines = reader.lines();
    while let Some(line) = lines.next().await? {
        writer.write(&line)?;
        writer.drain().await?;
    }
    Ok(())
}

/// Lines that are lent.
async fn lines_ready(reader: StreamReader, writer: StreamWriter) -> Result {
    let mut lines = FramedReader::new(reader, Lines::new().keep_end(true));
    while lines.ready().await? {
        while let Some(line) = lines.next_ready()? {
            writer.write(line)?;
        }
        writer.drain().await?;
    }
    Ok(())
}

async fn lines_next(reader: StreamReader, writer: StreamWriter) -> Result {
    let mut lines = FramedReader::new(reader, Lines::new().keep_end(true));
    while let Some(line) = lines.next().await? {
        writer.write(&line)?;
        writer.drain().await?;
    }
    Ok(())
}

async fn sink(mut reader: StreamReader, _writer: StreamWriter) -> Result {
    while !reader.read_chunk(READ_BUFFER).await?.is_empty() {}
    Ok(())
}

async fn megabytes(mut reader: StreamReader, writer: StreamWriter) -> Result {
    while !reader.read_chunk(READ_BUFFER).await?.is_empty() {
        writer.write(&megabyte())?;
        writer.drain().await?;
    }
    Ok(())
}

async fn source(writer: &StreamWriter, block: &Bytes, writes: Writes) -> Result {
    loop {
        writes.write(writer.transport(), block)?;
        writer.drain().await?;
    }
}
