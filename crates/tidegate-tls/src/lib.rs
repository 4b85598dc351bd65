//! TLS for [`tidegate`]: [rustls] as a [`Layer`](tidegate::Layer) between the socket of a
//! connection and its protocol.
//!
//! Nothing else changes. A protocol reads and writes plain bytes; `written`, `sent`, watermarks and the
//! cap count these. `connection_made`, and the completion of a connect, come when the handshake is done.
//!
//! ```
//! use std::sync::Arc;
//! use tidegate::{ConnectOptions, EventLoop, ListenOptions, Protocol, Result, Transport};
//! use tidegate_tls::{client_config_from_pem, prelude::*, server_config_from_pem};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
//!         transport.write(data)?;
//!         Ok(())
//!     }
//! }
//!
//! struct Client;
//!
//! impl Protocol for Client {
//!     fn connection_made(&mut self, transport: &Transport) -> Result {
//!         let info = transport.tls().ok_or("no TLS")?;
//!         println!("{:?} with {:?}", info.version, info.cipher_suite);
//!         transport.write(b"Hello World!")?;
//!         Ok(())
//!     }
//!
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
//!         assert_eq!(data, b"Hello World!");
//!         transport.close();
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result {
//!     # let folder = std::env::temp_dir().join(format!("tidegate-tls-{}", std::process::id()));
//!     # std::fs::create_dir_all(&folder)?;
//!     # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
//!     # let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
//!     # std::fs::write(&cert, made.cert.pem())?;
//!     # std::fs::write(&key, made.signing_key.serialize_pem())?;
//!     # let config = server_config_from_pem(&cert, &key)?;
//!     # let trusting = client_config_from_pem(&cert)?;
//!     # std::fs::remove_dir_all(&folder)?;
//!     # #[cfg(any())]
//!     let config = server_config_from_pem("cert.pem", "key.pem")?;
//!     # #[cfg(any())]
//!     let trusting = client_config_from_pem("roots.pem")?;
//!
//!     let mut event_loop = EventLoop::new()?;
//!     let handle = event_loop.handle().clone();
//!     let options = ListenOptions::new("127.0.0.1:0").tls(Arc::new(config));
//!     let server = handle.create_server(options, || Echo)?;
//!
//!     let options = ConnectOptions::new(&server.local_addrs()[0])
//!         .tls_as(Arc::new(trusting), "localhost");
//!     let transport = event_loop.run_until(handle.create_connection(options, Client))?;
//!     let closed = event_loop.run_until(transport.wait_closed())?;
//!     assert!(closed.is_clean());
//!     Ok(())
//! }
//! ```
//!
//! # Where to begin
//!
//! The [`prelude`] has all methods: `tls` on the options of servers and connects,
//! [`start_tls_server`](TransportTls::start_tls_server) and
//! [`start_tls_client`](TransportTls::start_tls_client) on a connection that is there already, and
//! [`tls`](TransportTls::tls) on a connection, for what its handshake has negotiated. They take rustls's
//! own configurations, so everything that these can do works as it does there: application protocols
//! (ALPN), names (SNI), certificates of clients, sessions that are resumed. [`Tls`] is the layer itself,
//! for other settings, and says how an encrypted stream ends. The guide has
//! [a chapter on TLS](https://docs.rs/tidegate/latest/tidegate/guide/tls/).
//!
//! For protocols, servers and flow control see the
//! [guide](https://docs.rs/tidegate/latest/tidegate/guide/) of `tidegate`, with a chapter
//! [from asyncio](https://docs.rs/tidegate/latest/tidegate/guide/from_asyncio/).
//! [tidegate-streams](https://docs.rs/tidegate-streams) is async code over such connections, and
//! [tidegate-testkit](https://docs.rs/tidegate-testkit) has `check_layer` and simulated networks for tests.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `ring` | on | the configurations of [`server_config_from_pem`] and [`client_config_from_pem`] use ring |
//! | `aws-lc-rs` | off | they use aws-lc-rs; with both features, ring |
//! | `tls12` | on | TLS 1.2 beside 1.3 |
//! | `native-roots` | off | `client_config`, with the root certificates of the system |
//! | `streams` | off | `StreamTls`: TLS on a stream of tidegate-streams that is there already |
//!
//! A configuration of one's own has a provider of cryptography already, and the features do not matter.
//! No default for the process is installed, and none is needed.
//!
//! # Limits
//!
//! * A peer can make a connection keep the plain bytes that every connection may keep, one batch of
//!   128 KiB of encrypted ones, and a record or a message of the handshake that is not whole. rustls
//!   allows 64 KiB for a message.
//! * A handshake costs far more of the processor than a message does. Peers that begin many are to be
//!   refused by [`ListenOptions::accept_if`](tidegate::ListenOptions::accept_if).
//! * Early data is refused: see [`Tls`].
//! * The names of servers are checked as certificates of the web are; certificates are not looked up in
//!   lists of revoked ones, unless the configuration has a verifier that does.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod asked_name;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod config;
mod engine;
mod extension;
mod info;
#[cfg(feature = "streams")]
mod streams;
mod tls;

#[cfg(all(feature = "native-roots", any(feature = "ring", feature = "aws-lc-rs")))]
pub use config::client_config;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub use config::{client_config_from_pem, server_config_from_pem};
pub use extension::{ConnectTls, ListenTls, TransportTls};
pub use info::TlsInfo;
pub use rustls;
#[cfg(feature = "streams")]
pub use streams::StreamTls;
pub use tls::Tls;

/// Compiles the code of the README as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The methods that this crate adds to types of the core.
///
/// ```
/// use tidegate_tls::prelude::*;
/// ```
pub mod prelude {
    #[cfg(feature = "streams")]
    pub use crate::StreamTls as _;
    pub use crate::{ConnectTls as _, ListenTls as _, TransportTls as _};
}
