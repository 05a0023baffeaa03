//! An ADD for a key that has a record already. The specification forbids runtimes to do it and says
//! that an ADD must fail where the interface exists; nerdctl and containerd do it after a restart,
//! when the container is a new one under the old name and the old one's DEL never came.

use super::{NetnsId, Record};

/// What the repeated ADD is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The attachment lives in the very namespace that is asked for: an error.
    Exists,
    /// The attachment is of another namespace, or its link is gone: it is detached first.
    Replace,
}

/// Decides. `alive` is whether the host's end of the recorded pair exists: it goes with the
/// container's namespace.
pub fn repeat(record: &Record, asked: NetnsId, alive: bool) -> Repeat {
    if alive && record.netns == asked { Repeat::Exists } else { Repeat::Replace }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::sample;
    use super::*;

    #[test]
    fn only_the_same_living_attachment_is_an_error() {
        let record = sample("").record;
        let other = NetnsId { dev: 4, ino: 8 };
        assert_eq!(repeat(&record, record.netns, true), Repeat::Exists);
        assert_eq!(repeat(&record, record.netns, false), Repeat::Replace);
        assert_eq!(repeat(&record, other, true), Repeat::Replace);
    }
}
