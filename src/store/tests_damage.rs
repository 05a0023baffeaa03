//! The store in trouble: damaged files, files of others, disks that are full.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::{TempDir, tempdir};

use super::samples::{copy, definition, key, known, open, record, start};
use super::{Change, Opening, Store, StoreError};

const COUNT: usize = 100;

/// A store of [`COUNT`] records, closed.
fn filled() -> TempDir {
    let dir = tempdir().expect("a directory");
    let (mut store, _) = start(dir.path(), "boot-1").expect("opens");
    let records = (0..COUNT).map(|n| {
        let address = format!("10.0.{}.{}/16", n / 256, n % 256);
        Change::Remember(Box::new(record(&format!("c{n}"), &[&address])))
    });
    let changes: Vec<Change> =
        records.chain([Change::Network(Box::new(definition("n")))]).collect();
    store.commit(&changes).expect("a commit");
    dir
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("state.db")
}

fn sql(dir: &TempDir, statement: &str) {
    let connection = Connection::open(file(dir)).expect("opens");
    connection.execute_batch(statement).expect(statement);
}

fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("bytes");
    change(&mut bytes);
    fs::write(path, bytes).expect("written");
}

/// Opens a damaged store: it must say so, keep the old file to the byte, know all that was attached from the
/// files beside it, and work; without those it knows nothing and says so.
fn expect_set_aside(dir: &TempDir, word: &str) {
    let before = fs::read(file(dir)).expect("bytes");
    let alone = tempdir().expect("a directory");
    fs::copy(file(dir), file(&alone)).expect("a copy");
    for (dir, count) in [(dir, COUNT), (&alone, 0)] {
        let (mut store, opening) = open(dir.path(), "boot-1").expect("opens");
        let Opening::Corrupt { set_aside, why } = &opening else { panic!("{word}: {opening:?}") };
        assert!(why.contains(word), "{why:?} should say {word:?}");
        assert!(fs::read(set_aside).expect("bytes") == before, "{word}: set aside unchanged");
        assert_eq!(
            (store.count().expect("a count"), store.learned().put_back.len()),
            (count, count)
        );
        // What only the table of addresses says is held, too.
        assert!([count, count + 1].contains(&known(&store).len()), "each has its address");
        let another = record("a", &["10.9.0.2/16"]);
        store.commit(&[Change::Remember(Box::new(another))]).expect("works");
        drop(store);
        let (mut store, again) = open(dir.path(), "boot-1").expect("opens");
        assert_eq!(again, opening, "killed before all was learned");
        store.adopt(Vec::new()).expect("learned");
        drop(store);
        let (store, opening) = open(dir.path(), "boot-1").expect("opens");
        assert_eq!((opening, store.count().expect("a count")), (Opening::Resumed, count + 1));
    }
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    for damage in [
        (|b: &mut Vec<u8>| b.clear()) as fn(&mut Vec<u8>),
        |b| b.truncate(50),
        |b| b.truncate(4096),
        |b| b.truncate(b.len() / 2),
        |b| b.fill(0),
        |b| b[..200].fill(0),
        |b| b.fill(b'x'),
        |b| b[8192..12288].fill(0xff),
    ] {
        let dir = filled();
        overwrite(&file(&dir), damage);
        expect_set_aside(&dir, "cannot");
    }
}

