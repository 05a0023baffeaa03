//! How a container's end is set up beyond addresses and routes: the keys of the reference plugin
//! `tuning`, checked. `mtu` is the network's, see [`Definition`](super::Definition).

use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::mac::hardware_address;
use super::netconf::invalid;
use super::{CniError, Code, NetConf};
use crate::ids::{IfName, Mac};
use crate::sysctl::{SysctlName, SysctlPatterns};

/// The longest value: the kernel takes a page at once.
const VALUE_MAX: usize = 4095;
/// The longest queue; the kernel keeps it as a signed number in places.
const QUEUE_MAX: u32 = i32::MAX as u32;

/// What is set up. Where nothing is said, nothing is done and nothing is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tuning {
    /// Settings of the container's namespace, in the order of their names.
    pub sysctls: Vec<Sysctl>,
    /// The hardware address that every container has, unless its call asks for another.
    pub mac: Option<Mac>,
    /// The interface takes every frame, whoever it is for.
    pub promisc: bool,
    /// It takes every multicast frame, or only those it wants.
    pub all_multicast: Option<bool>,
    /// How many packets may wait to be sent.
    pub tx_queue: Option<u32>,
}

/// A setting and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Its name.
    pub name: SysctlName,
    /// Its value.
    pub value: String,
}

impl Tuning {
    /// Checks the keys. The errors speak of keys and values; the caller adds the network's name.
    pub(super) fn new(conf: &NetConf) -> Result<Self, CniError> {
        bounded("sysctl", conf.sysctl.len())?;
        let mut sysctls = Vec::new();
        for (key, value) in &conf.sysctl {
            let name = SysctlName::new(key).map_err(|e| invalid(format!("sysctl {key:?} {e}")))?;
            if value.len() > VALUE_MAX || value.chars().any(|c| c.is_control() && c != '\t') {
                return Err(invalid(format!("sysctl {key:?} has a value that is not one line")));
            }
            sysctls.push(Sysctl { name, value: value.clone() });
        }
        sysctls.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = sysctls.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(invalid(format!("sysctl {:?} is there twice", pair[0].name.path())));
        }
        if let Some(length) = conf.tx_q_len.filter(|length| *length > QUEUE_MAX) {
            return Err(invalid(format!("txQLen {length} is not within 0 to {QUEUE_MAX}")));
        }
        let mac = match conf.mac.as_str() {
            "" => None,
            text => Some(hardware_address("mac", text, Code::InvalidNetworkConfig)?),
        };
        Ok(Self {
            sysctls,
            mac,
            promisc: conf.promisc,
            all_multicast: conf.allmulti,
            tx_queue: conf.tx_q_len,
        })
    }

    /// Sees that the operator of the host allows every setting. `network` is for the message.
    pub fn check_allowed(&self, network: &str, by: &SysctlPatterns) -> Result<(), CniError> {
        match self.sysctls.iter().find(|sysctl| !by.allow(&sysctl.name)) {
            None => Ok(()),
            Some(Sysctl { name, .. }) => Err(invalid(format!(
                "network {network:?}: sysctl {:?} is not among those that the daemon's sysctl_allowlist lets networks set; leave it out, or have it added there",
                name.path()
            ))),
        }
    }

    /// The same for the interface that a container has.
    #[must_use]
    pub fn of_interface(&self, name: &IfName) -> Self {
        let each = self.sysctls.iter().map(|sysctl| Sysctl {
            name: sysctl.name.of_interface(name),
            value: sysctl.value.clone(),
        });
        Self { sysctls: each.collect(), ..self.clone() }
    }

    /// The interface itself is to be changed.
    pub fn changes_link(&self) -> bool {
        self.promisc || self.all_multicast.is_some() || self.tx_queue.is_some()
    }
}

