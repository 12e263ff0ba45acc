// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random bytes of the kernel: keys, seeds, identities.
#![allow(unsafe_code)]

use std::io;

/// `N` bytes from getrandom(2); waits for the kernel's generator to be seeded, once after boot.
///
/// # Errors
/// Whatever the kernel said; none is known for this use.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let rest = &mut bytes[filled..];
        // SAFETY: the pointer and the length are those of one live, exclusively borrowed slice.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            Err(_negative) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_differ() {
        assert_ne!(bytes::<32>().unwrap(), bytes::<32>().unwrap());
    }
}
