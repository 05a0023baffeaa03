//! The environment of a CNI call: six variables and the rules for them.

use std::fmt;

use super::{CniError, Code};
use crate::ids::{ContainerId, IfName};

/// The verbs of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Attach a container to a network.
    Add,
    /// Detach it.
    Del,
    /// Is the attachment as ADD left it?
    Check,
    /// Remove every attachment that is not listed as valid.
    Gc,
    /// Could an ADD succeed now?
    Status,
    /// Which versions are spoken?
    Version,
}

impl Command {
    /// The verb as it stands in `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// Reads `CNI_COMMAND`: upper case only.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version]
            .into_iter()
            .find(|c| c.as_str() == text)
            .ok_or_else(|| {
                CniError::new(Code::InvalidEnvironment, format!("unknown CNI_COMMAND: {text:?}"))
                    .with_details("known are ADD, DEL, CHECK, GC, STATUS and VERSION")
            })
    }

    fn needs_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }

    fn needs_netns(self) -> bool {
        matches!(self, Self::Add | Self::Check)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The variables of one call as the runtime set them. An unset variable and an empty one are the
/// same: libcni sets all six for every verb, some of them empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`
    pub command: String,
    /// `CNI_CONTAINERID`
    pub container: String,
    /// `CNI_NETNS`, a path. Only the plugin opens it.
    pub netns: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`, `K=V;K=V`
    pub args: String,
    /// `CNI_PATH`
    pub path: String,
    /// `CNI_NETNS_OVERRIDE` is `1` or `true`: a container in the host's namespace is wanted.
    pub netns_override: bool,
}

impl Environment {
    /// Takes the variables from `get`. A value that is not UTF-8 is kept with replacement
    /// characters, so that validation refuses it by name.
    pub fn from_vars(get: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let text = |name| get(name).map(|v| v.to_string_lossy().into_owned()).unwrap_or_default();
        let netns_override = text("CNI_NETNS_OVERRIDE");
        Self {
            command: text("CNI_COMMAND"),
            container: text("CNI_CONTAINERID"),
            netns: text("CNI_NETNS"),
            ifname: text("CNI_IFNAME"),
            args: text("CNI_ARGS"),
            path: text("CNI_PATH"),
            netns_override: netns_override == "1" || netns_override.eq_ignore_ascii_case("true"),
        }
    }

    /// Checks what this verb requires: first that nothing is missing (all missing variables are
    /// named at once), then each value. Values that the verb does not use are not looked at.
    pub fn validate(&self) -> Result<Command, CniError> {
        let command = Command::parse(&self.command)?;
        let required = [
            ("CNI_CONTAINERID", &self.container, command.needs_attachment()),
            ("CNI_NETNS", &self.netns, command.needs_netns()),
            ("CNI_IFNAME", &self.ifname, command.needs_attachment()),
        ];
        let missing: Vec<&str> = required
            .iter()
            .filter(|(_, value, needed)| *needed && value.is_empty())
            .map(|(name, _, _)| *name)
            .collect();
        if !missing.is_empty() {
            return Err(CniError::new(
                Code::InvalidEnvironment,
                format!("required env variables [{}] missing", missing.join(",")),
            ));
        }
        if command.needs_attachment() {
            self.both_names()?;
        }
        Ok(command)
    }

    /// Both names, so that whoever gave two bad ones hears of both.
    fn both_names(&self) -> Result<(), CniError> {
        match (self.container_id(), self.interface()) {
            (Err(container), Err(interface)) => Err(CniError::new(
                Code::InvalidEnvironment,
                format!("{}; {}", container.msg, interface.msg),
            )
            .with_details(format!("{}; {}", container.details, interface.details))),
            (container, interface) => container.and(interface).map(|_| ()),
        }
    }

    /// `CNI_CONTAINERID`, checked.
    pub fn container_id(&self) -> Result<ContainerId, CniError> {
        ContainerId::new(self.container.as_str()).map_err(|e| {
            CniError::new(Code::InvalidEnvironment, format!("CNI_CONTAINERID: {e}"))
                .with_details(e.value)
        })
    }

    /// `CNI_IFNAME`, checked.
    pub fn interface(&self) -> Result<IfName, CniError> {
        IfName::new(self.ifname.as_str()).map_err(|e| {
            CniError::new(Code::InvalidEnvironment, format!("CNI_IFNAME: {e}"))
                .with_details(e.value)
        })
    }

    /// The value of `key` in `CNI_ARGS`; the last one wins. Unknown keys and pieces without `=` are
    /// let pass: every Kubernetes runtime sends some.
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.args
            .split(';')
            .filter_map(|piece| piece.split_once('='))
            .filter(|(k, _)| *k == key)
            .map(|(_, v)| v)
            .next_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: &str) -> Environment {
        Environment {
            command: command.to_owned(),
            container: "c1".to_owned(),
            netns: "/run/netns/x".to_owned(),
            ifname: "eth0".to_owned(),
            ..Environment::default()
        }
    }

    #[test]
    fn all_missing_variables_are_named_together() {
        let env = Environment { command: "ADD".to_owned(), ..Environment::default() };
        let error = env.validate().expect_err("nothing is set");
        assert_eq!(error.code, Code::InvalidEnvironment);
        assert_eq!(
            error.msg,
            "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"
        );
    }

    #[test]
    fn del_needs_no_netns_and_gc_needs_nothing() {
        let mut env = call("DEL");
        env.netns.clear();
        assert_eq!(env.validate(), Ok(Command::Del));
        for verb in ["GC", "STATUS", "VERSION"] {
            let env = Environment { command: verb.to_owned(), ..Environment::default() };
            assert!(env.validate().is_ok(), "{verb}");
        }
    }

    #[test]
    fn values_are_checked_only_where_they_are_used() {
        let mut env = call("ADD");
        env.container = "some-%%container-id".to_owned();
        let error = env.validate().expect_err("bad id");
        assert_eq!(
            (error.code, error.details.as_str()),
            (Code::InvalidEnvironment, "some-%%container-id")
        );
        env.command = "STATUS".to_owned();
        assert!(env.validate().is_ok());
    }

    #[test]
    fn verbs_are_upper_case() {
        for bad in ["add", "NOPE", " ADD"] {
            assert!(call(bad).validate().is_err(), "{bad}");
        }
    }

    #[test]
    fn args_are_read_leniently() {
        let mut env = call("ADD");
        env.args = "IgnoreUnknown=1;junk;K8S_POD_NAME=web;MAC=02:00:00:00:00:01".to_owned();
        assert_eq!(env.arg("K8S_POD_NAME"), Some("web"));
        assert_eq!(env.arg("mac"), None);
    }
}
