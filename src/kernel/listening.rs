//! Which processes of the host listen where ports are published.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use quantum_config::cni::{PortMapping, Transport};

use crate::publish::{Listener, Process, listener};

/// The kernel's lists of sockets, of the network namespace of the thread that reads them.
const LISTS: [(Transport, &str); 5] = [
    (Transport::Tcp, "tcp"),
    (Transport::Tcp, "tcp6"),
    (Transport::Udp, "udp"),
    (Transport::Udp, "udp6"),
    (Transport::Sctp, "sctp/eps"),
];
/// How long processes are searched for a socket. A host with 1,000 processes of 100 files each takes about that.
const SEARCH: Duration = Duration::from_millis(200);

/// Ports that one process listens at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Those of the ports that are published.
    pub ports: Vec<PortMapping>,
    /// The process; none if it is another's to see (of another PID namespace, or with more rights), or was not
    /// found in time.
    pub process: Option<Process>,
}

/// Who listens where these ports are published, in the network namespace of the calling thread. `loopback`: they are
/// published at 127.0.0.0/8, too. No socket is made for it, so nobody finds a port taken because of it.
pub fn find(ports: &[PortMapping], loopback: bool) -> Vec<Found> {
    let mut wanted: HashMap<(Transport, u16), Vec<PortMapping>> = HashMap::new();
    for port in ports {
        wanted.entry((port.transport, port.host_port)).or_default().push(*port);
    }
    let mut behind: Vec<(u64, Vec<PortMapping>)> = Vec::new();
    for (transport, list) in LISTS {
        if !ports.iter().any(|port| port.transport == transport) {
            continue;
        }
        for socket in listeners(transport, list) {
            let same = wanted.get(&(socket.transport, socket.port)).into_iter().flatten();
            let taken: Vec<_> = same.filter(|p| socket.is_behind(p, loopback)).copied().collect();
            if !taken.is_empty() {
                behind.push((socket.inode, taken));
            }
        }
    }
    let processes = if behind.is_empty() { HashMap::new() } else { holders(&behind) };
    let mut found: Vec<Found> = Vec::new();
    for (inode, ports) in behind {
        let process = processes.get(&inode).cloned();
        let at = found.iter().position(|one| one.process == process).unwrap_or_else(|| {
            found.push(Found { ports: Vec::new(), process });
            found.len() - 1
        });
        let new: Vec<_> = ports.into_iter().filter(|p| !found[at].ports.contains(p)).collect();
        found[at].ports.extend(new);
    }
    found
}

/// The listening sockets of one list; none if the kernel has no such list.
fn listeners(transport: Transport, list: &str) -> Vec<Listener> {
    let Ok(file) = File::open(Path::new("/proc/thread-self/net").join(list)) else {
        return Vec::new();
    };
    let lines = BufReader::new(file).lines().skip(1).map_while(Result::ok);
    let read = lines.map(|line| listener(transport, &line));
    match transport {
        // Those that listen come first, and then perhaps very many that do not.
        Transport::Tcp => read.map_while(|socket| socket).collect(),
        Transport::Udp | Transport::Sctp => read.flatten().collect(),
    }
}

/// The processes that have these sockets: of several the first one, as the kernel lists them.
fn holders(sockets: &[(u64, Vec<PortMapping>)]) -> HashMap<u64, Process> {
    let names: HashMap<String, u64> =
        sockets.iter().map(|(inode, _)| (format!("socket:[{inode}]"), *inode)).collect();
    let begun = Instant::now();
    let mut found = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        if found.len() == names.len() || begun.elapsed() > SEARCH {
            break;
        }
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        for inode in targets.filter_map(|target| names.get(target.to_str()?)) {
            found.entry(*inode).or_insert_with(|| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                Process { name: name.trim_end().to_owned(), pid }
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::kernel::testing::in_private_netns;

    fn port(transport: Transport, number: u16) -> PortMapping {
        PortMapping { transport, host_ip: None, only: None, host_port: number, container_port: 1 }
    }

    #[test]
    fn who_listens_is_found_and_who_asks_is_not() {
        in_private_netns(|| {
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.expect("ip").success());
            let ports = [port(Transport::Tcp, 7070), port(Transport::Udp, 7070)];
            let all = |loopback| find(&ports, loopback);
            assert_eq!(all(true), Vec::new());
            let private = TcpListener::bind(("127.0.0.1", 7070)).expect("a port");
            assert_eq!(all(false), Vec::new(), "at 127.0.0.1 only, where nothing is published");
            assert_eq!(all(true)[0].ports, ports[..1]);
            let client = TcpStream::connect(("127.0.0.1", 7070)).expect("connected");
            let own = client.local_addr().expect("an address").port();
            assert_eq!(find(&[port(Transport::Tcp, own)], true), Vec::new(), "a client's own port");
            drop((private, client));
            let asker = UdpSocket::bind(("0.0.0.0", 7070)).expect("a port");
            let found = all(false);
            let pid = std::process::id();
            assert_eq!(found[0].ports, ports[1..]);
            assert_eq!(found[0].process.as_ref().map(|process| process.pid), Some(pid));
            asker.connect(("127.0.0.1", 53)).expect("connected");
            assert_eq!(all(true), Vec::new(), "one that hears its peer only");
            let _tcp = TcpListener::bind(("0.0.0.0", 7070)).expect("a port");
            assert_eq!(all(false)[0].ports, ports[..1]);
        });
    }
}
