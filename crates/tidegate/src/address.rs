//! Addresses of sockets, and what a user may write for one.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

/// The address of one end of a connection, or of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port. The zone of an IPv6 address is the number of an interface.
    Inet(SocketAddr),
    /// A Unix socket with a path; abstract names, which Linux has, are not supported.
    Unix(PathBuf),
    /// A Unix socket without a path, as the connecting end usually is.
    Unnamed,
}

impl Address {
    /// Returns the IP address and port, if it has them.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(addr) => Some(*addr),
            _ => None,
        }
    }

    /// Returns the path of a Unix socket, if it has one.
    pub fn as_unix(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// Returns whether the addresses name one place, however they are spelled: an IPv4 address may be written as one
    /// of IPv6, and only some IPv6 addresses need a zone.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        let (Self::Inet(one), Self::Inet(two)) = (self, other) else {
            return self == other;
        };
        let zone = |addr: &SocketAddr| match addr {
            SocketAddr::V6(addr) => addr.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let zones = (zone(one), zone(two));
        one.port() == two.port()
            && one.ip().to_canonical() == two.ip().to_canonical()
            && (zones.0 == zones.1 || zones.0 == 0 || zones.1 == 0)
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

/// The target of a connect or a listener, as a user writes it: an address, or a name that stands for some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Address(Address),
    /// An IPv6 address in the zone of a network interface (RFC 4007, section 11), whose number the
    /// driver knows.
    Zoned {
        ip: Ipv6Addr,
        zone: String,
        port: u16,
    },
    Name {
        host: String,
        port: u16,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Zoned { ip, zone, port } => write!(f, "[{ip}%{zone}]:{port}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Target {
    /// A host and a port. A numeric host is no name; an IPv6 address may stand in brackets, as in
    /// a URL.
    pub(crate) fn of_host(host: &str, port: u16) -> io::Result<Self> {
        if let Some(target) = numeric(host, port) {
            return Ok(target);
        }
        if is_everything(host) {
            return Err(invalid(format!(
                "{host:?} is no host: for all addresses of this machine, give 0.0.0.0 or ::"
            )));
        }
        if !is_name(host) {
            return Err(invalid(format!(
                "{host:?} is no host: expected a name such as localhost, 127.0.0.1 or ::1"
            )));
        }
        if !host.is_ascii() {
            return Err(invalid(format!(
                "{host:?} is no host: names are ASCII, so encode it as xn--... (IDNA, RFC 5891), \
                 for example with the crate idna"
            )));
        }
        let host = host.to_owned();
        Ok(Self::Name { host, port })
    }
}

/// Makes options of each form in which a user may write an address, by a function of the
/// [`Target`] or of its error.
macro_rules! from_addresses {
    ($options:ty, $of_target:expr) => {
        impl From<Address> for $options {
            fn from(address: Address) -> Self {
                $of_target(Ok($crate::address::Target::Address(address)))
            }
        }

        impl From<&Address> for $options {
            fn from(address: &Address) -> Self {
                address.clone().into()
            }
        }

        impl From<SocketAddr> for $options {
            fn from(addr: SocketAddr) -> Self {
                Address::Inet(addr).into()
            }
        }

        impl From<(&str, u16)> for $options {
            fn from((host, port): (&str, u16)) -> Self {
                $of_target($crate::address::Target::of_host(host, port))
            }
        }

        impl From<&str> for $options {
            fn from(text: &str) -> Self {
                $of_target($crate::address::parse(text))
            }
        }

        impl From<String> for $options {
            fn from(text: String) -> Self {
                text.as_str().into()
            }
        }
    };
}
pub(crate) use from_addresses;

/// Reads `127.0.0.1:80`, `[::1]:0`, `[fe80::1%eth0]:80`, `localhost:80` or `unix:/path`; says what
/// is wrong with anything else.
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
        Some((host, port)) if is_number(port) && is_host(host) => match port.parse() {
            Ok(_) if is_everything(host) => Err(invalid(format!(
                "{text:?} is no address: for all addresses of this machine, write 0.0.0.0:{port} \
                 or [::]:{port}"
            ))),
            Ok(port) => Target::of_host(host, port),
            Err(_) => Err(invalid(format!("{text:?}: there is no port above 65535"))),
        },
        _ => Err(invalid(format!(
            "{text:?} is no address: expected 127.0.0.1:8888, [::1]:8888, localhost:8888 or \
             unix:/path"
        ))),
    }
}

/// Whether the text may stand before a port.
fn is_host(text: &str) -> bool {
    let in_brackets = text.starts_with('[') && text.ends_with(']') && text.contains(':');
    let numeric = in_brackets || !text.contains([':', '[']);
    is_name(text) || is_everything(text) || (numeric && numeric_host(text).is_some())
}

/// Whether other programs take the host for all addresses of the machine.
fn is_everything(host: &str) -> bool {
    matches!(host, "" | "*")
}

/// The target of a host that needs no resolving.
fn numeric(host: &str, port: u16) -> Option<Target> {
    match numeric_host(host)? {
        (IpAddr::V6(ip), Some(zone)) => match zone.parse() {
            Ok(number) => {
                let addr = SocketAddrV6::new(ip, port, 0, number);
                Some(Target::Address(Address::Inet(addr.into())))
            }
            Err(_) => {
                let zone = zone.to_owned();
                Some(Target::Zoned { ip, zone, port })
            }
        },
        (ip, _) => Some(Target::Address(Address::Inet(SocketAddr::new(ip, port)))),
    }
}

