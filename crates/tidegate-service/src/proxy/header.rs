//! The header: versions 1 and 2. Pure.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use tidegate::Address;

/// The beginning of version 1 (section 2.1 of the specification).
const PREFIX_1: &[u8] = b"PROXY ";

/// The maximum length of a header of version 1 with its line break (section 2.1).
const MAX_1: usize = 107;

/// The beginning of version 2 (section 2.2).
const PREFIX_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes of version 2 before the addresses.
const FIXED_2: usize = 16;

/// The maximum length of a header of version 2. The specification allows 64 KiB; proxies add some hundreds
/// of bytes to the addresses.
const MAX_2: usize = 4096;

/// The header with which a proxy tells whose connection it passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    version: u8,
    addresses: Option<(Address, Address)>,
}

impl ProxyHeader {
    /// Reads a header from the beginning of a stream. Returns it with its length, or `None` while more
    /// bytes are needed.
    ///
    /// # Errors
    ///
    /// [`ProxyError`] as soon as the bytes cannot become a header any more.
    ///
    /// ```
    /// use tidegate_service::ProxyHeader;
    ///
    /// let stream = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /";
    /// let (header, len) = ProxyHeader::parse(stream).unwrap().unwrap();
    /// assert_eq!(header.client().unwrap().to_string(), "192.0.2.1:56324");
    /// assert_eq!(&stream[len..], b"GET /");
    /// assert!(ProxyHeader::parse(b"PROXY TC").unwrap().is_none());
    /// assert!(ProxyHeader::parse(b"GET /").is_err());
    /// ```
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, ProxyError> {
        if begins(input, PREFIX_1) {
            parse_1(input)
        } else if begins(input, PREFIX_2) {
            parse_2(input)
        } else {
            Err(ProxyError::NoHeader)
        }
    }

    /// Returns the version of the protocol, 1 or 2.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Returns the address of the client that is connected to the proxy.
    ///
    /// Returns `None` when the proxy tells none, as for a connection of its own: a check of the server's
    /// health.
    pub fn client(&self) -> Option<&Address> {
        self.addresses.as_ref().map(|(client, _)| client)
    }

    /// Returns the address of the proxy that the client is connected to.
    pub fn destination(&self) -> Option<&Address> {
        self.addresses.as_ref().map(|(_, destination)| destination)
    }
}

/// Whether bytes are the prefix, or may become it.
fn begins(input: &[u8], prefix: &[u8]) -> bool {
    let len = input.len().min(prefix.len());
    input[..len] == prefix[..len]
}

type Parsed = Result<Option<(ProxyHeader, usize)>, ProxyError>;

fn parse_1(input: &[u8]) -> Parsed {
    let line = &input[..input.len().min(MAX_1)];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return if line.len() < MAX_1 {
            Ok(None)
        } else {
            Err(ProxyError::TooLong)
        };
    };
    let text = line[..end].strip_suffix(b"\r");
    let text = text.and_then(|text| str::from_utf8(text).ok());
    let words: Vec<&str> = text.ok_or(ProxyError::Malformed)?.split(' ').collect();
    let addresses = match words[1..] {
        // The rest of the line is to be ignored.
        ["UNKNOWN", ..] => None,
        ["TCP4", client, destination, from, to] => Some((
            inet::<Ipv4Addr>(client, from)?,
            inet::<Ipv4Addr>(destination, to)?,
        )),
        ["TCP6", client, destination, from, to] => Some((
            inet::<Ipv6Addr>(client, from)?,
            inet::<Ipv6Addr>(destination, to)?,
        )),
        _ => return Err(ProxyError::Malformed),
    };
    let header = ProxyHeader {
        version: 1,
        addresses,
    };
    Ok(Some((header, end + 1)))
}

fn inet<I: FromStr + Into<IpAddr>>(ip: &str, port: &str) -> Result<Address, ProxyError> {
    let ip = ip.parse::<I>().map_err(|_| ProxyError::Malformed)?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (port.len() > 1 && port.starts_with('0')) {
        return Err(ProxyError::Malformed);
    }
    let port = port.parse().map_err(|_| ProxyError::Malformed)?;
    Ok(SocketAddr::new(ip.into(), port).into())
}

fn parse_2(input: &[u8]) -> Parsed {
    let Some(version_and_command) = input.get(12) else {
        return Ok(None);
    };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Malformed),
    };
    let Some(&family) = input.get(13) else {
        return Ok(None);
    };
    // Sockets that are no streams cannot be what brought it.
    let needed = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ if is_local => 0,
        _ => return Err(ProxyError::Malformed),
    };
    let Some(&[high, low]) = input.get(14..FIXED_2).and_then(|len| len.first_chunk()) else {
        return Ok(None);
    };
    let len = FIXED_2 + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_2 {
        return Err(ProxyError::TooLong);
    }
    if !is_local && len < FIXED_2 + needed {
        return Err(ProxyError::Malformed);
    }
    let Some(block) = input.get(FIXED_2..len) else {
        return Ok(None);
    };
    let addresses = if is_local {
        None
    } else {
        addresses_2(family, block)
    };
    let header = ProxyHeader {
        version: 2,
        addresses,
    };
    Ok(Some((header, len)))
}

/// The addresses of version 2. The block is long enough for its family.
fn addresses_2(family: u8, block: &[u8]) -> Option<(Address, Address)> {
    match family {
        0x11 => {
            let (client, rest) = block.split_first_chunk::<4>()?;
            let (destination, ports) = rest.split_first_chunk::<4>()?;
            with_ports((*client).into(), (*destination).into(), ports)
        }
        0x21 => {
            let (client, rest) = block.split_first_chunk::<16>()?;
            let (destination, ports) = rest.split_first_chunk::<16>()?;
            with_ports((*client).into(), (*destination).into(), ports)
        }
        0x31 => {
            let (client, rest) = block.split_first_chunk::<108>()?;
            let (destination, _) = rest.split_first_chunk::<108>()?;
            Some((unix(client), unix(destination)))
        }
        _ => None,
    }
}

fn with_ports(client: IpAddr, destination: IpAddr, ports: &[u8]) -> Option<(Address, Address)> {
    let (from, rest) = ports.split_first_chunk()?;
    let (to, _) = rest.split_first_chunk()?;
    let client = SocketAddr::new(client, u16::from_be_bytes(*from));
    let destination = SocketAddr::new(destination, u16::from_be_bytes(*to));
    Some((client.into(), destination.into()))
}

/// A path up to the first zero byte.
fn unix(path: &[u8; 108]) -> Address {
    let len = path
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(path.len());
    if len == 0 {
        return Address::Unnamed;
    }
    Address::Unix(OsStr::from_bytes(&path[..len]).into())
}

/// The reason for which a connection with the PROXY protocol has no protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// The stream begins otherwise: the peer is no proxy.
    NoHeader,
    /// The header is none of the specification.
    Malformed,
    /// A header of version 1 above 107 bytes, or one of version 2 above 4 KiB.
    TooLong,
    /// The stream ended within the header.
    Ended,
    /// The header was not there in time.
    TooLate,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "the stream begins without a PROXY header",
            Self::Malformed => "the PROXY header is malformed",
            Self::TooLong => "the PROXY header is too long",
            Self::Ended => "the stream ended within the PROXY header",
            Self::TooLate => "the PROXY header did not come in time",
        })
    }
}

impl Error for ProxyError {}

#[cfg(all(test, not(loom)))]
mod tests;
