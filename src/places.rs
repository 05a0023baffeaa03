//! How many connections are served at a time: as many as are promised, or fewer where the daemon may not have so
//! many descriptors. Who finds no place waits in the kernel or is refused, and nobody who has one lacks a
//! descriptor.

/// Descriptors of one connection to the daemon's socket: itself, and two that come with a call.
const EACH: u64 = 3;
/// What the daemon has open besides connections: lanes, store, sockets that listen, Docker's connections.
const BESIDES: u64 = 320;

/// Places for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// For root.
    pub root: u32,
    /// For any other user.
    pub each: u32,
    /// For all others together.
    pub others: u32,
    /// For HTTP.
    pub pages: u32,
}

/// What is promised.
pub const PROMISED: Places = Places { root: 1536, each: 64, others: 512, pages: 512 };

impl Places {
    /// How many descriptors these take, with all that the daemon has besides.
    pub fn descriptors(&self) -> u64 {
        let calls = u64::from(self.root) + u64::from(self.others);
        calls * EACH + u64::from(self.pages) + BESIDES
    }

    /// As many as are promised, or as there are descriptors for.
    pub fn within(descriptors: u64) -> Self {
        if descriptors >= PROMISED.descriptors() {
            return PROMISED;
        }
        // In the same proportions, but with a few for everybody, whatever it is.
        let part = |promised: u32| {
            let room = descriptors.saturating_sub(BESIDES.min(descriptors / 4));
            let part = u64::from(promised) * room / (PROMISED.descriptors() - BESIDES);
            u32::try_from(part).unwrap_or(promised).clamp(4, promised)
        };
        let others = part(PROMISED.others);
        let (root, pages) = (part(PROMISED.root), part(PROMISED.pages));
        Self { root, each: others.min(PROMISED.each), others, pages }
    }

    /// What is less than promised, in words; nothing if nothing is.
    pub fn short(&self, descriptors: u64) -> Option<String> {
        let wanted = PROMISED.descriptors();
        (*self != PROMISED).then(|| {
            format!(
                "the daemon may have {descriptors} files open, and needs {wanted} to serve {} calls of root at a time: it serves {}, the others wait; raise the hard limit (LimitNOFILE={wanted}, ulimit -Hn)",
                PROMISED.root, self.root
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_promised_needs_so_many_descriptors() {
        assert_eq!(PROMISED.descriptors(), 6976);
        assert_eq!(Places::within(6976), PROMISED);
        assert_eq!(Places::within(u64::MAX).short(u64::MAX), None);
        let usual = Places::within(1024);
        assert_eq!(usual, Places { root: 177, each: 59, others: 59, pages: 59 });
        let short = usual.short(1024).expect("short");
        assert!(
            short.contains("1024") && short.contains("6976") && short.contains("177"),
            "{short}"
        );
    }

    proptest! {
        #[test]
        fn there_are_descriptors_for_all_places(descriptors in 64u64..8000) {
            let places = Places::within(descriptors);
            let besides = BESIDES.min(descriptors / 4);
            prop_assert!(places.descriptors() - BESIDES + besides <= descriptors, "{:?}", places);
            prop_assert!(places.root >= 4 && places.others >= 4 && places.pages >= 4);
            prop_assert!(places.each <= places.others);
        }
    }
}
