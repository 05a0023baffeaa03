//! What one call asks for beyond what its network is: addresses, ranges, a resolver. (What it says of
//! its container to policy is `identity`'s business.) It comes from
//! three places: `runtimeConfig` (the capabilities `ips`, `ipRanges` and `dns`), `args.cni.ips`, and
//! `IP` and `GATEWAY` in `CNI_ARGS`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::addressing::{range_sets, static_address};
use super::bandwidth::RawShaping;
use super::bounds::bounded;
use super::identity::ANNOTATIONS;
use super::netconf::{RawRange, invalid};
use super::ports::RawMapping;
use super::ranges::validate_sets;
use super::{Addressing, Call, CniError, Definition, Environment, StaticAddress};

/// The members of `runtimeConfig` that are served.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RuntimeConfig {
    ips: Vec<String>,
    pub(super) mac: String,
    ip_ranges: Vec<Vec<RawRange>>,
    dns: RuntimeDns,
    pub(super) bandwidth: RawShaping,
    pub(super) port_mappings: Vec<RawMapping>,
    /// Those annotations of the pod that are read. Others', up to 256 KiB of them, are not kept.
    #[serde(rename = "io.kubernetes.cri.pod-annotations", deserialize_with = "read_annotations")]
    pub(super) pod_annotations: BTreeMap<String, Value>,
}

fn read_annotations<'de, D: Deserializer<'de>>(
    annotations: D,
) -> Result<BTreeMap<String, Value>, D::Error> {
    let mut all = BTreeMap::<String, Value>::deserialize(annotations)?;
    all.retain(|name, _| ANNOTATIONS.contains(&name.as_str()));
    Ok(all)
}

/// The capability `dns`, whose members have names of their own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct RuntimeDns {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The members of `args` that are served.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Args {
    pub(super) cni: CniArgs,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct CniArgs {
    ips: Vec<String>,
    pub(super) mac: String,
    pub(super) labels: Vec<RawLabel>,
}

/// A label as CONVENTIONS.md has it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct RawLabel {
    pub(super) key: String,
    pub(super) value: String,
}

/// The addresses that a call wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// One of each set of the network.
    Leased {
        /// What was asked for, at most one of each set; the rest is the network's choice.
        requested: Vec<IpAddr>,
        /// What the network keeps for this very container.
        reserved: Vec<IpAddr>,
    },
    /// These, whatever the sets are.
    Given(Vec<StaticAddress>),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Leased { requested: Vec::new(), reserved: Vec::new() }
    }
}

/// A network as one call sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Meant<'a> {
    /// The network; the very one if the call changes nothing about it.
    pub network: Cow<'a, Definition>,
    /// The addresses to attach with.
    pub wanted: Wanted,
}

