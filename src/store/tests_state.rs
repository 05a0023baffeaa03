//! The store in life: what is committed, what is read, what outlives a crash and a boot.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::tempdir;

use super::samples::{copy, definition, ip, key, known, network, record, start};
use super::{Change, Opening, Store, StoreError, StoredState};
use crate::attach::Record;

fn open(dir: &Path) -> Store {
    start(dir, "boot-1").expect("the store opens").0
}

fn remember(record: Record) -> Change {
    Change::Remember(Box::new(record))
}

fn forget(name: &str, released_at: u64) -> Change {
    Change::Forget { key: key(name), released_at }
}

#[test]
fn a_store_can_be_moved_to_its_thread() {
    fn is_send<T: Send>() {}
    is_send::<Store>();
}

#[test]
fn the_state_that_is_known_is_newer_than_what_was_read() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    store.commit(&[remember(record("a", &["10.0.0.2/16"]))]).expect("a commit");
    let read = store.lookup(&key("a")).expect("a look").expect("a record");
    for known in [StoredState::Attached, StoredState::Leaving] {
        let now = read.clone().as_known(Some(known)).expect("it is there");
        assert_eq!((now.record, now.state), (read.record.clone(), known));
    }
    assert_eq!(read.as_known(None), None, "it was forgotten meanwhile");
}

#[test]
fn what_is_remembered_can_be_read() {
    let dir = tempdir().expect("a directory");
    let (mut store, opening) = start(&dir.path().join("a/b"), "boot-1").expect("opens");
    assert_eq!(opening, Opening::Fresh);
    let (b, a) = (record("b", &["10.0.0.3/16", "fd00::3/64"]), record("a", &["10.0.0.2/16"]));
    let network_change = Change::Network(Box::new(definition("n")));
    store.commit(&[remember(b.clone()), remember(a), network_change]).expect("a commit");
    let found = store.lookup(&key("b")).expect("a look").expect("a record");
    assert_eq!((found.record, found.state), (b, StoredState::Attached));
    assert_eq!(store.lookup(&key("c")).expect("a look"), None);
    assert_eq!(store.list(&network()).expect("a list"), [key("a"), key("b")]);
    assert_eq!((store.count().expect("a count"), store.all().expect("all").len()), (2, 2));
    assert_eq!(store.networks().expect("networks"), [definition("n")]);
    assert_eq!(known(&store), ["10.0.0.2 a", "10.0.0.3 b", "fd00::3 b"]);
}

#[test]
fn a_batch_is_made_whole_or_not_at_all() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    store.commit(&[remember(record("a", &["10.0.0.2/16"]))]).expect("a commit");
    let batch = [
        Change::Network(Box::new(definition("n"))),
        forget("a", 5),
        remember(record("b", &["10.0.0.3/16"])),
        remember(record("c", &["10.0.0.4/16", "10.0.0.3/16"])),
    ];
    let error = store.commit(&batch).expect_err("two owners");
    let StoreError::AddressTaken { owner, address, holder } = &error else { panic!("{error}") };
    assert_eq!((owner, *address, &holder[..]), (&key("c"), ip("10.0.0.3"), "b/eth0"));
    assert_eq!(known(&store), ["10.0.0.2 a"]);
    assert_eq!(store.count().expect("a count"), 1);
    assert!(store.networks().expect("networks").is_empty());
    store.commit(&batch[..3]).expect("the batch without its error");
}

#[test]
fn leaving_is_a_state_and_what_is_unknown_is_no_error() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    store.commit(&[remember(record("a", &["10.0.0.2/16"]))]).expect("a commit");
    store.commit(&[Change::Leaving(key("a")), Change::Leaving(key("x"))]).expect("a commit");
    drop(store);
    let mut store = open(dir.path());
    let found = store.lookup(&key("a")).expect("a look").expect("a record");
    assert_eq!(found.state, StoredState::Leaving);
    assert_eq!(known(&store), ["10.0.0.2 a"], "it has its address until it is gone");
    store.commit(&[forget("a", 7), forget("a", 9), forget("x", 9)]).expect("a commit");
    assert_eq!(known(&store), ["10.0.0.2 at 7"]);
}

#[test]
fn released_addresses_come_back_in_the_order_of_release() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    for n in 2..6 {
        let change = remember(record(&format!("c{n}"), &[&format!("10.0.0.{n}/16")]));
        store.commit(&[change]).expect("a commit");
    }
    store.commit(&[forget("c4", 10), forget("c2", 10)]).expect("a commit");
    drop(store);
    let mut store = open(dir.path());
    store.commit(&[forget("c3", 10)]).expect("a commit");
    let want = ["10.0.0.5 c5", "10.0.0.4 at 10", "10.0.0.2 at 10", "10.0.0.3 at 10"];
    assert_eq!(known(&store), want);
    store.commit(&[remember(record("d", &["10.0.0.2/16"]))]).expect("leased again");
    assert_eq!(known(&store)[0], "10.0.0.2 d");
}

