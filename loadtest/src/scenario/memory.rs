//! Memory: what one call of the plugin needs at most, and what the daemon holds for many
//! attachments.

use super::round::round;
use crate::daemon::Daemon;
use crate::driver::{Subject, Verb, peak_of_one_call};
use crate::failure::{Failure, Result};
use crate::report::Report;
use crate::world::{Container, as_handed_over, visiting};

/// In MiB, or why it is not known.
pub(crate) type Size = std::result::Result<f64, String>;

/// The sizes that are reported.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The peak of one call of the plugin.
    pub(crate) plugin: Size,
    /// The daemon, resident, with everything attached that was to be.
    pub(crate) daemon: Size,
    /// The daemon's peak until then.
    pub(crate) daemon_peak: Size,
}

impl Memory {
    /// Nothing is known, for this reason.
    pub(crate) fn unknown(why: &str) -> Self {
        let unknown = || Err(why.to_owned());
        Self { plugin: unknown(), daemon: unknown(), daemon_peak: unknown() }
    }

    /// Finds the greatest peak of an ADD and a DEL of each container.
    pub(crate) fn read_plugin(
        &mut self,
        subject: &Subject,
        containers: &[Container],
    ) -> Result<()> {
        self.plugin = mebibytes(plugin_peak(subject, containers));
        visiting(|visitor| as_handed_over(visitor, containers))
    }

    /// Attaches every container, looks at the daemon, and detaches them.
    pub(crate) fn read_daemon(
        &mut self,
        daemon: &Daemon,
        subject: &Subject,
        containers: &[Container],
        at_once: usize,
        report: &mut Report,
    ) -> Result<()> {
        round(subject, containers, at_once, report, |attached| {
            if attached < containers.len() {
                *self =
                    Self { plugin: self.plugin.clone(), ..Self::unknown("not all were attached") };
            } else {
                self.daemon = mebibytes(daemon.memory_kib("VmRSS"));
                self.daemon_peak = mebibytes(daemon.memory_kib("VmHWM"));
            }
        })?;
        Ok(())
    }
}

fn plugin_peak(subject: &Subject, containers: &[Container]) -> Result<u64> {
    let mut greatest = None;
    for container in containers {
        for verb in [Verb::Add, Verb::Del] {
            for plugin in &subject.plugins {
                let (mut command, input) = subject.prepare(plugin, verb, container, None);
                let peak = peak_of_one_call(&mut command, &input, subject.limit)?;
                greatest = greatest.max(Some(peak));
            }
        }
    }
    greatest.ok_or_else(|| Failure::new("reading the plugin's peak", "there was nothing to call"))
}

fn mebibytes(kib: Result<u64>) -> Size {
    const KIB_PER_MIB: f64 = 1024.0;
    kib.map(|kib| kib as f64 / KIB_PER_MIB).map_err(|failure| failure.to_string())
}
