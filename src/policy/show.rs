//! What is in force, as far as a world knows it. Where labels and documents come from, whoever made the
//! world has to add.

use std::collections::BTreeSet;

use quantum_config::ask::{
    Shown, ShownEndpoint, ShownLabel, ShownNamespace, ShownNetwork, ShownPolicy,
};
use quantum_config::policy::{ClusterPolicy, ClusterTier};

use super::resolve::called;
use super::terms::Selecting;
use super::{Endpoint, World};

/// The most endpoints that are shown: an answer has a limit.
const ENDPOINTS: usize = 1000;

/// Answers `policy.show`. Of networks, namespaces and their policies those that have endpoints are shown.
pub fn show(world: &World) -> Shown {
    let names =
        |of: fn(&Endpoint) -> &str| world.endpoints().iter().map(of).collect::<BTreeSet<&str>>();
    let networks = names(|endpoint| &endpoint.network).into_iter().map(|name| ShownNetwork {
        name: name.to_owned(),
        posture: world.standing(name).to_string(),
    });
    let namespaces = names(|endpoint| &endpoint.namespace);
    let shown =
        world.endpoints().iter().take(ENDPOINTS).map(|endpoint| endpoint_of(world, endpoint));
    let mut policies = cluster(world, ClusterTier::Admin);
    policies.extend(namespaces.iter().flat_map(|name| network(world, name)));
    policies.extend(cluster(world, ClusterTier::Baseline));
    let namespaces = namespaces.iter().map(|name| ShownNamespace {
        name: (*name).to_owned(),
        labels: world.labels(name).clone(),
    });
    Shown {
        networks: networks.collect(),
        namespaces: namespaces.collect(),
        policies,
        endpoints: shown.collect(),
        endpoints_left_out: world.endpoints().len().saturating_sub(ENDPOINTS),
        problems: Vec::new(),
    }
}

fn cluster(world: &World, tier: ClusterTier) -> Vec<ShownPolicy> {
    let policies = world.cluster_policies(tier).map(|policy| ShownPolicy {
        kind: "ClusterNetworkPolicy".to_owned(),
        name: policy.name.clone(),
        tier: format!("{tier:?}"),
        priority: Some(policy.priority),
        selects: world.endpoints().iter().filter(|e| selects(world, policy, e)).count(),
        source: String::new(),
    });
    policies.collect()
}

fn selects(world: &World, policy: &ClusterPolicy, endpoint: &Endpoint) -> bool {
    policy.namespaces.matches(world.labels(&endpoint.namespace))
        && policy.endpoints.matches(&endpoint.labels)
}

fn network<'w>(
    world: &'w World,
    namespace: &'w str,
) -> impl Iterator<Item = ShownPolicy> + use<'w> {
    world.network_policies(namespace).map(move |policy| ShownPolicy {
        kind: "NetworkPolicy".to_owned(),
        name: format!("{namespace}/{}", policy.name),
        tier: "Network".to_owned(),
        priority: None,
        selects: world
            .endpoints()
            .iter()
            .filter(|e| e.namespace == namespace && policy.subject.matches(&e.labels))
            .count(),
        source: String::new(),
    })
}

fn endpoint_of(world: &World, endpoint: &Endpoint) -> ShownEndpoint {
    let label = |(key, value): (&String, &String)| {
        (key.clone(), ShownLabel { value: value.clone(), source: String::new() })
    };
    ShownEndpoint {
        key: endpoint.key.to_string(),
        name: called(endpoint),
        network: endpoint.network.clone(),
        addresses: endpoint.addresses.clone(),
        labels: endpoint.labels.iter().map(label).collect(),
        policies: Selecting::of(world, endpoint).names(),
        audit: endpoint.audit,
    }
}
