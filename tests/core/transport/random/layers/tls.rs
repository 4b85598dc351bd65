//! TLS at both ends.

use super::Theirs;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use support::Authority;
use tidegate::Layer;
use tidegate_tls::Tls;
use tidegate_tls::rustls::client::{ClientConnection, Resumption};
use tidegate_tls::rustls::pki_types::ServerName;
use tidegate_tls::rustls::server::{NoServerSessionStorage, ServerConnection};
use tidegate_tls::rustls::version::{TLS12, TLS13};
use tidegate_tls::rustls::{ClientConfig, Connection, ServerConfig};

struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Of the old version and the new one. No session is resumed: a case is to be a function of its seed.
static CONFIGS: LazyLock<[Configs; 2]> = LazyLock::new(|| {
    let authority = Authority::new();
    [&TLS12, &TLS13].map(|version| {
        let mut server = authority.server_of(&[version]);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let mut client = authority.client_of(&[version]);
        client.resumption = Resumption::disabled();
        Configs {
            server: Arc::new(server),
            client: Arc::new(client),
        }
    })
});

fn configs(old: bool) -> &'static Configs {
    &CONFIGS[usize::from(!old)]
}

fn name() -> ServerName<'static> {
    ok("localhost".try_into())
}

pub(super) fn ours(old: bool, accepts: bool) -> Box<dyn Layer> {
    let configs = configs(old);
    Box::new(match accepts {
        true => Tls::server(configs.server.clone()),
        false => Tls::client(configs.client.clone(), name()),
    })
}

/// The other end of [`ours`].
pub(super) fn theirs(old: bool, accepts: bool) -> Box<dyn Theirs> {
    let configs = configs(old);
    let mut tls: Connection = match accepts {
        true => ok(ClientConnection::new(configs.client.clone(), name())).into(),
        false => ok(ServerConnection::new(configs.server.clone())).into(),
    };
    tls.set_buffer_limit(None);
    Box::new(Session { tls, ended: false })
}

struct Session {
    tls: Connection,
    ended: bool,
}

impl Session {
    fn put_out(&mut self, words: &mut Vec<u8>) {
        while self.tls.wants_write() {
            ok(self.tls.write_tls(words));
        }
    }
}

impl Theirs for Session {
    fn start(&mut self, words: &mut Vec<u8>) {
        self.put_out(words);
    }

    fn encode(&mut self, data: Vec<u8>, words: &mut Vec<u8>) {
        ok(self.tls.writer().write_all(&data));
        self.put_out(words);
    }

    fn decode(&mut self, data: Vec<u8>, words: &mut Vec<u8>) -> Result<Vec<u8>, String> {
        let mut input = &data[..];
        let mut above = Vec::new();
        while !input.is_empty() {
            if self.ended {
                return Err("bytes behind a close_notify".to_owned());
            }
            ok(self.tls.read_tls(&mut input));
            let state = self.tls.process_new_packets();
            let state = state.map_err(|error| error.to_string())?;
            let from = above.len();
            above.resize(from + state.plaintext_bytes_to_read(), 0);
            ok(self.tls.reader().read_exact(&mut above[from..]));
            self.ended = state.peer_has_closed();
        }
        self.put_out(words);
        Ok(above)
    }

    fn end(&mut self, words: &mut Vec<u8>) {
        self.tls.send_close_notify();
        self.put_out(words);
    }

    fn is_ready(&self) -> bool {
        !self.tls.is_handshaking()
    }

    fn saw_end(&self) -> Option<bool> {
        Some(self.ended)
    }
}

#[track_caller]
fn ok<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}
