// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernel calls; the only unsafe code of this crate.
#![allow(unsafe_code)]

mod detach;
#[cfg(feature = "filter")]
mod process;
#[cfg(feature = "seccomp")]
mod seccomp;

pub use detach::{Detached, READY_FD, is_contained, start_detached, try_lock, wait_readable};
#[cfg(feature = "filter")]
pub use process::{
    ThreadSignal, connect, execute, is_dumpable, may_execute, may_read, peer_uid, send_with_fd,
};
#[cfg(feature = "seccomp")]
pub use seccomp::{has_sys_admin, install, memory_file, probe, set_no_new_privs};

/// Effective user of this process (geteuid(2)).
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}
