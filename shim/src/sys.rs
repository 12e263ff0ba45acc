// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernel calls; the only unsafe code of this crate.
#![allow(unsafe_code)]

/// Effective user of this process (geteuid(2)).
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}
