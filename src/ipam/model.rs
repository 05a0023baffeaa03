//! The allocator against a model so naive that it is right by inspection: lists, searched from end to
//! end. Random leases, releases, reshapings and restarts; after each step both must agree.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use quantum_config::cni::RangeSet;

use super::cases::{key, sets};
use super::{Allocator, Known, KnownState, LeaseError};

#[derive(Debug, Clone)]
enum Step {
    /// Who, and which of [`wishes`] it asks for.
    Lease(u8, Vec<u8>),
    Release(u8),
    /// To which of [`shapes`].
    Reshape(u8),
    /// The daemon was restarted: only what is kept outside is left.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lease = (0u8..24, vec(any::<u8>(), 0..3));
    let step = prop_oneof![
        8 => lease.clone().prop_map(|(who, _)| Step::Lease(who, vec![])),
        4 => lease.prop_map(|(who, wishes)| Step::Lease(who, wishes)),
        8 => (0u8..24).prop_map(Step::Release),
        1 => any::<u8>().prop_map(Step::Reshape),
        1 => Just(Step::Restart),
    ];
    vec(step, 1..120)
}

fn shapes() -> Vec<Vec<RangeSet>> {
    vec![
        sets(&[&["10.0.0.0/28"]]),
        sets(&[&["10.0.0.0/29", "10.0.1.0/30"], &["fd00::/125"]]),
        sets(&[&["10.0.1.0/29", "10.0.0.0/29"]]),
        sets(&[&["fd00::/64"], &["10.0.0.0/28,10.0.0.4,10.0.0.9"]]),
        vec![],
    ]
}

fn wishes() -> Vec<IpAddr> {
    let v4 = (0..16).map(|n| format!("10.0.0.{n}"));
    let v6 = (0..9).map(|n| format!("fd00::{n}"));
    v4.chain(v6).map(|t| t.parse().expect("an address")).collect()
}

#[derive(Debug)]
struct Model {
    sets: Vec<RangeSet>,
    held: Vec<(IpAddr, u8)>,
    /// Longest idle first.
    idle: Vec<(IpAddr, u64)>,
}

impl Model {
    fn is_gateway(&self, ip: IpAddr) -> bool {
        self.sets.iter().flat_map(|s| &s.0).any(|r| r.gateway == ip)
    }

    fn is_held(&self, ip: IpAddr) -> bool {
        self.held.iter().any(|(a, _)| *a == ip)
    }

    fn held_by(&self, who: u8) -> Vec<IpAddr> {
        self.held.iter().filter(|(_, o)| *o == who).map(|(a, _)| *a).collect()
    }

    /// Every address of a set that can be handed out, as far as 40 into a range.
    fn usable(&self, set: &RangeSet) -> Vec<IpAddr> {
        let all = set.0.iter().flat_map(|r| {
            std::iter::successors(Some(r.start), |ip| match ip {
                IpAddr::V4(ip) => Some(IpAddr::V4((u32::from(*ip) + 1).into())),
                IpAddr::V6(ip) => Some(IpAddr::V6((u128::from(*ip) + 1).into())),
            })
            .take(40)
            .take_while(|ip| *ip <= r.end)
        });
        all.filter(|ip| !self.is_gateway(*ip)).collect()
    }

    /// One address per set, or none at all.
    fn lease(&mut self, who: u8, wishes: &[IpAddr]) -> Option<Vec<IpAddr>> {
        if !self.held_by(who).is_empty() {
            return None;
        }
        let mut chosen = Vec::new();
        let mut granted = Vec::new();
        for set in &self.sets {
            let usable = self.usable(set);
            let wished = wishes.iter().find(|w| usable.contains(w));
            granted.extend(wished);
            let fresh = || {
                let known = |ip| self.is_held(ip) || self.idle.iter().any(|(a, _)| *a == ip);
                usable.iter().find(|ip| !known(**ip))
            };
            let idle = || self.idle.iter().map(|(a, _)| a).find(|a| usable.contains(a));
            chosen.push(*wished.or_else(fresh).or_else(idle)?);
        }
        let refused = |w: &IpAddr| !granted.contains(w) || self.is_held(*w);
        if wishes.iter().any(refused) {
            return None;
        }
        self.idle.retain(|(a, _)| !chosen.contains(a));
        self.held.extend(chosen.iter().map(|a| (*a, who)));
        Some(chosen)
    }

    fn release(&mut self, who: u8, now: u64) -> Vec<IpAddr> {
        let addresses = self.held_by(who);
        self.held.retain(|(_, o)| *o != who);
        self.idle.extend(addresses.iter().map(|a| (*a, now)));
        addresses
    }

    fn known(&self) -> Vec<Known> {
        let held = self.held.iter().map(|(address, who)| Known {
            address: *address,
            state: KnownState::Held(owner(*who)),
        });
        let idle = self
            .idle
            .iter()
            .map(|(address, at)| Known { address: *address, state: KnownState::Released(*at) });
        held.chain(idle).collect()
    }
}

fn owner(who: u8) -> quantum_config::ids::AttachmentKey {
    key(&format!("c{who}"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn the_allocator_does_what_the_model_does(steps in steps()) {
        let (shapes, all_wishes) = (shapes(), wishes());
        let mut model = Model { sets: shapes[0].clone(), held: vec![], idle: vec![] };
        let mut real = Allocator::new(shapes[0].clone(), []);
        for (at, step) in steps.iter().enumerate() {
            // Several steps share a millisecond.
            let now = at as u64 / 3;
            match step {
                Step::Lease(who, picks) => {
                    let wishes: Vec<IpAddr> = picks
                        .iter()
                        .map(|p| all_wishes[usize::from(*p) % all_wishes.len()])
                        .collect();
                    let got = real.lease(&owner(*who), &wishes, &[]);
                    let want = model.lease(*who, &wishes);
                    if let Err(LeaseError::Held { .. }) = &got {
                        prop_assert!(!model.held_by(*who).is_empty());
                    }
                    let got = got.ok().map(|a| a.iter().map(|a| a.address.ip()).collect());
                    prop_assert_eq!(got, want);
                }
                Step::Release(who) => {
                    prop_assert_eq!(real.release(&owner(*who), now), model.release(*who, now));
                }
                Step::Reshape(to) => {
                    model.sets = shapes[usize::from(*to) % shapes.len()].clone();
                    real.reshape(model.sets.clone(), &[]);
                }
                Step::Restart => real = Allocator::new(model.sets.clone(), model.known()),
            }
            for (address, who) in &model.held {
                prop_assert_eq!(real.holder(*address), Some(&owner(*who)));
            }
            for (usage, set) in real.usage().iter().zip(&model.sets) {
                let held = model.usable(set).iter().filter(|ip| model.is_held(**ip)).count();
                prop_assert_eq!(usage.held, held as u128);
            }
        }
        // Nothing was lost: with all released, a pool gives all it has.
        for who in 0..24 {
            model.release(who, 1000);
            real.release(&owner(who), 1000);
        }
        for (usage, set) in real.usage().iter().zip(&model.sets) {
            prop_assert_eq!(usage.held, 0);
            if usage.capacity < 40 {
                prop_assert_eq!(usage.free(), model.usable(set).len() as u128);
            }
        }
    }
}
