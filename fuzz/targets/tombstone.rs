//! A file of the spool.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| quantum_cni::store::fuzz::tombstone(bytes));
