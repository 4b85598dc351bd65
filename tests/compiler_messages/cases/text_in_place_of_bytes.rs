//! The message leads to `write`, whose documentation says how text is written.

use tidegate::{Result, Transport};
use tidegate_streams::StreamWriter;

fn of_a_transport(transport: &Transport, text: &str) -> Result {
    transport.write(text)?;
    transport.write("hello\n")?;
    Ok(())
}

fn of_a_stream(writer: &StreamWriter, text: &str) -> Result {
    writer.write(text)?;
    Ok(())
}

fn main() {}
