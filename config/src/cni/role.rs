//! What the plugin is to be, which it tells by the name it was called by: our own, or that of a
//! reference plugin whose place a link of ours takes.

/// A part in a chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Attaches the container: `quantum-cni` or `bridge`.
    #[default]
    Main,
    /// The same, on a bridge of the network's own on which the host routes: `ptp`.
    Pair,
    /// Gives addresses, to somebody else's plugin: `host-local`.
    Addresses,
    /// Brings up the container's loopback: `loopback`.
    Loopback,
    /// Changes what an earlier plugin of the chain attached.
    Meta(Meta),
}

/// A reference plugin that is chained after the one that attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// Publishes ports.
    Portmap,
    /// Says whom the container hears.
    Firewall,
    /// Sets up the container's end.
    Tuning,
    /// Holds its traffic to limits.
    Bandwidth,
}

/// The names of reference plugins that are served, each with its part.
pub const DROP_INS: [(&str, Role); 8] = [
    ("bridge", Role::Main),
    ("ptp", Role::Pair),
    ("host-local", Role::Addresses),
    ("loopback", Role::Loopback),
    ("portmap", Role::Meta(Meta::Portmap)),
    ("firewall", Role::Meta(Meta::Firewall)),
    ("tuning", Role::Meta(Meta::Tuning)),
    ("bandwidth", Role::Meta(Meta::Bandwidth)),
];

impl Role {
    /// The part of whoever is called by this name: that of a reference plugin, else our own.
    pub fn of(name: &str) -> Self {
        let found = DROP_INS.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, role)| role).unwrap_or_default()
    }

    /// Somebody else of the chain, or nobody, has something to undo at a DEL: one that finds no daemon
    /// need not be written down.
    pub fn leaves_nothing(self) -> bool {
        matches!(self, Self::Meta(_) | Self::Loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_part_and_other_names_have_ours() {
        assert_eq!(Role::of("firewall"), Role::Meta(Meta::Firewall));
        assert_eq!(Role::of("bridge"), Role::Main);
        for own in ["quantum-cni", "", "Bridge", "bridge2"] {
            assert_eq!(Role::of(own), Role::Main, "{own}");
        }
        assert!(Role::of("portmap").leaves_nothing() && !Role::of("ptp").leaves_nothing());
    }
}
