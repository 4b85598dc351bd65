//! The message leads to the bound, and says what goes to the other thread instead.

use std::cell::Cell;
use std::rc::Rc;
use tidegate::{Handle, RemoteHandle, Transport};

fn with_an_rc(remote: &RemoteHandle, count: Rc<Cell<u32>>) {
    let _ = remote.call_soon_threadsafe(move |_| count.set(1));
}

fn with_a_handle(remote: &RemoteHandle, handle: Handle) {
    let _ = remote.call_soon_threadsafe(move |_| handle.stop());
}

fn with_a_transport(remote: &RemoteHandle, transport: Transport) {
    let _ = remote.call_soon_threadsafe(move |_| transport.abort());
}

fn main() {}
