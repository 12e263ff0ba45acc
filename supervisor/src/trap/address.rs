// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Socket addresses in a program's memory (ip(7), ipv6(7)).

use super::{Call, OnSocket};
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::Family;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Largest address Linux copies (struct sockaddr_storage).
const STORAGE: i32 = 128;
/// struct sockaddr_in.
const V4_LEN: usize = 16;
/// struct sockaddr_in6; without the scope id (RFC 2133) 24 are enough.
const V6_LEN: usize = 28;
const V6_MIN: usize = 24;

/// An address as a program wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// AF_UNSPEC; carries the IPv4 address behind it, which bind(2) looks at.
    Unspecified(Option<SocketAddrV4>),
    /// AF_INET or AF_INET6, long enough.
    Internet(SocketAddr),
    /// Another family.
    Foreign,
    /// Too short for its family (or no address at all).
    Short,
}

/// Copies the address at (`pointer`, `length`) once.
///
/// Errors: EINVAL for a length Linux does not take, EFAULT.
pub fn read(call: &Call, pointer: u64, length: u64) -> Result<Address, Errno> {
    // int addrlen: the upper half of the register is not part of it.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
    let length = (length as u32).cast_signed();
    if !(0..=STORAGE).contains(&length) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0_u8; 128];
    let used = &mut bytes[..length.unsigned_abs() as usize];
    call.read(pointer, used)?;
    Ok(decode(used))
}

/// Decodes the bytes of a struct sockaddr.
#[must_use]
pub fn decode(bytes: &[u8]) -> Address {
    let Some(family) = bytes
        .get(..2)
        .and_then(|b| b.try_into().ok())
        .map(u16::from_ne_bytes)
    else {
        return Address::Short;
    };
    match i32::from(family) {
        libc::AF_UNSPEC => Address::Unspecified(v4(bytes)),
        libc::AF_INET => v4(bytes).map_or(Address::Short, |a| Address::Internet(a.into())),
        libc::AF_INET6 => v6(bytes).map_or(Address::Short, |a| Address::Internet(a.into())),
        _ => Address::Foreign,
    }
}

/// `length` of a call is that of an IPv6 address at least.
pub(super) const fn is_v6_long(length: u64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
    let length = length as u32;
    length as usize >= V6_MIN
}

/// An IPv4 address on an IPv6 socket: its family is wrong, which Linux says once the length is right (`long`).
///
/// Errors: EAFNOSUPPORT; the model's own EINVAL stands for one that is too short.
pub(super) fn check_family(
    on: &OnSocket<'_>,
    address: SocketAddr,
    long: bool,
) -> Result<(), Errno> {
    let family = on.entry.network.lock().sockets.family(on.entry.socket);
    let v4_on_v6 = address.is_ipv4() && family == Some(Family::V6);
    if v4_on_v6 && long {
        Err(Errno::EAFNOSUPPORT)
    } else {
        Ok(())
    }
}

/// Encodes an address as a struct sockaddr; gives its bytes and their number.
#[must_use]
pub fn encode(address: SocketAddr) -> ([u8; V6_LEN], usize) {
    let mut out = [0_u8; V6_LEN];
    match address {
        SocketAddr::V4(a) => {
            out[..2].copy_from_slice(&2_u16.to_ne_bytes());
            out[2..4].copy_from_slice(&a.port().to_be_bytes());
            out[4..8].copy_from_slice(&a.ip().octets());
            (out, V4_LEN)
        }
        SocketAddr::V6(a) => {
            out[..2].copy_from_slice(&10_u16.to_ne_bytes());
            out[2..4].copy_from_slice(&a.port().to_be_bytes());
            out[4..8].copy_from_slice(&a.flowinfo().to_be_bytes());
            out[8..24].copy_from_slice(&a.ip().octets());
            out[24..28].copy_from_slice(&a.scope_id().to_ne_bytes());
            (out, V6_LEN)
        }
    }
}

/// Writes `address` to (`pointer`, `*length_pointer`) as Linux does: cut to the room there is, the true length reported.
/// None: no address, length 0 (what recvfrom on TCP says).
pub fn write(
    call: &Call,
    pointer: u64,
    length_pointer: u64,
    address: Option<SocketAddr>,
) -> Result<(), Errno> {
    let mut room = [0_u8; 4];
    call.read(length_pointer, &mut room)?;
    let room = usize::try_from(i32::from_ne_bytes(room)).map_err(|_| Errno::EINVAL)?;
    let (bytes, length) = address.map_or(([0; V6_LEN], 0), encode);
    call.write(pointer, &bytes[..length.min(room)])?;
    let reported = u32::try_from(length).map_err(|_| Errno::EINVAL)?;
    call.write(length_pointer, &reported.to_ne_bytes())
}

fn v4(bytes: &[u8]) -> Option<SocketAddrV4> {
    let bytes = bytes.get(..V4_LEN)?;
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    Some(SocketAddrV4::new(
        Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]),
        port,
    ))
}

fn v6(bytes: &[u8]) -> Option<SocketAddrV6> {
    let fixed = bytes.get(..V6_MIN)?;
    let port = u16::from_be_bytes([fixed[2], fixed[3]]);
    let flow = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let ip: [u8; 16] = fixed[8..24].try_into().ok()?;
    let scope = bytes
        .get(24..28)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_ne_bytes);
    Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in [
            "10.77.0.1:80",
            "[fd77::1]:443",
            "0.0.0.0:0",
            "[::ffff:1.2.3.4]:9",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            let (bytes, n) = encode(address);
            assert_eq!(decode(&bytes[..n]), Address::Internet(address));
        }
        let scoped = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 7, 3));
        let (bytes, n) = encode(scoped);
        assert_eq!(decode(&bytes[..n]), Address::Internet(scoped));
    }

    #[test]
    fn short_and_foreign_addresses_are_told() {
        assert_eq!(decode(&[]), Address::Short);
        assert_eq!(decode(&[2, 0, 0, 80]), Address::Short);
        let (bytes, _) = encode("[::1]:1".parse().unwrap());
        assert_eq!(decode(&bytes[..23]), Address::Short);
        assert!(matches!(decode(&bytes[..24]), Address::Internet(_)));
        assert_eq!(decode(&[1, 0, b'/', b'x']), Address::Foreign);
        assert_eq!(decode(&[0, 0]), Address::Unspecified(None));
    }
}
