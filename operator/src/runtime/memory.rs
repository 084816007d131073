//! The allocator of this process.

/// Blocks of this size go back to the system when they are freed: pages of lists, objects as text.
const LARGE_BYTES: i32 = 64 * 1024;
/// So much free memory at the end of the heap is kept.
const SPARE_BYTES: i32 = 256 * 1024;

/// To be called once, before any thread starts. The C library gives each thread a heap of its own and keeps what was freed there, so that a start
/// with thousands of objects stays resident for ever: three times of what is in use.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (setting, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, LARGE_BYTES),
        (libc::M_TRIM_THRESHOLD, SPARE_BYTES),
    ] {
        // SAFETY: it changes a setting of the allocator, under the allocator's own lock.
        #[allow(unsafe_code)]
        let taken = unsafe { libc::mallopt(setting, value) };
        debug_assert_eq!(taken, 1, "the C library knows this setting");
    }
}
