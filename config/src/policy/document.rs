//! Which kind a document is, and its metadata.

use serde_json::{Deserializer, Value};

use super::node::Node;
use super::selector::read_labels;
use super::unique::Unique;
use super::{ClusterPolicy, Labels, NetworkPolicy, PolicyError};
use crate::labels::is_dns_name;

/// The label by which every namespace is known, whatever its document says.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespace of a NetworkPolicy that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Metadata that an API server adds, or that tools keep there, and that decides nothing.
const OTHER_METADATA: &[&str] = &[
    "annotations",
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

/// A document, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A Namespace.
    Namespace(Namespace),
    /// A NetworkPolicy.
    Network(NetworkPolicy),
    /// A ClusterNetworkPolicy.
    Cluster(ClusterPolicy),
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
}

/// Reads the JSON documents that follow each other in `text`. One that is refused does not hide the
/// others; behind what is not JSON there is nothing to read any more.
pub fn read_each(text: &str) -> Vec<Result<Document, PolicyError>> {
    let values = Deserializer::from_str(text).into_iter::<Unique>();
    let read_one = |value: Result<Unique, serde_json::Error>| match value {
        Ok(Unique(value)) => read(&value),
        Err(error) => Err(PolicyError::Decode { format: "JSON", why: error.to_string() }),
    };
    values.map(read_one).collect()
}

/// Reads the YAML documents of `text`, as Kubernetes' tools would: `yes` is no string, and nothing that
/// is said twice is taken once. What is not YAML leaves nothing of the whole text, as a parser that has
/// lost its way does not know where the next document begins.
pub fn read_each_yaml(text: &str) -> Vec<Result<Document, PolicyError>> {
    // An excerpt of the text would make several lines of an error.
    let options = serde_saphyr::options! { with_snippet: false };
    match serde_saphyr::from_multiple_with_options::<Value>(text, options) {
        Ok(values) => values.iter().map(read).collect(),
        Err(error) => {
            vec![Err(PolicyError::Decode { format: "YAML", why: error.to_string() })]
        }
    }
}

/// Reads one document.
pub fn read(value: &Value) -> Result<Document, PolicyError> {
    let called = title(value);
    let root = Node::root(&called, value);
    let mut fields = root.fields()?;
    let (version, kind) = (fields.need("apiVersion")?, fields.need("kind")?);
    let (version, kind) = (version.text()?, kind.text()?);
    match (version, kind) {
        ("v1", "Namespace") => {
            let metadata = read_metadata(&fields.need("metadata")?, false)?;
            fields.skip(&["spec", "status"]);
            fields.end()?;
            Ok(Document::Namespace(Namespace::new(metadata.name, metadata.labels)))
        }
        ("networking.k8s.io/v1", "NetworkPolicy") => {
            let metadata = read_metadata(&fields.need("metadata")?, true)?;
            let spec = fields.need("spec")?;
            fields.skip(&["status"]);
            fields.end()?;
            let namespace = metadata.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
            NetworkPolicy::read(namespace, metadata.name, &spec).map(Document::Network)
        }
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy") => {
            let metadata = read_metadata(&fields.need("metadata")?, false)?;
            let spec = fields.need("spec")?;
            fields.skip(&["status"]);
            fields.end()?;
            ClusterPolicy::read(metadata.name, &spec).map(Document::Cluster)
        }
        _ => Err(PolicyError::Kind {
            version: version.to_owned(),
            kind: kind.to_owned(),
            document: called.clone(),
        }),
    }
}

