//! Tests of the reading of ClusterNetworkPolicy.

use serde_json::{Value, json};

use super::*;

fn policy(spec: &Value) -> Result<OrderedPolicy, PolicyError> {
    read("p".to_owned(), false, &Node::root("test", spec))
}

fn with(egress: Value) -> Value {
    json!({"tier": "Admin", "priority": 7, "subject": {"namespaces": {}}, "egress": egress})
}

fn rule(rule: Value) -> Result<OrderedRule, PolicyError> {
    policy(&with(json!([rule]))).map(|mut policy| policy.egress.remove(0))
}

#[test]
fn a_rule_is_read() {
    let read = rule(json!({
        "name": "all",
        "action": "Pass",
        "to": [{"pods": {"podSelector": {}}}, {"networks": ["10.0.0.0/8", "fd00::/8"]}],
        "protocols": [
            {"tcp": {"destinationPort": {"number": 80}}},
            {"udp": {"destinationPort": {"range": {"start": 5, "end": 9}}}},
        ],
    }));
    let read = read.expect("valid");
    let block = |cidr: &str| {
        Peer::Block(Block { cidr: cidr.parse().expect("a block"), except: Vec::new() })
    };
    let everywhere = Peer::Endpoints {
        namespaces: Scope::Matching(Selector::default()),
        endpoints: Selector::default(),
    };
    let expected = OrderedRule {
        name: Some("all".to_owned()),
        action: Action::Pass,
        peers: Among::These(vec![everywhere, block("10.0.0.0/8"), block("fd00::/8")]),
        ports: Among::These(vec![
            Ports::Span { transport: Transport::Tcp, first: 80, last: 80 },
            Ports::Span { transport: Transport::Udp, first: 5, last: 9 },
        ]),
        unread: None,
    };
    assert_eq!(read, expected);
}

#[test]
fn what_came_after_us_fails_closed() {
    let known = json!([{"namespaces": {}}]);
    for (to, protocols, place) in [
        (json!([{"namespaces": {}}, {"domainNames": ["a.example"]}]), json!(null), "to[1]"),
        (json!([{}]), json!(null), "to[0]"),
        (json!([{"namespaces": {}, "zone": "a"}]), json!(null), "to[0]"),
        (known.clone(), json!([{"icmp": {}}]), "protocols[0]"),
        (known.clone(), json!([{"tcp": {}}]), "protocols[0]"),
        (known.clone(), json!([{"tcp": {"sourcePort": 1}}]), "protocols[0]"),
    ] {
        for action in ["Accept", "Deny", "Pass"] {
            let value = json!({"action": action, "to": &to, "protocols": &protocols});
            let read = rule(value.clone()).expect("valid");
            assert!(read.unread.as_deref().is_some_and(|p| p.ends_with(place)), "{read:?}");
            if action == "Accept" {
                assert_eq!(read.action, Action::Accept, "{value}");
                assert_eq!(read.peers, Among::These(Vec::new()), "{value}");
            } else {
                let found = (read.action, read.peers, read.ports);
                assert_eq!(found, (Action::Deny, Among::Any, Among::Any), "{value}");
            }
        }
    }
    let value = json!({"action": "Deny", "to": known, "schedule": "at night"});
    assert_eq!(rule(value).expect("valid").unread.as_deref(), Some("egress[0].schedule"));
}

#[test]
fn sources_have_no_networks() {
    let spec = json!({"tier": "Baseline", "priority": 0, "subject": {"namespaces": {}},
        "ingress": [{"action": "Accept", "from": [{"networks": ["10.0.0.0/8"]}]}]});
    let policy = policy(&spec).expect("valid");
    assert_eq!(policy.ingress[0].peers, Among::These(Vec::new()));
    assert_eq!(policy.ingress[0].unread.as_deref(), Some("ingress[0].from[0]"));
}

#[test]
fn what_is_wrong_is_refused_and_named() {
    for (value, named) in [
        (
            json!({"action": "Reject", "to": [{"namespaces": {}}]}),
            "action=\"Reject\" is not Accept",
        ),
        (json!({"action": "Deny"}), "egress[0].to is missing"),
        (json!({"action": "Deny", "to": []}), "to=[] does not have 1 to 25"),
        (json!({"action": "Deny", "to": [{"namespaces": {}}], "protocols": []}), "protocols=[]"),
        (
            json!({"action": "Deny", "to": [{"namespaces": {}, "networks": ["::/0"]}]}),
            "names more than one sort",
        ),
        (json!({"action": "Deny", "to": [{"networks": ["10.0.0.0"]}]}), "networks[0]=\"10.0.0.0\""),
        (
            json!({"action": "Deny", "to": [{"networks": ["::/0"]}],
                "protocols": [{"destinationNamedPort": "web"}]}),
            "networks have no names",
        ),
        (
            json!({"action": "Deny", "to": [{"namespaces": {}}],
                "protocols": [{"tcp": {"destinationPort": {"range": {"start": 2, "end": 2}}}}]}),
            "does not end behind",
        ),
    ] {
        let error = rule(value).expect_err("invalid").to_string();
        assert!(error.contains(named), "{error}");
    }
    for (key, value, named) in [
        ("tier", json!("Application"), "tier=\"Application\" is not Admin"),
        ("priority", json!(1001), "priority=1001 is not 0 to 1000"),
        ("priority", json!(-1), "priority=-1 is not"),
        ("subject", json!({}), "subject={} needs one of"),
        ("subject", json!({"services": {}}), "subject.services={} is not a known field"),
        ("mode", json!("audit"), "mode=\"audit\" is not a known field"),
    ] {
        let mut spec = with(json!([]));
        spec[key] = value;
        let error = policy(&spec).expect_err("invalid").to_string();
        assert!(error.contains(named), "{error}");
    }
}
