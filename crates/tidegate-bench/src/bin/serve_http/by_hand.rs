//! A task for each connection, which reads, parses what has come, and writes the replies at once. It
//! serves the page alone, and closes at what it does not like.

use crate::head::{self, Body, Method};
use crate::reply::{Page, Persistence};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tidegate_bench::service::READ_BUFFER;
use tidegate_bench::tokio_server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) async fn run(listen: SocketAddr) -> io::Result<()> {
    let page = Rc::new(RefCell::new(Page::at(SystemTime::now())));
    let clock = Rc::clone(&page);
    tokio::task::spawn_local(async move {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            clock.replace(Page::at(SystemTime::now()));
        }
    });
    tokio_server::accept(listen, async move |stream| serve(stream, &page).await).await
}

async fn serve(mut stream: TcpStream, page: &RefCell<Page>) -> io::Result<()> {
    let mut input = vec![0; READ_BUFFER];
    let mut filled = 0;
    let mut out = Vec::new();
    loop {
        let read = stream.read(&mut input[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut taken = 0;
        let mut closes = false;
        while let Ok(Some((head, len))) = head::parse(&input[taken..filled]) {
            if (head.method, head.path, head.body) != (Method::Get, "/", Body::Length(0)) {
                return Ok(());
            }
            taken += len;
            closes |= head.persistence == Persistence::Closed;
            match (head.persistence, &*page.borrow()) {
                (Persistence::Kept, page) => out.extend_from_slice(page.kept()),
                (persistence, page) => page.put(&mut out, persistence, false),
            }
        }
        input.copy_within(taken..filled, 0);
        filled -= taken;
        stream.write_all(&out).await?;
        if closes {
            return Ok(());
        }
        out.clear();
    }
}
