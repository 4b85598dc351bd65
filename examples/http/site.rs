//! The data that the connections of a server share, and replies made of it.

use crate::codec::Limits;
use crate::reply::{self, PAGE, PAGE_FIELDS, Persistence, Status};
use bytes::Bytes;
use std::cell::RefCell;
use std::io::Write;
use tidegate::{Result, Transport};

pub(crate) struct Site {
    pub(crate) limits: Limits,
    /// The bytes of a long reply, again and again.
    pub(crate) block: Bytes,
    date: RefCell<String>,
    /// Memory in which a head is put together.
    head: RefCell<Vec<u8>>,
}

impl Site {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            block: vec![b'x'; 64 * 1024].into(),
            date: RefCell::new("Thu, 01 Jan 1970 00:00:00 GMT".to_owned()),
            head: RefCell::default(),
        }
    }

    /// Sets the date of the replies.
    pub(crate) fn set_date(&self, date: String) {
        self.date.replace(date);
    }

    /// Sends a head, and a short body; `rest` writes what follows the fields that all replies have.
    #[inline]
    pub(crate) fn reply(
        &self,
        transport: &Transport,
        status: Status,
        persistence: Persistence,
        rest: impl FnOnce(&mut Vec<u8>),
    ) -> Result {
        let mut out = self.head.borrow_mut();
        out.clear();
        reply::begin(&mut out, status, &self.date.borrow(), persistence);
        rest(&mut out);
        transport.write(&out)?;
        Ok(())
    }

    /// Sends the page, or its head alone.
    #[inline]
    pub(crate) fn page(
        &self,
        transport: &Transport,
        persistence: Persistence,
        is_head: bool,
    ) -> Result {
        self.reply(transport, Status::Ok, persistence, |out| {
            out.extend_from_slice(PAGE_FIELDS.as_bytes());
            if !is_head {
                out.extend_from_slice(PAGE.as_bytes());
            }
        })
    }
}

/// Ends a head with the length of the body.
pub(crate) fn put_length(out: &mut Vec<u8>, len: u64) {
    // A Vec takes everything.
    let _ = write!(out, "Content-Length: {len}\r\n\r\n");
}
