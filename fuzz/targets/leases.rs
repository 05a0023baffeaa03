//! A folder of the reference plugin's leases, and the network that takes it over.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| quantum_cni::store::fuzz::leases(text));
