//! The hardware address that a call asks for. Of three places the last one that names any wins:
//! `CNI_ARGS`, `args.cni`, `runtimeConfig`. If none does, the network may have one for all.

use super::{Call, CniError, Code, Environment};
use crate::ids::Mac;

impl Call {
    /// The hardware address that is asked for, if any is. What cannot be one is code 4 where
    /// `CNI_ARGS` names it and code 7 elsewhere.
    pub fn requested_mac(&self, environment: &Environment) -> Result<Option<Mac>, CniError> {
        let places = [
            (
                "runtimeConfig.mac",
                self.conf.runtime_config.mac.as_str(),
                Code::InvalidNetworkConfig,
            ),
            ("args.cni.mac", self.conf.args.cni.mac.as_str(), Code::InvalidNetworkConfig),
            (
                "MAC in CNI_ARGS",
                environment.arg("MAC").unwrap_or_default(),
                Code::InvalidEnvironment,
            ),
        ];
        let Some((place, text, code)) = places.into_iter().find(|(_, text, _)| !text.is_empty())
        else {
            return Ok(None);
        };
        hardware_address(place, text, code).map(Some)
    }
}

/// Reads an address that an interface can have; `place` and `code` are for the error.
pub(super) fn hardware_address(place: &str, text: &str, code: Code) -> Result<Mac, CniError> {
    let refuse = |why: &str| CniError::new(code, format!("{place}: {text:?} {why}"));
    let mac: Mac = text.parse().map_err(|_| {
        refuse("is not six pairs of hexadecimal digits with ':' or '-' between them")
    })?;
    if mac.0 == [0; 6] {
        return Err(refuse("is no address of anybody; leave it out to have one chosen"));
    }
    if mac.0[0] & 1 == 1 {
        return Err(refuse("is a multicast address, which no interface can have"));
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(conf: &str, args: &str) -> Result<Option<Mac>, CniError> {
        let call = Call::parse(format!(r#"{{"name":"n"{conf}}}"#).as_bytes()).expect("readable");
        call.requested_mac(&Environment { args: args.to_owned(), ..Environment::default() })
    }

    #[test]
    fn the_last_place_that_names_one_wins() {
        let runtime = r#","runtimeConfig":{"mac":"02:00:00:00:00:03"}"#;
        let args = r#","args":{"cni":{"mac":"02:00:00:00:00:02"}}"#;
        let environment = "IgnoreUnknown=1;MAC=02:00:00:00:00:01";
        let last = |conf: &str, args: &str| asked(conf, args).expect("valid").map(|m| m.0[5]);
        assert_eq!(last("", ""), None);
        assert_eq!(last("", environment), Some(1));
        assert_eq!(last(args, environment), Some(2));
        assert_eq!(last(&format!("{args}{runtime}"), environment), Some(3));
        assert_eq!(last(r#","runtimeConfig":null,"args":null"#, environment), Some(1));
    }

    #[test]
    fn what_no_interface_can_have_is_refused_where_it_was_named() {
        for bad in ["junk", "00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"] {
            let error = asked("", &format!("MAC={bad}")).expect_err(bad);
            assert_eq!(error.code, Code::InvalidEnvironment);
            assert!(error.msg.contains(bad) && error.msg.contains("CNI_ARGS"), "{error}");
            let conf = format!(r#","runtimeConfig":{{"mac":"{bad}"}}"#);
            let error = asked(&conf, "").expect_err(bad);
            assert_eq!(error.code, Code::InvalidNetworkConfig);
            assert!(error.msg.contains("runtimeConfig.mac"), "{error}");
        }
    }
}
