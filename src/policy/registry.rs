//! Everybody whom policy concerns, and what that comes to in our tables: counted, so that what two
//! endpoints need goes with the second, and collected, so that what many changed is written at once.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use quantum_config::ids::AttachmentKey;

use super::{Compiler, Documents, Endpoint, Rules, Standing, World};
use crate::attach::Element;

/// What is to be changed in our tables.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// All chains and sets that there are to be.
    pub rules: Arc<Rules>,
    /// Elements that are to go.
    pub remove: Vec<Element>,
    /// Elements that are to come.
    pub add: Vec<Element>,
    /// What was judged is judged anew.
    pub anew: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Registry {
    compiler: Compiler,
    rules: Arc<Rules>,
    networks: BTreeMap<String, Standing>,
    members: BTreeMap<AttachmentKey, Member>,
    /// How many members need an element.
    counts: HashMap<Element, u32>,
    /// Elements that were needed by more or fewer since the changes were last taken, and whether any
    /// needed them then.
    touched: HashMap<Element, bool>,
    rules_changed: bool,
    /// The compiler has made more than `rules`, or less.
    is_more: bool,
    /// Somebody has left who was judged, and perhaps nobody else is by his chains.
    has_left: bool,
    anew: bool,
}

#[derive(Debug)]
struct Member {
    endpoint: Endpoint,
    elements: Vec<Element>,
}

impl Registry {
    /// Nobody yet, under these documents.
    pub fn new(documents: Arc<Documents>) -> Self {
        let compiler = Compiler::new(documents);
        let rules = Arc::new(compiler.rules().clone());
        Self {
            compiler,
            rules,
            networks: BTreeMap::new(),
            members: BTreeMap::new(),
            counts: HashMap::new(),
            touched: HashMap::new(),
            rules_changed: false,
            is_more: false,
            has_left: false,
            anew: false,
        }
    }

    /// An endpoint comes, or is another than it was, in a network that stands so.
    pub fn judge(&mut self, endpoint: Endpoint, standing: Standing) {
        let known = self.members.get(&endpoint.key).map(|member| &member.endpoint);
        if known.is_some_and(|known| *known != endpoint) {
            self.anew = true;
        }
        self.networks.insert(endpoint.network.clone(), standing);
        self.dismiss(&endpoint.key);
        self.place(endpoint);
        self.collect();
    }

    /// An endpoint is gone.
    pub fn dismiss(&mut self, key: &AttachmentKey) {
        let Some(member) = self.members.remove(key) else { return };
        self.has_left |= member.elements.iter().any(is_judged);
        for element in member.elements {
            self.count(element, false);
        }
    }

    /// Chains by which nobody is judged any more are to go. Not with the last of them: another of its kind
    /// may be coming, and to make a chain takes longer than to keep it.
    pub fn forget_unused(&mut self) {
        if std::mem::take(&mut self.has_left) {
            let unused = self.compiler.forget_unused(self.counts.keys());
            self.is_more |= !unused.is_empty();
            self.collect();
        }
    }

    /// Other documents hold from now on.
    pub fn rewrite(&mut self, documents: Arc<Documents>) {
        self.compiler = Compiler::new(documents);
        for (key, member) in std::mem::take(&mut self.members) {
            let elements = self.needed(&member.endpoint);
            // Most have what they had, and to count it twice takes longer than to see that.
            if elements != member.elements {
                elements.iter().for_each(|element| self.count(element.clone(), true));
                member.elements.into_iter().for_each(|element| self.count(element, false));
            }
            self.members.insert(key, Member { elements, ..member });
        }
        self.is_more = true;
        self.collect();
        self.anew = true;
    }

    /// What has changed since this was last asked; none if nothing has.
    pub fn take_changes(&mut self) -> Option<Changes> {
        let (mut remove, mut add) = (Vec::new(), Vec::new());
        for (element, was) in self.touched.drain() {
            match (was, self.counts.contains_key(&element)) {
                (false, true) => add.push(element),
                (true, false) => remove.push(element),
                _ => {}
            }
        }
        let (new, anew) = (std::mem::take(&mut self.rules_changed), std::mem::take(&mut self.anew));
        let is_nothing = remove.is_empty() && add.is_empty() && !new && !anew;
        (!is_nothing).then(|| Changes { rules: self.rules.clone(), remove, add, anew })
    }

    /// Takes changes back that could not be made: they are part of the next ones.
    pub fn put_back(&mut self, changes: Changes) {
        for (elements, was) in [(changes.remove, true), (changes.add, false)] {
            for element in elements {
                self.touched.insert(element, was);
            }
        }
        self.rules_changed = true;
        self.anew |= changes.anew;
    }

