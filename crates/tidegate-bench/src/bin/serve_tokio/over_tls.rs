//! The services over TLS, with tokio-rustls.

use crate::{Buffers, Shared};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tidegate_bench::service::{READ_BUFFER, Service};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Serves until the peer's close_notify, and replies with one.
pub(crate) async fn serve(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    shared: &Shared,
) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    match (shared.service, shared.buffers) {
        (Service::Megabyte, _) => {
            while stream.read(&mut [0; 64]).await? > 0 {
                stream.write_all(&shared.block).await?;
                stream.flush().await?;
            }
        }
        (_, Buffers::Task) => echo(&mut stream).await?,
        (_, Buffers::Shared) => echo_shared(&mut stream, shared).await?,
    }
    stream.shutdown().await
}

async fn echo(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..len]).await?;
        stream.flush().await?;
    }
}

/// Echoes with no buffer while there is nothing to read.
async fn echo_shared(stream: &mut TlsStream<TcpStream>, shared: &Shared) -> io::Result<()> {
    while let Some(rest) = poll_fn(|context| echo_once(stream, shared, context)).await? {
        stream.write_all(&rest).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// Makes one read and one write. Returns the bytes that were not written, `None` at the end.
fn echo_once(
    stream: &mut TlsStream<TcpStream>,
    shared: &Shared,
    context: &mut Context<'_>,
) -> Poll<io::Result<Option<Vec<u8>>>> {
    let mut buffer = shared.buffer.borrow_mut();
    let mut buffer = ReadBuf::new(&mut buffer);
    ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
    let data = buffer.filled();
    if data.is_empty() {
        return Poll::Ready(Ok(None));
    }
    let sent = match Pin::new(stream).poll_write(context, data) {
        Poll::Ready(sent) => sent?,
        Poll::Pending => 0,
    };
    Poll::Ready(Ok(Some(data[sent..].to_vec())))
}
