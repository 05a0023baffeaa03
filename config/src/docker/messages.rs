//! The messages, with dockerd's names. Unknown members are let pass, as dockerd adds some with each
//! release; an empty body is never taken for an empty message, because a request that dockerd sends again
//! may have lost its body.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cni::gojson;
use crate::ids::IfName;

/// What dockerd and its user say besides, by key.
pub type Options = BTreeMap<String, Value>;

/// A body as the message that its method takes.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    if body.is_empty() {
        return Err(
            "the request has no body, though it needs one; dockerd may send it again".into()
        );
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| format!("the request cannot be read as JSON: {e}"))?;
    if !value.is_object() {
        return Err("the request is not a JSON object".into());
    }
    gojson::from_value(value).map_err(|e| format!("the request cannot be read: {e}"))
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$member:meta])* $field:ident: $type:ty),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
            #[serde(default, rename_all = "PascalCase")]
            pub struct $name { $($(#[$member])* pub $field: $type),+ }

            impl $name {
                /// Reads it; the error is for dockerd's user.
                pub fn read(body: &[u8]) -> Result<Self, String> {
                    read(body)
                }
            }
        )+
    };
}

messages! {
    /// `NetworkDriver.CreateNetwork`
    CreateNetwork {
        /// Docker's name for the network, 64 digits.
        #[serde(rename = "NetworkID")]
        network_id: String,
        /// What is said of it; the user's own (`-o`) under `com.docker.network.generic`.
        options: Options,
        /// Its pools.
        #[serde(rename = "IPv4Data")]
        ipv4: Vec<IpamData>,
        /// Its IPv6 pools.
        #[serde(rename = "IPv6Data")]
        ipv6: Vec<IpamData>,
    }

    /// A pool of a network.
    IpamData {
        /// Whose pool it is: [`ADDRESS_SPACE`](super::ADDRESS_SPACE) if it is ours.
        address_space: String,
        /// Its subnet.
        pool: String,
        /// The gateway, with the prefix length.
        gateway: String,
    }

    /// `NetworkDriver.DeleteNetwork`
    DeleteNetwork {
        /// Which.
        #[serde(rename = "NetworkID")]
        network_id: String,
    }

    /// `NetworkDriver.CreateEndpoint`
    CreateEndpoint {
        /// In which network.
        #[serde(rename = "NetworkID")]
        network_id: String,
        /// Docker's name for the endpoint. A container that is started again has another.
        #[serde(rename = "EndpointID")]
        endpoint_id: String,
        /// What it is to be.
        interface: Interface,
        /// What is said of it.
        options: Options,
    }

    /// `NetworkDriver.Join`
    Join {
        /// In which network.
        #[serde(rename = "NetworkID")]
        network_id: String,
        /// Which endpoint.
        #[serde(rename = "EndpointID")]
        endpoint_id: String,
        /// The file of the container's network namespace; never opened.
        sandbox_key: String,
    }

    /// What is asked of one endpoint: `DeleteEndpoint`, `Leave`, `ProgramExternalConnectivity`,
    /// `RevokeExternalConnectivity`.
    OfEndpoint {
        /// In which network.
        #[serde(rename = "NetworkID")]
        network_id: String,
        /// Which endpoint.
        #[serde(rename = "EndpointID")]
        endpoint_id: String,
        /// What is said of it.
        options: Options,
    }

    /// `IpamDriver.RequestPool`
    RequestPool {
        /// Whose.
        address_space: String,
        /// The subnet that is asked for; any if empty.
        pool: String,
        /// The part of it that addresses are taken from; all if empty.
        sub_pool: String,
        /// The user's `--ipam-opt`.
        options: Options,
        /// Of IPv6.
        #[serde(rename = "V6")]
        v6: bool,
    }

    /// `IpamDriver.ReleasePool`
    ReleasePool {
        /// Which.
        #[serde(rename = "PoolID")]
        pool_id: String,
    }

    /// `IpamDriver.RequestAddress`
    RequestAddress {
        /// Of which pool.
        #[serde(rename = "PoolID")]
        pool_id: String,
        /// The one that is asked for; any if empty.
        address: String,
        /// What it is for.
        options: Options,
    }

    /// `IpamDriver.ReleaseAddress`
    ReleaseAddress {
        /// Of which pool.
        #[serde(rename = "PoolID")]
        pool_id: String,
        /// Which, without its prefix length.
        address: String,
    }
}

