//! `start_tls` of asyncio and of ours, in the middle of a connection.

use super::Files;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use support::interop::Program;
use support::{drive, echo_stream, pattern, strict_loop};
use tidegate_streams::{StreamReader, StreamWriter, open_connection, spawn_on, start_server_on};
use tidegate_tls::prelude::*;

const LEN: usize = 8 << 20;

const STARTTLS: &str = "STARTTLS\r\n";

fn asyncio(arguments: &[&str]) -> Program {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/starttls_peer.py");
    Program::talking("python3", [&[script], arguments].concat())
}

#[test]
fn asyncio_starts_tls_with_our_server_and_gets_8_mb_back() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let config = Arc::new(files.authority.server());
    let is_over = Rc::new(Cell::new(false));
    let noted = is_over.clone();
    let serve = async move |mut reader: StreamReader, writer: StreamWriter| {
        loop {
            let line = reader.read_line().await?;
            if line == STARTTLS {
                break;
            }
            writer.write(&line)?;
        }
        writer.write(b"220 go ahead\r\n")?;
        reader.start_tls_server(config.clone()).await?;
        echo_stream(reader, writer).await?;
        noted.set(true);
        Ok(())
    };
    let server = start_server_on(event_loop.handle(), "127.0.0.1:0", serve).unwrap();
    let address = server.local_addrs()[0].to_string();
    let (roots, len) = (files.roots(), LEN.to_string());
    let mut client = asyncio(&["connect", &address, "--roots", &roots, "--bytes", &len]);
    assert_eq!(client.expect(&mut event_loop, "encrypted "), "TLSv1.3");
    client.expect(&mut event_loop, "whole");
    client.expect_success(&mut event_loop);
    drive(&mut event_loop, "the end of our part", || is_over.get());
}

#[test]
fn our_client_starts_tls_with_asyncio_and_gets_8_mb_back() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let [certificate, key] = files.certify("localhost");
    let files_of_server = ["--cert", &certificate, "--key", &key];
    let mut server = asyncio(&[&["serve", "127.0.0.1:0"], &files_of_server[..]].concat());
    let address = server.expect(&mut event_loop, "listening on ");
    let config = Arc::new(files.authority.client());
    let is_over = Rc::new(Cell::new(false));
    let noted = is_over.clone();
    drop(spawn_on(event_loop.handle(), async move {
        let (mut reader, writer) = open_connection(address.as_str()).await.unwrap();
        for _ in 0..100 {
            writer.write(b"NOOP\r\n").unwrap();
        }
        writer.write(STARTTLS.as_bytes()).unwrap();
        for _ in 0..100 {
            assert_eq!(reader.read_line().await.unwrap(), "NOOP\r\n");
        }
        assert_eq!(reader.read_line().await.unwrap(), "220 go ahead\r\n");
        let started = reader.start_tls_client(config, "localhost");
        started.await.unwrap();
        for round in 0..128 {
            let sent = pattern(round, LEN / 128);
            writer.write(&sent).unwrap();
            let mut back = vec![0; sent.len()];
            reader.read_exact(&mut back).await.unwrap();
            assert!(back == sent);
        }
        writer.close().await.unwrap();
        assert!(writer.closed().unwrap().is_clean());
        noted.set(true);
    }));
    assert_eq!(server.expect(&mut event_loop, "encrypted "), "TLSv1.3");
    drive(&mut event_loop, "the end of our part", || is_over.get());
    server.expect_success(&mut event_loop);
}
