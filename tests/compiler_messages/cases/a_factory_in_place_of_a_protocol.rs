//! The message says which function takes a protocol, and which a closure.

use tidegate::{Handle, Protocol};

struct Echo;

impl Protocol for Echo {}

fn connect(handle: &Handle) {
    handle.create_connection("127.0.0.1:8888", || Echo).detach();
}

fn main() {}
