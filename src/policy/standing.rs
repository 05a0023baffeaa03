//! What holds for an endpoint that no document speaks of: the standing of its network. It comes last, so
//! that every document that decides overrides it.

use std::fmt;

use quantum_config::cni::{Posture, Stance};
use quantum_config::policy::Direction;

use super::{Endpoint, Flow, Side};

/// How a network stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Towards everybody alike.
    Open,
    /// Apart from other networks.
    Isolated {
        /// Its endpoints do not reach each other either.
        alone: bool,
        /// The world reaches them by their addresses.
        direct: bool,
    },
    /// What is not allowed by a document is denied.
    ZeroTrust {
        /// Processes of the host reach its endpoints, so that their health can be probed.
        probes: bool,
    },
}

impl From<&Posture> for Standing {
    fn from(posture: &Posture) -> Self {
        match posture.stance {
            // Among themselves the containers of an open network may be alone, too, but nothing
            // configures that.
            Stance::Open => Self::Open,
            Stance::Isolated => Self::Isolated { alone: posture.alone, direct: posture.direct },
            Stance::ZeroTrust => Self::ZeroTrust { probes: !posture.denies_probes() },
        }
    }
}

/// Which custom of a standing decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Custom {
    /// An open network lets everything through.
    Open,
    /// Whoever publishes a port means it to be reached.
    Published,
    /// Endpoints of one network reach each other.
    SameNetwork,
    /// Endpoints of this network do not.
    Alone,
    /// Endpoints of different networks do not reach each other.
    InterNetwork,
    /// The world reaches endpoints of this network by their addresses.
    DirectAccess,
    /// It does not.
    FromWorld,
    /// Endpoints reach the world.
    ToWorld,
    /// The host reaches endpoints.
    FromHost,
    /// Endpoints reach the host.
    ToHost,
    /// Nothing is allowed unless a document says so.
    Nothing,
}

impl Standing {
    /// What is the custom for `endpoint`, of whom this is the network's standing, and whether it allows.
    pub(super) fn decide(
        self,
        endpoint: &Endpoint,
        direction: Direction,
        flow: &Flow<'_>,
    ) -> (bool, Custom) {
        let other = if direction == Direction::Ingress { flow.from } else { flow.to };
        match (self, other) {
            (Self::Open, _) => (true, Custom::Open),
            (Self::ZeroTrust { probes: true }, Side::Host(_))
                if direction == Direction::Ingress =>
            {
                (true, Custom::FromHost)
            }
            (Self::ZeroTrust { .. }, _) => (false, Custom::Nothing),
            (Self::Isolated { .. }, _) if flow.published => (true, Custom::Published),
            (Self::Isolated { alone, .. }, Side::Endpoint { endpoint: other, .. }) => {
                match (other.network == endpoint.network, alone) {
                    (true, false) => (true, Custom::SameNetwork),
                    (true, true) => (false, Custom::Alone),
                    (false, _) => (false, Custom::InterNetwork),
                }
            }
            (Self::Isolated { direct, .. }, Side::World(_)) => match (direction, direct) {
                (Direction::Egress, _) => (true, Custom::ToWorld),
                (Direction::Ingress, true) => (true, Custom::DirectAccess),
                (Direction::Ingress, false) => (false, Custom::FromWorld),
            },
            (Self::Isolated { .. }, Side::Host(_)) => match direction {
                Direction::Egress => (true, Custom::ToHost),
                Direction::Ingress => (true, Custom::FromHost),
            },
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Isolated { .. } => "isolated",
            Self::ZeroTrust { .. } => "zero-trust",
        })
    }
}

impl fmt::Display for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Published => "published",
            Self::SameNetwork => "same-network",
            Self::Alone => "alone",
            Self::InterNetwork => "inter-network",
            Self::DirectAccess => "direct-access",
            Self::FromWorld => "from-world",
            Self::ToWorld => "to-world",
            Self::FromHost => "from-host",
            Self::ToHost => "to-host",
            Self::Nothing => "default-deny",
        })
    }
}
