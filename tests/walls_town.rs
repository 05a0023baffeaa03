//! A host with networks of several postures and a world beyond it, for frames made by hand: who is where,
//! and what each of them sends by.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::network_isolation::{Attached, HOST6, OUTSIDE6, connect, dual, v4, v6};
use crate::network_routed::without_br_netfilter;
use crate::policy_live::pod;
use crate::support::conf::with;
use crate::support::daemon::Daemon;
use crate::support::forged::Side;
use crate::support::frames::{ARP, EVERYBODY, Mac, Wire, arp, frame, link_local, mac, mark};
use crate::support::netns::Netns;
use crate::support::world::{HOST, OUTSIDE, UPLINK, World};

/// How packets from one container to another come before the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Bridged,
    Routed,
}

/// Somebody who sends and receives.
#[derive(Debug)]
pub(crate) struct Place<'t> {
    pub(crate) name: &'static str,
    pub(crate) netns: &'t Netns,
    pub(crate) link: &'static str,
    pub(crate) me: Side,
    /// The host, as it is on this link.
    pub(crate) gateway: Side,
    /// What it sends by.
    pub(crate) wire: Wire,
    answers: Wire,
}

/// See the module.
pub(crate) struct Town {
    pub(crate) world: World,
    pub(crate) way: Way,
    _daemon: Daemon,
    uplinks: [Mac; 2],
    containers: BTreeMap<&'static str, (u8, Attached)>,
}

impl Town {
    /// A host, and a world that has a way to the networks of these numbers.
    pub(crate) fn new(world: World, way: Way, numbers: &[u8]) -> Self {
        if way == Way::Routed {
            without_br_netfilter(&world);
        }
        let daemon = world.daemon();
        connect(&world, numbers);
        let hardware = |netns: &Netns| {
            mac(netns.link(UPLINK).expect(UPLINK)["address"].as_str().expect("a MAC"))
        };
        let uplinks = [&world.host, &world.outside].map(hardware);
        let town = Self { world, way, _daemon: daemon, uplinks, containers: BTreeMap::new() };
        let local = link_local(uplinks[1]).to_string();
        town.knows(UPLINK, uplinks[1], [OUTSIDE, OUTSIDE6, &local]);
        town
    }

    /// A container of the namespace `shop` in a network, whose bridge is `NETWORK0`.
    pub(crate) fn add(&mut self, name: &'static str, (network, number): (&str, u8), keys: Value) {
        let way = match self.way {
            Way::Bridged => json!({ "policy": { "enforcement": "br_netfilter" } }),
            Way::Routed => json!({ "policy": { "enforcement": "routed" } }),
        };
        let attached = pod(&self.world, name, &dual(network, number, with(&keys, way)));
        let bridge = format!("{network}0");
        let local = link_local(attached.mac).to_string();
        let [a, b] = &attached.addresses;
        self.knows(&bridge, attached.mac, [a, b, &local]);
        self.containers.insert(name, (number, attached));
    }

    /// Nothing that the host sends waits for where its receiver is.
    fn knows(&self, link: &str, mac: Mac, addresses: [&str; 3]) {
        let mac = mac.map(|b| format!("{b:02x}")).join(":");
        let line = |to: &str| format!("neigh replace {to} lladdr {mac} dev {link} nud permanent\n");
        self.world.host.ip_batch(&addresses.map(line).concat());
    }

    pub(crate) fn container(&self, name: &str) -> &Attached {
        &self.containers[name].1
    }

    /// The addresses by which IPv4 speaks to everybody of a container's network.
    pub(crate) fn broadcast(&self, name: &str) -> std::net::Ipv4Addr {
        v4(&format!("10.{}.0.255", self.containers[name].0))
    }

    /// A container, or `outside`.
    pub(crate) fn place(&self, name: &'static str) -> Place<'_> {
        let (netns, link, me, gateway) = if name == "outside" {
            let side = |mac, four, six| Side { mac, v4: v4(four), v6: v6(six) };
            let gateway = side(self.uplinks[0], HOST, HOST6);
            (&self.world.outside, UPLINK, side(self.uplinks[1], OUTSIDE, OUTSIDE6), gateway)
        } else {
            let it = self.container(name);
            let side = |mac, [four, six]: &[String; 2]| Side { mac, v4: v4(four), v6: v6(six) };
            (&it.netns, "eth0", side(it.mac, &it.addresses), side(it.bridge, &it.gateways))
        };
        let (wire, answers) = (Wire::on(netns, link), Wire::for_kind(netns, link, ARP));
        Place { name, netns, link, me, gateway, wire, answers }
    }
}

impl Place<'_> {
    pub(crate) fn watch(&self) -> Wire {
        Wire::arriving(self.netns, self.link)
    }

    /// Asks the host for its hardware address.
    pub(crate) fn ask(&self) {
        let question = arp(1, (self.me.mac, self.me.v4), self.gateway.v4, mark(u16::MAX));
        self.wire.send(&frame(EVERYBODY, self.me.mac, ARP, &question));
    }

    /// Whether the answer has come; what came before is forgotten.
    pub(crate) fn is_answered(&self) -> bool {
        let mut buffer = [0; 128];
        let mut answered = false;
        while let Some(frame) = self.answers.next(&mut buffer) {
            let says = frame.get(20..22) == Some(&[0, 2]);
            answered |= says && frame.get(28..32) == Some(&self.gateway.v4.octets());
        }
        answered
    }
}
