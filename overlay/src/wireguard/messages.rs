// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The four messages on the wire (WireGuard paper sections 5.4.2 to 5.4.7): a type byte, three zero bytes, then fixed fields
//! in little endian. Nothing is trusted here beyond length and type.

use crate::aead::TAG_LEN;
use crate::event::DropReason;

/// Bytes of an initiation.
pub(crate) const INITIATION_LEN: usize = 148;
/// Bytes of a response.
pub(crate) const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub(crate) const COOKIE_REPLY_LEN: usize = 64;
/// Bytes before the ciphertext of a transport message.
pub(crate) const TRANSPORT_HEADER: usize = 16;
/// Bytes of a transport message with nothing in it: a keepalive.
pub(crate) const KEEPALIVE_LEN: usize = TRANSPORT_HEADER + TAG_LEN;
/// Bytes of mac1 and of mac2, which end both handshake messages.
pub(crate) const MAC_LEN: usize = 16;

const INITIATION: u32 = 1;
const RESPONSE: u32 = 2;
const COOKIE_REPLY: u32 = 3;
const TRANSPORT: u32 = 4;

/// The three bytes after the type. WireGuard says zero; some services put a client's number there, after the MACs were made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Reserved(pub(crate) [u8; 3]);

impl Reserved {
    /// Takes the bytes out of a datagram, which then has zeros.
    pub(crate) fn take(datagram: &mut [u8]) -> Self {
        datagram
            .get_mut(1..4)
            .and_then(|bytes| bytes.first_chunk_mut())
            .map_or_else(Self::default, |bytes| Self(std::mem::take(bytes)))
    }

    /// Puts them into a message that is otherwise finished.
    pub(crate) fn write(self, message: &mut [u8]) {
        message[1..4].copy_from_slice(&self.0);
    }

    pub(crate) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// What a datagram claims to be. Its length fits the type: exactly, or at least a keepalive's for transport.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Initiation,
    Response,
    CookieReply,
    Transport,
}

impl Kind {
    pub(crate) fn of(datagram: &[u8]) -> Result<Self, DropReason> {
        let kind = datagram.first_chunk().ok_or(DropReason::WrongLength)?;
        // The three bytes after the type are reserved and zero, so both are read as one number.
        let (kind, fits) = match u32::from_le_bytes(*kind) {
            INITIATION => (Self::Initiation, datagram.len() == INITIATION_LEN),
            RESPONSE => (Self::Response, datagram.len() == RESPONSE_LEN),
            COOKIE_REPLY => (Self::CookieReply, datagram.len() == COOKIE_REPLY_LEN),
            TRANSPORT => (Self::Transport, datagram.len() >= KEEPALIVE_LEN),
            _ => return Err(DropReason::UnknownType),
        };
        if fits {
            Ok(kind)
        } else {
            Err(DropReason::WrongLength)
        }
    }
}

/// First message: `type 4, sender 4, ephemeral 32, static 32+16, timestamp 12+16, mac1 16, mac2 16`.
#[derive(Clone)]
pub(crate) struct Initiation {
    pub(crate) sender: u32,
    pub(crate) ephemeral: [u8; 32],
    pub(crate) sealed_static: [u8; 48],
    pub(crate) sealed_timestamp: [u8; 28],
}

impl Initiation {
    pub(crate) fn parse(bytes: &[u8; INITIATION_LEN]) -> Self {
        Self {
            sender: u32_at(bytes, 4),
            ephemeral: array(bytes, 8),
            sealed_static: array(bytes, 40),
            sealed_timestamp: array(bytes, 88),
        }
    }

    /// Both MACs are left zero.
    pub(crate) fn emit(&self) -> [u8; INITIATION_LEN] {
        let mut bytes = [0; INITIATION_LEN];
        bytes[..4].copy_from_slice(&INITIATION.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.sender.to_le_bytes());
        bytes[8..40].copy_from_slice(&self.ephemeral);
        bytes[40..88].copy_from_slice(&self.sealed_static);
        bytes[88..116].copy_from_slice(&self.sealed_timestamp);
        bytes
    }
}

/// Second message: `type 4, sender 4, receiver 4, ephemeral 32, nothing 0+16, mac1 16, mac2 16`.
#[derive(Clone)]
pub(crate) struct Response {
    pub(crate) sender: u32,
    pub(crate) receiver: u32,
    pub(crate) ephemeral: [u8; 32],
    pub(crate) sealed_nothing: [u8; 16],
}

impl Response {
    pub(crate) fn parse(bytes: &[u8; RESPONSE_LEN]) -> Self {
        Self {
            sender: u32_at(bytes, 4),
            receiver: u32_at(bytes, 8),
            ephemeral: array(bytes, 12),
            sealed_nothing: array(bytes, 44),
        }
    }

    /// Both MACs are left zero.
    pub(crate) fn emit(&self) -> [u8; RESPONSE_LEN] {
        let mut bytes = [0; RESPONSE_LEN];
        bytes[..4].copy_from_slice(&RESPONSE.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.sender.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.receiver.to_le_bytes());
        bytes[12..44].copy_from_slice(&self.ephemeral);
        bytes[44..60].copy_from_slice(&self.sealed_nothing);
        bytes
    }
}

