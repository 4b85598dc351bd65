//! The commands on keys, and those that clients need to begin.

use super::resp::Reply;
use super::store::{Expiry, NOT_A_NUMBER, Refused, Store};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tidegate::Handle;

/// Maximum number of bytes of a reply: `MGET` may name the same value a thousand times.
const MAX_REPLY: usize = 16 << 20;

/// Executes a command, whose name is in capitals.
pub(crate) fn execute(
    shared: &Rc<RefCell<Store>>,
    handle: &Handle,
    command: &[u8],
    arguments: &[&[u8]],
    reply: &mut Reply,
) -> Result<(), Refused> {
    let mut store = shared.borrow_mut();
    match (command, arguments) {
        (b"GET", [key]) => reply.bulk_or_nil(store.text(key)?),
        (b"SET", [key, value]) => {
            store.set(key, value);
            reply.status("OK");
        }
        (b"MGET", [_, ..]) => {
            reply.array(arguments.len());
            for key in arguments {
                // A list is no text, and so none.
                element(reply, store.text(key).unwrap_or(None))?;
            }
        }
        (b"DEL", [_, ..]) => {
            let removed = arguments.iter().filter(|key| store.remove(key));
            reply.integer(removed.count() as i64);
        }
        (b"INCR", [key]) => reply.integer(store.add(key, 1)?),
        (b"INCRBY", [key, change]) => reply.integer(store.add(key, number(change)?)?),
        (b"EXPIRE", [key, seconds]) => {
            let seconds = number(seconds)?;
            let is_there = store.contains(key);
            if seconds <= 0 {
                store.remove(key);
            } else if is_there {
                let (weak, name) = (Rc::downgrade(shared), key.to_vec());
                // In the time of the loop: tests have it pass at once.
                let timer = handle.call_later(Duration::from_secs(seconds as u64), move |_| {
                    if let Some(store) = weak.upgrade() {
                        store.borrow_mut().remove(&name);
                    }
                });
                store.expire(key, Expiry(timer));
            }
            reply.integer(is_there.into());
        }
        (b"LPUSH", [key, elements @ ..]) if !elements.is_empty() => {
            reply.integer(store.push_front(key, elements)? as i64);
        }
        (b"LRANGE", [key, start, stop]) => {
            let (start, stop) = (number(start)?, number(stop)?);
            let list = store.list(key)?;
            let len = list.map_or(0, |list| list.len() as i64);
            // A negative place counts from the end.
            let place = |at: i64| if at < 0 { at + len } else { at };
            let (start, stop) = (place(start).max(0), place(stop).min(len - 1));
            match list {
                Some(list) if start <= stop => {
                    reply.array((stop - start + 1) as usize);
                    for text in list.range(start as usize..=stop as usize) {
                        element(reply, Some(text))?;
                    }
                }
                _ => reply.array(0),
            }
        }
        // Clients ask these before anything else.
        (b"CONFIG", [get, name]) if get.eq_ignore_ascii_case(b"GET") => {
            let limit = store.limit().to_string();
            let known = [("save", ""), ("appendonly", "no"), ("maxmemory", &limit)];
            let found = known.iter().find(|known| known.0.as_bytes() == *name);
            reply.array(2 * found.iter().len());
            if let Some((name, value)) = found {
                reply.bulk(name.as_bytes());
                reply.bulk(value.as_bytes());
            }
        }
        (b"CLIENT", [set, ..]) if set.len() == 7 && set[..3].eq_ignore_ascii_case(b"SET") => {
            reply.status("OK");
        }
        (b"COMMAND", _) => reply.array(0),
        (b"SELECT", [b"0"]) => reply.status("OK"),
        (b"HELLO", _) => return Err("NOPROTO unsupported protocol version"),
        (
            b"GET" | b"SET" | b"MGET" | b"DEL" | b"INCR" | b"INCRBY" | b"EXPIRE" | b"LPUSH"
            | b"LRANGE" | b"PING" | b"SUBSCRIBE" | b"PUBLISH",
            _,
        ) => return Err("ERR wrong number of arguments"),
        _ => {
            // Escaped: it may have an end of a line in it.
            let name = command.escape_ascii();
            reply.error(&format!("ERR unknown command '{name}'"));
        }
    }
    Ok(())
}

fn element(reply: &mut Reply, text: Option<&[u8]>) -> Result<(), Refused> {
    reply.bulk_or_nil(text);
    match reply.0.len() {
        ..=MAX_REPLY => Ok(()),
        _ => Err("ERR the reply is too long"),
    }
}

fn number(text: &[u8]) -> Result<i64, Refused> {
    let text = str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).ok_or(NOT_A_NUMBER)
}
