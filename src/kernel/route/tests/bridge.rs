//! Bridges: made, taken over, refused.

use ipnetwork::IpNetwork;
use quantum_config::cni::Vlans;
use quantum_config::ids::Mac;

use super::name;
use crate::kernel::route::VlanGateway;
use crate::kernel::route::bridge::{BridgeError, BridgePlan, BridgeState, ensure};
use crate::kernel::sysctl::Setting;
use crate::kernel::testing::{in_private_netns, ip, ip_json};

fn plan(addresses: &[&str]) -> BridgePlan {
    BridgePlan {
        name: name("br0"),
        mac: Mac([2, 0, 0, 0, 0, 42]),
        mtu: Some(1450),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        force_address: false,
        promisc: false,
        filters_vlans: false,
        vlan_gateway: None,
        filters_packets: true,
        is_routed: false,
        was: None,
    }
}

/// Runs [`ensure`] in the network namespace of this thread.
fn ensured(plan: &BridgePlan) -> Result<BridgeState, BridgeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        ensure(&handle, plan).await
    })
}

/// The global addresses of `br0`, sorted.
fn addresses() -> Vec<String> {
    let shown = ip_json("address show br0");
    let entries = shown[0]["addr_info"].as_array().unwrap();
    let global = entries.iter().filter(|entry| entry["scope"] == "global");
    let mut found: Vec<_> = global
        .map(|entry| format!("{}/{}", entry["local"].as_str().unwrap(), entry["prefixlen"]))
        .collect();
    found.sort();
    found
}

#[test]
fn a_renamed_bridge_gets_its_name_back_unless_it_is_taken() {
    in_private_netns(|| {
        let plan = plan(&["10.9.0.1/24", "fd09::1/64"]);
        let made = ensured(&plan).unwrap();
        let mut host = crate::kernel::route::Host::open().unwrap();
        let mut back = |was| host.give_name_back(&plan.name, plan.mac, was);
        back(None).unwrap();
        ip("link set br0 name other");
        back(None).unwrap();
        assert_eq!(ensured(&plan).unwrap(), made, "by what we marked it with");
        ip("link set br0 group 7");
        ip("link set br0 name other");
        let known = BridgePlan { was: Some((made.index, made.mac)), ..plan.clone() };
        back(Some(made.index)).unwrap();
        assert_eq!(ensured(&known).unwrap(), made, "by its index");
        assert_eq!(ip_json("link show br0")[0]["group"], crate::attach::naming::GROUP.to_string());
        ip("link set br0 name other");
        ip("link add br0 type bridge");
        let error = back(Some(made.index)).unwrap_err().to_string();
        assert!(error.contains("br0 is called other"), "{error}");
        // Somebody else's of the same kind is not taken for it.
        ip("link del br0");
        ip("link del other");
        ip("link add foreign address 02:00:00:00:00:2a type bridge");
        back(Some(made.index)).and_then(|()| back(None)).unwrap();
        let again = ensured(&known).unwrap();
        assert!(again.index != made.index && again.mac == made.mac);
        assert_eq!(ip_json("link show foreign")[0]["ifname"], "foreign");
        assert_eq!(addresses(), ["10.9.0.1/24", "fd09::1/64"]);
    });
}

#[test]
fn a_bridge_goes_if_it_is_ours_and_nobody_is_on_it() {
    in_private_netns(|| {
        let (ours, other) = (Mac([2, 0, 0, 0, 0, 9]), Mac([2, 0, 0, 0, 0, 8]));
        ip("link add br9 address 02:00:00:00:00:09 type bridge");
        ip("link add v9 master br9 type veth peer name w9");
        let mut host = crate::kernel::route::Host::open().unwrap();
        let mut remove = |mac| host.remove_bridge(&name("br9"), mac).unwrap();
        assert!(!remove(ours), "it has a port");
        ip("link del v9");
        assert!(!remove(other), "it is somebody else's");
        assert!(remove(ours));
        assert!(!super::link_names().contains(&"br9".to_owned()));
        assert!(remove(ours), "gone is gone");
    });
}

#[test]
fn a_bridge_is_made_once_and_found_again() {
    in_private_netns(|| {
        let plan = plan(&["10.9.0.1/24", "fd09::1/64"]);
        let made = ensured(&plan).unwrap();
        let shown = &ip_json("link show br0")[0];
        assert_eq!(shown["ifindex"], made.index.0);
        assert_eq!(shown["address"], "02:00:00:00:00:2a");
        assert_eq!(shown["mtu"], 1450);
        assert_eq!((made.mac, made.mtu), (plan.mac, 1450));
        assert!(ip("link show br0").contains(",UP"), "it is up");
        assert_eq!(addresses(), ["10.9.0.1/24", "fd09::1/64"]);
        assert!(!ip("address show br0").contains("tentative"), "usable at once");
        assert_eq!(Setting::AcceptRa(&plan.name).read().unwrap(), "0");
        let again = BridgePlan { mac: Mac([2, 9, 9, 9, 9, 9]), mtu: None, ..plan };
        assert_eq!(ensured(&again).unwrap(), made, "as it was, whatever the plan says now");
        assert_eq!(addresses(), ["10.9.0.1/24", "fd09::1/64"]);
    });
}

