//! The snapshot that is decided upon. It says nothing of where it comes from: files, a runtime or an
//! API server.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use quantum_config::cni::NamedPort;
use quantum_config::ids::{AttachmentKey, IfName};
use quantum_config::policy::{
    Document, Labels, Namespace, NetworkPolicy, OrderedPolicy, OrderedTier,
};

use super::{Side, Standing};

/// An attachment, as policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Which attachment it is.
    pub key: AttachmentKey,
    /// The link that the host reaches it by.
    pub bridge: IfName,
    /// The address that it gave itself on that link. Nobody is named by it.
    pub link_local: Option<Ipv6Addr>,
    /// What would be denied is noted and let through.
    pub audit: bool,
    /// Who it is has not been told yet, so no selector can be asked about it.
    pub unknown: bool,
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// The network that it is attached to.
    pub network: String,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its ports that have names.
    pub ports: Vec<NamedPort>,
}

/// What was written about policy, in the order in which it is asked. Endpoints come and go without it.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    namespaces: BTreeMap<String, Labels>,
    network_policies: Vec<NetworkPolicy>,
    /// In the order in which they are asked.
    ordered: Vec<OrderedPolicy>,
}

/// Which policies are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Those that decide.
    InForce,
    /// As if those decided too that are staged.
    WithStaged,
}

impl View {
    pub(super) fn shows(self, is_staged: bool) -> bool {
        self == Self::WithStaged || !is_staged
    }
}

/// All that a decision depends on.
#[derive(Debug, Clone, Default)]
pub struct World {
    documents: Arc<Documents>,
    /// Namespaces of endpoints that no document is about.
    undeclared: BTreeMap<String, Labels>,
    endpoints: Vec<Endpoint>,
    networks: BTreeMap<String, Standing>,
}

impl Documents {
    /// Of two documents of one kind and name the later one holds.
    ///
    /// Policies are put in the order in which they are asked, in which names decide between equal
    /// priorities: an order must never depend on which file was read first.
    pub fn new(documents: impl IntoIterator<Item = Document>) -> Self {
        let mut namespaces = BTreeMap::new();
        let mut of_namespaces = BTreeMap::new();
        let mut ordered = BTreeMap::new();
        for document in documents {
            match document {
                Document::Namespace(namespace) => {
                    namespaces.insert(namespace.name, namespace.labels);
                }
                Document::Network(policy) => {
                    of_namespaces.insert((policy.namespace.clone(), policy.name.clone()), policy);
                }
                Document::Ordered(policy) => {
                    ordered.insert((policy.kind, policy.name.clone()), policy);
                }
            }
        }
        let mut ordered: Vec<OrderedPolicy> = ordered.into_values().collect();
        ordered.sort_by(|one, other| one.turn().cmp(&other.turn()));
        let network_policies = of_namespaces.into_values().collect();
        Self { namespaces, network_policies, ordered }
    }

    /// The labels of a namespace. One that nobody has written of has its name's.
    pub(super) fn labels(&self, namespace: &str) -> Cow<'_, Labels> {
        match self.namespaces.get(namespace) {
            Some(labels) => Cow::Borrowed(labels),
            None => Cow::Owned(Namespace::undeclared(namespace).labels),
        }
    }

    /// The namespaces that somebody has written of.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }

    /// The NetworkPolicies, by namespace and name.
    pub(super) fn network_policies(&self) -> &[NetworkPolicy] {
        &self.network_policies
    }

    /// The ordered policies, in the order in which they are asked.
    pub(super) fn ordered(&self) -> &[OrderedPolicy] {
        &self.ordered
    }

    /// Some policy may decide about somebody.
    pub(super) fn is_policed(&self, view: View) -> bool {
        self.network_policies.iter().any(|policy| view.shows(policy.staged))
            || self.ordered.iter().any(|policy| view.shows(policy.staged))
    }
}

impl World {
    /// Makes a snapshot.
    pub fn new(
        endpoints: Vec<Endpoint>,
        networks: BTreeMap<String, Standing>,
        documents: impl IntoIterator<Item = Document>,
    ) -> Self {
        Self::of(Arc::new(Documents::new(documents)), endpoints, networks)
    }

    /// Makes a snapshot of documents that are at hand.
    pub fn of(
        documents: Arc<Documents>,
        endpoints: Vec<Endpoint>,
        networks: BTreeMap<String, Standing>,
    ) -> Self {
        let names = endpoints.iter().map(|endpoint| &endpoint.namespace);
        let undeclared = names
            .filter(|name| !documents.namespaces.contains_key(*name))
            .map(|name| (name.clone(), Namespace::undeclared(name).labels))
            .collect();
        Self { documents, undeclared, endpoints, networks }
    }

    /// What was written.
    pub fn documents(&self) -> &Arc<Documents> {
        &self.documents
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Who has this address: an endpoint or somebody elsewhere. That something comes from the host
    /// itself cannot be seen at an address, which translation may have lent to others.
    pub fn side(&self, address: IpAddr) -> Side<'_> {
        let mut endpoints = self.endpoints.iter();
        match endpoints.find(|endpoint| endpoint.addresses.contains(&address)) {
            Some(endpoint) => Side::Endpoint { endpoint, address },
            None => Side::World(address),
        }
    }

    /// The labels of a namespace. Every endpoint's has at least its name's; one that nobody speaks of
    /// has none, and is not left out for it: a rule that denies may be for everybody.
    pub(super) fn labels(&self, namespace: &str) -> &Labels {
        static NONE: Labels = Labels::new();
        let declared = self.documents.namespaces.get(namespace);
        declared.or_else(|| self.undeclared.get(namespace)).unwrap_or(&NONE)
    }

    /// How a network stands. Of one that nobody knows nothing good is assumed.
    pub(super) fn standing(&self, network: &str) -> Standing {
        self.networks.get(network).copied().unwrap_or(Standing::ZeroTrust { probes: false })
    }

    /// The ordered policies of a tier, in the order in which they are asked.
    pub(super) fn ordered(
        &self,
        tier: OrderedTier,
        view: View,
    ) -> impl Iterator<Item = &OrderedPolicy> {
        let is_seen =
            move |policy: &&OrderedPolicy| policy.tier == tier && view.shows(policy.staged);
        self.documents.ordered.iter().filter(is_seen)
    }

    /// The NetworkPolicies of a namespace, by name.
    pub(super) fn network_policies<'w>(
        &'w self,
        namespace: &'w str,
        view: View,
    ) -> impl Iterator<Item = &'w NetworkPolicy> {
        let is_seen = move |policy: &&NetworkPolicy| {
            policy.namespace == namespace && view.shows(policy.staged)
        };
        self.documents.network_policies.iter().filter(is_seen)
    }

    /// Some policy is staged.
    pub(super) fn has_staged(&self) -> bool {
        self.documents.network_policies.iter().any(|policy| policy.staged)
            || self.documents.ordered.iter().any(|policy| policy.staged)
    }

    /// An endpoint has nothing to do with anybody until it is known who it is: policies may speak of
    /// it, or its network trusts nobody.
    pub(super) fn is_shut_off(&self, endpoint: &Endpoint, view: View) -> bool {
        endpoint.unknown
            && (self.documents.is_policed(view)
                || matches!(self.standing(&endpoint.network), Standing::ZeroTrust { .. }))
    }
}
