//! What policies cost: an ADD, a change of a policy that is about everybody, a packet of a connection that
//! was let in, and the daemon's memory. Each beside fewer policies, in turns, the daemon started anew for
//! each of them: what is read at a start is what a host has.

mod documents;

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::networks;
use super::plane::streams::{calm, median, silence};
use super::round::round;
use crate::daemon::{self, Daemon};
use crate::driver::{
    Slice, Subject, Verb, addresses_of, all, open_stream, per_second, round_trip, run_process,
};
use crate::failure::{Doing, Failure, Result};
use crate::options::Bench;
use crate::report::{Asked, Figure, Report, Unit};
use crate::world::{Container, IFNAME, World, as_handed_over, remove_link, visiting};

/// An ADD with policies may cost so many times what it costs without.
const ADD_WITH_BESIDE_WITHOUT: Asked = Asked::AtMost(1.5);
/// So many milliseconds a change may take.
const CHANGE: Asked = Asked::Below(50.0);
/// What a stream must carry with many policies of what it carries with few, and how much longer a byte
/// may be on its way.
const STREAM: Asked = Asked::AtLeast(0.95);
const ROUND_TRIP: Asked = Asked::AtMost(1.05);
const MEMORY: Asked = Asked::Below(32.0);

/// How many containers come and go.
const COMING: usize = 20;
/// How often policies come and go.
const CYCLES: usize = 4;
/// How many changes are made.
const CHANGES: u16 = 21;
/// With how many policies a packet is measured.
const FEW: usize = 10;
const MANY: usize = 1000;
/// So many endpoints there are when memory is read.
const HOLD: usize = 500;
const SLICE: Slice = Slice { time: std::time::Duration::from_millis(150), bytes: 1 << 30 };
const SLICES: usize = 9;
const ROUND_TRIPS: usize = 4000;
/// How many calls attach at the same time.
const AT_ONCE: usize = 100;

/// How many containers this needs.
pub(super) fn containers(options: &Bench) -> usize {
    match options.daemon.is_some() && options.policies > 0 && options.endpoints > HOLD {
        true => options.endpoints + COMING,
        false => 0,
    }
}

/// A daemon, and what is needed to have another one.
struct Host<'a> {
    options: &'a Bench,
    world: &'a World,
    binary: PathBuf,
    subject: Subject,
    daemon: Option<Daemon>,
}

/// Measures all of it, with a daemon of its own.
pub(super) fn measure(options: &Bench, world: &World, report: &mut Report) -> Result<Vec<Figure>> {
    let Some(binary) = options.daemon.clone().filter(|_| containers(options) > 0) else {
        return Ok(Vec::new());
    };
    let mut subject = networks::policed(options, &world.work)?;
    subject.variables = daemon::variables(&world.work);
    subject.in_a_namespace = documents::IN_A_NAMESPACE;
    let mut host = Host { options, world, binary, subject, daemon: None };
    let mut measured = Report::default();
    let figures = host.measure(&mut measured);
    if let Some(daemon) = host.daemon.take() {
        if figures.is_err() || !measured.sound() {
            report.notes.push(format!("the daemon's log ends with:\n{}", daemon.last_words()));
        }
        measured.wrong.extend(daemon.stop().err().map(|failure| failure.to_string()));
    }
    fs::remove_dir_all(daemon::policies(&world.work)).doing(|| "removing the policies")?;
    remove_link(&host.subject.bridge)?;
    report.absorb(measured);
    figures
}

