//! Addresses of sockets, and what a user may write for one.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The address of one end of a connection, or of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "what a stream socket can have")]
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

/// Reads `127.0.0.1:80`, `[::1]:0` or `unix:/path`; says what is wrong with anything else.
pub(crate) fn parse(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            "" => Err("the path after \"unix:\" is empty".into()),
            path if path.starts_with(['@', '\0']) => Err(format!(
                "{text:?}: abstract Unix sockets are not supported: give a path, such as unix:./{}",
                &path[1..]
            )),
            path => Ok(Address::Unix(path.into())),
        };
    }
    if let Ok(addr) = text.parse() {
        return Ok(Address::Inet(addr));
    }
    if text.starts_with(['/', '.']) {
        return Err(format!(
            "{text:?} is a path: for a Unix socket, write unix:{text}"
        ));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && is_name(host) => Err(format!(
            "{text:?}: names are not resolved yet: give a numeric address such as 127.0.0.1:{port}"
        )),
        _ => Err(format!(
            "{text:?} is no address: expected 127.0.0.1:8888, [::1]:8888 or unix:/path"
        )),
    }
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_alphanumeric() || c == '-' || c == '.' || c == '_')
        && !host.chars().all(|c| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_print() {
        for text in ["127.0.0.1:8888", "[::1]:0", "unix:/tmp/a socket"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_says_what_one_looks_like() {
        for text in [
            "",
            "8888",
            "127.0.0.1",
            "::1:80",
            "1.2.3:4",
            "127.0.0.1:99999",
            "a b:1",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("expected 127.0.0.1:8888"), "{error}");
        }
        assert!(parse("unix:").unwrap_err().contains("empty"));
        let error = parse("/tmp/socket").unwrap_err();
        assert!(error.contains("unix:/tmp/socket"), "{error}");
        let error = parse("unix:@name").unwrap_err();
        assert!(
            error.contains("abstract") && error.contains("unix:./name"),
            "{error}"
        );
    }

    #[test]
    fn a_name_is_told_apart_from_nonsense() {
        let error = parse("localhost:80").unwrap_err();
        assert!(
            error.contains("numeric address such as 127.0.0.1:80"),
            "{error}"
        );
    }
}
