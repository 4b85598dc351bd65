//! RESP, the protocol of redis: requests out of bytes, and replies as bytes.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use tidegate_framing::{Decode, Step};

/// Maximum number of bytes of a request: the most that is kept of one that has not arrived whole.
pub(crate) const MAX_REQUEST: usize = 1 << 20;
/// Maximum number of words of a request, its command among them.
const MAX_WORDS: usize = 4096;
/// Maximum number of bytes of a request that is a line.
const MAX_LINE: usize = 4096;

type Malformed = &'static str;

/// Finds requests, such as `*2\r\n$3\r\nGET\r\n$4\r\nname\r\n`, or `GET name\n` as a person types it.
pub(crate) struct Requests;

impl Decode for Requests {
    /// The words of a request, lent from the bytes. An empty line has none.
    type Frame<'a> = Vec<&'a [u8]>;
    type Error = Malformed;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<Self::Frame<'a>>, Malformed> {
        if !input.is_empty() && input[0] != b'*' {
            return line(input);
        }
        let mut rest = input;
        let Some(count) = take_number(&mut rest, b'*')? else {
            return Ok(Step::Need(1));
        };
        if count > MAX_WORDS {
            return Err("too many words");
        }
        // A count that was only announced takes no memory.
        let mut words = Vec::with_capacity(count.min(8));
        for _ in 0..count {
            let Some(len) = take_number(&mut rest, b'$')? else {
                return Ok(Step::Need(1));
            };
            if input.len() - rest.len() + len > MAX_REQUEST {
                return Err("the request is too long");
            }
            let missing = (len + 2).saturating_sub(rest.len());
            if missing > 0 {
                return Ok(Step::Need(missing));
            }
            let (word, behind) = rest.split_at(len);
            words.push(word);
            rest = behind
                .strip_prefix(b"\r\n")
                .ok_or("no end of line behind a word")?;
        }
        Ok(Step::Frame(words, input.len() - rest.len()))
    }
}

/// A request that is a line.
fn line(input: &[u8]) -> Result<Step<Vec<&[u8]>>, Malformed> {
    let start = &input[..input.len().min(MAX_LINE)];
    match start.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let words = input[..end].split(u8::is_ascii_whitespace);
            let words = words.filter(|word| !word.is_empty()).collect();
            Ok(Step::Frame(words, end + 1))
        }
        None if start.len() == MAX_LINE => Err("the line is too long"),
        None => Ok(Step::Need(1)),
    }
}

/// Takes a number such as `*2\r\n` off, unless it has not arrived whole.
fn take_number(rest: &mut &[u8], kind: u8) -> Result<Option<usize>, Malformed> {
    let Some((first, digits)) = rest.split_first() else {
        return Ok(None);
    };
    if *first != kind {
        return Err("a word without its length");
    }
    let mut number = 0;
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at < 8 => number = 10 * number + usize::from(byte - b'0'),
            b'\r' if at > 0 => {
                return match digits.get(at + 1) {
                    Some(b'\n') => {
                        *rest = &digits[at + 2..];
                        Ok(Some(number))
                    }
                    Some(_) => Err("no end of line behind a number"),
                    None => Ok(None),
                };
            }
            _ => return Err("a number is malformed"),
        }
    }
    Ok(None)
}

/// The bytes of replies.
#[derive(Default)]
pub(crate) struct Reply(pub(crate) Vec<u8>);

impl Reply {
    /// Keeps the memory, but not that of a long reply.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(64 << 10);
    }

    pub(crate) fn status(&mut self, text: &str) {
        self.line(b'+', text);
    }

    pub(crate) fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    pub(crate) fn integer(&mut self, number: i64) {
        let sign = if number < 0 { ":-" } else { ":" };
        self.head(sign, number.unsigned_abs());
    }

    /// Begins an array, of which the elements follow.
    pub(crate) fn array(&mut self, len: usize) {
        self.head("*", len as u64);
    }

    pub(crate) fn bulk(&mut self, value: &[u8]) {
        self.head("$", value.len() as u64);
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn bulk_or_nil(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.0.extend_from_slice(b"$-1\r\n"),
        }
    }

    fn line(&mut self, kind: u8, text: &str) {
        self.0.push(kind);
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    /// By hand: `write!` would take most of the time of a reply with a hundred elements.
    fn head(&mut self, kind: &str, mut number: u64) {
        let mut bytes = *b"00000000000000000000\r\n";
        let mut at = bytes.len() - 2;
        loop {
            at -= 1;
            bytes[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.extend_from_slice(kind.as_bytes());
        self.0.extend_from_slice(&bytes[at..]);
    }
}