impl Host<'_> {
    fn measure(&mut self, report: &mut Report) -> Result<Vec<Figure>> {
        let endpoints = self.options.endpoints;
        let policies = self.options.policies;
        let world = self.world;
        let (there, coming) = world.some(endpoints + COMING).split_at(endpoints);
        let (first, others) = there.split_at(HOLD);
        // What a bridge of a thousand ports does with what a new container says of its own accord is the
        // same with policies and without, and more than all else.
        silence(world.some(endpoints + COMING))?;

        self.with_policies(0)?;
        let alone = self.add(coming, "without policies or endpoints", true, report)?;
        let address = self.attach(first)?;
        let mut memory = vec![self.memory()?];
        for count in [0, policies] {
            self.with_policies(count)?;
            memory.push(self.memory()?);
        }
        self.attach(others)?;

        let (mut without, mut with) = (Vec::new(), Vec::new());
        for cycle in 0..CYCLES {
            self.with_policies(0)?;
            without.push(self.add(coming, "without policies", cycle == 0, report)?);
            self.with_policies(policies)?;
            let what = format!("{policies} policies");
            with.push(self.add(coming, &what, cycle == 0, report)?);
        }
        let (without, with) = (median(&mut without), median(&mut with));
        let change = self.change()?;
        memory.push(self.memory()?);
        self.with_policies(0)?;
        let change_alone = self.change()?;

        let (streams, trips, note) = self.packets(there, address)?;
        report.notes.push(note);
        self.detach(there, report)?;
        Ok(vec![
            Figure::new(
                format!("ADD p50, {policies} policies / none, beside {endpoints} endpoints"),
                Unit::Times,
                ADD_WITH_BESIDE_WITHOUT,
                Ok(with / without),
            ),
            Figure::new(
                format!("ADD p50, {policies} policies and {endpoints} endpoints / none of either"),
                Unit::Times,
                Asked::Nothing,
                Ok(with / alone),
            ),
            Figure::new(
                format!("a change of a policy about {endpoints} endpoints, p50"),
                Unit::MilliSeconds,
                CHANGE,
                Ok(change_alone),
            ),
            Figure::new(
                format!("the same beside {policies} policies, p50"),
                Unit::MilliSeconds,
                CHANGE,
                Ok(change),
            ),
            Figure::new(
                format!("one TCP stream, {MANY} policies / {FEW}"),
                Unit::Times,
                STREAM,
                Ok(streams),
            ),
            Figure::new(
                format!("a byte there and back, {MANY} policies / {FEW}"),
                Unit::Times,
                ROUND_TRIP,
                Ok(trips),
            ),
            Figure::new(
                format!("memory of the daemon that attached {HOLD} endpoints, no policies"),
                Unit::MebiBytes,
                MEMORY,
                Ok(memory[0]),
            ),
            Figure::new(
                format!("memory of the daemon started beside {HOLD} endpoints, no policies"),
                Unit::MebiBytes,
                MEMORY,
                Ok(memory[1]),
            ),
            Figure::new(
                format!("the same, {policies} policies"),
                Unit::MebiBytes,
                MEMORY,
                Ok(memory[2]),
            ),
            Figure::new(
                format!("the same with {endpoints} endpoints, after {CHANGES} changes"),
                Unit::MebiBytes,
                Asked::Nothing,
                Ok(memory[3]),
            ),
        ])
    }

    /// Starts the daemon with so many policies.
    fn with_policies(&mut self, count: usize) -> Result<()> {
        eprintln!("{}: {count} policies", self.subject.name);
        let folder = daemon::policies(&self.world.work);
        fs::create_dir_all(&folder).doing(|| format!("creating {}", folder.display()))?;
        let namespaces = self.options.endpoints / usize::from(documents::IN_A_NAMESPACE);
        let file = folder.join("tenants.json");
        fs::write(&file, documents::list(count, namespaces))
            .doing(|| format!("writing {}", file.display()))?;
        if let Some(daemon) = self.daemon.take() {
            daemon.stop()?;
        }
        let mut daemon = Daemon::start(&self.binary, &self.world.work)?;
        if let Some(container) = self.world.containers.first() {
            daemon.wait_until_ready(&self.subject, container)?;
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// What it takes at the median to attach one of these.
    fn add(
        &self,
        containers: &[Container],
        how: &str,
        is_shown: bool,
        report: &mut Report,
    ) -> Result<f64> {
        let mut found = Report::default();
        // What is done but once after a start.
        super::round::warm_up(&self.subject, &containers[0], &mut found)?;
        let added = round(&self.subject, containers, 1, &mut found, |_| {})?;
        found.phases.truncate(if is_shown { 1 } else { 0 });
        for phase in &mut found.phases {
            phase.what = format!("ADD, {how}");
        }
        report.absorb(found);
        added.add.p50().ok_or_else(|| Failure::new("attaching containers", "every call was lost"))
    }

    /// Attaches these: the address of the first.
    fn attach(&self, containers: &[Container]) -> Result<std::net::IpAddr> {
        let call = |n: usize| containers.get(n).map(|one| self.subject.call(Verb::Add, one, None));
        let failed = |why: String| Failure::new("attaching the containers of policies", why);
        let mut first = None;
        for answer in all(containers.len(), AT_ONCE, call).into_iter().flatten() {
            let result = answer.outcome.map_err(failed)?;
            first.get_or_insert(result);
        }
        let addresses = addresses_of(&first.unwrap_or_default(), IFNAME).map_err(failed)?;
        addresses.first().copied().ok_or_else(|| failed("no address".to_owned()))
    }

    fn detach(&self, containers: &[Container], report: &mut Report) -> Result<()> {
        let call = |n: usize| containers.get(n).map(|one| self.subject.call(Verb::Del, one, None));
        for answer in all(containers.len(), AT_ONCE, call).into_iter().flatten() {
            report.wrong.extend(answer.outcome.err().map(|why| format!("DEL, policed: {why}")));
        }
        visiting(|visitor| as_handed_over(visitor, containers))
    }

    /// How many milliseconds a change takes at the median, by the operator's own program.
    fn change(&self) -> Result<f64> {
        let program = self.binary.with_file_name("quantumctl");
        let mut took = Vec::new();
        for revision in 0..CHANGES {
            let mut command = Command::new(&program);
            command.args(["policy", "apply", "-"]);
            command.envs(self.subject.variables.iter().map(|(name, value)| (name, value)));
            let document = documents::about_everybody(revision);
            let started = Instant::now();
            let limit = self.options.call_limit();
            let done = run_process(&mut command, document.as_bytes(), limit)?;
            took.push(started.elapsed().as_secs_f64() * 1e3);
            if !done.status.success() {
                let why = String::from_utf8_lossy(&done.stderr).into_owned();
                return Err(Failure::new("changing a policy by quantumctl", why));
            }
        }
        Ok(median(&mut took))
    }

    /// What one stream carries and how long a byte is on its way with many policies, beside few.
    fn packets(
        &mut self,
        there: &[Container],
        address: std::net::IpAddr,
    ) -> Result<(f64, f64, String)> {
        let [to, from, ..] = there else { return Ok((0.0, 0.0, String::new())) };
        self.with_policies(FEW)?;
        let ends = visiting(|visitor| open_stream(visitor, &from.netns, &to.netns, address))?;
        let mut ends: (TcpStream, TcpStream) = ends;
        let mut found = [const { (Vec::new(), Vec::new()) }; 2];
        for cycle in 0..=2 * CYCLES {
            let which = cycle % 2;
            if cycle > 0 {
                self.with_policies(if which == 0 { FEW } else { MANY })?;
            }
            calm(&self.subject)?;
            let slice = || {
                visiting(|visitor| per_second(visitor, (&from.netns, &to.netns), address, SLICE))
            };
            let mut slices = (0..SLICES).map(|_| slice()).collect::<Result<Vec<_>>>()?;
            let trip = round_trip((&mut ends.0, &mut ends.1), ROUND_TRIPS)?;
            found[which].0.push(median(&mut slices));
            found[which].1.push(trip.as_secs_f64() * 1e6);
        }
        let [few, many] = found;
        // Each of many to the mean of the few before and after it.
        let ratio = |few: &[f64], many: &[f64]| {
            let around = few.windows(2).map(|around| (around[0] + around[1]) / 2.0);
            let mut ratios: Vec<f64> = many.iter().zip(around).map(|(m, f)| m / f).collect();
            median(&mut ratios)
        };
        let (streams, trips) = (ratio(&few.0, &many.0), ratio(&few.1, &many.1));
        let of = |mut values: Vec<f64>| median(&mut values);
        let note = format!(
            "one connection: {:.1} Gbit/s and {:.1} us there and back with {MANY} policies, {:.1} \
             Gbit/s and {:.1} us with {FEW}",
            of(many.0) * 8.0 / 1e9,
            of(many.1),
            of(few.0) * 8.0 / 1e9,
            of(few.1),
        );
        Ok((streams, trips, note))
    }

    fn memory(&self) -> Result<f64> {
        let daemon = self.daemon.as_ref();
        let daemon = daemon.ok_or_else(|| Failure::new("reading memory", "there is no daemon"))?;
        Ok(daemon.memory_kib("VmRSS")? as f64 / 1024.0)
    }
}
