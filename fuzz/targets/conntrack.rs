//! An answer of conntrack's.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| quantum_cni::kernel::conntrack::fuzz::read(datagram));
