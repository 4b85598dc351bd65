//! Readers without a connection.

use support::{Polled, give_up, now};
use tidegate_streams::{Feed, StreamOptions, StreamReader};

fn detached() -> (StreamReader, Feed) {
    StreamReader::detached(StreamOptions::new())
}

#[test]
fn what_is_fed_is_read_and_a_read_waits_for_it_on_any_executor() {
    let (mut reader, feed) = detached();
    let mut line = Polled::new(reader.read_line());
    assert!(line.poll().is_pending());
    feed.data(b"half");
    assert!(line.is_woken());
    assert!(line.poll().is_pending());
    feed.data(b" a line\nand more");
    assert!(line.is_woken());
    assert_eq!(&line.value().unwrap()[..], b"half a line\n");
    drop(line);
    assert_eq!(reader.buffered(), 8);
    assert_eq!(now(reader.peek(3)).unwrap(), b"and");
    assert_eq!(&now(reader.read_chunk(100)).unwrap()[..], b"and more");
    give_up(reader.readable());
}

#[test]
fn the_stream_ends_with_eof_or_with_the_feed() {
    type End = fn(Feed) -> Option<Feed>;
    let ends: [End; 2] = [
        |feed| {
            feed.eof();
            Some(feed)
        },
        |feed| {
            drop(feed);
            None
        },
    ];
    for end in ends {
        let (mut reader, feed) = detached();
        feed.data(b"rest");
        assert!(!reader.at_eof());
        let left = {
            let mut read = Polled::new(reader.read_to_end(100));
            assert!(read.poll().is_pending());
            let left = end(feed);
            assert!(read.is_woken());
            assert_eq!(&read.value().unwrap()[..], b"rest");
            left
        };
        assert!(reader.at_eof());
        if let Some(feed) = left {
            feed.data(b"late");
        }
        assert!(reader.at_eof(), "what comes after the end is discarded");
        assert!(reader.closed().is_none());
        assert!(reader.transport().is_none());
    }
}

#[test]
fn a_reader_is_full_above_twice_its_limit_until_it_is_at_the_limit() {
    let (mut reader, feed) = StreamReader::detached(StreamOptions::new().limit(10));
    feed.data(&[1; 20]);
    assert!(!feed.is_full());
    feed.data(&[1]);
    assert!(feed.is_full());
    now(reader.read_chunk(10)).unwrap();
    assert!(feed.is_full(), "11 bytes are left");
    now(reader.read_chunk(1)).unwrap();
    assert!(!feed.is_full());
    // A read that waits for more goes on, as for a connection.
    feed.data(&[1; 11]);
    assert!(feed.is_full());
    let mut exact = [0; 22];
    let mut read = Polled::new(reader.read_exact(&mut exact));
    assert!(read.poll().is_pending());
    assert!(!feed.is_full());
    feed.data(&[2]);
    read.value().unwrap();
    drop(read);
    feed.data(&[1; 15]);
    reader.set_limit(5);
    assert!(feed.is_full(), "{reader:?}");
}

#[test]
fn what_is_fed_to_a_reader_that_was_dropped_is_discarded() {
    let (reader, feed) = detached();
    drop(reader);
    feed.data(b"nobody");
    assert!(format!("{feed:?}").contains("buffered: 0"), "{feed:?}");
}
