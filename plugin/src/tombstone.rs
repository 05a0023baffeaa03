//! A DEL without a daemon: the request is written down durably, and that is success. The daemon
//! replays it before it takes new attachments. A DEL that failed instead would hold up the pod's
//! deletion, and with it the drain of the node, for as long as the daemon is away.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use quantum_config::cni::{CniError, Code};
use quantum_config::spool;
use quantum_config::wire::Call;

use crate::exchange::Failure;

/// Writes the tombstone for `call`, which got no answer for the reason in `failure`.
pub(crate) fn write(call: &Call, failure: &Failure) -> Result<(), CniError> {
    let dir = std::env::var_os(spool::DIR_VARIABLE)
        .map_or_else(|| PathBuf::from(spool::DEFAULT_DIR), PathBuf::from);
    let buried = Call {
        written: Some((boottime().as_millis() as u64, boot_id())),
        descriptors: Vec::new(), // they die with us
        ..call.clone()
    };
    let failed = |doing: &str, e: String| {
        let why = match failure {
            Failure::NoAnswer { socket, why, .. } => format!("{socket}: {why}"),
            _ => String::new(),
        };
        CniError::new(Code::Io, "the DEL found no daemon and could not be written down either")
            .with_details(format!("{why}; {doing} in {}: {e}", dir.display()))
    };
    let frame = buried.encode().map_err(|e| failed("encoding", e.to_string()))?;
    store(&dir, &spool::file_name(&buried), &frame).map_err(|e| failed("writing", e.to_string()))
}

/// Write, sync, rename, sync: after a power cut there is the whole file or none.
fn store(dir: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let unfinished = dir.join(format!("{name}.{}.new", std::process::id()));
    // Of an earlier process of this number. What is opened then is new, and no link.
    let _ = fs::remove_file(&unfinished);
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&unfinished, dir.join(name)))
        .and_then(|()| File::open(dir)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Time since the machine booted.
pub(crate) fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}
