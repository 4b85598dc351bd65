use super::*;

fn closed(reason: CloseReason, unsent: u64) -> Closed {
    Closed::new(TransportId::from_raw(1), reason, unsent)
}

fn io(kind: io::ErrorKind) -> CloseReason {
    CloseReason::Io(Arc::new(kind.into()))
}

#[test]
fn clean_is_a_close_of_either_end_with_nothing_unsent() {
    assert!(closed(CloseReason::LocalClose, 0).is_clean());
    assert!(closed(CloseReason::PeerEof, 0).is_clean());
    assert!(!closed(CloseReason::PeerEof, 1).is_clean());
    assert!(!closed(CloseReason::LocalAbort, 0).is_clean());
    assert!(!closed(CloseReason::Shutdown, 0).is_clean());
}

#[test]
fn reset_is_one_of_three_errors_of_the_system() {
    use io::ErrorKind::*;
    for kind in [ConnectionReset, BrokenPipe, ConnectionAborted] {
        assert!(closed(io(kind), 0).is_reset());
    }
    assert!(!closed(io(TimedOut), 0).is_reset());
    assert!(!closed(CloseReason::LocalAbort, 0).is_reset());
}

#[test]
fn closed_is_found_in_an_io_error_however_it_got_there() {
    let end = closed(io(io::ErrorKind::ConnectionReset), 7);
    let transport = TransportId::from_raw(1);
    let write = WriteError::Closed {
        transport,
        closed: end.clone(),
    };
    for error in [io::Error::from(end), io::Error::from(write)] {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(Closed::of(&error).unwrap().unsent(), 7);
    }
    assert!(Closed::of(&io::ErrorKind::ConnectionReset.into()).is_none());
    assert!(Closed::of(&WriteError::Closing { transport }.into()).is_none());
}

#[test]
fn reasons_are_equal_when_they_say_the_same() {
    let number = |number| CloseReason::Io(Arc::new(io::Error::from_raw_os_error(number)));
    let reasons = || {
        [
            CloseReason::LocalClose,
            CloseReason::LocalAbort,
            CloseReason::PeerEof,
            CloseReason::Shutdown,
            CloseReason::Timeout(TimeoutKind::Close),
            CloseReason::Timeout(TimeoutKind::Write),
            CloseReason::Timeout(TimeoutKind::Handshake),
            CloseReason::Panic("one".into()),
            CloseReason::Panic("two".into()),
            io(io::ErrorKind::ConnectionReset),
            io(io::ErrorKind::BrokenPipe),
            number(libc::ECONNRESET),
            number(libc::EPIPE),
        ]
    };
    for (i, one) in reasons().iter().enumerate() {
        for (j, other) in reasons().iter().enumerate() {
            assert_eq!(one == other, i == j, "{one:?} and {other:?}");
        }
    }
}

#[test]
fn a_reason_with_any_error_equals_its_clones_alone() {
    let other = || CloseReason::Io(Arc::new(io::Error::other("same")));
    let callback = || CloseReason::Callback(Arc::from(BoxError::from("same")));
    for make in [&other as &dyn Fn() -> CloseReason, &callback] {
        let reason = make();
        assert_eq!(reason, reason.clone());
        assert_ne!(reason, make());
    }
}

#[test]
fn ends_are_equal_when_reason_and_unsent_are() {
    let end = closed(CloseReason::LocalAbort, 7);
    assert_eq!(end, end.clone());
    assert_ne!(end, closed(CloseReason::LocalAbort, 8));
    assert_ne!(end, closed(CloseReason::Shutdown, 7));
}

#[test]
fn closed_says_what_was_lost() {
    let text = closed(CloseReason::LocalAbort, 12).to_string();
    assert_eq!(text, "connection closed: aborted here (12 bytes unsent)");
}
