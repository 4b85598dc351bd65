//! A server on tokio with one thread, and a task for each connection.

use crate::service::announce;
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Runs a server until it fails.
///
/// # Errors
///
/// Those of the server, and of the runtime when it starts.
pub fn run(server: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(LocalSet::new().run_until(server))
}

/// Serves each connection in a task of its own. How a connection ends is the client's business.
///
/// # Errors
///
/// Those of listening and accepting.
pub async fn accept<T>(
    listen: SocketAddr,
    serve: impl AsyncFn(TcpStream) -> io::Result<T> + Clone + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    announce(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let serve = serve.clone();
        tokio::task::spawn_local(async move {
            if stream.set_nodelay(true).is_ok() {
                let _ = serve(stream).await;
            }
        });
    }
}
