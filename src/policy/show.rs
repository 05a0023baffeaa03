//! What is in force, as far as a world knows it. Where labels and documents come from, whoever made the
//! world has to add.

use std::collections::BTreeSet;

use quantum_config::ask::{
    Shown, ShownEndpoint, ShownLabel, ShownNamespace, ShownNetwork, ShownPolicy,
};
use quantum_config::policy::{OrderedPolicy, OrderedTier};

use super::resolve::called;
use super::terms::Selecting;
use super::{Endpoint, View, World};

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
    let mut policies = ordered(world, OrderedTier::Admin);
    policies.extend(ordered(world, OrderedTier::Application));
    policies.extend(namespaces.iter().flat_map(|name| network(world, name)));
    policies.extend(ordered(world, OrderedTier::Baseline));
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

fn ordered(world: &World, tier: OrderedTier) -> Vec<ShownPolicy> {
    let policies = world.ordered(tier, View::WithStaged).map(|policy| ShownPolicy {
        kind: policy.kind.to_string(),
        name: policy.name.clone(),
        tier: called_tier(&format!("{tier:?}"), policy.staged),
        priority: Some(policy.priority),
        selects: world.endpoints().iter().filter(|e| selects(world, policy, e)).count(),
        source: String::new(),
    });
    policies.collect()
}

/// A tier, and that who is of it decides nothing.
fn called_tier(tier: &str, is_staged: bool) -> String {
    if is_staged { format!("{tier}, staged") } else { tier.to_owned() }
}

fn selects(world: &World, policy: &OrderedPolicy, endpoint: &Endpoint) -> bool {
    let namespace = world.labels(&endpoint.namespace);
    policy.subject.matches(&endpoint.network, namespace, &endpoint.labels)
}

fn network<'w>(
    world: &'w World,
    namespace: &'w str,
) -> impl Iterator<Item = ShownPolicy> + use<'w> {
    world.network_policies(namespace, View::WithStaged).map(move |policy| ShownPolicy {
        kind: "NetworkPolicy".to_owned(),
        name: format!("{namespace}/{}", policy.name),
        tier: called_tier("Network", policy.staged),
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
        policies: Selecting::of(world, endpoint, View::WithStaged).names(),
        audit: endpoint.audit,
    }
}