impl Call {
    /// What this call means by `network`, which it may have brought along or only named.
    pub fn meant<'a>(
        &self,
        network: &'a Definition,
        env: &Environment,
    ) -> Result<Meant<'a>, CniError> {
        let mut network = Cow::Borrowed(network);
        let dns = &self.conf.runtime_config.dns;
        if *dns != RuntimeDns::default() {
            let known = &mut network.to_mut().dns;
            let members = [
                (&dns.servers, &mut known.nameservers),
                (&dns.searches, &mut known.search),
                (&dns.options, &mut known.options),
            ];
            for (said, member) in members.into_iter().filter(|(said, _)| !said.is_empty()) {
                member.clone_from(said);
            }
        }
        let ranges = &self.conf.runtime_config.ip_ranges;
        if let (Addressing::HostLocal(pools), false) = (&network.addressing, ranges.is_empty()) {
            let mut sets = range_sets(ranges)?;
            sets.extend(pools.sets.iter().cloned());
            validate_sets(&sets)?;
            if let Addressing::HostLocal(pools) = &mut network.to_mut().addressing {
                pools.sets = sets;
            }
        }
        if matches!(&network.addressing, Addressing::HostLocal(pools) if pools.sets.is_empty()) {
            return Err(invalid(format!(
                "network {:?}: ipam names no subnet and no ranges, and neither does runtimeConfig.ipRanges",
                network.name.as_str()
            )));
        }
        let wanted = match &network.addressing {
            Addressing::None | Addressing::Delegated(_) => Wanted::default(),
            // The IPAM plugin has read for itself what the call asks for.
            Addressing::Static(said) if self.delegate().is_some() => Wanted::Given(said.clone()),
            Addressing::HostLocal(pools) => Wanted::Leased {
                requested: self.requested(env)?,
                reserved: pools.reserved_for(env),
            },
            Addressing::Static(configured) => {
                let mut given = self.given(configured, env)?;
                if network.gateway {
                    given = given.into_iter().map(StaticAddress::with_gateway).collect();
                }
                if given != *configured {
                    // The gateways are the bridge's, so they are part of the network.
                    network.to_mut().addressing = Addressing::Static(given.clone());
                }
                Wanted::Given(given)
            }
        };
        Ok(Meant { network, wanted })
    }

    /// host-local: what all three places ask for together, as the reference plugin has it.
    /// CONVENTIONS.md would have `CNI_ARGS` ignored where `args` is there.
    fn requested(&self, env: &Environment) -> Result<Vec<IpAddr>, CniError> {
        let mut found = Vec::new();
        for (place, text) in self.asked(env) {
            // The prefix length is the range's business.
            let ip = text.split_once('/').map_or(text, |(ip, _)| ip);
            let ip: IpAddr = ip.parse().map_err(|_| {
                invalid(format!("requested address {text:?} in {place} is not an address"))
            })?;
            if !found.contains(&ip) {
                bounded("the list of requested addresses", found.len() + 1)?;
                found.push(ip);
            }
        }
        Ok(found)
    }

    /// Every address that is asked for, and where.
    fn asked<'a>(&'a self, env: &'a Environment) -> impl Iterator<Item = (&'static str, &'a str)> {
        let runtime =
            self.conf.runtime_config.ips.iter().map(|t| ("runtimeConfig.ips", t.as_str()));
        let args = self.conf.args.cni.ips.iter().map(|t| ("args.cni.ips", t.as_str()));
        runtime.chain(args).chain(list(env, "IP").map(|t| ("CNI_ARGS", t)))
    }

    /// static: `CNI_ARGS` adds addresses and gateways to the configuration's, `args` replaces all of
    /// them, and `runtimeConfig` those.
    fn given(
        &self,
        configured: &[StaticAddress],
        env: &Environment,
    ) -> Result<Vec<StaticAddress>, CniError> {
        let mut given = configured.to_vec();
        for text in list(env, "IP") {
            given.push(static_address(text, "")?);
        }
        bounded("the list of static addresses", given.len())?;
        for text in list(env, "GATEWAY") {
            let gateway: IpAddr = text
                .parse()
                .map_err(|_| invalid(format!("GATEWAY={text:?} in CNI_ARGS is not an address")))?;
            for one in given.iter_mut().filter(|one| one.address.contains(gateway)) {
                one.gateway = Some(gateway);
            }
        }
        for replacing in [&self.conf.args.cni.ips, &self.conf.runtime_config.ips] {
            if !replacing.is_empty() {
                let each = replacing.iter().map(|text| static_address(text, ""));
                given = each.collect::<Result<_, _>>()?;
            }
        }
        bounded("the list of static addresses", given.len())?;
        let mut seen: Vec<IpAddr> = Vec::new();
        for one in &given {
            if seen.contains(&one.address.ip()) {
                return Err(invalid(format!("static address {} is given twice", one.address.ip())));
            }
            seen.push(one.address.ip());
        }
        Ok(given)
    }
}

