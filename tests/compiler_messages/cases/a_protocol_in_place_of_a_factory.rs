//! The message leads to the bound, and shows a closure.

use tidegate::{Handle, Protocol};

struct Echo;

impl Protocol for Echo {}

fn serve(handle: &Handle) {
    let _ = handle.create_server("127.0.0.1:8888", Echo);
    let _ = handle.create_server_with("127.0.0.1:8888", Echo);
}

fn main() {}
