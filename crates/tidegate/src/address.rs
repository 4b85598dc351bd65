//! Addresses of sockets, and what a user may write for one.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The address of one end of a connection, or of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// A Unix socket with a path; abstract names, which Linux has, are not supported.
    Unix(PathBuf),
    /// A Unix socket without a path, as the connecting end usually is.
    Unnamed,
}

impl Address {
    /// The IP address and port, if it has them.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(addr) => Some(*addr),
            _ => None,
        }
    }

    /// The path of a Unix socket, if it has one.
    pub fn as_unix(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            _ => None,
        }
    }
}

/// The form that `create_server` and `create_connection` take, but for `unnamed`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Unnamed => f.write_str("unnamed"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Inet(addr)
    }
}

/// What a user may write where an address is wanted: an address, or a name that stands for some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Address(Address),
    Name { host: String, port: u16 },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Target {
    /// A host and a port. A numeric host is no name; an IPv6 address may stand in brackets, as in
    /// a URL.
    pub(crate) fn of_host(host: &str, port: u16) -> io::Result<Self> {
        if let Some(addr) = numeric(host, port) {
            return Ok(Self::Address(Address::Inet(addr)));
        }
        if !is_name(host) {
            return Err(invalid(format!(
                "{host:?} is no host: expected a name such as localhost, 127.0.0.1 or ::1"
            )));
        }
        let host = host.to_owned();
        Ok(Self::Name { host, port })
    }
}

/// Reads `127.0.0.1:80`, `[::1]:0`, `localhost:80` or `unix:/path`; says what is wrong with
/// anything else.
pub(crate) fn parse(text: &str) -> io::Result<Target> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            "" => Err(invalid("the path after \"unix:\" is empty".into())),
            path if path.starts_with(['@', '\0']) => Err(invalid(format!(
                "{text:?}: abstract Unix sockets are not supported: give a path, such as unix:./{}",
                &path[1..]
            ))),
            path => Ok(Target::Address(Address::Unix(path.into()))),
        };
    }
    if let Ok(addr) = text.parse() {
        return Ok(Target::Address(Address::Inet(addr)));
    }
    if text.starts_with(['/', '.']) {
        return Err(invalid(format!(
            "{text:?} is a path: for a Unix socket, write unix:{text}"
        )));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if is_name(host) && is_number(port) => match port.parse() {
            Ok(port) => Target::of_host(host, port),
            Err(_) => Err(invalid(format!("{text:?}: there is no port above 65535"))),
        },
        _ => Err(invalid(format!(
            "{text:?} is no address: expected 127.0.0.1:8888, [::1]:8888, localhost:8888 or \
             unix:/path"
        ))),
    }
}

/// The address of a host that needs no resolving.
fn numeric(host: &str, port: u16) -> Option<SocketAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, port));
    }
    // With a zone: std reads that in a whole address only.
    format!("[{bare}]:{port}").parse().ok()
}

/// What a resolver may be asked for. Nothing but numbers is a mistyped address, which some
/// resolvers take for one (inet_aton(3)): 127.1, 0x7f.1.
fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_alphanumeric() || c == '-' || c == '.' || c == '_')
        && !host.split('.').all(is_part_of_an_address)
}

/// Octal ones are digits too.
fn is_part_of_an_address(label: &str) -> bool {
    let hex = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(hex) => hex.chars().all(|c| c.is_ascii_hexdigit()),
        None => label.chars().all(|c| c.is_ascii_digit()),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

fn invalid(complaint: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        error.to_string()
    }

    #[test]
    fn what_is_read_prints_the_same() {
        for text in [
            "127.0.0.1:8888",
            "[::1]:0",
            "unix:/tmp/a socket",
            "localhost:80",
            "a-b.example:65535",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_numeric_host_is_an_address_and_no_name() {
        for (host, expected) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("[::1]", "[::1]:80"),
            ("fe80::1%3", "[fe80::1%3]:80"),
        ] {
            let target = Target::of_host(host, 80).unwrap();
            assert!(matches!(target, Target::Address(_)), "{target:?}");
            assert_eq!(target.to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_address_says_what_one_looks_like() {
        for text in ["", "8888", "127.0.0.1", "::1:80", "1.2.3:4", "a b:1", ":80"] {
            let error = complaint(text);
            assert!(error.contains("expected 127.0.0.1:8888"), "{error}");
        }
        assert!(complaint("unix:").contains("empty"));
        assert!(complaint("localhost:65536").contains("65535"));
        assert!(complaint("/tmp/socket").contains("unix:/tmp/socket"));
        let error = complaint("unix:@name");
        assert!(
            error.contains("abstract") && error.contains("unix:./name"),
            "{error}"
        );
    }

    #[test]
    fn a_host_that_no_resolver_can_know_is_refused() {
        for host in ["", "1.2.3", "0x7f.1", "a b", "a:b", "[localhost]"] {
            let error = Target::of_host(host, 1).unwrap_err();
            assert!(error.to_string().contains("is no host"), "{error}");
        }
    }
}
