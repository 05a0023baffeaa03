//! A first look at a configuration: only what is needed to answer before, or without, reading the
//! rest: its name and its version. Never fails.

use serde_json::Value;

/// What a first look finds. Both are empty where the document is not readable or says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peek {
    /// `name`
    pub name: String,
    /// `cniVersion`, as written
    pub version: String,
}

/// Looks at a configuration.
pub fn peek(document: &[u8]) -> Peek {
    let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(document) else {
        return Peek::default();
    };
    let text = |key: &str| {
        map.iter()
            .filter(|(k, _)| k.eq_ignore_ascii_case(key))
            .filter_map(|(_, v)| v.as_str())
            .next_back()
            .unwrap_or_default()
            .to_owned()
    };
    Peek { name: text("name"), version: text("cniVersion") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_never_fails() {
        let seen = peek(br#"{"cniVersion":"1.0.0","NAME":"n","x":[1]}"#);
        assert_eq!((seen.name.as_str(), seen.version.as_str()), ("n", "1.0.0"));
        for bad in [&b"{"[..], b"[]", b"", b"\xff", br#"{"name":3}"#] {
            assert_eq!(peek(bad), Peek::default());
        }
    }
}
