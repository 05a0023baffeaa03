//! Whether two networks of this host may give containers the same addresses. The kernel tracks a connection by
//! its addresses, wherever they are, and policy knows an endpoint by its address: what was judged for one would
//! hold for the other. Where the host is gateway of both, their subnets are compared with what the host
//! has ([`overlaps`](super::overlaps)); here are those where it is not.

use std::net::IpAddr;

use quantum_config::cni::{Addressing, Definition};
use quantum_config::ids::{IfName, NetworkName};

/// What it takes to compare a network with another.
#[derive(Debug, Clone)]
pub(super) struct Assigns {
    /// First and last address of each run.
    spans: Vec<(IpAddr, IpAddr)>,
    has_gateway: bool,
    is_open: bool,
}

/// Two networks may give the same address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "network {network} may give {address} to a container, and so may network {other} on {link}: what is judged for one would hold for the other; choose ranges that do not overlap, or posture open for both"
)]
pub struct SameAddresses {
    /// The network.
    pub network: NetworkName,
    /// The first of the addresses that both may give.
    pub address: IpAddr,
    /// The other network.
    pub other: NetworkName,
    /// Its bridge.
    pub link: IfName,
}

impl Assigns {
    pub(super) fn new(network: &Definition) -> Self {
        let spans = match &network.addressing {
            _ if network.lends => Vec::new(),
            Addressing::None | Addressing::Delegated(_) => Vec::new(),
            Addressing::HostLocal(pools) => {
                let ranges = pools.sets.iter().flat_map(|set| &set.0);
                ranges.map(|range| (range.start, range.end)).collect()
            }
            Addressing::Static(given) => {
                given.iter().map(|one| (one.address.ip(), one.address.ip())).collect()
            }
        };
        let has_gateway = !network.gateway_addresses().is_empty();
        Self { spans, has_gateway, is_open: !network.posture.is_closed() }
    }

    /// An address that both may give, if that is of any harm.
    pub(super) fn shared(&self, other: &Self) -> Option<IpAddr> {
        if self.has_gateway && other.has_gateway || self.is_open && other.is_open {
            return None;
        }
        let pairs = self.spans.iter().flat_map(|one| other.spans.iter().map(move |two| (one, two)));
        let common = pairs.filter(|((first, last), (begin, end))| {
            first.is_ipv4() == begin.is_ipv4() && first <= end && begin <= last
        });
        common.map(|((first, _), (begin, _))| *first.max(begin)).min()
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::Call;

    use super::super::Stances;
    use super::*;

    fn network(name: &str, keys: &str, range: (&str, u8, u8), posture: &str) -> Definition {
        let (subnet, start, end) = range;
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"{name}","bridge":"{name}0"{keys},
            "policy":{{"posture":"{posture}"}},"ipam":{{"type":"host-local",
            "subnet":"{subnet}.0/24","rangeStart":"{subnet}.{start}","rangeEnd":"{subnet}.{end}"}}}}"#
        );
        Call::parse(text.as_bytes()).and_then(|call| call.definition()).expect("valid")
    }

    fn refused(one: &Definition, two: &Definition) -> Option<String> {
        let mut stances = Stances::default();
        stances.enter(one);
        stances.same_addresses(two).map(|error| error.to_string())
    }

    #[test]
    fn only_who_may_give_the_same_address_is_refused() {
        let (all, low, high) = (("10.1.0", 2, 250), ("10.1.0", 2, 99), ("10.1.0", 100, 250));
        let of = |name, range, posture| network(name, "", range, posture);
        let said = refused(&of("one", low, "isolated"), &of("two", all, "isolated"));
        let said = said.expect("both may give 10.1.0.2");
        for part in ["network two", "10.1.0.2", "network one on one0"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(refused(&of("one", low, "zero-trust"), &of("two", high, "isolated")).is_none());
        assert!(refused(&of("one", low, "open"), &of("two", all, "zero-trust")).is_some());
        assert!(refused(&of("one", low, "open"), &of("two", all, "open")).is_none());
        assert!(
            refused(&of("one", low, "isolated"), &of("two", ("10.2.0", 2, 9), "isolated"))
                .is_none()
        );
        // The same network once more, and another on the same bridge.
        let one = of("one", low, "isolated");
        assert!(refused(&one, &one).is_none());
        let beside = network("two", r#","bridge":"one0""#, all, "isolated");
        assert!(refused(&one, &beside).is_none());
    }

    #[test]
    fn where_the_host_is_gateway_of_both_its_routes_decide() {
        let gateway = r#","isGateway":true"#;
        let range = ("10.1.0", 2, 99);
        let one = network("one", gateway, range, "isolated");
        assert!(refused(&one, &network("two", gateway, range, "isolated")).is_none());
        assert!(refused(&one, &network("two", "", range, "isolated")).is_some());
    }
}
