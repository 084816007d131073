//! The allocator of this process.

/// Blocks of this size go back to the system when they are freed.
const LARGE_BYTES: i32 = 1 << 20;

/// To be called once, before any large block is freed: the C library's allocator takes the size of the largest block that was freed
/// as the size from which on it returns blocks, so that a process that handled messages of some MiB keeps the memory of all of them.
pub fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it changes a setting of the allocator, under the allocator's own lock.
    let taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    debug_assert_eq!(taken, 1, "the C library knows this setting");
}
