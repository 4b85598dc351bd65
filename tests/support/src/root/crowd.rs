//! Clients that go on until they are told to stop, while something is done to their server.

use super::{Client, Server, wait_until};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Many clients that exchange messages, each in a thread of its own.
#[derive(Debug)]
pub struct Crowd {
    members: Vec<Member>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Member {
    client_port: Option<u16>,
    rounds: AtomicUsize,
}

impl Crowd {
    /// Connects `clients` clients, and runs `meanwhile` once all of them that have a connection are
    /// exchanging messages of up to `most` bytes. Returns how they ended: each goes on until
    /// `meanwhile` is over, then ends its side and waits for the server's end, unless it has lost
    /// its connection.
    #[track_caller]
    pub fn around(
        server: &Server,
        clients: u64,
        most: usize,
        meanwhile: impl FnOnce(&Self),
    ) -> Vec<io::Result<()>> {
        let clients: Vec<_> = (0..clients)
            .map(|number| Client::connect(server.address(), number).unwrap())
            .collect();
        let member = |client: &Client| Member {
            client_port: client.port(),
            rounds: AtomicUsize::new(0),
        };
        let crowd = &Self {
            members: clients.iter().map(member).collect(),
            stop: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            let running: Vec<_> = crowd
                .members
                .iter()
                .zip(clients)
                .map(|(member, client)| scope.spawn(move || crowd.run(member, client, most)))
                .collect();
            {
                // Also when a check fails, or they would be waited for.
                let _stopped = Stopped(&crowd.stop);
                wait_until("everybody exchanges", || {
                    let rounds = crowd.rounds();
                    let has_begun = |i: usize| rounds[i] > 0 || running[i].is_finished();
                    (0..rounds.len()).all(has_begun)
                });
                meanwhile(crowd);
            }
            let ends = running.into_iter().map(|client| client.join().unwrap());
            ends.collect()
        })
    }

    fn run(&self, member: &Member, mut client: Client, most: usize) -> io::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let len = client.size(most);
            client.exchange(len)?;
            member.rounds.fetch_add(1, Ordering::Relaxed);
        }
        client.half_close()
    }

    /// How many messages each has exchanged.
    pub fn rounds(&self) -> Vec<usize> {
        let rounds = |member: &Member| member.rounds.load(Ordering::Relaxed);
        self.members.iter().map(rounds).collect()
    }

    /// Waits until all but `but` have exchanged three messages from now on, so two that were
    /// begun after now.
    #[track_caller]
    pub fn goes_on(&self, but: usize) {
        let before = self.rounds();
        wait_until("they go on", || {
            let now = self.rounds();
            let gone_on = (0..now.len()).filter(|&i| now[i] >= before[i] + 3);
            gone_on.count() >= now.len() - but
        });
    }

    /// The port of one's own end.
    #[track_caller]
    pub fn port(&self, i: usize) -> u16 {
        self.members[i].client_port.expect("a TCP connection")
    }
}

struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
