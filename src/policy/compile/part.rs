//! What a policy adds to the chains of the endpoints that it selects, made once for all of them.

use std::sync::Arc;

use quantum_config::cni::Family;
use quantum_config::ids::digest;
use quantum_config::policy::{Action, Direction, Kind, NetworkPolicy, OrderedPolicy, OrderedTier};

use super::expand::expand;
use super::rule::{Match, Rule, Then, note};
use super::rules::Chain;
use super::sets::{Akin, Place, Sets};
use crate::policy::{ChainName, Way};

/// The rules of a policy for one way.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    pieces: Vec<Piece>,
    /// Stands for the rules: two with the same have the same ones.
    digest: String,
    /// Some rule names those at the same place, and so is another one elsewhere.
    pub(super) is_relative: bool,
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

/// Where one ends whose sender is told.
fn rejected(way: Way) -> ChainName {
    ChainName::new(match way {
        Way::Egress => "rejected_out",
        Way::Ingress | Way::FromHost => "rejected_in",
    })
}

/// Where it is noted that one would end, if all were in force that is staged.
fn noted(way: Way) -> ChainName {
    ChainName::new(match way {
        Way::Egress => "noted_out",
        Way::Ingress | Way::FromHost => "noted_in",
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
        let digest = format!("{:016x}", digest(&text));
        let mut matches = pieces.iter().flat_map(|piece| &piece.rule.matches);
        let is_relative = matches.any(|one| stands_for(one).is_some());
        Some(Self { digest, pieces, is_relative })
    }

    /// The same for endpoints at a place.
    pub(super) fn at(&self, sets: &mut Sets, place: &Place) -> Option<Self> {
        let mut there = |one: &Match| match (one, stands_for(one)) {
            (Match::Member(end, family, _), Some(akin)) => {
                let sets = sets.akin(akin, place).into_iter();
                let set = sets.filter(|(of, _)| of == family).map(|(_, set)| set).next();
                set.map(|set| Match::Member(*end, *family, set)).unwrap_or_else(|| one.clone())
            }
            _ => one.clone(),
        };
        let pieces = self.pieces.iter().map(|piece| {
            let matches = piece.rule.matches.iter().map(&mut there).collect();
            let rule = Rule { matches, ..Rule::clone(&piece.rule) };
            Piece { rule: Arc::new(rule), passes: piece.passes }
        });
        Self::new(pieces.collect())
    }

    /// What an ordered policy says; none if that is nothing.
    pub(super) fn ordered(sets: &mut Sets, policy: &OrderedPolicy, way: Way) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut object = format!("{} {}", policy.kind, policy.name);
        if policy.kind != Kind::Broken && policy.tier != OrderedTier::Admin {
            object.push_str(&format!(" of tier {:?}", policy.tier));
        }
        for (n, rule) in policy.rules(direction(way)).iter().enumerate() {
            let (then, passes) = match rule.action {
                Action::Accept => (Then::Return, false),
                Action::Deny => (Then::Goto(denied(way)), false),
                Action::Reject => (Then::Goto(rejected(way)), false),
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
    pub(super) fn network(sets: &mut Sets, policy: &NetworkPolicy, way: Way) -> Self {
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
        Self::new(pieces).unwrap_or_default()
    }

    fn passes(&self) -> bool {
        self.pieces.iter().any(|piece| piece.passes)
    }

    /// Its rules, where `next` is the tier behind its own.
    fn rules<'a>(
        &'a self,
        next: &'a ChainName,
        ends: &'a Ends,
    ) -> impl Iterator<Item = Arc<Rule>> + 'a {
        self.pieces.iter().map(move |piece| {
            let then = match piece.passes {
                true => Then::Goto(next.clone()),
                false => ends.of(&piece.rule.then),
            };
            if then == piece.rule.then {
                Arc::clone(&piece.rule)
            } else {
                Arc::new(Rule { then, ..Rule::clone(&piece.rule) })
            }
        })
    }
}

/// What a match stands for that is another one at every place.
fn stands_for(one: &Match) -> Option<Akin> {
    let Match::Member(_, _, set) = one else { return None };
    [Akin::Network, Akin::Namespace]
        .into_iter()
        .find(|akin| akin.stand_in().iter().any(|(_, stand_in)| stand_in == set))
}

/// What a decision leads to.
#[derive(Debug)]
pub(super) enum Ends {
    /// Back, out, or on.
    Decide,
    /// The same, and what comes through is shown to another chain: how would it be decided if that were
    /// in force which is staged?
    Show(ChainName),
    /// Nothing is decided, only noted.
    Note(Way),
}

impl Ends {
    fn of(&self, then: &Then) -> Then {
        match (self, then) {
            (Self::Show(chain), Then::Return) => Then::Goto(chain.clone()),
            (Self::Note(way), Then::Goto(_)) => Then::Goto(noted(*way)),
            (_, then) => then.clone(),
        }
    }

    /// What is done if nobody has decided.
    fn undecided(&self, way: Way) -> Vec<Then> {
        match self {
            Self::Decide => vec![Then::Goto(undecided(way))],
            Self::Show(chain) => vec![Then::Jump(chain.clone()), Then::Goto(undecided(way))],
            Self::Note(_) => vec![Then::Return],
        }
    }

    /// Tells chains apart that are alike but for their ends.
    fn text(&self) -> &str {
        match self {
            Self::Decide => "",
            Self::Show(chain) => chain.as_str(),
            Self::Note(_) => "noted",
        }
    }
}

/// Of whom nothing is known, has nothing to do with anybody. If there are only staged policies, that
/// would be so.
pub(super) fn shut_off(way: Way, is_staged: bool) -> (ChainName, Chain) {
    let thens = match is_staged {
        false => vec![Then::Goto(denied(way))],
        true => vec![Then::Jump(noted(way)), Then::Goto(undecided(way))],
    };
    let note: Arc<str> = "who it is has not been told yet".into();
    let rule = |then| Arc::new(Rule { matches: Vec::new(), then, note: Arc::clone(&note) });
    let rules: Vec<_> = thens.into_iter().map(rule).collect();
    let text: Vec<String> = rules.iter().map(ToString::to_string).collect();
    let text: Vec<&str> = text.iter().map(String::as_str).collect();
    (ChainName::new(&format!("{}_{:016x}", prefix(way), digest(&text))), rules.into())
}

/// What leads to a chain for endpoints about which policies of these names are asked. It is never called
/// as a chain that is named for what it holds.
pub(super) fn door(way: Way, names: &[String]) -> ChainName {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ChainName::new(&format!("{}_{:016x}_door", prefix(way), digest(&names)))
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
pub(super) fn chains(
    way: Way,
    tiers: &[TierOf<'_>],
    ends: &Ends,
) -> (ChainName, Vec<(ChainName, Chain)>) {
    let mut texts = vec![ends.text()];
    for tier in tiers {
        texts.extend(tier.parts.iter().map(|part| part.digest.as_str()));
        texts.push(tier.isolates.as_deref().unwrap_or("then"));
    }
    let name = ChainName::new(&format!("{}_{:016x}", prefix(way), digest(&texts)));
    let nothing: Arc<str> = "".into();
    let rule =
        |matches, then, note: &Arc<str>| Arc::new(Rule { matches, then, note: Arc::clone(note) });
    let always = |then| rule(Vec::new(), then, &nothing);
    let mut made = Vec::new();
    // What comes behind the tier at hand, and what the name of its own chain ends with.
    let mut behind: Vec<_> = ends.undecided(way).into_iter().map(always).collect();
    let mut letter = 'd';
    for tier in tiers.iter().rev() {
        if let Some(why) = &tier.isolates {
            behind = [Family::V4, Family::V6]
                .map(|family| rule(vec![Match::Itself(family)], ends.of(&Then::Return), &nothing))
                .to_vec();
            behind.push(rule(Vec::new(), ends.of(&Then::Goto(denied(way))), why));
        }
        // What is left to the next tier needs somewhere to go, if that is not somewhere else anyway.
        let mut next = ChainName::new("");
        if tier.parts.iter().any(|part| part.passes()) {
            if let Some(chain) = leads_to(&behind) {
                next = chain.clone();
            } else {
                next = ChainName::new(&format!("{name}_{letter}"));
                made.push((next.clone(), behind.into()));
                behind = vec![always(Then::Goto(next.clone()))];
            }
        }
        let rules = tier.parts.iter().flat_map(|part| part.rules(&next, ends));
        behind = rules.chain(behind).collect();
        letter = tier.letter;
    }
    made.push((name.clone(), behind.into()));
    (name, made)
}

/// Where these rules lead, if they do nothing else.
fn leads_to(rules: &[Arc<Rule>]) -> Option<&ChainName> {
    match rules {
        [only] if only.matches.is_empty() => match &only.then {
            Then::Goto(chain) => Some(chain),
            Then::Return | Then::Jump(_) => None,
        },
        _ => None,
    }
}
