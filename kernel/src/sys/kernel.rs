// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the running kernel can do.
#![allow(unsafe_code)]

use std::io;

/// SECCOMP_GET_NOTIF_SIZES of seccomp(2); missing from libc for some targets.
const GET_NOTIF_SIZES: libc::c_ulong = 3;

/// Whether seccomp user notification exists (seccomp(2), SECCOMP_GET_NOTIF_SIZES).
///
/// # Errors
/// What the kernel said: ENOSYS or EINVAL when it has none; EPERM inside some containers.
pub fn has_notifications() -> io::Result<()> {
    let mut sizes = libc::seccomp_notif_sizes {
        seccomp_notif: 0,
        seccomp_notif_resp: 0,
        seccomp_data: 0,
    };
    // SAFETY: the pointer is to one live structure of the type that this operation fills.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, GET_NOTIF_SIZES, 0, &raw mut sizes) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel's release, as uname(2) has it, and its first two numbers.
#[must_use]
pub fn release() -> Option<(String, (u32, u32))> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let text = text.trim().to_owned();
    let numbers = parse(&text)?;
    Some((text, numbers))
}

fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(parse("5.14-rc1"), Some((5, 14)));
        assert_eq!(parse("strange"), None);
        assert!(release().is_some());
    }
}
