//! Memory: what one call of the plugin needs at most, and what the daemon holds for many attachments.

use super::round::round;
use crate::daemon::Daemon;
use crate::driver::{Subject, Verb, peak_of_one_call};
use crate::failure::{Failure, Result};
use crate::report::{Asked, Figure, Report, Unit};
use crate::world::Container;

/// Promised for one call of the plugin, in MiB.
const PLUGIN_LIMIT: f64 = 3.0;
/// Promised for the daemon, in MiB.
const DAEMON_LIMIT: f64 = 32.0;
const KIB_PER_MIB: f64 = 1024.0;

/// The greatest peak of an ADD and a DEL of each container.
pub(crate) fn plugin(subject: &Subject, containers: &[Container], report: &mut Report) {
    let value = plugin_peak(subject, containers).map(mebibytes).map_err(|failure| failure.to_string());
    let asked = Asked::Below(PLUGIN_LIMIT);
    report.figures.push(Figure::new("peak memory of one plugin call", Unit::MebiBytes, asked, value));
}

fn plugin_peak(subject: &Subject, containers: &[Container]) -> Result<u64> {
    let mut greatest = None;
    for container in containers {
        for verb in [Verb::Add, Verb::Del] {
            for plugin in &subject.plugins {
                let (mut command, input) = subject.prepare(plugin, verb, container, None);
                greatest = greatest.max(Some(peak_of_one_call(&mut command, &input, subject.limit)?));
            }
        }
    }
    greatest.ok_or_else(|| Failure::new("reading the plugin's peak memory", "there was nothing to call"))
}

/// The daemon's resident memory while every container is attached.
pub(crate) fn daemon(
    daemon: &Daemon,
    subject: &Subject,
    containers: &[Container],
    at_once: usize,
    report: &mut Report,
) -> Result<()> {
    round(subject, containers, at_once, report, |report| {
        let held = containers.len();
        let value = |field| daemon.memory_kib(field).map(mebibytes).map_err(|failure| failure.to_string());
        report.figures.extend([
            Figure::new(
                format!("daemon with {held} attachments, resident"),
                Unit::MebiBytes,
                Asked::Below(DAEMON_LIMIT),
                value("VmRSS"),
            ),
            Figure::new("daemon, its peak so far", Unit::MebiBytes, Asked::Nothing, value("VmHWM")),
        ]);
    })?;
    Ok(())
}

fn mebibytes(kib: u64) -> f64 {
    kib as f64 / KIB_PER_MIB
}