/// An IP address, perhaps in brackets, and the zone of an IPv6 one.
fn numeric_host(host: &str) -> Option<(IpAddr, Option<&str>)> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    match bare.split_once('%') {
        None => Some((bare.parse().ok()?, None)),
        Some((ip, zone)) if is_zone(zone) => {
            let ip: Ipv6Addr = ip.parse().ok()?;
            Some((ip.into(), Some(zone)))
        }
        Some(_) => None,
    }
}

/// Whether this may be a network interface's name. Linux forbids slashes, colons and white space in
/// one (dev_valid_name of its sources); `%` and brackets are parts of an address.
fn is_zone(zone: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/:%[]".contains(c);
    !zone.is_empty() && !zone.contains(odd)
}

/// Returns whether a resolver may be asked for it. Nothing but numbers is a mistyped address, which some
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
    fn a_place_is_the_same_in_every_spelling_of_its_address() {
        for (one, two, same) in [
            ("192.0.2.1:5", "[::ffff:192.0.2.1]:5", true),
            ("192.0.2.1:5", "192.0.2.1:6", false),
            ("192.0.2.1:5", "192.0.2.2:5", false),
            ("[2001:db8::1]:5", "[2001:db8::1%3]:5", true),
            ("[fe80::1%2]:5", "[fe80::1%3]:5", false),
            ("[::1]:5", "127.0.0.1:5", false),
        ] {
            let [one, two] = [one, two].map(|text| Address::Inet(text.parse().unwrap()));
            assert_eq!(one.is_same_place(&two), same, "{one} {two}");
        }
        let [one, two] = ["/a", "/b"].map(|path| Address::Unix(path.into()));
        assert!(one.is_same_place(&one) && !one.is_same_place(&two));
        assert!(!one.is_same_place(&Address::Unnamed));
    }

    #[test]
    fn what_is_read_prints_the_same() {
        for text in [
            "127.0.0.1:8888",
            "[::1]:0",
            "unix:/tmp/a socket",
            "localhost:80",
            "a-b.example:65535",
            "[fe80::1%eth0]:80",
            "[fe80::1%3]:80",
            "[::1%lo]:0",
            "[ff02::1%br-0.1]:65535",
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
            ("[fe80::1%3]", "[fe80::1%3]:80"),
        ] {
            let target = Target::of_host(host, 80).unwrap();
            assert!(matches!(target, Target::Address(_)), "{target:?}");
            assert_eq!(target.to_string(), expected);
        }
    }

    #[test]
    fn a_zone_that_is_no_number_is_the_name_of_an_interface() {
        for host in ["fe80::1%eth0", "[fe80::1%eth0]"] {
            let target = Target::of_host(host, 80).unwrap();
            let zoned = Target::Zoned {
                ip: "fe80::1".parse().unwrap(),
                zone: "eth0".into(),
                port: 80,
            };
            assert_eq!(target, zoned);
        }
        assert!(matches!(
            parse("[fe80::1%99999999999]:1").unwrap(),
            Target::Zoned { .. }
        ));
        for host in [
            "fe80::1%",
            "127.0.0.1%lo",
            "localhost%lo",
            "fe80::1%a b",
            "fe80::1%lo%lo",
        ] {
            assert!(Target::of_host(host, 1).is_err(), "{host}");
            assert!(parse(&format!("[{host}]:1")).is_err(), "{host}");
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
            "a b:1",
            "[::1]",
            "[127.0.0.1]:80",
            "fe80::1%lo:80",
            "[lo]:80",
            "::1%lo",
        ] {
            let error = complaint(text);
            assert!(error.contains("expected 127.0.0.1:8888"), "{error}");
        }
        assert!(complaint("unix:").contains("empty"));
        for host in ["localhost", "127.0.0.1", "[::1]", "[fe80::1%eth0]", "", "*"] {
            for port in ["65536", "99999", "99999999999999999999"] {
                let text = format!("{host}:{port}");
                let error = complaint(&text);
                assert!(error.contains("no port above 65535"), "{error}");
                assert!(error.contains(&text), "{error}");
            }
        }
        assert!(complaint("/tmp/socket").contains("unix:/tmp/socket"));
        let error = complaint("unix:@name");
        assert!(
            error.contains("abstract") && error.contains("unix:./name"),
            "{error}"
        );
    }

    #[test]
    fn no_host_and_a_star_are_told_how_to_name_all_addresses() {
        for text in [":8888", "*:8888"] {
            let error = complaint(text);
            assert!(error.contains("0.0.0.0:8888 or [::]:8888"), "{error}");
        }
        for host in ["", "*"] {
            let error = Target::of_host(host, 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("0.0.0.0 or ::"), "{error}");
        }
    }

    #[test]
    fn a_name_that_is_not_ascii_is_told_to_be_encoded() {
        let host = "b\u{fc}cher.example";
        let of_host = Target::of_host(host, 1).unwrap_err().to_string();
        for error in [complaint(&format!("{host}:80")), of_host] {
            assert!(error.contains("IDNA") && error.contains(host), "{error}");
        }
        assert!(Target::of_host("xn--bcher-kva.example", 1).is_ok());
    }

    #[test]
    fn a_host_that_no_resolver_can_know_is_refused() {
        for host in ["", "1.2.3", "0x7f.1", "a b", "a:b", "[localhost]"] {
            let error = Target::of_host(host, 1).unwrap_err();
            assert!(error.to_string().contains("is no host"), "{error}");
        }
    }
}
