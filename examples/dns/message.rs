//! Messages of DNS: a question in, a reply out (RFC 1035, section 4; RFC 6891 for EDNS).

use std::net::IpAddr;

/// The most that a reply over UDP has for a client that does not say otherwise (RFC 1035, 2.3.4).
const PLAIN_UDP: usize = 512;

/// The most that a reply over UDP has whatever the client says: it fits into one packet of IPv6
/// (RFC 9715, 3.1).
const MOST_UDP: usize = 1_232;

const HEADER: usize = 12;

/// Types of records.
const A: u16 = 1;
const CNAME: u16 = 5;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const ANY: u16 = 255;

/// The class of the internet.
const IN: u16 = 1;

/// Codes of replies.
pub(crate) const NO_ERROR: u8 = 0;
pub(crate) const FORMAT_ERROR: u8 = 1;
pub(crate) const NO_SUCH_NAME: u8 = 3;
pub(crate) const NOT_IMPLEMENTED: u8 = 4;
pub(crate) const REFUSED: u8 = 5;
/// Its upper bits are in the OPT record (RFC 6891, 6.1.3).
pub(crate) const BAD_VERSION: u16 = 16;

/// The data of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    Address(IpAddr),
    Alias(String),
    Text(String),
}

impl Data {
    fn kind(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => A,
            Self::Address(IpAddr::V6(_)) => AAAA,
            Self::Alias(_) => CNAME,
            Self::Text(_) => TXT,
        }
    }

    /// Whether a question for a type is one for this; an alias is one for all.
    pub(crate) fn is_asked(&self, kind: u16) -> bool {
        self.is_of(kind) || self.kind() == CNAME
    }

    pub(crate) fn is_of(&self, kind: u16) -> bool {
        kind == ANY || kind == self.kind()
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Address(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Self::Address(IpAddr::V6(ip)) => ip.octets().to_vec(),
            Self::Alias(name) => encode_name(name),
            Self::Text(text) => {
                let pieces = text.as_bytes().chunks(255);
                pieces
                    .flat_map(|piece| [&[piece.len() as u8], piece].concat())
                    .collect()
            }
        }
    }
}

/// A question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    message: &'a [u8],
    /// Where the question ends.
    end: usize,
    /// In lower case, with a dot at its end.
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    /// The most bytes that the client takes over UDP.
    pub(crate) udp_limit: usize,
    /// The version of EDNS that the client speaks.
    edns: Option<u8>,
}

impl<'a> Query<'a> {
    /// Reads a question. The error is the code of the reply; `None` is no question, and gets no reply.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Option<u8>> {
        let header: &[u8; HEADER] = message.first_chunk().ok_or(None)?;
        if header[2] & 0x80 != 0 {
            // A reply: two servers must not talk to each other without end.
            return Err(None);
        }
        let counts = [4, 6, 8, 10].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
        if header[2] & 0x78 != 0 {
            return Err(Some(NOT_IMPLEMENTED));
        }
        let [1, 0, 0, more] = counts else {
            return Err(Some(FORMAT_ERROR));
        };
        let (name, end) = read_name(message, HEADER).ok_or(Some(FORMAT_ERROR))?;
        let question = message.get(end..end + 4).ok_or(Some(FORMAT_ERROR))?;
        let mut query = Self {
            message,
            end: end + 4,
            name,
            kind: u16::from_be_bytes([question[0], question[1]]),
            class: u16::from_be_bytes([question[2], question[3]]),
            udp_limit: PLAIN_UDP,
            edns: None,
        };
        if more > 0 && message.get(query.end..query.end + 3) == Some(&[0, 0, OPT as u8]) {
            let size = message
                .get(query.end + 3..query.end + 5)
                .ok_or(Some(FORMAT_ERROR))?;
            let size = usize::from(u16::from_be_bytes([size[0], size[1]]));
            query.udp_limit = size.clamp(PLAIN_UDP, MOST_UDP);
            query.edns = message.get(query.end + 6).copied();
        }
        Ok(query)
    }

    /// Whether the client speaks an EDNS that is not known here.
    pub(crate) fn is_of_later_edns(&self) -> bool {
        self.edns.is_some_and(|version| version > 0)
    }

    pub(crate) fn is_of_internet(&self) -> bool {
        self.class == IN
    }

    /// Makes a reply of at most `limit` bytes. One that is cut says so, and the client asks over TCP.
    pub(crate) fn reply<'r>(
        &self,
        code: u16,
        records: impl Iterator<Item = (&'r str, u32, &'r Data)>,
        limit: usize,
    ) -> Vec<u8> {
        let mut reply = header(self.message, code as u8 & 0x0f, 1);
        reply.extend_from_slice(&self.message[HEADER..self.end]);
        let [high, low] = (MOST_UDP as u16).to_be_bytes();
        let opt = [0, 0, OPT as u8, high, low, (code >> 4) as u8, 0, 0, 0, 0, 0];
        let opt = if self.edns.is_some() { &opt[..] } else { &[] };
        let mut count = 0_u16;
        for (name, ttl, data) in records {
            let bytes = data.encode();
            let start = reply.len();
            reply.extend_from_slice(&encode_name(name));
            reply.extend_from_slice(&data.kind().to_be_bytes());
            reply.extend_from_slice(&IN.to_be_bytes());
            reply.extend_from_slice(&ttl.to_be_bytes());
            reply.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            reply.extend_from_slice(&bytes);
            if reply.len() + opt.len() > limit {
                reply.truncate(start);
                reply[2] |= 0x02;
                break;
            }
            count += 1;
        }
        reply[6..8].copy_from_slice(&count.to_be_bytes());
        reply[11] = u8::from(self.edns.is_some());
        reply.extend_from_slice(opt);
        reply
    }
}

/// Makes a reply that has nothing but a code.
pub(crate) fn refusal(message: &[u8], code: u8) -> Vec<u8> {
    header(message, code, 0)
}

/// A header: the id and the operation of the message, "a reply", and whether recursion was desired. A reply
/// about a name of the zone is from its authority.
fn header(message: &[u8], code: u8, questions: u8) -> Vec<u8> {
    let authority = if matches!(code, NO_ERROR | NO_SUCH_NAME) {
        0x04
    } else {
        0
    };
    let flags = 0x80 | authority | (message[2] & 0x79);
    vec![
        message[0], message[1], flags, code, 0, questions, 0, 0, 0, 0, 0, 0,
    ]
}

/// Reads a name without pointers, which a question has no use for, and returns where it ends.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let start = at;
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            return Some((if name.is_empty() { ".".into() } else { name }, at));
        }
        let label = message.get(at..at + len).filter(|_| len < 64)?;
        at += len;
        if at - start > 254 {
            return None;
        }
        for byte in label {
            match byte {
                // A dot in a label is no end of it (RFC 4343, 2.1).
                b'.' => name.push_str("\\046"),
                byte => name.push(byte.to_ascii_lowercase() as char),
            }
        }
        name.push('.');
    }
}

/// Writes a name, whose labels the zone has checked.
fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 1);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// Whether a name can be written: labels of 1 to 63 bytes, 254 in all (RFC 1035, 2.3.4).
pub(crate) fn is_name(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let fits = |label: &str| (1..64).contains(&label.len());
    name.len() < 255 && name.is_ascii() && (labels.is_empty() || labels.split('.').all(fits))
}
