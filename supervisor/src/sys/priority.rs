// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much of a busy processor a thread gets (setpriority(2); on Linux a nice value is a thread's own).
#![allow(unsafe_code)]

use std::io;

/// Steps the calling thread stands back: each gives it about a fifth less than others that want the processor too.
///
/// # Errors
/// Whatever the kernel said.
pub fn stand_back(steps: i32) -> io::Result<()> {
    // SAFETY: plain integers; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, steps) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
