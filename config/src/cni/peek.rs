//! A first look at a configuration: only what is needed to answer before, or without, reading the
//! rest: its name, its version and its IPAM plugin. Never fails.

use serde_json::{Map, Value};

/// What a first look finds. Each is empty where the document is not readable or says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peek {
    /// `name`
    pub name: String,
    /// `cniVersion`, as written
    pub version: String,
    /// `ipam.type`
    pub ipam: String,
}

/// Looks at a configuration.
pub fn peek(document: &[u8]) -> Peek {
    let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(document) else {
        return Peek::default();
    };
    let ipam = members(&map, "ipam").filter_map(Value::as_object).next_back();
    Peek {
        name: text(&map, "name"),
        version: text(&map, "cniVersion"),
        ipam: ipam.map(|ipam| text(ipam, "type")).unwrap_or_default(),
    }
}

fn text(map: &Map<String, Value>, key: &str) -> String {
    members(map, key).filter_map(Value::as_str).next_back().unwrap_or_default().to_owned()
}

/// Every member of that name, in whatever case.
fn members<'a>(
    map: &'a Map<String, Value>,
    key: &'a str,
) -> impl DoubleEndedIterator<Item = &'a Value> {
    map.iter().filter(move |(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_never_fails() {
        let seen = peek(br#"{"cniVersion":"1.0.0","NAME":"n","x":[1],"Ipam":{"TYPE":"dhcp"}}"#);
        assert_eq!((seen.name.as_str(), seen.version.as_str()), ("n", "1.0.0"));
        assert_eq!(seen.ipam, "dhcp");
        for bad in [&b"{"[..], b"[]", b"", b"\xff", br#"{"name":3,"ipam":"dhcp"}"#] {
            assert_eq!(peek(bad), Peek::default());
        }
    }
}