#[test]
fn a_record_replaced_gives_back_what_it_no_longer_has() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    store.commit(&[remember(record("a", &["10.0.0.2/16", "fd00::2/64"]))]).expect("a commit");
    store.commit(&[remember(record("a", &["10.0.0.2/16", "fd00::9/64"]))]).expect("a commit");
    assert_eq!(known(&store), ["10.0.0.2 a", "fd00::9 a", "fd00::2 at 1000"]);
}

#[test]
fn a_boot_ends_attachments_and_keeps_networks_and_the_order_of_releases() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    let changes = [
        Change::Network(Box::new(definition("n"))),
        remember(record("a", &["10.0.0.2/16"])),
        remember(record("b", &["10.0.0.3/16"])),
        forget("b", 99),
    ];
    store.commit(&changes).expect("a commit");
    drop(store);
    let (mut store, opening) = start(dir.path(), "boot-2").expect("opens");
    assert_eq!(opening, Opening::NewBoot { dropped: 1 });
    assert_eq!(store.count().expect("a count"), 0);
    assert_eq!(known(&store), ["10.0.0.3 at 0", "10.0.0.2 at 0"]);
    assert_eq!(store.networks().expect("networks"), [definition("n")]);
    store.commit(&[remember(record("c", &["10.0.0.4/16"])), forget("c", 3)]).expect("a commit");
    drop(store);
    let (store, opening) = start(dir.path(), "boot-2").expect("opens");
    assert_eq!(opening, Opening::Resumed);
    assert_eq!(known(&store), ["10.0.0.3 at 0", "10.0.0.2 at 0", "10.0.0.4 at 3"]);
}

#[test]
fn what_is_committed_survives_a_kill() {
    // The files as they are while the store is open: what a daemon killed now would leave.
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    store.commit(&[Change::Network(Box::new(definition("n")))]).expect("a commit");
    store.checkpoint().expect("a checkpoint");
    for n in 2..200 {
        let change = remember(record(&format!("c{n}"), &[&format!("10.0.0.{n}/16")]));
        store.commit(&[change]).expect("a commit");
    }
    store.commit(&[forget("c2", 8)]).expect("a commit");
    let after = copy(dir.path());
    let (copy, opening) = start(after.path(), "boot-1").expect("opens");
    assert_eq!(opening, Opening::Resumed);
    assert_eq!(copy.all().expect("all"), store.all().expect("all"));
    assert_eq!(known(&copy), known(&store));
    assert_eq!(copy.networks().expect("networks"), [definition("n")]);
}

#[test]
fn a_checkpoint_empties_the_log() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    store.commit(&[remember(record("a", &["10.0.0.2/16"])), forget("a", 4)]).expect("a commit");
    let log = dir.path().join("state.db-wal");
    assert!(fs::metadata(&log).expect("the log").len() > 0);
    store.checkpoint().expect("a checkpoint");
    assert_eq!(fs::metadata(&log).expect("the log").len(), 0);
    assert_eq!(known(&store), ["10.0.0.2 at 4"]);
}

/// `cargo test --release -p quantum-cni --lib store -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure_commits_and_opening() {
    let dir = tempdir().expect("a directory");
    let mut store = open(dir.path());
    let change = |n: usize| {
        let address = format!("10.0.{}.{}/16", n / 256, n % 256);
        remember(record(&format!("c{n}"), &[&address]))
    };
    let mut report = |name: &str, rounds: usize, batch: &dyn Fn(usize) -> Vec<Change>| {
        let mut times: Vec<Duration> = (0..rounds)
            .map(|round| {
                let changes = batch(round);
                let start = Instant::now();
                store.commit(&changes).expect("a commit");
                start.elapsed()
            })
            .collect();
        times.sort();
        let [p50, p99] = [50, 99].map(|p| times[(rounds - 1) * p / 100]);
        println!("{name}: p50 {p50:?}, p99 {p99:?}, most {:?}", times[rounds - 1]);
    };
    report("one record", 500, &|n| vec![change(n)]);
    report("64 records", 100, &|n| (0..64).map(|i| change(1000 + n * 64 + i)).collect());
    report("one forgotten", 500, &|n| vec![forget(&format!("c{n}"), 9)]);
    report("one network, on the disk", 50, &|n| {
        vec![Change::Network(Box::new(definition(&format!("n{n}"))))]
    });
    let start = Instant::now();
    store.checkpoint().expect("a checkpoint");
    println!("checkpoint: {:?}", start.elapsed());
    let (count, body) = (store.count().expect("a count"), record("c", &["10.0.0.1/16"]));
    let file = fs::metadata(dir.path().join("state.db")).expect("the file").len();
    let body = serde_json::to_string(&body).expect("json").len();
    println!("{count} records, {body} bytes each, in a file of {file} bytes");
    drop(store);
    let start = Instant::now();
    let _store = open(dir.path());
    println!("opening, all of it read: {:?}", start.elapsed());
}
