//! The board: how the daemon is, published by the Manager for everybody to read without asking.
//! STATUS, `/readyz` and `quantumctl status` are read off it, so that they answer at once whatever
//! the actors are doing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use quantum_cni::attach::{Dropping, Trouble};
use quantum_cni::policy::Standing;
use quantum_config::cni::{CniError, Code, Definition};
use quantum_config::ids::NetworkName;
use serde::Serialize;

use crate::gauges::Gauges;

/// What is on it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Board {
    /// How far the daemon has got.
    pub(crate) phase: Phase,
    /// Why what runs may be without network, and nobody can say that it is not.
    pub(crate) degraded: Vec<String>,
    /// Why containers may have less connectivity than they should: our rules are not in force, or
    /// those of others drop what ours let pass.
    pub(crate) limited: Vec<String>,
    /// Addresses of containers that hold so many connections, each so many, that they begin no new ones.
    pub(crate) crowded: BTreeMap<IpAddr, u64>,
    /// Which lanes hang: nothing that they do comes to its end, and ADDs need them.
    #[serde(rename = "stuck")]
    pub(crate) lanes: Gauges,
    /// Why what must survive the daemon cannot be written, so that no ADD can succeed.
    pub(crate) failing: Vec<String>,
    /// What the daemon was not given and needs.
    pub(crate) unmet: Vec<String>,
    /// What there is less of than a burst may need, and what comes of it.
    pub(crate) warnings: Vec<String>,
    /// What the kernel does not have, and what is done instead.
    pub(crate) missing: Vec<String>,
    /// Why our tables are not what they should be, if they are not.
    #[serde(skip)]
    pub(crate) unruled: Option<String>,
    /// What of the spool cannot be read.
    #[serde(skip)]
    pub(crate) unread: Vec<String>,
    /// Chains of others that drop what they do not know.
    #[serde(skip)]
    pub(crate) dropping: Vec<Dropping>,
    /// Links of ours, or forwarding, that are not as they should be.
    #[serde(skip)]
    pub(crate) troubles: Vec<Trouble>,
    /// Files of `config_dir` that will not do.
    pub(crate) problems: Vec<FileProblem>,
    /// Files of policy that will not do.
    pub(crate) policy_problems: Vec<FileProblem>,
    /// Networks that are defined in `config_dir`, each with its file.
    pub(crate) defined: BTreeMap<NetworkName, String>,
    /// What those files say.
    #[serde(skip)]
    pub(crate) definitions: BTreeMap<NetworkName, Arc<Definition>>,
    /// Networks that are in use.
    pub(crate) networks: BTreeMap<NetworkName, NetworkStatus>,
}

/// How far the daemon has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// It compares what it knows with the kernel; DEL is served, ADD waits.
    #[default]
    Starting,
    /// Everything is served.
    Open,
    /// It finishes what it has begun.
    Draining,
}

/// A file that will not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FileProblem {
    pub(crate) file: String,
    pub(crate) reason: String,
}

/// How one network is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct NetworkStatus {
    /// Its bridge.
    pub(crate) bridge: String,
    /// As it is now.
    #[serde(skip)]
    pub(crate) definition: Option<Arc<Definition>>,
    /// Addresses that are leased.
    pub(crate) held: u128,
    /// Addresses that are free, of the scarcest set.
    pub(crate) free: u128,
    /// The first set that has none left, as its subnets.
    pub(crate) exhausted: Option<String>,
    /// Why the network could not be made ready.
    pub(crate) failed: Option<Failure>,
}

/// Why a network could not be made ready, and how it was defined then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    pub(crate) definition: Arc<Definition>,
    pub(crate) why: String,
}

