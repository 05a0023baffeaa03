//! What the kernel has of what we would use. It is found by using it: our rules are loaded, and only where
//! they are refused is each thing tried by itself. A version tells nothing, as kernels are built and
//! patched differently.

use std::path::Path;
use std::sync::OnceLock;

use super::nflog;
use super::nft::{Table, skeleton};
use super::route::has_br_netfilter;

/// There once conntrack is loaded.
const CONNECTIONS: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// A rule that asks what kind of destination it is.
const FIB: &str = "table inet quantum_probe { chain probe { fib daddr type local accept; }; }";
/// One that asks for the connection.
const CONNTRACK: &str =
    "table inet quantum_probe { chain probe { ct state established accept; }; }";

/// What is missing, and what is done instead, in words.
pub fn missing(table: &Table) -> Vec<String> {
    let mut found = Vec::new();
    if !has_br_netfilter() {
        found.push(
            "br_netfilter: packets between containers of a bridge come before the rules by being routed between isolated ports, or in a network without gateway or with VLANs not at all; load the module",
        );
    }
    if has_no_records() {
        found.push(
            "nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG): what policy denies is denied, but not listed, logged or counted; load the module and start the daemon again",
        );
    }
    if table.is_made() {
        if table.lacks_owner() {
            found.push(
                "nftables tables that belong to a socket and outlive it (Linux 6.9): what others change in ours, or flush, is put right within a second, and open until then",
            );
        }
        if !table.sees_frames() {
            found.push(
                "nftables for bridges (CONFIG_NF_TABLES_BRIDGE): what containers send is not compared with what they are, and networks that ask for it are refused",
            );
        }
        if !Path::new(CONNECTIONS).exists() {
            found.push("conntrack: no connection has to be removed with its container");
        }
    } else {
        for (rule, what) in [
            (FIB, "fib in nftables (CONFIG_NFT_FIB_INET): no network can be served"),
            (CONNTRACK, "conntrack in nftables (CONFIG_NFT_CT): no network can be served"),
        ] {
            if skeleton::lacks(rule) {
                found.push(what);
            }
        }
    }
    found.into_iter().map(str::to_owned).collect()
}

/// Asked once: where it is missing, the kernel looks for the module every time.
fn has_no_records() -> bool {
    static MISSING: OnceLock<bool> = OnceLock::new();
    *MISSING.get_or_init(|| nflog::is_missing(nflog::GROUP))
}
