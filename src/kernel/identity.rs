//! Which host this is.

/// A text that is the same for as long as this host is installed: systemd's machine ID, or, where
/// there is none, the boot's.
pub fn host_id() -> String {
    ["/etc/machine-id", "/proc/sys/kernel/random/boot_id"]
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}
