//! What can go wrong with nftables, told apart by what the caller can do about it.

use std::io;

use netlink_packet_core::DecodeError;
use nix::errno::Errno;
use quantum_config::ids::IfName;

use crate::kernel::netfilter::SocketError;

/// What went wrong. Nothing of a failed transaction is in force.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no `nft`.
    #[error("cannot find nft in PATH, /usr/sbin or /sbin: install the package nftables")]
    NotInstalled,
    /// `nft` could not be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Which one.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// `nft` did not end.
    #[error(transparent)]
    Hung(#[from] Hung),
    /// `nft` did not take our rules.
    #[error("nft refused the rules of our tables: {stderr}")]
    Refused {
        /// What it said, with line numbers of `config/nft/skeleton.nft` and, after it, `guard.nft`.
        stderr: String,
    },
    /// The kernel has nftables, and none for bridges.
    #[error(
        "the kernel has no nftables for bridges (CONFIG_NF_TABLES_BRIDGE), which macspoofchk and policy.antiSpoof need on {bridge}: leave them out, or use another kernel"
    )]
    NoBridgeFamily {
        /// The bridge.
        bridge: IfName,
    },
    /// The table or one of its sets is gone: somebody flushed the ruleset. Apply the skeleton and add
    /// the elements of all attachments again.
    #[error("cannot {doing}: its table or set is not there: apply the skeleton again")]
    SkeletonLost {
        /// What was being done to which element of which set.
        doing: String,
    },
    /// The element is there and means something else.
    #[error(
        "cannot {doing}: it is there with other data: find out whose it is with 'nft list ruleset'"
    )]
    Conflict {
        /// What was being done to which element of which set.
        doing: String,
    },
    /// The kernel refused otherwise.
    #[error("cannot {doing}: {errno}{}", note(explanation))]
    Kernel {
        /// What was being done to which element of which set.
        doing: String,
        /// The kernel's error.
        errno: Errno,
        /// What the kernel explained (`NLMSGERR_ATTR_MSG`), if it did.
        explanation: Option<String>,
    },
    /// The socket failed.
    #[error("cannot {doing} the nftables socket: {source}")]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel's answer cannot be read.
    #[error("cannot read what the kernel answered to '{doing}': {source}")]
    Decode {
        /// What had been asked.
        doing: String,
        /// Why.
        source: DecodeError,
    },
    /// The kernel's answer was lost, so it is not known whether the request is in force. Repeat it:
    /// adding what is there and removing what is not are successes.
    #[error("the kernel's answer to '{doing}' was lost: repeat it")]
    NoAnswer {
        /// What had been asked.
        doing: String,
    },
}

/// `nft` did not end in its time. Nothing of what it was to do is in force.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{program} did not end within {seconds} s and was killed: find out what it waits for; it is tried again"
)]
pub struct Hung {
    /// Which one.
    pub(super) program: String,
    /// How long it was waited for.
    pub(super) seconds: u64,
}

impl From<SocketError> for NftError {
    fn from(SocketError { doing, source }: SocketError) -> Self {
        Self::Socket { doing, source }
    }
}

fn note(explanation: &Option<String>) -> String {
    explanation.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
}