fn read_metadata(node: &Node<'_>, has_namespace: bool) -> Result<Metadata, PolicyError> {
    let mut fields = node.fields()?;
    let name = fields.need("name")?;
    if !is_dns_name(name.text()?) {
        return Err(name.invalid("is not a name: small letters, digits, '-' and '.'"));
    }
    let namespace = if has_namespace { fields.get("namespace") } else { None };
    if let Some(namespace) = &namespace
        && (!is_dns_name(namespace.text()?) || namespace.text()?.contains('.'))
    {
        return Err(namespace.invalid("is not the name of a namespace"));
    }
    let labels = fields.get("labels").map(|node| read_labels(&node)).transpose()?;
    fields.skip(OTHER_METADATA);
    fields.end()?;
    Ok(Metadata {
        namespace: namespace.map(|node| node.text().map(str::to_owned)).transpose()?,
        name: name.text()?.to_owned(),
        labels: labels.unwrap_or_default(),
    })
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
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_three_kinds_are_told_apart() {
        let text = r#"
            {"apiVersion": "v1", "kind": "Namespace",
             "metadata": {"name": "shop", "labels": {"team": "a"}, "uid": "1"}, "status": {}}
            {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
             "metadata": {"name": "web"}, "spec": {"podSelector": {}}}
            {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
             "metadata": {"name": "all"},
             "spec": {"tier": "Admin", "priority": 0, "subject": {"namespaces": {}}}}"#;
        let read: Result<Vec<Document>, _> = read_each(text).into_iter().collect();
        let [Document::Namespace(namespace), Document::Network(web), Document::Cluster(all)] =
            &read.expect("valid")[..]
        else {
            panic!("other kinds, or another order");
        };
        assert_eq!(namespace.labels.get(NAME_LABEL).map(String::as_str), Some("shop"));
        assert_eq!(namespace.labels.get("team").map(String::as_str), Some("a"));
        assert_eq!((web.namespace.as_str(), web.name.as_str()), ("default", "web"));
        assert_eq!((all.name.as_str(), all.priority), ("all", 0));
    }

    #[test]
    fn a_name_cannot_be_borrowed_by_a_label() {
        let value = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "a", "labels": {NAME_LABEL: "kube-system"}}});
        assert_eq!(read(&value), Ok(Document::Namespace(Namespace::undeclared("a"))));
    }

    #[test]
    fn one_that_is_refused_does_not_hide_the_others() {
        let good = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}"#;
        let read = read_each(&format!(r#"{{"kind": "Pod", "apiVersion": "v1"}} {good} {{"#));
        assert_eq!(read.len(), 3);
        assert!(matches!(read[0], Err(PolicyError::Kind { .. })), "{read:?}");
        assert!(read[1].is_ok(), "{read:?}");
        assert!(matches!(read[2], Err(PolicyError::Decode { .. })), "{read:?}");
    }

    #[test]
    fn yaml_is_read_as_json_is() {
        let text = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - ports: [{port: 80}, {port: metrics}]
---
# nothing
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {internal: yes}}
";
        let read_all = read_each_yaml(text);
        let [Ok(web), Err(labelled)] = &read_all[..] else { panic!("{read_all:?}") };
        let same = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [{"ports": [{"port": 80}, {"port": "metrics"}]}]}});
        assert_eq!(Ok(web), read(&same).as_ref());
        let expected = "Namespace shop: metadata.labels.internal=true is not a string";
        assert_eq!(labelled.to_string(), expected);
    }

    #[test]
    fn what_is_not_yaml_or_says_something_twice_is_refused() {
        for text in ["a: [", "a: 1\na: 2", "a: 1\n---\nb: }"] {
            let read = read_each_yaml(text);
            let [Err(PolicyError::Decode { format: "YAML", why })] = &read[..] else {
                panic!("{text}: {read:?}");
            };
            assert!(why.contains("line") && !why.contains('\n'), "{why}");
        }
        assert!(read_each_yaml("").is_empty() && read_each_yaml("# nothing").is_empty());
    }

    /// Ten lines of aliases would make a thousand million values.
    #[test]
    fn aliases_do_not_grow_without_bounds() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let before = format!("*a{}", n - 1);
            let list = vec![before; 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{list}]\n"));
        }
        assert!(matches!(read_each_yaml(&text)[..], [Err(PolicyError::Decode { .. })]));
    }

    #[test]
    fn errors_name_the_document_the_field_and_the_value() {
        let policy = |metadata: Value, spec: Value| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": metadata, "spec": spec})
        };
        for (value, expected) in [
            (
                policy(json!({"name": "web", "namespace": "shop"}), json!({"policyTypes": ["in"]})),
                "NetworkPolicy shop/web: spec.policyTypes[0]=\"in\" is not Ingress or Egress",
            ),
            (
                policy(json!({"name": "web", "label": {}}), json!({})),
                "NetworkPolicy web: metadata.label={} is not a known field",
            ),
            (
                policy(json!({"namespace": "shop"}), json!({})),
                "NetworkPolicy shop/without a name: metadata.name is missing",
            ),
            (
                policy(json!({"name": "web", "namespace": "a/b"}), json!({})),
                "NetworkPolicy a/b/web: metadata.namespace=\"a/b\" is not the name of a namespace",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "A"}}),
                "Namespace A: metadata.name=\"A\" is not a name: small letters, digits, '-' and '.'",
            ),
            (json!([]), "document without a name: the document=[] is not an object"),
            (
                json!({"apiVersion": "v1", "kind": "Pod"}),
                "Pod without a name: kind \"Pod\" of apiVersion \"v1\" is not known",
            ),
        ] {
            assert_eq!(read(&value).expect_err("invalid").to_string(), expected);
        }
    }
}
