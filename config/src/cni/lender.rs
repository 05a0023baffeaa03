//! The reference plugin `host-local`, which another plugin runs to be given addresses: a network that
//! lends addresses and has no containers of its own.

use serde_json::Value;

use super::{Call, CniError};
use crate::ids::digest;

/// How the name begins that stands for its bridge. There is none.
const PREFIX: &str = "qa";
/// What a configuration says to its IPAM plugin; all else is for the plugin that attaches.
const READ: [&str; 7] = [
    "cniVersion",
    "name",
    "ipam",
    "args",
    "runtimeConfig",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
];

impl Call {
    /// The configuration of `host-local`, whoever runs it, as the network that it means.
    pub fn as_lender(mut self) -> Result<Self, CniError> {
        let is_read = |key: &str| READ.iter().any(|read| key.eq_ignore_ascii_case(read));
        self.document.retain(|key, _| is_read(key));
        let mut lender = Self::parse(Value::Object(self.document).to_string().as_bytes())?;
        "host-local".clone_into(&mut lender.conf.ipam.get_or_insert_default().plugin);
        lender.conf.bridge =
            format!("{PREFIX}{:012x}", digest(&["lender", lender.network.as_str()]) >> 16);
        lender.conf.lends = true;
        Ok(lender)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Addressing, Code, Environment};
    use super::*;

    #[test]
    fn what_is_said_to_the_plugin_that_attaches_is_not_judged() {
        let text = r#"{"name":"n","type":"macvlan","mtu":5,"bridge":"a/b","ingressRate":8,
            "ipam":{"type":"host-local","subnet":"10.0.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}"#;
        let call = Call::parse(text.as_bytes()).expect("readable").as_lender().expect("a lender");
        let network = call.definition().expect("valid");
        assert!(network.lends && matches!(network.addressing, Addressing::HostLocal(_)));
        assert_eq!((network.routes.len(), network.gateway), (1, false));
        for none in [r#"{"name":"n"}"#, r#"{"name":"n","ipam":{}}"#] {
            let call = Call::parse(none.as_bytes()).and_then(Call::as_lender).expect("a lender");
            let network = call.definition().expect("a call may bring ranges");
            let error = call.meant(&network, &Environment::default()).expect_err("it does not");
            assert_eq!(error.code, Code::InvalidNetworkConfig);
        }
    }
}
