//! Where labels come from, who wins, and what is refused.

use serde_json::json;

use super::super::Code;
use super::*;

const PODS: &str = "io.kubernetes.cri.pod-annotations";

fn identity(keys: Value, args: &str) -> Result<Identity, CniError> {
    let mut conf = json!({ "name": "shop-net", "bridge": "b" });
    let members = keys.as_object().expect("an object").clone();
    conf.as_object_mut().expect("an object").extend(members);
    let call = Call::parse(conf.to_string().as_bytes())?;
    let env =
        Environment { container: "c1".to_owned(), args: args.to_owned(), ..Environment::default() };
    call.identity(&call.definition()?, &env)
}

fn annotated(annotations: Value) -> Result<Identity, CniError> {
    identity(json!({ "runtimeConfig": { PODS: annotations } }), "")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn key() -> AttachmentKey {
    "shop-net/c1/eth0".parse().expect("a key")
}

/// `key=value (source)` of each label.
fn shown(labels: &BTreeMap<String, Label>) -> Vec<String> {
    labels.iter().map(|(key, l)| format!("{key}={} ({})", l.value, l.source)).collect()
}

#[test]
fn the_runtime_says_which_pod_it_is() {
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0;K8S_POD_UID=u-1";
    let pod = identity(json!({}), args).expect("valid");
    assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("shop", "db-0"));
    assert_eq!(pod.uid.as_deref(), Some("u-1"));
    for args in ["", "K8S_POD_NAMESPACE=;K8S_POD_NAME=;K8S_POD_UID="] {
        let plain = identity(json!({}), args).expect("valid");
        assert_eq!((plain.namespace.as_str(), plain.name.as_str()), ("default", "c1"));
        assert!(plain.is_known() && plain.uid.is_none() && plain.labels.is_empty());
    }
}

#[test]
fn the_later_source_wins_and_every_label_remembers_its_own() {
    let conf = json!({
        "policy": { "labels": { "a": "1", "b": "1", "c": "1", "d": "1", "policy.quantum/zone": "x" } },
        "args": { "cni": { "labels": [{ "key": "b", "value": "2" }, { "Key": "c", "Value": "2" },
                                      { "key": "d", "value": "2" }] } },
        "runtimeConfig": { PODS: { "policy.quantum/labels": "c=3, d=3,", "other/thing": "x" } },
    });
    let identity = identity(conf, "").expect("valid");
    let operator = labels(&[("d", "4"), (NETWORK_LABEL, "forged"), (MODE_LABEL, "audit")]);
    let operator = operator.into_iter().map(|(key, value)| (key, Some(value))).collect();
    let expected = [
        "a=1 (policy.labels)",
        "b=2 (args.cni.labels)",
        "c=3 (policy.quantum/labels)",
        "cni.quantum/ifname=eth0 (daemon)",
        "cni.quantum/network=shop-net (daemon)",
        "d=4 (operator)",
        "policy.quantum/mode=audit (operator)",
        "policy.quantum/zone=x (policy.labels)",
    ];
    assert_eq!(shown(&identity.all_labels(&key(), &operator)), expected);
    assert!(identity.removed_labels(&operator).is_empty());
    // What the operator takes away is away, whoever gave it, but for what the daemon knows.
    let away = ["a", "b", "c", "d", "never-there", NETWORK_LABEL];
    let operator = away.map(|key| (key.to_owned(), None)).into();
    let all = identity.all_labels(&key(), &operator);
    assert!(all.contains_key(NETWORK_LABEL) && all.contains_key("policy.quantum/zone"));
    assert!(!away[..5].iter().any(|key| all.contains_key(*key)), "{all:?}");
    let removed: Vec<_> = identity.removed_labels(&operator).into_keys().collect();
    assert_eq!(removed, ["a", "b", "c", "d"]);
}

#[test]
fn an_annotation_is_pairs_or_json() {
    for text in ["app=db,tier=", " app = db , tier= ", r#" {"app":"db","tier":""}"#] {
        let identity = annotated(json!({ "policy.quantum/labels": text })).expect(text);
        let expected = ["app=db (policy.quantum/labels)", "tier= (policy.quantum/labels)"];
        assert_eq!(shown(&identity.labels), expected, "{text}");
    }
    for none in [json!(null), json!({}), json!({ "policy.quantum/labels": null })] {
        assert!(annotated(none).expect("nothing said").labels.is_empty());
    }
    let odd = json!({ "kubernetes.io/config.seen": 7, "a": { "b": [] } });
    assert!(annotated(odd).expect("others' annotations").labels.is_empty());
}

