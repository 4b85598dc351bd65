//! The peer's counterparts of the layers: they change bytes, and do no I/O.

use super::ours::{DATA, END, HELLO, first_frame, frame, header};
use super::{LayerKind, tls};
use std::mem;

/// Changes the peer's bytes. `words` are those that it sends below by itself.
pub(crate) trait Theirs {
    fn start(&mut self, _words: &mut Vec<u8>) {}

    fn encode(&mut self, data: Vec<u8>, words: &mut Vec<u8>);

    /// Returns the bytes for above.
    fn decode(&mut self, data: Vec<u8>, words: &mut Vec<u8>) -> Result<Vec<u8>, String>;

    /// Ends the peer's stream. Only called when it is ready.
    fn end(&mut self, _words: &mut Vec<u8>) {}

    /// Returns whether what was encoded has been put out.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether the end of our stream was decoded. `None`: it has no end of its own.
    fn saw_end(&self) -> Option<bool> {
        None
    }
}

pub(crate) fn theirs(kind: LayerKind, accepts: bool) -> Box<dyn Theirs> {
    match kind {
        LayerKind::Frames { hello } => Box::new(Frames {
            hello,
            input: Vec::new(),
            ended: false,
        }),
        LayerKind::Little(_) | LayerKind::Slow(_) | LayerKind::Leaves(_) => Box::new(Plain),
        LayerKind::Header(len) => Box::new(Header { len, left: len + 1 }),
        LayerKind::Tls { old } => tls::theirs(old, accepts),
    }
}

struct Plain;

impl Theirs for Plain {
    fn encode(&mut self, mut data: Vec<u8>, words: &mut Vec<u8>) {
        words.append(&mut data);
    }

    fn decode(&mut self, data: Vec<u8>, _: &mut Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(data)
    }
}

struct Header {
    len: usize,
    /// Number of bytes that are to come of our header.
    left: usize,
}

impl Theirs for Header {
    fn start(&mut self, words: &mut Vec<u8>) {
        words.extend(header(self.len));
    }

    fn encode(&mut self, mut data: Vec<u8>, words: &mut Vec<u8>) {
        words.append(&mut data);
    }

    fn decode(&mut self, mut data: Vec<u8>, _: &mut Vec<u8>) -> Result<Vec<u8>, String> {
        let len = data.len().min(self.left);
        let expected = header(self.len);
        let from = expected.len() - self.left;
        if data[..len] != expected[from..from + len] {
            return Err("another header".to_owned());
        }
        self.left -= len;
        Ok(data.split_off(len))
    }
}

struct Frames {
    hello: bool,
    /// A part of a frame.
    input: Vec<u8>,
    ended: bool,
}

impl Theirs for Frames {
    fn start(&mut self, words: &mut Vec<u8>) {
        if self.hello {
            words.extend(frame(HELLO, b"hello"));
        }
    }

    fn encode(&mut self, data: Vec<u8>, words: &mut Vec<u8>) {
        for part in data.chunks(10_000) {
            words.extend(frame(DATA, part));
        }
    }

    fn decode(&mut self, mut data: Vec<u8>, _: &mut Vec<u8>) -> Result<Vec<u8>, String> {
        self.input.append(&mut data);
        let mut input = mem::take(&mut self.input);
        let mut above = Vec::new();
        let mut at = 0;
        while let Some((kind, len)) = first_frame(&input[at..]) {
            let Some(content) = input.get(at + 3..at + len) else {
                break;
            };
            match kind {
                _ if self.ended => return Err("a frame behind the end".to_owned()),
                DATA => above.extend(content.iter().map(|byte| byte ^ 0x5a)),
                HELLO if self.hello => self.hello = false,
                END => self.ended = true,
                kind => return Err(format!("a frame of the kind {kind}")),
            }
            at += len;
        }
        self.input = input.split_off(at);
        Ok(above)
    }

    fn end(&mut self, words: &mut Vec<u8>) {
        words.extend(frame(END, b""));
    }

    fn saw_end(&self) -> Option<bool> {
        Some(self.ended)
    }
}
