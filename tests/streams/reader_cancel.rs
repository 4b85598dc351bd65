//! A read that is dropped before it is done has taken nothing: wherever it was, later reads bring
//! every byte once, and are woken.

use futures_io::AsyncBufRead;
use std::future::poll_fn;
use std::pin::Pin;
use support::{Kind, Polled, Streamed, drive, each_kind, give_up, now, settle, wait};
use tidegate_streams::{ReadError, StreamReader};

const MESSAGE: &[u8] = b"ab\ncde--f\r\ngh--\n";

#[derive(Debug, Clone, Copy)]
enum Method {
    Read,
    Chunk,
    Exact,
    Until,
    UntilSeveral,
    Line,
    LineWithin,
    Lines,
    ToEnd,
    Fill,
}

impl Method {
    const ALL: [Self; 10] = [
        Self::Read,
        Self::Chunk,
        Self::Exact,
        Self::Until,
        Self::UntilSeveral,
        Self::Line,
        Self::LineWithin,
        Self::Lines,
        Self::ToEnd,
        Self::Fill,
    ];

    /// Returns the bytes that a read of this kind took.
    async fn run(self, reader: &mut StreamReader) -> Vec<u8> {
        let mut buffer = [0; 7];
        let result = match self {
            Self::Read => {
                let read = reader.read(&mut buffer).await;
                read.map(|len| buffer[..len].to_vec())
            }
            Self::Chunk => reader.read_chunk(7).await.map(|read| read.to_vec()),
            Self::Exact => {
                let read = reader.read_exact(&mut buffer).await;
                read.map(|()| buffer.to_vec())
            }
            Self::Until => reader.read_until(b"--").await.map(|read| read.to_vec()),
            Self::UntilSeveral => {
                let separators: [&[u8]; 2] = [b"\r\n", b"-"];
                let read = reader.read_until(&separators).await;
                read.map(|read| read.to_vec())
            }
            Self::Line => reader.read_line().await.map(|read| read.to_vec()),
            Self::LineWithin => {
                let read = reader.with_limit(3).read_line().await;
                read.map(|read| read.to_vec())
            }
            Self::Lines => {
                let read = reader.lines().next().await;
                read.map(|read| read.unwrap_or_default().to_vec())
            }
            Self::ToEnd => reader.read_to_end(12).await.map(|read| read.to_vec()),
            Self::Fill => {
                // Lent, and of three bytes one is used up.
                let lent = poll_fn(|context| {
                    let reader = Pin::new(&mut *reader);
                    reader.poll_fill_buf(context).map_ok(<[u8]>::to_vec)
                });
                let mut used = lent.await.unwrap();
                used.truncate(used.len().div_ceil(3));
                Pin::new(reader).consume(used.len());
                Ok(used)
            }
        };
        match result {
            Ok(read) => read,
            Err(ReadError::Incomplete(incomplete)) => incomplete.partial.to_vec(),
            Err(ReadError::LimitOverrun(_)) => Vec::new(),
            Err(error) => panic!("{self:?}: {error}"),
        }
    }
}

/// The rest of the stream, by reads that wait.
fn rest(s: &mut Streamed) -> Vec<u8> {
    s.peer.shutdown_write();
    let read = s.reader.read_to_end(usize::MAX);
    wait(&mut s.event_loop, "the rest", read).unwrap().to_vec()
}

/// At each place of the message a read begins; it is dropped before it is polled, while it waits,
/// woken, or polled again. Reading may be paused meanwhile.
fn dropped_everywhere(kind: Kind, method: Method, limit: usize) {
    for at in 0..=MESSAGE.len() {
        let mut s = Streamed::new(kind);
        s.reader.set_limit(limit);
        s.peer.send(&MESSAGE[..at]);
        settle(&mut s.event_loop);
        let mut read = Vec::new();
        drop(Polled::new(method.run(&mut s.reader)));
        let mut reading = Polled::new(method.run(&mut s.reader));
        if let std::task::Poll::Ready(taken) = reading.poll() {
            read.extend(taken);
        }
        drop(reading);
        let mut reading = Polled::new(method.run(&mut s.reader));
        match reading.poll() {
            std::task::Poll::Ready(taken) => read.extend(taken),
            std::task::Poll::Pending => {
                // Whatever comes wakes it, and once more it is polled or not.
                s.peer.send(&MESSAGE[at..]);
                drive(&mut s.event_loop, "a wake", || reading.is_woken());
                if at % 2 == 0
                    && let std::task::Poll::Ready(taken) = reading.poll()
                {
                    read.extend(taken);
                }
                drop(reading);
                read.extend(rest(&mut s));
                assert_eq!(read, MESSAGE, "{kind:?} {method:?} {limit} at {at}");
                continue;
            }
        }
        drop(reading);
        s.peer.send(&MESSAGE[at..]);
        read.extend(rest(&mut s));
        assert_eq!(read, MESSAGE, "{kind:?} {method:?} {limit} at {at}");
    }
}

