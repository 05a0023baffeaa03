//! A network of Docker's in the words of CNI: a network configuration, and for each endpoint a call with
//! it. Addresses come from dockerd, whoever its IPAM driver is, so they are given and not leased.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{CreateNetwork, Interface, InterfaceName, Joined, Options, StaticRoute};
use crate::cni::{Call, CniError, Route};
use crate::ids::NetworkName;

/// The address space of our IPAM driver.
pub const ADDRESS_SPACE: &str = "quantum";
/// Where the user's own options are.
const GENERIC: &str = "com.docker.network.generic";
/// Keys of a network configuration that `-o` may set.
const KEYS: [&str; 15] = [
    "bridge",
    "mtu",
    "ipMasq",
    "isGateway",
    "forceAddress",
    "hairpinMode",
    "promiscMode",
    "portIsolation",
    "macspoofchk",
    "ingressRate",
    "ingressBurst",
    "egressRate",
    "egressBurst",
    "policy",
    "ingressPolicy",
];
/// Options of Docker's own driver that we serve, and what they are to us.
const DOCKERS: [(&str, &str); 3] = [
    ("com.docker.network.bridge.name", "bridge"),
    ("com.docker.network.driver.mtu", "mtu"),
    ("com.docker.network.bridge.enable_ip_masquerade", "ipMasq"),
];

/// A network of Docker's, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// What we call it: policy, metrics and `quantumctl` know it by that.
    pub name: NetworkName,
    /// Its configuration, without addresses.
    conf: Map<String, Value>,
    /// It is a network of `config_dir` that Docker's containers join.
    pub joins: bool,
    /// Nobody outside is reached.
    internal: bool,
    /// Its gateways, with their prefix lengths.
    gateways: Vec<IpNetwork>,
    /// Those of its pools that our IPAM driver made.
    pub pools: Vec<IpNetwork>,
}

impl Network {
    /// What dockerd asks for. An error is for dockerd's user.
    pub fn new(request: &CreateNetwork) -> Result<Self, String> {
        let none = Map::new();
        let said = request.options.get(GENERIC).and_then(Value::as_object).unwrap_or(&none);
        let internal = flag(&request.options, "com.docker.network.internal");
        let text = |key: &str| said.get(key).and_then(Value::as_str).unwrap_or_default();
        let short: String = request.network_id.chars().take(12).collect();
        if short.is_empty() {
            return Err("the request names no network".to_owned());
        }
        let joins = !text("network").is_empty();
        let name = match (text("network"), text("name")) {
            ("", "") => format!("docker-{short}"),
            ("", name) | (name, "") => name.to_owned(),
            _ => return Err("of the options network and name only one can be given".to_owned()),
        };
        let name = NetworkName::new(name).map_err(|e| e.to_string())?;
        let mut conf = Map::new();
        let base = json!({"cniVersion": "1.0.0", "type": "quantum-cni", "name": name});
        conf.extend(base.as_object().cloned().unwrap_or_default());
        if !joins {
            conf.insert("bridge".into(), format!("qd-{short}").into());
            for key in ["isGateway", "isDefaultGateway", "ipMasq"] {
                conf.insert(key.into(), (!internal).into());
            }
            // What Docker's users are used to: a published port is at localhost, too.
            conf.insert("policy".into(), json!({"publishLoopback": true}));
        }
        for (key, value) in said {
            let dockers = DOCKERS.iter().find(|(theirs, _)| theirs == key).map(|(_, ours)| *ours);
            let ours = KEYS.iter().copied().find(|ours| ours == key).or(dockers);
            match ours {
                _ if matches!(key.as_str(), "network" | "name") => {}
                Some(ours) if joins => {
                    return Err(format!(
                        "option {key} ({ours}) cannot be set: network {name} is defined in config_dir"
                    ));
                }
                Some("isGateway") => {
                    conf.insert("isGateway".into(), meant(value));
                    conf.insert("isDefaultGateway".into(), meant(value));
                }
                Some("policy") => match (meant(value), conf.get_mut("policy")) {
                    (Value::Object(said), Some(Value::Object(policy))) => policy.extend(said),
                    (other, _) => _ = conf.insert("policy".into(), other),
                },
                Some(ours) => _ = conf.insert(ours.into(), meant(value)),
                // Somebody else's.
                None if key.contains('.') => {}
                None => {
                    return Err(format!(
                        "option {key} is not known; there are network, name, {}",
                        KEYS.join(", ")
                    ));
                }
            }
        }
        let data = request.ipv4.iter().chain(&request.ipv6);
        let gateways = data.clone().filter(|d| !d.gateway.is_empty());
        let gateways = gateways.map(|d| subnet("gateway", &d.gateway)).collect::<Result<_, _>>()?;
        let own = data.filter(|d| d.address_space == ADDRESS_SPACE && !joins);
        let pools = own.map(|d| subnet("pool", &d.pool)).collect::<Result<_, _>>()?;
        let made = Self { name, conf, joins, internal, gateways, pools };
        // Whatever will not do is said now and not with the first container.
        let checked = made.parse(&[], "").and_then(|call| match joins {
            true => Ok(()),
            false => call.definition().map(drop),
        });
        checked.map_err(|error| error.to_string())?;
        Ok(made)
    }

