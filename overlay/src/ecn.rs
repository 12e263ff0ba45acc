// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Congestion marks, carried from the inner header to the outer one and back (RFC 6040, normal mode).

use crate::event::DropReason;

/// The two ECN bits of an IP header (RFC 3168 section 5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ecn {
    /// The transport does not react to marks.
    #[default]
    NotEct,
    /// It reacts; the other of the two codepoints that say so.
    Ect1,
    /// It reacts.
    Ect0,
    /// A router on the way is congested.
    Ce,
}

impl Ecn {
    /// From the two lowest bits of a traffic class; the others are ignored.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// As the two lowest bits of a traffic class.
    pub const fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0,
            Self::Ect1 => 1,
            Self::Ect0 => 2,
            Self::Ce => 3,
        }
    }

    /// The mark of an IP packet that begins with `packet`; none of what is no IP packet.
    pub(crate) fn of(packet: &[u8]) -> Self {
        match packet {
            [first, second, ..] if first >> 4 == 4 => Self::from_bits(*second),
            [first, second, ..] if first >> 4 == 6 => Self::from_bits(second >> 4),
            _ => Self::NotEct,
        }
    }

    /// The inner packet's mark after a tunnel whose outer header arrived with `outer` (RFC 6040 figure 4).
    const fn decapsulated(self, outer: Self) -> Option<Self> {
        match (self, outer) {
            // The transport would not hear of the congestion: only a loss tells it.
            (Self::NotEct, Self::Ce) => None,
            (Self::NotEct, Self::NotEct | Self::Ect0 | Self::Ect1) => Some(Self::NotEct),
            (Self::Ce, _) | (Self::Ect0 | Self::Ect1, Self::Ce) => Some(Self::Ce),
            (Self::Ect0, Self::Ect1) => Some(Self::Ect1),
            (Self::Ect0 | Self::Ect1, Self::NotEct | Self::Ect0 | Self::Ect1) => Some(self),
        }
    }
}

/// Carries the outer header's mark into an opened IP packet, whose header is whole.
pub(crate) fn carry_in(outer: Ecn, packet: &mut [u8]) -> Result<(), DropReason> {
    let inner = Ecn::of(packet);
    let marked = inner
        .decapsulated(outer)
        .ok_or(DropReason::CongestionLoss)?;
    if marked == inner {
        return Ok(());
    }
    if packet[0] >> 4 == 4 {
        let before = u16::from_be_bytes([packet[0], packet[1]]);
        packet[1] = packet[1] & !3 | marked.bits();
        let after = u16::from_be_bytes([packet[0], packet[1]]);
        let sum = u16::from_be_bytes([packet[10], packet[11]]);
        packet[10..12].copy_from_slice(&updated_checksum(sum, before, after).to_be_bytes());
    } else {
        packet[1] = packet[1] & !0x30 | marked.bits() << 4;
    }
    Ok(())
}

/// A checksum after one 16-bit word under it has changed (RFC 1624 equation 3).
fn updated_checksum(sum: u16, before: u16, after: u16) -> u16 {
    let folded = u32::from(!sum) + u32::from(!before) + u32::from(after);
    let folded = (folded & 0xFFFF) + (folded >> 16);
    let folded = (folded & 0xFFFF) + (folded >> 16);
    !u16::try_from(folded & 0xFFFF).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(header: &[u8]) -> u16 {
        let sum: u32 = header
            .chunks(2)
            .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])))
            .sum();
        let sum = (sum & 0xFFFF) + (sum >> 16);
        !u16::try_from((sum & 0xFFFF) + (sum >> 16)).unwrap()
    }

    fn header(ecn: Ecn) -> [u8; 20] {
        let mut header = [0; 20];
        header[0] = 0x45;
        header[1] = 0xB8 | ecn.bits();
        header[3] = 20;
        header[8] = 64;
        header[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    #[test]
    fn the_table_of_rfc_6040() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        let rows = [
            (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
            (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
            (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
            (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
        ];
        for (inner, results) in rows {
            for (outer, expected) in [NotEct, Ect0, Ect1, Ce].into_iter().zip(results) {
                let mut v4 = header(inner);
                let carried = carry_in(outer, &mut v4);
                assert_eq!(
                    carried.is_ok().then(|| Ecn::of(&v4)),
                    expected,
                    "{inner:?} in {outer:?}"
                );
                assert_eq!(v4[1] & !3, 0xB8, "DSCP stays");
                assert_eq!(checksum(&v4), 0, "{inner:?} in {outer:?}");
                let mut v6 = [0; 40];
                v6[0] = 0x6B;
                v6[1] = 0x8F | inner.bits() << 4;
                let carried = carry_in(outer, &mut v6);
                assert_eq!(carried.is_ok().then(|| Ecn::of(&v6)), expected);
                assert_eq!(
                    (v6[0], v6[1] & !0x30),
                    (0x6B, 0x8F),
                    "class and flow label stay"
                );
            }
        }
    }

    #[test]
    fn bits_and_back() {
        for bits in 0..4 {
            assert_eq!(Ecn::from_bits(bits | 0xB8).bits(), bits);
        }
        assert_eq!(Ecn::of(&[]), Ecn::NotEct);
        assert_eq!(Ecn::of(&[0x45]), Ecn::NotEct);
        assert_eq!(Ecn::of(&[0xF5, 0xFF]), Ecn::NotEct);
    }
}
