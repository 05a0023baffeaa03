//! Every file of the daemon's state damaged in every way while containers live on: nobody is cut off who could
//! speak, nobody is let in who was denied, no address is given twice, and every DEL gets to nothing.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::network_isolation::{Attached, dual};
use crate::policy_live::{network_policy, pod};
use crate::support::conf::with;
use crate::support::ctl::{apply, told};
use crate::support::daemon::{Daemon, Options};
use crate::support::inventory::veths;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, PATIENCE, SILENCE, Steady, tcp_answers};
use crate::support::world::{World, names_in};

/// Nobody of the machine.
const NOBODY: u32 = 65534;

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Gone,
    Empty,
    Cut,
    Flipped,
    /// As it was when one container of three was there.
    Older,
    /// Of a format that is not known yet, or that says it is newer than it is.
    Newer,
    Foreign,
}

use Harm::{Cut, Empty, Flipped, Foreign, Gone, Newer, Older};

/// The files: one, or all of a folder.
#[derive(Debug, Clone, Copy)]
enum Files {
    Store,
    Log,
    LogIndex,
    Attachments,
    Generation,
    Policy,
    StateDir,
}

impl Files {
    fn of(self, root: &Path) -> Vec<PathBuf> {
        let state = root.join("state");
        let all =
            |folder: PathBuf| names_in(&folder).into_iter().map(move |name| folder.join(name));
        match self {
            Self::Store => vec![state.join("state.db")],
            Self::Log => vec![state.join("state.db-wal")],
            Self::LogIndex => vec![state.join("state.db-shm")],
            Self::Attachments => all(root.join("attachments")).collect(),
            Self::Generation => vec![root.join("generation")],
            Self::Policy => vec![state.join("policy.json")],
            Self::StateDir => all(state).filter(|path| path.is_file()).collect(),
        }
    }
}

/// Three containers, of which `web` may speak to `db` and `other` may not, by a policy and a label that
/// operators gave at run time; and a conversation that goes on whatever happens.
pub(crate) struct Town {
    pub(crate) world: World,
    pub(crate) conf: Value,
    all: [Attached; 3],
    _echoes: Vec<Echo>,
    talk: Steady,
}

impl Town {
    pub(crate) fn new(world: World, number: u8) -> (Self, Daemon) {
        Self::with(world, number, Options::default())
    }

    pub(crate) fn with(world: World, number: u8, options: Options) -> (Self, Daemon) {
        let daemon = world.daemon_with(options);
        let conf = dual("town", number, json!({}));
        let web = pod(&world, "web", &conf);
        told(&world, "policy label shop/web role=client", "");
        let clients = json!([{ "podSelector": { "matchLabels": { "role": "client" } } }]);
        let spec = json!({ "podSelector": { "matchLabels": { "app": "db" } },
            "ingress": [{ "from": clients }] });
        apply(&world, &network_policy("db", spec));
        keep_copies(&world);
        let [db, other] = ["db", "other"].map(|name| pod(&world, name, &conf));
        let echoes = [&web, &db, &other].map(|at| Echo::serve(&at.netns, &at.addresses[0]));
        let talk = Steady::start(&web.netns, &db.addresses[0]);
        (Self { world, conf, all: [web, db, other], _echoes: echoes.into(), talk }, daemon)
    }

    pub(crate) fn stands(&self) {
        let [web, db, other] = &self.all;
        let ways = [(web, db, true), (other, db, false), (other, web, true), (db, other, true)];
        std::thread::scope(|scope| {
            let asked = ways.map(|(from, to, may)| {
                let within = if may { PATIENCE } else { SILENCE };
                scope.spawn(move || tcp_answers(&from.netns, &to.addresses[0], within) == may)
            });
            let found = asked.map(|asked| asked.join().expect("the one who asks"));
            assert_eq!(
                found, [true; 4],
                "web to db, other to db (denied), other to web, db to other"
            );
        });
    }

    /// The daemon knows all of it, and all of each.
    pub(crate) fn is_known(&self) {
        for (name, at) in ["web", "db", "other"].iter().zip(&self.all) {
            let check = with(&self.conf, json!({ "prevResult": at.result }));
            self.world.call(Call::check(name, &at.netns).conf(&check)).succeeded();
        }
        self.stands();
    }

    /// A daemon that finds all this: everything is as it was.
    pub(crate) fn ends_well(self) {
        let names = ["web", "db", "other"];
        self.is_known();
        let late = ["late0", "late1", "late2"].map(|name| pod(&self.world, name, &self.conf));
        for late in &late {
            let is_taken = |at: &Attached| at.addresses.iter().any(|a| late.addresses.contains(a));
            assert!(!self.all.iter().any(is_taken), "{:?} was given twice", late.addresses);
        }
        self.stands();
        self.talk.was_undisturbed();
        let late = late.iter().enumerate().map(|(n, at)| (format!("late{n}"), at));
        let all = names.iter().map(|name| (*name).to_owned()).zip(&self.all).chain(late);
        for (name, at) in all {
            self.world.call(Call::del(&name, &at.netns).conf(&self.conf)).succeeded();
            assert!(at.netns.link("eth0").is_none(), "{name} was not taken away");
        }
        assert_eq!(veths(&self.world.host), Vec::<String>::new());
        let left = names_in(&self.world.paths().attachments());
        assert!(!left.iter().any(|name| !name.ends_with(".bad")), "{left:?}");
    }
}

