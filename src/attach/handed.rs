//! Attachments whose end is handed over. Whoever takes it may forget it: dockerd that was killed does not
//! delete the endpoints of the containers that died with it.

use super::{Observed, Record};

/// An end that waits for longer, in milliseconds, is taken by nobody any more. Docker takes one within
/// moments, and gives it back moments before it has it deleted.
const PATIENCE: u64 = 120_000;

/// Whether its end is on the host: nobody has taken it yet, or it was given back.
pub fn is_waiting(record: &Record, seen: &Observed) -> bool {
    let is_own = seen.host.as_ref().is_some_and(|link| link.index == record.index);
    record.handed && is_own && seen.waits
}

/// Whether nobody will ever come for the attachment: its container's namespace is gone, and its link with
/// it, or its end waits and nobody takes it. `now` is milliseconds since boot.
pub fn is_abandoned(record: &Record, seen: &Observed, now: u64) -> bool {
    if !record.handed {
        return false;
    }
    match &seen.host {
        Some(link) if link.index == record.index => {
            is_waiting(record, seen) && now.saturating_sub(record.created) > PATIENCE
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::ids::LinkIndex;

    use super::super::plan::tests::{sample, sample_of};
    use super::super::{HostSeen, WayToRules, naming};
    use super::*;

    #[test]
    fn an_end_that_is_handed_over_waits_on_the_host_under_a_name_of_its_own() {
        let (usual, handed) = (sample(""), sample_of("", WayToRules::Bridge, true));
        let key = &handed.record.key;
        assert_eq!(handed.inside.ifname, naming::peer_name(key).expect("a name"));
        assert_ne!(handed.inside.ifname, handed.link.host);
        assert!(handed.inside.waits && handed.record.handed && !usual.inside.waits);
        assert!(handed.link.hairpin && !usual.link.hairpin, "it may be given ports later");
        assert_eq!(handed.netfilter, usual.netfilter);
        assert_eq!(handed.record.key, usual.record.key);
    }

    #[test]
    fn what_is_gone_or_waits_in_vain_is_abandoned() {
        let mut record = sample("").record;
        (record.handed, record.created) = (true, 1000);
        let host = |index| HostSeen {
            index,
            mac: None,
            mtu: 1500,
            alias: String::new(),
            bridge: None,
            up: true,
            hairpin: false,
            isolated: false,
            vlans: None,
        };
        let seen = |host, waits| Observed {
            host,
            bridge: None,
            inside: None,
            shape: None,
            off: vec![],
            waits,
        };
        let own = || Some(host(record.index));
        let late = record.created + PATIENCE + 1;
        for (what, now, expected) in [
            (seen(own(), false), late, false),
            (seen(own(), true), late - 1, false),
            (seen(own(), true), late, true),
            (seen(None, false), record.created, true),
            (seen(Some(host(LinkIndex(1))), false), record.created, true),
        ] {
            assert_eq!(is_abandoned(&record, &what, now), expected, "{what:?}");
            let waits = what.waits && what.host.as_ref().is_some_and(|l| l.index == record.index);
            assert_eq!(is_waiting(&record, &what), waits, "{what:?}");
        }
        record.handed = false;
        assert!(!is_abandoned(&record, &seen(None, false), late), "a runtime will DEL it");
    }
}
