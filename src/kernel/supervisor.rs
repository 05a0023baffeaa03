//! Whoever supervises the daemon, told how it is (systemd's `Type=notify`, sd_notify(3)): a datagram of lines
//! `NAME=value` to the socket that `NOTIFY_SOCKET` names.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it wants to hear that the daemon is well, if it does.
    pub watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names, if it does.
    pub fn from_env() -> io::Result<Option<Self>> {
        let Ok(named) = env::var("NOTIFY_SOCKET") else { return Ok(None) };
        let address = match named.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&named)?,
        };
        let socket = UnixDatagram::unbound()?;
        // One that does not listen is not waited for.
        socket.set_nonblocking(true)?;
        let read = |name| env::var(name).unwrap_or_default();
        let watchdog = every(std::process::id(), &read("WATCHDOG_PID"), &read("WATCHDOG_USEC"));
        Ok(Some(Self { socket, address, watchdog }))
    }

    /// Tells it, as in `READY=1`. Of several lines each is one.
    pub fn tell(&self, lines: &str) -> io::Result<()> {
        self.socket.send_to_addr(lines.as_bytes(), &self.address).map(|_| ())
    }
}

/// Half of the time after which the supervisor of the process `own` takes it for dead.
fn every(own: u32, pid: &str, microseconds: &str) -> Option<Duration> {
    let is_meant = pid.is_empty() || pid.parse() == Ok(own);
    let time = microseconds.parse().ok().filter(|time| is_meant && *time > 1)?;
    Some(Duration::from_micros(time) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_hears_twice_in_its_time() {
        assert_eq!(every(7, "", "60000000"), Some(Duration::from_secs(30)));
        assert_eq!(every(7, "7", "2"), Some(Duration::from_micros(1)));
        for (pid, time) in [("8", "60000000"), ("", ""), ("", "0"), ("", "x"), ("x", "9")] {
            assert_eq!(every(7, pid, time), None, "{pid} {time}");
        }
    }
}
