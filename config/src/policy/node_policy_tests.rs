//! Tests of the reading of NodePolicy.

use serde_json::{Value, json};

use super::*;
use crate::cni::Transport;

fn policy(spec: &Value) -> Result<OrderedPolicy, PolicyError> {
    read("p".to_owned(), &Node::root("test", spec))
}

fn with(rule: Value) -> Value {
    json!({"tier": "Application", "priority": 20, "subject": {}, "ingress": [rule]})
}

fn rule(value: Value) -> Result<OrderedRule, PolicyError> {
    policy(&with(value)).map(|mut policy| policy.ingress.remove(0))
}

#[test]
fn all_that_it_may_say_is_read() {
    let spec = json!({
        "tier": "Admin", "priority": 20, "mode": "audit",
        "subject": {"networks": ["back", "front"], "namespaces": {},
            "endpoints": {"matchLabels": {"app": "db"}}},
        "ingress": [{
            "name": "from-web", "action": "Reject",
            "from": [{"endpoints": {"matchLabels": {"app": "web"}}},
                {"entities": ["host", "world", "same-network", "same-namespace", "self"]},
                {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}],
            "protocols": [{"tcp": {"destinationPort": {"range": {"start": 5432, "end": 5439}}}},
                {"sctp": {"destinationPort": {"number": 7}}}, {"destinationNamedPort": "metrics"},
                {"icmp": {"type": 8}}, {"icmpv6": {"type": 128, "code": 0}}, {"number": 47},
                {"icmp": {}}, {"icmpv6": {}}],
        }],
    });
    let read = policy(&spec).expect("valid");
    assert_eq!((read.kind, read.tier, read.priority), (Kind::Node, OrderedTier::Admin, 20));
    assert!(read.staged && read.egress.is_empty());
    let networks = ["back", "front"].map(str::to_owned);
    assert_eq!(read.subject.networks, Some(BTreeSet::from(networks)));
    let rule = &read.ingress[0];
    assert_eq!((rule.name.as_deref(), rule.action), (Some("from-web"), Action::Reject));
    let Among::These(peers) = &rule.peers else { panic!("{rule:?}") };
    assert!(matches!(peers[0], Peer::Endpoints { namespaces: Scope::Matching(ref s), .. }
        if s.is_everything()));
    let entities =
        [Entity::Host, Entity::World, Entity::SameNetwork, Entity::SameNamespace, Entity::Itself];
    assert_eq!(peers[1..6], entities.map(Peer::Entity));
    assert!(matches!(&peers[6], Peer::Block(block) if block.except.len() == 1));
    let expected = [
        Ports::Span { transport: Transport::Tcp, first: 5432, last: 5439 },
        Ports::Span { transport: Transport::Sctp, first: 7, last: 7 },
        Ports::Named { transport: None, name: "metrics".to_owned() },
        Ports::Icmp { v6: false, kind: 8, code: None },
        Ports::Icmp { v6: true, kind: 128, code: Some(0) },
        Ports::Protocol(47),
        Ports::Protocol(1),
        Ports::Protocol(58),
    ];
    assert_eq!(rule.ports, Among::These(expected.to_vec()));
}

#[test]
fn what_is_wrong_or_not_supported_is_refused_and_named() {
    let from = |peer: Value| json!({"action": "Accept", "from": [peer]});
    let speaking =
        |ports: Value| json!({"action": "Accept", "from": [{"endpoints": {}}], "protocols": ports});
    for (value, named) in [
        (
            from(json!({"domainNames": ["a.example"]})),
            "domainNames=[\"a.example\"] is not supported",
        ),
        (from(json!({"entities": ["gateway"]})), "entities[0]=\"gateway\" is not supported"),
        (from(json!({"entities": ["dns"]})), "entities[0]=\"dns\" is not whom"),
        (from(json!({"entities": ["all"]})), "entities[0]=\"all\" is not host, world"),
        (from(json!({"entities": []})), "entities=[] is empty"),
        (from(json!({})), "from[0]={} names none of"),
        (from(json!({"endpoints": {}, "cidr": "::/0"})), "more than one sort"),
        (from(json!({"endpoints": {}, "except": ["::/0"]})), "more than one sort"),
        (from(json!({"except": ["::/0"]})), "from[0].cidr is missing"),
        (from(json!({"pods": {}})), "pods={} is not a known field"),
        (json!({"action": "Accept"}), "ingress[0].from is missing"),
        (json!({"action": "Accept", "from": []}), "from=[] is empty"),
        (json!({"action": "Allow", "from": [{"endpoints": {}}]}), "is not Accept, Deny, Reject"),
        (speaking(json!([])), "protocols=[] is empty"),
        (speaking(json!([{}])), "protocols[0]={} names no protocol"),
        (speaking(json!([{"tcp": {}}])), "names no protocol that is known"),
        (speaking(json!([{"icmp": {"code": 1}}])), "code=1 needs a type"),
        (speaking(json!([{"icmp": {"type": 256}}])), "type=256 is not 0 to 255"),
        (speaking(json!([{"icmp": {"type": 8}, "number": 1}])), "more than one protocol"),
        (speaking(json!([{"icmp": {"type": 8}, "tcp": {}}])), "more than one protocol"),
        (
            json!({"action": "Deny", "from": [{"endpoints": {}}], "log": {"level": "conn"}}),
            "log={\"level\":\"conn\"} is not supported",
        ),
    ] {
        let error = rule(value.clone()).expect_err("invalid").to_string();
        assert!(error.contains(named), "{value}: {error}");
    }
    for (key, value, named) in [
        ("tier", json!("Network"), "tier=\"Network\" is not Admin"),
        ("priority", json!(1001), "priority=1001 is not 0 to 1000"),
        ("mode", json!("dry"), "mode=\"dry\" is not enforce or audit"),
        ("subject", json!({"pods": {}}), "subject.pods={} is not a known field"),
        ("subject", json!({"networks": []}), "networks=[] is empty"),
        ("limits", json!({"maxConnections": 1}), "limits={\"maxConnections\":1} is not supported"),
        ("labels", json!({}), "labels={} is not a known field"),
    ] {
        let mut spec = with(json!({"action": "Deny", "from": [{"endpoints": {}}]}));
        spec[key] = value;
        let error = policy(&spec).expect_err("invalid").to_string();
        assert!(error.contains(named), "{error}");
    }
}
