//! The network configuration as it arrives on stdin: the keys of the specification, of the reference
//! `bridge` plugin and of its `host-local` IPAM. Nothing is judged here but types; what the values
//! mean is [`Definition`](super::Definition)'s business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::addressing::{RawAddress, RawReservation};
use super::asked::{Args, RuntimeConfig};
use super::port::RawTrunk;
use super::posture::RawPolicy;
use super::route::RawRoute;
use super::{CniError, Code, Definition, IpamResult, Previous, Version, delegate, gojson};
use crate::ids::{ContainerId, IfName, NetworkName, PluginName};

/// Everything on stdin that concerns us; unknown keys are let pass.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetConf {
    /// The version of the protocol this call uses.
    pub cni_version: String,
    /// The network's name.
    pub name: String,
    /// The plugin's name.
    #[serde(rename = "type")]
    pub plugin: String,
    /// Name of the bridge; `cni0` if empty.
    pub bridge: String,
    /// The bridge carries the gateway's address.
    pub is_gateway: bool,
    /// As `isGateway`, and the container's default route goes there.
    pub is_default_gateway: bool,
    /// Replace another address on the bridge.
    pub force_address: bool,
    /// Masquerade what leaves the network.
    pub ip_masq: bool,
    /// Let a port's frames back out of the same port.
    pub hairpin_mode: bool,
    /// MTU of both ends; 0 is the kernel's choice.
    pub mtu: u32,
    /// Where addresses come from.
    pub ipam: Option<Ipam>,
    /// What the container's resolver is told.
    pub dns: Option<Dns>,
    /// The result of the plugins before us, or of ADD.
    pub prev_result: Option<Value>,
    /// GC: the attachments that are to stay. Read by [`Call::parse`], which tells absent from null.
    #[serde(skip)]
    pub valid_attachments: Option<Vec<ValidAttachment>>,
    /// It has no containers: another plugin is lent its addresses.
    #[serde(skip)]
    pub(super) lends: bool,
    pub(super) runtime_config: RuntimeConfig,
    pub(super) args: Args,
    // What a port is beyond the usual: `PortOptions` says what these mean.
    pub(super) promisc_mode: bool,
    pub(super) vlan: i64,
    pub(super) vlan_trunk: Vec<RawTrunk>,
    pub(super) preserve_default_vlan: bool,
    pub(super) macspoofchk: bool,
    pub(super) enabledad: bool,
    pub(super) disable_container_interface: bool,
    pub(super) port_isolation: bool,
    // How fast containers may be: `Shaping` says what these mean.
    pub(super) ingress_rate: Option<u64>,
    pub(super) ingress_burst: Option<u64>,
    pub(super) egress_rate: Option<u64>,
    pub(super) egress_burst: Option<u64>,
    // How the container's end is set up: `Tuning` says what these mean.
    pub(super) sysctl: BTreeMap<String, String>,
    pub(super) mac: String,
    pub(super) promisc: bool,
    pub(super) allmulti: Option<bool>,
    pub(super) tx_q_len: Option<u32>,
    // How the network stands towards others: `Posture` says what these mean.
    pub(super) policy: RawPolicy,
    pub(super) ingress_policy: String,
}

impl NetConf {
    /// An object whose members are all empty is as if it were absent: generators in Go write their zero values.
    fn leave_out_what_says_nothing(&mut self) {
        self.ipam = self.ipam.take().filter(|ipam| *ipam != Ipam::default());
    }
}

/// The `ipam` object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ipam {
    /// The IPAM plugin; `host-local` and `static` are built in, and the keys below are theirs.
    #[serde(rename = "type")]
    pub plugin: String,
    pub(super) subnet: String,
    pub(super) range_start: String,
    pub(super) range_end: String,
    pub(super) gateway: String,
    pub(super) ranges: Vec<Vec<RawRange>>,
    pub(super) routes: Vec<RawRoute>,
    pub(super) addresses: Vec<RawAddress>,
    pub(super) reservations: Vec<RawReservation>,
    pub(super) dns: Dns,
    pub(super) resolv_conf: String,
    pub(super) data_dir: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawRange {
    pub(super) subnet: String,
    pub(super) range_start: String,
    pub(super) range_end: String,
    pub(super) gateway: String,
}

/// What the container's resolver is told, handed to the runtime in the result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options as in resolv.conf(5).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// True if nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One entry of GC's `cni.dev/valid-attachments`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ValidAttachment {
    /// The container.
    pub container: ContainerId,
    /// Its interface.
    pub ifname: IfName,
}

/// A configuration that was read: the parts every verb needs, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The version the answer must have.
    pub version: Version,
    /// The network's name.
    pub network: NetworkName,
    /// The rest, as it came.
    pub conf: NetConf,
    /// The whole document, for what only some plugins read.
    pub(super) document: Map<String, Value>,
    /// It stands in a file of the operator's, who may name paths for the daemon to open.
    pub(super) is_operators: bool,
}

