//! An `nft` that does not end is killed, named, and tried again: DELs go on, ADDs say why not, and when it works
//! again all is well by itself.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::Value;

use crate::support::conf::{at, network};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::{eventually, eventually_within};
use crate::support::plugin::{Call, Outcome};
use crate::support::world::World;

/// `nft` has 10 s, and is tried every two.
const SEEN: Duration = Duration::from_secs(40);
const SAID: &str = "did not end within 10 s and was killed";

/// An `nft` that can be made to wait for what never comes.
struct Nft {
    folder: PathBuf,
}

impl Nft {
    fn new(world: &World) -> Self {
        let folder = world.paths().root.join("bin");
        std::fs::create_dir(&folder).expect("a folder");
        let fifo = folder.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
        let of_path = std::env::var_os("PATH").unwrap_or_default();
        let real = std::env::split_paths(&of_path).map(|dir| dir.join("nft"));
        let real = real.into_iter().find(|nft| nft.is_file()).expect("nft");
        let script = format!(
            "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n\
             [ -e {0}/hangs ] && {{ echo $$ >>{0}/hung; cat {1}; }}\nexec {2} \"$@\"\n",
            folder.display(),
            fifo.display(),
            real.display()
        );
        let nft = folder.join("nft");
        std::fs::write(&nft, script).expect("a script");
        std::fs::set_permissions(&nft, PermissionsExt::from_mode(0o755)).expect("its mode");
        Self { folder }
    }

    fn options(&self) -> Options {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.folder.display());
        Options::without_own_tables().var("PATH", &path)
    }

    fn hangs(&self) {
        std::fs::write(self.folder.join("hangs"), "").expect("a file");
    }

    fn works(&self) {
        std::fs::remove_file(self.folder.join("hangs")).expect("removed");
    }

    /// The numbers of the processes that hung.
    fn hung(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("hung")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn status(world: &World, conf: &Value) -> Outcome {
    world.call(Call::new("STATUS").conf(&at(conf, "1.1.0")))
}

#[track_caller]
fn is_said(world: &World, daemon: &Daemon, conf: &Value) {
    eventually_within(SEEN, "STATUS to say that nft hangs", || {
        let outcome = status(world, conf);
        let failure = (outcome.code == Some(1)).then(|| outcome.failed())?;
        (failure.code == 51 && failure.details.contains(SAID)).then_some(())
    });
    let (code, page) = daemon.get("/readyz");
    assert!(code == 503 && page.contains(SAID), "{code} {page}");
}

/// Processes that have ended and of which nobody has taken note.
fn zombies(daemon: &Daemon) -> Vec<String> {
    let of = format!(" {} ", daemon.pid());
    let stats = std::fs::read_dir("/proc").expect("/proc").flatten();
    let stats = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(&format!(") Z{of}"))).collect()
}

#[test]
fn it_is_killed_and_named_and_holds_up_no_del() {
    let world = world!();
    let nft = Nft::new(&world);
    let mut daemon = world.daemon_with(nft.options());
    let conf = network("hung", "hung0", "10.45.0.0/24");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    nft.hangs();
    world.host.output("nft", "flush ruleset");
    is_said(&world, &daemon, &conf);
    let gone = nft.hung().first().cloned().expect("one that hung");
    assert!(!std::path::Path::new("/proc").join(gone).exists(), "it was killed");
    assert_eq!(zombies(&daemon), Vec::<String>::new());
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
    let said = world.call(Call::add("c2", &container).conf(&conf)).failed_with(11);
    assert!(said.contains(SAID), "{said}");
    nft.works();
    eventually_within(SEEN, "the rules to be put right", || {
        (status(&world, &conf).code == Some(0)).then_some(())
    });
    world.call(Call::add("c2", &container).conf(&conf)).succeeded();
    nft.hangs();
    world.host.output("nft", "flush ruleset");
    let before = nft.hung().len();
    eventually("nft to hang again", || (nft.hung().len() > before).then_some(()));
    daemon.signal(Signal::SIGTERM);
    eventually_within(Duration::from_secs(30), "the daemon to stop", || {
        (!daemon.is_running()).then_some(())
    });
    assert!(daemon.wait().success());
}

#[test]
fn a_start_beside_one_that_hangs_comes_to_its_end() {
    let world = world!();
    let nft = Nft::new(&world);
    let daemon = world.daemon_with(nft.options());
    let conf = network("hung", "hung0", "10.45.0.0/24");
    let (first, second) = (world.container(), world.container());
    world.call(Call::add("c1", &first).conf(&conf)).succeeded();
    daemon.kill();
    world.host.output("nft", "flush ruleset");
    nft.hangs();
    let mut daemon = Daemon::start(&world.host, world.paths(), nft.options());
    is_said(&world, &daemon, &conf);
    world.call(Call::del("c1", &first).conf(&conf)).succeeded();
    eventually_within(SEEN, "the DEL to be carried out", || {
        first.link("eth0").is_none().then_some(())
    });
    let said = world.call(Call::add("c2", &second).conf(&conf)).failed_with(11);
    assert!(said.contains(SAID), "{said}");
    nft.works();
    daemon.wait_ready();
    world.call(Call::add("c2", &second).conf(&conf)).succeeded();
    assert_eq!(zombies(&daemon), Vec::<String>::new());
}
