//! Whether a process of the host has a port. It is found by taking the port for a moment, which the
//! kernel refuses if somebody else has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt, socket,
    sockopt,
};
use quantum_config::cni::{Family, PortMapping, Transport};

use crate::publish::PortError;

/// The first of the ports that a process has in the network namespace of the calling thread.
pub fn vacant(ports: &[PortMapping]) -> Result<(), PortError> {
    match ports.iter().find(|port| is_taken(port)) {
        Some(port) => Err(PortError::Listening { port: *port }),
        None => Ok(()),
    }
}

fn is_taken(port: &PortMapping) -> bool {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let addresses = match port.host_ip {
        Some(ip) => vec![ip],
        None => any.into_iter().filter(|ip| port.is_of(Family::of(*ip))).collect(),
    };
    // Whatever else is wrong (no IPv6, no SCTP, an address that is not here yet) is no process that
    // has the port.
    let taken = |ip: IpAddr| {
        take(port.transport, SocketAddr::new(ip, port.host_port)) == Err(Errno::EADDRINUSE)
    };
    addresses.into_iter().any(taken)
}

fn take(transport: Transport, address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, protocol) = match transport {
        Transport::Tcp => (SockType::Stream, None),
        Transport::Udp => (SockType::Datagram, None),
        Transport::Sctp => (SockType::Stream, Some(SockProtocol::Sctp)),
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if transport == Transport::Tcp {
        // Connections that have ended are nobody's port.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    let address = SockaddrStorage::from(address);
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::kernel::testing::in_private_netns;

    fn port(transport: Transport, host: Option<&str>) -> PortMapping {
        PortMapping {
            transport,
            host_ip: host.map(|h| h.parse().expect("an address")),
            only: None,
            host_port: 7070,
            container_port: 1,
        }
    }

    #[test]
    fn a_process_that_listens_is_seen() {
        in_private_netns(|| {
            let (tcp, udp) = (port(Transport::Tcp, None), port(Transport::Udp, None));
            let sctp = port(Transport::Sctp, None);
            vacant(&[tcp, udp, sctp]).expect("nobody is there");
            let listener = TcpListener::bind(("0.0.0.0", 7070)).expect("a port");
            assert_eq!(vacant(&[udp, tcp]), Err(PortError::Listening { port: tcp }));
            vacant(&[udp]).expect("another transport");
            drop(listener);
            vacant(&[tcp]).expect("nobody is there any more");
            let elsewhere = port(Transport::Udp, Some("192.0.2.1"));
            vacant(&[elsewhere]).expect("an address that is not here");
            let _socket = UdpSocket::bind(("0.0.0.0", 7070)).expect("a port");
            assert!(vacant(&[udp]).is_err() && vacant(&[elsewhere]).is_err());
        });
    }
}
