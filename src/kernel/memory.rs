//! Memory that was needed once, given back to the machine.

/// As much that is free is worth being given back, in bytes.
#[cfg(target_env = "gnu")]
const MUCH: usize = 4 << 20;
/// Blocks from this size on are mapped on their own and go back when they are freed, in bytes: the default of
/// glibc, which otherwise grows with the largest that was freed, up to 32 MiB.
#[cfg(target_env = "gnu")]
const MAPPED: nix::libc::c_int = 128 << 10;
/// How many heaps there are. Each keeps what is free in it, and glibc makes eight for each processor.
#[cfg(target_env = "gnu")]
const HEAPS: nix::libc::c_int = 2;

/// Has the allocator keep little of what is freed. To be called before there are threads.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes numbers and may be called at any time.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, MAPPED);
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, HEAPS);
    }
}

/// Has the allocator give back what is free. A start reads all records and lists all sets, which takes
/// several times what is kept of them, and glibc keeps what was freed for the next who asks.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time, from any thread.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}

/// The same, if much is free.
pub fn give_back_much() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time, from any thread.
    if unsafe { nix::libc::mallinfo2() }.fordblks >= MUCH {
        give_back();
    }
}
