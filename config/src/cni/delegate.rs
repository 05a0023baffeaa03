//! Delegation: an `ipam.type` that is not built in is another program, which our plugin runs (CNI
//! specification, section 4). Here is what its two sides must agree on: who it is, and how its
//! refusal is told.

use serde_json::{Value, json};

use super::Version;
use crate::ids::{InvalidId, PluginName};

/// What is built in; no other program is run for it.
const BUILT_IN: [&str; 2] = ["host-local", "static"];

/// The plugin that an `ipam.type` names; none if that is built in or empty. One that is no name of a
/// file, and so might be a path, is refused.
pub fn delegate(ipam_type: &str) -> Result<Option<PluginName>, InvalidId> {
    if ipam_type.is_empty() || BUILT_IN.contains(&ipam_type) {
        return Ok(None);
    }
    PluginName::new(ipam_type).map(Some)
}

/// The error that a plugin printed, as it is handed on: its code, message and details, in an object
/// as the specification has it. None if what was printed is no error. `version` is the
/// configuration's, if it could be read.
pub fn handed_on(printed: &[u8], version: &str) -> Option<String> {
    let error: Value = serde_json::from_slice(printed).ok()?;
    let code = error.get("code")?.as_u64().filter(|code| *code != 0)?;
    let text = |key: &str| error.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let version = if version.is_empty() { Version::NEWEST.as_str() } else { version };
    let mut object = json!({ "cniVersion": version, "code": code, "msg": text("msg")? });
    if let (Some(map), Some(details)) = (object.as_object_mut(), text("details")) {
        map.insert("details".to_owned(), details.into());
    }
    Some(object.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delegate_is_a_name_and_never_a_path() {
        for ours in ["", "host-local", "static"] {
            assert_eq!(delegate(ours), Ok(None));
        }
        assert_eq!(delegate("dhcp").expect("a name").expect("a delegate").as_str(), "dhcp");
        for bad in [".", "..", "/bin/sh", "../x", "a/b", "a\0", "a\n"] {
            assert!(delegate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_keeps_what_was_said() {
        let told = handed_on(br#"{"code":11,"msg":"m","details":"d","x":1}"#, "1.0.0");
        assert_eq!(
            told.as_deref(),
            Some(r#"{"cniVersion":"1.0.0","code":11,"msg":"m","details":"d"}"#)
        );
        let bare = handed_on(br#"{"cniVersion":"0.4.0","code":999,"msg":"m"}"#, "");
        assert_eq!(bare.as_deref(), Some(r#"{"cniVersion":"1.1.0","code":999,"msg":"m"}"#));
    }

    #[test]
    fn what_is_no_error_is_not_handed_on() {
        for bad in [
            "",
            "no",
            "[]",
            "{}",
            r#"{"code":7}"#,
            r#"{"code":"7","msg":"m"}"#,
            r#"{"code":0,"msg":"m"}"#,
            r#"{"code":7,"msg":""}"#,
        ] {
            assert_eq!(handed_on(bad.as_bytes(), "1.0.0"), None, "{bad}");
        }
    }
}
