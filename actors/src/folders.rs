//! The daemon's folders, seen to before anything is read from them or put into them.

use std::path::{Path, PathBuf};

use quantum_cni::store::folder;
use quantum_config::settings::CniServerConfig;
use quantum_config::spool::second_dir;
use slog::{Logger, warn};

use crate::lifecycle::Failure;

/// Where tombstones are: in the spool, and beside the socket where the plugin could not write to that.
pub(crate) fn spools(settings: &CniServerConfig) -> Vec<PathBuf> {
    let second = second_dir(Path::new(&settings.socket_path));
    [Some(settings.spool_dir.clone()), second].into_iter().flatten().collect()
}

/// Makes the folders that the daemon writes to. It does not start where others can write to one of them; of
/// those that an operator fills it only warns, as what is in them may be wanted by whoever can.
pub(crate) fn prepare(settings: &CniServerConfig, log: &Logger) -> Result<(), Failure> {
    folder::own("state_dir", &settings.state_dir, 0o700)?;
    // Whoever may connect has to come as far as the socket.
    let sockets = [
        ("the folder of socket_path", Some(Path::new(&settings.socket_path))),
        ("the folder of docker_socket", settings.docker_socket.as_deref()),
    ];
    for (what, socket) in sockets {
        if let Some(dir) = socket.and_then(Path::parent) {
            folder::own(what, dir, 0o755)?;
        }
    }
    // The folder of the socket, as a rule, and named as that.
    folder::own("runtime_dir", &settings.runtime_dir(), 0o755)?;
    for (what, dir) in ["spool_dir", "the second spool"].iter().zip(spools(settings)) {
        folder::own(what, &dir, 0o700)?;
    }
    let policy_dir = settings.policy_dir();
    for (what, dir) in
        [("config_dir", Path::new(&settings.config_dir)), ("policy_dir", &policy_dir)]
    {
        if let Err(error) = folder::look(what, dir) {
            warn!(log, "others than root can change what is configured"; "error" => %error);
        }
    }
    Ok(())
}