#[test]
fn what_cannot_be_read_is_refused_and_not_left_out() {
    for bad in ["app", "a b=c", "a=b c", "=x", "{\"a\":1}", "{", "a=b/c", "app=db,-=x"] {
        let error = annotated(json!({ "policy.quantum/labels": bad })).expect_err(bad);
        assert_eq!(error.code, Code::InvalidNetworkConfig, "{bad}");
        assert!(error.msg.contains("policy.quantum/labels"), "{error}");
    }
    assert!(annotated(json!({ "policy.quantum/labels": 7 })).is_err());
    assert_eq!(annotated(json!(["a=b"])).expect_err("a list").code, Code::Decode);
}

#[test]
fn reserved_labels_cannot_be_forged() {
    let by_args = |key: &str| {
        let labels = json!([{ "key": "app", "value": "x" }, { "key": key, "value": "audit" }]);
        identity(json!({ "args": { "cni": { "labels": labels } } }), "")
    };
    let by_annotation =
        |key: &str| annotated(json!({ "policy.quantum/labels": format!("app=x,{key}=audit") }));
    let by_network = |key: &str| identity(json!({ "policy": { "labels": { key: "audit" } } }), "");
    for key in ["cni.quantum/network", "cni.quantum/x", "sub.cni.quantum/x"] {
        for refused in [by_args(key), by_annotation(key), by_network(key)] {
            let error = refused.expect_err(key);
            assert_eq!(error.code, Code::InvalidNetworkConfig);
            assert!(error.msg.contains(&format!("{key:?} is reserved")), "{error}");
        }
        assert!(operators_label(key, "x").is_err());
    }
    let operators = [
        MODE_LABEL,
        "policy.quantum/x",
        "kubernetes.io/metadata.name",
        "pod-security.kubernetes.io/x",
        "x.k8s.io/a",
    ];
    for key in operators {
        for refused in [by_args(key), by_annotation(key)] {
            assert!(refused.expect_err(key).msg.contains(&format!("{key:?} is reserved")));
        }
        assert!(by_network(key).is_ok() && operators_label(key, "audit").is_ok(), "{key}");
    }
    for key in ["app.kubernetes.io/name", "mykubernetes.io/a", "cni.quantum.example/x", "network"] {
        assert!(by_args(key).is_ok() && by_annotation(key).is_ok(), "{key}");
    }
    for pair in [("a b", "x"), ("a", "x y"), (MODE_LABEL, "off")] {
        assert!(operators_label(pair.0, pair.1).is_err(), "{pair:?}");
    }
    let error = identity(json!({ "policy": { "labels": { "a b": "" } } }), "").expect_err("no key");
    assert!(error.msg.starts_with("network \"shop-net\": policy.labels"), "{error}");
}

#[test]
fn ports_have_names_by_annotation() {
    let ports = |text: &str| {
        annotated(json!({ "policy.quantum/named-ports": text })).map(|identity| identity.ports)
    };
    let port = |name: &str, transport, number| NamedPort { name: name.into(), transport, number };
    let expected = [port("http", Transport::Tcp, 80), port("dns", Transport::Udp, 53)];
    for text in [
        "http=80,dns=53/udp",
        " http = 80/tcp , dns=53/UDP, ",
        r#"[{"name":"http","containerPort":80},{"containerPort":9},
            {"name":"dns","containerPort":53,"protocol":"UDP","hostIP":""}]"#,
    ] {
        assert_eq!(ports(text).expect(text), expected);
    }
    assert_eq!(ports("dns=53/tcp,dns=53/udp").expect("one name").len(), 2);
    for (bad, named) in [
        ("http", "name=port"),
        ("HTTP=80", "\"HTTP\""),
        ("http=0", "\"0\""),
        ("http=65536", "65536"),
        ("http=80/icmp", "icmp"),
        ("http=80,http=81", "twice"),
        ("[{\"name\":\"http\"}]", "JSON"),
        ("[{\"name\":\"http\",\"containerPort\":70000}]", "70000"),
    ] {
        let error = ports(bad).expect_err(bad);
        assert_eq!(error.code, Code::InvalidNetworkConfig);
        assert!(error.msg.contains(named) && error.msg.contains("named-ports"), "{error}");
    }
}

#[test]
fn a_record_of_an_earlier_release_is_of_somebody_unknown() {
    let unknown: Identity = serde_json::from_str("{}").expect("readable");
    assert_eq!(unknown, Identity::unknown());
    assert!(!unknown.is_known());
    let known = identity(json!({ "policy": { "labels": { "a": "b" } } }), "").expect("valid");
    let stored = serde_json::to_string(&known).expect("json");
    assert_eq!(serde_json::from_str::<Identity>(&stored).expect("readable"), known);
}
