//! What becomes known, and what is forgotten. Memory follows the store: it changes when the commit
//! has returned, but for the mark of an attachment that is leaving.

use std::sync::Arc;

use actix::{ActorFutureExt, Context, Handler, ResponseActFuture, WrapFuture, fut};
use quantum_cni::store::{Change, Store, StoreError, Stored, StoredState};
use slog::info;

use super::Cache;
use crate::messages::cache::{Abandon, Define, Forget, Hold, Leave, Rebuild, Remember, TakeOver};

type Written = ResponseActFuture<Cache, Result<(), StoreError>>;

impl Cache {
    /// Commits changes, all or none, then has memory follow.
    fn write(&mut self, changes: Vec<Change>, follow: impl FnOnce(&mut Self) + 'static) -> Written {
        let work = self.on_store(move |store: &mut Store| store.commit(&changes));
        Box::pin(work.into_actor(self).map(move |outcome, cache, _| {
            cache.heard(outcome)?;
            cache.dirty = true;
            follow(cache);
            Ok(())
        }))
    }
}

impl Handler<Remember> for Cache {
    type Result = Written;

    fn handle(&mut self, Remember(record): Remember, _: &mut Context<Self>) -> Self::Result {
        let stored = Stored { record: (*record).clone(), state: StoredState::Attached };
        self.write(vec![Change::Remember(record)], move |cache| {
            let key = stored.record.key.clone();
            cache.held.remove(&key);
            cache.known.insert(key.clone(), StoredState::Attached);
            cache.recent.put(key, Arc::new(stored));
        })
    }
}

impl Handler<Leave> for Cache {
    type Result = Written;

    fn handle(&mut self, Leave(key): Leave, _: &mut Context<Self>) -> Self::Result {
        // Here memory goes ahead: if the mark cannot be written, this daemon still finishes the DEL.
        self.recent.pop(&key);
        if let Some(state) = self.known.get_mut(&key) {
            *state = StoredState::Leaving;
        }
        let marked = key.clone();
        let written = self.write(vec![Change::Leaving(key)], |_| {});
        Box::pin(written.then(move |written, cache: &mut Self, _| -> Written {
            let Err(error) = written else { return Box::pin(fut::ready(Ok(()))) };
            // A mark beside the store is as good as one in it.
            let look = cache.on_store(move |store: &mut Store| Ok(store.is_marked(&marked)));
            Box::pin(look.into_actor(cache).map(|looked, cache, _| match cache.heard(looked) {
                Ok(true) => Ok(()),
                _ => Err(error),
            }))
        }))
    }
}

impl Handler<Abandon> for Cache {
    type Result = Written;

    fn handle(&mut self, asked: Abandon, _: &mut Context<Self>) -> Self::Result {
        let Abandon { record, is_left } = asked;
        let key = record.key.clone();
        let stored = Stored { record: (*record).clone(), state: StoredState::Leaving };
        // In one commit: in between it would be an attachment that nobody knows of.
        let changes = vec![Change::Remember(record), Change::Leaving(key.clone())];
        let known = move |cache: &mut Self| {
            cache.held.remove(&key);
            cache.recent.pop(&key);
            cache.known.insert(key.clone(), StoredState::Leaving);
        };
        let written = self.write(changes, known.clone());
        Box::pin(written.map(move |written, cache, _| {
            if written.is_err() && is_left {
                known(cache);
                cache.unwritten.insert(stored.record.key.clone(), Arc::new(stored));
            }
            written
        }))
    }
}

impl Handler<Forget> for Cache {
    type Result = Written;

    fn handle(&mut self, Forget { key, now }: Forget, _: &mut Context<Self>) -> Self::Result {
        let change = Change::Forget { key: key.clone(), released_at: now };
        self.write(vec![change], move |cache| {
            cache.recent.pop(&key);
            cache.unwritten.remove(&key);
            cache.known.remove(&key);
            cache.held.remove(&key);
        })
    }
}

impl Handler<Define> for Cache {
    type Result = Written;

    fn handle(&mut self, Define(definition): Define, _: &mut Context<Self>) -> Self::Result {
        self.write(vec![Change::Network(Box::new((*definition).clone()))], |_| {})
    }
}

impl Handler<Hold> for Cache {
    type Result = Written;

    fn handle(&mut self, Hold { key, addresses }: Hold, _: &mut Context<Self>) -> Self::Result {
        let leases = addresses.iter().map(|a| (key.clone(), a.address.ip())).collect();
        let change = Change::Hold { key, addresses };
        self.write(vec![change], |cache| cache.hold(leases))
    }
}

impl Handler<TakeOver> for Cache {
    type Result = Written;

    fn handle(&mut self, TakeOver(network): TakeOver, _: &mut Context<Self>) -> Self::Result {
        let definition = network.clone();
        let work = self.on_store(move |store: &mut Store| store.take_over(&definition));
        Box::pin(work.into_actor(self).map(move |outcome, cache, _| {
            let leases = cache.heard(outcome)?;
            cache.dirty = true;
            if !leases.is_empty() {
                info!(cache.log, "took over leases"; "network_name" => network.name.as_str(),
                    "data_dir" => network.data_dir.clone(), "addresses" => leases.len());
            }
            cache.hold(leases);
            Ok(())
        }))
    }
}

impl Handler<Rebuild> for Cache {
    type Result = Written;

    fn handle(&mut self, Rebuild(records): Rebuild, _: &mut Context<Self>) -> Self::Result {
        let work = self.on_store(move |store: &mut Store| {
            store.adopt(records.clone())?;
            store.all()
        });
        Box::pin(work.into_actor(self).map(|outcome, cache, _| {
            let all: Vec<Stored> = cache.heard(outcome)?;
            cache.dirty = true;
            cache.recent.clear();
            cache.known = all.into_iter().map(|s| (s.record.key, s.state)).collect();
            Ok(())
        }))
    }
}
