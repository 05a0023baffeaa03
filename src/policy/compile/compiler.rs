//! The compiler. What follows from the documents alone is made at once; what an endpoint adds is looked
//! up, and made only if no endpoint was like it before.

mod asked;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use quantum_config::cni::Family;
use quantum_config::policy::Labels;

use asked::Asked;

use super::part::{Ends, Part, TierOf, chains, direction, door, shut_off};
use super::rule::Then;
use super::rules::{Chain, Rules};
use super::sets::{Both, Place, Sets};
use crate::attach::Element;
use crate::policy::{ChainName, Documents, Endpoint, View, Way};

const WAYS: [Way; 3] = [Way::Egress, Way::Ingress, Way::FromHost];

/// How many kinds of endpoints are remembered. Labels may be different for every endpoint there ever
/// was, and are then not worth remembering.
const REMEMBERED: usize = 4096;

/// Compiles documents, and endpoints as they come.
#[derive(Debug)]
pub struct Compiler {
    documents: Arc<Documents>,
    sets: Sets,
    /// As many as there are ordered policies, and their parts by way.
    ordered: Vec<[Option<Part>; 3]>,
    /// The same of NetworkPolicies; none where one does not isolate.
    network: Vec<[Option<Part>; 3]>,
    rules: Rules,
    spaces: HashMap<Place, Arc<Space>>,
    kinds: HashMap<Place, HashMap<Labels, Arc<Kind>>>,
    /// With the place, if it is another chain at another.
    made: HashMap<(Way, Asked, Option<Place>), ChainName>,
}

/// What is known of a place: what could be about an endpoint there, by its number in the lists.
#[derive(Debug)]
struct Space {
    place: Place,
    ordered: Vec<usize>,
    network: Vec<usize>,
    selected: Vec<usize>,
}

/// What endpoints with the same labels at the same place have.
#[derive(Debug)]
struct Kind {
    chains: Vec<(Way, ChainName)>,
    sets: Vec<Both>,
    is_selective: bool,
    is_selective_of_host: bool,
}

/// What an endpoint has in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Its elements.
    pub elements: Vec<Element>,
    /// The chains, and the sets, that it is the first to need.
    pub added: Rules,
    /// Something that is in force decides what it receives.
    pub is_selective: bool,
    /// The same of what it receives from processes of the host.
    pub is_selective_of_host: bool,
}

impl Compiler {
    /// Compiles what follows from the documents alone: the sets, all of which there must be so that who
    /// comes later finds in them who came before.
    pub fn new(documents: Arc<Documents>) -> Self {
        let mut sets = Sets::default();
        let policies = documents.ordered().iter();
        let ordered: Vec<_> =
            policies.map(|policy| WAYS.map(|way| Part::ordered(&mut sets, policy, way))).collect();
        let policies = documents.network_policies().iter();
        let network = policies.map(|policy| {
            WAYS.map(|way| {
                // Whoever owns a namespace may not keep the host from looking after its endpoints.
                let isolates = way != Way::FromHost && policy.rules(direction(way)).is_some();
                isolates.then(|| Part::network(&mut sets, policy, way))
            })
        });
        let network: Vec<_> = network.collect();
        let rules = Rules { sets: sets.kinds.clone(), ..Rules::default() };
        Self {
            documents,
            sets,
            ordered,
            network,
            rules,
            spaces: HashMap::new(),
            kinds: HashMap::new(),
            made: HashMap::new(),
        }
    }

    /// All that was needed by now.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What is compiled.
    pub fn documents(&self) -> &Arc<Documents> {
        &self.documents
    }