/// Answer of a loaded responder: `type 4, receiver 4, nonce 24, cookie 16+16`.
#[derive(Clone)]
pub(crate) struct CookieReply {
    pub(crate) receiver: u32,
    pub(crate) nonce: [u8; 24],
    pub(crate) sealed_cookie: [u8; 16],
    pub(crate) tag: [u8; TAG_LEN],
}

impl CookieReply {
    pub(crate) fn parse(bytes: &[u8; COOKIE_REPLY_LEN]) -> Self {
        Self {
            receiver: u32_at(bytes, 4),
            nonce: array(bytes, 8),
            sealed_cookie: array(bytes, 32),
            tag: array(bytes, 48),
        }
    }

    pub(crate) fn emit(&self) -> [u8; COOKIE_REPLY_LEN] {
        let mut bytes = [0; COOKIE_REPLY_LEN];
        bytes[..4].copy_from_slice(&COOKIE_REPLY.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.receiver.to_le_bytes());
        bytes[8..32].copy_from_slice(&self.nonce);
        bytes[32..48].copy_from_slice(&self.sealed_cookie);
        bytes[48..].copy_from_slice(&self.tag);
        bytes
    }
}

/// Header of a packet: `type 4, receiver 4, counter 8`, ciphertext and tag follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TransportHeader {
    pub(crate) receiver: u32,
    pub(crate) counter: u64,
}

impl TransportHeader {
    pub(crate) fn parse(bytes: &[u8; TRANSPORT_HEADER]) -> Self {
        Self {
            receiver: u32_at(bytes, 4),
            counter: u64::from_le_bytes(array(bytes, 8)),
        }
    }

    pub(crate) fn emit(self) -> [u8; TRANSPORT_HEADER] {
        let mut bytes = [0; TRANSPORT_HEADER];
        bytes[..4].copy_from_slice(&TRANSPORT.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.receiver.to_le_bytes());
        bytes[8..].copy_from_slice(&self.counter.to_le_bytes());
        bytes
    }
}

/// The MACs that end a handshake message, each with what it covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Macs<'a> {
    pub(crate) before_mac1: &'a [u8],
    pub(crate) mac1: &'a [u8; MAC_LEN],
    pub(crate) before_mac2: &'a [u8],
    pub(crate) mac2: &'a [u8; MAC_LEN],
}

impl<'a> Macs<'a> {
    /// `None` only for what is shorter than both MACs.
    pub(crate) fn of(message: &'a [u8]) -> Option<Self> {
        let (before_mac2, mac2) = message.split_last_chunk()?;
        let (before_mac1, mac1) = before_mac2.split_last_chunk()?;
        Some(Self {
            before_mac1,
            mac1,
            before_mac2,
            mac2,
        })
    }
}

/// `N` bytes of a fixed-size message; all callers stay inside it.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_type_and_length() {
        for (kind, len) in [(1, 148), (2, 92), (3, 64), (4, 32)] {
            let mut bytes = vec![0; len];
            bytes[0] = kind;
            assert!(Kind::of(&bytes).is_ok());
            bytes.push(0);
            assert_eq!(Kind::of(&bytes).is_ok(), kind == 4, "longer");
            assert_eq!(
                Kind::of(&bytes[..len - 1]),
                Err(DropReason::WrongLength),
                "shorter"
            );
            bytes[2] = 1;
            assert_eq!(
                Kind::of(&bytes),
                Err(DropReason::UnknownType),
                "reserved bytes"
            );
        }
        assert_eq!(Kind::of(&[]), Err(DropReason::WrongLength));
        assert_eq!(Kind::of(&[4, 0, 0]), Err(DropReason::WrongLength));
        assert_eq!(Kind::of(&[5; 200]), Err(DropReason::UnknownType));
    }

    #[test]
    fn emit_is_the_inverse_of_parse() {
        let numbered = |at: usize| u8::try_from(at).unwrap();
        let mut bytes: [u8; INITIATION_LEN] = std::array::from_fn(numbered);
        bytes[..4].copy_from_slice(&[1, 0, 0, 0]);
        let emitted = Initiation::parse(&bytes).emit();
        assert_eq!(emitted[..116], bytes[..116]);
        assert_eq!(emitted[116..], [0; 32]);
        let mut bytes: [u8; RESPONSE_LEN] = std::array::from_fn(numbered);
        bytes[..4].copy_from_slice(&[2, 0, 0, 0]);
        let emitted = Response::parse(&bytes).emit();
        assert_eq!(emitted[..60], bytes[..60]);
        assert_eq!(emitted[60..], [0; 32]);
        let mut bytes: [u8; COOKIE_REPLY_LEN] = std::array::from_fn(numbered);
        bytes[..4].copy_from_slice(&[3, 0, 0, 0]);
        assert_eq!(CookieReply::parse(&bytes).emit(), bytes);
        let mut bytes: [u8; TRANSPORT_HEADER] = std::array::from_fn(numbered);
        bytes[..4].copy_from_slice(&[4, 0, 0, 0]);
        assert_eq!(TransportHeader::parse(&bytes).emit(), bytes);
    }

    #[test]
    fn mac_fields_end_the_message() {
        let bytes: [u8; RESPONSE_LEN] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let macs = Macs::of(&bytes).unwrap();
        assert_eq!((macs.before_mac1.len(), macs.before_mac2.len()), (60, 76));
        assert_eq!((macs.mac1[0], macs.mac2[0]), (60, 76));
        assert_eq!(Macs::of(&bytes[..31]), None);
    }
}
