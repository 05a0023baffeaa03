//! Which kind a document is, and its metadata.

use std::fmt;

use serde_json::{Deserializer, Value};

use super::node::Node;
use super::selector::read_labels;
use super::unique::Unique;
use super::{Labels, NetworkPolicy, OrderedPolicy, PolicyError, cluster, node_policy};
use crate::labels::is_dns_name;

/// The label by which every namespace is known, whatever its document says.
pub(super) const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespace of a NetworkPolicy that names none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// Metadata that an API server adds, or that tools keep there, and that decides nothing.
const OTHER_METADATA: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The annotation by which the kinds that are not ours say that they are staged.
const MODE: &str = "policy.quantum/mode";

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nothing that can be read. It is the first, because what stands in for it is asked first.
    Broken,
    /// `Namespace` of `v1`.
    Namespace,
    /// `NetworkPolicy` of `networking.k8s.io/v1`.
    Network,
    /// `ClusterNetworkPolicy` of `policy.networking.k8s.io/v1alpha2`.
    Cluster,
    /// `NodePolicy` of `policy.quantum/v1alpha1`.
    Node,
}

/// What tells documents apart: of two with one key only one can hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentKey {
    /// What it is.
    pub kind: Kind,
    /// Its namespace; none for kinds that are of none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// A document, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A Namespace.
    Namespace(Namespace),
    /// A NetworkPolicy.
    Network(NetworkPolicy),
    /// A ClusterNetworkPolicy, a NodePolicy, or what stands in for a broken document.
    Ordered(OrderedPolicy),
}

impl DocumentKey {
    /// The key of what an operator names by its kind, in any case, and its name. None if there is no such
    /// kind.
    pub fn named(kind: &str, namespace: Option<&str>, name: &str) -> Option<Self> {
        let kinds = [Kind::Namespace, Kind::Network, Kind::Cluster, Kind::Node];
        let kind = kinds.into_iter().find(|known| known.to_string().eq_ignore_ascii_case(kind))?;
        let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
        let namespace = (kind == Kind::Network).then(|| namespace.to_owned());
        Some(Self { kind, namespace, name: name.to_owned() })
    }

    /// The key of a document that cannot be read, if that much of it can.
    pub fn of_unread(value: &Value) -> Option<Self> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let kind = kind(text("/apiVersion"), text("/kind"))?;
        let namespace = text("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE);
        let namespace = (kind == Kind::Network).then(|| namespace.to_owned());
        Some(Self { kind, namespace, name: text("/metadata/name")?.to_owned() })
    }
}

impl Document {
    /// What tells it from others.
    pub fn key(&self) -> DocumentKey {
        let (kind, namespace, name) = match self {
            Self::Namespace(namespace) => (Kind::Namespace, None, &namespace.name),
            Self::Network(policy) => (Kind::Network, Some(policy.namespace.clone()), &policy.name),
            Self::Ordered(policy) => (policy.kind, None, &policy.name),
        };
        DocumentKey { kind, namespace, name: name.clone() }
    }

    /// It decides nothing: what it would deny is noted.
    pub fn is_staged(&self) -> bool {
        match self {
            Self::Namespace(_) => false,
            Self::Network(policy) => policy.staged,
            Self::Ordered(policy) => policy.staged,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "broken document",
            Self::Namespace => "Namespace",
            Self::Network => "NetworkPolicy",
            Self::Cluster => "ClusterNetworkPolicy",
            Self::Node => "NodePolicy",
        })
    }
}

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A Namespace: its labels are all that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels, with the one that says its name.
    pub labels: Labels,
}

impl Namespace {
    /// A namespace that nobody has written a document of.
    pub fn undeclared(name: &str) -> Self {
        Self::new(name.to_owned(), Labels::new())
    }

    fn new(name: String, mut labels: Labels) -> Self {
        labels.insert(NAME_LABEL.to_owned(), name.clone());
        Self { name, labels }
    }
}

/// The metadata that decides something.
struct Metadata {
    namespace: Option<String>,
    name: String,
    labels: Labels,
    staged: bool,
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON documents that follow each other.
    Json,
    /// YAML documents, as Kubernetes' tools would read them: `yes` is no string, and nothing that is
    /// said twice is taken once.
    Yaml,
}

/// The documents of `text`, unread. The items of a `List` are taken out of it.
///
/// Behind what is not JSON there is nothing to be had any more. What is not YAML leaves nothing of the
/// whole text, as a parser that has lost its way does not know where the next document begins.
pub fn documents(text: &str, format: Format) -> Vec<Result<Value, PolicyError>> {
    let error = |format, why| PolicyError::Decode { format, why };
    let values: Vec<Result<Value, PolicyError>> = match format {
        Format::Json => {
            let values = Deserializer::from_str(text).into_iter::<Unique>();
            values.map(|read| read.map(|u| u.0).map_err(|e| error("JSON", e.to_string()))).collect()
        }
        Format::Yaml => {
            // An excerpt of the text would make several lines of an error.
            let options = serde_saphyr::options! { with_snippet: false };
            match serde_saphyr::from_multiple_with_options::<Value>(text, options) {
                Ok(values) => values.into_iter().map(Ok).collect(),
                Err(why) => vec![Err(error("YAML", why.to_string()))],
            }
        }
    };
    values.into_iter().flat_map(|value| value.map_or_else(|e| vec![Err(e)], items)).collect()
}

