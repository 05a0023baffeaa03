//! Who an attachment is, for policy: its namespace, its name, its labels, each with who gave it, and the
//! names of its ports.
//!
//! | source, the later one wins                                | may use reserved keys      |
//! |------------------------------------------------------------|----------------------------|
//! | the network's `policy.labels`                              | yes, but for `cni.quantum` |
//! | `args.cni.labels`                                          | no                         |
//! | the pod's annotation `policy.quantum/labels`               | no                         |
//! | the operator, while the container runs, who takes labels away, too | yes, but for `cni.quantum` |
//! | the daemon: `cni.quantum/network`, `cni.quantum/ifname`    | it alone                   |
//!
//! What may not be is refused, and the container is not attached. A label that was left out instead would
//! take the container out of the policies that were meant to hold it back.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bounds::bounded;
use super::netconf::invalid;
use super::{Call, CniError, Definition, Environment, NetConf, Transport};
use crate::ids::AttachmentKey;
use crate::labels::{Labels, OperatorLabels, is_label_key, is_label_value, is_port_name};

/// The label by which the operator has one container's denials noted only, or not.
pub const MODE_LABEL: &str = "policy.quantum/mode";
/// The label that says the network's name.
pub const NETWORK_LABEL: &str = "cni.quantum/network";
/// The label that says the interface's name in the container.
pub const IFNAME_LABEL: &str = "cni.quantum/ifname";

const LABELS_ANNOTATION: &str = "policy.quantum/labels";
const PORTS_ANNOTATION: &str = "policy.quantum/named-ports";
/// The annotations of pods that are read.
pub(super) const ANNOTATIONS: [&str; 2] = [LABELS_ANNOTATION, PORTS_ANNOTATION];
/// The namespace of who names none, as in Kubernetes.
const DEFAULT_NAMESPACE: &str = "default";
/// What `policy.mode` and the label of that name can be.
const MODES: [&str; 2] = ["enforce", "audit"];

/// Who gave a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelSource {
    /// The network's configuration.
    Network,
    /// The call, in `args.cni.labels`.
    Args,
    /// The pod, in an annotation.
    Annotation,
    /// The operator.
    Operator,
    /// The daemon.
    Daemon,
}

impl fmt::Display for LabelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "policy.labels",
            Self::Args => "args.cni.labels",
            Self::Annotation => LABELS_ANNOTATION,
            Self::Operator => "operator",
            Self::Daemon => "daemon",
        })
    }
}

/// A label's value, and who gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The value.
    pub value: String,
    /// Who gave it.
    pub source: LabelSource,
}

/// A port of an endpoint that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// What it is of.
    pub transport: Transport,
    /// Its number.
    pub number: u16,
}

/// Who an attachment is, as it was said when it was made. The default is one of whom nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    is_known: bool,
    /// Its namespace; empty if it is not known.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// The pod's UID.
    pub uid: Option<String>,
    /// What the network, the call and the pod call it.
    pub labels: BTreeMap<String, Label>,
    /// Its ports that have names.
    pub ports: Vec<NamedPort>,
}

impl Identity {
    /// One of whom nothing is known: the record was lost, or an earlier release made it. Which policies
    /// mean it cannot be judged, so nothing may be allowed to it that any could deny.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// It was said who it is.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// All its labels. What the operator says now wins over what was said when it was made, and nothing
    /// over what the daemon knows by itself.
    pub fn all_labels(
        &self,
        key: &AttachmentKey,
        operator: &OperatorLabels,
    ) -> BTreeMap<String, Label> {
        let mut all = self.labels.clone();
        all.retain(|key, _| !is_removed(key, operator));
        let given = operator.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        add(&mut all, LabelSource::Operator, given);
        let own = [
            (NETWORK_LABEL.to_owned(), key.network.to_string()),
            (IFNAME_LABEL.to_owned(), key.ifname.to_string()),
        ];
        add(&mut all, LabelSource::Daemon, own);
        all
    }

    /// The labels that it came with and that the operator has taken away.
    pub fn removed_labels(&self, operator: &OperatorLabels) -> BTreeMap<String, Label> {
        let mut removed = self.labels.clone();
        removed.retain(|key, _| is_removed(key, operator));
        removed
    }
}

