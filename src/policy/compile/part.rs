//! What a policy adds to the chains of the endpoints that it selects, made once for all of them.

use std::sync::Arc;

use quantum_config::cni::Family;
use quantum_config::ids::digest;
use quantum_config::policy::{
    Action, Direction, Kind, NetworkPolicy, OrderedPolicy, OrderedTier, Reach,
};

use super::expand::expand;
use super::rule::{Match, Rule, Then, note};
use super::rules::Chain;
use super::sets::Sets;
use crate::policy::{ChainName, Way};

/// The rules of a policy for one way.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pieces: Vec<Piece>,
    /// Stands for the rules: two with the same have the same ones.
    pub(super) digest: String,
}

#[derive(Debug, Clone)]
struct Piece {
    rule: Arc<Rule>,
    /// It leads to the next tier, and where that begins only the whole chain knows.
    passes: bool,
}

/// The prefix of the chains of a way.
pub(super) fn prefix(way: Way) -> &'static str {
    match way {
        Way::Egress => "eg",
        Way::Ingress => "in",
        Way::FromHost => "host",
    }
}

/// Which rules of a policy a way asks.
pub(super) fn direction(way: Way) -> Direction {
    match way {
        Way::Egress => Direction::Egress,
        Way::Ingress | Way::FromHost => Direction::Ingress,
    }
}

/// Where a connection ends that may not be.
pub(super) fn denied(way: Way) -> ChainName {
    ChainName::new(match way {
        Way::Egress => "denied_out",
        Way::Ingress | Way::FromHost => "denied_in",
    })
}

/// Where nobody has decided.
pub(super) fn undecided(way: Way) -> ChainName {
    ChainName::new(match way {
        Way::Egress => "sender_default",
        Way::Ingress => "receiver_default",
        Way::FromHost => "host_default",
    })
}

fn word(way: Way) -> &'static str {
    match direction(way) {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

impl Part {
    fn new(pieces: Vec<Piece>) -> Option<Self> {
        if pieces.is_empty() {
            return None;
        }
        let text: Vec<String> =
            pieces.iter().map(|piece| format!("{} {}", piece.rule, piece.passes)).collect();
        let text: Vec<&str> = text.iter().map(String::as_str).collect();
        Some(Self { digest: format!("{:016x}", digest(&text)), pieces })
    }

    /// What an ordered policy says; none if that is nothing. What a NodePolicy says has no form here
    /// yet, and whom it selects is denied everything.
    pub(super) fn ordered(sets: &mut Sets, policy: &OrderedPolicy, way: Way) -> Option<Self> {
        if policy.staged {
            return None;
        }
        let closed;
        let policy = match policy.kind {
            Kind::Node => {
                let reach = Reach { subject: policy.subject.clone(), ..Reach::everything() };
                let tier = policy.tier;
                let why = "NodePolicy";
                closed = OrderedPolicy {
                    tier,
                    ..OrderedPolicy::broken(policy.name.clone(), why, reach)
                };
                &closed
            }
            _ => policy,
        };
        let mut pieces = Vec::new();
        let tier = match policy.tier {
            OrderedTier::Admin => "",
            OrderedTier::Application => " of tier Application",
            OrderedTier::Baseline => " of tier Baseline",
        };
        let object = format!("{} {}{tier}", policy.kind, policy.name);
        for (n, rule) in policy.rules(direction(way)).iter().enumerate() {
            let (then, passes) = match rule.action {
                Action::Accept => (Then::Return, false),
                Action::Deny | Action::Reject => (Then::Goto(denied(way)), false),
                Action::Pass => (Then::Goto(undecided(way)), true),
            };
            let note = note(&object, &format!(" {}[{n}]", word(way)));
            for matches in expand(sets, way, None, &rule.peers, &rule.ports) {
                let rule = Rule { matches, then: then.clone(), note: Arc::clone(&note) };
                pieces.push(Piece { rule: Arc::new(rule), passes });
            }
        }
        Self::new(pieces)
    }

    /// What a NetworkPolicy lets through. It isolates even if that is nothing.
    pub(super) fn network(sets: &mut Sets, policy: &NetworkPolicy, way: Way) -> Option<Self> {
        let mut pieces = Vec::new();
        let object = format!("NetworkPolicy {}/{}", policy.namespace, policy.name);
        let own = Some(policy.namespace.as_str());
        for (n, rule) in policy.rules(direction(way)).unwrap_or_default().iter().enumerate() {
            let note = note(&object, &format!(" {}[{n}]", word(way)));
            for matches in expand(sets, way, own, &rule.peers, &rule.ports) {
                let rule = Rule { matches, then: Then::Return, note: Arc::clone(&note) };
                pieces.push(Piece { rule: Arc::new(rule), passes: false });
            }
        }
        Some(Self::new(pieces).unwrap_or(Self { pieces: Vec::new(), digest: String::new() }))
    }

    fn passes(&self) -> bool {
        self.pieces.iter().any(|piece| piece.passes)
    }

    /// Its rules, where `next` is the tier behind its own.
    fn rules<'a>(&'a self, next: &'a ChainName) -> impl Iterator<Item = Arc<Rule>> + 'a {
        self.pieces.iter().map(move |piece| match piece.passes {
            false => Arc::clone(&piece.rule),
            true => Arc::new(Rule { then: Then::Goto(next.clone()), ..Rule::clone(&piece.rule) }),
        })
    }
}

/// One tier of a chain.
pub(super) struct TierOf<'a> {
    /// What the name of its own chain ends with, if it needs one.
    pub(super) letter: char,
    /// Its policies, in the order in which they are asked.
    pub(super) parts: Vec<&'a Part>,
    /// Nobody is asked behind it: what it does not let through is denied, for this reason.
    pub(super) isolates: Option<Arc<str>>,
}