/// A comma-separated value of `CNI_ARGS`.
fn list<'a>(env: &'a Environment, key: &str) -> impl Iterator<Item = &'a str> {
    env.arg(key).unwrap_or_default().split(',').map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    fn wanted(ipam: &str, rest: &str, args: &str) -> Result<Wanted, CniError> {
        let text = format!(r#"{{"name":"n","ipam":{ipam}{rest}}}"#);
        let call = Call::parse(text.as_bytes())?;
        let env = Environment { args: args.to_owned(), ..Environment::default() };
        Ok(call.meant(&call.definition()?, &env)?.wanted)
    }

    const LOCAL: &str = r#"{"type":"host-local","subnet":"10.0.0.0/24"}"#;
    const STATIC: &str = r#"{"type":"static","addresses":[{"address":"10.0.0.5/24"}]}"#;

    #[test]
    fn all_three_places_are_asked_for_together() {
        let rest = r#","runtimeConfig":{"ips":["10.0.0.7/8"]},"args":{"cni":{"ips":["fd00::7"]}}"#;
        let Wanted::Leased { requested, .. } =
            wanted(LOCAL, rest, "IgnoreUnknown=1;IP=10.0.1.7/24,10.0.0.7").expect("addresses")
        else {
            panic!("leased")
        };
        let texts: Vec<String> = requested.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.7", "fd00::7", "10.0.1.7"]);
        for (rest, args) in
            [(r#","runtimeConfig":{"ips":["x"]}"#, ""), ("", "IP=10.0.0"), ("", "IP=/24")]
        {
            let error = wanted(LOCAL, rest, args).expect_err("no address");
            assert_eq!(error.code, Code::InvalidNetworkConfig);
        }
    }

    #[test]
    fn what_a_call_gives_adds_to_or_replaces_static_addresses() {
        let texts = |rest: &str, args: &str| -> String {
            let Wanted::Given(given) = wanted(STATIC, rest, args).expect("addresses") else {
                panic!("given")
            };
            let show = |one: &StaticAddress| match one.gateway {
                Some(gateway) => format!("{}>{gateway}", one.address),
                None => one.address.to_string(),
            };
            given.iter().map(show).collect::<Vec<_>>().join(" ")
        };
        let args = "IP=10.1.0.5/16,fd00::5/64;GATEWAY=10.1.0.1,fd00::1";
        assert_eq!(texts("", ""), "10.0.0.5/24");
        assert_eq!(texts("", args), "10.0.0.5/24 10.1.0.5/16>10.1.0.1 fd00::5/64>fd00::1");
        let replaced = r#","args":{"cni":{"ips":["10.2.0.5/24"]}}"#;
        assert_eq!(texts(replaced, args), "10.2.0.5/24");
        let both =
            r#","args":{"cni":{"ips":["10.2.0.5/24"]}},"runtimeConfig":{"ips":["10.3.0.5/24"]}"#;
        assert_eq!(texts(both, args), "10.3.0.5/24");
        for (rest, args) in [
            ("", "IP=10.1.0.5"),
            ("", "GATEWAY=x"),
            ("", "IP=10.0.0.5/16"),
            (r#","args":{"cni":{"ips":["10.2.0.5"]}}"#, ""),
            (r#","runtimeConfig":{"ips":["10.3.0.5"]}"#, ""),
        ] {
            let error = wanted(STATIC, rest, args).expect_err("refused");
            assert_eq!(error.code, Code::InvalidNetworkConfig, "{rest} {args}");
        }
    }

    #[test]
    fn a_call_that_asks_for_nothing_means_the_very_network() {
        for ipam in [LOCAL, STATIC] {
            let text = format!(r#"{{"name":"n","ipam":{ipam}}}"#);
            let call = Call::parse(text.as_bytes()).expect("valid");
            let network = call.definition().expect("valid");
            let meant = call.meant(&network, &Environment::default()).expect("meant");
            assert!(matches!(meant.network, Cow::Borrowed(_)));
        }
    }
}