    /// Compiles an endpoint. A way that no document decides anything of has no chain, unless its network
    /// trusts nobody and it is not known who it is.
    pub fn endpoint(&mut self, endpoint: &Endpoint, trusts_nobody: bool) -> Placed {
        let mut added = Rules::default();
        let (network, namespace) = (endpoint.network.clone(), endpoint.namespace.clone());
        let place = Place { network, namespace };
        let kind = self.kind(&place, &endpoint.labels, &mut added);
        let shuts_off =
            |view| endpoint.unknown && (trusts_nobody || self.documents.is_policed(view));
        let (is_shut_off, is_staged) = (shuts_off(View::WithStaged), !shuts_off(View::InForce));
        let closed = is_shut_off
            .then(|| WAYS.map(|way| (way, self.keep(shut_off(way, is_staged), &mut added))));
        let chains = closed.as_ref().map_or(&kind.chains[..], |closed| &closed[..]);
        let mut elements = Vec::new();
        let own = endpoint.addresses.iter().copied();
        let link_local = endpoint.link_local.map(IpAddr::V6);
        for (way, chain) in chains {
            elements.extend(own.clone().chain(link_local).map(|address| Element::Judged {
                way: *way,
                address,
                bridge: endpoint.bridge.clone(),
                chain: chain.clone(),
            }));
        }
        for address in own {
            let family = Family::of(address);
            for (_, set) in kind.sets.iter().flatten().filter(|(of, _)| *of == family) {
                elements.push(Element::Member { set: set.clone(), address });
            }
            for port in &endpoint.ports {
                let known = self.sets.named.get(&port.name).into_iter().flatten();
                let of_transport = known.filter(|(of, _)| *of == port.transport);
                for (_, set) in of_transport.flat_map(|(_, s)| s).filter(|(of, _)| *of == family) {
                    let set = set.clone();
                    let named = Element::Named { set, address, port: port.number };
                    // An endpoint may call a port so twice.
                    if !elements.contains(&named) {
                        elements.push(named);
                    }
                }
            }
        }
        let selective = |by_kind| if is_shut_off { !is_staged } else { by_kind };
        Placed {
            elements,
            added,
            is_selective: selective(kind.is_selective),
            is_selective_of_host: selective(kind.is_selective_of_host),
        }
    }

