//! Where a network's addresses come from: the `ipam` object, checked.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::netconf::{Ipam, RawRange, invalid};
use super::ranges::{first_of, validate_sets};
use super::{Call, CniError, Code, Environment, Range, RangeSet, delegate};
use crate::ids::{ContainerId, PluginName};

/// Where addresses come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addressing {
    /// Nowhere: containers get none.
    #[default]
    None,
    /// `host-local`: one address of each range set.
    HostLocal(Pools),
    /// `static`: these, as long as a call does not say otherwise.
    Static(Vec<StaticAddress>),
    /// From another IPAM plugin, which is run for each call. Once it has said them, they are as
    /// those of `static`.
    Delegated(PluginName),
}

/// What addresses are leased from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    /// One address from each set.
    pub sets: Vec<RangeSet>,
    /// Addresses that are kept for somebody.
    pub reservations: Vec<Reservation>,
}

/// An address of the `static` IPAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticAddress {
    /// The address with the prefix length of its subnet.
    pub address: IpNetwork,
    /// The gateway of the subnet, if it has one.
    pub gateway: Option<IpAddr>,
}

/// An address that one container gets whenever it comes, and nobody else ever does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The address.
    pub address: IpAddr,
    /// Whom it is kept for.
    pub holder: Holder,
}

/// Whom an address is kept for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// The container of this `CNI_CONTAINERID`.
    Container(ContainerId),
    /// The pod of this `K8S_POD_NAMESPACE/K8S_POD_NAME`, whose containers' names are new each time.
    Pod(String),
}

impl Pools {
    /// The addresses that are kept for the call with these variables.
    pub(super) fn reserved_for(&self, env: &Environment) -> Vec<IpAddr> {
        let pod = env.arg("K8S_POD_NAMESPACE").zip(env.arg("K8S_POD_NAME"));
        let is_for = |holder: &Holder| match holder {
            Holder::Container(name) => name.as_str() == env.container,
            Holder::Pod(name) => pod.is_some_and(|pod| name.split_once('/') == Some(pod)),
        };
        self.reservations.iter().filter(|r| is_for(&r.holder)).map(|r| r.address).collect()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name}"),
            Self::Pod(pod) => write!(f, "pod {pod}"),
        }
    }
}

impl StaticAddress {
    /// With the first address of its subnet as gateway, if it has none: what the bridge then carries.
    pub(super) fn with_gateway(self) -> Self {
        Self { gateway: self.gateway.or_else(|| Some(first_of(&self.address))), ..self }
    }
}

impl Addressing {
    /// Checks the `ipam` object of a configuration.
    pub(super) fn new(call: &Call) -> Result<Self, CniError> {
        let Some(ipam) = &call.conf.ipam else { return Ok(Self::None) };
        let network = call.network.as_str();
        let in_network = |what: &str| invalid(format!("network {network:?}: {what}"));
        match ipam.plugin.as_str() {
            "host-local" => {
                // None, where each call brings its own.
                let sets = sets(ipam)?;
                let reservations = reservations(ipam, &sets)?;
                Ok(Self::HostLocal(Pools { sets, reservations }))
            }
            "static" => {
                bounded("the list of static addresses", ipam.addresses.len())?;
                let one = |raw: &RawAddress| static_address(&raw.address, &raw.gateway);
                ipam.addresses.iter().map(one).collect::<Result<_, _>>().map(Self::Static)
            }
            "" => Err(in_network(
                "ipam has members and no type; \"host-local\" and \"static\" are built in",
            )),
            // It is run with the configuration that the runtime has.
            other if call.is_operators => Err(CniError::new(
                Code::UnsupportedField,
                format!("network {network:?}: ipam.type={other:?} is not supported in config_dir"),
            )
            .with_details(
                "write it into the runtime's configuration, with which that plugin is run; \
                 \"host-local\" and \"static\" are built in",
            )),
            other => match delegate(other) {
                Ok(Some(name)) => Ok(Self::Delegated(name)),
                Ok(None) => Ok(Self::None),
                Err(e) => Err(in_network(&format!("ipam.type: {e}"))),
            },
        }
    }
}

/// An entry of `addresses` as it came.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct RawAddress {
    address: String,
    gateway: String,
}

/// An entry of `reservations` as it came.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct RawReservation {
    address: String,
    container: String,
    pod: String,
}

fn sets(ipam: &Ipam) -> Result<Vec<RangeSet>, CniError> {
    let single = RawRange {
        subnet: ipam.subnet.clone(),
        range_start: ipam.range_start.clone(),
        range_end: ipam.range_end.clone(),
        gateway: ipam.gateway.clone(),
    };
    // The single range of the old form comes before the list, as in the reference plugin.
    let old_form = (!ipam.subnet.is_empty()).then(|| vec![single]);
    let all: Vec<Vec<RawRange>> = old_form.into_iter().chain(ipam.ranges.iter().cloned()).collect();
    let sets = range_sets(&all)?;
    validate_sets(&sets)?;
    Ok(sets)
}

/// The sets of a `ranges` list, not yet seen together with others.
pub(super) fn range_sets(raw: &[Vec<RawRange>]) -> Result<Vec<RangeSet>, CniError> {
    let range = |r: &RawRange| Range::new(&r.subnet, &r.range_start, &r.range_end, &r.gateway);
    raw.iter().map(|set| set.iter().map(range).collect::<Result<_, _>>().map(RangeSet)).collect()
}