each_kind!(a_read_dropped_wherever_it_was_loses_and_doubles_nothing);
fn a_read_dropped_wherever_it_was_loses_and_doubles_nothing(kind: Kind) {
    for method in Method::ALL {
        dropped_everywhere(kind, method, 64 * 1024);
    }
}

each_kind!(a_read_dropped_while_reading_is_held_back_loses_and_doubles_nothing);
fn a_read_dropped_while_reading_is_held_back_loses_and_doubles_nothing(kind: Kind) {
    for method in Method::ALL {
        for limit in [1, 2, 5] {
            dropped_everywhere(kind, method, limit);
        }
    }
}

each_kind!(a_read_dropped_at_any_byte_takes_nothing_that_it_does_not_return);
fn a_read_dropped_at_any_byte_takes_nothing_that_it_does_not_return(kind: Kind) {
    for first in 0..Method::ALL.len() {
        let mut s = Streamed::new(kind);
        let mut read = Vec::new();
        for (i, byte) in MESSAGE.iter().enumerate() {
            for method in [i, i / 2, i + 3] {
                let method = Method::ALL[(first + method) % Method::ALL.len()];
                if let std::task::Poll::Ready(taken) = Polled::new(method.run(&mut s.reader)).poll()
                {
                    read.extend(taken);
                }
            }
            s.feed(&[*byte]);
        }
        read.extend(rest(&mut s));
        assert_eq!(read, MESSAGE, "{kind:?}, first {first}");
    }
}

each_kind!(a_read_that_was_woken_and_dropped_leaves_the_bytes_to_the_next_one);
fn a_read_that_was_woken_and_dropped_leaves_the_bytes_to_the_next_one(kind: Kind) {
    for method in Method::ALL {
        let mut s = Streamed::new(kind);
        let mut reading = Polled::new(s.reader.read_line());
        assert!(reading.poll().is_pending());
        s.peer.send(MESSAGE);
        drive(&mut s.event_loop, "a wake", || reading.is_woken());
        drop(reading);
        s.end();
        let mut read = now(method.run(&mut s.reader));
        read.extend(now(s.reader.read_to_end(99)).unwrap());
        assert_eq!(read, MESSAGE, "{method:?}");
    }
}

each_kind!(the_latest_of_the_tasks_that_read_is_woken);
fn the_latest_of_the_tasks_that_read_is_woken(kind: Kind) {
    let mut s = Streamed::new(kind);
    give_up(s.reader.read_line());
    give_up(s.reader.read_chunk(1));
    s.peer.send(b"a line\n");
    let line = wait(&mut s.event_loop, "the line", s.reader.read_line());
    assert_eq!(line.unwrap(), "a line\n");
}

each_kind!(each_read_cancelled_while_reading_is_held_lets_in_one_more_at_most);
fn each_read_cancelled_while_reading_is_held_lets_in_one_more_at_most(kind: Kind) {
    // The loop's buffer for reads.
    const ONE_READ: usize = 128 * 1024;
    let mut s = Streamed::new(kind);
    s.reader.set_limit(1000);
    let data = vec![b'+'; 1 << 20];
    let mut before = 0;
    for _ in 0..5 {
        s.peer.write(&data);
        settle(&mut s.event_loop);
        assert!(!s.writer.transport().is_reading());
        let held = s.received();
        assert!(held > before && held <= before + 2000 + ONE_READ, "{held}");
        before = held;
        give_up(s.reader.read_exact(&mut vec![0; 1 << 20]));
    }
    assert_eq!(now(s.reader.read_chunk(usize::MAX)).unwrap().len(), before);
}
