// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Messages and attributes of netlink(7): everything in the byte order of the machine, aligned to four bytes.

/// struct nlmsghdr.
pub(super) const HEADER: usize = 16;

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) seq: u32,
    pub(super) port: u32,
}

/// A message of a request: its header and all its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) header: Header,
    pub(super) whole: &'a [u8],
}

impl<'a> Message<'a> {
    /// What follows the header.
    pub(super) fn payload(&self) -> &'a [u8] {
        self.whole.get(HEADER..).unwrap_or_default()
    }
}

/// The messages of a request; a length that cannot be ends it, as in the kernel.
pub(super) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let len = usize::try_from(u32_at(header, 0)?).ok()?;
        let whole = rest.get(..len).filter(|_| len >= HEADER)?;
        rest = rest.get(align(len)..).unwrap_or_default();
        Some(Message {
            header: Header {
                kind: u16_at(header, 4)?,
                flags: u16_at(header, 6)?,
                seq: u32_at(header, 8)?,
                port: u32_at(header, 12)?,
            },
            whole,
        })
    })
}

/// The value of attribute `kind` behind the fixed part of a message. Its upper bits (nested, byte order) are not part of a kind.
pub(super) fn attribute(mut rest: &[u8], kind: u16) -> Option<&[u8]> {
    const KIND: u16 = 0x3fff;
    loop {
        let len = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..len)?;
        if u16_at(rest, 2)? & KIND == kind {
            return Some(value);
        }
        rest = rest.get(align(len)..)?;
    }
}

/// A number of two bytes.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let part = bytes.get(at..at.checked_add(2)?)?;
    part.try_into().ok().map(u16::from_ne_bytes)
}

/// A number of four bytes.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..at.checked_add(4)?)?;
    part.try_into().ok().map(u32::from_ne_bytes)
}

const fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// Writes one message after another into a buffer.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// One message; `body` writes what follows the header.
    pub(super) fn message(&mut self, header: Header, body: impl FnOnce(&mut Body<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(&header.kind.to_ne_bytes());
        self.0.extend_from_slice(&header.flags.to_ne_bytes());
        self.0.extend_from_slice(&header.seq.to_ne_bytes());
        self.0.extend_from_slice(&header.port.to_ne_bytes());
        body(&mut Body(&mut self.0));
        let len = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self.0.resize(align(self.0.len()), 0);
    }
}

/// What follows a header: fixed part and attributes.
#[derive(Debug)]
pub(super) struct Body<'a>(&'a mut Vec<u8>);

impl Body<'_> {
    /// Bytes of the fixed part.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// An attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    /// An attribute of four bytes.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// A name, with the NUL byte behind it.
    pub(super) fn name(&mut self, kind: u16, name: &str) -> &mut Self {
        let bytes: Vec<u8> = name.bytes().chain([0]).collect();
        self.attribute(kind, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Header = Header {
        kind: 18,
        flags: 1,
        seq: 7,
        port: 0,
    };

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.message(HELLO, |body| {
            body.raw(&[0; 4]).name(3, "lo").number(4, 99);
        });
        writer.message(HELLO, |_| {});
        let bytes = writer.take();
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].header, HELLO);
        let attributes = &read[0].payload()[4..];
        assert_eq!(attribute(attributes, 3), Some(b"lo\0".as_slice()));
        assert_eq!(
            attribute(attributes, 4),
            Some(99_u32.to_ne_bytes().as_slice())
        );
        assert_eq!(attribute(attributes, 5), None);
        assert_eq!(read[1].payload(), b"");
    }

    #[test]
    fn lengths_that_cannot_be_end_the_reading() {
        let mut bytes = vec![0; 16];
        assert_eq!(messages(&bytes).count(), 0);
        bytes[0] = 15;
        assert_eq!(messages(&bytes).count(), 0);
        bytes[0] = 17;
        assert_eq!(messages(&bytes).count(), 0);
        bytes[0] = 16;
        assert_eq!(messages(&bytes).count(), 1);
        assert_eq!(attribute(&[3, 0, 1, 0], 1), None);
        assert_eq!(attribute(&[0, 0, 1, 0], 1), None);
        assert_eq!(attribute(&[9, 0, 1, 0, 1, 2, 3, 4], 1), None);
    }
}
