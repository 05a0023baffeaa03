//! The compiler. What follows from the documents alone is made at once; what an endpoint adds is looked
//! up, and made only if no endpoint was like it before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use quantum_config::cni::Family;
use quantum_config::policy::{Labels, OrderedTier};

use super::part::{Part, TierOf, chains, direction};
use super::rule::note;
use super::rules::Rules;
use super::sets::{Both, Sets};
use crate::attach::Element;
use crate::policy::{ChainName, Documents, Endpoint, Way};

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
    cluster: Vec<[Option<Part>; 3]>,
    /// The same of NetworkPolicies; none where one does not isolate.
    network: Vec<[Option<Part>; 3]>,
    rules: Rules,
    spaces: HashMap<String, Arc<Space>>,
    kinds: HashMap<String, HashMap<Labels, Arc<Kind>>>,
    made: HashMap<(Way, Asked), ChainName>,
}

/// What is known of a namespace: what could be about an endpoint there, by its place in the lists.
#[derive(Debug)]
struct Space {
    cluster: Vec<usize>,
    network: Vec<usize>,
    selected: Vec<usize>,
}

/// What endpoints with the same labels in the same namespace have.
#[derive(Debug)]
struct Kind {
    chains: Vec<(Way, ChainName)>,
    sets: Vec<Both>,
}

/// The policies that are asked about an endpoint.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Asked {
    admin: Vec<usize>,
    application: Vec<usize>,
    /// None if it is not isolated.
    network: Option<Vec<usize>>,
    baseline: Vec<usize>,
}

/// What an endpoint has in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Its elements.
    pub elements: Vec<Element>,
    /// The chains that it is the first to need.
    pub added: Rules,
}

