//! Memory that was needed once, given back to the machine.

/// Has the allocator give back what is free. A start reads all records and lists all sets, which takes
/// several times what is kept of them, and glibc keeps what was freed for the next who asks.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time, from any thread.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}
