//! An answer of nftables': elements, chains, rules; and what it says of the commits of others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quantum_cni::kernel::{nft, watch};

fuzz_target!(|datagram: &[u8]| {
    nft::fuzz::read(datagram);
    watch::fuzz::read(datagram);
});
