//! A task for each connection, which reads, parses what has come, and writes the replies at once. It
//! serves the page alone, and closes at what it does not like.

use crate::head::{self, Body};
use crate::reply::{self, PAGE, PAGE_FIELDS, Persistence, Status, http_date};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tidegate_bench::service::READ_BUFFER;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) async fn run(listen: SocketAddr) -> io::Result<()> {
    let date = Rc::new(RefCell::new(http_date(SystemTime::now())));
    let clock = Rc::clone(&date);
    tokio::task::spawn_local(async move {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            clock.replace(http_date(SystemTime::now()));
        }
    });
    crate::accept(listen, async move |stream| {
        // How a connection ends is the client's business.
        let _ = serve(stream, &date).await;
    })
    .await
}

async fn serve(mut stream: TcpStream, date: &RefCell<String>) -> io::Result<()> {
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
            if (head.method, head.path, head.body) != ("GET", "/", Body::Length(0)) {
                return Ok(());
            }
            taken += len;
            closes |= head.persistence == Persistence::Closed;
            reply::begin(&mut out, Status::Ok, &date.borrow(), head.persistence);
            out.extend_from_slice(PAGE_FIELDS.as_bytes());
            out.extend_from_slice(PAGE.as_bytes());
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
