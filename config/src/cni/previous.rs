//! `prevResult`: what the plugins before us in the chain made. CNI 1.1.0, section "ADD": a plugin
//! passes it on or changes it, and never ignores it. So it is kept as it came, members we do not
//! know included, and ours is put behind it.
//!
//! It is read as the configuration's version. Within a family of versions the shape is the same;
//! across families there is no honest reading (libcni converts before it calls, so it does not
//! happen unless a plugin of the chain is broken), and the ADD is refused before anything is done.

use serde_json::{Map, Value};

use super::{CniError, CniResult, Code, Dns, Version, gojson};
use crate::ids::{IfName, Mac};

/// What was there before us; the default is nothing, for the first plugin of a chain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Previous {
    document: Map<String, Value>,
    result: CniResult,
}

impl Previous {
    /// Reads `prevResult`. Code 7 if it is of another family of versions than the configuration, or
    /// not a result.
    pub(super) fn parse(value: &Value, version: Version) -> Result<Self, CniError> {
        let Value::Object(document) = value else {
            return Err(unreadable("it is not a JSON object"));
        };
        let document = document.clone();
        let read = Self { result: CniResult::default(), document };
        let said = read.member("cniVersion").and_then(Value::as_str).unwrap_or_default();
        if !said.is_empty()
            && Version::parse(said).ok().map(Version::family) != Some(version.family())
        {
            return Err(unreadable(&format!(
                "its cniVersion is {said:?}, which cannot be read as the configuration's {version}"
            )));
        }
        let result: CniResult =
            gojson::from_value(value.clone()).map_err(|e| unreadable(&e.to_string()))?;
        let count = result.interfaces.len();
        for ip in &result.ips {
            // With ours behind them it would point at one of ours.
            if let Some(index) = ip.interface.filter(|index| *index >= count) {
                return Err(unreadable(&format!(
                    "{} belongs to interface {index}, and there are {count}",
                    ip.address
                )));
            }
        }
        Ok(Self { result, ..read })
    }

    /// It, as far as we understand it. Empty before 0.3.0, when results had another shape.
    pub fn result(&self) -> &CniResult {
        &self.result
    }

    /// It, for a plugin that adds nothing to it, in `version`. `mac` is an interface of a container and
    /// the hardware address that it has now.
    pub fn handed_on(&self, version: Version, mac: Option<(&IfName, Mac)>) -> String {
        let mut document = self.document.clone();
        document.retain(|key, _| !key.eq_ignore_ascii_case("cniVersion"));
        document.insert("cniVersion".to_owned(), version.as_str().into());
        let same =
            |(key, list): (&String, _)| key.eq_ignore_ascii_case("interfaces").then_some(list);
        let interfaces = document.iter_mut().filter_map(same).filter_map(Value::as_array_mut);
        for (interface, (name, mac)) in interfaces.flatten().zip(mac.into_iter().cycle()) {
            let is_inside = interface["sandbox"].as_str().is_some_and(|s| !s.is_empty());
            if is_inside && interface["name"] == name.as_str() {
                interface["mac"] = mac.to_string().into();
            }
        }
        Value::Object(document).to_string()
    }

    /// A list of it, as it came; empty if there is none.
    pub(super) fn list(&self, key: &str) -> Vec<Value> {
        self.member(key).and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// An object of it, as it came.
    pub(super) fn object(&self, key: &str) -> Option<&Value> {
        self.member(key).filter(|value| value.is_object())
    }

    /// What the resolver was told.
    pub(super) fn dns(&self) -> &Dns {
        &self.result.dns
    }

    fn member(&self, key: &str) -> Option<&Value> {
        let same = |(name, value): (&String, _)| name.eq_ignore_ascii_case(key).then_some(value);
        self.document.iter().filter_map(same).next_back()
    }
}

fn unreadable(why: &str) -> CniError {
    CniError::new(Code::InvalidNetworkConfig, "prevResult cannot be read").with_details(why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_read_in_the_family_of_the_configuration() {
        for (said, version, readable) in [
            ("0.1.0", Version::V0_2_0, true),
            ("0.3.0", Version::V0_4_0, true),
            ("1.0.0", Version::V1_1_0, true),
            ("1.1.0", Version::V1_0_0, true),
            ("", Version::V0_2_0, true),
            ("0.2.0", Version::V0_3_0, false),
            ("0.4.0", Version::V1_0_0, false),
            ("1.0.0", Version::V0_4_0, false),
            ("2.0.0", Version::V1_1_0, false),
        ] {
            let read = Previous::parse(&json!({ "cniVersion": said }), version);
            assert_eq!(read.is_ok(), readable, "{said} in {version}");
            if let Err(error) = read {
                assert_eq!(error.code, Code::InvalidNetworkConfig);
                assert!(error.details.contains(said), "{error}");
            }
        }
    }

    #[test]
    fn what_is_no_result_is_code_7() {
        for bad in [
            json!("text"),
            json!([]),
            json!({ "ips": 3 }),
            json!({ "ips": [{ "address": "x" }] }),
            json!({ "interfaces": [{ "name": "a" }],
                    "ips": [{ "address": "10.0.0.2/8", "interface": 1 }] }),
        ] {
            let error = Previous::parse(&bad, Version::V1_0_0).expect_err("no result");
            assert_eq!(error.code, Code::InvalidNetworkConfig, "{bad}");
        }
    }

    #[test]
    fn it_is_handed_on_as_it_came_but_for_what_was_changed() {
        let came = json!({ "cniVersion": "1.0.0", "x": 1, "interfaces": [
            { "name": "eth0", "mac": "02:00:00:00:00:01" },
            { "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/ns" } ] });
        let read = Previous::parse(&came, Version::V1_1_0).expect("readable");
        let parse = |text: String| serde_json::from_str::<Value>(&text).expect("json");
        let mut expected = came.clone();
        expected["cniVersion"] = "1.1.0".into();
        assert_eq!(parse(read.handed_on(Version::V1_1_0, None)), expected);
        let name = IfName::new("eth0").expect("a name");
        expected["interfaces"][1]["mac"] = "02:00:00:00:00:07".into();
        let changed = read.handed_on(Version::V1_1_0, Some((&name, Mac([2, 0, 0, 0, 0, 7]))));
        assert_eq!(parse(changed), expected);
    }

    #[test]
    fn hardware_addresses_of_other_kinds_are_let_pass() {
        let infiniband = "80:00:02:08:fe:80:00:00:00:00:00:00:f4:52:14:03:00:7b:cb:a1";
        let value = json!({ "interfaces": [{ "name": "ib0", "mac": infiniband },
                                           { "name": "tun0", "mac": "" }] });
        let read = Previous::parse(&value, Version::V1_0_0).expect("readable");
        assert_eq!(read.result().interfaces[0].mac, None);
        assert_eq!(read.list("interfaces")[0]["mac"], infiniband);
    }
}
