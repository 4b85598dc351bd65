//! The conformance suite: over real sockets, where it finds nothing, and over transports that
//! break a rule, which it names.

mod broken;
mod caught;
mod two_loops;

use std::time::Duration;
use tidegate_testkit::conformance::{self, Simulated, Tcp, Unix};
use tidegate_testkit::{Fault, Faults, Link, World};

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

#[test]
fn connections_in_memory_keep_the_same_rules() {
    conformance::all(&mut Simulated::new().unwrap()).unwrap();
}

/// Each changes what a loop sees, and none what a user does.
#[test]
fn calls_that_are_refused_cut_short_or_interrupted_change_no_rule() {
    let faults = [
        (Fault::ShortRead, 0.2),
        (Fault::ShortWrite, 0.2),
        (Fault::ReadAgain, 0.1),
        (Fault::WriteAgain, 0.1),
        (Fault::AcceptAgain, 0.2),
        (Fault::Interrupted, 0.1),
        (Fault::SpuriousEvent, 0.2),
        (Fault::FewEvents, 0.2),
        (Fault::Reorder, 0.2),
    ];
    let link = Link::new()
        .latency(Duration::from_millis(1))
        .send_buffer(8000)
        .receive_buffer(8000);
    for seed in 0..10 {
        let faults = faults
            .iter()
            .fold(Faults::none(), |faults, &(fault, often)| {
                faults.with(fault, often)
            });
        let world = World::builder()
            .seed(seed)
            .faults(faults)
            .link(link.clone())
            .build();
        let outcome = conformance::all(&mut Simulated::within(world).unwrap());
        if let Err(violations) = outcome {
            panic!("seed {seed}: {violations}");
        }
    }
}
