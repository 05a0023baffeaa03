//! What the store and its second witness say, put together; and the witness kept as the store is.

use std::collections::HashMap;
use std::io;

use quantum_config::ids::AttachmentKey;

use super::union::{Union, unite};
use super::witness::Seen;
use super::{Change, Learned, Store, StoreError, Stored, StoredState};
use crate::attach::Record;
use crate::ipam::KnownState;

impl Store {
    /// What has been learned from the files beside the store.
    pub fn learned(&self) -> &Learned {
        &self.learned
    }

    /// Why the files beside the store are not all as it is, if they are not.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Keeps what the kernel shows of attachments that neither the store nor the files beside it know. From
    /// here on the store is an ordinary one.
    pub fn adopt(&mut self, records: Vec<Record>) -> Result<(), StoreError> {
        let seen = records.into_iter();
        let seen = seen.map(|record| Stored { record, state: StoredState::Attached });
        self.unite(seen.collect(), false, [Change::Rebuilt]).map(drop)
    }

    /// Puts together the store and what was `seen` beside it, and has both say the same.
    pub(super) fn take_up(&mut self, is_newest: bool, seen: Seen) -> Result<(), StoreError> {
        let Seen { attachments, newest, bad } = seen;
        if let Some(Ok(newest)) = newest {
            self.generation.number = self.generation.number.max(newest.number);
        }
        let mut there: HashMap<AttachmentKey, Stored> =
            attachments.iter().map(|s| (s.record.key.clone(), s.clone())).collect();
        let put_back = self.unite(attachments, is_newest, [])?;
        self.take_up_beside(is_newest)?;
        self.learned = Learned { put_back, bad };
        for stored in self.all()? {
            if there.remove(&stored.record.key).as_ref() != Some(&stored) {
                let kept = self.witness.keep(&stored.record, stored.state);
                self.witnessed(&stored.record.key, kept);
            }
        }
        for key in there.into_keys() {
            let removed = self.witness.remove(&key);
            self.witnessed(&key, removed);
        }
        self.note_generation();
        Ok(())
    }

    fn unite(
        &mut self,
        seen: Vec<Stored>,
        is_newest: bool,
        more: impl IntoIterator<Item = Change>,
    ) -> Result<Vec<AttachmentKey>, StoreError> {
        let before = self.all()?;
        let Union { forget, put_back } = unite(before.clone(), seen, is_newest, &self.there);
        let keys: Vec<_> = put_back.iter().map(|stored| stored.record.key.clone()).collect();
        let is_known = |marked: &Stored| {
            marked.is_leaving() && before.iter().any(|known| known.record == marked.record)
        };
        let are_marks = forget.is_empty() && put_back.iter().all(is_known);
        let forget = forget.into_iter().map(|key| Change::Forget { key, released_at: 0 });
        let put_back = put_back.into_iter().map(|stored| Change::PutBack(Box::new(stored)));
        let more: Vec<Change> = more.into_iter().collect();
        let are_marks = are_marks && more.is_empty();
        let changes: Vec<Change> = forget.chain(put_back).chain(more).collect();
        match self.commit(&changes) {
            // A disk that takes no more keeps nobody from DEL: the marks stay beside the store until the records go.
            Err(
                StoreError::DiskFull { .. }
                | StoreError::ReadOnly { .. }
                | StoreError::Failing { .. },
            ) if are_marks => {
                self.marked.extend(keys.iter().cloned());
            }
            committed => committed?,
        }
        Ok(keys)
    }

    /// Has the witness say what a change that was committed says.
    pub(super) fn follow(&mut self, change: &Change) {
        if let Some(key) = change.attachment() {
            self.marked.remove(key);
        }
        let (key, done) = match change {
            Change::Remember(record) => {
                let kept = self.witness.keep(record, StoredState::Attached);
                (&record.key, kept.and_then(|()| self.witness.remove_held(&record.key)))
            }
            Change::PutBack(stored) => {
                (&stored.record.key, self.witness.keep(&stored.record, stored.state))
            }
            Change::Leaving(key) => (key, self.witness.mark(key)),
            Change::Forget { key, .. } => {
                let removed = self.witness.remove(key);
                (key, removed.and_then(|()| self.witness.remove_held(key)))
            }
            Change::Hold { key, .. } => return self.keep_held(key),
            Change::TakeOver { known, .. } => {
                if let KnownState::Held(key) = &known.state {
                    self.keep_held(key);
                }
                return;
            }
            Change::Network(network) => return self.keep_network(network),
            Change::Rebuilt => return,
        };
        self.witnessed(key, done);
    }

    /// Notes whether the witness could be written. What could not is tried again by [`Store::checkpoint`].
    pub(super) fn witnessed(&mut self, key: &AttachmentKey, done: io::Result<()>) {
        if let Err(e) = done {
            self.unwitnessed.insert(key.clone());
            self.trouble =
                Some(format!("attachment {key} cannot be written beside the store: {e}"));
        }
    }

    pub(super) fn note_generation(&mut self) {
        if let Err(e) = self.witness.note(self.generation) {
            self.trouble = Some(format!("how new the store is cannot be noted beside it: {e}"));
        }
    }

    /// Writes again what could not be written, and all of it where it was taken away.
    pub(super) fn witness_again(&mut self) -> Result<(), StoreError> {
        if self.trouble.is_none() && self.witness.is_whole() {
            return Ok(());
        }
        self.trouble = None;
        if !self.witness.is_whole() {
            self.witness.reopen();
            let all = self.all()?;
            self.unwitnessed.extend(all.into_iter().map(|stored| stored.record.key));
        }
        for key in std::mem::take(&mut self.unwitnessed) {
            let done = match self.lookup(&key)? {
                Some(stored) => self.witness.keep(&stored.record, stored.state),
                None => self.witness.remove(&key),
            };
            self.witnessed(&key, done);
        }
        self.note_generation();
        Ok(())
    }
}
