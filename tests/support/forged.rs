//! What a container could say that it is not, each as the frames it would send.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::frames::{
    ARP, IP4, IP6, LLDP, Mac, Mark, arp, behind_options, frame, icmp4, icmp6, ip4, ip4_fragments,
    ip6, ip6_fragments, link_local, mac, mark, option, protocol, tagged, udp,
};

const ROUTERS_ANSWER: u8 = 134;
pub(crate) const ASKS: u8 = 135;
pub(crate) const ANSWERS: u8 = 136;
const REDIRECT: u8 = 137;
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Somebody on the link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    pub(crate) mac: Mac,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

/// What one forgery is called, and its frames.
pub(crate) type Named = (&'static str, Vec<Vec<u8>>);

pub(crate) fn answer(target: Ipv6Addr, own: Mac, mark: Mark) -> Vec<u8> {
    [&target.octets()[..], &[2, 1], &own, &option(mark)].concat()
}

fn router(own: Mac, mark: Mark) -> Vec<u8> {
    [&[0; 8][..], &[1, 1], &own, &option(mark)].concat()
}

/// A forgery of `me` in frames to `to`, which all carry the mark of `number`. The kind is chosen by its
/// last two digits; there are no frames where there is no such kind.
pub(crate) fn forged([me, them, gate]: [Side; 3], to: Mac, number: u16) -> Named {
    let mark = mark(number);
    let nobody: Mac = mac("02:66:66:66:66:66");
    let (nobody4, nobody6) = (Ipv4Addr::new(192, 0, 2, 66), "2001:db8::66".parse().expect("v6"));
    let local = link_local(me.mac);
    let v4 = |from: Ipv4Addr, ports: (u16, u16)| {
        let payload = udp((from.into(), ports.0), (them.v4.into(), ports.1), &mark);
        frame(to, me.mac, IP4, &ip4(from, them.v4, protocol::UDP, &payload))
    };
    let v6 = |from: Ipv6Addr, ports: (u16, u16)| {
        let payload = udp((from.into(), ports.0), (them.v6.into(), ports.1), &mark);
        frame(to, me.mac, IP6, &ip6(from, them.v6, protocol::UDP, &payload))
    };
    let resolve = |operation, sender, target| {
        vec![frame(to, me.mac, ARP, &arp(operation, sender, target, mark))]
    };
    let message =
        |from: Ipv6Addr, kind, rest, body: &[u8]| icmp6((from, ALL_NODES), kind, rest, body);
    let discovery = |from: Ipv6Addr, kind, rest, body: &[u8]| {
        let message = message(from, kind, rest, body);
        vec![frame(to, me.mac, IP6, &ip6(from, ALL_NODES, protocol::ICMP6, &message))]
    };
    let in_parts = |from: Ipv6Addr, message: &[u8], ends: &[usize]| -> Vec<Vec<u8>> {
        let id = u32::from(number);
        let parts = ip6_fragments((from, ALL_NODES), protocol::ICMP6, message, ends, id);
        parts.iter().map(|part| frame(to, me.mac, IP6, part)).collect()
    };
    let (override_, lifetime) = ([0x60, 0, 0, 0], [64, 0, 7, 8]);
    let genuine = v4(me.v4, (5, 6));
    match number % 100 {
        0 => ("IP of the neighbour", vec![v4(them.v4, (5, 6))]),
        1 => ("IP of the gateway", vec![v4(gate.v4, (5, 6))]),
        2 => ("IP of nobody", vec![v4(nobody4, (5, 6))]),
        3 => ("IPv6 of the gateway", vec![v6(gate.v6, (5, 6))]),
        4 => ("IPv6 of nobody", vec![v6(nobody6, (5, 6))]),
        5 => ("link-local address of the gateway", vec![v6(link_local(gate.mac), (5, 6))]),
        6 => ("MAC", vec![[&genuine[..6], &nobody, &genuine[12..]].concat()]),
        7 => ("ARP answer for the gateway", resolve(2, (me.mac, gate.v4), them.v4)),
        8 => ("ARP question of the gateway", resolve(1, (me.mac, gate.v4), them.v4)),
        9 => ("ARP with another sender than the frame's", resolve(2, (nobody, me.v4), them.v4)),
        10 => ("gratuitous ARP of the neighbour", resolve(1, (me.mac, them.v4), them.v4)),
        11 => ("ARP probe of another", resolve(1, (nobody, Ipv4Addr::UNSPECIFIED), them.v4)),
        12 => (
            "NA of the gateway",
            discovery(local, ANSWERS, override_, &answer(gate.v6, me.mac, mark)),
        ),
        13 => (
            "NA from the gateway",
            discovery(gate.v6, ANSWERS, override_, &answer(gate.v6, me.mac, mark)),
        ),
        14 => {
            let message = message(me.v6, ANSWERS, override_, &answer(gate.v6, me.mac, mark));
            ("NA of the gateway in fragments", in_parts(me.v6, &message, &[8]))
        }
        15 => ("RA", discovery(local, ROUTERS_ANSWER, lifetime, &router(me.mac, mark))),
        16 => {
            let message = message(local, ROUTERS_ANSWER, lifetime, &router(me.mac, mark));
            let hidden = behind_options(protocol::ICMP6, &message);
            let packet = ip6(local, ALL_NODES, protocol::HOP_BY_HOP, &hidden);
            ("RA behind options", vec![frame(to, me.mac, IP6, &packet)])
        }
        17 => {
            let message = message(local, ROUTERS_ANSWER, lifetime, &router(me.mac, mark));
            ("RA in its only fragment", in_parts(local, &message, &[]))
        }
        18 => {
            let message = message(local, ROUTERS_ANSWER, lifetime, &router(me.mac, mark));
            ("RA in fragments", in_parts(local, &message, &[8, 16]))
        }
        19 => {
            let body = [&me.v6.octets()[..], &nobody6.octets(), &option(mark)].concat();
            ("redirect of IPv6", discovery(local, REDIRECT, [0; 4], &body))
        }
        20 => {
            let message = icmp4(5, 1, me.v4.octets(), &genuine[14..]);
            let packet = ip4(me.v4, them.v4, protocol::ICMP4, &message);
            ("redirect", vec![frame(to, me.mac, IP4, &packet)])
        }
        21 => ("DHCP server", vec![v4(me.v4, (67, 68))]),
        22 => ("DHCPv6 server", vec![v6(local, (547, 546))]),
        23 => ("802.1Q tag", vec![tagged(&genuine, 0x8100, 5)]),
        24 => ("802.1ad tag", vec![tagged(&genuine, 0x88a8, 5)]),
        25 => ("priority tag", vec![tagged(&genuine, 0x8100, 0)]),
        26 => ("two tags", vec![tagged(&tagged(&genuine, 0x8100, 5), 0x88a8, 6)]),
        27 => ("LLDP", vec![frame(to, me.mac, LLDP, &[&[2, 7, 4][..], &mark, &[0; 40]].concat())]),
        28 => {
            let payload = [&[0x42, 0x42, 3, 0, 0, 0, 0][..], &mark, &[0; 35]].concat();
            ("spanning tree", vec![frame(to, me.mac, 48, &payload)])
        }
        29 => {
            let payload = [&[0; 8][..], &mark, &mark, &[0; 44]].concat();
            let data = udp((nobody4.into(), 5), (them.v4.into(), 6), &payload);
            let parts = ip4_fragments((nobody4, them.v4), protocol::UDP, &data, 16, number);
            ("IP fragments of nobody", parts.iter().map(|p| frame(to, me.mac, IP4, p)).collect())
        }
        30 => {
            let payload = [&[0; 8][..], &mark, &mark, &[0; 44]].concat();
            let data = udp((nobody6.into(), 5), (them.v6.into(), 6), &payload);
            let parts = ip6_fragments((nobody6, them.v6), protocol::UDP, &data, &[16], 7);
            ("IPv6 fragments of nobody", parts.iter().map(|p| frame(to, me.mac, IP6, p)).collect())
        }
        31 => {
            let body = [&them.v6.octets()[..], &option(mark)].concat();
            (
                "NS from nobody for the neighbour",
                discovery(Ipv6Addr::UNSPECIFIED, ASKS, [0; 4], &body),
            )
        }
        32 => ("RARP", vec![frame(to, me.mac, 0x8035, &arp(3, (me.mac, me.v4), them.v4, mark))]),
        _ => ("", vec![]),
    }
}
