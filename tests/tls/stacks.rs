//! TLS on and below other layers: those of users, and itself.

use std::sync::Arc;
use support::seal::Seal;
use support::{Authority, Kind, Log, Recorder, Served, TempDir, drive, each_kind, pattern};
use tidegate::{ConnectOptions, EventLoop, ListenOptions};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::{ClientConfig, ServerConfig};

/// From the wire up: TLS, and a layer of a user.
const STACKS: [&str; 5] = ["ttt", "ts", "st", "sts", "tst"];

fn listen(on: ListenOptions, stack: &str, config: &Arc<ServerConfig>) -> ListenOptions {
    stack.chars().fold(on, |options, which| match which {
        't' => options.tls(config.clone()),
        _ => options.layer(Seal::server),
    })
}

fn connect(to: ConnectOptions, stack: &str, config: &Arc<ClientConfig>) -> ConnectOptions {
    stack.chars().fold(to, |options, which| match which {
        't' => options.tls_as(config.clone(), "localhost"),
        _ => options.layer(Seal::client()),
    })
}

each_kind!(what_goes_in_comes_out_of_any_stack);
fn what_goes_in_comes_out_of_any_stack(kind: Kind) {
    const LEN: usize = 300_000;
    let authority = Authority::new();
    let (server, client) = (Arc::new(authority.server()), Arc::new(authority.client()));
    let [question, answer] = [0, 1].map(|from| pattern(from, LEN));
    for stack in STACKS {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let options = listen(ListenOptions::new(kind.somewhere(&dir)), stack, &server);
        let (data, mut is_asked) = (answer.clone(), false);
        let served = Served::new(event_loop.handle(), options, move |recorder| {
            let data = data.clone();
            recorder.on_data(move |transport, _| {
                if !std::mem::replace(&mut is_asked, true) {
                    transport.write(&data)?;
                }
                Ok(())
            })
        });
        let to = connect(ConnectOptions::new(served.address()), stack, &client);
        let log = Log::new();
        let completion = event_loop
            .handle()
            .create_connection(to, Recorder::new(&log));
        let transport = event_loop.run_until(completion).unwrap();
        transport.write(&question).unwrap();
        drive(&mut event_loop, stack, || {
            log.data_len() >= LEN && served.log(0).data_len() >= LEN
        });
        assert!(log.data() == answer, "{stack}");
        assert!(served.log(0).data() == question, "{stack}");
        transport.write(b"the end").unwrap();
        transport.close();
        drive(&mut event_loop, stack, || {
            log.is_lost() && served.log(0).is_lost()
        });
        assert_eq!(served.log(0).data_len(), LEN + 7, "{stack}");
        assert_eq!(served.log(0).reason(), "peer-eof", "{stack}");
        assert_eq!(log.reason(), "local-close", "{stack}");
        assert_eq!(transport.sent(), transport.written(), "{stack}");
    }
}