    /// All elements that there are to be.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.counts.keys()
    }

    /// Those of one endpoint, some of which others may need as well; none if it is not known.
    pub fn elements_of(&self, key: &AttachmentKey) -> &[Element] {
        self.members.get(key).map_or(&[], |member| &member.elements)
    }

    /// All chains and sets that there are to be.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.clone()
    }

    /// What is decided upon now.
    pub fn world(&self) -> World {
        self.world_under(self.compiler.documents().clone())
    }

    /// What would be decided upon under other documents.
    pub fn world_under(&self, documents: Arc<Documents>) -> World {
        let endpoints = self.members.values().map(|member| member.endpoint.clone()).collect();
        World::of(documents, endpoints, self.networks.clone())
    }

    /// Takes over what the compiler has made.
    fn collect(&mut self) {
        if std::mem::take(&mut self.is_more) {
            self.rules = Arc::new(self.compiler.rules().clone());
            self.rules_changed = true;
        }
    }

    fn place(&mut self, endpoint: Endpoint) {
        let elements = self.needed(&endpoint);
        for element in &elements {
            self.count(element.clone(), true);
        }
        self.members.insert(endpoint.key.clone(), Member { endpoint, elements });
    }

    /// The elements that an endpoint needs. Of what the compiler makes for it, note is taken.
    fn needed(&mut self, endpoint: &Endpoint) -> Vec<Element> {
        let standing = self.networks.get(&endpoint.network);
        let trusts_nobody = matches!(standing, Some(Standing::ZeroTrust { .. }));
        let placed = self.compiler.endpoint(endpoint, trusts_nobody);
        // They are taken together when all are placed: there may be thousands.
        self.is_more = !placed.added.is_empty() || self.is_more;
        let mut elements = placed.elements;
        if elements.iter().any(is_judged) || trusts_nobody {
            elements.push(Element::Policed { bridge: endpoint.bridge.clone() });
        }
        if placed.is_selective && !endpoint.audit {
            elements.push(Element::Selective { bridge: endpoint.bridge.clone() });
        }
        if placed.is_selective_of_host && !endpoint.audit {
            elements.push(Element::SelectiveOfHost { bridge: endpoint.bridge.clone() });
        }
        if endpoint.audit {
            let link_local = endpoint.link_local.map(IpAddr::V6);
            let addresses = endpoint.addresses.iter().copied().chain(link_local);
            elements.extend(addresses.map(|address| Element::Audited { address }));
        }
        elements
    }

    fn count(&mut self, element: Element, more: bool) {
        let count = self.counts.entry(element.clone()).or_insert(0);
        let was = *count > 0;
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        let is = *count > 0;
        if !is {
            self.counts.remove(&element);
        }
        if was != is {
            self.touched.entry(element).or_insert(was);
        }
    }
}

fn is_judged(element: &Element) -> bool {
    matches!(element, Element::Judged { .. })
}

#[cfg(test)]
mod tests {
    use quantum_config::ids::IfName;
    use quantum_config::policy::{Labels, read};
    use serde_json::json;

    use super::*;

    const OPEN: Standing = Standing::Open;

    fn endpoint(name: &str, address: &str) -> Endpoint {
        Endpoint {
            key: format!("net/{name}/eth0").parse().expect("a key"),
            bridge: IfName::new("net0").expect("a name"),
            namespace: "x".to_owned(),
            name: name.to_owned(),
            network: "net".to_owned(),
            labels: Labels::from([("app".to_owned(), "web".to_owned())]),
            addresses: vec![address.parse().expect("an address")],
            link_local: None,
            audit: false,
            unknown: false,
            ports: Vec::new(),
        }
    }

