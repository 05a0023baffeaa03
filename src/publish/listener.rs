//! Which sockets of the host listen where a port is published, read from the kernel's own lists
//! (`/proc/net/tcp` and the like, proc_pid_net(5)).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quantum_config::cni::{Family, PortMapping, Transport};

/// The kernel's numbers of states (`include/net/tcp_states.h`): a TCP or SCTP socket that listens, and a UDP
/// socket that is not connected.
const LISTEN: u8 = 10;
const CLOSE: u8 = 7;

/// How many ports are named; a range of them can be as long as 65,535.
const NAMED: usize = 20;

/// Ports as they are named in the log.
pub fn listed<'p>(ports: impl IntoIterator<Item = &'p PortMapping>) -> String {
    let mut ports = ports.into_iter();
    let mut named: Vec<String> = ports.by_ref().take(NAMED).map(ToString::to_string).collect();
    let more = ports.count();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join(", ")
}

/// A socket that takes what comes from anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Of which transport.
    pub transport: Transport,
    /// Where it is bound.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// By which a process that has it is found.
    pub inode: u64,
}

/// A process of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What the kernel calls it (`comm`).
    pub name: String,
    /// Its number.
    pub pid: u32,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, pid {}", self.name, self.pid)
    }
}

/// One line of a list; nothing if it is a heading, or a socket that only its peer can speak to.
pub fn listener(transport: Transport, line: &str) -> Option<Listener> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if transport == Transport::Sctp {
        return sctp(&words);
    }
    let wanted = if transport == Transport::Tcp { LISTEN } else { CLOSE };
    let [_, local, _, state, _, _, _, _, _, inode, ..] = words[..] else { return None };
    if u8::from_str_radix(state, 16).ok()? != wanted {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Listener { transport, address: address_of(address)?, port, inode: inode.parse().ok()? })
}

/// A line of `/proc/net/sctp/eps`, of which only the first address is looked at.
fn sctp(words: &[&str]) -> Option<Listener> {
    let [_, _, _, state, _, port, _, inode, address, ..] = words[..] else { return None };
    if state.parse::<u8>().ok()? != LISTEN {
        return None;
    }
    let address = address.parse::<IpAddr>().ok()?.to_canonical();
    let (port, inode) = (port.parse().ok()?, inode.parse().ok()?);
    Some(Listener { transport: Transport::Sctp, address, port, inode })
}

/// An address as the kernel writes it: words of 32 bits, each in the byte order of the machine.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            let octets: [u8; 16] = bytes.try_into().ok()?;
            Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
        }
        _ => None,
    }
}

impl Listener {
    /// Whether the rules take from it what comes in by this port. `loopback`: the port is published at
    /// 127.0.0.0/8, too.
    pub fn is_behind(&self, port: &PortMapping, loopback: bool) -> bool {
        if (self.transport, self.port) != (port.transport, port.host_port) {
            return false;
        }
        // One at [::] listens at addresses of IPv4, too, unless it says that it does not.
        let is_any = match self.address {
            IpAddr::V4(ip) => ip.is_unspecified() && port.is_of(Family::V4),
            IpAddr::V6(ip) => ip.is_unspecified(),
        };
        let is_own = match port.host_ip {
            Some(ip) => ip == self.address,
            None if self.address.is_loopback() => loopback && self.address.is_ipv4(),
            None => port.is_of(Family::of(self.address)) && !self.address.is_unspecified(),
        };
        is_any || is_own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(transport: Transport, host: &str) -> PortMapping {
        let ip: Option<IpAddr> = (!host.is_empty()).then(|| host.parse().expect("an address"));
        PortMapping {
            transport,
            host_ip: ip.filter(|ip| !ip.is_unspecified()),
            only: ip.filter(IpAddr::is_unspecified).map(Family::of),
            host_port: 8080,
            container_port: 80,
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_are_read() {
        for (transport, line, expected) in [
            (
                Transport::Tcp,
                "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5512 1 00000000 100 0 0 10 0",
                Some("127.0.0.1"),
            ),
            (
                Transport::Tcp,
                "   1: 010200C0:1F90 020200C0:01BB 01 00000000:00000000 00:00000000 00000000     0        0 5512 1 00000000 20 4 30 10 -1",
                None,
            ),
            (
                Transport::Tcp,
                "   0: B80D0120000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 5512 1 00000000 100 0 0 10 0",
                Some("2001:db8::1"),
            ),
            (
                Transport::Tcp,
                "   0: 0000000000000000FFFF0000010200C0:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 5512 1 00000000 100 0 0 10 0",
                Some("192.0.2.1"),
            ),
            (
                Transport::Udp,
                "  917: 00000000:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5512 2 00000000 0",
                Some("0.0.0.0"),
            ),
            (
                Transport::Udp,
                "  917: 010200C0:1F90 020200C0:0035 01 00000000:00000000 00:00000000 00000000     0        0 5512 2 00000000 0",
                None,
            ),
            (
                Transport::Sctp,
                " ffff8880 ffff8880 2   10  29   8080     0 5512 192.0.2.1 127.0.0.1",
                Some("192.0.2.1"),
            ),
            (Transport::Sctp, " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS", None),
            (Transport::Sctp, " ffff8880 ffff8880 2   7  29   8080     0 5512 192.0.2.1", None),
            (
                Transport::Udp,
                "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops",
                None,
            ),
            (Transport::Tcp, "", None),
        ] {
            let expected = expected.map(|address| Listener {
                transport,
                address: address.parse().expect("an address"),
                port: 8080,
                inode: 5512,
            });
            assert_eq!(listener(transport, line), expected, "{line}");
        }
    }

    #[test]
    fn it_is_behind_a_port_only_where_that_is_published() {
        for (address, published, loopback, expected) in [
            ("0.0.0.0", "", false, true),
            ("0.0.0.0", "192.0.2.1", false, true),
            ("0.0.0.0", "0.0.0.0", false, true),
            ("0.0.0.0", "::", false, false),
            ("0.0.0.0", "2001:db8::1", false, false),
            ("::", "", false, true),
            ("::", "192.0.2.1", false, true),
            ("::", "::", false, true),
            ("::", "0.0.0.0", false, true),
            ("192.0.2.1", "", false, true),
            ("192.0.2.1", "192.0.2.1", false, true),
            ("192.0.2.1", "192.0.2.2", false, false),
            ("192.0.2.1", "::", false, false),
            ("2001:db8::1", "", false, true),
            ("2001:db8::1", "0.0.0.0", false, false),
            ("127.0.0.1", "", false, false),
            ("127.0.0.1", "", true, true),
            ("127.0.0.53", "127.0.0.53", false, true),
            ("127.0.0.1", "192.0.2.1", true, false),
            ("::1", "", true, false),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            let socket = Listener { transport: Transport::Tcp, address, port: 8080, inode: 1 };
            let found = socket.is_behind(&port(Transport::Tcp, published), loopback);
            assert_eq!(found, expected, "{address} {published:?} {loopback}");
            assert!(!socket.is_behind(&port(Transport::Udp, published), loopback));
            let other = Listener { port: 8081, ..socket };
            assert!(!other.is_behind(&port(Transport::Tcp, published), loopback));
        }
    }
}
