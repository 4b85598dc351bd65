//! Setting options of the system's sockets. Those of TCP have no effect on Unix sockets.

use crate::Keepalive;
use crate::driver::SocketOption;
use socket2::{Socket, TcpKeepalive};
use std::io;
use std::time::Duration;

pub(super) fn set(socket: &Socket, tcp: bool, option: SocketOption) -> io::Result<()> {
    match option {
        SocketOption::SendBuffer(bytes) => socket.set_send_buffer_size(bytes as usize),
        SocketOption::ReceiveBuffer(bytes) => socket.set_recv_buffer_size(bytes as usize),
        SocketOption::UnsentLowWater(_) if !tcp => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the unsent low-water mark is an option of TCP sockets",
        )),
        _ if !tcp => Ok(()),
        SocketOption::NoDelay(on) => socket.set_tcp_nodelay(on),
        SocketOption::UnsentLowWater(bytes) => set_unsent_low_water(socket, bytes),
        SocketOption::ResetOnClose => socket.set_linger(Some(Duration::ZERO)),
        SocketOption::KeepAlive(None) => socket.set_keepalive(false),
        SocketOption::KeepAlive(Some(keepalive)) => set_keepalive(socket, keepalive),
        SocketOption::UserTimeout(limit) => set_user_timeout(socket, limit),
    }
}

fn set_keepalive(socket: &Socket, keepalive: Keepalive) -> io::Result<()> {
    let mut params = TcpKeepalive::new();
    if let Some(time) = keepalive.time {
        params = params.with_time(whole_seconds(time));
    }
    socket.set_tcp_keepalive(&with_probes(params, keepalive)?)
}

#[cfg(not(any(target_os = "openbsd", target_os = "solaris")))]
fn with_probes(mut params: TcpKeepalive, keepalive: Keepalive) -> io::Result<TcpKeepalive> {
    if let Some(interval) = keepalive.interval {
        params = params.with_interval(whole_seconds(interval));
    }
    if let Some(retries) = keepalive.retries {
        params = params.with_retries(retries);
    }
    Ok(params)
}

#[cfg(any(target_os = "openbsd", target_os = "solaris"))]
fn with_probes(params: TcpKeepalive, keepalive: Keepalive) -> io::Result<TcpKeepalive> {
    match (keepalive.interval, keepalive.retries) {
        (None, None) => Ok(params),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// At least one: zero is refused, and a time that is set means that probes are wanted.
fn whole_seconds(time: Duration) -> Duration {
    let more = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(time.as_secs().saturating_add(more).max(1))
}

/// At least one where a limit is set: zero stands for the system's default.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_user_timeout(socket: &Socket, limit: Option<Duration>) -> io::Result<()> {
    let at_least_one = |limit: Duration| {
        let up = Duration::from_nanos(999_999);
        limit.saturating_add(up).max(Duration::from_millis(1))
    };
    socket.set_tcp_user_timeout(limit.map(at_least_one))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_user_timeout(_: &Socket, _: Option<Duration>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_unsent_low_water(socket: &Socket, bytes: u32) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(bytes)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_unsent_low_water(_: &Socket, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_to_whole_seconds_of_which_there_is_one_at_least() {
        for (given, seconds) in [
            (Duration::ZERO, 1),
            (Duration::from_millis(500), 1),
            (Duration::from_secs(1), 1),
            (Duration::from_nanos(1_000_000_001), 2),
        ] {
            assert_eq!(whole_seconds(given), Duration::from_secs(seconds));
        }
        let longest = whole_seconds(Duration::from_secs(u64::MAX));
        assert_eq!(longest, Duration::from_secs(u64::MAX));
    }
}
