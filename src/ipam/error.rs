//! Why no address was leased. Whatever the reason, nothing has changed.

use std::net::IpAddr;

use quantum_config::ids::AttachmentKey;

/// Why no address was leased.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The owner has addresses already; a second lease would orphan them.
    #[error(
        "attachment {owner} already holds {}: release them before leasing again",
        list(addresses)
    )]
    Held {
        /// Who asked.
        owner: AttachmentKey,
        /// What it has.
        addresses: Vec<IpAddr>,
    },
    /// Every address of a set is held.
    #[error(
        "no ip addresses available in range set {ranges}: delete containers or widen {subnets}"
    )]
    Exhausted {
        /// The set, counted from 0.
        set: usize,
        /// Its subnets, as operators name the pool: `172.20.0.0/16`.
        subnets: String,
        /// Its ranges: `172.20.0.1-172.20.255.254`.
        ranges: String,
    },
    /// A requested address lies in no range.
    #[error("requested address {address} is in no range of the network: choose one in {ranges}")]
    OutOfRange {
        /// The address.
        address: IpAddr,
        /// Every range of the network.
        ranges: String,
    },
    /// A requested address is a gateway's.
    #[error("requested address {address} is a gateway of the network: choose another one")]
    Gateway {
        /// The address.
        address: IpAddr,
    },
    /// A requested address is kept for somebody else.
    #[error("requested address {address} is reserved for {holder}: choose another one")]
    Reserved {
        /// The address.
        address: IpAddr,
        /// Whom it is kept for.
        holder: String,
    },
    /// A requested address is what attachments send by.
    #[error(
        "requested address {address} is the gateway of {user}, which was made before the network's gateway was another one: choose another address, or remake that attachment"
    )]
    InUse {
        /// The address.
        address: IpAddr,
        /// Whose gateway it is.
        user: AttachmentKey,
    },
    /// A gateway of the network is somebody's address.
    #[error(
        "the gateway {address} of the network is the address of {holder}: choose another gateway, or remove that attachment"
    )]
    GatewayTaken {
        /// The gateway.
        address: IpAddr,
        /// Who has it.
        holder: AttachmentKey,
    },
    /// A requested address is in use.
    #[error("requested address {address} is held by {holder}: choose another one or release it")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: AttachmentKey,
    },
    /// Two addresses of one set were requested; an attachment gets one of each.
    #[error(
        "requested addresses {first} and {second} are both in range set {ranges}: \
         request one of each set"
    )]
    SameSet {
        /// One address.
        first: IpAddr,
        /// The other.
        second: IpAddr,
        /// The ranges of their set.
        ranges: String,
    },
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}
