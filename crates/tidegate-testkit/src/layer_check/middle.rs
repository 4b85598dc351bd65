//! The relay between two ends of a check: it passes bytes on in chunks, and may cut a stream.

use crate::network::Peer;

/// Both directions of a connection.
pub(super) struct Middle {
    /// The ends that face the client, and the server.
    peers: [Option<Peer>; 2],
    /// To the server, and to the client.
    pub(super) ways: [Way; 2],
}

/// One direction.
pub(super) struct Way {
    /// Where chunks end.
    chunks: Vec<usize>,
    /// Where the stream is cut.
    cut_at: Option<usize>,
    /// The number of bytes that were passed on.
    pub(super) passed: usize,
    /// The number of bytes that came.
    pub(super) came: usize,
    /// Came, and were not passed on.
    waiting: Vec<u8>,
    /// The stream that comes has ended.
    source_ended: bool,
    /// The stream that is passed on has.
    ended: bool,
    /// Bytes were lost, or an end that was still to come.
    pub(super) was_cut: bool,
}

impl Way {
    pub(super) fn new(chunks: Vec<usize>, cut_at: Option<usize>) -> Self {
        Self {
            chunks,
            cut_at,
            passed: 0,
            came: 0,
            waiting: Vec::new(),
            source_ended: false,
            ended: false,
            was_cut: false,
        }
    }

    /// Takes what has come.
    fn take(&mut self, source: Option<&Peer>) -> bool {
        let data = source.map(Peer::take).unwrap_or_default();
        self.came += data.len();
        if !self.ended {
            self.waiting.extend_from_slice(&data);
        }
        let had_ended = self.source_ended;
        self.source_ended |= source.is_none_or(|source| source.is_ended() && source.waiting() == 0);
        !data.is_empty() || self.source_ended != had_ended
    }

    /// Passes the next chunk on, or the end.
    fn pass(&mut self, target: Option<&Peer>) -> bool {
        let Some(target) = target.filter(|_| !self.ended) else {
            return false;
        };
        let next = self.chunks.iter().find(|end| **end > self.passed);
        let most = self.cut_at.into_iter().chain(next.copied()).min();
        let most = most.map_or(usize::MAX, |most| most - self.passed);
        let chunk = &self.waiting[..self.waiting.len().min(most)];
        if !chunk.is_empty() {
            // Refused for now, or the target is gone: its end shows it.
            let sent = target.send(chunk).unwrap_or(0);
            self.waiting.drain(..sent);
            self.passed += sent;
            return sent > 0;
        }
        let is_cut = self.cut_at == Some(self.passed) && !self.waiting.is_empty();
        if !is_cut && !self.source_ended {
            return false;
        }
        self.end(target, is_cut);
        true
    }

    fn end(&mut self, target: &Peer, is_cut: bool) {
        self.ended = true;
        self.was_cut = is_cut;
        self.waiting.clear();
        // A target that is gone needs no end.
        let _ = target.send_eof();
    }
}

impl Middle {
    /// Between the peers that face the client and the server; ways to the server and to the client.
    pub(super) fn new(to_client: Peer, to_server: Peer, ways: [Way; 2]) -> Self {
        Self {
            peers: [Some(to_client), Some(to_server)],
            ways,
        }
    }

    /// Takes and passes what there is. Returns whether there was something.
    pub(super) fn pass(&mut self) -> bool {
        let mut moved = false;
        for from in [0, 1] {
            let to = 1 - from;
            // A reset of one is one of the other: what was on its way is lost anyway.
            if self.peers[from].as_ref().is_some_and(Peer::is_reset) {
                self.ways[from].take(self.peers[from].as_ref());
                self.peers[from] = None;
                if let Some(peer) = self.peers[to].take() {
                    peer.reset();
                }
                return true;
            }
            moved |= self.ways[from].take(self.peers[from].as_ref());
            moved |= self.ways[from].pass(self.peers[to].as_ref());
        }
        moved
    }

    /// Cuts the stream that is to be cut here, when its source sends nothing more before a reply.
    pub(super) fn cut_in_a_pause(&mut self) -> bool {
        for from in [0, 1] {
            let way = &mut self.ways[from];
            if way.cut_at == Some(way.passed)
                && !way.ended
                && !way.source_ended
                && let Some(target) = &self.peers[1 - from]
            {
                way.end(target, true);
                return true;
            }
        }
        false
    }

    /// Whether something has come, or an end that was not noticed.
    pub(super) fn has_news(&self) -> bool {
        let ways = self.peers.iter().zip(&self.ways);
        ways.into_iter().any(|(peer, way)| {
            peer.as_ref().is_some_and(|peer| {
                let ended = peer.is_ended() && !way.source_ended;
                peer.waiting() > 0 || ended || peer.is_reset()
            })
        })
    }

    /// Both ends are left alone.
    pub(super) fn leave(&mut self) {
        self.peers = [None, None];
    }
}
