// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng), in the byte order of this machine.

use std::time::Duration;

/// Raw IPv4 and IPv6 packets (LINKTYPE_RAW).
const LINKTYPE: u16 = 101;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;

/// Where a packet was seen, as epb_flags has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a peer.
    Inbound,
    /// To a peer.
    Outbound,
    /// Between two local addresses: both, so neither is said.
    Unsaid,
}

/// The start of a file.
pub(super) fn section(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION, |out| {
        out.extend_from_slice(&0x1a2b_3c4d_u32.to_ne_bytes());
        out.extend_from_slice(&1_u16.to_ne_bytes());
        out.extend_from_slice(&0_u16.to_ne_bytes());
        // The length of the section is not known.
        out.extend_from_slice(&u64::MAX.to_ne_bytes());
        option(out, SHB_USERAPPL, application.as_bytes());
        option(out, OPT_END, &[]);
    });
}

/// The interface of all packets. Times are in nanoseconds.
pub(super) fn interface(out: &mut Vec<u8>, name: &str, description: &str, snaplen: u32) {
    block(out, INTERFACE, |out| {
        out.extend_from_slice(&LINKTYPE.to_ne_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&snaplen.to_ne_bytes());
        option(out, IF_NAME, name.as_bytes());
        option(out, IF_DESCRIPTION, description.as_bytes());
        option(out, IF_TSRESOL, &[9]);
        option(out, OPT_END, &[]);
    });
}

/// A packet, of which at most `snaplen` bytes are kept. `at` is since 1970.
pub(super) fn packet(
    out: &mut Vec<u8>,
    at: Duration,
    direction: Direction,
    bytes: &[u8],
    snaplen: usize,
    comment: Option<&str>,
) {
    let kept = &bytes[..bytes.len().min(snaplen)];
    block(out, PACKET, |out| {
        out.extend_from_slice(&0_u32.to_ne_bytes());
        time(out, at);
        for len in [kept.len(), bytes.len()] {
            out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
        }
        out.extend_from_slice(kept);
        pad(out, kept.len());
        if let Some(comment) = comment {
            option(out, OPT_COMMENT, comment.as_bytes());
        }
        let flags: u32 = match direction {
            Direction::Unsaid => 0,
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        option(out, EPB_FLAGS, &flags.to_ne_bytes());
        option(out, OPT_END, &[]);
    });
}

/// What was seen from `from` to `until`: packets, and how many of them are missing from the file.
pub(super) fn statistics(
    out: &mut Vec<u8>,
    from: Duration,
    until: Duration,
    seen: u64,
    dropped: u64,
) {
    block(out, STATISTICS, |out| {
        out.extend_from_slice(&0_u32.to_ne_bytes());
        time(out, until);
        for (code, at) in [(ISB_STARTTIME, from), (ISB_ENDTIME, until)] {
            let mut value = Vec::with_capacity(8);
            time(&mut value, at);
            option(out, code, &value);
        }
        option(out, ISB_IFRECV, &seen.to_ne_bytes());
        option(out, ISB_IFDROP, &dropped.to_ne_bytes());
        option(out, OPT_END, &[]);
    });
}

/// Type and length around what `body` writes.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = u32::try_from(out.len() + 4 - start).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_ne_bytes());
    out[start + 4..start + 8].copy_from_slice(&len.to_ne_bytes());
}

/// Nanoseconds since 1970, the upper half first.
fn time(out: &mut Vec<u8>, at: Duration) {
    let nanoseconds = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    for half in [nanoseconds >> 32, nanoseconds & u64::from(u32::MAX)] {
        out.extend_from_slice(&u32::try_from(half).unwrap_or(u32::MAX).to_ne_bytes());
    }
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&code.to_ne_bytes());
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_ne_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// Fills up to a multiple of four bytes.
fn pad(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&[0; 3][..len.next_multiple_of(4) - len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type and body of each block; checks what stands around it.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word =
            |at: usize, file: &[u8]| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
        let mut all = Vec::new();
        while !file.is_empty() {
            let len = word(4, file) as usize;
            assert_eq!(len % 4, 0);
            assert_eq!(word(len - 4, file) as usize, len);
            all.push((word(0, file), file[8..len - 4].to_vec()));
            file = &file[len..];
        }
        all
    }

    #[test]
    fn blocks_are_as_the_draft_says() {
        let mut file = Vec::new();
        section(&mut file, "netcon");
        interface(&mut file, "netcon0", "network demo", 96);
        let at = Duration::new(1_700_000_000, 123_456_789);
        packet(
            &mut file,
            at,
            Direction::Outbound,
            &[7; 101],
            97,
            Some("curl[12]"),
        );
        packet(&mut file, at, Direction::Unsaid, &[], 97, None);
        statistics(&mut file, at, at + Duration::from_secs(1), 5, 3);
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET, PACKET, STATISTICS]);

        let packet = &blocks[2].1;
        let word = |at: usize| u32::from_ne_bytes(packet[at..at + 4].try_into().unwrap());
        let nanoseconds = u64::from(word(4)) << 32 | u64::from(word(8));
        assert_eq!(u128::from(nanoseconds), at.as_nanos());
        assert_eq!((word(0), word(12), word(16)), (0, 97, 101));
        assert_eq!(packet[20..117], [7; 97]);
        assert_eq!(packet[117..120], [0; 3]);
        let comment = [&1_u16.to_ne_bytes()[..], &8_u16.to_ne_bytes(), b"curl[12]"].concat();
        assert_eq!(packet[120..132], comment);
        assert_eq!(packet[136..140], 2_u32.to_ne_bytes());

        let statistics = &blocks[4].1;
        assert!(
            statistics
                .windows(8)
                .any(|part| part == 5_u64.to_ne_bytes())
        );
        assert!(
            statistics
                .windows(8)
                .any(|part| part == 3_u64.to_ne_bytes())
        );
    }
}
