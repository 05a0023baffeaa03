//! The time since the machine booted, as the machine has it. Plugin and daemon compare times by it, and may be in
//! different time namespaces (time_namespaces(7)), in which the clock shows another one.

use std::time::Duration;

/// Where the kernel tells a process by how much its clocks are ahead of the machine's.
pub const OFFSETS: &str = "/proc/self/timens_offsets";

/// By how much `CLOCK_BOOTTIME` is ahead, in nanoseconds; `offsets` is what is in [`OFFSETS`].
pub fn offset(offsets: &str) -> i64 {
    let line = offsets.lines().find_map(|line| line.strip_prefix("boottime"));
    let mut numbers = line.unwrap_or_default().split_whitespace().map(str::parse::<i64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(seconds)), Some(Ok(nanos))) => {
            seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
        }
        _ => 0, // a kernel before 5.6
    }
}

/// What the machine has when `CLOCK_BOOTTIME` shows `seen`.
pub fn of_machine(seen: Duration, offset: i64) -> Duration {
    let by = Duration::from_nanos(offset.unsigned_abs());
    if offset < 0 { seen.saturating_add(by) } else { seen.saturating_sub(by) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_namespace_has_no_other_time() {
        let seen = Duration::from_millis(5_500);
        for (offsets, there) in [
            ("monotonic           0         0\nboottime            0         0\n", 5_500),
            ("monotonic           7         0\nboottime            3 500000000\n", 2_000),
            ("monotonic           0         0\nboottime          -10         0\n", 15_500),
            ("boottime 10 0\n", 0),
            ("", 5_500),
            ("boottime x y\n", 5_500),
        ] {
            let found = of_machine(seen, offset(offsets));
            assert_eq!(found, Duration::from_millis(there), "{offsets}");
        }
    }
}
