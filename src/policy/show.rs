//! What is in force, as far as a world knows it. Where labels and documents come from, whoever made the
//! world has to add.

use std::collections::{BTreeMap, BTreeSet};

use quantum_config::ask::{
    Shown, ShownEndpoint, ShownLabel, ShownNamespace, ShownNetwork, ShownPolicy,
};
use quantum_config::policy::{NetworkPolicy, OrderedPolicy, OrderedTier};

use super::resolve::called;
use super::terms::Selecting;
use super::{Endpoint, Standing, View, World};

/// The most endpoints, policies and namespaces that are shown: an answer has a limit.
const ENDPOINTS: usize = 1000;
const POLICIES: usize = 1000;
const NAMESPACES: usize = 1000;

/// Answers `policy.show`. `networks` are those that are known, whether they have endpoints or not; one
/// that has stands as its endpoints are judged.
pub fn show(world: &World, networks: &BTreeMap<String, Standing>) -> Shown {
    let endpoints = world.endpoints();
    let used =
        endpoints.iter().map(|endpoint| (&endpoint.network, world.standing(&endpoint.network)));
    let known = networks.iter().map(|(name, standing)| (name, *standing));
    let networks: BTreeMap<&String, Standing> = known.chain(used).collect();
    let networks = networks
        .into_iter()
        .map(|(name, standing)| ShownNetwork { name: name.clone(), posture: standing.to_string() });
    let names = endpoints.iter().map(|endpoint| endpoint.namespace.as_str());
    let namespaces: BTreeSet<&str> = names.chain(world.documents().namespaces()).collect();
    let shown = namespaces.iter().take(NAMESPACES).map(|name| ShownNamespace {
        name: (*name).to_owned(),
        labels: world.labels(name).clone(),
        source: String::new(),
    });
    let shown = shown.collect();
    let mut policies = policies(world);
    let policies_left_out = policies.len().saturating_sub(POLICIES);
    policies.truncate(POLICIES);
    Shown {
        networks: networks.collect(),
        namespaces: shown,
        namespaces_left_out: namespaces.len().saturating_sub(NAMESPACES),
        policies,
        policies_left_out,
        endpoints: endpoints.iter().take(ENDPOINTS).map(|e| endpoint_of(world, e)).collect(),
        endpoints_left_out: endpoints.len().saturating_sub(ENDPOINTS),
        problems: Vec::new(),
    }
}

/// All policies in the order in which they are asked, whether they select somebody or not.
fn policies(world: &World) -> Vec<ShownPolicy> {
    let mut there: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in world.endpoints() {
        there.entry(&endpoint.namespace).or_default().push(endpoint);
    }
    let of_namespaces = world.documents().network_policies().iter();
    let of_namespaces = of_namespaces.map(|policy| {
        let candidates = there.get(policy.namespace.as_str()).map_or(&[][..], Vec::as_slice);
        network(policy, candidates)
    });
    let mut policies = ordered(world, OrderedTier::Admin);
    policies.extend(ordered(world, OrderedTier::Application));
    policies.extend(of_namespaces);
    policies.extend(ordered(world, OrderedTier::Baseline));
    policies
}

fn ordered(world: &World, tier: OrderedTier) -> Vec<ShownPolicy> {
    let policies = world.ordered(tier, View::WithStaged).map(|policy| ShownPolicy {
        kind: policy.kind.to_string(),
        name: policy.name.clone(),
        tier: format!("{tier:?}"),
        priority: Some(policy.priority),
        mode: mode(policy.staged),
        selects: world.endpoints().iter().filter(|e| selects(world, policy, e)).count(),
        source: String::new(),
    });
    policies.collect()
}

/// As documents have it.
fn mode(is_staged: bool) -> String {
    if is_staged { "audit" } else { "enforce" }.to_owned()
}

fn selects(world: &World, policy: &OrderedPolicy, endpoint: &Endpoint) -> bool {
    let namespace = world.labels(&endpoint.namespace);
    policy.subject.matches(&endpoint.network, namespace, &endpoint.labels)
}

/// A policy, and how many of those in its namespace it selects.
fn network(policy: &NetworkPolicy, there: &[&Endpoint]) -> ShownPolicy {
    ShownPolicy {
        kind: "NetworkPolicy".to_owned(),
        name: format!("{}/{}", policy.namespace, policy.name),
        tier: "Network".to_owned(),
        priority: None,
        mode: mode(policy.staged),
        selects: there.iter().filter(|e| policy.subject.matches(&e.labels)).count(),
        source: String::new(),
    }
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
        removed: BTreeMap::new(),
        policies: Selecting::of(world, endpoint, View::WithStaged).names(),
        audit: endpoint.audit,
    }
}
