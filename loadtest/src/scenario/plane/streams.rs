//! What one stream between two containers of a bridge carries: with everything on and off, and among few
//! endpoints and many. Slices of what is compared come in turns, as the machine is never quiet.

use std::fs;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::driver::{Slice, Subject, Verb, addresses_of, per_second};
use crate::failure::{Doing, Result};
use crate::netlink::{Route, received_packets};
use crate::options::Bench;
use crate::report::{Asked, Figure, Report, Unit};
use crate::scenario::round::round;
use crate::world::{Container, IFNAME, World, as_handed_over, visiting};

/// With everything on a stream must carry so much of what it carries with nothing on.
const ON_BESIDE_OFF: Asked = Asked::AtLeast(0.9);
/// And among many endpoints, of what it carries among few.
const MANY_BESIDE_FEW: Asked = Asked::AtLeast(0.95);

/// One stream: short, so that what is compared is as near to each other in time as can be.
const SLICE: Slice = Slice { time: Duration::from_millis(150), bytes: 1 << 30 };
/// Pairs of slices, on and off.
const PAIRS: usize = 41;
/// How often endpoints become many and few again.
const CYCLES: usize = 3;
/// Slices among as many endpoints as there are.
const SLICES: usize = 15;
/// How many endpoints are few.
const FEW: usize = 10;
/// How many calls attach the many at the same time.
const AT_ONCE: usize = 100;

/// Whether an interface that a namespace gets has IPv6.
const NO_IPV6: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
/// New containers are heard for a while: they say who they are. Until their bridge receives
/// fewer packets than this in [`CALM`], what is measured is that.
const CHATTER: u64 = 10;
const CALM: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(10);

/// How many containers this needs: the two without anything on come first.
pub(super) fn containers(options: &Bench) -> usize {
    if options.endpoints == 0 { 0 } else { 2 + options.endpoints.max(FEW) }
}

/// The two ends of streams, attached.
struct Ends<'a> {
    subject: &'a Subject,
    containers: &'a [Container],
    address: IpAddr,
}

/// Measures both figures. Whatever a stream meets is a finding.
pub(super) fn measure(
    options: &Bench,
    world: &World,
    (on, off): (&Subject, &Subject),
    report: &mut Report,
) -> Result<Vec<Figure>> {
    if options.endpoints == 0 {
        return Ok(Vec::new());
    }
    let (plain, rest) = world.some(containers(options)).split_at(2);
    let (few, others) = rest.split_at(FEW.min(rest.len()));
    silence(others)?;
    let mut compared = Err("no container could be attached".to_owned());
    let mut scaled = compared.clone();
    match (attach(on, few), attach(off, plain)) {
        (Ok(on), Ok(off)) => {
            let pairs = pairs(&on, &off);
            compared = found(pairs, report);
            let cycles = cycles(&on, others, report);
            scaled = found(cycles, report);
        }
        (on, off) => {
            let why = [on.err(), off.err()].into_iter().flatten();
            report.wrong.extend(why.map(|why| format!("attaching the ends of a stream: {why}")));
        }
    }
    for (subject, containers) in [(on, few), (off, plain)] {
        for container in containers {
            if let Err(why) = subject.call(Verb::Del, container, None).outcome {
                report.wrong.push(format!("{}: DEL: {why}", subject.name));
            }
        }
        visiting(|visitor| as_handed_over(visitor, containers))?;
    }
    let endpoints = others.len() + few.len();
    Ok(vec![
        Figure::new("one TCP stream, everything on / off", Unit::Times, ON_BESIDE_OFF, compared),
        Figure::new(
            format!("one TCP stream, beside {endpoints} endpoints / beside {}", few.len()),
            Unit::Times,
            MANY_BESIDE_FEW,
            scaled,
        ),
    ])
}

/// With IPv6 each container asks for routers and says which groups it listens to, and the bridge hands
/// each of these packets to every other port: a million before a thousand of them are silent. They are
/// bystanders, and only the ends of the streams are to be heard.
pub(in crate::scenario) fn silence(containers: &[Container]) -> Result<()> {
    visiting(|visitor| {
        containers.iter().try_for_each(|container| {
            visitor.inside(&container.netns, || {
                fs::write(NO_IPV6, "1").doing(|| format!("writing {NO_IPV6}"))
            })
        })
    })
}

