//! Removes many links in the time of one.
//!
//! Deleting a link waits for RCU, some 16 ms, whether it is one link or a hundred in one request. So
//! the links are moved to a link group of their own, and the group is deleted, all in one datagram:
//!
//! ```text
//! SETLINK a group G, SETLINK b group G, …, DELLINK group G        one wait
//! ```

use std::num::NonZeroU32;

use quantum_config::ids::{IfName, LinkIndex};

use super::{Batch, Host, Step, StepError, look, message};

/// What became of a link that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// It was there and is deleted.
    Removed,
    /// It was not there: deleted before, or gone with the container's namespace.
    Gone,
}

/// How many links go in one wait. More would gain little, and the acknowledgements must fit into
/// the socket's queue.
const AT_ONCE: usize = 256;

impl Host {
    /// Deletes the host's ends of pairs, and with them the containers', and shapers. One outcome for each, in
    /// order. A link is known by its name *and* its index, because an index is used again and a
    /// name may be: what has only one of the two is somebody else's and the link counts as gone.
    ///
    /// `scratch` must be a link group that nobody uses. Choose it at random: the kernel deletes
    /// **every** link that is in it. Links that could not be deleted may stay in it.
    pub fn detach(
        &mut self,
        links: &[(IfName, LinkIndex)],
        scratch: NonZeroU32,
    ) -> Vec<Result<Detached, StepError>> {
        links.chunks(AT_ONCE).flat_map(|chunk| self.detach_together(chunk, scratch)).collect()
    }

    fn detach_together(
        &mut self,
        links: &[(IfName, LinkIndex)],
        scratch: NonZeroU32,
    ) -> Vec<Result<Detached, StepError>> {
        let found: Vec<_> = links.iter().map(|(name, index)| self.is_there(name, *index)).collect();

        let mut batch = Batch::new();
        for ((name, index), _) in links.iter().zip(&found).filter(|(_, found)| **found == Ok(true))
        {
            let request = message::set_group(*index, scratch.get());
            batch.push(Step::MarkLink, name.as_str(), 0, request);
        }
        if !batch.is_empty() {
            let object = format!("{} links (group {scratch:#x})", batch.len());
            batch.push(Step::DeleteLinks, object, 0, message::delete_group(scratch.get()));
        }
        let mut marked = match self.socket() {
            Ok(socket) => socket.send(batch),
            Err(error) => return vec![Err(error); links.len()],
        };
        let deleted = outcome(marked.pop().unwrap_or(Ok(())));
        let mut marked = marked.into_iter();
        let conclude = |found| match found {
            Err(error) => Err(error),
            Ok(false) => Ok(Detached::Gone),
            Ok(true) => match outcome(marked.next().unwrap_or(Ok(()))) {
                Ok(Detached::Removed) => deleted.clone(),
                gone_or_failed => gone_or_failed,
            },
        };
        found.into_iter().map(conclude).collect()
    }

    /// Whether there is a link with this index *and* this name. Between this look and the deletion
    /// nobody but us makes links with our names and indexes.
    pub(super) fn is_there(&mut self, name: &IfName, index: LinkIndex) -> Result<bool, StepError> {
        let link = look::link_by_index(self.socket()?, index)?;
        Ok(link.is_some_and(|link| link.name == name.as_str()))
    }
}

/// A link, or the last of a group, that vanished in the meantime is what was wanted.
fn outcome(answer: Result<(), StepError>) -> Result<Detached, StepError> {
    match answer {
        Ok(()) => Ok(Detached::Removed),
        Err(error) if error.is_absent() => Ok(Detached::Gone),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    #[test]
    fn what_vanished_in_the_meantime_is_gone_and_not_an_error() {
        let failed = |errno| Err(StepError::new(Step::DeleteLinks, "qc01", errno, ""));
        assert_eq!(outcome(Ok(())), Ok(Detached::Removed));
        assert_eq!(outcome(failed(libc::ENODEV)), Ok(Detached::Gone));
        assert!(outcome(failed(libc::EPERM)).is_err());
    }
}