    /// Forgets the chains that none of `elements` leads to, and tells which.
    pub fn forget_unused<'e>(&mut self, elements: impl IntoIterator<Item = &'e Element>) -> Rules {
        let mut ahead: Vec<ChainName> = elements
            .into_iter()
            .filter_map(|element| match element {
                Element::Judged { chain, .. } => Some(chain.clone()),
                _ => None,
            })
            .collect();
        let mut used = BTreeSet::new();
        while let Some(name) = ahead.pop() {
            if let Some(chain) = self.rules.doors.get(&name) {
                ahead.push(chain.clone());
                used.insert(name);
            } else if let Some(chain) = self.rules.chains.get(&name)
                && used.insert(name)
            {
                ahead.extend(chain.iter().filter_map(|rule| match &rule.then {
                    Then::Goto(next) | Then::Jump(next) => Some(next.clone()),
                    Then::Return => None,
                }));
            }
        }
        let all = std::mem::take(&mut self.rules.chains);
        let (kept, unused) = all.into_iter().partition(|(name, _)| used.contains(name));
        self.rules.chains = kept;
        let all = std::mem::take(&mut self.rules.doors);
        let (kept, doors) = all.into_iter().partition(|(name, _)| used.contains(name));
        self.rules.doors = kept;
        self.made.retain(|_, name| used.contains(name));
        self.kinds.clear();
        Rules { chains: unused, doors, sets: BTreeMap::new() }
    }

    /// Takes a chain, if it is a new one.
    fn keep(&mut self, (name, chain): (ChainName, Chain), added: &mut Rules) -> ChainName {
        if !self.rules.chains.contains_key(&name) {
            self.rules.chains.insert(name.clone(), Arc::clone(&chain));
            added.chains.insert(name.clone(), chain);
        }
        name
    }

    fn kind(&mut self, place: &Place, labels: &Labels, added: &mut Rules) -> Arc<Kind> {
        if let Some(kind) = self.kinds.get(place).and_then(|kinds| kinds.get(labels)) {
            return Arc::clone(kind);
        }
        let space = self.space(place, added);
        let mut chains = Vec::new();
        let (mut is_selective, mut is_selective_of_host) = (false, false);
        for (n, way) in WAYS.into_iter().enumerate() {
            let [now, then] =
                [View::InForce, View::WithStaged].map(|view| self.asked(&space, n, view, labels));
            is_selective |= way == Way::Ingress && !now.is_nobody();
            is_selective_of_host |= way == Way::FromHost && !now.is_nobody();
            let is_staged = now != then;
            if now.is_nobody() && !is_staged {
                continue;
            }
            let mut names = self.names(&now);
            if is_staged {
                names.push("staged".to_owned());
                names.extend(self.names(&then));
            }
            if is_staged || self.is_relative(n, &now) {
                names.extend([place.network.clone(), place.namespace.clone()]);
            }
            // What is staged is asked only where there is something.
            let ends = match is_staged {
                false => Ends::Decide,
                true => Ends::Show(self.chain((way, n), &space, then, Ends::Note(way), added)),
            };
            let chain = self.chain((way, n), &space, now, ends, added);
            chains.push((way, self.door(way, names, chain, added)));
        }
        let selected = space.selected.iter().map(|n| &self.sets.selected[*n]);
        let sets = selected.filter(|set| set.has(labels)).map(|set| set.sets.clone()).collect();
        let kind = Arc::new(Kind { chains, sets, is_selective, is_selective_of_host });
        if self.kinds.values().map(HashMap::len).sum::<usize>() >= REMEMBERED {
            self.kinds.clear();
        }
        self.kinds.entry(place.clone()).or_default().insert(labels.clone(), Arc::clone(&kind));
        kind
    }

    fn space(&mut self, place: &Place, added: &mut Rules) -> Arc<Space> {
        if let Some(space) = self.spaces.get(place) {
            return Arc::clone(space);
        }
        // Whoever is at a place is in its sets from the beginning, so nobody has to be added later.
        for akin in self.sets.akin.clone() {
            for (_, set) in self.sets.akin(akin, place) {
                if let Some(kind) = self.sets.kinds.get(&set)
                    && !self.rules.sets.contains_key(&set)
                {
                    self.rules.sets.insert(set.clone(), kind.clone());
                    added.sets.insert(set, kind.clone());
                }
            }
        }
        let labels = self.documents.labels(&place.namespace);
        let numbered = |matching: &mut dyn Iterator<Item = bool>| -> Vec<usize> {
            matching.enumerate().filter(|(_, matches)| *matches).map(|(n, _)| n).collect()
        };
        let ordered = self.documents.ordered().iter().map(|policy| &policy.subject);
        let is_there = |networks: Option<&BTreeSet<String>>| {
            networks.is_none_or(|networks| networks.contains(&place.network))
        };
        let mut ordered =
            ordered.map(|s| is_there(s.networks.as_ref()) && s.namespaces.matches(&labels));
        let network = self.documents.network_policies().iter();
        let mut network = network.map(|policy| policy.namespace == place.namespace);
        let mut selected = self.sets.selected.iter().map(|set| set.is_about(place, &labels));
        let space = Arc::new(Space {
            place: place.clone(),
            ordered: numbered(&mut ordered),
            network: numbered(&mut network),
            selected: numbered(&mut selected),
        });
        if self.spaces.len() >= REMEMBERED {
            self.spaces.clear();
        }
        self.spaces.insert(place.clone(), Arc::clone(&space));
        space
    }

    /// The chain that asks these policies.
    fn chain(
        &mut self,
        (way, n): (Way, usize),
        space: &Space,
        asked: Asked,
        ends: Ends,
        added: &mut Rules,
    ) -> ChainName {
        let place = self.is_relative(n, &asked).then(|| space.place.clone());
        // What is staged is not there for long.
        let key = matches!(ends, Ends::Decide).then(|| (way, asked.clone(), place));
        if let Some(name) = key.as_ref().and_then(|key| self.made.get(key)) {
            return name.clone();
        }
        let mut parts = |list: &[usize]| -> Vec<Part> {
            let parts = list.iter().filter_map(|policy| self.ordered[*policy][n].as_ref());
            let there = parts.filter_map(|part| match part.is_relative {
                true => part.at(&mut self.sets, &space.place),
                false => Some(part.clone()),
            });
            there.collect()
        };
        let [admin, application, baseline] = asked.ordered().map(|list| parts(list));
        let mut tiers = Vec::new();
        for (letter, parts) in [('a', &admin), ('p', &application)] {
            if !parts.is_empty() {
                tiers.push(TierOf { letter, parts: parts.iter().collect(), isolates: None });
            }
        }
        if let Some(list) = &asked.network {
            let parts = list.iter().filter_map(|policy| self.network[*policy][n].as_ref());
            let isolates = Some(self.isolated(list));
            tiers.push(TierOf { letter: 'n', parts: parts.collect(), isolates });
        }
        if !baseline.is_empty() {
            tiers.push(TierOf { letter: 'b', parts: baseline.iter().collect(), isolates: None });
        }
        let (name, made) = chains(way, &tiers, &ends);
        for made in made {
            self.keep(made, added);
        }
        if let Some(key) = key {
            self.made.insert(key, name.clone());
        }
        name
    }

    /// The way to a chain for those about whom policies of these names are asked: whatever the policies
    /// say next, it is the chain that is another one then, and not the door of each of the endpoints.
    fn door(
        &mut self,
        way: Way,
        mut names: Vec<String>,
        chain: ChainName,
        added: &mut Rules,
    ) -> ChainName {
        loop {
            let name = door(way, &names);
            match self.rules.doors.get(&name) {
                Some(there) if *there == chain => return name,
                // Of broken documents several may have one name.
                Some(_) => names.push("another".to_owned()),
                None => {
                    self.rules.doors.insert(name.clone(), chain.clone());
                    added.doors.insert(name.clone(), chain);
                    return name;
                }
            }
        }
    }
}
