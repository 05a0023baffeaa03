//! Records of packets that the rules logged, and such a packet, which whoever sent it has made.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quantum_cni::kernel::nflog::fuzz;

fuzz_target!(|bytes: &[u8]| {
    fuzz::read(bytes);
    fuzz::packet(bytes);
});
