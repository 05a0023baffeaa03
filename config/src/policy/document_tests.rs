//! Tests of what documents are told apart by.

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
    let [Document::Namespace(namespace), Document::Network(web), Document::Ordered(all)] =
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

#[test]
fn a_list_is_what_it_lists() {
    let item =
        |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""},
        "items": [item("a"), {"apiVersion": "v1", "kind": "Pod"}, item("b")]});
    let text = format!("{list} {}", item("c"));
    let found = read_each(&text);
    let names: Vec<_> = found.iter().flatten().map(|document| document.key().name).collect();
    assert_eq!((found.len(), names), (4, ["a", "b", "c"].map(str::to_owned).to_vec()));
    assert_eq!(read_each_yaml(&list.to_string()).len(), 3);
    for (list, named) in [
        (json!({"apiVersion": "v1", "kind": "List"}), "List: items is missing"),
        (json!({"apiVersion": "v1", "kind": "List", "items": {}}), "List: items={} is not a list"),
        (
            json!({"apiVersion": "v1", "kind": "List", "items": [], "item": 1}),
            "item=1 is not a known",
        ),
    ] {
        let [Err(error)] = &read_each(&list.to_string())[..] else { panic!("{list}") };
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn kinds_that_are_not_ours_are_staged_by_an_annotation() {
    let of = |version: &str, kind: &str, mode: &str, spec: Value| {
        read(&json!({"apiVersion": version, "kind": kind, "spec": spec, "metadata":
            {"name": "p", "annotations": {"a.example/b": 1, "policy.quantum/mode": mode}}}))
    };
    let cluster = json!({"tier": "Admin", "priority": 0, "subject": {"namespaces": {}}});
    let node = json!({"tier": "Admin", "priority": 0, "subject": {}});
    for (mode, expected) in [("audit", Some(true)), ("enforce", Some(false)), ("dry", None)] {
        for (version, kind, spec) in [
            ("networking.k8s.io/v1", "NetworkPolicy", json!({})),
            ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", cluster.clone()),
        ] {
            let found = of(version, kind, mode, spec).ok().map(|document| document.is_staged());
            assert_eq!(found, expected, "{kind} {mode}");
        }
        let error = of("policy.quantum/v1alpha1", "NodePolicy", mode, node.clone());
        assert!(error.expect_err("refused").to_string().contains("use spec.mode"));
    }
}

#[test]
fn what_cannot_be_read_has_a_key_if_it_says_so() {
    let value = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p"}, "spec": {"ingres": []}});
    let key = DocumentKey::of_unread(&value).expect("a key");
    assert_eq!(key.to_string(), "NetworkPolicy default/p");
    assert_eq!(DocumentKey::of_unread(&json!({"kind": "Namespace"})), None);
}

/// As it is for Kubernetes' tools: a namespace `y` that is not quoted is not one's own of that name.
#[test]
fn words_for_true_and_false_are_no_strings() {
    for word in ["y", "n", "yes", "no", "on", "off", "true", "false"] {
        let of = |name: &str| {
            let text = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
            read_each_yaml(&text).remove(0)
        };
        assert!(of(word).is_err(), "{word}");
        assert!(of(&format!("\"{word}\"")).is_ok(), "{word}");
    }
}
