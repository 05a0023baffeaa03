//! The daemon's files damaged and taken away while it runs: it notices, makes them anew, and serves meanwhile.

use std::fs;

use rusqlite::Connection;

use crate::damage_matrix::Town;
use crate::policy_live::pod;
use crate::support::daemon::Options;
use crate::support::eventually::eventually_within;
use crate::support::plugin::Call;
use crate::support::world::{World, names_in};

/// The files are looked after every few seconds.
const LATE: std::time::Duration = std::time::Duration::from_secs(30);

/// One record in memory: all others are read when they are needed.
fn cold() -> Options {
    Options::default().args("--cache-size 1")
}

/// A change by somebody else, so that nothing of the file that the daemon has in memory counts any more.
fn changed_by_others(world: &World, sql: &str) {
    let file = Connection::open(world.paths().state_dir.join("state.db")).expect("opens");
    file.busy_timeout(std::time::Duration::from_secs(5)).expect("a bound");
    file.execute_batch(sql).expect("changed");
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("brought home");
}

/// `harm` is done while the daemon runs; everything is served, and the next daemon finds all of it.
fn is_served(number: u8, harm: impl Fn(&World)) {
    let world = world!();
    let (town, daemon) = Town::with(world, number, cold());
    harm(&town.world);
    town.is_known();
    let is_told =
        || daemon.log().iter().any(|r| r["msg"].as_str().is_some_and(|m| m.contains("made anew")));
    assert!(is_told(), "it was noticed");
    let conf = &town.conf;
    let early = pod(&town.world, "early", conf);
    town.world.call(Call::del("early", &early.netns).conf(conf)).succeeded();
    daemon.kill();
    let _daemon = town.world.daemon();
    town.ends_well();
}

#[test]
fn pages_that_were_overwritten_are_noticed_and_everything_is_served() {
    is_served(202, |world| {
        changed_by_others(world, "UPDATE boot SET generation = generation + 1");
        let file = world.paths().state_dir.join("state.db");
        let mut bytes = fs::read(&file).expect("the file");
        bytes[4096..].fill(0x5a);
        fs::write(&file, bytes).expect("overwritten");
    });
}

#[test]
fn records_that_were_changed_are_noticed_and_everything_is_served() {
    is_served(203, |world| {
        changed_by_others(world, "UPDATE attachments SET body = replace(body, '203.0', '209.0')");
    });
}

#[test]
fn what_is_removed_under_a_daemon_is_made_anew() {
    let world = world!();
    let (town, daemon) = Town::with(world, 204, cold());
    let paths = town.world.paths().clone();
    let store = paths.state_dir.join("state.db");
    fs::remove_file(&store).expect("removed");
    eventually_within(LATE, "the store to be made anew", || {
        let is_told =
            |r: &serde_json::Value| r["msg"].as_str().is_some_and(|m| m.contains("made anew"));
        (store.exists() && daemon.log().iter().any(is_told)).then_some(())
    });
    fs::remove_dir_all(paths.attachments()).expect("removed");
    eventually_within(LATE, "each attachment's file to be there again", || {
        (names_in(&paths.attachments()).len() == 3).then_some(())
    });
    fs::remove_file(paths.generation()).expect("removed");
    eventually_within(LATE, "the generation to be noted again", || {
        paths.generation().exists().then_some(())
    });
    town.is_known();
    daemon.kill();
    let daemon = town.world.daemon();
    let doubts = |record: &serde_json::Value| {
        record["msg"].as_str().is_some_and(|msg| msg.contains("may not be the newest"))
    };
    assert!(!daemon.log().iter().any(doubts), "the next daemon has no reason to doubt");
    town.ends_well();
}

#[test]
fn what_cannot_be_written_beside_the_store_is_told_and_made_up_for() {
    let world = world!();
    let (town, daemon) = Town::with(world, 205, cold());
    let folder = town.world.paths().attachments();
    fs::remove_dir_all(&folder).expect("removed");
    fs::write(&folder, "in the way").expect("written");
    let late = pod(&town.world, "late", &town.conf);
    eventually_within(LATE, "it to be told", || {
        let (code, said) = daemon.get("/readyz");
        (code == 503 && said.contains("cannot be written beside the store")).then_some(())
    });
    town.is_known();
    fs::remove_file(&folder).expect("removed");
    eventually_within(LATE, "all of it to be there", || {
        (names_in(&folder).len() == 4).then_some(())
    });
    eventually_within(LATE, "that to be told", || (daemon.get("/readyz").0 == 200).then_some(()));
    town.world.call(Call::del("late", &late.netns).conf(&town.conf)).succeeded();
    town.ends_well();
}