impl Compiler {
    /// Compiles what follows from the documents alone: the sets, all of which there must be so that who
    /// comes later finds in them who came before.
    pub fn new(documents: Arc<Documents>) -> Self {
        let mut sets = Sets::default();
        let policies = documents.ordered().iter();
        let cluster: Vec<_> =
            policies.map(|policy| WAYS.map(|way| Part::ordered(&mut sets, policy, way))).collect();
        let policies = documents.network_policies().iter();
        let network = policies.map(|policy| {
            WAYS.map(|way| {
                // Whoever owns a namespace may not keep the host from looking after its endpoints.
                let isolates = way != Way::FromHost
                    && !policy.staged
                    && policy.rules(direction(way)).is_some();
                isolates.then(|| Part::network(&mut sets, policy, way)).flatten()
            })
        });
        let network: Vec<_> = network.collect();
        let rules = Rules { chains: BTreeMap::new(), sets: sets.kinds.clone() };
        Self {
            documents,
            sets,
            cluster,
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

    /// Compiles an endpoint. A way that no document decides anything of has no chain.
    pub fn endpoint(&mut self, endpoint: &Endpoint) -> Placed {
        let mut added = Rules::default();
        let kind = self.kind(&endpoint.namespace, &endpoint.labels, &mut added);
        let mut elements = Vec::new();
        let own = endpoint.addresses.iter().copied();
        let link_local = endpoint.link_local.map(IpAddr::V6);
        for (way, chain) in &kind.chains {
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
        Placed { elements, added }
    }

    /// Forgets the chains that none of `elements` leads to, and tells which.
    pub fn forget_unused<'e>(&mut self, elements: impl IntoIterator<Item = &'e Element>) -> Rules {
        let used: BTreeSet<&str> = elements
            .into_iter()
            .filter_map(|element| match element {
                Element::Judged { chain, .. } => Some(chain.as_str()),
                _ => None,
            })
            .collect();
        // What a chain goes on in is called as it is, and a letter.
        let is_used = |name: &ChainName| {
            let name = name.as_str();
            used.contains(name) || name.rsplit_once('_').is_some_and(|(of, _)| used.contains(of))
        };
        let (kept, unused) =
            std::mem::take(&mut self.rules.chains).into_iter().partition(|(name, _)| is_used(name));
        self.rules.chains = kept;
        let chains = &self.rules.chains;
        self.made.retain(|_, name| chains.contains_key(name));
        self.kinds.clear();
        Rules { chains: unused, sets: BTreeMap::new() }
    }

    fn kind(&mut self, namespace: &str, labels: &Labels, added: &mut Rules) -> Arc<Kind> {
        if let Some(kind) = self.kinds.get(namespace).and_then(|kinds| kinds.get(labels)) {
            return Arc::clone(kind);
        }
        let space = self.space(namespace);
        let chains = WAYS.into_iter().enumerate().filter_map(|(n, way)| {
            let asked = self.asked(&space, n, labels);
            Some((way, self.chain(way, n, asked, added)?))
        });
        let chains = chains.collect();
        let selected = space.selected.iter().map(|n| &self.sets.selected[*n]);
        let sets = selected.filter(|set| set.has(labels)).map(|set| set.sets.clone()).collect();
        let kind = Arc::new(Kind { chains, sets });
        if self.kinds.values().map(HashMap::len).sum::<usize>() >= REMEMBERED {
            self.kinds.clear();
        }
        let kinds = self.kinds.entry(namespace.to_owned()).or_default();
        kinds.insert(labels.clone(), Arc::clone(&kind));
        kind
    }

    fn space(&mut self, namespace: &str) -> Arc<Space> {
        if let Some(space) = self.spaces.get(namespace) {
            return Arc::clone(space);
        }
        let labels = self.documents.labels(namespace);
        let cluster = self.documents.ordered().iter().enumerate();
        let network = self.documents.network_policies().iter().enumerate();
        let selected = self.sets.selected.iter().enumerate();
        let space = Arc::new(Space {
            cluster: cluster
                .filter(|(_, p)| p.subject.namespaces.matches(&labels))
                .map(|(n, _)| n)
                .collect(),
            network: network.filter(|(_, p)| p.namespace == namespace).map(|(n, _)| n).collect(),
            selected: selected
                .filter(|(_, s)| s.is_about(namespace, &labels))
                .map(|(n, _)| n)
                .collect(),
        });
        if self.spaces.len() >= REMEMBERED {
            self.spaces.clear();
        }
        self.spaces.insert(namespace.to_owned(), Arc::clone(&space));
        space
    }

    /// Which policies with something to say select such an endpoint.
    fn asked(&self, space: &Space, way: usize, labels: &Labels) -> Asked {
        let mut asked = Asked::default();
        for n in space.cluster.iter().copied() {
            let policy = &self.documents.ordered()[n];
            if self.cluster[n][way].is_some() && policy.subject.endpoints.matches(labels) {
                match policy.tier {
                    OrderedTier::Admin => asked.admin.push(n),
                    OrderedTier::Application => asked.application.push(n),
                    OrderedTier::Baseline => asked.baseline.push(n),
                }
            }
        }
        for n in space.network.iter().copied() {
            let policy = &self.documents.network_policies()[n];
            if self.network[n][way].is_some() && policy.subject.matches(labels) {
                asked.network.get_or_insert_default().push(n);
            }
        }
        if asked.network.is_some() {
            // Nobody asks them then.
            asked.baseline.clear();
        }
        asked
    }

    /// The chain that asks these policies; none if there are none.
    fn chain(&mut self, way: Way, n: usize, asked: Asked, added: &mut Rules) -> Option<ChainName> {
        if asked == Asked::default() {
            return None;
        }
        let key = (way, asked);
        if let Some(name) = self.made.get(&key) {
            return Some(name.clone());
        }
        let asked = &key.1;
        let mut tiers = Vec::new();
        let cluster = |letter, list: &[usize]| TierOf {
            letter,
            parts: list.iter().filter_map(|part| self.cluster[*part][n].as_ref()).collect(),
            isolates: None,
        };
        if !asked.admin.is_empty() {
            tiers.push(cluster('a', &asked.admin));
        }
        if !asked.application.is_empty() {
            tiers.push(cluster('p', &asked.application));
        }
        if let Some(list) = &asked.network {
            tiers.push(TierOf {
                letter: 'n',
                parts: list.iter().filter_map(|part| self.network[*part][n].as_ref()).collect(),
                isolates: Some(self.isolated(list)),
            });
        }
        if !asked.baseline.is_empty() {
            tiers.push(cluster('b', &asked.baseline));
        }
        let (name, made) = chains(way, &tiers);
        for (name, chain) in made {
            self.rules.chains.insert(name.clone(), Arc::clone(&chain));
            added.chains.insert(name, chain);
        }
        self.made.insert(key, name.clone());
        Some(name)
    }

    /// Why nothing comes through that no rule lets through.
    fn isolated(&self, policies: &[usize]) -> Arc<str> {
        let mut text = "isolated by NetworkPolicy".to_owned();
        for (n, policy) in policies.iter().enumerate() {
            let policy = &self.documents.network_policies()[*policy];
            text.push_str(if n == 0 { " " } else { ", " });
            text.push_str(&format!("{}/{}", policy.namespace, policy.name));
        }
        note(&text, "")
    }
}
