//! What a network's bridge ports are beyond the usual: the keys of the reference plugin `bridge` that
//! change a port or a VLAN, checked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::netconf::invalid;
use super::{CniError, Code, NetConf};

/// The highest number a VLAN may have (IEEE 802.1Q; 4095 is reserved).
const VLAN_MAX: i64 = 4094;
/// The VLAN that a new port is in by itself.
const DEFAULT_VLAN: u16 = 1;

/// What a port is beyond the usual. Where nothing is said, all of it is off, and costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortOptions {
    /// Isolated ports do not reach each other, only the bridge and ports that are not.
    pub isolated: bool,
    /// IPv6 addresses are usable only after nobody else on the link was found to have them.
    pub detects_duplicates: bool,
    /// The container's end is made and left down, for somebody else to bring up.
    pub stays_down: bool,
    /// Its VLANs.
    pub vlans: Vlans,
}

/// The VLANs of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vlans {
    /// What comes in without a tag belongs to it, and leaves without one.
    pub native: Option<u16>,
    /// Those that pass with their tags: first and last of each range.
    pub trunk: Vec<(u16, u16)>,
    /// The port also stays in VLAN 1.
    pub keeps_default: bool,
}

impl Vlans {
    /// The bridge has to tell VLANs apart.
    pub fn is_used(&self) -> bool {
        self.native.is_some() || !self.trunk.is_empty()
    }

    /// The VLAN that a new port is in by itself.
    pub const DEFAULT: u16 = DEFAULT_VLAN;

    /// All that the port is in, if it is in any that was asked for.
    pub fn members(&self) -> BTreeSet<u16> {
        let trunk = self.trunk.iter().flat_map(|(first, last)| *first..=*last);
        let default = self.keeps_default.then_some(DEFAULT_VLAN);
        self.native.into_iter().chain(trunk).chain(default).collect()
    }

    /// The VLAN that the kernel has put the port into and that it has to leave.
    pub fn leaves(&self) -> Option<u16> {
        let stays = self.keeps_default
            || self.native == Some(DEFAULT_VLAN)
            || self.trunk.iter().any(|(first, last)| (*first..=*last).contains(&DEFAULT_VLAN));
        (self.is_used() && !stays).then_some(DEFAULT_VLAN)
    }
}

/// An entry of `vlanTrunk` as it arrives.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct RawTrunk {
    id: Option<i64>,
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
}

impl PortOptions {
    /// Checks the keys. The errors speak of keys and values; the caller adds the network's name.
    pub(super) fn new(conf: &NetConf) -> Result<Self, CniError> {
        if conf.hairpin_mode && conf.promisc_mode {
            // Frames would come back to their sender twice.
            return Err(invalid("hairpinMode and promiscMode exclude each other; leave one out"));
        }
        let has_ipam = conf.ipam.as_ref().is_some_and(|ipam| !ipam.plugin.is_empty());
        if conf.disable_container_interface && has_ipam {
            return Err(invalid(
                "disableContainerInterface=true leaves no interface that ipam could give an address to; leave one out",
            ));
        }
        bounded("vlanTrunk", conf.vlan_trunk.len())?;
        let vlans = Vlans {
            native: match conf.vlan {
                0 => None,
                id => Some(vlan("vlan", id, 0)?),
            },
            trunk: conf.vlan_trunk.iter().map(range).collect::<Result<_, _>>()?,
            keeps_default: conf.preserve_default_vlan,
        };
        let is_gateway = conf.is_gateway || conf.is_default_gateway;
        if is_gateway && vlans.native.is_none() && vlans.leaves().is_some() {
            // The bridge itself is in VLAN 1 only; its gateway would be out of reach.
            return Err(CniError::new(
                Code::UnsupportedField,
                "a vlanTrunk without vlan together with isGateway=true is not supported, as the port leaves the gateway's VLAN; say vlan or preserveDefaultVlan",
            ));
        }
        Ok(Self {
            isolated: conf.port_isolation,
            detects_duplicates: conf.enabledad,
            stays_down: conf.disable_container_interface,
            vlans,
        })
    }
}

