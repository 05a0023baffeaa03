//! Tests of the watch against the real kernel, each in a network namespace of its own.

use std::sync::mpsc::channel;

use super::*;
use crate::kernel::testing::{in_namespace, ip, run};

/// More than any event takes to come, and no more than a test may take.
const SOON: Duration = Duration::from_secs(5);

fn heard(ears: &Ears) -> Heard {
    let mut heard = Heard::default();
    ears.listen(SOON, &mut heard);
    heard
}

fn silent(ears: &Ears) -> bool {
    let mut heard = Heard::default();
    ears.listen(Duration::ZERO, &mut heard);
    heard == Heard::default()
}

#[test]
fn commits_of_others_are_heard_and_our_own_are_not() {
    in_namespace(&["nft"], || {
        let ears = Ears::open(thread_id(), LinkBook::default()).unwrap();
        run("nft add table inet somebody");
        let who = heard(&ears).committer.unwrap();
        assert!(who.starts_with("nft ("), "{who}");
        let mut table = crate::kernel::nft::Table::open(Default::default()).unwrap();
        table.heal().unwrap();
        assert!(silent(&ears), "nft runs in another namespace");
        let element = crate::attach::Element::Masquerade { address: "10.0.0.2".parse().unwrap() };
        table.add(&[element]).unwrap();
        assert!(silent(&ears), "our own transaction");
    });
}

#[test]
fn a_deleted_address_is_heard_and_a_container_is_not() {
    in_namespace(&["ip"], || {
        let ears = Ears::open(0, LinkBook::default()).unwrap();
        ip("link add br0 type bridge");
        ip("link set br0 up");
        for address in ["10.0.0.1/24", "fd00::1/64"] {
            ip(&format!("address add {address} dev br0 nodad"));
            ip("link add veth0 type veth peer name veth1");
            ip("link set veth0 up");
            ip("link del veth0");
            assert!(silent(&ears));
            ip(&format!("address del {address} dev br0"));
            let found = heard(&ears).addresses;
            let ip: IpAddr = address.split('/').next().unwrap().parse().unwrap();
            assert_eq!(found, HashSet::from([ip]));
        }
    });
}

#[test]
fn it_looks_at_once_and_when_something_happens() {
    in_namespace(&["nft"], || {
        let (tell, told) = channel();
        start(
            0,
            LinkBook::default(),
            |e| panic!("{e}"),
            move |heard| Done { is_well: tell.send(heard).is_ok(), ..Done::default() },
        )
        .unwrap();
        let first = told.recv_timeout(SOON).unwrap();
        assert!(first.lost && first.committer.is_none(), "{first:?}");
        run("nft add table inet somebody");
        let next = told.recv_timeout(SOON).unwrap();
        assert!(next.committer.is_some() && !next.lost, "{next:?}");
    });
}

#[test]
fn of_links_only_harm_to_ours_is_heard() {
    use crate::attach::PortWanted;
    use quantum_config::ids::{IfName, LinkIndex};
    in_namespace(&["ip"], || {
        let book = LinkBook::default();
        let ears = Ears::open(0, book.clone()).unwrap();
        let harmed = |ears: &Ears| heard(ears).links.harmed;
        ip("link add br0 type bridge");
        ip("link set br0 up");
        let add = |index: u32| {
            let group = crate::attach::naming::GROUP;
            ip(&format!(
                "link add qc{index} index {index} group {group} master br0 up type veth peer name e{index}"
            ));
            ip(&format!("link set e{index} up"));
        };
        add(1_100_000_000);
        ip("link set qc1100000000 down");
        ip("link del qc1100000000");
        assert!(silent(&ears), "links that come and go");
        add(1_100_000_001);
        let name = IfName::new("qc1100000001").unwrap();
        let index = LinkIndex(1_100_000_001);
        let bridge = IfName::new("br0").unwrap();
        let port = PortWanted {
            name: name.clone(),
            index,
            bridge,
            mtu: None,
            flags: Some((false, false)),
            vlans: Default::default(),
            addresses: Vec::new(),
        };
        assert!(silent(&ears));
        book.with(|links| links.attached(port));
        ip("link set e1100000001 down");
        assert!(silent(&ears), "the container's end is its own");
        for harm in ["down", "up", "name other", "group 7"] {
            ip(&format!("link set dev {name} {harm}"));
            let is_harm = harm != "up";
            assert!(if is_harm { harmed(&ears) } else { silent(&ears) }, "{harm}");
            if harm == "name other" {
                ip(&format!("link set dev other name {name}"));
            }
        }
        ip(&format!("link set dev {name} group 1902341737"));
        ip(&format!("link set dev {name} type bridge_slave isolated on"));
        assert!(harmed(&ears), "its flags");
        book.with(|links| links.detached(&name, index));
        ip(&format!("link del {name}"));
        assert!(silent(&ears), "once it is to go");
    });
}
