//! A rule of nft, in the few forms that we use, and its text.
//!
//! A connection is judged by what it was when it began, whichever of its packets is looked at: a server
//! that pushes must not be judged as one that calls. So nothing here matches a field of a packet without
//! asking which way the packet goes. The
//! receiver is the sender of replies, which is the address and the port behind the translation of the
//! destination and before that of the source.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use quantum_config::cni::Family;

use crate::policy::{ChainName, SetName};

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who began it.
    Sender,
    /// Whom it is for.
    Receiver,
}

/// What a rule asks of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It is of this family.
    Family(Family),
    /// An end is in one of these, which are of one family.
    Within(End, Vec<IpNetwork>),
    /// An end is in none of these, and of their family.
    Outside(End, Vec<IpNetwork>),
    /// An end is in a set of addresses.
    Member(End, Family, SetName),
    /// An end is not in a set of addresses, and of its family.
    Stranger(End, Family, SetName),
    /// The packet at hand is one of the sender's, or one that goes back, and the receiver is the host;
    /// or it is not. The host has no set of its addresses, so this takes two rules.
    Host {
        /// The packet goes back.
        back: bool,
        /// It is.
        is: bool,
    },
    /// An endpoint comes to itself by a port that the host publishes for it.
    Itself(Family),
    /// The protocol of IP, by its number.
    Protocol(u8),
    /// The port of the receiver is one from the first to the last. Only behind `Protocol`.
    Ports(u16, u16),
    /// The port of the receiver is in a set. Only behind `Protocol`.
    PortIn(SetName),
    /// The type and the code of a message of ICMP, as one number, are one from the first to the last.
    /// Only behind `Protocol`.
    Icmp(u16, u16),
    /// The receiver has a name for the port. Only behind `Protocol`.
    Named(Family, SetName),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// The direction allows it: back to who asked.
    Return,
    /// Another chain decides.
    Goto(ChainName),
    /// Another chain is asked, and then the next rule.
    Jump(ChainName),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All of these must be true.
    pub matches: Vec<Match>,
    /// What is done then.
    pub then: Then,
    /// Where it comes from, for whoever reads the table.
    pub note: Arc<str>,
}

/// The longest comment that the kernel's tools take.
const LONGEST: usize = 128;

/// A comment of a rule. A text in nft ends at the next quote, and has no way to hold one.
pub(super) fn note(object: &str, place: &str) -> Arc<str> {
    let allowed = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        c if c.is_ascii_graphic() || c == ' ' => c,
        _ => '?',
    };
    let mut text: String = object.chars().map(allowed).collect();
    let most = LONGEST.saturating_sub(place.len());
    if text.len() > most {
        text.truncate(most.saturating_sub(2));
        text.push_str("..");
    }
    text.push_str(place);
    text.into()
}

impl End {
    fn word(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Sender, Family::V4) => "ct original ip saddr",
            (Self::Sender, Family::V6) => "ct original ip6 saddr",
            (Self::Receiver, Family::V4) => "ct reply ip saddr",
            (Self::Receiver, Family::V6) => "ct reply ip6 saddr",
        }
    }
}

/// Several addresses or networks. A single one needs no set.
struct Listed<'a>(&'a [IpNetwork]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |f: &mut fmt::Formatter<'_>, net: &IpNetwork| match net.ip() {
            IpAddr::V4(ip) if net.prefix() == 32 => ip.fmt(f),
            IpAddr::V6(ip) if net.prefix() == 128 => ip.fmt(f),
            _ => net.fmt(f),
        };
        if let [net] = self.0 {
            return one(f, net);
        }
        for (n, net) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { "{ " } else { ", " })?;
            one(f, net)?;
        }
        f.write_str(" }")
    }
}

/// That of a list, none of whose networks is of another.
fn family(nets: &[IpNetwork]) -> Family {
    nets.first().map_or(Family::V4, |net| Family::of(net.ip()))
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::Within(end, nets) => write!(f, "{} {}", end.word(family(nets)), Listed(nets)),
            Self::Outside(end, nets) => write!(f, "{} != {}", end.word(family(nets)), Listed(nets)),
            Self::Member(end, family, set) => write!(f, "{} @{set}", end.word(*family)),
            Self::Stranger(end, family, set) => write!(f, "{} != @{set}", end.word(*family)),
            Self::Host { back, is } => {
                let packet = if *back { "reply fib saddr" } else { "original fib daddr" };
                write!(f, "ct direction {packet} type {}local", if *is { "" } else { "!= " })
            }
            Self::Itself(family) => {
                let set = match family {
                    Family::V4 => "hair4",
                    Family::V6 => "hair6",
                };
                let [sender, receiver] = [End::Sender, End::Receiver].map(|end| end.word(*family));
                write!(f, "{sender} . {receiver} @{set}")
            }
            Self::Protocol(number) => write!(f, "meta l4proto {number}"),
            Self::Ports(first, last) if first == last => write!(f, "ct reply proto-src {first}"),
            Self::Ports(first, last) => write!(f, "ct reply proto-src {first}-{last}"),
            // An anonymous set would be printed with its bytes the wrong way round (nft 1.0.6).
            Self::PortIn(set) => write!(f, "ct reply proto-src @{set}"),
            Self::Icmp(first, last) if first == last => write!(f, "ct original proto-dst {first}"),
            Self::Icmp(first, last) => write!(f, "ct original proto-dst {first}-{last}"),
            Self::Named(family, set) => {
                write!(f, "{} . ct reply proto-src @{set}", End::Receiver.word(*family))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.matches {
            write!(f, "{one} ")?;
        }
        f.write_str("counter ")?;
        match &self.then {
            Then::Return => f.write_str("return")?,
            Then::Goto(chain) => write!(f, "goto {chain}")?,
            Then::Jump(chain) => write!(f, "jump {chain}")?,
        }
        if self.note.is_empty() { Ok(()) } else { write!(f, " comment \"{}\"", self.note) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_one_for_nft() {
        assert_eq!(&*note("a \"b\" \\ \n\u{fc}", " x[0]"), "a 'b' / ?? x[0]");
        let long = note(&"n".repeat(400), " ingress[24]");
        assert_eq!(long.len(), LONGEST);
        assert!(long.ends_with("nn.. ingress[24]"), "{long}");
    }
}