/// What a `List` of `v1` lists, as `kubectl get` writes it; anything else is itself.
fn items(value: Value) -> Vec<Result<Value, PolicyError>> {
    let of = |key| value.get(key).and_then(Value::as_str);
    if (of("apiVersion"), of("kind")) != (Some("v1"), Some("List")) {
        return vec![Ok(value)];
    }
    let listed = || {
        let root = Node::root("List", &value);
        let mut fields = root.fields()?;
        fields.skip(&["apiVersion", "kind", "metadata"]);
        let listed = fields.need("items")?.elements()?;
        fields.end()?;
        Ok(listed.iter().map(|item| Ok(item.value().clone())).collect())
    };
    listed().unwrap_or_else(|error| vec![Err(error)])
}

/// Reads the JSON documents of `text`. One that is refused does not hide the others.
pub fn read_each(text: &str) -> Vec<Result<Document, PolicyError>> {
    documents(text, Format::Json).into_iter().map(|value| read(&value?)).collect()
}

/// Reads the YAML documents of `text`.
pub fn read_each_yaml(text: &str) -> Vec<Result<Document, PolicyError>> {
    documents(text, Format::Yaml).into_iter().map(|value| read(&value?)).collect()
}

/// The kind that these two fields say; none if it is none of ours.
pub(super) fn kind(version: Option<&str>, kind: Option<&str>) -> Option<Kind> {
    match (version?, kind?) {
        ("v1", "Namespace") => Some(Kind::Namespace),
        ("networking.k8s.io/v1", "NetworkPolicy") => Some(Kind::Network),
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy") => Some(Kind::Cluster),
        ("policy.quantum/v1alpha1", "NodePolicy") => Some(Kind::Node),
        _ => None,
    }
}

/// Reads one document.
pub fn read(value: &Value) -> Result<Document, PolicyError> {
    let called = title(value);
    let root = Node::root(&called, value);
    let mut fields = root.fields()?;
    let (version, said) = (fields.need("apiVersion")?, fields.need("kind")?);
    let (version, said) = (version.text()?, said.text()?);
    let Some(kind) = kind(Some(version), Some(said)).filter(|kind| *kind != Kind::Broken) else {
        return Err(PolicyError::Kind {
            version: version.to_owned(),
            kind: said.to_owned(),
            document: called.clone(),
        });
    };
    let Metadata { namespace, name, labels, staged } =
        read_metadata(&fields.need("metadata")?, kind)?;
    if kind == Kind::Namespace {
        fields.skip(&["spec", "status"]);
        fields.end()?;
        return Ok(Document::Namespace(Namespace::new(name, labels)));
    }
    let spec = fields.need("spec")?;
    fields.skip(&["status"]);
    fields.end()?;
    match kind {
        Kind::Network => {
            let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
            NetworkPolicy::read(namespace, name, staged, &spec).map(Document::Network)
        }
        Kind::Cluster => cluster::read(name, staged, &spec).map(Document::Ordered),
        _ => node_policy::read(name, &spec).map(Document::Ordered),
    }
}

fn read_metadata(node: &Node<'_>, kind: Kind) -> Result<Metadata, PolicyError> {
    let mut fields = node.fields()?;
    let name = fields.need("name")?;
    if !is_dns_name(name.text()?) {
        return Err(name.invalid("is not a name: small letters, digits, '-' and '.'"));
    }
    let namespace = if kind == Kind::Network { fields.get("namespace") } else { None };
    if let Some(namespace) = &namespace
        && (!is_dns_name(namespace.text()?) || namespace.text()?.contains('.'))
    {
        return Err(namespace.invalid("is not the name of a namespace"));
    }
    let labels = fields.get("labels").map(|node| read_labels(&node)).transpose()?;
    let mut staged = false;
    for (key, value) in fields.get("annotations").map_or_else(|| Ok(Vec::new()), |a| a.entries())? {
        match kind {
            Kind::Network | Kind::Cluster if key == MODE => {
                staged = node_policy::read_mode(&value)?;
            }
            Kind::Node if key == MODE => {
                return Err(value.invalid("goes with other kinds: use spec.mode"));
            }
            _ => {}
        }
    }
    fields.skip(OTHER_METADATA);
    fields.end()?;
    Ok(Metadata {
        namespace: namespace.map(|node| node.text().map(str::to_owned)).transpose()?,
        name: name.text()?.to_owned(),
        labels: labels.unwrap_or_default(),
        staged,
    })
}

/// Whether metadata may have such a field.
pub(super) fn is_metadata(key: &str) -> bool {
    ["name", "namespace", "labels", "annotations"].contains(&key) || OTHER_METADATA.contains(&key)
}

/// What errors call a document: its kind and its name, as far as it has them.
fn title(value: &Value) -> String {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or("document");
    let name = text("/metadata/name").unwrap_or("without a name");
    match text("/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
