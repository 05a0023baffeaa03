//! Which policies are asked about an endpoint, and what follows from which these are.

use std::sync::Arc;

use quantum_config::policy::{Labels, OrderedTier};

use super::super::rule::note;
use super::{Compiler, Space};
use crate::policy::View;

/// The policies that are asked about an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) admin: Vec<usize>,
    pub(super) application: Vec<usize>,
    /// None if it is not isolated.
    pub(super) network: Option<Vec<usize>>,
    pub(super) baseline: Vec<usize>,
}

impl Compiler {
    /// Which policies with something to say select such an endpoint.
    pub(super) fn asked(&self, space: &Space, way: usize, view: View, labels: &Labels) -> Asked {
        let mut asked = Asked::default();
        for n in space.ordered.iter().copied() {
            let policy = &self.documents.ordered()[n];
            if self.ordered[n][way].is_some()
                && view.shows(policy.staged)
                && policy.subject.endpoints.matches(labels)
            {
                match policy.tier {
                    OrderedTier::Admin => asked.admin.push(n),
                    OrderedTier::Application => asked.application.push(n),
                    OrderedTier::Baseline => asked.baseline.push(n),
                }
            }
        }
        for n in space.network.iter().copied() {
            let policy = &self.documents.network_policies()[n];
            if self.network[n][way].is_some()
                && view.shows(policy.staged)
                && policy.subject.matches(labels)
            {
                asked.network.get_or_insert_default().push(n);
            }
        }
        if asked.network.is_some() {
            // Nobody asks them then.
            asked.baseline.clear();
        }
        asked
    }

    /// Some of them name those at the endpoint's own place.
    pub(super) fn is_relative(&self, n: usize, asked: &Asked) -> bool {
        let parts = asked.ordered().into_iter().flatten().map(|policy| &self.ordered[*policy][n]);
        parts.flatten().any(|part| part.is_relative)
    }

    /// Which policies these are, in an order that is the same whatever they say.
    pub(super) fn names(&self, asked: &Asked) -> Vec<String> {
        let ordered = asked.ordered().into_iter().flatten().map(|n| &self.documents.ordered()[*n]);
        let ordered = ordered.map(|policy| format!("{} {}", policy.kind, policy.name));
        let network =
            asked.network.iter().flatten().map(|n| &self.documents.network_policies()[*n]);
        let network = network.map(|policy| format!("{}/{}", policy.namespace, policy.name));
        let mut names: Vec<String> = ordered.chain(network).collect();
        names.sort_unstable();
        names
    }

    /// Why nothing comes through that no rule lets through.
    pub(super) fn isolated(&self, policies: &[usize]) -> Arc<str> {
        let mut text = "isolated by NetworkPolicy".to_owned();
        for (n, policy) in policies.iter().enumerate() {
            let policy = &self.documents.network_policies()[*policy];
            text.push_str(if n == 0 { " " } else { ", " });
            text.push_str(&format!("{}/{}", policy.namespace, policy.name));
        }
        note(&text, "")
    }
}

impl Asked {
    pub(super) fn is_nobody(&self) -> bool {
        *self == Self::default()
    }

    /// Those that are asked in their order.
    pub(super) fn ordered(&self) -> [&Vec<usize>; 3] {
        [&self.admin, &self.application, &self.baseline]
    }
}
