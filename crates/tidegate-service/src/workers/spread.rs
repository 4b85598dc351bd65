//! Which loop gets the next connection.

use super::gate::Gate;

/// How the connections of a [`WorkersServer`](super::WorkersServer) come to their loops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spread {
    /// A thread of its own accepts, and gives each connection to the loop that has the fewest. Of equal ones
    /// they take turns.
    #[default]
    LeastConnections,
    /// A thread of its own accepts, and the loops take turns.
    RoundRobin,
    /// Every loop listens at the same TCP port, and the kernel spreads the connections
    /// ([`reuse_port`](tidegate::ListenOptions::reuse_port)).
    ///
    /// No connection goes from thread to thread, which saves a few microseconds for each: for many
    /// short ones. The loops are loaded unevenly. The kernel does not know which loop is busy, so a connection
    /// may wait for a slow callback. Elsewhere than on Linux the kernel may give all to one loop.
    ///
    /// A path of a Unix socket has one listener, and a listener of the standard library is one. With several
    /// workers these fail with [`AddrInUse`](std::io::ErrorKind::AddrInUse).
    ReusePort,
}

/// Chooses among the loops that live.
pub(super) struct Turns {
    spread: Spread,
    next: usize,
    /// By loop.
    gone: Vec<bool>,
}

impl Turns {
    pub(super) fn new(spread: Spread, living: &[bool]) -> Self {
        Self {
            spread,
            next: 0,
            gone: living.iter().map(|lives| !lives).collect(),
        }
    }

    /// Returns the loop for the next connection; `None` when all are gone.
    pub(super) fn choose(&mut self, gate: &Gate) -> Option<usize> {
        self.choose_of(&gate.connections())
    }

    fn choose_of(&mut self, connections: &[usize]) -> Option<usize> {
        let loops = self.gone.len();
        let in_turn = (self.next..self.next + loops).map(|n| n % loops);
        let mut living = in_turn.filter(|n| !self.gone[*n]);
        let chosen = match self.spread {
            // Of equal ones the first counts.
            Spread::LeastConnections => living.min_by_key(|n| connections[*n]),
            Spread::RoundRobin | Spread::ReusePort => living.next(),
        }?;
        self.next = chosen + 1;
        Some(chosen)
    }

    pub(super) fn drop_loop(&mut self, number: usize) {
        self.gone[number] = true;
    }

    pub(super) fn are_over(&self) -> bool {
        self.gone.iter().all(|gone| *gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_with_the_fewest_is_next_and_equal_ones_take_turns() {
        let mut turns = Turns::new(Spread::LeastConnections, &[true; 3]);
        let chosen = [
            [0, 0, 0],
            [1, 0, 0],
            [1, 1, 0],
            [1, 1, 1],
            [5, 4, 4],
            [5, 4, 5],
        ];
        let chosen = chosen.map(|counts| turns.choose_of(&counts).unwrap());
        assert_eq!(chosen, [0, 1, 2, 0, 1, 1]);
    }

    #[test]
    fn round_robin_looks_at_no_count_and_leaves_out_loops_that_are_gone() {
        let mut turns = Turns::new(Spread::RoundRobin, &[true, true, true, false]);
        let choose = |turns: &mut Turns| turns.choose_of(&[9, 0, 0, 0]);
        assert_eq!([(); 4].map(|()| choose(&mut turns)), [0, 1, 2, 0].map(Some));
        turns.drop_loop(1);
        assert_eq!([(); 3].map(|()| choose(&mut turns)), [2, 0, 2].map(Some));
        turns.drop_loop(0);
        assert!(!turns.are_over());
        turns.drop_loop(2);
        assert_eq!(choose(&mut turns), None);
        assert!(turns.are_over());
    }
}