#[test]
fn a_switch_has_no_address() {
    in_private_netns(|| {
        ensured(&plan(&[])).unwrap();
        assert_eq!(addresses(), [] as [String; 0]);
    });
}

#[test]
fn the_hardware_address_of_a_bridge_does_not_change_with_its_ports() {
    in_private_netns(|| {
        ip("link add br0 type bridge");
        let mac = ensured(&plan(&["10.9.0.1/24"])).unwrap().mac;
        ip("link add p0 address 00:00:00:00:00:05 type veth peer name p1");
        ip("link set p0 master br0");
        assert_eq!(ip_json("link show br0")[0]["address"], mac.to_string());
    });
}

#[test]
fn another_address_is_an_error_unless_it_may_be_replaced() {
    in_private_netns(|| {
        let mut plan = plan(&["10.9.0.1/24"]);
        ip("link add br0 type bridge");
        ip("address add 10.8.0.1/24 dev br0");
        ip("address add fd08::1/64 dev br0 nodad");
        let error = ensured(&plan).unwrap_err();
        let expected = "br0 already has an IP address different from 10.9.0.1/24: 10.8.0.1/24";
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(addresses(), ["10.8.0.1/24", "fd08::1/64"], "nothing is changed");

        plan.force_address = true;
        ensured(&plan).unwrap();
        assert_eq!(addresses(), ["10.9.0.1/24", "fd08::1/64"]);
    });
}

#[test]
fn ipv6_addresses_are_in_the_way_only_in_one_subnet() {
    in_private_netns(|| {
        ip("link add br0 type bridge");
        ip("address add fd08::1/64 dev br0 nodad");
        ensured(&plan(&["fd09::1/64"])).unwrap();
        assert_eq!(addresses(), ["fd08::1/64", "fd09::1/64"]);
        let error = ensured(&plan(&["fd08::2/64", "fd09::1/64"])).unwrap_err();
        let wanted: IpNetwork = "fd08::2/64".parse().unwrap();
        match error {
            BridgeError::OtherAddress { wanted: found, .. } => assert_eq!(found, wanted),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn two_gateways_of_one_plan_are_not_in_each_others_way() {
    in_private_netns(|| {
        ensured(&plan(&["10.9.0.1/24"])).unwrap();
        ensured(&plan(&["10.9.0.1/24", "10.10.0.1/24"])).unwrap();
        assert_eq!(addresses(), ["10.10.0.1/24", "10.9.0.1/24"]);
    });
}

#[test]
fn another_kind_of_link_is_refused() {
    in_private_netns(|| {
        ip("link add br0 type veth peer name p1");
        let error = ensured(&plan(&["10.9.0.1/24"])).unwrap_err();
        assert!(matches!(error, BridgeError::NotABridge { .. }), "{error}");
        assert_eq!(addresses(), [] as [String; 0]);
    });
}

#[test]
fn the_gateway_of_a_vlan_has_the_addresses_instead() {
    in_private_netns(|| {
        let wanted = VlanGateway {
            name: name("br0.100"),
            mac: Mac([2, 0, 0, 0, 0, 100]),
            port: name("qg100"),
            port_mac: Mac([2, 0, 0, 0, 0, 101]),
            vlans: Vlans::default(),
        };
        let plan = plan(&["10.9.0.1/24", "fd09::1/64"]);
        let plan = BridgePlan { vlan_gateway: Some(wanted.clone()), ..plan };
        let made = ensured(&plan).unwrap();
        let end = made.vlan_gateway.unwrap();
        assert_eq!((end.mac, end.mtu), (wanted.mac, 1450));
        assert_eq!(addresses(), [] as [String; 0], "not the bridge");
        let shown = ip("address show br0.100");
        assert!(shown.contains("10.9.0.1/24") && shown.contains("fd09::1/64"), "{shown}");
        assert!(!shown.contains("global tentative"), "usable at once: {shown}");
        assert_eq!(Setting::AcceptRa(&wanted.name).read().unwrap(), "0");
        assert_eq!(ensured(&plan).unwrap(), made);

        ip("address add 10.77.0.1/24 dev br0.100");
        let other = BridgePlan { addresses: vec!["10.8.0.1/24".parse().unwrap()], ..plan };
        let error = ensured(&other).unwrap_err().to_string();
        assert!(error.starts_with("br0.100 already has an IP address different"), "{error}");
    });
}
