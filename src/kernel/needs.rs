//! What the daemon needs of whoever starts it, looked at once at the start: what is not there is said then,
//! and not by the first request that fails. What the kernel itself lacks is in [`features`](super::features),
//! and `nft` is missed by whoever runs it.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::sysctl::Setting;

/// A capability, and what is not possible without it (include/uapi/linux/capability.h).
const CAPABILITIES: [(u32, &str, &str); 2] = [
    (12, "CAP_NET_ADMIN", "no interface, address, route or rule can be made or removed"),
    (21, "CAP_SYS_ADMIN", "no container's network namespace can be entered"),
];

/// What is not met, in words: what is missing, what comes of it, and what to do.
pub fn unmet(state_dir: &Path) -> Vec<String> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let mut found = missing(&status);
    let setting = Setting::Forward4.path();
    if let Some(why) = cannot_write(&setting) {
        found.push(format!(
            "cannot write {}: {why}: settings of the host and of containers below /proc/sys/net stay as they are; mount it so that it can be written to, or elsewhere and say where by QUANTUM_PROC_SYS_NET",
            setting.display()
        ));
    }
    if let Some(why) = cannot_write(state_dir) {
        found.push(format!(
            "cannot write {}: {why}: nothing can be kept; make it writable or choose another state_dir",
            state_dir.display()
        ));
    }
    found
}

/// The capabilities that are not in the effective set of `/proc/PID/status`.
fn missing(status: &str) -> Vec<String> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    // Not known: then the requests that fail say so.
    let Some(effective) = effective else { return Vec::new() };
    let lacks = |(number, name, without): &(u32, &str, &str)| {
        (effective & (1 << number) == 0)
            .then(|| format!("the daemon does not have {name}: {without}; start it with {name}"))
    };
    CAPABILITIES.iter().filter_map(lacks).collect()
}

fn cannot_write(path: &Path) -> Option<&'static str> {
    access(path, AccessFlags::W_OK).err().map(Errno::desc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_that_is_missing_is_named() {
        let of = |set: &str| missing(&format!("Name:\tx\nCapEff:\t{set}\nSeccomp:\t0\n"));
        assert_eq!(of("000001ffffffffff"), [""; 0]);
        assert_eq!(of("0000000000201001"), [""; 0]);
        let one = of("0000000000001000");
        assert_eq!(one.len(), 1);
        assert!(one[0].contains("CAP_SYS_ADMIN") && one[0].contains("namespace"), "{one:?}");
        assert_eq!(of("0000000000000000").len(), 2);
        assert_eq!(missing(""), [""; 0], "not known");
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(cannot_write(dir.path()), None);
        let gone = dir.path().join("gone");
        let said = unmet(&gone).join("; ");
        assert!(
            said.contains(gone.to_str().expect("UTF-8")) && said.contains("state_dir"),
            "{said}"
        );
    }
}
