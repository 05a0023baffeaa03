//! How much of something each user may have at a time: places for connections, memory for requests. Root
//! has its own, and of the others each has a share, and all together have one, so that no user takes what
//! another needs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For root.
    pub(super) root: u32,
    /// For any other user.
    pub(super) each: u32,
    /// For all others together.
    pub(super) others: u32,
}

/// What is left, and who has how much.
#[derive(Debug)]
pub(super) struct Shares {
    limits: Limits,
    root: Arc<Semaphore>,
    others: Arc<Semaphore>,
    each: RefCell<HashMap<u32, Arc<Semaphore>>>,
}

/// Something that a user has, until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _own: OwnedSemaphorePermit,
    _of_others: Option<OwnedSemaphorePermit>,
}

fn semaphore(permits: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits as usize))
}

impl Shares {
    pub(super) fn new(limits: Limits) -> Self {
        let (root, others) = (semaphore(limits.root), semaphore(limits.others));
        Self { limits, root, others, each: RefCell::default() }
    }

    /// How much there is.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Those of a user, and those of all others if it is not root.
    fn of(&self, uid: u32) -> (Arc<Semaphore>, Option<Arc<Semaphore>>) {
        if uid == 0 {
            return (self.root.clone(), None);
        }
        let mut each = self.each.borrow_mut();
        // Who has nothing is not remembered.
        each.retain(|known, own| *known == uid || !self.is_whole(own));
        let own = each.entry(uid).or_insert_with(|| semaphore(self.limits.each)).clone();
        (own, Some(self.others.clone()))
    }

    fn is_whole(&self, own: &Arc<Semaphore>) -> bool {
        Arc::strong_count(own) == 1 && own.available_permits() == self.limits.each as usize
    }

    /// As much, or none if the user would have to wait.
    pub(super) fn try_take(&self, uid: u32, much: u32) -> Option<Share> {
        let (own, others) = self.of(uid);
        let take = |semaphore: Arc<Semaphore>| semaphore.try_acquire_many_owned(much);
        let taken = take(own).and_then(|own| {
            let of_others = others.map(take).transpose()?;
            Ok::<_, TryAcquireError>(Share { _own: own, _of_others: of_others })
        });
        taken.ok()
    }

    /// As much, as soon as it is there; who asked first has it first. None if it is never there.
    pub(super) async fn take(&self, uid: u32, much: u32) -> Option<Share> {
        let (own, others) = self.of(uid);
        let own = own.acquire_many_owned(much).await.ok()?;
        let of_others = match others {
            Some(others) => Some(others.acquire_many_owned(much).await.ok()?),
            None => None,
        };
        Some(Share { _own: own, _of_others: of_others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { root: 10, each: 2, others: 3 };

    #[test]
    fn nobody_takes_what_another_user_needs() {
        let shares = Shares::new(LIMITS);
        let (first, second) = (shares.try_take(7, 1).expect("one"), shares.try_take(7, 1));
        assert!(second.is_some() && shares.try_take(7, 1).is_none(), "its own share is taken");
        let third = shares.try_take(8, 1);
        assert!(third.is_some() && shares.try_take(9, 1).is_none(), "that of all others is taken");
        assert!(shares.try_take(0, 10).is_some(), "root's is whole");
        drop(first);
        assert!(shares.try_take(7, 1).is_some());
        drop((second, third));
        assert!(shares.try_take(9, 1).is_some());
        assert!(shares.each.borrow().len() < 3, "who has nothing is forgotten");
    }

    #[actix::test]
    async fn who_waits_has_it_when_it_comes_back() {
        let shares = Shares::new(LIMITS);
        let first = shares.take(7, 2).await.expect("there");
        let waits = async { shares.take(7, 2).await.is_some() };
        let gives_back = async { drop(first) };
        let (waited, ()) = tokio::join!(waits, gives_back);
        assert!(waited);
    }
}
