//! What is driven: one plugin or a chain of them, with their configurations, called as libcni
//! calls.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::answer::document;
use super::process;
use crate::world::{Container, IFNAME};

/// The version the configurations are written in.
const CNI_VERSION: &str = "1.0.0";
/// STATUS exists from this version on.
const STATUS_VERSION: &str = "1.1.0";
/// Host ports of port mappings begin here.
const FIRST_HOST_PORT: u16 = 20_000;
/// How many applications there are in a namespace.
pub(crate) const APPS: u16 = 5;

/// A verb of the protocol that is driven here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
    Status,
}

impl Verb {
    /// As in `CNI_COMMAND`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Status => "STATUS",
        }
    }
}

/// One plugin of a chain.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) binary: PathBuf,
    /// Its part of the configuration list, with `type`.
    pub(crate) conf: Map<String, Value>,
    /// The runtime gives it a port mapping.
    pub(crate) maps_ports: bool,
}

/// A network as a runtime would have it configured.
#[derive(Debug)]
pub(crate) struct Subject {
    /// What the report calls it.
    pub(crate) name: String,
    /// The name of the network.
    pub(crate) network: String,
    /// The bridge its configuration names.
    pub(crate) bridge: String,
    /// In the order of ADD.
    pub(crate) plugins: Vec<Plugin>,
    /// Its containers are so many in a namespace, with a label `app` by their number there; 0 is all of
    /// them in one, without labels.
    pub(crate) in_a_namespace: u16,
    /// Variables for its plugins beside those of the protocol.
    pub(crate) variables: Vec<(&'static str, OsString)>,
    /// After how long a plugin is killed.
    pub(crate) limit: Duration,
}

/// One call of the whole chain.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    /// The last plugin's document, or what went wrong.
    pub(crate) outcome: Result<Value, String>,
}

impl Subject {
    /// Calls the chain as libcni does: ADD in order, each plugin with the result of the one before;
    /// DEL in reverse, each with the final result of ADD, `previous`.
    pub(crate) fn call(
        &self,
        verb: Verb,
        container: &Container,
        previous: Option<&Value>,
    ) -> Answer {
        let mut order: Vec<&Plugin> = self.plugins.iter().collect();
        if verb == Verb::Del {
            order.reverse();
        }
        let mut next = order.first().map(|plugin| self.prepare(plugin, verb, container, previous));
        let started = Instant::now();
        let mut outcome = Ok(previous.cloned().unwrap_or_default());
        for position in 1..=order.len() {
            let Some((mut command, input)) = next.take() else { break };
            outcome = process::run(&mut command, &input, self.limit)
                .map_err(|failure| failure.to_string())
                .and_then(|finished| document(&finished));
            let Ok(result) = &outcome else { break };
            let handed_on = if verb == Verb::Add { Some(result) } else { previous };
            next =
                order.get(position).map(|plugin| self.prepare(plugin, verb, container, handed_on));
        }
        Answer { started, ended: Instant::now(), outcome }
    }

    /// The command and the input of one call of one plugin.
    pub(crate) fn prepare(
        &self,
        plugin: &Plugin,
        verb: Verb,
        container: &Container,
        previous: Option<&Value>,
    ) -> (Command, Vec<u8>) {
        let mut conf = plugin.conf.clone();
        let version = if verb == Verb::Status { STATUS_VERSION } else { CNI_VERSION };
        conf.insert("cniVersion".to_owned(), version.into());
        conf.insert("name".to_owned(), self.network.as_str().into());
        if let Some(previous) = previous.filter(|result| !result.is_null()) {
            conf.insert("prevResult".to_owned(), previous.clone());
        }
        if plugin.maps_ports {
            let mapping = json!({
                "hostPort": FIRST_HOST_PORT + container.number,
                "containerPort": 80,
                "protocol": "tcp",
            });
            conf.insert("runtimeConfig".to_owned(), json!({ "portMappings": [mapping] }));
        }

        let mut namespace = "loadtest".to_owned();
        if let Some(tenant) = container.number.checked_div(self.in_a_namespace) {
            namespace = format!("tenant-{tenant}");
            let app = format!("app-{}", container.number % APPS);
            let labels = json!({ "cni": { "labels": [{ "key": "app", "value": app }] } });
            conf.insert("args".to_owned(), labels);
        }
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=pod-{};\
             K8S_POD_INFRA_CONTAINER_ID={}",
            container.number, container.id
        );
        let mut command = Command::new(&plugin.binary);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", verb.as_str())
            .env("CNI_CONTAINERID", &container.id)
            .env("CNI_NETNS", container.netns.path())
            .env("CNI_IFNAME", IFNAME)
            .env("CNI_ARGS", args)
            .env("CNI_PATH", plugin.binary.parent().unwrap_or(Path::new("/")))
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        (command, Value::Object(conf).to_string().into_bytes())
    }
}