#[test]
fn rows_that_cannot_be_decoded_are_damage() {
    for (statement, word) in [
        ("UPDATE attachments SET body = '{' WHERE container = 'c7'", "n/c7/eth0"),
        ("UPDATE attachments SET body = '{}', sum = NULL WHERE container = 'c7'", "missing field"),
        (
            "UPDATE attachments SET container = 'other', sum = NULL WHERE container = 'c7'",
            "n/c7/eth0",
        ),
        ("UPDATE networks SET body = '[]'", "networks"),
        ("UPDATE addresses SET address = '10.0.0' WHERE container = 'c7'", "addresses"),
        ("UPDATE addresses SET ifname = 'a/b' WHERE container = 'c7'", "a/b"),
        ("UPDATE attachments SET body = replace(body, '10.0.0.7', '10.0.0.8')", "checksum"),
        ("UPDATE networks SET body = replace(body, '172', '173')", "checksum"),
        ("DELETE FROM addresses", "in one table only"),
        ("UPDATE addresses SET container = 'c8' WHERE container = 'c7'", "in one table only"),
        ("DELETE FROM boot", "boot id"),
        ("DROP TABLE networks", "no such table"),
        ("ALTER TABLE networks RENAME COLUMN body TO text", "no such column"),
        ("PRAGMA user_version = 0", "schema version"),
    ] {
        let dir = filled();
        sql(&dir, statement);
        expect_set_aside(&dir, word);
    }
}

#[test]
fn the_log_is_set_aside_with_its_file_and_each_time_under_another_name() {
    let dir = filled();
    fs::remove_file(file(&dir)).expect("removed");
    fs::write(dir.path().join("state.db-wal"), b"left over").expect("written");
    let (store, opening) = open(dir.path(), "boot-1").expect("opens");
    assert!(matches!(opening, Opening::Corrupt { .. }), "{opening:?}");
    let log = fs::read(dir.path().join("state.db.corrupt-1-wal")).expect("the log");
    assert_eq!(log, b"left over");
    drop(store);
    overwrite(&file(&dir), |b| b.fill(0));
    let (_, opening) = open(dir.path(), "boot-1").expect("opens");
    let Opening::Corrupt { set_aside, .. } = opening else { panic!("{opening:?}") };
    assert_eq!(set_aside, dir.path().join("state.db.corrupt-2"));
}

#[test]
fn a_start_killed_between_setting_aside_and_making_anew_is_not_forgotten() {
    let dir = filled();
    let aside = dir.path().join("state.db.corrupt-1");
    fs::rename(file(&dir), &aside).expect("renamed");
    let (_, opening) = open(dir.path(), "boot-1").expect("opens");
    let Opening::Corrupt { set_aside, .. } = opening else { panic!("{opening:?}") };
    assert_eq!(set_aside, aside);
    let (_, opening) = open(dir.path(), "boot-2").expect("opens");
    assert_eq!(opening, Opening::NewBoot { dropped: COUNT }, "nothing is left to be learned");
}

#[test]
fn a_torn_log_loses_the_tail_and_that_is_seen() {
    // A power cut may do this to commits that were not synced; it is no damage.
    let (dir, alone) = (filled(), tempdir().expect("a directory"));
    let (mut store, _) = open(dir.path(), "boot-1").expect("opens");
    for n in 0..2 {
        let change = record(&format!("late{n}"), &[&format!("10.9.0.{n}/16")]);
        store.commit(&[Change::Remember(Box::new(change))]).expect("a commit");
    }
    let after = copy(dir.path());
    overwrite(&after.path().join("state.db-wal"), |b| b.truncate(b.len() - 100));
    for name in ["state.db", "state.db-wal"] {
        fs::copy(after.path().join(name), alone.path().join(name)).expect("a copy");
    }
    for (dir, count) in [(&after, COUNT + 2), (&alone, COUNT + 1)] {
        let (store, opening) = open(dir.path(), "boot-1").expect("opens");
        assert!(matches!(opening, Opening::Older { .. }), "{opening:?}");
        assert_eq!(store.count().expect("a count"), count);
        assert!(store.lookup(&key("late0")).expect("a look").is_some());
    }
}

#[test]
fn a_half_made_store_is_made_again() {
    let dir = tempdir().expect("a directory");
    fs::write(dir.path().join("state.new"), b"half").expect("written");
    let (_, opening) = open(dir.path(), "boot-1").expect("opens");
    assert_eq!(opening, Opening::Fresh);
    let (_, opening) = open(dir.path(), "boot-1").expect("opens");
    assert!(matches!(opening, Opening::Older { .. }), "killed before all was learned: {opening:?}");
}