/// An address of the `static` IPAM, which needs its prefix length: there is no subnet to take it
/// from.
pub(super) fn static_address(address: &str, gateway: &str) -> Result<StaticAddress, CniError> {
    let cidr = address.contains('/').then(|| address.parse::<IpNetwork>().ok()).flatten();
    let Some(cidr) = cidr else {
        return Err(invalid(format!("address {address:?} is not an address with a prefix length")));
    };
    let gateway = match gateway {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| {
            invalid(format!("gateway {text:?} of address {cidr} is not an address"))
        })?),
    };
    if gateway.is_some_and(|gw| gw.is_ipv4() != cidr.is_ipv4()) {
        return Err(invalid(format!("address {cidr} has a gateway of the other family")));
    }
    Ok(StaticAddress { address: cidr, gateway })
}

fn reservations(ipam: &Ipam, sets: &[RangeSet]) -> Result<Vec<Reservation>, CniError> {
    let mut found: Vec<Reservation> = Vec::new();
    let (mut of_address, mut of_holder) = (HashMap::new(), HashMap::new());
    let gateways: HashSet<IpAddr> =
        sets.iter().flat_map(|set| &set.0).map(|range| range.gateway).collect();
    for raw in &ipam.reservations {
        let bad = |why: &str| invalid(format!("ipam reservation of {:?} {why}", raw.address));
        let address: IpAddr = raw.address.parse().map_err(|_| bad("is not of an address"))?;
        let holder = match (raw.container.as_str(), raw.pod.as_str()) {
            (name, "") => {
                let name = ContainerId::new(name).map_err(|e| bad(&format!("container: {e}")))?;
                Holder::Container(name)
            }
            ("", pod)
                if pod.split('/').filter(|p| !p.is_empty()).count() == 2
                    && pod.matches('/').count() == 1 =>
            {
                Holder::Pod(pod.to_owned())
            }
            ("", pod) => return Err(bad(&format!("names pod {pod:?}: write namespace/name"))),
            _ => return Err(bad("names a container and a pod: it can be kept for one only")),
        };
        let set_of = |ip| sets.iter().position(|s| s.range_of(ip).is_some());
        let Some(set) = set_of(address) else { return Err(bad("lies in no range of the network")) };
        if gateways.contains(&address) {
            return Err(bad("is of a gateway"));
        }
        if let Some(other) = of_address.insert(address, holder.clone()) {
            return Err(bad(&format!("is there twice, for {other} and for {holder}")));
        }
        if let Some(other) = of_holder.insert((holder.clone(), set), address) {
            return Err(bad(&format!(
                "is the second one of {holder} in a range set, after {other}: a container gets one address of each"
            )));
        }
        found.push(Reservation { address, holder });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::Call;

    fn reserve(list: &str) -> Result<Addressing, CniError> {
        let text = format!(
            r#"{{"name":"n","ipam":{{"type":"host-local","subnet":"10.0.0.0/24","reservations":{list}}}}}"#
        );
        Call::parse(text.as_bytes()).and_then(|c| c.definition()).map(|d| d.addressing)
    }

    #[test]
    fn a_reservation_is_of_one_free_address_for_one_holder() {
        for (list, words) in [
            (r#"[{"address":"10.0.0","container":"c"}]"#, "not of an address"),
            (r#"[{"address":"10.0.1.9","container":"c"}]"#, "in no range"),
            (r#"[{"address":"10.0.0.1","container":"c"}]"#, "gateway"),
            (r#"[{"address":"10.0.0.9"}]"#, "container"),
            (r#"[{"address":"10.0.0.9","container":"c","pod":"a/b"}]"#, "one only"),
            (r#"[{"address":"10.0.0.9","pod":"a"}]"#, "namespace/name"),
            (r#"[{"address":"10.0.0.9","pod":"a/b/c"}]"#, "namespace/name"),
            (
                r#"[{"address":"10.0.0.9","pod":"a/b"},{"address":"10.0.0.9","container":"c"}]"#,
                "twice",
            ),
            (
                r#"[{"address":"10.0.0.9","pod":"a/b"},{"address":"10.0.0.8","pod":"a/b"}]"#,
                "second",
            ),
        ] {
            let error = reserve(list).expect_err(list);
            assert_eq!(error.code, Code::InvalidNetworkConfig);
            assert!(error.msg.contains(words), "{error} should say {words}");
        }
        assert!(reserve(r#"[{"address":"10.0.0.9","pod":"a/b"}]"#).is_ok());
    }

    #[test]
    fn a_holder_is_known_by_its_variables() {
        let env = Environment {
            container: "c1".into(),
            args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0".into(),
            ..Environment::default()
        };
        let is = |holder: Holder, env: &Environment| {
            let address = IpAddr::from([10, 0, 0, 9]);
            let reservations = vec![Reservation { address, holder }];
            Pools { reservations, ..Pools::default() }.reserved_for(env) == [address]
        };
        assert!(is(Holder::Pod("shop/db-0".into()), &env));
        assert!(!is(Holder::Pod("shop/db-1".into()), &env));
        assert!(is(Holder::Container(ContainerId::new("c1").expect("a name")), &env));
        assert!(!is(Holder::Pod("shop/db-0".into()), &Environment::default()));
    }
}
