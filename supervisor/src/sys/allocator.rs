// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The C library's allocator, told to give memory back (mallopt(3), malloc_trim(3)).
#![allow(unsafe_code)]

/// Blocks from this size on are mappings of their own and vanish when freed, bytes. Set explicitly, or the allocator
/// raises it with the first ring that is freed and keeps the following ones.
const OWN_MAPPING: libc::c_int = 128 * 1024;
/// Heaps: each keeps free memory of its own.
const MAX_HEAPS: libc::c_int = 2;

/// To be called once, before other threads exist.
pub fn set_up() {
    // SAFETY: both are plain settings; an unknown one is refused with 0.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING);
        libc::mallopt(libc::M_ARENA_MAX, MAX_HEAPS);
    }
}

/// Gives free memory back to the kernel.
pub fn trim() {
    // SAFETY: no preconditions; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