impl Board {
    /// Everything that keeps the daemon from serving everybody, in words.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match self.phase {
            Phase::Starting => reasons.push("the daemon is starting".to_owned()),
            Phase::Draining => reasons.push("the daemon is stopping".to_owned()),
            Phase::Open => {}
        }
        reasons.extend(self.lanes.stuck());
        reasons.extend(self.failing.iter().cloned());
        reasons.extend(self.unmet.iter().cloned());
        reasons.extend(self.degraded.iter().cloned());
        reasons.extend(self.limited.iter().cloned());
        reasons
    }

    /// Whether ADDs are served, and what runs has the connectivity that it should.
    pub(crate) fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// Puts together what limits the networks that are in use. To be called when these change, or what
    /// is known of the rules.
    pub(crate) fn judge(&mut self) {
        let used = || self.networks.values().filter_map(|network| network.definition.as_deref());
        let concerned = |chain: &Dropping| {
            let mut bridges: Vec<&str> =
                used().filter(|n| chain.concerns(n)).map(|n| n.bridge.as_str()).collect();
            bridges.sort_unstable();
            bridges.dedup();
            (!bridges.is_empty()).then(|| chain.told_for(&bridges))
        };
        let dropped: Vec<String> = self.dropping.iter().filter_map(concerned).collect();
        let troubles = self.troubles.iter().map(|trouble| trouble.why.clone());
        self.limited = self.unruled.iter().cloned().chain(dropped).chain(troubles).collect();
    }

    /// Notes what of the spool cannot be read now; nothing if all of it can.
    pub(crate) fn spool_is(&mut self, unread: Vec<String>) {
        let before = std::mem::replace(&mut self.unread, unread);
        self.retell(&before, self.unread.clone());
    }

    /// Has reasons for being degraded take the place of those that the same part of the daemon told `before`.
    pub(crate) fn retell(&mut self, before: &[String], now: impl IntoIterator<Item = String>) {
        self.degraded.retain(|reason| !before.contains(reason));
        self.degraded.extend(now);
    }

    /// How the networks stand of which that is known: those in use as they are now, the others as they
    /// are defined.
    pub(crate) fn standings(&self) -> BTreeMap<String, Standing> {
        let used =
            self.networks.iter().filter_map(|(name, n)| Some((name, n.definition.as_ref()?)));
        let all = self.definitions.iter().chain(used);
        all.map(|(name, known)| (name.to_string(), Standing::from(&known.posture))).collect()
    }

    /// The answer to a STATUS for `network`. What failed with another definition than the caller's
    /// does not concern him.
    pub(crate) fn status(
        &self,
        network: &NetworkName,
        definition: Option<&Definition>,
    ) -> Result<(), CniError> {
        let unable = |code, details: String| {
            Err(CniError::new(code, format!("network {:?} cannot attach", network.as_str()))
                .with_details(details))
        };
        if self.phase != Phase::Open {
            return unable(Code::NotReady, self.reasons().join("; "));
        }
        if self.lanes.rules_are_stuck() {
            return unable(Code::Degraded, self.lanes.stuck().join("; "));
        }
        let now = [self.lanes.stuck(), self.failing.clone(), self.unmet.clone()].concat();
        if !now.is_empty() {
            return unable(Code::NotReady, now.join("; "));
        }
        if !self.degraded.is_empty() {
            return unable(Code::Degraded, self.degraded.join("; "));
        }
        let status = self.networks.get(network);
        let used = status.and_then(|status| status.definition.as_deref());
        let mut limits: Vec<String> = self.unruled.iter().cloned().collect();
        if let Some(meant) = definition.or(used) {
            let concerned = self.dropping.iter().filter(|chain| chain.concerns(meant));
            limits.extend(concerned.map(|chain| chain.told_for(&[meant.bridge.as_str()])));
            let is_of = |t: &&Trouble| t.bridge.as_ref().is_none_or(|of| *of == meant.bridge);
            limits.extend(self.troubles.iter().filter(is_of).map(|trouble| trouble.why.clone()));
        }
        if !limits.is_empty() {
            return unable(Code::Degraded, limits.join("; "));
        }
        let Some(status) = status else { return Ok(()) };
        if let Some(failure) = &status.failed
            && definition.is_none_or(|definition| {
                failure.definition.serves(&definition.with_ranges_of(&failure.definition))
            })
        {
            return unable(Code::NotReady, failure.why.clone());
        }
        if let Some(subnets) = &status.exhausted {
            return unable(Code::NotReady, format!("No IP addresses available in pool {subnets}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_says_why_not() {
        let name = NetworkName::new("n").expect("a name");
        let mut board = Board::default();
        assert_eq!(board.status(&name, None).expect_err("starting").code, Code::NotReady);
        board.phase = Phase::Open;
        assert!(board.status(&name, None).is_ok());
        let status =
            NetworkStatus { exhausted: Some("10.0.0.0/30".into()), ..NetworkStatus::default() };
        board.networks.insert(name.clone(), status);
        let error = board.status(&name, None).expect_err("exhausted");
        assert_eq!(error.code, Code::NotReady);
        assert!(error.details.contains("10.0.0.0/30"));
        board.networks.clear();
        board.unruled = Some("cannot find nft".into());
        board.judge();
        assert_eq!(board.reasons(), ["cannot find nft"]);
        assert_eq!(board.status(&name, None).expect_err("unruled").code, Code::Degraded);
        board.unruled = None;
        board.judge();
        assert!(board.reasons().is_empty() && board.status(&name, None).is_ok());
        board.degraded.push("the store was damaged".into());
        board.spool_is(vec!["reading a: no".into(), "reading b: no".into()]);
        board.spool_is(vec!["reading b: no".into()]);
        assert_eq!(board.reasons(), ["the store was damaged", "reading b: no"]);
        board.spool_is(Vec::new());
        assert_eq!(board.status(&name, None).expect_err("degraded").code, Code::Degraded);
        board.failing.push("the disk is full".into());
        assert_eq!(board.status(&name, None).expect_err("failing").code, Code::NotReady);
        board.failing.clear();
        board.unmet.push("no CAP_SYS_ADMIN".into());
        assert_eq!(board.status(&name, None).expect_err("unmet").code, Code::NotReady);
        assert_eq!(board.reasons(), ["no CAP_SYS_ADMIN", "the store was damaged"]);
    }
}