#[test]
fn a_second_daemon_is_refused_by_the_locks_name() {
    let dir = tempdir().expect("a directory");
    let first = open(dir.path(), "boot-1").expect("opens");
    let error = open(dir.path(), "boot-1").expect_err("locked");
    assert!(error.to_string().contains(&dir.path().join("lock").display().to_string()), "{error}");
    drop(first);
    open(dir.path(), "boot-1").expect("opens");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = filled();
    sql(&dir, "PRAGMA user_version = 2");
    let before = fs::read(file(&dir)).expect("bytes");
    let error = open(dir.path(), "boot-1").expect_err("newer");
    assert!(matches!(error, StoreError::Newer { found: 2, ours: 1, .. }), "{error}");
    assert!(fs::read(file(&dir)).expect("bytes") == before);
}

#[test]
fn the_directory_is_for_its_owner_alone() {
    let dir = tempdir().expect("a directory");
    let made = dir.path().join("state");
    open(&made, "boot-1").expect("opens");
    let mode = fs::metadata(&made).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_full_disk_and_a_read_only_one_are_told_apart_and_passed() {
    let dir = filled();
    let (mut store, _) = open(dir.path(), "boot-1").expect("opens");
    let before = known(&store);
    let big: Vec<Change> = (0..500usize)
        .map(|n| Change::Remember(Box::new(record(&format!("late{n}"), &[]))))
        .collect();
    let pragma = |store: &Store, name: &str, value: i64| {
        let set = |_: &rusqlite::Row<'_>| Ok(());
        store.connection.pragma_update_and_check(None, name, value, set).expect(name);
    };
    let pages = |store: &Store| -> i64 {
        store.connection.pragma_query_value(None, "page_count", |r| r.get(0)).expect("pages")
    };
    pragma(&store, "max_page_count", pages(&store));
    let error = store.commit(&big).expect_err("full");
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    pragma(&store, "max_page_count", 1_000_000);
    store.connection.pragma_update(None, "query_only", true).expect("query_only");
    let error = store.commit(&big).expect_err("read-only");
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    store.connection.pragma_update(None, "query_only", false).expect("query_only");
    assert_eq!((known(&store), store.count().expect("a count")), (before, COUNT));
    store.commit(&big).expect("space again");
}

#[test]
fn what_is_no_file_is_said_with_what_to_do() {
    let dir = tempdir().expect("a directory");
    fs::create_dir(file(&dir)).expect("made");
    let error = open(dir.path(), "boot-1").expect_err("a folder").to_string();
    assert!(error.contains("is not a file: move what is there away"), "{error}");
}

#[test]
fn a_file_that_is_damaged_while_it_is_open_is_made_anew() {
    let dir = filled();
    let (mut store, _) = open(dir.path(), "boot-1").expect("opens");
    let before = known(&store);
    store.checkpoint().expect("nothing is wrong yet");
    sql(&dir, "UPDATE attachments SET body = '{'");
    store.mended(|store| store.lookup(&key("c7"))).expect("answered").expect("it is known");
    assert!(store.take_mishap().expect("told").contains("state.db.corrupt-1"));
    assert_eq!(known(&store), before);
    assert_eq!(store.networks().expect("what else there was"), [definition("n")]);
    let gone = Change::Forget { key: key("c7"), released_at: 5 };
    store.mended(|store| store.commit(std::slice::from_ref(&gone))).expect("forgotten");
    fs::remove_file(file(&dir)).expect("removed");
    store.checkpoint().expect("noticed");
    assert_eq!(store.count().expect("a count"), COUNT - 1);
    drop(store);
    let (store, opening) = open(dir.path(), "boot-1").expect("opens");
    assert_eq!((opening, store.count().expect("a count")), (Opening::Resumed, COUNT - 1));
}
