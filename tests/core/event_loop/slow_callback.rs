//! The log of slow callbacks.

use std::any::type_name;
use std::time::{Duration, Instant};
use support::logs::{keep_log, logged};
use support::{Kind, Log, Recorder, adopted, drive, settle};
use tidegate::{EventLoop, Protocol};

fn lines() -> Vec<String> {
    let slow = logged()
        .into_iter()
        .filter(|line| line.target == "tidegate::slow");
    let texts = slow.map(|line| {
        assert_eq!(line.level, log::Level::Warn);
        line.text
    });
    texts.collect()
}

const LIMIT: Duration = Duration::from_millis(20);

fn work() {
    let start = Instant::now();
    while start.elapsed() <= LIMIT {
        std::hint::spin_loop();
    }
}

/// The line's duration, as `Debug` prints it in milliseconds.
fn took(line: &str) -> Duration {
    let text = line.rsplit_once(" took ").unwrap().1;
    let ms: f64 = text.strip_suffix("ms").unwrap().parse().unwrap();
    Duration::from_secs_f64(ms / 1000.0)
}

#[test]
fn a_callback_over_the_threshold_is_logged_with_its_protocol_and_its_time() {
    keep_log(log::LevelFilter::Trace);
    let slow_on_s = |log: &Log| {
        Recorder::new(log).on_data(|_, data| {
            if data == b"slow" {
                work();
            }
            Ok(())
        })
    };
    let mut event_loop = EventLoop::builder().slow_callback(LIMIT).build().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    // A box is no protocol of its own.
    let boxed: Box<dyn Protocol> = Box::new(slow_on_s(&log));
    let (transport, mut peer) = adopted(&handle, Kind::Unix, boxed);
    peer.send(b"fast");
    drive(&mut event_loop, "the fast callback", || log.data_len() == 4);
    settle(&mut event_loop);
    assert_eq!(lines(), [""; 0]);

    peer.send(b"slow");
    drive(&mut event_loop, "the slow callback", || log.data_len() == 8);
    settle(&mut event_loop);
    let seen = lines();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let (name, id) = (type_name::<Recorder>(), transport.id());
    let said = format!("data_received of {name} on {id} (peer unnamed) took ");
    assert!(seen[0].starts_with(&said), "{seen:?}");
    assert!(took(&seen[0]) > LIMIT);

    // Callbacks of no connection are named by how they were scheduled.
    handle.call_soon(|_| work());
    handle.call_later(Duration::ZERO, |_| work());
    handle.callback(|_| work()).schedule();
    handle.call_soon(|_| {});
    settle(&mut event_loop);
    let seen = lines();
    assert_eq!(seen.len(), 3, "{seen:?}");
    for name in ["call_later", "call_soon", "a callback"] {
        assert!(seen.iter().any(|line| line.starts_with(name)), "{seen:?}");
    }
    assert!(seen.iter().all(|line| took(line) > LIMIT));

    // Off unless set.
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (_transport, mut peer) = adopted(event_loop.handle(), Kind::Unix, slow_on_s(&log));
    event_loop.handle().call_soon(|_| work());
    peer.send(b"slow");
    drive(&mut event_loop, "the slow callback", || log.data_len() == 4);
    assert_eq!(lines(), [""; 0]);
}
