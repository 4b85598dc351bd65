//! The conformance suite: over real sockets, where it finds nothing, and over transports that
//! break a rule, which it names.

mod broken;
mod caught;
mod two_loops;

use tidegate_testkit::conformance::{self, Tcp, Unix};

mod over_tcp {
    use super::*;

    #[test]
    fn bytes_arrive_whole_and_in_order_in_every_form_of_a_write() {
        conformance::transfer::all(&mut Tcp::new().unwrap()).unwrap();
    }

    #[test]
    fn reading_that_is_stopped_goes_on_where_it_was() {
        conformance::reading::all(&mut Tcp::new().unwrap()).unwrap();
    }

    #[test]
    fn each_direction_ends_on_its_own() {
        conformance::half_close::all(&mut Tcp::new().unwrap()).unwrap();
    }

    #[test]
    fn a_writer_whose_peer_does_not_read_is_paused_bounded_and_told() {
        conformance::clogged::all(&mut Tcp::new().unwrap()).unwrap();
    }

    #[test]
    fn a_connection_can_be_ended_in_every_state() {
        conformance::endings::all(&mut Tcp::new().unwrap()).unwrap();
    }
}

mod over_unix_sockets {
    use super::*;

    #[test]
    fn bytes_arrive_whole_and_in_order_in_every_form_of_a_write() {
        conformance::transfer::all(&mut Unix::new().unwrap()).unwrap();
    }

    #[test]
    fn reading_that_is_stopped_goes_on_where_it_was() {
        conformance::reading::all(&mut Unix::new().unwrap()).unwrap();
    }

    #[test]
    fn each_direction_ends_on_its_own() {
        conformance::half_close::all(&mut Unix::new().unwrap()).unwrap();
    }

    #[test]
    fn a_writer_whose_peer_does_not_read_is_paused_bounded_and_told() {
        conformance::clogged::all(&mut Unix::new().unwrap()).unwrap();
    }

    #[test]
    fn a_connection_can_be_ended_in_every_state() {
        conformance::endings::all(&mut Unix::new().unwrap()).unwrap();
    }
}

#[test]
fn both_ends_of_a_connection_may_be_on_different_loops() {
    conformance::all(&mut two_loops::TwoLoops::new()).unwrap();
}