impl CreateEndpoint {
    /// What the user calls its interface in the container.
    pub fn ifname(&self) -> Result<Option<IfName>, String> {
        const KEY: &str = "com.docker.network.endpoint.ifname";
        let invalid = |why: String| format!("{KEY}: {why}");
        match self.options.get(KEY) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) if name.is_empty() => Ok(None),
            Some(Value::String(name)) => {
                IfName::new(name.as_str()).map(Some).map_err(|e| invalid(e.to_string()))
            }
            Some(other) => Err(invalid(format!("{other} is not a name"))),
        }
    }
}

impl RequestAddress {
    /// It is for the gateway of a network.
    pub fn is_gateway(&self) -> bool {
        self.said("RequestAddressType") == Some("com.docker.network.gateway")
    }

    /// The hardware address of the endpoint it is for.
    pub fn mac(&self) -> Option<&str> {
        self.said("com.docker.network.endpoint.macaddress")
    }

    fn said(&self, key: &str) -> Option<&str> {
        self.options.get(key).and_then(Value::as_str)
    }
}

/// The interface of an endpoint. Answered with it is only what dockerd left open.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Interface {
    /// IPv4, with the prefix length.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// IPv6, with the prefix length.
    #[serde(rename = "AddressIPv6", skip_serializing_if = "String::is_empty")]
    pub address_ipv6: String,
    /// The hardware address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
}

impl Interface {
    /// The addresses that it has.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        [self.address.as_str(), self.address_ipv6.as_str()].into_iter().filter(|a| !a.is_empty())
    }
}

/// The answer to a Join.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Joined {
    /// The link that dockerd is to move into the container.
    pub interface_name: InterfaceName,
    /// The IPv4 gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The IPv6 gateway.
    #[serde(rename = "GatewayIPv6", skip_serializing_if = "Option::is_none")]
    pub gateway_ipv6: Option<IpAddr>,
    /// Other routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub static_routes: Vec<StaticRoute>,
    /// dockerd adds no interface of its own for the way out.
    pub disable_gateway_service: bool,
}

/// A link, and what it is to be called in the container: the prefix and a number.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    /// Its name on the host.
    pub src_name: String,
    /// How its name in the container begins.
    pub dst_prefix: String,
    /// Its name in the container, where the user chose it; dockerd reads it since the middle of 2026.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_name: Option<String>,
}

/// A route of the container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StaticRoute {
    /// Its destination.
    pub destination: String,
    /// 0: by the next hop; 1: on the link.
    pub route_type: u8,
    /// The next hop; empty if none.
    pub next_hop: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dockerd_leaves_out_or_calls_null_is_nothing() {
        let read = RequestAddress::read(br#"{"PoolID":"p","Address":"10.0.0.2","Options":null}"#);
        let read = read.expect("readable");
        assert!(!read.is_gateway() && read.mac().is_none() && read.pool_id == "p");
        let text = br#"{"NetworkID":"n","Options":{"a":{"b":1}},"IPv4Data":[{"Pool":"10.0.0.0/8","AuxAddresses":{}}],"IPv6Data":null}"#;
        let read = CreateNetwork::read(text).expect("readable");
        assert_eq!((read.ipv4[0].pool.as_str(), read.ipv6.len()), ("10.0.0.0/8", 0));
        assert_eq!(read.options["a"]["b"], 1);
    }

    #[test]
    fn an_interface_has_the_name_that_its_user_chose() {
        let of = |value: &str| {
            let key = "com.docker.network.endpoint.ifname";
            let text = format!(r#"{{"NetworkID":"n","Options":{{"{key}":{value}}}}}"#);
            let name = CreateEndpoint::read(text.as_bytes()).expect("readable").ifname();
            name.map(|name| name.map(|name| name.to_string()))
        };
        assert_eq!(of(r#""uplink""#), Ok(Some("uplink".to_owned())));
        assert_eq!((of("null"), of(r#""""#)), (Ok(None), Ok(None)));
        for bad in [r#""a/b""#, r#""sixteen-letters-""#, "7", "{}"] {
            assert!(of(bad).expect_err(bad).contains("endpoint.ifname"), "{bad}");
        }
    }

    #[test]
    fn an_empty_body_is_no_message() {
        for bad in ["", "x", "[]"] {
            assert!(DeleteNetwork::read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_what_was_open_is_answered() {
        let mac = Interface { mac_address: "02:00:00:00:00:01".into(), ..Interface::default() };
        let text = serde_json::to_string(&mac).expect("JSON");
        assert_eq!(text, r#"{"MacAddress":"02:00:00:00:00:01"}"#);
        assert_eq!(serde_json::to_string(&Interface::default()).expect("JSON"), "{}");
    }
}