fn is_removed(key: &str, operator: &OperatorLabels) -> bool {
    operator.get(key).is_some_and(Option::is_none)
}

impl Call {
    /// Who the call's container is in `network`. What may not be is code 7, and named.
    pub fn identity(&self, network: &Definition, env: &Environment) -> Result<Identity, CniError> {
        let said = |key| env.arg(key).filter(|text| !text.is_empty());
        let mut labels = BTreeMap::new();
        add(&mut labels, LabelSource::Network, network.labels.clone());
        let given = self.conf.args.cni.labels.iter();
        let given: Vec<_> = given.map(|label| (label.key.clone(), label.value.clone())).collect();
        check_all(LabelSource::Args, &given)?;
        add(&mut labels, LabelSource::Args, given);
        if let Some(text) = self.annotation(LABELS_ANNOTATION)? {
            let annotated = labels_of(text)?;
            check_all(LabelSource::Annotation, &annotated)?;
            add(&mut labels, LabelSource::Annotation, annotated);
        }
        let ports = self.annotation(PORTS_ANNOTATION)?.map(ports_of).transpose()?;
        Ok(Identity {
            is_known: true,
            namespace: said("K8S_POD_NAMESPACE").unwrap_or(DEFAULT_NAMESPACE).to_owned(),
            name: said("K8S_POD_NAME").unwrap_or(&env.container).to_owned(),
            uid: said("K8S_POD_UID").map(str::to_owned),
            labels,
            ports: ports.unwrap_or_default(),
        })
    }

    /// An annotation of the pod; others' are none of ours.
    fn annotation(&self, name: &str) -> Result<Option<&str>, CniError> {
        match self.conf.runtime_config.pod_annotations.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(invalid(format!("annotation {name}: {other} is not a string"))),
        }
    }
}

/// The network's labels, checked.
pub(super) fn network_labels(conf: &NetConf) -> Result<Labels, CniError> {
    let labels = &conf.policy.labels;
    for (key, value) in labels {
        check(LabelSource::Network, key, value)?;
    }
    Ok(labels.clone())
}

/// Whether the operator may give a container this label; if not, why.
pub fn operators_label(key: &str, value: &str) -> Result<(), CniError> {
    check(LabelSource::Operator, key, value)
}

/// Whether the operator may take this label away from a container; if not, why.
pub fn operators_removal(key: &str) -> Result<(), CniError> {
    let source = LabelSource::Operator;
    let refuse = |why: &str| Err(invalid(format!("{source}: label {key:?} {why}")));
    if !is_label_key(key) {
        return refuse("is not the key of a label");
    }
    match reserved_for(key) {
        Some(LabelSource::Daemon) => refuse("is the daemon's, and cannot be taken away"),
        _ => Ok(()),
    }
}

fn check_all(source: LabelSource, labels: &[(String, String)]) -> Result<(), CniError> {
    labels.iter().try_for_each(|(key, value)| check(source, key, value))
}

/// Whether `source` may give a label.
fn check(source: LabelSource, key: &str, value: &str) -> Result<(), CniError> {
    let refuse = |why: &str| Err(invalid(format!("{source}: label {key:?} {why}")));
    if !is_label_key(key) {
        return refuse("is not the key of a label");
    }
    if !is_label_value(value) {
        let rule = "of up to 63 letters, digits, '-', '_' and '.'";
        return refuse(&format!("has the value {value:?}, which is none {rule}"));
    }
    let is_trusted = matches!(source, LabelSource::Network | LabelSource::Operator);
    match reserved_for(key) {
        Some(LabelSource::Daemon) => refuse("is reserved: the daemon alone sets it"),
        Some(_) if !is_trusted => {
            refuse("is reserved: the network's policy.labels may set it, or the operator")
        }
        _ if key == MODE_LABEL && !MODES.contains(&value) => {
            refuse(&format!("has the value {value:?}, which is not enforce or audit"))
        }
        _ => Ok(()),
    }
}

