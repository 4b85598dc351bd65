//! The order in which callbacks may come, as a pure table: it knows neither loops nor protocols.

/// A callback, as far as the order is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Made,
    /// A number of bytes.
    Data(usize),
    Eof,
    Datagram,
    /// The end of a batch of datagrams.
    Batch,
    /// The error of a datagram.
    Error,
    Pause,
    Resume,
    Lost,
}

/// `made (data | pause resume)* eof? (pause resume)* lost`, one call after the other. An EOF whose
/// callback gave back bytes does not count. Of an endpoint of datagrams: `made (datagram | error | pause resume)*
/// lost`, with the end of a batch behind datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Grammar {
    made: bool,
    eof: bool,
    paused: bool,
    /// A datagram has come since the last end of a batch.
    in_batch: bool,
    lost: bool,
}

impl Grammar {
    /// Begins in the middle, as a protocol does that took the place of another.
    pub(crate) fn skip_made(&mut self) {
        self.made = true;
    }

    /// Takes an EOF back, whose callback gave back bytes: it comes again behind them.
    pub(crate) fn take_eof_back(&mut self) {
        self.eof = false;
    }

    pub(crate) fn is_lost(self) -> bool {
        self.lost
    }

    /// Takes the next call; returns how it violates the order.
    pub(crate) fn next(&mut self, call: Call) -> Option<&'static str> {
        let violation = self.violation(call);
        match call {
            Call::Made => self.made = true,
            Call::Data(_) | Call::Error => {}
            Call::Datagram => self.in_batch = true,
            Call::Batch => self.in_batch = false,
            Call::Eof => self.eof = true,
            Call::Pause => self.paused = true,
            Call::Resume => self.paused = false,
            Call::Lost => self.lost = true,
        }
        violation
    }

    fn violation(self, call: Call) -> Option<&'static str> {
        match call {
            _ if self.lost => Some("after lost"),
            Call::Made if self.made => Some("made twice"),
            Call::Made => None,
            _ if !self.made => Some("before made"),
            Call::Data(0) => Some("empty data"),
            Call::Data(_) if self.eof => Some("data after eof"),
            Call::Eof if self.eof => Some("eof twice"),
            Call::Pause if self.paused => Some("pause twice"),
            Call::Resume if !self.paused => Some("resume without pause"),
            Call::Batch if !self.in_batch => Some("a batch without a datagram"),
            Call::Data(_) | Call::Eof | Call::Datagram | Call::Batch | Call::Error => None,
            Call::Pause | Call::Resume | Call::Lost => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(calls: &[Call]) -> Vec<&'static str> {
        let mut grammar = Grammar::default();
        calls
            .iter()
            .filter_map(|&call| grammar.next(call))
            .collect()
    }

    #[test]
    fn what_a_loop_may_do_is_accepted() {
        use Call::*;
        for calls in [
            &[Made, Lost][..],
            &[Made, Data(1), Pause, Data(2), Resume, Pause, Resume, Lost],
            &[Made, Eof, Pause, Resume, Lost],
            &[Made, Pause, Lost],
            &[Made, Datagram, Pause, Error, Datagram, Resume, Lost],
            &[
                Made, Datagram, Datagram, Batch, Datagram, Error, Batch, Lost,
            ],
        ] {
            assert_eq!(violations(calls), [""; 0], "{calls:?}");
        }
    }

    #[test]
    fn each_wrong_order_is_a_violation_of_its_own() {
        use Call::*;
        for (calls, violation) in [
            (&[Made, Lost, Lost][..], "after lost"),
            (&[Made, Lost, Data(1)], "after lost"),
            (&[Made, Made], "made twice"),
            (&[Lost], "before made"),
            (&[Datagram], "before made"),
            (&[Made, Lost, Error], "after lost"),
            (&[Made, Batch], "a batch without a datagram"),
            (
                &[Made, Datagram, Batch, Batch],
                "a batch without a datagram",
            ),
            (&[Made, Data(0)], "empty data"),
            (&[Made, Eof, Data(1)], "data after eof"),
            (&[Made, Eof, Eof], "eof twice"),
            (&[Made, Pause, Pause], "pause twice"),
            (&[Made, Resume], "resume without pause"),
            (&[Made, Pause, Resume, Resume], "resume without pause"),
        ] {
            assert_eq!(violations(calls), [violation], "{calls:?}");
        }
    }

    #[test]
    fn an_eof_that_was_taken_back_comes_again_behind_data() {
        let mut grammar = Grammar::default();
        assert_eq!(grammar.next(Call::Made), None);
        assert_eq!(grammar.next(Call::Eof), None);
        grammar.take_eof_back();
        assert_eq!(grammar.next(Call::Data(1)), None);
        assert_eq!(grammar.next(Call::Eof), None);
        assert_eq!(grammar.next(Call::Data(1)), Some("data after eof"));
    }

    #[test]
    fn a_protocol_that_took_the_place_of_another_is_not_made() {
        let mut grammar = Grammar::default();
        grammar.skip_made();
        assert_eq!(grammar.next(Call::Data(1)), None);
    }
}
