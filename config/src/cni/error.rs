//! The CNI error object, and the closed list of its codes.

use std::fmt;

use serde_json::json;

use super::Version;

/// The codes of an error. 0 to 99 are the specification's, section "Error", with 8 from the Go
/// library; 100 and above are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Code {
    /// 1: the configuration's version is not spoken, or does not know this verb.
    IncompatibleVersion = 1,
    /// 2: a field we know and do not support; the message names key and value.
    UnsupportedField = 2,
    /// 3: the container is unknown; the runtime need not clean up.
    UnknownContainer = 3,
    /// 4: a CNI variable is missing or invalid; the message names it.
    InvalidEnvironment = 4,
    /// 5: reading or writing failed.
    Io = 5,
    /// 6: the configuration is not JSON.
    Decode = 6,
    /// 7: the configuration is JSON and not valid, or cannot be had (an exhausted pool).
    InvalidNetworkConfig = 7,
    /// 8: `CNI_NETNS` is not a network namespace, or is the host's own.
    InvalidNetns = 8,
    /// 11: try again later.
    TryAgainLater = 11,
    /// 50: STATUS, an ADD would fail.
    NotReady = 50,
    /// 51: STATUS, an ADD would fail and what runs may be without network.
    Degraded = 51,
    /// 100: the plugin runs in another host network namespace than the daemon.
    ForeignHost = 100,
    /// 101: the attachment, or the interface in the container, exists already.
    Exists = 101,
    /// 102: the peer may not use the daemon's socket.
    Forbidden = 102,
    /// 103: plugin and daemon have no protocol version in common.
    IncompatibleProtocol = 103,
    /// 104: the kernel refused a step; what was made for the container was undone.
    Kernel = 104,
    /// 105: CHECK found a difference between the record and the kernel.
    CheckFailed = 105,
    /// 106: the daemon, or a delegated plugin, failed in a way it should not; the log has more.
    Internal = 106,
}

impl Code {
    /// The number of the code.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// An error as a runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// What kind of failure.
    pub code: Code,
    /// What was being done, to which object.
    pub msg: String,
    /// Why it failed and what to do; may be empty.
    pub details: String,
}

impl CniError {
    /// An error with no details yet.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same error with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The JSON document for stdout. `version` is the configuration's `cniVersion` as it was given,
    /// if it could be read.
    pub fn to_json(&self, version: Option<&str>) -> String {
        let version = version.filter(|v| !v.is_empty()).unwrap_or(Version::NEWEST.as_str());
        let mut object = json!({
            "cniVersion": version,
            "code": self.code.number(),
            "msg": self.msg,
        });
        if let (Some(map), false) = (object.as_object_mut(), self.details.is_empty()) {
            map.insert("details".to_owned(), self.details.clone().into());
        }
        object.to_string()
    }
}

/// Whether a document that [`CniError::to_json`] made has this code. A text in it cannot look like that: its
/// quotes are escaped.
pub fn has_code(document: &str, code: Code) -> bool {
    document.contains(&format!("\"code\":{},", code.number()))
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

impl std::error::Error for CniError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_documents_example() {
        let error = CniError::new(Code::InvalidNetworkConfig, "Failed to allocate IP address")
            .with_details("No IP addresses available in pool 172.20.0.0/16");
        let expected = json!({
            "cniVersion": "1.0.0",
            "code": 7,
            "msg": "Failed to allocate IP address",
            "details": "No IP addresses available in pool 172.20.0.0/16"
        });
        let printed: serde_json::Value =
            serde_json::from_str(&error.to_json(Some("1.0.0"))).expect("json");
        assert_eq!(printed, expected);
    }

    #[test]
    fn a_code_is_found_and_not_in_a_text() {
        for details in ["", "see \"code\":11,"] {
            let error = CniError::new(Code::Kernel, "said \"code\":11,").with_details(details);
            let document = error.to_json(None);
            assert!(has_code(&document, Code::Kernel) && !has_code(&document, Code::TryAgainLater));
        }
    }
}
