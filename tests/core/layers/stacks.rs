//! Layers on each other, in any order.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::seal::Seal;
use support::{
    Hooked, Kind, Log, Recorder, SHORT, Scene, Served, TempDir, drive, each_kind, pattern, settle,
    strict_loop,
};
use tidegate::{ConnectOptions, Layer, LayerIo, ListenOptions, Result};

/// Changes each byte by its place in the stream.
#[derive(Default)]
struct Mask {
    received: usize,
    sent: usize,
}

fn masked(data: &mut [u8], place: &mut usize) {
    for byte in data {
        *byte ^= *place as u8;
        *place += 1;
    }
}

impl Layer for Mask {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let (input, mut above, _) = io.parts();
        masked(input, &mut self.received);
        above.deliver(input);
        let len = input.len();
        io.consume(len);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let mut data = data.to_vec();
        masked(&mut data, &mut self.sent);
        io.send(&data);
        Ok(data.len())
    }
}

/// Doubles each byte, and takes a few at a time: none when it has just taken some, until its timer
/// comes.
#[derive(Default)]
struct Slow {
    rests: bool,
}

const STEP: usize = 5_001;

impl Layer for Slow {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let whole = io.input().len() & !1;
        let bytes: Vec<u8> = io.input()[..whole].iter().step_by(2).copied().collect();
        io.consume(whole);
        io.deliver(&bytes);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        if self.rests {
            return Ok(0);
        }
        let data = &data[..data.len().min(STEP)];
        let bytes: Vec<u8> = data.iter().flat_map(|&byte| [byte, byte]).collect();
        io.send(&bytes);
        self.rests = true;
        io.wake_after(Duration::from_micros(100));
        Ok(data.len())
    }

    fn timer(&mut self, _: &mut LayerIo<'_>) -> Result {
        self.rests = false;
        Ok(())
    }
}

/// One of the layers of this file, or a [`Seal`].
struct Any(Box<dyn Layer>);

impl Any {
    fn new(which: char, client: bool) -> Self {
        Self(match which {
            's' if client => Box::new(Seal::client()),
            's' => Box::new(Seal::server()),
            'm' => Box::new(Mask::default()),
            _ => Box::new(Slow::default()),
        })
    }
}

impl Layer for Any {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.0.start(io)
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.0.receive(io)
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.0.input_ended(io)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        self.0.send(data, io)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.0.end(io)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.0.timer(io)
    }
}

/// From the wire up: all orders of three layers, and each on itself.
const STACKS: [&str; 9] = [
    "sml", "slm", "msl", "mls", "lsm", "lms", "sss", "mmm", "lll",
];

fn what_goes_in_comes_out_of_any_stack(kind: Kind) {
    const LEN: usize = 60_000;
    for stack in STACKS {
        let mut event_loop = strict_loop();
        let dir = TempDir::new();
        let (mut listen, bytes) = (ListenOptions::new(kind.somewhere(&dir)), pattern(0, LEN));
        for which in stack.chars() {
            listen = listen.layer(move || Any::new(which, false));
        }
        let served = Served::echo(event_loop.handle(), listen);
        let mut connect = ConnectOptions::new(served.address());
        for which in stack.chars() {
            connect = connect.layer(Any::new(which, true));
        }
        let log = Log::new();
        let (data, first) = (bytes.clone(), 20_000);
        let recorder = Recorder::new(&log).on_made(move |transport| {
            transport.write(&data[..first])?;
            for part in data[first..].chunks(777) {
                transport.write_owned(part.to_vec())?;
            }
            Ok(())
        });
        let connect = event_loop.handle().create_connection(connect, recorder);
        let transport = event_loop.run_until(connect).unwrap();
        drive(&mut event_loop, stack, || log.data_len() >= LEN);
        assert!(log.data() == bytes, "{stack}");
        assert_eq!((transport.written(), transport.sent()), (60_000, 60_000));
        transport.write(b"the end").unwrap();
        transport.close();
        drive(&mut event_loop, stack, || {
            log.is_lost() && served.log(0).is_lost()
        });
        assert_eq!(served.log(0).data_len(), LEN + 7, "{stack}");
        assert_eq!(served.log(0).reason(), "peer-eof", "{stack}");
        assert_eq!(log.reason(), "local-close", "{stack}");
    }
}
each_kind!(what_goes_in_comes_out_of_any_stack);

/// The loop sleeps until the timer, whichever layer waits for it.
fn a_layer_that_takes_nothing_for_now_stalls_nobody_else(kind: Kind) {
    for above in [false, true] {
        let mut event_loop = strict_loop();
        let (_other, mut other_peer) =
            Scene::of(kind).on(&mut event_loop, Recorder::echo(&Log::new()));
        let log = Log::new();
        let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, Recorder::new(&log));
        let takes = Rc::new(Cell::new(0));
        let more = takes.clone();
        let layer = Hooked::new(move |method, io| {
            match method {
                "start" => io.wake_after(Duration::from_secs(3600)),
                "timer" => more.set(usize::MAX),
                _ => {}
            }
            Ok(())
        })
        .taking(&takes);
        if above {
            transport.push_layer(Mask::default(), b"").detach();
            event_loop
                .run_until(transport.push_layer(layer, b""))
                .unwrap();
        } else {
            transport.push_layer(layer, b"").detach();
            event_loop
                .run_until(transport.push_layer(Mask::default(), b""))
                .unwrap();
        }
        transport.write(&pattern(0, 50_000)).unwrap();
        settle(&mut event_loop);
        let before = event_loop.handle().stats().polls;
        // Its own input comes all the same.
        let mut input = b"input".to_vec();
        masked(&mut input, &mut 0);
        peer.send(&input);
        drive(&mut event_loop, "its input", || log.data() == b"input");
        other_peer.send(b"ping");
        other_peer.expect(&mut event_loop, 4);
        assert_eq!(transport.sent(), 0);
        transport.with_layer(|_: &mut Hooked, io| io.wake_after(SHORT));
        peer.expect(&mut event_loop, 50_000);
        let polls = event_loop.handle().stats().polls - before;
        assert!(polls < 100, "{polls} polls");
        assert_eq!(transport.sent(), 50_000);
    }
}
each_kind!(a_layer_that_takes_nothing_for_now_stalls_nobody_else);
