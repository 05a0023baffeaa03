//! A DEL without a daemon: the request is written down durably, and that is success. The daemon
//! replays it before it takes new attachments. A DEL that failed instead would hold up the pod's
//! deletion, and with it the drain of the node, for as long as the daemon is away.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use quantum_config::boottime;
use quantum_config::cni::{CniError, Code};
use quantum_config::spool;
use quantum_config::wire::Call;

use crate::exchange::socket_path;

/// Writes the tombstone for `call`, which was not carried out because of `why`: to the spool, or where that
/// cannot be written, beside the socket.
pub(crate) fn write(call: &Call, why: &CniError) -> Result<(), CniError> {
    let buried = Call {
        written: Some((boottime_of_machine().as_millis() as u64, boot_id())),
        descriptors: Vec::new(), // they die with us
        ..call.clone()
    };
    let failed = |details: String| {
        CniError::new(Code::Io, "the DEL was not carried out and could not be written down either")
            .with_details(format!("{why}; {details}"))
    };
    let frame = buried.encode().map_err(|e| failed(format!("encoding: {e}")))?;
    let name = spool::file_name(&buried);
    let dir = std::env::var_os(spool::DIR_VARIABLE)
        .map_or_else(|| PathBuf::from(spool::DEFAULT_DIR), PathBuf::from);
    let first = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    let Err(full) = first.and_then(|()| store(&dir, &name, &frame)) else { return Ok(()) };
    let told = format!("writing in {}: {full}", dir.display());
    let Some(second) = spool::second_dir(Path::new(&socket_path())) else {
        return Err(failed(told));
    };
    // Its own folder at most: where the socket's is not there, there was no daemon since the boot.
    let made = match DirBuilder::new().mode(0o700).create(&second) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    let stored = made.and_then(|()| store(&second, &name, &frame));
    stored.map_err(|e| failed(format!("{told}; writing in {}: {e}", second.display())))
}

/// Write, sync, rename, sync: after a power cut there is the whole file or none.
fn store(dir: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    let unfinished = dir.join(format!("{name}.{}{}", std::process::id(), spool::UNFINISHED));
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

/// The time since boot that this process sees.
pub(crate) fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The same as the machine has it.
fn boottime_of_machine() -> Duration {
    let offsets = fs::read_to_string(boottime::OFFSETS).unwrap_or_default();
    boottime::of_machine(boottime(), boottime::offset(&offsets))
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}