/// Who alone may set a label, besides those above him; none if everybody may. The labels that Kubernetes
/// recommends to everybody stand among its own.
fn reserved_for(key: &str) -> Option<LabelSource> {
    let (prefix, _) = key.split_once('/')?;
    let is_below = |domain: &str| {
        prefix.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    };
    if is_below("cni.quantum") {
        return Some(LabelSource::Daemon);
    }
    let is_reserved = ["policy.quantum", "kubernetes.io", "k8s.io"].into_iter().any(is_below);
    (is_reserved && prefix != "app.kubernetes.io").then_some(LabelSource::Network)
}

fn add(
    labels: &mut BTreeMap<String, Label>,
    source: LabelSource,
    given: impl IntoIterator<Item = (String, String)>,
) {
    labels.extend(given.into_iter().map(|(key, value)| (key, Label { value, source })));
}

/// `k=v,k2=v2`, or a JSON object of strings.
fn labels_of(text: &str) -> Result<Vec<(String, String)>, CniError> {
    if text.trim_start().starts_with('{') {
        let read: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|e| unreadable(LABELS_ANNOTATION, &e))?;
        return Ok(read.into_iter().collect());
    }
    let read = |piece: &str| {
        let (key, value) = piece.split_once('=').ok_or_else(|| {
            invalid(format!("annotation {LABELS_ANNOTATION}: {piece:?} is not a key=value"))
        })?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    pieces(text).map(read).collect()
}

/// `http=80,dns=53/udp`, or a list of containers' ports as in a pod's specification, in JSON.
fn ports_of(text: &str) -> Result<Vec<NamedPort>, CniError> {
    let mut ports: Vec<NamedPort> = Vec::new();
    let read = match text.trim_start().starts_with('[') {
        true => listed_ports(text)?,
        false => pieces(text).map(short_port).collect::<Result<_, _>>()?,
    };
    bounded(&format!("annotation {PORTS_ANNOTATION}"), read.len())?;
    for (name, number, transport) in read {
        let refuse =
            |why: &str| Err(invalid(format!("annotation {PORTS_ANNOTATION}: port {name:?} {why}")));
        if !is_port_name(&name) {
            return refuse("is not the name of a port: up to 15 small letters, digits and '-'");
        }
        let known = [Transport::Tcp, Transport::Udp, Transport::Sctp];
        let Some(transport) =
            known.into_iter().find(|t| t.to_string().eq_ignore_ascii_case(&transport))
        else {
            return refuse(&format!("is of {transport:?}, which is not tcp, udp or sctp"));
        };
        let Some(number) = number.parse().ok().filter(|number| *number != 0) else {
            return refuse(&format!("has the number {number:?}, which is not 1 to 65535"));
        };
        if ports.iter().any(|port| port.name == name && port.transport == transport) {
            return refuse("is there twice");
        }
        ports.push(NamedPort { name, transport, number });
    }
    Ok(ports)
}

/// Name, number and transport as they were said.
type Said = (String, String, String);

fn short_port(piece: &str) -> Result<Said, CniError> {
    let (name, port) = piece.split_once('=').ok_or_else(|| {
        invalid(format!("annotation {PORTS_ANNOTATION}: {piece:?} is not a name=port/protocol"))
    })?;
    let (number, transport) = port.split_once('/').unwrap_or((port, "tcp"));
    let text = |part: &str| part.trim().to_owned();
    Ok((text(name), text(number), text(transport)))
}

/// One without a name says nothing that anybody could ask for.
fn listed_ports(text: &str) -> Result<Vec<Said>, CniError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed {
        name: Option<String>,
        container_port: u64,
        protocol: Option<String>,
    }
    let listed: Vec<Listed> =
        serde_json::from_str(text).map_err(|e| unreadable(PORTS_ANNOTATION, &e))?;
    let said = |port: Listed| {
        let transport = port.protocol.unwrap_or_else(|| "tcp".to_owned());
        Some((port.name?, port.container_port.to_string(), transport))
    };
    Ok(listed.into_iter().filter_map(said).collect())
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|piece| !piece.is_empty())
}

fn unreadable(annotation: &str, error: &serde_json::Error) -> CniError {
    invalid(format!("annotation {annotation} cannot be read as JSON"))
        .with_details(error.to_string())
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
