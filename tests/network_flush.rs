//! A firewall that reloads flushes every rule of the host, ours among them. Tables that belong to the daemon
//! stay; where a kernel or a setting has it that they do not, they come back whenever they went.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::network_isolation::{Attached, attach, dual};
use crate::support::conf::network;
use crate::support::eventually::eventually;
use crate::support::netns::Netns;
use crate::support::plugin::Call;
use crate::support::traffic::{Echo, Steady};
use crate::support::world::{OUTSIDE, World};

const AT: u16 = 7100;

/// How often a test flushes, unless `QUANTUM_FLUSHES` says otherwise.
fn flushes(usually: u32) -> u32 {
    let said = std::env::var("QUANTUM_FLUSHES");
    said.map_or(usually, |text| text.parse().expect("QUANTUM_FLUSHES is a number"))
}

/// An `nft` that takes one command after the other, without a process for each.
struct Nft {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Nft {
    fn on(host: &Netns) -> Self {
        let mut nft = host.command("nft");
        let mut child =
            nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("nft");
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    fn run(&mut self, command: &str) {
        writeln!(self.stdin.as_mut().expect("open"), "{command}").expect("written");
    }

    /// Returns when it has done all of it.
    fn end(mut self) {
        self.stdin = None;
        assert!(self.child.wait().expect("nft").success());
    }
}

/// What nobody may send: from `from`, from one thread, to a socket that counts what arrives.
struct Forbidden {
    to: String,
    socket: UdpSocket,
    arrived: AtomicU32,
}

impl Forbidden {
    fn new(from: &Netns, at: &Netns, to: &str) -> (Self, UdpSocket) {
        let listener = at.run(|| UdpSocket::bind((to, AT)).expect("a socket"));
        listener.set_read_timeout(Some(Duration::from_millis(20))).expect("a bound");
        let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = from.run(|| UdpSocket::bind(any).expect("a socket"));
        (Self { to: to.to_owned(), socket, arrived: AtomicU32::new(0) }, listener)
    }

    fn send(&self) {
        let _ = self.socket.send_to(b"forbidden", (self.to.as_str(), AT));
    }
}

#[test]
fn not_one_denied_packet_passes_while_a_firewall_reloads() {
    let world = world!();
    let daemon = world.daemon();
    let isolated = dual("flush", 151, json!({}));
    let zero = dual("zero", 152, json!({ "policy": { "posture": "zero-trust" } }));
    let [one, two] = [attach(&world, "c1", &isolated), attach(&world, "c2", &zero)];
    world.host.output("nft", "add table inet theirs");
    world.host.output("nft", "flush ruleset");
    if !world.host.output("nft", "list tables").contains("inet quantum") {
        return crate::support::skip("the kernel has no tables with an owner that outlive it");
    }
    assert!(!world.host.output("nft", "list tables").contains("theirs"), "it flushes");
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    let steady = Steady::start(&one.netns, OUTSIDE);
    let ways: [(&Attached, &Attached, usize); 4] =
        [(&one, &two, 0), (&one, &two, 1), (&two, &one, 0), (&two, &one, 1)];
    let (mut forbidden, mut listeners) = (Vec::new(), Vec::new());
    for (from, at, family) in ways {
        let (one, listener) = Forbidden::new(&from.netns, &at.netns, &at.addresses[family]);
        forbidden.push(one);
        listeners.push(listener);
    }
    let (done, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    let counted = |one: &Forbidden| one.arrived.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for (one, listener) in forbidden.iter().zip(&listeners) {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if listener.recv(&mut [0; 64]).is_ok() {
                        one.arrived.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                forbidden.iter().for_each(Forbidden::send);
                sent.fetch_add(4, Ordering::Relaxed);
            }
        });
        let (before, mut nft) = (sent.load(Ordering::Relaxed), Nft::on(&world.host));
        for _ in 0..flushes(1000) {
            nft.run("add table inet theirs");
            nft.run("flush ruleset");
        }
        nft.end();
        let meanwhile = sent.load(Ordering::Relaxed) - before;
        println!("{meanwhile} forbidden packets were sent meanwhile");
        assert!(meanwhile > 0);
        steady.was_undisturbed();
        let arrived: Vec<u32> = forbidden.iter().map(counted).collect();
        assert_eq!(arrived, [0; 4], "of {meanwhile} forbidden packets");
        // They would, if the rules were away: without a daemon the tables belong to nobody.
        assert!(daemon.terminate().success());
        world.host.output("nft", "flush ruleset");
        eventually("what was forbidden to arrive without rules", || {
            forbidden.iter().any(|one| counted(one) > 0).then_some(())
        });
        done.store(true, Ordering::Relaxed);
    });
}

/// The rules and elements of the host, in no order and without marks.
fn rules(world: &World) -> Vec<String> {
    let text = world.host.output("nft", "-s list ruleset");
    let words = text.split([' ', ',', '\n', '\t']).filter(|word| !word.starts_with("0x5a"));
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    words.sort();
    words
}

/// Numbers from 0 to 199, the same ones in every run.
fn distances() -> impl Iterator<Item = u64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 200
    })
}

fn flushes_end_in_order(number: u8, amid: impl FnMut(&World, &Value, u32)) {
    let world = world!();
    let _daemon = world.daemon_without_own_tables();
    let conf = network("reload", "reload0", &format!("10.{number}.0.0/24"));
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    let before = rules(&world);
    let mut amid = amid;
    let mut nft = Nft::on(&world.host);
    let mut distances = distances();
    let all = flushes(60);
    for flush in 0..all {
        nft.run("flush ruleset");
        amid(&world, &conf, flush);
        // Somebody's distance between two reloads, and no wait for anything.
        std::thread::sleep(Duration::from_millis(distances.next().unwrap_or_default()));
        // Now and then it is looked whether they come back; in between they go again while they do.
        if flush % 6 == 5 || flush + 1 == all {
            eventually("the rules to stand again", || (rules(&world) == before).then_some(()));
        }
    }
    nft.end();
    eventually("the rules to stand in the end", || (rules(&world) == before).then_some(()));
}

#[test]
fn rules_stand_again_whenever_they_were_flushed() {
    flushes_end_in_order(153, |_, _, _| {});
}

#[test]
fn rules_stand_again_when_they_were_flushed_amid_our_own_commits() {
    flushes_end_in_order(154, |world, conf, flush| {
        let netns = world.container();
        let id = format!("more{flush}");
        // It may fail, as rules are away; a DEL does not.
        let _ = world.call(Call::add(&id, &netns).conf(conf));
        world.call(Call::del(&id, &netns).conf(conf)).succeeded();
    });
}

#[test]
fn rules_stand_again_when_they_were_flushed_amid_somebody_elses_commits() {
    flushes_end_in_order(155, |world, _, _| {
        // A table that goes with the next flush, so that the rules are as they were.
        let mut theirs = Nft::on(&world.host);
        theirs.run("add table inet theirs");
        for n in 0..20 {
            theirs.run(&format!("add chain inet theirs c{n}"));
        }
        theirs.run("delete table inet theirs");
        theirs.end();
    });
}