/// Copies of all files as they are now, for what is to be older.
fn keep_copies(world: &World) {
    let root = &world.paths().root;
    for folder in ["", "state", "attachments"] {
        fs::create_dir_all(root.join("before").join(folder)).expect("a folder");
        for name in names_in(&root.join(folder)) {
            let file = root.join(folder).join(&name);
            if file.is_file() {
                fs::copy(&file, root.join("before").join(folder).join(&name)).expect("a copy");
            }
        }
    }
}

fn harm(world: &World, files: Files, harm: Harm) {
    let root = &world.paths().root;
    for path in files.of(root) {
        let Ok(mut bytes) = fs::read(&path) else { continue };
        let old = root.join("before").join(path.strip_prefix(root).expect("below the root"));
        let half = bytes.len() / 2;
        match harm {
            Gone => fs::remove_file(&path).expect("removed"),
            Foreign => chown(&path, Some(NOBODY), Some(NOBODY)).expect("given away"),
            Older => match fs::read(&old) {
                Ok(old) => fs::write(&path, old).expect("put back"),
                Err(_) => fs::remove_file(&path).expect("it was not there"),
            },
            Empty => fs::write(&path, "").expect("emptied"),
            Cut => fs::write(&path, &bytes[..half]).expect("cut"),
            Flipped => {
                // Somewhere in what was written, and not where nothing is.
                let at = (half..bytes.len()).find(|at| bytes[*at] != 0).unwrap_or(0);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 4;
                }
                fs::write(&path, bytes).expect("flipped");
            }
            Newer => {
                let text = String::from_utf8(bytes).expect("text");
                let newer = match files {
                    Files::Generation => text.replace(" 000", " 900"),
                    Files::Policy => text.replace("\"version\":1", "\"version\":2"),
                    _ => text.replacen(" 1 ", " 2 ", 1),
                };
                assert_ne!(text, newer);
                fs::write(&path, newer).expect("newer");
            }
        }
    }
}

#[test]
fn whatever_happens_to_one_file_everything_stands() {
    let cases = [
        (Files::Store, vec![Gone, Empty, Cut, Flipped, Older, Foreign]),
        (Files::Log, vec![Gone, Empty, Cut, Flipped, Older]),
        (Files::LogIndex, vec![Gone, Empty, Cut, Flipped]),
        (Files::Attachments, vec![Gone, Empty, Cut, Flipped, Older, Newer, Foreign]),
        (Files::Generation, vec![Gone, Empty, Cut, Flipped, Older, Newer, Foreign]),
        (Files::Policy, vec![Gone, Empty, Cut, Flipped, Older, Newer, Foreign]),
        (Files::StateDir, vec![Gone, Older]),
    ];
    let each = cases.iter().flat_map(|(files, harms)| harms.iter().map(|harm| (*files, *harm)));
    for_each(each.collect(), |world, number, (files, kind)| {
        let (town, daemon) = Town::new(world, number);
        daemon.kill();
        harm(&town.world, files, kind);
        let _daemon = town.world.daemon();
        town.ends_well();
    });
}

/// Nobody knows any more what operators have said: what that could have been about is denied, and health says so.
#[test]
fn where_all_of_policy_is_lost_nobody_is_let_in() {
    let world = world!();
    let (town, daemon) = Town::new(world, 201);
    daemon.kill();
    let root = town.world.paths().root.clone();
    let all = ["state/policy.json", "state/policy.json.before", "policy.json"];
    for file in all {
        fs::write(root.join(file), "{").expect("damaged");
    }
    let daemon = town.world.daemon_that_serves();
    let [web, db, other] = &town.all;
    for (from, to) in [(web, db), (other, db), (other, web)] {
        assert!(!tcp_answers(&from.netns, &to.addresses[0], SILENCE), "nothing is known");
    }
    let (code, said) = daemon.get("/readyz");
    assert!(code == 503 && said.contains("policy.json"), "{code} {said}");
    let asked = with(&town.conf, json!({ "cniVersion": "1.1.0" }));
    let said = town.world.call(Call::new("STATUS").conf(&asked)).failed_with(51);
    assert!(said.contains("policy.json"), "{said}");
    daemon.kill();
    // Where there is none, there was none.
    for file in all {
        fs::remove_file(root.join(file)).expect("removed");
    }
    let _daemon = town.world.daemon();
    assert!(tcp_answers(&other.netns, &db.addresses[0], PATIENCE), "open again");
}

/// Runs `story` for each case, several at a time, and reports all that went wrong.
fn for_each<C: Copy + std::fmt::Debug + Sync>(cases: Vec<C>, story: impl Fn(World, u8, C) + Sync) {
    if let Err(reason) = World::new() {
        return crate::support::skip(&reason);
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(String::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { break };
                    let world = World::new().expect("a world");
                    let run = std::panic::AssertUnwindSafe(|| story(world, 200, *case));
                    if let Err(panic) = std::panic::catch_unwind(run) {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| {
                            panic.downcast_ref::<&str>().copied().unwrap_or("?").to_owned()
                        });
                        let mut failures = failures.lock().expect("unpoisoned");
                        let _ = writeln!(failures, "--- {case:?}: {text}");
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("unpoisoned");
    assert!(failures.is_empty(), "\n{failures}");
}
