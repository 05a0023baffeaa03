//! Documents and endpoints as what nftables judges by: chains, sets and elements of `inet quantum`.
//!
//! | module     | what it is                                                     |
//! |------------|----------------------------------------------------------------|
//! | `compiler` | what is asked about an endpoint, and where it is found         |
//! | `part`     | the rules of a policy, and how policies become a chain         |
//! | `expand`   | a rule of a document as rules of nft                           |
//! | `sets`     | the sets that rules refer to                                   |
//! | `rule`     | a rule of nft and its text                                     |
//! | `rules`    | chains and sets together, their text and their differences     |
//!
//! Endpoints that the same policies select share a chain, which the constant rules reach through the
//! endpoint's elements. A chain returns to whoever asked if the direction allows the connection, and goes
//! to `denied_out` or `denied_in` if not; where no document decides, it goes to `sender_default`,
//! `receiver_default` or `host_default`, where the network's posture does. To leave something to the
//! next tier is to go to the chain that this tier has for itself then.
//!
//! Where policies are staged, what the chain lets through goes on to a second one, in which they are asked,
//! too. It denies nothing: it goes to `noted_out` or `noted_in`, and these return.
//!
//! Names say what is in a chain or a set, so nothing that is there is ever changed, only added and, when
//! nothing leads to it any more, removed. What an endpoint's elements lead to is a door, though, which does
//! nothing but go on to such a chain. It is named for the policies that are asked, whatever they say: when
//! they say something else it leads elsewhere, and nothing is another for any of the endpoints.

mod compiler;
#[cfg(test)]
mod draw;
mod expand;
#[cfg(test)]
mod interpret;
mod part;
#[cfg(test)]
mod random;
mod rule;
mod rules;
mod sets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use quantum_config::ids::AttachmentKey;

pub use compiler::{Compiler, Placed};
pub use rule::{End, Match, Rule, Then};
pub use rules::{Chain, Rules, SetKind};

use super::{Standing, World};
use crate::attach::Element;

/// All that a world has in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Chains and sets.
    pub rules: Rules,
    /// The elements of each endpoint.
    pub elements: BTreeMap<AttachmentKey, Vec<Element>>,
}

/// Compiles a whole world.
pub fn compile(world: &World) -> Compiled {
    let mut compiler = Compiler::new(world.documents().clone());
    let elements = world
        .endpoints()
        .iter()
        .map(|endpoint| {
            let standing = world.standing(&endpoint.network);
            let trusts_nobody = matches!(standing, Standing::ZeroTrust { .. });
            (endpoint.key.clone(), compiler.endpoint(endpoint, trusts_nobody).elements)
        })
        .collect();
    Compiled { rules: compiler.rules().clone(), elements }
}
