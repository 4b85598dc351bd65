//! The rules of timers, one by one.

use super::*;
use std::time::Duration;

fn drain(timers: &mut Timers<u64>, now: Instant) -> Vec<u64> {
    let started = timers.started();
    std::iter::from_fn(|| timers.pop_due(now, started)).collect()
}

#[test]
fn timers_fire_in_deadline_order_and_equal_ones_in_the_order_of_creation() {
    let start = Instant::now();
    let mut timers = Timers::new();
    for (value, ms) in [(0, 5), (1, 3), (2, 5), (3, 3), (4, 9)] {
        timers.insert(Some(start + Duration::from_millis(ms)), value);
    }
    assert_eq!(drain(&mut timers, start + Duration::from_millis(2)), []);
    assert_eq!(
        drain(&mut timers, start + Duration::from_millis(5)),
        [1, 3, 0, 2]
    );
    assert_eq!(drain(&mut timers, start + Duration::from_millis(9)), [4]);
}

#[test]
fn a_timer_without_a_deadline_never_fires_and_can_be_cancelled() {
    let mut timers = Timers::new();
    let id = timers.insert(None, 1);
    assert_eq!(timers.next_deadline(), None);
    assert_eq!(timers.cancel(id), Some(1));
    assert_eq!(timers.cancel(id), None);
    assert_eq!(timers.len(), 0);
}

#[test]
fn a_timer_made_while_due_ones_are_popped_waits_for_the_next_round() {
    let now = Instant::now();
    let mut timers = Timers::new();
    timers.insert(Some(now), 1);
    let started = timers.started();
    assert_eq!(timers.pop_due(now, started), Some(1));
    timers.insert(Some(now), 2);
    assert_eq!(timers.pop_due(now, started), None);
    assert_eq!(drain(&mut timers, now), [2]);
}

#[test]
fn a_timer_made_for_an_earlier_time_while_due_ones_are_popped_keeps_none_of_them_back() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut timers = Timers::new();
    timers.insert(Some(at(5)), 1);
    timers.insert(Some(at(6)), 2);
    let started = timers.started();
    assert_eq!(timers.pop_due(at(9), started), Some(1));
    timers.insert(Some(at(2)), 3);
    let cancelled = timers.insert(Some(at(1)), 4);
    assert_eq!(timers.pop_due(at(9), started), Some(2));
    assert_eq!(timers.next_deadline(), Some(at(1)));
    assert_eq!(timers.cancel(cancelled), Some(4));
    assert_eq!(timers.next_deadline(), Some(at(2)));
    assert_eq!(timers.pop_due(at(9), started), None);
    assert_eq!(drain(&mut timers, at(9)), [3]);
}

#[test]
fn the_memory_of_a_burst_is_given_back_and_the_timers_that_are_left_keep_their_ids() {
    let now = Instant::now();
    for left in [0, 1, 7] {
        let mut timers = Timers::new();
        let ids: Vec<_> = (0..10_000).map(|n| timers.insert(Some(now), n)).collect();
        let (gone, kept) = ids.split_at(ids.len() - left);
        for id in gone {
            assert!(timers.cancel(*id).is_some());
            assert!(!timers.is_wasteful());
        }
        assert!(timers.heap.capacity() < 100 && timers.entries.capacity() < 100);
        // New ones take the slots in which the others began, and the places beside them.
        let new: Vec<_> = (0..100).map(|n| timers.insert(Some(now), n)).collect();
        assert!(gone.iter().all(|id| timers.cancel(*id).is_none()));
        for (number, id) in kept.iter().enumerate() {
            assert_eq!(timers.cancel(*id), Some((gone.len() + number) as u64));
        }
        assert_eq!(
            drain(&mut timers, now),
            (0..new.len() as u64).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_timer_that_is_reset_fires_at_its_new_time_after_those_that_were_started_before() {
    let start = Instant::now();
    let at = |ms| Some(start + Duration::from_millis(ms));
    let mut timers = Timers::new();
    let ids = [5, 5, 5, 9].map(|ms| timers.insert(at(ms), ms));
    assert!(timers.reset(ids[0], at(5)));
    assert!(timers.reset(ids[1], at(7)));
    assert!(timers.reset(ids[3], at(3)));
    assert_eq!(timers.next_deadline(), at(3));
    let started = timers.started();
    let order: Vec<_> = [3, 5, 5, 7]
        .into_iter()
        .map(|ms| {
            timers
                .pop_due(at(ms).unwrap(), started)
                .map(|_| timers.len())
        })
        .collect();
    assert_eq!(order, [Some(3), Some(2), Some(1), Some(0)]);
    assert!(!timers.reset(ids[0], at(1)), "it has fired");
}

#[test]
fn a_timer_that_is_reset_to_the_past_while_due_ones_are_popped_waits_for_the_next_round() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut timers = Timers::new();
    timers.insert(Some(at(5)), 1);
    let id = timers.insert(Some(at(99)), 2);
    let started = timers.started();
    assert!(timers.reset(id, Some(at(1))));
    assert_eq!(timers.pop_due(at(9), started), Some(1));
    assert!(timers.reset(id, Some(at(2))));
    assert_eq!(timers.pop_due(at(9), started), None);
    assert_eq!(drain(&mut timers, at(9)), [2]);
}

#[test]
fn a_repeating_timer_stays_when_it_fires_until_it_is_cancelled() {
    let start = Instant::now();
    let at = |ms| Some(start + Duration::from_millis(ms));
    let mut timers = Timers::new();
    let id = timers.insert_repeating(at(1), 7);
    for ms in [1, 2, 3] {
        assert!(timers.reset(id, at(ms)));
        assert_eq!(drain(&mut timers, at(3).unwrap()), [7]);
        assert_eq!((timers.len(), timers.next_deadline()), (1, None));
    }
    assert_eq!(timers.cancel(id), Some(7));
    assert!(!timers.reset(id, at(1)));
}

#[test]
fn the_memory_of_timers_that_fire_is_given_back() {
    let now = Instant::now();
    let mut timers = Timers::new();
    for number in 0..10_000 {
        timers.insert(Some(now), number);
    }
    assert_eq!(drain(&mut timers, now).len(), 10_000);
    assert!(timers.heap.capacity() < 100 && timers.entries.capacity() < 100);
}

#[test]
fn an_id_of_a_reused_slot_cancels_nothing() {
    let now = Instant::now();
    let mut timers = Timers::new();
    let old = timers.insert(Some(now), 1);
    timers.cancel(old);
    let new = timers.insert(Some(now), 2);
    assert_eq!(old.slot, new.slot);
    assert_eq!(timers.cancel(old), None);
    assert_eq!(timers.cancel(new), Some(2));
}