    /// The call that attaches an endpoint.
    pub fn call(&self, interface: &Interface) -> Result<Call, CniError> {
        let addresses: Vec<&str> = interface.addresses().collect();
        self.parse(&addresses, &interface.mac_address)
    }

    /// The call by which the network itself is meant: with its gateways, as any endpoint's would be.
    pub fn itself(&self) -> Result<Call, CniError> {
        let gateways: Vec<String> = self.gateways.iter().map(ToString::to_string).collect();
        self.parse(&gateways.iter().map(String::as_str).collect::<Vec<_>>(), "")
    }

    fn parse(&self, addresses: &[&str], mac: &str) -> Result<Call, CniError> {
        let mut conf = self.conf.clone();
        let mut runtime = Map::new();
        if !mac.is_empty() {
            runtime.insert("mac".into(), mac.into());
        }
        if self.joins {
            runtime.insert("ips".into(), addresses.into());
        } else {
            let given = addresses.iter().map(|address| match self.gateway_for(address) {
                Some(gateway) => json!({"address": address, "gateway": gateway}),
                None => json!({"address": address}),
            });
            let given: Vec<Value> = given.collect();
            conf.insert("ipam".into(), json!({"type": "static", "addresses": given}));
        }
        conf.insert("runtimeConfig".into(), runtime.into());
        Call::parse(Value::Object(conf).to_string().as_bytes())
    }

    /// The gateway of an address: of its subnet.
    fn gateway_for(&self, address: &str) -> Option<IpAddr> {
        let address: IpNetwork = address.parse().ok()?;
        self.gateways.iter().find(|gateway| gateway.contains(address.ip())).map(|g| g.ip())
    }

    /// Whether a container gets a way out by it.
    pub fn leads_out(&self) -> bool {
        !self.internal
    }
}

/// The answer to a Join of an attachment that has these gateways and routes; the link waits under `peer`.
pub fn joined(
    network: &Network,
    peer: &str,
    prefix: &str,
    gateways: &[IpAddr],
    routes: &[Route],
) -> Joined {
    let of = |v4: bool| {
        let own = gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
        own.filter(|_| network.leads_out())
    };
    let static_route = |route: &Route| {
        let hop =
            if route.is_on_link() { None } else { route.gw.or_else(|| of(route.dst.is_ipv4())) };
        StaticRoute {
            destination: route.dst.to_string(),
            route_type: u8::from(hop.is_none()),
            next_hop: hop.map(|hop| hop.to_string()).unwrap_or_default(),
        }
    };
    // The default routes are dockerd's, by the gateway; one that it adds itself would be there twice.
    let others = routes.iter().filter(|route| route.dst.prefix() != 0);
    Joined {
        interface_name: InterfaceName {
            src_name: peer.to_owned(),
            dst_prefix: prefix.to_owned(),
            dst_name: None,
        },
        gateway: of(true),
        gateway_ipv6: of(false),
        static_routes: others.map(static_route).collect(),
        disable_gateway_service: true,
    }
}

fn flag(options: &Options, key: &str) -> bool {
    matches!(options.get(key), Some(Value::Bool(true)))
}

/// The value of `-o KEY=VALUE`, which is always text: JSON if it is that, or else the text.
fn meant(value: &Value) -> Value {
    let text = value.as_str();
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| value.clone())
}

