//! What has changed about the host's forwarding, in words for the log.

use std::fmt;

use quantum_config::cni::Family;
use quantum_config::ids::IfName;

/// What has changed, in words for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was off, and a gateway of ours needs it.
    TurnedOn(Family),
    /// No gateway of ours needs it, and it is off, as it was.
    TurnedOff(Family),
    /// No gateway of ours needs it, but links of others look as if they do.
    LeftOn(Family, Vec<IfName>),
    /// Somebody else turned it off.
    TurnedOffByOthers(Family),
    /// Somebody else turned this setting off, and containers need it: it is on again.
    PutBack(String),
    /// Somebody else turned it off and on again, and so wants it on.
    TakenOver(Family),
    /// These links believe router advertisements although the host forwards.
    Believes(Vec<IfName>),
    /// Something beside it failed: what, and why.
    Failed(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |family: &Family| if *family == Family::V4 { "IPv4" } else { "IPv6" };
        let names =
            |links: &[IfName]| links.iter().map(IfName::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Self::TurnedOn(family) => write!(f, "turned on {} forwarding", ip(family)),
            Self::TurnedOff(family) => write!(f, "turned off {} forwarding again", ip(family)),
            Self::LeftOn(family, links) => write!(
                f,
                "left {} forwarding on, which nothing of ours needs any more: {} may",
                ip(family),
                names(links)
            ),
            Self::TurnedOffByOthers(family) => {
                write!(f, "somebody else has turned {} forwarding off", ip(family))
            }
            Self::PutBack(setting) => write!(
                f,
                "somebody else turned {setting} off, which containers need: it is on again"
            ),
            Self::TakenOver(family) => write!(
                f,
                "somebody else turned {} forwarding off and on again: it is not turned off any more",
                ip(family)
            ),
            Self::Believes(links) => {
                write!(
                    f,
                    "router advertisements are still believed (accept_ra 2) on {}",
                    names(links)
                )
            }
            Self::Failed(why) => f.write_str(why),
        }
    }
}
