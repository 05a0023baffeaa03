//! Tests of plans, and the sample that others plan by.

use quantum_config::cni::{Call, Environment};

use super::*;

pub(in crate::attach) fn sample(extra: &str) -> Plan {
    sample_of(extra, WayToRules::Bridge, false)
}

pub(in crate::attach) fn sample_of(extra: &str, way: WayToRules, handed: bool) -> Plan {
    let text = format!(
        r#"{{"cniVersion":"1.0.0","name":"net","bridge":"br0","isGateway":true,"ipMasq":true,
        "ipam":{{"type":"host-local","subnet":"10.1.0.0/24","routes":[{{"dst":"0.0.0.0/0"}}]}}{extra}}}"#
    );
    let call = Call::parse(text.as_bytes()).expect("readable");
    let network = call.definition().expect("valid");
    let args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0".to_owned();
    let env = Environment { args, ..Environment::default() };
    let target = Target {
        key: "net/c1/eth0".parse().expect("a key"),
        identity: call.identity(&network, &env).expect("valid"),
        netns: NetnsId { dev: 4, ino: 7 },
        sandbox: "/run/netns/x".into(),
        mac: None,
        shaping: network.shaping.unwrap_or_default(),
        ports: Vec::new(),
        handed,
        delegated: false,
        host_netns: NetnsId { dev: 4, ino: 1 },
    };
    let addresses = vec![Assigned {
        set: 0,
        address: "10.1.0.2/24".parse().expect("address"),
        gateway: Some("10.1.0.1".parse().expect("gateway")),
    }];
    let bridge = BridgeEnd {
        index: LinkIndex(3),
        mac: Mac([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        vlan_gateway: None,
        way,
    };
    Plan::new(&target, &network, bridge, addresses, 0, 5).expect("a plan")
}

#[test]
fn the_plan_says_what_the_result_promises() {
    let plan = sample("");
    assert_eq!(plan.inside.routes.len(), 1);
    assert_eq!(plan.inside.routes[0].gw, Some("10.1.0.1".parse().expect("gateway")));
    let result = &plan.record.result;
    assert_eq!(result.interfaces[2].name, "eth0");
    assert_eq!(result.interfaces[2].mac, Some(plan.inside.mac));
    assert_eq!(result.interfaces[2].sandbox, "/run/netns/x");
    assert_eq!(result.ips[0].interface, Some(2));
    assert_eq!(result.routes[0].gw, None, "routes are told as they were configured");
    assert_eq!(plan.netfilter, elements(&plan.record));
}

#[test]
fn ports_are_isolated_where_that_takes_the_place_of_rules() {
    use WayToRules::{Among, Bridge, Routed};
    let alone = r#","ingressPolicy":"isolated""#;
    for (keys, way, isolated) in [
        ("", Bridge, false),
        ("", Routed, true),
        ("", Among, false),
        (alone, Bridge, false),
        (alone, Routed, true),
        (alone, Among, true),
    ] {
        let plan = sample_of(keys, way, false);
        assert_eq!(plan.link.isolated, isolated, "{keys} {way:?}");
        assert_eq!(plan.record.port.isolated, isolated, "as CHECK is to find it");
    }
}

#[test]
fn a_default_gateway_gives_one_default_route() {
    let plan = sample(r#","isDefaultGateway":true"#);
    assert_eq!(plan.record.routes.len(), 1);
    assert_eq!(plan.record.routes[0].gw, Some("10.1.0.1".parse().expect("gateway")));
}

#[test]
fn a_route_on_the_link_has_no_next_hop() {
    let mut plan = sample("");
    let mut route = plan.record.routes.remove(0);
    let next_hop = |route: &Route| resolved(route, &plan.record.addresses).gw;
    assert!(next_hop(&route).is_some());
    route.scope = Some(253);
    assert_eq!(next_hop(&route), None);
}

#[test]
fn in_a_vlan_the_containers_are_at_home_on_its_gateway() {
    let mut plan = sample(r#","vlan":100"#);
    assert_eq!(plan.link.vlans.native, Some(100));
    let home = IfName::new("br0.100").expect("a name");
    let at_home = |e: &Element| matches!(e, Element::Home { bridge, .. } if *bridge == home);
    assert!(plan.netfilter.iter().any(at_home));
    assert_eq!((plan.record.home(), plan.record.bridge.as_str()), (&home, "br0"));
    plan.record.vlan_gateway = None;
    assert_eq!(plan.record.home().as_str(), "br0");
}

#[test]
fn an_interface_is_tuned_under_its_own_name() {
    let keys = r#","sysctl":{"net.ipv4.conf.IFNAME.rp_filter":"2"},"mac":"02:00:00:00:00:07""#;
    let plan = sample(keys);
    assert_eq!(plan.inside.tuning.sysctls[0].name.path(), "net/ipv4/conf/eth0/rp_filter");
    assert_eq!(plan.inside.tuning, plan.record.tuning);
    assert_eq!((plan.inside.mac, plan.record.mac), (Mac([2, 0, 0, 0, 0, 7]), plan.inside.mac));
}
