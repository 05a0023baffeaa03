//! Tests of what our links are to be like.

use proptest::prelude::*;

use super::super::plan::tests::sample;
use super::*;

const BR0: LinkIndex = LinkIndex(3);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

fn name(text: &str) -> IfName {
    IfName::new(text).expect("a name")
}

fn bridge() -> BridgeWanted {
    BridgeWanted {
        name: name("br0"),
        index: BR0,
        mac: MAC,
        promisc: false,
        way: WayToRules::Bridge,
        is_grouped: true,
        holder: (name("br0"), BR0),
        forwards: Families { ipv4: true, ipv6: false },
    }
}

fn seen_bridge() -> LinkSeen {
    LinkSeen {
        index: BR0,
        name: "br0".into(),
        alias: String::new(),
        group: naming::GROUP,
        master: None,
        mac: Some(MAC),
        mtu: 1500,
        up: true,
        kind: LinkKind::Bridge,
        is_veth: false,
        promisc: false,
        filters: [true; 2],
        hairpin: false,
        isolated: false,
    }
}

fn port() -> PortWanted {
    PortWanted { mtu: Some(1400), ..PortWanted::of(&sample("").record) }
}

fn seen_port() -> LinkSeen {
    LinkSeen {
        index: port().index,
        name: port().name.to_string(),
        alias: "quantum net/c1/eth0 10.1.0.2/24".into(),
        master: Some(BR0),
        mtu: 1400,
        kind: LinkKind::Other,
        is_veth: true,
        ..seen_bridge()
    }
}

fn book() -> Links {
    let mut links = Links::default();
    links.prepared(bridge());
    links.attached(port());
    links
}

#[test]
fn each_harm_to_a_bridge_is_named() {
    type Case = (fn(&mut LinkSeen), &'static str);
    let cases: [Case; 8] = [
        (|l| l.up = false, "down"),
        (|l| l.name = "other".into(), "called other"),
        (|l| l.group = 0, "link group"),
        (|l| l.mac = None, "hardware address"),
        (|l| l.promisc = true, "promiscuous"),
        (|l| l.filters[1] = false, "rules"),
        (|l| l.kind = LinkKind::Other, "no bridge"),
        (|l| l.index = LinkIndex(9), "another bridge"),
    ];
    let links = book();
    assert_eq!(links.harms(&[seen_bridge(), seen_port()]), []);
    for (harm, word) in cases {
        let mut seen = seen_bridge();
        harm(&mut seen);
        let found = links.harms(&[seen.clone(), seen_port()]);
        let Some(Harm::Bridge(_, wrongs)) = found.first() else { panic!("{word}: {found:?}") };
        assert!(wrongs.iter().any(|wrong| wrong.contains(word)), "{word}: {wrongs:?}");
        assert!(links.is_harmed(&seen) || seen.index != BR0, "{word}");
    }
    assert_eq!(
        links.harms(&[seen_port()]),
        [Harm::Bridge(name("br0"), vec!["deleted".to_owned()])],
        "and the port waits for it"
    );
}

#[test]
fn each_harm_to_a_port_is_named() {
    type Case = (fn(&mut LinkSeen), &'static str);
    let cases: [Case; 8] = [
        (|l| l.up = false, "down"),
        (|l| l.master = None, "no port of br0"),
        (|l| l.master = Some(LinkIndex(8)), "no port of br0"),
        (|l| l.name = "other".into(), "called other"),
        (|l| l.group = 7, "link group 7"),
        (|l| l.mtu = 1500, "MTU 1500"),
        (|l| l.hairpin = true, "hairpin"),
        (|l| l.isolated = true, "isolated"),
    ];
    let links = book();
    assert!(!links.is_harmed(&seen_port()));
    for (harm, word) in cases {
        let mut seen = seen_port();
        harm(&mut seen);
        assert!(links.is_harmed(&seen), "{word}");
        match &links.harms(&[seen_bridge(), seen])[..] {
            [Harm::Port(port, BR0, wrongs)] => {
                assert!(port.name == self::port().name && wrongs[0].contains(word), "{wrongs:?}");
            }
            found => panic!("{word}: {found:?}"),
        }
    }
    assert!(links.has_other_flags(port().index, (true, false)));
    assert!(!links.has_other_flags(port().index, (false, false)));
}

#[test]
fn of_a_lost_record_nothing_is_put_back_that_it_does_not_tell() {
    let record = Record { created: 0, ..sample("").record };
    let port = PortWanted::of(&record);
    let seen = LinkSeen { isolated: true, hairpin: true, ..seen_port() };
    assert_eq!(port.wrongs(&seen, Some(BR0)), [""; 0]);
}

#[test]
fn what_nobody_depends_on_is_left_alone() {
    let mut links = book();
    // The container went, and took its end along.
    assert_eq!(links.harms(&[]), []);
    links.detached(&name("other"), port().index);
    let there = [seen_bridge(), seen_port()];
    assert_eq!(links.gateways(&there).len(), 1, "another of that index was meant");
    assert!(links.gateways(&there[..1]).is_empty() && links.gateways(&there[1..]).is_empty());
    links.detached(&port().name, port().index);
    assert!(links.harms(&[LinkSeen { up: false, ..seen_bridge() }]).is_empty());
    assert!(links.gateways(&there).is_empty());
    // A link of somebody else that has the index now.
    links.attached(port());
    let other = LinkSeen { alias: "mine".into(), up: false, ..seen_port() };
    assert_eq!(links.harms(&[seen_bridge(), other]), []);
}

proptest! {
    /// Whatever comes in whatever order, what is known at the end is what was said last of each.
    #[test]
    fn the_last_word_counts(steps in prop::collection::vec((0_u32..6, any::<bool>()), 0..40)) {
        let mut links = Links::default();
        let mut model = BTreeSet::new();
        for (number, comes) in steps {
            let index = LinkIndex(100 + number);
            let host = name(&format!("qc{number}"));
            if comes {
                links.attached(PortWanted { name: host, index, ..port() });
                model.insert(index);
            } else {
                links.detached(&host, index);
                model.remove(&index);
            }
        }
        let known: BTreeSet<LinkIndex> =
            (0..6).map(|n| LinkIndex(100 + n)).filter(|index| links.knows(*index)).collect();
        prop_assert_eq!(known, model);
    }
}