    fn isolating() -> Arc<Documents> {
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "deny", "namespace": "x"},
            "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}});
        Arc::new(Documents::new(vec![read(&policy).expect("valid")]))
    }

    #[test]
    fn what_nobody_speaks_of_changes_nothing() {
        let mut registry = Registry::new(Arc::default());
        registry.judge(endpoint("a", "10.0.0.2"), OPEN);
        assert!(registry.take_changes().is_none());
        registry.judge(endpoint("a", "10.0.0.2"), Standing::ZeroTrust { probes: true });
        let changes = registry.take_changes().expect("a change");
        assert!(matches!(changes.add[..], [Element::Policed { .. }]), "{changes:?}");
    }

    #[test]
    fn who_is_not_known_is_shut_off_where_nobody_is_trusted() {
        let unknown = |name, address| Endpoint { unknown: true, ..endpoint(name, address) };
        for (standing, chains) in [(OPEN, 0), (Standing::ZeroTrust { probes: true }, 3)] {
            let mut registry = Registry::new(Arc::default());
            registry.judge(unknown("a", "10.0.0.2"), standing);
            let judged = |e: &&Element| matches!(e, Element::Judged { .. });
            assert_eq!(registry.elements().filter(judged).count(), chains, "{standing:?}");
            assert_eq!(registry.rules().chains.len(), chains, "{standing:?}");
            registry.judge(endpoint("a", "10.0.0.2"), standing);
            assert_eq!(registry.elements().filter(judged).count(), 0, "known: {standing:?}");
        }
    }

    #[test]
    fn what_two_need_goes_with_the_second() {
        let mut registry = Registry::new(isolating());
        registry.judge(endpoint("a", "10.0.0.2"), OPEN);
        let first = registry.take_changes().expect("a change");
        assert!(!first.anew && first.remove.is_empty(), "{first:?}");
        assert_eq!(first.rules.chains.len(), 1);
        let policed = |element: &Element| matches!(element, Element::Policed { .. });
        assert_eq!(first.add.iter().filter(|e| policed(e)).count(), 1);
        registry.judge(endpoint("b", "10.0.0.3"), OPEN);
        let second = registry.take_changes().expect("a change");
        assert!(!second.add.iter().any(policed), "it is there already: {second:?}");
        registry.dismiss(&endpoint("a", "10.0.0.2").key);
        assert!(!registry.take_changes().expect("a change").remove.iter().any(policed));
        registry.dismiss(&endpoint("b", "10.0.0.3").key);
        assert!(registry.take_changes().expect("a change").remove.iter().any(policed));
        assert_eq!(registry.elements().count(), 0);
    }

    #[test]
    fn chains_that_judge_nobody_any_more_are_forgotten_when_that_is_asked_for() {
        let mut registry = Registry::new(isolating());
        let (a, b) = (endpoint("a", "10.0.0.2"), endpoint("b", "10.0.0.3"));
        registry.judge(a.clone(), OPEN);
        registry.judge(b.clone(), OPEN);
        registry.dismiss(&a.key);
        registry.take_changes();
        registry.forget_unused();
        assert!(registry.take_changes().is_none(), "b is judged by them");
        registry.dismiss(&b.key);
        let left = registry.take_changes().expect("b has gone");
        assert_eq!(left.rules.chains.len(), 1, "not at once");
        registry.forget_unused();
        let forgotten = registry.take_changes().expect("nobody is left");
        assert!(forgotten.rules.chains.is_empty() && !forgotten.anew, "{forgotten:?}");
        registry.forget_unused();
        assert!(registry.take_changes().is_none(), "once");
        registry.judge(a, OPEN);
        assert_eq!(registry.take_changes().expect("made again").rules.chains.len(), 1);
    }

    #[test]
    fn what_comes_and_goes_between_two_looks_was_never_there() {
        let mut registry = Registry::new(isolating());
        registry.judge(endpoint("a", "10.0.0.2"), OPEN);
        registry.dismiss(&endpoint("a", "10.0.0.2").key);
        let changes = registry.take_changes().expect("the chain is new");
        assert!(changes.add.is_empty() && changes.remove.is_empty(), "{changes:?}");
    }

    #[test]
    fn other_documents_and_other_labels_are_judged_anew_and_another_endpoint_is_not() {
        let mut registry = Registry::new(Arc::default());
        registry.judge(endpoint("a", "10.0.0.2"), OPEN);
        registry.take_changes();
        registry.rewrite(isolating());
        let changes = registry.take_changes().expect("a change");
        assert!(changes.anew && !changes.add.is_empty());
        registry.judge(endpoint("b", "10.0.0.3"), OPEN);
        assert!(!registry.take_changes().expect("a change").anew);
        let other = Endpoint { labels: Labels::new(), ..endpoint("b", "10.0.0.3") };
        registry.judge(other, OPEN);
        assert!(registry.take_changes().expect("a change").anew);
    }

    #[test]
    fn what_could_not_be_made_is_made_with_the_next() {
        let mut registry = Registry::new(isolating());
        registry.judge(endpoint("a", "10.0.0.2"), OPEN);
        let changes = registry.take_changes().expect("a change");
        let wanted = changes.add.len();
        registry.put_back(changes);
        assert_eq!(registry.take_changes().expect("again").add.len(), wanted);
    }
}