impl Sysctl {
    /// Whether a text that the kernel shows is this value: it separates numbers in its own way.
    pub fn is(&self, shown: &str) -> bool {
        self.value.split_whitespace().eq(shown.split_whitespace())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Call;
    use super::*;

    fn tuning(keys: &str) -> Result<Tuning, CniError> {
        let text = format!(r#"{{"name":"n","bridge":"b"{keys}}}"#);
        Call::parse(text.as_bytes())?.definition().map(|definition| definition.tuning)
    }

    #[test]
    fn all_keys_are_read() {
        let read = tuning(
            r#","sysctl":{"net.ipv4.conf.IFNAME.rp_filter":"2","net/core/somaxconn":"500"},
            "mac":"02:00:00:00:00:07","promisc":true,"allmulti":false,"txQLen":0"#,
        )
        .expect("valid")
        .of_interface(&IfName::new("eth0").expect("a name"));
        let names: Vec<&str> = read.sysctls.iter().map(|s| s.name.path()).collect();
        assert_eq!(names, ["net/core/somaxconn", "net/ipv4/conf/eth0/rp_filter"]);
        assert_eq!(read.mac, Some(Mac([2, 0, 0, 0, 0, 7])));
        assert_eq!((read.promisc, read.all_multicast, read.tx_queue), (true, Some(false), Some(0)));
        for nothing in ["", r#","sysctl":{},"allmulti":null,"txQLen":null,"promisc":false"#] {
            assert_eq!(tuning(nothing).expect("valid"), Tuning::default());
        }
    }

    #[test]
    fn what_is_invalid_is_named() {
        for (keys, named) in [
            (r#""sysctl":{"kernel.hostname":"x"}"#, "kernel.hostname"),
            (r#""sysctl":{"net/../kernel/hostname":"x"}"#, "net/../kernel/hostname"),
            (r#""sysctl":{"net.ipv4.ip_forward":"1\n2"}"#, "net.ipv4.ip_forward"),
            (r#""sysctl":{"net.ipv4.ip_forward":"1\u0000"}"#, "net.ipv4.ip_forward"),
            (r#""sysctl":{"net.ipv4.x":"1","net/ipv4/x":"2"}"#, "net/ipv4/x"),
            (r#""txQLen":4294967295"#, "txQLen 4294967295"),
            (r#""mac":"01:00:5e:00:00:01""#, "01:00:5e:00:00:01"),
        ] {
            let error = tuning(&format!(",{keys}")).expect_err(keys);
            assert_eq!(error.code, Code::InvalidNetworkConfig, "{keys}");
            assert!(error.msg.contains(named) && error.msg.contains("network \"n\""), "{error}");
        }
        for wrong in [r#""sysctl":{"net.ipv4.x":1}"#, r#""txQLen":-1"#, r#""allmulti":"yes""#] {
            assert_eq!(tuning(&format!(",{wrong}")).expect_err(wrong).code, Code::Decode);
        }
    }

    #[test]
    fn what_the_operator_does_not_allow_is_code_7_and_names_the_setting() {
        let asked = tuning(r#","sysctl":{"net.netfilter.nf_conntrack_max":"1"}"#).expect("valid");
        let refused = asked.check_allowed("n", &SysctlPatterns::default()).expect_err("refused");
        assert_eq!(refused.code, Code::InvalidNetworkConfig);
        for word in ["nf_conntrack_max", "sysctl_allowlist", "\"n\""] {
            assert!(refused.msg.contains(word), "{refused}");
        }
        let wider = SysctlPatterns::new(["net.netfilter.*"].into_iter()).expect("patterns");
        assert_eq!(asked.check_allowed("n", &wider), Ok(()));
    }

    #[test]
    fn the_kernel_separates_numbers_by_tabs() {
        let sysctls = tuning(r#","sysctl":{"net.ipv4.ip_local_port_range":"32768 60999"}"#);
        let range = &sysctls.expect("valid").sysctls[0];
        assert!(range.is("32768\t60999\n") && !range.is("32768\t6099") && !range.is("32768"));
    }
}
