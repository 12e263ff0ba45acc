// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A capture of a run, in the classic format (LINKTYPE_RAW): packets inside the tunnels, and the datagrams that carried them.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const MAGIC: u32 = 0xa1b2_c3d4;
const LINKTYPE_RAW: u32 = 101;
const SNAPLEN: u32 = 65_535;
/// Virtual time zero, since 1970.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// Where packets are written.
pub struct Capture(Box<dyn Write>);

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Capture")
    }
}

impl Capture {
    /// Begins a capture.
    ///
    /// # Errors
    /// What `out` says.
    pub fn new(mut out: Box<dyn Write>) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend_from_slice(&MAGIC.to_le_bytes());
        header.extend_from_slice(&2_u16.to_le_bytes());
        header.extend_from_slice(&4_u16.to_le_bytes());
        header.extend_from_slice(&[0; 8]);
        header.extend_from_slice(&SNAPLEN.to_le_bytes());
        header.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
        out.write_all(&header)?;
        Ok(Self(out))
    }

    /// An IP packet. What cannot be written is left out.
    pub fn packet(&mut self, at: Duration, packet: &[u8]) {
        let at = EPOCH + at;
        let Ok(len) = u32::try_from(packet.len()) else {
            return;
        };
        let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(16 + packet.len());
        for field in [seconds, at.subsec_micros(), len, len] {
            record.extend_from_slice(&field.to_le_bytes());
        }
        record.extend_from_slice(packet);
        let _ = self.0.write_all(&record);
    }

    /// A UDP datagram over IPv4 or IPv6.
    pub fn datagram(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let Ok(udp_len) = u16::try_from(8 + payload.len()) else {
            return;
        };
        let mut packet = Vec::with_capacity(48 + payload.len());
        match (from.ip(), to.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let total = udp_len.saturating_add(20);
                packet.extend_from_slice(&[0x45, 0]);
                packet.extend_from_slice(&total.to_be_bytes());
                packet.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
                packet.extend_from_slice(&src.octets());
                packet.extend_from_slice(&dst.octets());
                let checksum = checksum(&packet);
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                packet.extend_from_slice(&[0x60, 0, 0, 0]);
                packet.extend_from_slice(&udp_len.to_be_bytes());
                packet.extend_from_slice(&[17, 64]);
                packet.extend_from_slice(&src.octets());
                packet.extend_from_slice(&dst.octets());
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return,
        }
        packet.extend_from_slice(&from.port().to_be_bytes());
        packet.extend_from_slice(&to.port().to_be_bytes());
        packet.extend_from_slice(&udp_len.to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(payload);
        self.packet(at, &packet);
    }
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
