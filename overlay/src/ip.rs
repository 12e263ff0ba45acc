// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The few fields of an IP header that routing a packet needs. Everything else in the packet is the netstack's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// What the header says. Its numbers are checked against the bytes at hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Bytes of the whole packet, at most the bytes given: what follows is padding.
    pub(crate) total_len: usize,
}

impl Header {
    /// `None` if `bytes` do not begin with a whole IPv4 (RFC 791) or IPv6 (RFC 8200) packet.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = match bytes.first()? >> 4 {
            4 => {
                let header: &[u8; V4_HEADER] = bytes.first_chunk()?;
                Self {
                    source: Ipv4Addr::from_octets(array(header, 12)).into(),
                    destination: Ipv4Addr::from_octets(array(header, 16)).into(),
                    total_len: usize::from(u16::from_be_bytes(array(header, 2))),
                }
            }
            6 => {
                let header: &[u8; V6_HEADER] = bytes.first_chunk()?;
                Self {
                    source: Ipv6Addr::from_octets(array(header, 8)).into(),
                    destination: Ipv6Addr::from_octets(array(header, 24)).into(),
                    total_len: V6_HEADER + usize::from(u16::from_be_bytes(array(header, 4))),
                }
            }
            _ => return None,
        };
        (V4_HEADER..=bytes.len())
            .contains(&header.total_len)
            .then_some(header)
    }
}

/// `N` bytes of a fixed header; all callers stay inside it.
fn array<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let mut packet = [0; 60];
        packet[0] = 0x45;
        packet[3] = 29;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let header = Header::parse(&packet).unwrap();
        assert_eq!(
            header,
            Header {
                source: [10, 0, 0, 1].into(),
                destination: [10, 0, 0, 2].into(),
                total_len: 29
            }
        );
        let mut packet = [0; 60];
        packet[0] = 0x60;
        packet[5] = 20;
        packet[23] = 1;
        packet[39] = 2;
        let header = Header::parse(&packet).unwrap();
        assert_eq!(header.source, "::1".parse::<IpAddr>().unwrap());
        assert_eq!(header.destination, "::2".parse::<IpAddr>().unwrap());
        assert_eq!(header.total_len, 60);
        packet[5] = 21;
        assert_eq!(Header::parse(&packet), None);
    }

    #[test]
    fn no_bytes_panic() {
        for version in 0..=255 {
            for len in 0..64 {
                for fill in [0, 19, 20, 40, 255] {
                    let mut packet = vec![fill; len];
                    if let Some(first) = packet.first_mut() {
                        *first = version;
                    }
                    if let Some(header) = Header::parse(&packet) {
                        assert!(header.total_len <= len);
                    }
                }
            }
        }
    }
}
