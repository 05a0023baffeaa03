//! What a document that cannot be read could have decided, as exactly as can be told: it is denied until
//! somebody mends the document. What cannot be told is taken for the most it could have been.

use serde_json::Value;

use super::node::Node;
use super::{Direction, Document, Kind, OrderedPolicy, Reach, Selector, Subject};
use super::{cluster, document, node_policy};

impl Reach {
    /// Everything.
    pub fn everything() -> Self {
        Self { subject: Subject::default(), ingress: true, egress: true }
    }

    /// What `value` could have decided, which could not be read as a document.
    pub fn of_unread(value: &Value) -> Self {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        match document::kind(text("/apiVersion"), text("/kind")) {
            // What others say of its endpoints depends on its labels, and it is they who are unknown.
            Some(Kind::Namespace) => match text("/metadata/name") {
                Some(name) => Self::of_namespace(name),
                None => Self::everything(),
            },
            Some(Kind::Network) => Self::of_network(value),
            Some(kind @ (Kind::Cluster | Kind::Node)) => Self::of_ordered(kind, value),
            Some(Kind::Broken) | None => Self::everything(),
        }
    }

    /// What a document could decide that has been read.
    pub fn of(document: &Document) -> Self {
        match document {
            Document::Namespace(namespace) => Self::of_namespace(&namespace.name),
            Document::Network(policy) => {
                let mut reach = Self::of_namespace(&policy.namespace);
                reach.subject.endpoints = policy.subject.clone();
                reach.ingress = policy.ingress.is_some();
                reach.egress = policy.egress.is_some();
                reach
            }
            Document::Ordered(policy) => {
                let speaks = |direction| !OrderedPolicy::rules(policy, direction).is_empty();
                Self {
                    subject: policy.subject.clone(),
                    ingress: speaks(Direction::Ingress),
                    egress: speaks(Direction::Egress),
                }
            }
        }
    }

    fn of_namespace(name: &str) -> Self {
        let namespaces = Selector::of_label(document::NAME_LABEL, name);
        Self { subject: Subject { namespaces, ..Subject::default() }, ..Self::everything() }
    }

    /// A NetworkPolicy is about one namespace, and selects there.
    fn of_network(value: &Value) -> Self {
        let Some(Value::Object(metadata)) = value.get("metadata") else {
            return Self::everything();
        };
        // A key with a slip of the pen may have been the namespace.
        let is_all_known = || metadata.keys().all(|key| document::is_metadata(key));
        let namespace = match metadata.get("namespace") {
            None | Some(Value::Null) if is_all_known() => document::DEFAULT_NAMESPACE,
            Some(Value::String(name)) => name,
            _ => return Self::everything(),
        };
        let mut reach = Self::of_namespace(namespace);
        let selector = value.pointer("/spec/podSelector");
        let selector = selector.map(|selector| Selector::read(&Node::root("", selector)));
        if let Some(Ok(endpoints)) = selector {
            reach.subject.endpoints = endpoints;
        }
        if let Some(Value::Array(types)) = value.pointer("/spec/policyTypes") {
            let is_read = |named: &Value| matches!(named.as_str(), Some("Ingress" | "Egress"));
            if !types.is_empty() && types.iter().all(is_read) {
                reach.ingress = types.iter().any(|named| named == "Ingress");
                reach.egress = types.iter().any(|named| named == "Egress");
            }
        }
        reach
    }

    /// The other kinds are about whom their subject says, and where they have rules.
    fn of_ordered(kind: Kind, value: &Value) -> Self {
        let mut reach = Self::everything();
        let Some(Value::Object(spec)) = value.get("spec") else { return reach };
        if let Some(subject) = spec.get("subject") {
            let node = Node::root("", subject);
            let subject = match kind {
                Kind::Node => node_policy::read_subject(&node),
                _ => cluster::read_subject(&node),
            };
            reach.subject = subject.unwrap_or_default();
        }
        // A key with a slip of the pen may have been a direction.
        let known = ["tier", "priority", "mode", "subject", "limits", "ingress", "egress"];
        if spec.keys().all(|key| known.contains(&key.as_str())) {
            let is_there = |key| spec.get(key).is_some_and(|rules| !rules.is_null());
            (reach.ingress, reach.egress) = (is_there("ingress"), is_there("egress"));
        }
        reach
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::Labels;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_network_policy_reaches_what_it_selects_in_its_namespace() {
        let of = |spec: Value| {
            Reach::of_unread(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": "p", "namespace": "shop"}, "spec": spec}))
        };
        let shop = labels(&[(document::NAME_LABEL, "shop")]);
        let web = labels(&[("app", "web")]);
        let reach = of(json!({"podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Ingress"], "ingres": []}));
        assert!(reach.ingress && !reach.egress);
        assert!(reach.subject.matches("n", &shop, &web));
        assert!(!reach.subject.matches("n", &shop, &labels(&[])));
        assert!(!reach.subject.matches("n", &labels(&[]), &web), "another namespace");
        let reach = of(json!({"podSelector": 1, "policyTypes": ["Ingress", "Out"]}));
        assert!(reach.ingress && reach.egress && reach.subject.matches("n", &shop, &web));
    }

    #[test]
    fn a_namespace_that_cannot_be_told_may_be_any() {
        let of = |metadata: Value| {
            Reach::of_unread(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": metadata, "spec": {"ingres": []}}))
        };
        for metadata in
            [json!({"name": "p", "namspace": "shop"}), json!({"namespace": true}), json!("p")]
        {
            assert_eq!(of(metadata.clone()), Reach::everything(), "{metadata}");
        }
        let default = labels(&[(document::NAME_LABEL, "default")]);
        let reach = of(json!({"name": "p", "uid": "1"}));
        assert!(reach.subject.matches("n", &default, &labels(&[])));
        assert_ne!(reach, Reach::everything());
    }

    #[test]
    fn an_ordered_policy_reaches_its_subject() {
        let of = |spec: Value| {
            Reach::of_unread(&json!({"apiVersion": "policy.quantum/v1alpha1", "kind": "NodePolicy",
                "metadata": {"name": "p"}, "spec": spec}))
        };
        let reach = of(json!({"subject": {"networks": ["a"]}, "ingress": [{"action": "Perhaps"}]}));
        assert!(reach.ingress && !reach.egress);
        let none = labels(&[]);
        assert!(
            reach.subject.matches("a", &none, &none) && !reach.subject.matches("b", &none, &none)
        );
        let reach = of(json!({"subject": {"networks": ["a"]}, "ingress": [], "egres": []}));
        assert!(reach.ingress && reach.egress);
        assert_eq!(of(json!({"subject": {"network": "a"}})).subject, Subject::default());
    }

    #[test]
    fn what_is_not_known_may_be_anything() {
        for value in [json!(1), json!({}), json!({"apiVersion": "v1", "kind": "Pod"})] {
            assert_eq!(Reach::of_unread(&value), Reach::everything(), "{value}");
        }
    }
}