fn found(outcome: Result<(f64, String)>, report: &mut Report) -> std::result::Result<f64, String> {
    match outcome {
        Ok((ratio, note)) => {
            report.notes.push(note);
            Ok(ratio)
        }
        Err(why) => {
            report.wrong.push(why.to_string());
            Err("a stream failed, see the checks".to_owned())
        }
    }
}

fn attach<'a>(
    subject: &'a Subject,
    containers: &'a [Container],
) -> std::result::Result<Ends<'a>, String> {
    let mut first = Err("there are no containers".to_owned());
    for container in containers.iter().rev() {
        let result = subject.call(Verb::Add, container, None).outcome?;
        first = addresses_of(&result, IFNAME)
            .and_then(|all| all.first().copied().ok_or_else(|| "no address".to_owned()));
    }
    first.map(|address| Ends { subject, containers, address })
}

/// What a slice carries, in bytes per second.
fn slice(ends: &Ends<'_>) -> Result<f64> {
    let [to, from, ..] = ends.containers else { return Ok(0.0) };
    visiting(|visitor| per_second(visitor, (&from.netns, &to.netns), ends.address, SLICE))
}

/// On and off in turns: the median of the ratios of each pair.
fn pairs(on: &Ends<'_>, off: &Ends<'_>) -> Result<(f64, String)> {
    eprintln!("{}: one stream, in turns with nothing on", on.subject.name);
    let (mut ratios, mut with, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..PAIRS {
        let (a, b) = if number % 2 == 0 {
            let a = slice(on)?;
            (a, slice(off)?)
        } else {
            let b = slice(off)?;
            (slice(on)?, b)
        };
        ratios.push(a / b);
        with.push(a);
        without.push(b);
    }
    let note = format!(
        "one TCP stream: {} with everything on, {} with nothing on (medians of {PAIRS}, of which the \
         ratios are from {:.2} to {:.2})",
        rate(median(&mut with)),
        rate(median(&mut without)),
        ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratios.iter().copied().fold(0.0, f64::max),
    );
    Ok((median(&mut ratios), note))
}

/// Few, many, few, many and few: the median of each many to the few before and after it.
fn cycles(ends: &Ends<'_>, others: &[Container], report: &mut Report) -> Result<(f64, String)> {
    let (mut few, mut many) = (vec![slices(ends)?], Vec::new());
    for number in 0..CYCLES {
        let mut among = Ok(0.0);
        let mut of_round = Report::default();
        round(ends.subject, others, AT_ONCE.min(others.len()), &mut of_round, |_| {
            among = calm(ends.subject).and_then(|()| slices(ends));
        })?;
        if number > 0 {
            of_round.phases.clear();
        }
        report.absorb(of_round);
        many.push(among?);
        calm(ends.subject)?;
        few.push(slices(ends)?);
    }
    let mut ratios: Vec<f64> = many
        .iter()
        .zip(few.windows(2))
        .map(|(many, around)| many * 2.0 / around.iter().sum::<f64>())
        .collect();
    let note = format!(
        "one TCP stream: {} beside {} endpoints, {} beside {}",
        rate(median(&mut many)),
        others.len() + ends.containers.len(),
        rate(median(&mut few)),
        ends.containers.len(),
    );
    Ok((median(&mut ratios), note))
}

fn slices(ends: &Ends<'_>) -> Result<f64> {
    let mut all = (0..SLICES).map(|_| slice(ends)).collect::<Result<Vec<_>>>()?;
    Ok(median(&mut all))
}

/// Waits until the bridge is as quiet as it is when nothing new is on it.
pub(in crate::scenario) fn calm(subject: &Subject) -> Result<()> {
    let mut host = Route::open()?;
    let deadline = Instant::now() + PATIENCE;
    let mut before = received_packets(&mut host, &subject.bridge)?;
    while Instant::now() < deadline {
        sleep(CALM);
        let now = received_packets(&mut host, &subject.bridge)?;
        if now.wrapping_sub(before) < CHATTER {
            break;
        }
        before = now;
    }
    Ok(())
}

pub(in crate::scenario) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn rate(bytes: f64) -> String {
    format!("{:.1} Gbit/s", bytes * 8.0 / 1e9)
}
