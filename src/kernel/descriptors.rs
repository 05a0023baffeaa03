//! How many files, sockets and namespaces the daemon may have open at a time.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as the daemon may by itself, and gives what it is then. Services and containers get
/// 1024, which is for programs that use select(2), and may have many more.
pub fn raise() -> Result<u64, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= hard {
        return Ok(soft);
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => Ok(hard),
        Err(_) => Ok(soft), // then it is as it was
    }
}