impl Call {
    /// Reads a configuration. Errors: code 6 not JSON, or not an object; 7 the name; 1 the version.
    pub fn parse(stdin: &[u8]) -> Result<Self, CniError> {
        let mut value: Value = serde_json::from_slice(stdin).map_err(|e| {
            CniError::new(Code::Decode, "the network configuration on stdin is not valid JSON")
                .with_details(e.to_string())
        })?;
        let Value::Object(map) = &mut value else {
            return Err(CniError::new(
                Code::Decode,
                "the network configuration on stdin is not a JSON object",
            ));
        };
        leave_to_delegate(map);
        let valid = map
            .get("cni.dev/valid-attachments")
            .or_else(|| map.get("cni.dev/attachments"))
            .map(valid_attachments)
            .transpose()?;
        let document = map.clone();
        let mut conf: NetConf = gojson::from_value(value).map_err(|e| {
            CniError::new(Code::Decode, "the network configuration has a member of the wrong type")
                .with_details(e.to_string())
        })?;
        conf.valid_attachments = valid;
        conf.leave_out_what_says_nothing();
        let network = NetworkName::new(conf.name.as_str())
            .map_err(|e| CniError::new(Code::InvalidNetworkConfig, e.to_string()))?;
        let version = Version::parse(&conf.cni_version)?;
        Ok(Self { version, network, conf, document, is_operators: false })
    }

    /// Reads what a DEL needs: the name. The rest may be of another release, or damaged; a DEL is not
    /// to fail for it.
    pub fn parse_for_del(stdin: &[u8]) -> Result<Self, CniError> {
        Self::parse(stdin).or_else(|error| {
            let seen = super::peek(stdin);
            let network = NetworkName::new(seen.name).map_err(|_| error)?;
            let ipam = Ipam { plugin: seen.ipam, ..Ipam::default() };
            let conf = NetConf { ipam: Some(ipam), ..NetConf::default() };
            let (version, document) = (Version::V0_1_0, Map::new());
            Ok(Self { version, network, conf, document, is_operators: false })
        })
    }

    /// The same without what only plugins of a chain read, which is as long as all that was sent.
    #[must_use]
    pub fn without_document(mut self) -> Self {
        self.document = Map::new();
        self
    }

    /// True if the configuration only names its network, so that a definition on the host is meant.
    pub fn is_thin(&self) -> bool {
        self.conf.ipam.is_none() && self.conf.bridge.is_empty()
    }

    /// The IPAM plugin that is not built in and has to be run, if there is one. A name that is none
    /// was refused by the ADD, so there is nothing of it to look after.
    pub fn delegate(&self) -> Option<PluginName> {
        let ipam = self.conf.ipam.as_ref()?;
        delegate(&ipam.plugin).ok().flatten()
    }

    /// Reads what the IPAM plugin printed on ADD.
    pub fn ipam_result(&self, printed: &[u8]) -> Result<IpamResult, CniError> {
        IpamResult::parse(printed).map_err(|why| {
            let plugin = self.conf.ipam.as_ref().map(|i| i.plugin.as_str()).unwrap_or_default();
            CniError::new(Code::Decode, format!("the result of the IPAM plugin {plugin:?} is none"))
                .with_details(why)
        })
    }

    /// What `prevResult` says; none if there is none, or it is null.
    pub fn previous(&self) -> Result<Option<Previous>, CniError> {
        self.conf.prev_result.as_ref().map(|p| Previous::parse(p, self.version)).transpose()
    }

    /// The same configuration as it stands in a file of `config_dir`. The daemon opens no path that
    /// a request names; what the operator of the host wrote is another matter.
    #[must_use]
    pub fn of_operator(self) -> Self {
        Self { is_operators: true, ..self }
    }

    /// The file that the network's resolver is to be read from, if there is one and it counts: any
    /// `dns` of the network replaces it.
    pub fn resolv_conf(&self) -> Option<&str> {
        let path = self.conf.ipam.as_ref().map(|ipam| ipam.resolv_conf.as_str());
        path.filter(|path| !path.is_empty())
    }

    /// The definition that this configuration itself gives.
    pub fn definition(&self) -> Result<Definition, CniError> {
        Definition::new(self)
    }
}

/// The keys of an IPAM plugin that is not built in are not ours to judge, though some may be called
/// as those of a built-in one.
fn leave_to_delegate(map: &mut serde_json::Map<String, Value>) {
    let is_type = |key: &str| key.eq_ignore_ascii_case("type");
    let ipams = map.iter_mut().filter(|(key, _)| key.eq_ignore_ascii_case("ipam"));
    for ipam in ipams.filter_map(|(_, value)| value.as_object_mut()) {
        let mut named = ipam.iter().filter(|(key, _)| is_type(key)).filter_map(|(_, v)| v.as_str());
        if named.next_back().is_some_and(|name| !matches!(delegate(name), Ok(None))) {
            ipam.retain(|key, _| is_type(key));
        }
    }
}

