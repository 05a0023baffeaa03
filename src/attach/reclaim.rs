//! What an ADD may take from attachments whose link is destroyed. Their grace time
//! ([`orphaned`](super::orphaned)) protects against guessing: nobody waits for it where an ADD wants what they
//! hold and the kernel says that their link cannot come back.

use std::fmt;
use std::sync::Arc;

use quantum_config::cni::CniError;
use quantum_config::ids::{AttachmentKey, NetworkName};

use super::{NetnsId, Record};
use crate::errors;
use crate::ipam::LeaseError;
use crate::publish::PortError;

/// How many attachments are released for one ADD, at most: the others that ask are not to wait for them.
const AT_ONCE: usize = 16;

/// What an ADD wants and others hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Claimed {
    /// An address or a port that this attachment has.
    By(AttachmentKey),
    /// Any address of this network, which has none free.
    All(NetworkName),
}

/// Why an ADD is refused, and what would have to come free for it not to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the caller is told.
    pub error: CniError,
    /// What others hold; none if that is not why.
    pub claimed: Option<Box<Claimed>>,
}

impl From<CniError> for Refusal {
    fn from(error: CniError) -> Self {
        Self { error, claimed: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Refusal {
    /// No address of this network.
    pub fn of_address(network: &NetworkName, error: &LeaseError) -> Self {
        let claimed = match error {
            LeaseError::Taken { holder, .. } | LeaseError::GatewayTaken { holder, .. } => {
                Some(Claimed::By(holder.clone()))
            }
            LeaseError::InUse { user, .. } => Some(Claimed::By(user.clone())),
            LeaseError::Exhausted { .. } => Some(Claimed::All(network.clone())),
            LeaseError::Held { .. }
            | LeaseError::OutOfRange { .. }
            | LeaseError::Gateway { .. }
            | LeaseError::Reserved { .. }
            | LeaseError::SameSet { .. } => None,
        };
        Self { error: errors::lease(error), claimed: claimed.map(Box::new) }
    }

    /// No port.
    pub fn of_port(error: &PortError) -> Self {
        let claimed = match error {
            PortError::Published { holder, .. } => Some(Claimed::By(holder.clone())),
            PortError::Listening { .. } => None,
        };
        Self { error: errors::port(error), claimed: claimed.map(Box::new) }
    }
}

/// The attachments that may be released for it, of those whose link is not on the host: those that were made
/// first before the others. Whether the link of one is destroyed has to be asked of the kernel: it may have
/// been moved. What another program gave its addresses for has to be told to that program, which we do not run;
/// and in another namespace than a link was made in nothing is to be seen of it.
pub fn reclaimable<'r>(
    claimed: &Claimed,
    without_link: impl IntoIterator<Item = &'r Arc<Record>>,
    host: NetnsId,
) -> Vec<&'r Arc<Record>> {
    let holds = |record: &Record| match claimed {
        Claimed::By(key) => record.key == *key,
        Claimed::All(network) => record.key.network == *network && !record.addresses.is_empty(),
    };
    let may_go = |record: &Record| !record.delegated && record.host_netns == Some(host);
    let mut found: Vec<_> =
        without_link.into_iter().filter(|record| holds(record) && may_go(record)).collect();
    found.sort_by(|a, b| (a.created, &a.host).cmp(&(b.created, &b.host)));
    found.truncate(AT_ONCE);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quantum_config::cni::{PortMapping, Transport};
    use quantum_config::ids::IfName;

    use super::super::plan::tests::sample;
    use super::*;

    /// What is true of an attachment.
    #[derive(Debug, Clone, Copy)]
    struct State {
        network: u8,
        created: u64,
        handed: bool,
        delegated: bool,
        is_elsewhere: bool,
        has_address: bool,
    }

    fn states() -> impl Strategy<Value = Vec<State>> {
        let flags = (0u8..2, 0u64..50, proptest::array::uniform4(any::<bool>()));
        let state = flags.prop_map(|(network, created, flags)| {
            let [handed, delegated, is_elsewhere, has_address] = flags;
            State { network, created, handed, delegated, is_elsewhere, has_address }
        });
        proptest::collection::vec(state, 0..60)
    }

    fn record(n: usize, state: State) -> Record {
        let mut record = sample("").record;
        let host = record.host_netns.expect("known");
        record.key = format!("n{}/c{n}/eth0", state.network).parse().expect("a key");
        record.host = IfName::new(format!("qc{n:013}")).expect("a name");
        (record.created, record.handed, record.delegated) =
            (state.created, state.handed, state.delegated);
        if state.is_elsewhere {
            record.host_netns = Some(NetnsId { ino: host.ino + 1, ..host });
        }
        if !state.has_address {
            record.addresses.clear();
        }
        record
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn only_what_is_ours_is_released_in_whatever_order_it_is_looked_at(
            states in states(), order in any::<prop::sample::Index>(), claims_all in any::<bool>(),
        ) {
            let host = sample("").record.host_netns.expect("known");
            let mut records: Vec<Arc<Record>> =
                states.iter().enumerate().map(|(n, state)| Arc::new(record(n, *state))).collect();
            let claimed = match records.first() {
                Some(first) if !claims_all => Claimed::By(first.key.clone()),
                _ => Claimed::All(NetworkName::new("n0").expect("a name")),
            };
            let names = |found: Vec<&Arc<Record>>| -> Vec<IfName> {
                found.into_iter().map(|r| r.host.clone()).collect()
            };
            let first = names(reclaimable(&claimed, &records, host));
            let mut expected: Vec<_> = records.iter().zip(&states).filter(|(r, s)| {
                let holds = match &claimed {
                    Claimed::By(key) => r.key == *key,
                    Claimed::All(_) => s.network == 0 && s.has_address,
                };
                holds && !s.delegated && !s.is_elsewhere
            }).map(|(r, _)| (r.created, r.host.clone())).collect();
            expected.sort();
            let expected: Vec<_> = expected.into_iter().map(|(_, host)| host).take(AT_ONCE).collect();
            prop_assert_eq!(&first, &expected);
            if !records.is_empty() {
                let at = order.index(records.len());
                records.rotate_left(at);
                records.reverse();
            }
            prop_assert_eq!(names(reclaimable(&claimed, &records, host)), first);
        }
    }

    #[test]
    fn a_refusal_says_what_would_have_to_come_free() {
        let network = NetworkName::new("n").expect("a name");
        let holder: AttachmentKey = "n/a/eth0".parse().expect("a key");
        let address = "10.0.0.2".parse().expect("an address");
        let port = PortMapping {
            transport: Transport::Tcp,
            host_ip: None,
            only: None,
            host_port: 80,
            container_port: 80,
        };
        let by = || Some(Box::new(Claimed::By(holder.clone())));
        let of = |error| Refusal::of_address(&network, &error);
        let taken = of(LeaseError::Taken { address, holder: holder.clone() });
        assert_eq!(taken.claimed, by());
        let full =
            of(LeaseError::Exhausted { set: 0, subnets: String::new(), ranges: String::new() });
        assert_eq!(full.claimed, Some(Box::new(Claimed::All(network.clone()))));
        assert_eq!(of(LeaseError::Gateway { address }).claimed, None);
        let published = PortError::Published { port, holder: holder.clone() };
        assert_eq!(Refusal::of_port(&published).claimed, by());
        assert_eq!(Refusal::of_port(&PortError::Listening { port, process: None }).claimed, None);
    }
}
