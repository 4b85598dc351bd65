//! TLS in the middle of a conversation, as SMTP does it (RFC 3207): a server as a callback protocol, and
//! a client as async code.
//!
//! Run, with a certificate as for `tls_echo`:
//!
//!     cargo run --example starttls -- --listen 127.0.0.1:2525 --cert cert.pem --key key.pem
//!
//! Expect `listening on 127.0.0.1:2525`; then
//!
//!     cargo run --example starttls -- --connect 127.0.0.1:2525 --ca cert.pem
//!     openssl s_client -connect 127.0.0.1:2525 -starttls smtp -CAfile cert.pem -quiet -crlf
//!
//! The first prints its conversation. Mail is not delivered. Ctrl-C ends the server.
//!
//! A client that knows what comes may send the command and the first bytes of its handshake at once.
//! The server gives TLS all that it has received behind the command, so none of it is lost. None of
//! it is taken for a command either, which anyone on the way could have put there.

use std::mem;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tidegate::{EventLoop, Protocol, Result, Transport};
use tidegate_examples::{Args, CERT, KEY, LISTEN, exit_code, print_addresses, say};
use tidegate_streams::{StreamReader, StreamWriter, block_on, open_connection, timeout};
use tidegate_tls::rustls::{ClientConfig, ServerConfig};
use tidegate_tls::{client_config_from_pem, prelude::*, server_config_from_pem};

/// The maximum length of a command with its line break, in bytes (RFC 5321, section 4.5.3.1.4).
const MAX_COMMAND: usize = 512;

/// The time that the client gives the server for all of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// One client of the server.
struct Session {
    config: Arc<ServerConfig>,
    /// Received, and not a whole line yet.
    input: Vec<u8>,
    greeted: bool,
}

impl Session {
    fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            input: Vec::new(),
            greeted: false,
        }
    }

    /// Takes the first line, without its line break.
    fn line(&mut self) -> Option<String> {
        let end = self.input.windows(2).position(|two| two == b"\r\n")?;
        let line: Vec<u8> = self.input.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn command(&mut self, transport: &Transport, line: &str) -> Result {
        let word = line.split(' ').next().unwrap_or_default();
        let is_encrypted = transport.tls().is_some();
        match &*word.to_ascii_uppercase() {
            "EHLO" if is_encrypted => {
                self.greeted = true;
                transport.write(b"250 localhost\r\n")?;
            }
            "EHLO" => {
                self.greeted = true;
                transport.write(b"250-localhost\r\n250 STARTTLS\r\n")?;
            }
            "STARTTLS" if !is_encrypted => self.start_tls(transport)?,
            "QUIT" => {
                transport.write(b"221 good bye\r\n")?;
                transport.close();
            }
            "MAIL" | "RCPT" if !is_encrypted => {
                transport.write(b"530 first STARTTLS\r\n")?;
            }
            "MAIL" | "RCPT" if self.greeted => {
                transport.write(b"250 taken\r\n")?;
            }
            "NOOP" => {
                transport.write(b"250 done\r\n")?;
            }
            _ => {
                transport.write(b"503 not now\r\n")?;
            }
        }
        Ok(())
    }

    /// The reply goes in the clear, and everything after it through TLS.
    fn start_tls(&mut self, transport: &Transport) -> Result {
        transport.write(b"220 go ahead\r\n")?;
        let unread = mem::take(&mut self.input);
        // When the handshake fails, the connection ends with the reason.
        transport
            .start_tls_server(self.config.clone(), &unread)
            .detach();
        // Anyone on the way could have said it (RFC 3207, section 4.2).
        self.greeted = false;
        Ok(())
    }
}

impl Protocol for Session {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.write(b"220 localhost ready\r\n")?;
        Ok(())
    }

    /// Comes with plain bytes, before TLS and through it.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.input.extend_from_slice(data);
        while let Some(line) = self.line() {
            self.command(transport, &line)?;
            if transport.is_closing() {
                return Ok(());
            }
        }
        if self.input.len() > MAX_COMMAND {
            transport.write(b"500 too long\r\n")?;
            transport.close();
        }
        Ok(())
    }
}

fn serve(args: &Args) -> Result {
    let config = server_config_from_pem(args.required("cert")?, args.required("key")?)?;
    let config = Arc::new(config);
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let factory = move || Session::new(config.clone());
    let at = args.listen("127.0.0.1:2525");
    let server = event_loop.handle().create_server(at, factory)?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

/// The client's end of a conversation.
struct Talk {
    reader: StreamReader,
    writer: StreamWriter,
}

impl Talk {
    async fn say(&mut self, command: &str) -> Result {
        say!("> {command}");
        write!(self.writer, "{command}\r\n")?;
        self.hear().await
    }

    /// Reads a reply: lines up to the one with a space behind its code, which must tell of success.
    async fn hear(&mut self) -> Result {
        loop {
            let line = self.reader.read_line().await?;
            let line = String::from_utf8_lossy(&line);
            let line = line.strip_suffix("\r\n").ok_or("the server has left")?;
            say!("< {line}");
            match line.as_bytes() {
                [b'2', _, _, b'-', ..] => {}
                [b'2', ..] => return Ok(()),
                _ => return Err(format!("refused: {line}").into()),
            }
        }
    }
}

async fn connect(to: String, name: String, config: ClientConfig) -> Result {
    let (reader, writer) = open_connection(to.as_str()).await?;
    let mut talk = Talk { reader, writer };
    talk.hear().await?;
    talk.say("EHLO client").await?;
    talk.say("STARTTLS").await?;
    talk.reader
        .start_tls_client(Arc::new(config), &name)
        .await?;
    let tls = talk.writer.transport().tls().ok_or("no TLS")?;
    let version = tls.version.and_then(|version| version.as_str());
    say!("encrypted: {}", version.unwrap_or("an unknown version"));
    talk.say("EHLO client").await?;
    talk.say("MAIL FROM:<client@localhost>").await?;
    talk.say("QUIT").await?;
    talk.writer.close().await?;
    Ok(())
}

fn run() -> Result {
    let args = Args::from_env(&[
        LISTEN,
        CERT,
        KEY,
        ("connect", LISTEN.1),
        ("ca", "FILE"),
        ("name", "NAME"),
    ])?;
    let Some(to) = args.get("connect") else {
        return serve(&args);
    };
    let config = client_config_from_pem(args.required("ca")?)?;
    let name = args.get("name").unwrap_or("localhost");
    let talk = connect(to.to_owned(), name.to_owned(), config);
    block_on(async { timeout(PATIENCE, talk).await? })?
}

fn main() -> ExitCode {
    exit_code(run)
}
