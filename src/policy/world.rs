//! The snapshot that is decided upon. It says nothing of where it comes from: files, a runtime or an
//! API server.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use quantum_config::cni::NamedPort;
use quantum_config::ids::{AttachmentKey, IfName};
use quantum_config::policy::{
    ClusterPolicy, ClusterTier, Document, Labels, Namespace, NetworkPolicy,
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
    cluster_policies: Vec<ClusterPolicy>,
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
    pub fn new(documents: Vec<Document>) -> Self {
        let mut namespaces = BTreeMap::new();
        let mut of_namespaces = BTreeMap::new();
        let mut of_cluster = BTreeMap::new();
        for document in documents {
            match document {
                Document::Namespace(namespace) => {
                    namespaces.insert(namespace.name, namespace.labels);
                }
                Document::Network(policy) => {
                    of_namespaces.insert((policy.namespace.clone(), policy.name.clone()), policy);
                }
                Document::Cluster(policy) => {
                    of_cluster.insert(policy.name.clone(), policy);
                }
            }
        }
        let mut cluster_policies: Vec<ClusterPolicy> = of_cluster.into_values().collect();
        // They are in the order of their names, and this keeps it.
        cluster_policies.sort_by_key(|policy| (policy.tier, policy.priority));
        let network_policies = of_namespaces.into_values().collect();
        Self { namespaces, network_policies, cluster_policies }
    }

    /// The labels of a namespace. One that nobody has written of has its name's.
    pub(super) fn labels(&self, namespace: &str) -> Cow<'_, Labels> {
        match self.namespaces.get(namespace) {
            Some(labels) => Cow::Borrowed(labels),
            None => Cow::Owned(Namespace::undeclared(namespace).labels),
        }
    }

    /// The NetworkPolicies, by namespace and name.
    pub(super) fn network_policies(&self) -> &[NetworkPolicy] {
        &self.network_policies
    }

    /// The ClusterNetworkPolicies, by tier and in the order in which they are asked.
    pub(super) fn cluster_policies(&self) -> &[ClusterPolicy] {
        &self.cluster_policies
    }
}

impl World {
    /// Makes a snapshot.
    pub fn new(
        endpoints: Vec<Endpoint>,
        networks: BTreeMap<String, Standing>,
        documents: Vec<Document>,
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

    /// The ClusterNetworkPolicies of a tier, in the order in which they are asked.
    pub(super) fn cluster_policies(
        &self,
        tier: ClusterTier,
    ) -> impl Iterator<Item = &ClusterPolicy> {
        self.documents.cluster_policies.iter().filter(move |policy| policy.tier == tier)
    }

    /// The NetworkPolicies of a namespace, by name.
    pub(super) fn network_policies<'w>(
        &'w self,
        namespace: &'w str,
    ) -> impl Iterator<Item = &'w NetworkPolicy> {
        let policies = self.documents.network_policies.iter();
        policies.filter(move |policy| policy.namespace == namespace)
    }
}
