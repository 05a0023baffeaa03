//! Tests of the lanes. Channels tell when something has happened; nothing waits for time.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{RecvError, channel};
use std::thread;

use super::*;

/// A lane whose state is the number of the state: 1, 2, …
fn numbered() -> Lane<Cell<u32>> {
    let made = AtomicU32::new(0);
    Lane::start("numbered", move || Ok::<_, &str>(Cell::new(made.fetch_add(1, SeqCst) + 1)))
        .unwrap()
}

fn number_of(lane: &Lane<Cell<u32>>) -> Result<u32, RecvError> {
    let (answer, answered) = channel();
    lane.run(Box::new(move |state| answer.send(state.unwrap().get()).unwrap()));
    answered.recv()
}

#[test]
fn jobs_run_in_order_on_a_named_thread() {
    let lane = numbered();
    let (order, seen) = channel();
    for i in 0..10 {
        let order = order.clone();
        let tell = move || order.send((i, thread::current().name().map(str::to_owned)));
        lane.run(Box::new(move |_| tell().unwrap()));
    }
    lane.close();
    drop(order);
    let expected: Vec<_> = (0..10).map(|i| (i, Some("numbered".to_owned()))).collect();
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_panic_costs_the_state_and_not_the_lane() {
    let lane = numbered();
    assert_eq!(number_of(&lane), Ok(1));
    assert_eq!(number_of(&lane), Ok(1), "the state is kept");
    let (answer, answered) = channel::<()>();
    lane.run(Box::new(move |_| {
        let _held = answer;
        panic!("on purpose")
    }));
    assert_eq!(answered.recv(), Err(RecvError), "its requester learns of it");
    assert_eq!(number_of(&lane), Ok(2), "a fresh state");
    assert_eq!(lane.panics(), 1);
    lane.close();
}

#[test]
fn without_a_state_every_job_learns_why_and_the_next_one_tries_again() {
    let tries = AtomicU32::new(0);
    let make = move || match tries.fetch_add(1, SeqCst) {
        0 => Err("no sockets left"),
        1 => panic!("while making it"),
        2 => Err("still none"),
        n => Ok(n),
    };
    let lane = Lane::start("poor", make).unwrap();
    let (answer, answered) = channel();
    for _ in 0..3 {
        let answer = answer.clone();
        let job: Job<u32> = Box::new(move |state| {
            answer.send(state.map(|state| *state).map_err(|e| e.to_string())).unwrap();
        });
        lane.run(job);
    }
    lane.close();
    let why = |text| Err(format!("the lane poor has nothing to work with: {text}"));
    assert_eq!(answered.recv().unwrap(), why("it panicked: while making it"));
    assert_eq!(answered.recv().unwrap(), why("still none"));
    assert_eq!(answered.recv().unwrap(), Ok(3));
}

#[test]
fn a_collecting_lane_takes_what_has_gathered() {
    let (started, starts) = channel();
    let (go, may_go) = channel::<()>();
    let (done, rounds) = channel();
    let work = move |_: Result<&mut (), &LaneError>, items: Vec<u32>| {
        started.send(()).unwrap();
        may_go.recv().unwrap();
        done.send(items).unwrap();
    };
    let lane = CollectLane::start("collect", 4, || Ok::<_, &str>(()), work).unwrap();
    lane.push(0).unwrap();
    starts.recv().unwrap(); // it is at work with the first, and the others gather
    for i in 1..=6 {
        lane.push(i).unwrap();
    }
    assert_eq!(lane.queued(), 6);
    for _ in 0..3 {
        go.send(()).unwrap();
    }
    lane.close();
    let rounds: Vec<_> = rounds.iter().collect();
    assert_eq!(rounds, [vec![0], vec![1, 2, 3, 4], vec![5, 6]], "at most four at a time");
}

#[test]
fn a_round_that_panics_is_not_the_last() {
    let (done, rounds) = channel();
    let work = move |_: Result<&mut (), &LaneError>, items: Vec<u32>| {
        assert_ne!(items, [13], "on purpose");
        done.send(items).unwrap();
    };
    let lane = CollectLane::start("collect", 1, || Ok::<_, &str>(()), work).unwrap();
    for i in [12, 13, 14] {
        lane.push(i).unwrap();
    }
    while lane.queued() > 0 {
        thread::yield_now();
    }
    lane.close();
    assert_eq!(rounds.iter().collect::<Vec<_>>(), [vec![12], vec![14]]);
}
