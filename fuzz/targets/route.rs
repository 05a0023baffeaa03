//! An answer of route netlink's: links, addresses, routes, limits.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| quantum_cni::kernel::route::fuzz::read(datagram));
