//! The two clocks that survive a restart of the daemon but not one of the machine: the time since
//! boot, and which boot it is.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use quantum_config::boottime;

/// Milliseconds since the machine booted, time asleep included (`CLOCK_BOOTTIME`), as the machine has it also in a
/// time namespace. Nobody can set this clock, so a cool-down measured with it never ends early.
pub fn boottime_ms() -> u64 {
    // That of a process that runs cannot be changed.
    static OFFSET: OnceLock<i64> = OnceLock::new();
    let offset = *OFFSET.get_or_init(|| {
        boottime::offset(&std::fs::read_to_string(boottime::OFFSETS).unwrap_or_default())
    });
    // The call fails only for a clock that does not exist; this one exists since Linux 2.6.39.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(boottime::of_machine(now, offset).as_millis()).unwrap_or(u64::MAX)
}

/// The UUID the kernel chose for this boot. A record that carries another one describes links that
/// no longer exist.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_is_that_of_proc_uptime() {
        let before = boottime_ms();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let after = boottime_ms();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let shown = (seconds * 1000.0) as u64; // two decimals, cut off
        assert!((before.saturating_sub(10)..=after).contains(&shown), "{before} {shown} {after}");
    }

    #[test]
    fn a_boot_has_one_name() {
        let id = boot_id().unwrap();
        assert_eq!(id.len(), 36, "a UUID without the newline: {id:?}");
        assert_eq!(id, boot_id().unwrap());
    }
}
