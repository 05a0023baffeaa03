//! What is known.

use std::sync::Arc;

use actix::{ActorFutureExt, Context, Handler, MessageResult, ResponseActFuture, WrapFuture, fut};
use quantum_cni::attach::naming;
use quantum_cni::ipam::Known;
use quantum_cni::store::{Store, StoreError, Stored, StoredState};
use quantum_config::cni::Definition;
use quantum_config::ids::AttachmentKey;

use super::Cache;
use crate::messages::cache::{Addresses, All, Attached, Defined, Find, Held, List, Listed, Lookup};

impl Handler<Lookup> for Cache {
    type Result = ResponseActFuture<Self, Result<Option<Arc<Stored>>, StoreError>>;

    fn handle(&mut self, Lookup(key): Lookup, _: &mut Context<Self>) -> Self::Result {
        // One whose record was lost may be known by what stands for its key.
        let stand_in = || naming::stand_in(&key).filter(|s| self.known.contains_key(s));
        let known = if self.known.contains_key(&key) { Some(key.clone()) } else { stand_in() };
        let Some(key) = known else {
            return Box::pin(fut::ready(Ok(None)));
        };
        if let Some(stored) = self.recent.get(&key).or_else(|| self.unwritten.get(&key)) {
            self.meters.cache_hits.inc();
            return Box::pin(fut::ready(Ok(Some(stored.clone()))));
        }
        self.meters.cache_misses.inc();
        let wanted = key.clone();
        let work = self.on_store(move |store: &mut Store| store.find(&wanted));
        Box::pin(work.into_actor(self).map(move |found, cache, _| {
            let found = cache.heard(found);
            // It may have been changed, marked or forgotten while it was being read.
            if let Some(newer) = cache.recent.get(&key).or_else(|| cache.unwritten.get(&key)) {
                return Ok(Some(newer.clone()));
            }
            let known = cache.known.get(&key).copied();
            let stored = found?.and_then(|stored| stored.as_known(known));
            let stored = stored.map(Arc::new);
            if let Some(stored) = &stored {
                cache.recent.put(key, stored.clone());
            }
            Ok(stored)
        }))
    }
}

impl Handler<Find> for Cache {
    type Result = MessageResult<Find>;

    fn handle(&mut self, wanted: Find, _: &mut Context<Self>) -> Self::Result {
        let same =
            |key: &&AttachmentKey| key.container == wanted.container && key.ifname == wanted.ifname;
        let mut found = self.known.keys().filter(same);
        let first = found.next();
        MessageResult(first.filter(|_| found.next().is_none()).cloned())
    }
}

impl Handler<List> for Cache {
    type Result = MessageResult<List>;

    fn handle(&mut self, List(network): List, _: &mut Context<Self>) -> Self::Result {
        let mut listed = Listed::default();
        for (key, state) in self.known.iter().filter(|(key, _)| key.network == network) {
            listed.keys.push(key.clone());
            if *state == StoredState::Leaving {
                listed.leaving.push(key.clone());
            }
        }
        listed.keys.extend(self.held.keys().filter(|key| key.network == network).cloned());
        MessageResult(listed)
    }
}

impl Handler<Attached> for Cache {
    type Result = MessageResult<Attached>;

    fn handle(&mut self, _: Attached, _: &mut Context<Self>) -> Self::Result {
        let attached = self.known.iter().filter(|(_, state)| **state != StoredState::Leaving);
        MessageResult(attached.map(|(key, _)| key.clone()).collect())
    }
}

impl Handler<Held> for Cache {
    type Result = MessageResult<Held>;

    fn handle(&mut self, Held(key): Held, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.held.get(&key).cloned().unwrap_or_default())
    }
}

impl Handler<Addresses> for Cache {
    type Result = ResponseActFuture<Self, Result<Vec<Known>, StoreError>>;

    fn handle(&mut self, Addresses(network): Addresses, _: &mut Context<Self>) -> Self::Result {
        let work = self.on_store(move |store: &mut Store| store.known(&network));
        Box::pin(work.into_actor(self).map(|outcome, cache, _| cache.heard(outcome)))
    }
}

impl Handler<All> for Cache {
    type Result = ResponseActFuture<Self, Result<Vec<Stored>, StoreError>>;

    fn handle(&mut self, _: All, _: &mut Context<Self>) -> Self::Result {
        let work = self.on_store(|store: &mut Store| store.all());
        Box::pin(work.into_actor(self).map(|outcome, cache, _| cache.heard(outcome)))
    }
}

impl Handler<Defined> for Cache {
    type Result = ResponseActFuture<Self, Result<Vec<Definition>, StoreError>>;

    fn handle(&mut self, _: Defined, _: &mut Context<Self>) -> Self::Result {
        let work = self.on_store(|store: &mut Store| store.networks());
        Box::pin(work.into_actor(self).map(|outcome, cache, _| cache.heard(outcome)))
    }
}
