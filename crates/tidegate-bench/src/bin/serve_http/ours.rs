//! The example, as its command line starts it.

use crate::codec::Limits;
use crate::connection::Http;
use crate::site::Site;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tidegate::{Address, EventLoop, ListenOptions};
use tidegate_bench::program::Result;
use tidegate_bench::service::announce;
use tidegate_framing::Framed;

pub(crate) fn run(listen: SocketAddr) -> Result<()> {
    let site = Rc::new(Site::new(Limits {
        head: 8 << 10,
        body: 64 << 20,
    }));
    let mut event_loop = EventLoop::new()?;
    let clock = Rc::clone(&site);
    clock.set_time(SystemTime::now());
    let second = Duration::from_secs(1);
    event_loop.handle().call_every(second, move |_| {
        clock.set_time(SystemTime::now());
    });
    let at = ListenOptions::new(listen)
        .max_connections(10_000)
        .idle_timeout(Duration::from_secs(60))
        .write_timeout(Duration::from_secs(30))
        .close_timeout(Duration::from_secs(10));
    let server = event_loop.handle().create_server(at, move || {
        Framed::new(Http::new(&site)).frame_timeout(Duration::from_secs(10))
    })?;
    if let Some(Address::Inet(address)) = server.local_addrs().first() {
        announce(*address);
    }
    event_loop.run_forever()?;
    Ok(())
}
