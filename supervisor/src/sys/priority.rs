// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the processor is shared between our threads and others (sched(7)); nothing here needs a right.
#![allow(unsafe_code)]

use std::io;

/// The shortest slice that the kernel gives, in nanoseconds (sched_setattr(2), SCHED_OTHER; Linux 6.12).
const SHORTEST_SLICE: u64 = 100_000;

/// The calling thread stands back: each of `steps` gives it about a fifth less of a busy processor than others get, and
/// when it wakes up it does not interrupt whoever runs (SCHED_BATCH).
///
/// # Errors
/// Whatever the kernel said.
pub fn stand_back(steps: i32) -> io::Result<()> {
    // SAFETY: __errno_location gives this thread's own variable; plain integers; 0 is the calling thread.
    let nice = unsafe {
        // -1 is a priority, too (getpriority(2)).
        *libc::__errno_location() = 0;
        libc::getpriority(libc::PRIO_PROCESS, 0)
    };
    if nice == -1 && io::Error::last_os_error().raw_os_error() != Some(0) {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain integers; 0 is the calling thread. What is beyond the last step counts as that.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice + steps) }.into())?;
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure outlives the call; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) }.into())
}

/// The calling thread runs in short slices: on Linux 6.12 and newer it then interrupts a thread with longer ones when it
/// wakes up, whose turn would else be ended first. Its share of the processor stays the same. Older kernels take no notice.
///
/// # Errors
/// Whatever the kernel said.
pub fn short_slices() -> io::Result<()> {
    let mut attributes = libc::sched_attr {
        size: 0,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the structure is as long as is said, and outlives the call; 0 is the calling thread.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            0,
            &raw mut attributes,
            size_of::<libc::sched_attr>(),
            0,
        )
    })?;
    attributes.sched_runtime = SHORTEST_SLICE;
    // SAFETY: as above; the kernel reads as many bytes as it has just written into `size`.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Policy, nice value and slice of this thread.
    fn now() -> (u32, i32, u64) {
        let mut raw = [0_u64; 6];
        // SAFETY: six words are the 48 bytes of the structure's first form.
        let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, raw.as_mut_ptr(), 48, 0) };
        assert_eq!(got, 0);
        let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap();
        let nice = low(raw[2]).cast_signed();
        (low(raw[0] >> 32), nice, raw[3])
    }

    #[test]
    fn a_thread_may_stand_back_and_take_short_slices() {
        let thread = std::thread::spawn(|| {
            let (policy, nice, _) = now();
            short_slices().unwrap();
            let short = now();
            assert_eq!((short.0, short.1), (policy, nice), "only the slice changes");
            if crate::sys::kernel::release().is_some_and(|(_, numbers)| numbers >= (6, 12)) {
                assert_eq!(short.2, SHORTEST_SLICE);
            }
            stand_back(3).unwrap();
            stand_back(2).unwrap();
            let (policy, later, _) = now();
            assert_eq!(policy, libc::SCHED_BATCH.cast_unsigned());
            assert_eq!(later, (nice + 5).min(19));
        });
        thread.join().unwrap();
    }
}
