//! The data that the connections of a server share, and replies made of it.

use crate::codec::Limits;
use crate::reply::{self, Page, Persistence, Status};
use bytes::Bytes;
use std::cell::RefCell;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate::{Result, Transport};

pub(crate) struct Site {
    pub(crate) limits: Limits,
    /// The bytes of a long reply, again and again.
    pub(crate) block: Bytes,
    page: RefCell<Page>,
    /// Memory in which a head is put together.
    head: RefCell<Vec<u8>>,
}

impl Site {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            block: vec![b'x'; 64 * 1024].into(),
            page: RefCell::new(Page::at(UNIX_EPOCH)),
            head: RefCell::default(),
        }
    }

    /// Sets the time of the replies.
    pub(crate) fn set_time(&self, time: SystemTime) {
        self.page.replace(Page::at(time));
    }

    /// Sends a head, and a short body; `rest` writes what follows the fields that all replies have.
    pub(crate) fn reply(
        &self,
        transport: &Transport,
        status: Status,
        persistence: Persistence,
        rest: impl FnOnce(&mut Vec<u8>),
    ) -> Result {
        let mut out = self.head.borrow_mut();
        out.clear();
        reply::begin(&mut out, status, self.page.borrow().date(), persistence);
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
        let page = self.page.borrow();
        if persistence == Persistence::Kept && !is_head {
            transport.write(page.kept())?;
            return Ok(());
        }
        let mut out = self.head.borrow_mut();
        out.clear();
        page.put(&mut out, persistence, is_head);
        transport.write(&out)?;
        Ok(())
    }
}

/// Ends a head with the length of the body.
pub(crate) fn put_length(out: &mut Vec<u8>, len: u64) {
    // A Vec takes everything.
    let _ = write!(out, "Content-Length: {len}\r\n\r\n");
}