fn range(raw: &RawTrunk) -> Result<(u16, u16), CniError> {
    match (raw.id, raw.min_id, raw.max_id) {
        (Some(id), None, None) => vlan("vlanTrunk id", id, 1).map(|id| (id, id)),
        (None, Some(min), Some(max)) => {
            let (first, last) =
                (vlan("vlanTrunk minID", min, 1)?, vlan("vlanTrunk maxID", max, 1)?);
            if first > last {
                return Err(invalid(format!("vlanTrunk minID {first} is above maxID {last}")));
            }
            Ok((first, last))
        }
        (None, Some(min), None) => Err(invalid(format!("vlanTrunk minID {min} has no maxID"))),
        (None, None, Some(max)) => Err(invalid(format!("vlanTrunk maxID {max} has no minID"))),
        (None, None, None) => Err(invalid("an entry of vlanTrunk has neither id nor minID, maxID")),
        (Some(id), ..) => {
            Err(invalid(format!("vlanTrunk id {id} has a minID or maxID beside it; split them")))
        }
    }
}

fn vlan(key: &str, id: i64, least: i64) -> Result<u16, CniError> {
    match u16::try_from(id) {
        Ok(number) if (least..=VLAN_MAX).contains(&id) => Ok(number),
        _ => Err(invalid(format!("{key} {id} is not within {least} to {VLAN_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Call;
    use super::*;

    fn options(keys: &str) -> Result<PortOptions, CniError> {
        let text = format!(r#"{{"name":"n","bridge":"b"{keys}}}"#);
        Call::parse(text.as_bytes()).and_then(|call| PortOptions::new(&call.conf))
    }

    #[test]
    fn nothing_said_is_nothing_done() {
        assert_eq!(options("").expect("valid"), PortOptions::default());
        assert!(!options(r#","preserveDefaultVlan":true"#).expect("valid").vlans.is_used());
    }

    #[test]
    fn vlans_are_what_the_keys_say() {
        let vlans = options(r#","vlan":100,"vlanTrunk":[{"id":7},{"minID":10,"maxID":4094}]"#);
        let vlans = vlans.expect("valid").vlans;
        assert_eq!((vlans.native, &vlans.trunk[..]), (Some(100), &[(7, 7), (10, 4094)][..]));
        assert_eq!(vlans.leaves(), Some(1));
        for stays in [
            r#","vlan":100,"preserveDefaultVlan":true"#,
            r#","vlan":1"#,
            r#","vlanTrunk":[{"minID":1,"maxID":3}]"#,
            "",
        ] {
            assert_eq!(options(stays).expect("valid").vlans.leaves(), None, "{stays}");
        }
    }

    #[test]
    fn what_cannot_be_is_code_7_and_names_the_value() {
        for (keys, named) in [
            (r#""vlan":-1"#, "vlan -1"),
            (r#""vlan":4095"#, "vlan 4095"),
            (r#""vlanTrunk":[{"id":0}]"#, "id 0"),
            (r#""vlanTrunk":[{"id":4095}]"#, "id 4095"),
            (r#""vlanTrunk":[{"minID":5,"maxID":4}]"#, "minID 5"),
            (r#""vlanTrunk":[{"minID":5}]"#, "minID 5"),
            (r#""vlanTrunk":[{"maxID":5}]"#, "maxID 5"),
            (r#""vlanTrunk":[{"minID":0,"maxID":5}]"#, "minID 0"),
            (r#""vlanTrunk":[{"minID":1,"maxID":4095}]"#, "maxID 4095"),
            (r#""vlanTrunk":[{}]"#, "vlanTrunk"),
            (r#""vlanTrunk":[{"id":3,"maxID":5}]"#, "id 3"),
            (r#""promiscMode":true,"hairpinMode":true"#, "hairpinMode and promiscMode"),
            (r#""disableContainerInterface":true,"ipam":{"type":"host-local"}"#, "ipam"),
        ] {
            let error = options(&format!(",{keys}")).expect_err(keys);
            assert_eq!(error.code, Code::InvalidNetworkConfig, "{keys}");
            assert!(error.msg.contains(named), "{error}");
        }
    }

    #[test]
    fn a_gateway_that_the_port_does_not_reach_is_not_supported() {
        let trunk = r#","isGateway":true,"vlanTrunk":[{"id":7}]"#;
        let error = options(trunk).expect_err("no gateway");
        assert_eq!(error.code, Code::UnsupportedField);
        for reaches in [r#","vlan":5"#, r#","preserveDefaultVlan":true"#] {
            options(&format!("{trunk}{reaches}")).expect(reaches);
        }
    }
}
