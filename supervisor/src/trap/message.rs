// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Buffers and message headers in a program's memory (sendmsg(2), recvmsg(2)). Everything is copied once and bounded.

use super::Call;
use netcon_netstack::errno::Errno;

/// UIO_MAXIOV.
const MAX_SEGMENTS: u64 = 1024;
/// Bytes one trapped call moves at most; a stream call that wants more gets a short count.
pub const MAX_BYTES: usize = 1 << 18;
/// struct msghdr.
const HEADER: usize = 56;
/// struct mmsghdr.
pub const MULTI_STRIDE: u64 = 64;
/// Offset of msg_len in struct mmsghdr.
pub const MULTI_LEN: u64 = 56;

/// The buffers of one call, in order.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Vec<(u64, usize)>);

impl Buffers {
    /// One buffer.
    #[must_use]
    pub fn one(address: u64, len: u64) -> Self {
        Self(vec![(address, usize::try_from(len).unwrap_or(usize::MAX))])
    }

    /// Bytes they hold together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0
            .iter()
            .fold(0, |sum, &(_, len)| sum.saturating_add(len))
    }

    /// Copies at most `limit` bytes out of the program.
    pub fn gather(&self, call: &Call, limit: usize) -> Result<Vec<u8>, Errno> {
        let mut out = vec![0; self.total().min(limit)];
        let mut at = 0;
        for &(address, len) in &self.0 {
            let part = len.min(out.len() - at);
            call.read(address, &mut out[at..at + part])?;
            at += part;
        }
        Ok(out)
    }

    /// Copies `data` into the program, as far as there is room; gives the bytes written.
    pub fn scatter(&self, call: &Call, data: &[u8]) -> Result<usize, Errno> {
        let mut at = 0;
        for &(address, len) in &self.0 {
            let part = len.min(data.len() - at);
            call.write(address, &data[at..at + part])?;
            at += part;
        }
        Ok(at)
    }
}

/// A struct msghdr, copied.
#[derive(Debug, Clone)]
pub struct Header {
    /// Where it lies.
    pub at: u64,
    /// msg_name, 0 for none.
    pub name: u64,
    /// msg_namelen.
    pub name_len: u32,
    /// msg_iov, checked.
    pub buffers: Buffers,
    /// msg_controllen.
    pub control_len: u64,
}

impl Header {
    /// Copies the header at `at` and its iovec.
    ///
    /// Errors: EFAULT, EMSGSIZE for too many segments, EINVAL for a negative length.
    pub fn read(call: &Call, at: u64) -> Result<Self, Errno> {
        let mut raw = [0_u8; HEADER];
        call.read(at, &mut raw)?;
        let word = |offset: usize| u64_at(&raw, offset);
        let segments = word(24);
        if segments > MAX_SEGMENTS {
            return Err(Errno::EMSGSIZE);
        }
        let name_len = u32::from_ne_bytes([raw[8], raw[9], raw[10], raw[11]]);
        if name_len.cast_signed() < 0 {
            return Err(Errno::EINVAL);
        }
        let count = usize::try_from(segments).map_err(|_| Errno::EMSGSIZE)?;
        let mut vector = vec![0_u8; count * 16];
        call.read(word(16), &mut vector)?;
        let mut buffers = Vec::with_capacity(count);
        for entry in vector.chunks_exact(16) {
            let len = u64_at(entry, 8);
            if len.cast_signed() < 0 {
                return Err(Errno::EINVAL);
            }
            buffers.push((
                u64_at(entry, 0),
                usize::try_from(len).map_err(|_| Errno::EINVAL)?,
            ));
        }
        Ok(Self {
            at,
            name: word(0),
            name_len,
            buffers: Buffers(buffers),
            control_len: word(40),
        })
    }

    /// Where the message goes: msg_name and its length, if there is one.
    #[must_use]
    pub fn destination(&self) -> Option<(u64, u64)> {
        (self.name != 0).then_some((self.name, u64::from(self.name_len)))
    }

    /// Writes what recvmsg reports: no control data, flags, length of the name.
    pub fn report(&self, call: &Call, name_len: u32, flags: i32) -> Result<(), Errno> {
        call.write(self.at + 8, &name_len.to_ne_bytes())?;
        call.write(self.at + 40, &0_u64.to_ne_bytes())?;
        call.write(self.at + 48, &flags.to_ne_bytes())
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_ne_bytes)
}
