//! A live connection that moves between the loops of two threads, again and again: nothing is lost, and
//! nothing comes twice. Counts the descriptors of the process.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use support::descriptors;
use tidegate::{Detached, EventLoop, Handle, Protocol, RemoteHandle, Result, Transport};

const MOVES: usize = 40_000;

/// Lines that the peer has under way at most: some meet the connection while it moves.
const AHEAD: usize = 16;

/// Replies to each line with its number and the number of moves so far, and goes to the other loop.
struct Wanders {
    lines: usize,
    loops: [RemoteHandle; 2],
    torn: Vec<u8>,
}

impl Wanders {
    fn reply(&mut self, transport: &Transport, line: &[u8]) -> Result {
        let expected = format!("line {}", self.lines);
        assert_eq!(String::from_utf8_lossy(line), expected);
        writeln!(transport, "reply {}", self.lines)?;
        self.lines += 1;
        if self.lines == MOVES {
            transport.close();
            return Ok(());
        }
        let (lines, loops) = (self.lines, self.loops.clone());
        transport.detach().then(move |_, detached| {
            let detached = detached.unwrap();
            let next = loops[lines % 2].clone();
            next.call_soon_threadsafe(move |handle| arrive(handle, detached, lines, loops))
                .unwrap();
        });
        Ok(())
    }
}

fn arrive(handle: &Handle, detached: Detached, lines: usize, loops: [RemoteHandle; 2]) {
    let torn = Vec::new();
    handle
        .attach(detached, Wanders { lines, loops, torn })
        .unwrap();
}

impl Protocol for Wanders {
    /// Takes one line; what is behind it moves.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
            self.torn.extend_from_slice(data);
            return Ok(());
        };
        let mut line = std::mem::take(&mut self.torn);
        line.extend_from_slice(&data[..end]);
        transport.unread(&data[end + 1..]);
        self.reply(transport, &line)
    }

    fn leftover(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.torn)
    }
}

/// Sends the lines, a few ahead of the replies, and checks these.
fn talk(stream: TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut send = stream.try_clone().unwrap();
    let mut replies = BufReader::new(stream).lines();
    let mut sent = 0;
    for n in 0..MOVES {
        while sent < MOVES && sent <= n + AHEAD {
            send.write_all(format!("line {sent}\n").as_bytes()).unwrap();
            sent += 1;
        }
        assert_eq!(replies.next().unwrap().unwrap(), format!("reply {n}"));
    }
    assert!(replies.next().is_none(), "more than was replied");
}

#[test]
fn a_connection_that_moves_between_two_threads_loses_nothing_and_doubles_nothing() {
    let before = descriptors();
    let (told, remotes) = mpsc::channel();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let told = told.clone();
            thread::spawn(move || {
                let mut event_loop = EventLoop::new().unwrap();
                told.send(event_loop.handle().remote()).unwrap();
                event_loop.run_forever().unwrap();
                event_loop.handle().stats()
            })
        })
        .collect();
    let loops = [remotes.recv().unwrap(), remotes.recv().unwrap()];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let detached = Detached::of(stream).unwrap();
    let all = loops.clone();
    let begin = move |handle: &Handle| arrive(handle, detached, 0, all);
    loops[0].call_soon_threadsafe(begin).unwrap();
    talk(peer);
    for remote in &loops {
        remote.stop();
    }
    let stats: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
    for stats in stats {
        assert_eq!(stats.connections, 0, "{stats:#?}");
        // Half of the moves each: one to arrive, and one to leave.
        let moves = stats.registrations as usize;
        assert!((MOVES - 2..=MOVES + 2).contains(&moves), "{stats:#?}");
    }
    // A handle of a loop holds a descriptor of it.
    drop((listener, loops));
    assert_eq!(descriptors(), before);
}