/// Makes the chain that asks these tiers one after the other, and those it goes on in.
pub(super) fn chains(way: Way, tiers: &[TierOf<'_>]) -> (ChainName, Vec<(ChainName, Chain)>) {
    let mut texts = Vec::new();
    for tier in tiers {
        texts.extend(tier.parts.iter().map(|part| part.digest.as_str()));
        texts.push(tier.isolates.as_deref().unwrap_or("then"));
    }
    let name = ChainName::new(&format!("{}_{:016x}", prefix(way), digest(&texts)));
    let goto = |chain: ChainName, note: &Arc<str>| {
        Arc::new(Rule { matches: Vec::new(), then: Then::Goto(chain), note: Arc::clone(note) })
    };
    let nothing: Arc<str> = "".into();
    let mut made = Vec::new();
    // What comes behind the tier at hand, and where that is if it has a chain of its own.
    let mut behind = vec![goto(undecided(way), &nothing)];
    let mut next = Some(undecided(way));
    let mut letter = ' ';
    for tier in tiers.iter().rev() {
        if let Some(why) = &tier.isolates {
            behind = [Family::V4, Family::V6]
                .map(|family| {
                    let matches = vec![Match::Itself(family)];
                    Arc::new(Rule { matches, then: Then::Return, note: Arc::clone(&nothing) })
                })
                .to_vec();
            behind.push(goto(denied(way), why));
            next = Some(denied(way));
        }
        let chain = match (next, tier.parts.iter().any(|part| part.passes())) {
            (Some(chain), _) => chain,
            (None, false) => ChainName::new(""),
            (None, true) => {
                let chain = ChainName::new(&format!("{name}_{letter}"));
                made.push((chain.clone(), behind.into()));
                behind = vec![goto(chain.clone(), &nothing)];
                chain
            }
        };
        let rules = tier.parts.iter().flat_map(|part| part.rules(&chain));
        behind = rules.chain(behind).collect();
        next = None;
        letter = tier.letter;
    }
    made.push((name.clone(), behind.into()));
    (name, made)
}