/// What stands in the configuration cannot be.
pub(super) fn invalid(msg: impl Into<String>) -> CniError {
    CniError::new(Code::InvalidNetworkConfig, msg)
}

/// `null` is the empty list: none is valid.
fn valid_attachments(value: &Value) -> Result<Vec<ValidAttachment>, CniError> {
    #[derive(Deserialize, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct Raw {
        #[serde(rename = "containerID")]
        container_id: String,
        ifname: String,
    }
    let invalid = |details: String| {
        CniError::new(Code::InvalidNetworkConfig, "cni.dev/valid-attachments cannot be read")
            .with_details(details)
    };
    let raw: Option<Vec<Raw>> =
        gojson::from_value(value.clone()).map_err(|e| invalid(e.to_string()))?;
    raw.unwrap_or_default()
        .into_iter()
        .map(|r| {
            Ok(ValidAttachment {
                container: ContainerId::new(r.container_id).map_err(|e| invalid(e.to_string()))?,
                ifname: IfName::new(r.ifname).map_err(|e| invalid(e.to_string()))?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_object_is_code_6() {
        for bad in ["", "{", "[]", "3", "null", "{\"name\":\"n\",\"mtu\":\"x\"}"] {
            assert_eq!(Call::parse(bad.as_bytes()).expect_err(bad).code, Code::Decode, "{bad}");
        }
    }

    #[test]
    fn a_name_is_needed_and_a_version_is_known() {
        for bad in [r#"{"cniVersion":"1.0.0"}"#, r#"{"name":"a/b"}"#, r#"{"name":"../x"}"#] {
            assert_eq!(
                Call::parse(bad.as_bytes()).expect_err(bad).code,
                Code::InvalidNetworkConfig
            );
        }
        let error = Call::parse(br#"{"name":"n","cniVersion":"4.3.2"}"#).expect_err("version");
        assert_eq!(error.code, Code::IncompatibleVersion);
        let call = Call::parse(br#"{"name":"n"}"#).expect("readable");
        assert_eq!(call.version, Version::V0_1_0);
        assert!(call.is_thin());
    }

    #[test]
    fn a_del_needs_a_name_and_nothing_else() {
        for odd in [r#"{"name":"n","mtu":"x"}"#, r#"{"name":"n","cniVersion":"9.9.9"}"#] {
            assert!(Call::parse(odd.as_bytes()).is_err());
            assert_eq!(Call::parse_for_del(odd.as_bytes()).expect(odd).network.as_str(), "n");
        }
        assert_eq!(Call::parse_for_del(b"{").expect_err("no name").code, Code::Decode);
    }

    #[test]
    fn the_keys_of_a_delegate_are_not_judged() {
        let read = |ipam: &str| Call::parse(format!(r#"{{"name":"n","ipam":{ipam}}}"#).as_bytes());
        let odd = r#""routes":"none","ranges":{"a":1},"resolvConf":"/etc/resolv.conf""#;
        let call = read(&format!(r#"{{{odd},"Type":"dhcp"}}"#)).expect("readable");
        assert_eq!(call.delegate().expect("a delegate").as_str(), "dhcp");
        assert!(call.definition().is_ok());
        for ours in ["host-local", "static"] {
            assert!(read(&format!(r#"{{{odd},"type":"{ours}"}}"#)).is_err(), "{ours}");
        }
        for none in [r#"{"type":"static"}"#, "null", r#"{"type":"../dhcp"}"#] {
            assert_eq!(read(none).expect(none).delegate(), None);
        }
        let damaged = br#"{"name":"n","mtu":"x","ipam":{"type":"dhcp"}}"#;
        let call = Call::parse_for_del(damaged).expect("a name");
        assert_eq!(call.delegate().expect("a delegate").as_str(), "dhcp");
    }

    #[test]
    fn absent_and_null_attachments_are_told_apart() {
        let read = |text: &str| Call::parse(text.as_bytes()).expect(text).conf.valid_attachments;
        assert_eq!(read(r#"{"name":"n"}"#), None);
        assert_eq!(read(r#"{"name":"n","cni.dev/valid-attachments":null}"#), Some(vec![]));
        let list = read(
            r#"{"name":"n","cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]}"#,
        );
        assert_eq!(list.map(|l| l.len()), Some(1));
        let bad = r#"{"name":"n","cni.dev/valid-attachments":[{"containerID":"/","ifname":"e"}]}"#;
        assert!(Call::parse(bad.as_bytes()).is_err());
    }
}
