//! The versions of the CNI protocol this implementation speaks.

use std::fmt;

use super::{CniError, Code};

/// A version of the CNI specification, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0, also what a configuration without `cniVersion` is taken for.
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.3.0: lists, several addresses, interfaces in the result.
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` on DEL.
    V0_4_0,
    /// 1.0.0: no `version` in an address.
    V1_0_0,
    /// 1.1.0: GC and STATUS, MTU in interfaces.
    V1_1_0,
}

/// Every version, oldest first, as VERSION prints them.
pub const SUPPORTED_VERSIONS: [Version; 7] = [
    Version::V0_1_0,
    Version::V0_2_0,
    Version::V0_3_0,
    Version::V0_3_1,
    Version::V0_4_0,
    Version::V1_0_0,
    Version::V1_1_0,
];

impl Version {
    /// The newest version spoken.
    pub const NEWEST: Version = Version::V1_1_0;

    /// Reads the `cniVersion` of a configuration. The empty string is 0.1.0; anything else must be
    /// one of the supported versions to the letter.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        if text.is_empty() {
            return Ok(Self::V0_1_0);
        }
        SUPPORTED_VERSIONS.into_iter().find(|v| v.as_str() == text).ok_or_else(|| {
            CniError::new(Code::IncompatibleVersion, "incompatible CNI versions")
                .with_details(format!("config is {text:?}, plugin supports {}", supported_text()))
        })
    }

    /// The version as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Versions of one family have results of the same shape: addresses by family up to 0.2.0,
    /// lists with `version` up to 0.4.0, lists since.
    #[cfg(feature = "netconf")]
    pub(super) fn family(self) -> u8 {
        match self {
            Self::V0_1_0 | Self::V0_2_0 => 0,
            Self::V0_3_0 | Self::V0_3_1 | Self::V0_4_0 => 1,
            Self::V1_0_0 | Self::V1_1_0 => 2,
        }
    }

    /// Fails with code 1 when `command` does not exist in this version (CHECK before 0.4.0, GC and
    /// STATUS before 1.1.0).
    pub fn require(self, command: super::Command) -> Result<(), CniError> {
        let since = match command {
            super::Command::Check => Self::V0_4_0,
            super::Command::Gc | super::Command::Status => Self::V1_1_0,
            super::Command::Add | super::Command::Del | super::Command::Version => Self::V0_1_0,
        };
        if self >= since {
            return Ok(());
        }
        Err(CniError::new(
            Code::IncompatibleVersion,
            format!("config version {self} does not allow {command}"),
        )
        .with_details(format!("{command} exists since CNI {since}")))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `0.1.0, 0.2.0, …`, for messages and for the about text.
pub(super) fn supported_text() -> String {
    SUPPORTED_VERSIONS.map(Version::as_str).join(", ")
}

/// The document that VERSION prints. It depends on nothing: not on the daemon, not on stdin.
pub fn version_document() -> String {
    let list = SUPPORTED_VERSIONS.map(|v| format!("\"{v}\"")).join(",");
    format!("{{\"cniVersion\":\"{}\",\"supportedVersions\":[{list}]}}", Version::NEWEST)
}

/// What is printed on stderr when `CNI_COMMAND` is not set: somebody ran the plugin by hand.
pub fn about(plugin: &str, release: &str) -> String {
    format!("CNI {plugin} plugin v{release}\nCNI protocol versions supported: {}", supported_text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::Command;

    #[test]
    fn versions_are_matched_to_the_letter() {
        assert_eq!(Version::parse("").expect("the default"), Version::V0_1_0);
        assert_eq!(Version::parse("1.0.0").expect("known"), Version::V1_0_0);
        for bad in ["4.3.2", "1.0", "v1.0.0", " 1.0.0", "1.2.0"] {
            let error = Version::parse(bad).expect_err(bad);
            assert_eq!(error.code, Code::IncompatibleVersion);
            assert!(error.details.contains(bad) && error.details.contains("1.1.0"), "{error:?}");
        }
    }

    #[test]
    fn verbs_have_a_version_they_begin_with() {
        assert!(Version::V0_3_1.require(Command::Check).is_err());
        assert!(Version::V0_4_0.require(Command::Check).is_ok());
        assert!(Version::V1_0_0.require(Command::Gc).is_err());
        assert!(Version::V1_1_0.require(Command::Status).is_ok());
        assert!(Version::V0_1_0.require(Command::Del).is_ok());
    }

    #[test]
    fn the_version_document_is_json() {
        let value: serde_json::Value = serde_json::from_str(&version_document()).expect("json");
        assert_eq!(value["supportedVersions"].as_array().map(Vec::len), Some(7));
    }
}
