// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Buffers and message headers in a program's memory (sendmsg(2), recvmsg(2)). Everything is copied once and bounded.

use super::Call;
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::ControlMessage;

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
    /// msg_control, 0 for none.
    pub control: u64,
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
            control: word(32),
            control_len: word(40),
        })
    }

    /// Where the message goes: msg_name and its length, if there is one.
    #[must_use]
    pub fn destination(&self) -> Option<(u64, u64)> {
        (self.name != 0).then_some((self.name, u64::from(self.name_len)))
    }

    /// Writes what recvmsg reports: length of the name, control messages as far as there is room, flags.
    pub fn report(
        &self,
        call: &Call,
        name_len: u32,
        flags: i32,
        control: &[ControlMessage],
    ) -> Result<(), Errno> {
        let (bytes, cut) = encode_control(control, self.control_room());
        call.write(self.control, &bytes)?;
        let written = bytes.len() as u64;
        let flags = if cut { flags | libc::MSG_CTRUNC } else { flags };
        call.write(self.at + 8, &name_len.to_ne_bytes())?;
        call.write(self.at + 40, &written.to_ne_bytes())?;
        call.write(self.at + 48, &flags.to_ne_bytes())
    }

    /// The control messages of a sendmsg.
    ///
    /// Errors: EFAULT; EINVAL for a message that is longer than what there is; ENOBUFS for more than Linux takes.
    pub fn control_messages(&self, call: &Call) -> Result<Vec<ControlMessage>, Errno> {
        if self.control_len == 0 || self.control == 0 {
            return Ok(Vec::new());
        }
        let length = usize::try_from(self.control_len)
            .ok()
            .filter(|&length| length <= MAX_CONTROL)
            .ok_or(Errno::ENOBUFS)?;
        let mut bytes = vec![0; length];
        call.read(self.control, &mut bytes)?;
        decode_control(&bytes)
    }

    /// Whether SCM_CREDENTIALS is among the control messages: an Internet socket ignores what a unix socket would check.
    pub fn has_credentials(&self, call: &Call) -> bool {
        self.control_messages(call).is_ok_and(|messages| {
            messages.iter().any(|message| {
                message.level == libc::SOL_SOCKET && message.kind == libc::SCM_CREDENTIALS
            })
        })
    }

    fn control_room(&self) -> usize {
        if self.control == 0 {
            return 0;
        }
        usize::try_from(self.control_len)
            .unwrap_or(0)
            .min(MAX_CONTROL)
    }
}

/// struct cmsghdr.
const CONTROL_HEADER: usize = 16;
/// Control data of one message (net.core.optmem_max of an untouched Linux is larger).
const MAX_CONTROL: usize = 20_480;

/// Lays messages out as put_cmsg of the kernel does: what does not fit is cut, and told.
fn encode_control(messages: &[ControlMessage], room: usize) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut cut = false;
    for message in messages {
        let left = room - out.len();
        if left < CONTROL_HEADER {
            return (out, true);
        }
        let wanted = CONTROL_HEADER + message.data.len();
        let length = wanted.min(left);
        cut |= length < wanted;
        out.extend_from_slice(&(length as u64).to_ne_bytes());
        out.extend_from_slice(&message.level.to_ne_bytes());
        out.extend_from_slice(&message.kind.to_ne_bytes());
        out.extend_from_slice(&message.data[..length - CONTROL_HEADER]);
        out.resize(out.len().next_multiple_of(8).min(room), 0);
    }
    (out, cut)
}

/// Errors: EINVAL (`CMSG_OK` of the kernel).
fn decode_control(mut rest: &[u8]) -> Result<Vec<ControlMessage>, Errno> {
    let mut messages = Vec::new();
    while rest.len() >= CONTROL_HEADER {
        let length = usize::try_from(u64_at(rest, 0)).map_err(|_| Errno::EINVAL)?;
        let message = rest.get(..length).filter(|_| length >= CONTROL_HEADER);
        let message = message.ok_or(Errno::EINVAL)?;
        let word = |at: usize| {
            let bytes = [
                message[at],
                message[at + 1],
                message[at + 2],
                message[at + 3],
            ];
            i32::from_ne_bytes(bytes)
        };
        messages.push(ControlMessage {
            level: word(8),
            kind: word(12),
            data: message[CONTROL_HEADER..].to_vec(),
        });
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(messages)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: i32, data: &[u8]) -> ControlMessage {
        ControlMessage {
            level: 41,
            kind,
            data: data.to_vec(),
        }
    }

    #[test]
    fn control_messages_round_trip() {
        let all = [
            message(50, &[7; 20]),
            message(52, &[1, 0, 0, 0]),
            message(1, &[]),
        ];
        let (bytes, cut) = encode_control(&all, 1000);
        assert!(!cut);
        assert_eq!(bytes.len(), 40 + 24 + 16);
        assert_eq!(decode_control(&bytes), Ok(all.to_vec()));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_told() {
        let all = [message(50, &[7; 20]), message(52, &[1, 0, 0, 0])];
        let (bytes, cut) = encode_control(&all, 40 + 18);
        assert_eq!((bytes.len(), cut), (58, true));
        assert_eq!(u64_at(&bytes, 40), 18);
        let (bytes, cut) = encode_control(&all, 40 + 15);
        assert_eq!((bytes.len(), cut), (40, true));
        assert_eq!(encode_control(&all, 0), (Vec::new(), true));
        assert_eq!(encode_control(&[], 0), (Vec::new(), false));
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let (bytes, _) = encode_control(&[message(1, &[1; 4])], 100);
        for length in [0_u64, 15, 25, u64::MAX] {
            let mut wrong = bytes.clone();
            wrong[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(decode_control(&wrong), Err(Errno::EINVAL), "{length}");
        }
        assert_eq!(decode_control(&[1; 15]), Ok(Vec::new()));
    }
}