fn subnet(what: &str, text: &str) -> Result<IpNetwork, String> {
    text.parse().map_err(|_| format!("{what} {text:?} is not an address with a prefix length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(generic: &str, more: &str) -> Result<Network, String> {
        let text = format!(
            r#"{{"NetworkID":"c5d411dbfa32a014a59f","Options":{{"{GENERIC}":{generic}{more}}},
            "IPv4Data":[{{"AddressSpace":"quantum","Gateway":"10.90.0.1/24","Pool":"10.90.0.0/24"}}],
            "IPv6Data":[{{"AddressSpace":"x","Gateway":"fd09::1/64","Pool":"fd09::/64"}}]}}"#
        );
        Network::new(&CreateNetwork::read(text.as_bytes()).expect("readable"))
    }

    fn interface() -> Interface {
        Interface {
            address: "10.90.0.7/24".into(),
            address_ipv6: "fd09::7/64".into(),
            mac_address: String::new(),
        }
    }

    #[test]
    fn a_network_and_its_endpoints_are_calls() {
        let network = network("{}", "").expect("valid");
        let call = network.call(&interface()).expect("a call");
        let definition = call.definition().expect("valid");
        assert_eq!(definition.name.as_str(), "docker-c5d411dbfa32");
        assert_eq!(definition.bridge.as_str(), "qd-c5d411dbfa32");
        assert!(definition.gateway && definition.default_gateway && definition.masquerade);
        let gateways: Vec<String> =
            definition.gateway_addresses().iter().map(ToString::to_string).collect();
        assert_eq!(gateways, ["10.90.0.1/24", "fd09::1/64"]);
        let itself = network.itself().and_then(|call| call.definition()).expect("valid");
        assert!(itself.serves(&definition) && definition.serves(&itself));
        assert_eq!(
            network.pools,
            ["10.90.0.0/24".parse().expect("a subnet")],
            "the other is not ours"
        );
        let kept = serde_json::to_string(&network).expect("JSON");
        assert_eq!(serde_json::from_str::<Network>(&kept).expect("readable"), network);
    }

    #[test]
    fn options_are_keys_of_the_configuration() {
        let generic = r#"{"name":"shop","mtu":"1400","ipMasq":"false","policy":"{\"mode\":\"audit\"}",
            "com.docker.network.bridge.name":"br-shop","com.example.opt":"v1"}"#;
        let network = network(generic, "").expect("valid");
        let definition = network.itself().and_then(|call| call.definition()).expect("valid");
        assert_eq!((definition.name.as_str(), definition.bridge.as_str()), ("shop", "br-shop"));
        assert!(!definition.masquerade && definition.posture.audit);
        assert!(definition.posture.loopback, "what is not said stays as it is");
        assert_eq!(definition.mtu, Some(1400));
    }

    #[test]
    fn an_internal_network_leads_nowhere() {
        let network = network("{}", r#","com.docker.network.internal":true"#).expect("valid");
        let definition = network.itself().and_then(|call| call.definition()).expect("valid");
        assert!(!definition.gateway && !definition.masquerade);
        let answer = joined(&network, "qp1", "eth", &["10.90.0.1".parse().expect("ip")], &[]);
        assert_eq!((answer.gateway, answer.disable_gateway_service), (None, true));
    }

    #[test]
    fn a_network_of_config_dir_is_joined() {
        let network = network(r#"{"network":"shop"}"#, "").expect("valid");
        let call = network.call(&interface()).expect("a call");
        assert!(call.is_thin() && network.joins && network.pools.is_empty());
        assert_eq!(call.network.as_str(), "shop");
    }

    #[test]
    fn what_will_not_do_is_said_at_once() {
        for (generic, word) in [
            (r#"{"colour":"red"}"#, "colour"),
            (r#"{"mtu":"10"}"#, "mtu 10"),
            (r#"{"mtu":"many"}"#, "wrong type"),
            (r#"{"bridge":"a/b"}"#, "bridge"),
            (r#"{"network":"shop","mtu":"1400"}"#, "config_dir"),
            (r#"{"network":"shop","name":"other"}"#, "only one"),
            (r#"{"name":"../x"}"#, "network name"),
        ] {
            let error = network(generic, "").expect_err(generic);
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_container_gets_its_gateway_and_other_routes() {
        let network = network("{}", "").expect("valid");
        let route = |dst: &str| Route::new(dst.parse().expect("dst"), None);
        let gateways = ["10.90.0.1", "fd09::1"].map(|ip| ip.parse().expect("ip"));
        let routes = [route("0.0.0.0/0"), route("192.0.2.0/24")];
        let answer = joined(&network, "qp1", "eth", &gateways, &routes);
        let text = serde_json::to_string(&answer).expect("JSON");
        assert_eq!(
            text,
            r#"{"InterfaceName":{"SrcName":"qp1","DstPrefix":"eth"},"Gateway":"10.90.0.1","GatewayIPv6":"fd09::1","StaticRoutes":[{"Destination":"192.0.2.0/24","RouteType":0,"NextHop":"10.90.0.1"}],"DisableGatewayService":true}"#
        );
    }
}
