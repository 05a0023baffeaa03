//! Tombstones: a DEL that found no daemon, kept in a file until one replays it. The file holds the
//! call as a frame (see [`wire`](crate::wire)) with the time it was written, so that a replay never
//! takes away an attachment that was made later under the same name.

use std::path::{Path, PathBuf};

use crate::cni::peek;
use crate::ids::digest;
use crate::wire::Call;

/// Where tombstones are kept unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/quantum/cni/spool";
/// The environment variable that tells the plugin another directory.
pub const DIR_VARIABLE: &str = "QUANTUM_CNI_SPOOL_DIR";
/// The folder, beside the daemon's socket, of tombstones that could not be written to the spool: it is another disk
/// as a rule, and what is there lasts as long as what a tombstone is about.
const BESIDE_SOCKET: &str = "tombstones";
/// How the name of a finished tombstone ends; others are being written, or were never finished.
pub const SUFFIX: &str = ".del";

/// How the name of a file ends that is being written. It is gone when its writer has ended well.
pub const UNFINISHED: &str = ".new";

/// Where tombstones go that cannot be written to the spool; none for a socket without a folder.
pub fn second_dir(socket: &Path) -> Option<PathBuf> {
    socket.parent().map(|folder| folder.join(BESIDE_SOCKET))
}

/// The file name for a call: one for each attachment, however often its DEL is repeated.
pub fn file_name(call: &Call) -> String {
    let network = peek(&call.stdin).name;
    let key = digest(&[&network, &call.env.container, &call.env.ifname]);
    format!("{key:016x}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::Environment;

    #[test]
    fn one_file_for_each_attachment() {
        let call = |network: &str, ifname: &str| Call {
            env: Environment {
                container: "c".into(),
                ifname: ifname.into(),
                ..Environment::default()
            },
            stdin: format!("{{\"name\":\"{network}\"}}").into_bytes(),
            ..Call::default()
        };
        assert_eq!(file_name(&call("n", "eth0")), file_name(&call("n", "eth0")));
        assert_ne!(file_name(&call("n", "eth0")), file_name(&call("n", "eth1")));
        assert_ne!(file_name(&call("m", "eth0")), file_name(&call("n", "eth0")));
    }
}
