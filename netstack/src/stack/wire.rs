// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Headers that the stack reads and writes itself: enough of IP and TCP to demultiplex, all of UDP and ICMP.
//! Reading never panics on any bytes and never reads past the packet.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{DatagramProtocol, SendOptions};
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, checksum};

/// IANA protocol numbers.
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
pub(super) const UDP_LITE: u8 = 136;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;
const FIN: u8 = 0x01;
const TCP_HEADER: usize = 20;
/// IPv6 extension headers that are walked; more: the packet is dropped.
const EXTENSIONS: usize = 8;

/// A parsed IP header.
#[derive(Debug, Clone, Copy)]
pub(super) struct IpPacket<'a> {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    /// Protocol of `payload`, behind extension headers.
    pub(super) protocol: u8,
    /// The packet without what follows its own length.
    pub(super) bytes: &'a [u8],
    pub(super) payload: &'a [u8],
    /// Set unless the packet is whole.
    pub(super) fragment: Option<Fragment>,
    /// IPv6 extension headers stand between.
    pub(super) extended: bool,
    /// TTL or hop limit.
    pub(super) hop_limit: u8,
    /// Type of service or traffic class.
    pub(super) traffic_class: u8,
}

/// Where a fragment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) id: u32,
    /// Bytes.
    pub(super) offset: usize,
    /// It is not the last one.
    pub(super) more: bool,
}

impl<'a> IpPacket<'a> {
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let ip = Ipv4Packet::new_checked(packet).ok()?;
                let header = usize::from(ip.header_len());
                let total = usize::from(ip.total_len());
                if header < IPV4_HEADER {
                    return None;
                }
                Some(Self {
                    src: ip.src_addr().into(),
                    dst: ip.dst_addr().into(),
                    protocol: ip.next_header().into(),
                    bytes: packet.get(..total)?,
                    payload: packet.get(header..total)?,
                    fragment: (ip.more_frags() || ip.frag_offset() != 0).then(|| Fragment {
                        id: u32::from(ip.ident()),
                        offset: usize::from(ip.frag_offset()),
                        more: ip.more_frags(),
                    }),
                    extended: false,
                    hop_limit: ip.hop_limit(),
                    traffic_class: ip.dscp() << 2 | ip.ecn(),
                })
            }
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    fn parse_v6(packet: &'a [u8]) -> Option<Self> {
        let ip = Ipv6Packet::new_checked(packet).ok()?;
        let bytes = packet.get(..IPV6_HEADER + usize::from(ip.payload_len()))?;
        let mut protocol: u8 = ip.next_header().into();
        let mut at = IPV6_HEADER;
        let mut fragment = None;
        let mut walked = 0;
        // RFC 8200 §4.1: hop-by-hop 0, routing 43, fragment 44, destination options 60.
        while matches!(protocol, 0 | 43 | 44 | 60) && fragment.is_none() {
            walked += 1;
            if walked > EXTENSIONS {
                return None;
            }
            let len = if protocol == 44 {
                8
            } else {
                8 + 8 * usize::from(*bytes.get(at + 1)?)
            };
            let header = bytes.get(at..at + len)?;
            if protocol == 44 {
                let field = be16(header, 2)?;
                fragment = (field & 0xfff9 != 0).then_some(Fragment {
                    id: be32(header, 4)?,
                    offset: usize::from(field & 0xfff8),
                    more: field & 1 != 0,
                });
            }
            protocol = header[0];
            at += len;
        }
        Some(Self {
            src: ip.src_addr().into(),
            dst: ip.dst_addr().into(),
            protocol,
            bytes,
            payload: bytes.get(at..)?,
            fragment,
            extended: walked > 0,
            hop_limit: ip.hop_limit(),
            traffic_class: ip.traffic_class(),
        })
    }
}

/// The fixed part of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    flags: u8,
    /// As it stands in the header: a SYN's counts as it is, others are shifted.
    pub(super) window: u16,
    urgent: u16,
    pub(super) payload_len: usize,
}

impl Segment {
    pub(super) fn parse(tcp: &[u8]) -> Option<Self> {
        let header = tcp.get(..TCP_HEADER)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < TCP_HEADER || header_len > tcp.len() {
            return None;
        }
        Some(Self {
            src_port: be16(header, 0)?,
            dst_port: be16(header, 2)?,
            seq: be32(header, 4)?,
            ack: be32(header, 8)?,
            flags: header[13],
            window: be16(header, 14)?,
            urgent: be16(header, 18)?,
            payload_len: tcp.len() - header_len,
        })
    }

    /// Of a packet that smoltcp wrote: no IP options, no extension headers.
    pub(super) fn of_plain_packet(packet: &[u8]) -> Option<Self> {
        let offset = if packet.first()? >> 4 == 4 {
            IPV4_HEADER
        } else {
            IPV6_HEADER
        };
        Self::parse(packet.get(offset..)?)
    }

    pub(super) fn fin(&self) -> bool {
        self.flags & FIN != 0
    }

    pub(super) fn syn(&self) -> bool {
        self.flags & 0x02 != 0
    }

    pub(super) fn rst(&self) -> bool {
        self.flags & 0x04 != 0
    }

    pub(super) fn has_ack(&self) -> bool {
        self.flags & 0x10 != 0
    }

    /// An acknowledgement and nothing else.
    pub(super) fn is_bare(&self) -> bool {
        self.payload_len == 0 && self.flags & 0x17 == 0x10
    }

    /// Bytes of data, as a distance of sequence numbers.
    pub(super) fn payload_len_u32(&self) -> u32 {
        u32::try_from(self.payload_len).unwrap_or(u32::MAX)
    }

    /// The urgent pointer, if it counts.
    pub(super) fn urgent(&self) -> Option<u16> {
        (self.flags & 0x20 != 0).then_some(self.urgent)
    }

    /// The first segment of a connection and nothing else.
    pub(super) fn opens(&self) -> bool {
        self.syn() && !self.has_ack() && !self.rst() && !self.fin()
    }
}

/// What a SYN says in its options (RFC 9293 §3.2, RFC 7323, RFC 2018).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SynOptions {
    /// Maximum segment size, bytes.
    pub(crate) mss: Option<u16>,
    /// Shift of windows.
    pub(crate) shift: Option<u8>,
    /// Selective acknowledgements.
    pub(crate) sack: bool,
    /// Time stamps.
    pub(crate) timestamps: bool,
}

impl SynOptions {
    /// Of a TCP header. Options that cannot be are skipped, as is what follows one whose length cannot be.
    pub(super) fn parse(tcp: &[u8]) -> Self {
        let mut found = Self::default();
        walk_options(tcp, |kind, _, body| match (kind, body) {
            (2, &[high, low]) => found.mss = Some(u16::from_be_bytes([high, low])),
            // RFC 7323 §2.3: more than 14 counts as 14.
            (3, &[shift]) => found.shift = Some(shift.min(14)),
            (4, []) => found.sack = true,
            (8, body) if body.len() == 8 => found.timestamps = true,
            _ => {}
        });
        found
    }
}

/// Options of a SYN in a packet that smoltcp wrote.
pub(super) fn syn_options(packet: &[u8]) -> Option<SynOptions> {
    let offset = if packet.first()? >> 4 == 4 {
        IPV4_HEADER
    } else {
        IPV6_HEADER
    };
    packet.get(offset..).map(SynOptions::parse)
}

/// Calls `each` with kind, place in the segment and contents of every option.
fn walk_options(tcp: &[u8], mut each: impl FnMut(u8, usize, &[u8])) {
    let end = tcp.get(12).map_or(0, |field| usize::from(field >> 4) * 4);
    let mut at = TCP_HEADER;
    while at < end.min(tcp.len()) {
        match tcp[at] {
            0 => return,
            1 => at += 1,
            kind => {
                let length = tcp.get(at + 1).map_or(0, |length| usize::from(*length));
                let Some(body) = tcp.get(at + 2..at + length).filter(|_| at + length <= end) else {
                    return;
                };
                each(kind, at, body);
                at += length;
            }
        }
    }
}

/// Makes the maximum segment size in a SYN at most `most` bytes, if it is a whole packet without IP options, and its checksum
/// anew if it has one.
pub(super) fn limit_mss(packet: &mut [u8], most: u16, checksum: bool) {
    let Some(ip) = IpPacket::parse(packet) else {
        return;
    };
    let (src, dst) = (ip.src, ip.dst);
    let Some(tcp) = packet.get_mut(ip_header_len(dst)..) else {
        return;
    };
    let mut place = None;
    walk_options(tcp, |kind, at, body| {
        if let (2, &[high, low]) = (kind, body)
            && u16::from_be_bytes([high, low]) > most
        {
            place = Some(at);
        }
    });
    let Some(at) = place else { return };
    tcp[at + 2..at + 4].copy_from_slice(&most.to_be_bytes());
    if checksum {
        tcp[16..18].fill(0);
        let sum = transport_checksum(src, dst, TCP, tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Length of the IP and TCP headers of a whole packet.
pub(super) fn headers_len(packet: &[u8]) -> Option<usize> {
    let ip = IpPacket::parse(packet)?;
    let before = ip.bytes.len() - ip.payload.len();
    Some(before + usize::from(ip.payload.get(12)? >> 4) * 4)
}

/// Writes an urgent pointer into a TCP packet that smoltcp wrote, and its checksum anew if it has one.
pub(super) fn set_urgent(packet: &mut [u8], pointer: u16, checksum: bool) {
    let Some(ip) = IpPacket::parse(packet) else {
        return;
    };
    let (src, dst) = (ip.src, ip.dst);
    let header = ip_header_len(dst);
    let Some(tcp) = packet.get_mut(header..) else {
        return;
    };
    if tcp.len() < TCP_HEADER {
        return;
    }
    tcp[13] |= 0x20;
    tcp[18..20].copy_from_slice(&pointer.to_be_bytes());
    if checksum {
        tcp[16..18].fill(0);
        let sum = transport_checksum(src, dst, TCP, tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// UDP ports and payload; `None` if the lengths do not fit.
pub(super) fn parse_udp(udp: &[u8], protocol: DatagramProtocol) -> Option<(u16, u16, &[u8])> {
    let field = usize::from(be16(udp, 4)?);
    let len = match protocol {
        DatagramProtocol::Udp => field,
        // RFC 3828 §3.1: the length is IP's, the field says how much of it the checksum covers; 0 is all.
        DatagramProtocol::UdpLite if field == 0 => udp.len(),
        DatagramProtocol::UdpLite if (UDP_HEADER..=udp.len()).contains(&field) => udp.len(),
        DatagramProtocol::UdpLite | DatagramProtocol::Echo | DatagramProtocol::Icmp => return None,
    };
    if len < UDP_HEADER {
        return None;
    }
    Some((be16(udp, 0)?, be16(udp, 2)?, udp.get(UDP_HEADER..len)?))
}

/// Bytes of the IP header of an address family.
pub(super) fn ip_header_len(ip: IpAddr) -> usize {
    if ip.is_ipv4() {
        IPV4_HEADER
    } else {
        IPV6_HEADER
    }
}

/// Length of the IP packet that carries a UDP payload.
pub(super) fn udp_packet_len(dst: IpAddr, payload: usize) -> usize {
    ip_header_len(dst) + UDP_HEADER + payload
}

/// A datagram on its way out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) protocol: DatagramProtocol,
    /// Both addresses are of one family; ports of ICMP are not written, but for the identifier of an echo request.
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: &'a [u8],
    pub(super) options: SendOptions,
}

impl Outgoing<'_> {
    /// Length of the IP packet.
    pub(super) fn len(&self) -> usize {
        ip_header_len(self.to.ip()) + self.transport_len()
    }

    fn transport_len(&self) -> usize {
        match self.protocol {
            DatagramProtocol::Udp | DatagramProtocol::UdpLite => UDP_HEADER + self.payload.len(),
            DatagramProtocol::Echo | DatagramProtocol::Icmp => self.payload.len(),
        }
    }

    /// Number of the protocol in the IP header.
    pub(super) fn number(&self) -> u8 {
        number_of(self.protocol, self.to.ip())
    }

    /// Writes the whole packet; `out` has [`Self::len`] bytes.
    pub(super) fn write(&self, out: &mut [u8]) {
        let (src, dst) = (self.from.ip(), self.to.ip());
        let hop_limit = self.options.hop_limit.max(1);
        self.write_transport(write_ip(out, src, dst, self.number(), hop_limit));
        if self.options.traffic_class != 0 {
            set_traffic_class(out, self.options.traffic_class);
        }
    }

    /// What follows the IP header: the bytes that fragments carry.
    pub(super) fn transport(&self) -> Vec<u8> {
        let mut out = vec![0; self.transport_len()];
        self.write_transport(&mut out);
        out
    }

    fn write_transport(&self, body: &mut [u8]) {
        match self.protocol {
            DatagramProtocol::Udp | DatagramProtocol::UdpLite => self.write_udp(body),
            DatagramProtocol::Echo => {
                body.copy_from_slice(self.payload);
                if let Some(identifier) = body.get_mut(4..6) {
                    identifier.copy_from_slice(&self.from.port().to_be_bytes());
                }
                self.write_icmp_checksum(body, 2);
            }
            DatagramProtocol::Icmp => {
                body.copy_from_slice(self.payload);
                // raw(7): the checksum of IPv4's ICMP is the program's.
                if let (IpAddr::V6(_), Some(at)) = (self.to.ip(), self.options.checksum_at) {
                    self.write_icmp_checksum(body, usize::from(at));
                }
            }
        }
    }

    /// Nothing is written where the message is too short.
    fn write_icmp_checksum(&self, body: &mut [u8], at: usize) {
        let Some(field) = body.get_mut(at..at + 2) else {
            return;
        };
        field.fill(0);
        let sum = icmp_checksum(self.from.ip(), self.to.ip(), body);
        body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn write_udp(&self, body: &mut [u8]) {
        let (src, dst) = (self.from.ip(), self.to.ip());
        let whole = UDP_HEADER + self.payload.len();
        let covered = match self.protocol {
            DatagramProtocol::Udp | DatagramProtocol::Echo | DatagramProtocol::Icmp => whole,
            DatagramProtocol::UdpLite => match usize::from(self.options.coverage) {
                0 => whole,
                covered => covered.clamp(UDP_HEADER, whole),
            },
        };
        // RFC 3828 §3.1: full coverage may be written as 0, and is where 16 bits do not hold it.
        let field = match self.protocol {
            DatagramProtocol::UdpLite if covered == whole => 0,
            DatagramProtocol::Udp
            | DatagramProtocol::UdpLite
            | DatagramProtocol::Echo
            | DatagramProtocol::Icmp => u16::try_from(covered).unwrap_or(u16::MAX),
        };
        body[0..2].copy_from_slice(&self.from.port().to_be_bytes());
        body[2..4].copy_from_slice(&self.to.port().to_be_bytes());
        body[4..6].copy_from_slice(&field.to_be_bytes());
        body[6..8].fill(0);
        body[UDP_HEADER..].copy_from_slice(self.payload);
        let length = u32::try_from(whole).unwrap_or(u32::MAX);
        let number = self.number();
        let sum = covered_checksum(src, dst, number, length, &body[..covered]);
        // RFC 768: a computed zero is sent as all ones.
        let sum = if sum == 0 { 0xffff } else { sum };
        body[6..8].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The protocol number in the IP header of a packet to `dst`.
const fn number_of(protocol: DatagramProtocol, dst: IpAddr) -> u8 {
    match protocol {
        DatagramProtocol::Udp => UDP,
        DatagramProtocol::UdpLite => UDP_LITE,
        DatagramProtocol::Echo | DatagramProtocol::Icmp => icmp_number(dst),
    }
}

/// The protocol number of ICMP in the family of `ip`.
pub(super) const fn icmp_number(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => ICMP,
        IpAddr::V6(_) => ICMPV6,
    }
}

/// The datagram protocol with ports that has that number.
pub(super) const fn datagrams_of(number: u8) -> Option<DatagramProtocol> {
    match number {
        UDP => Some(DatagramProtocol::Udp),
        UDP_LITE => Some(DatagramProtocol::UdpLite),
        _ => None,
    }
}

/// A piece of a packet too large for the MTU (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    pub(super) options: SendOptions,
    pub(super) fragment: Fragment,
    pub(super) bytes: &'a [u8],
}

impl Piece<'_> {
    /// What all pieces of a packet have in common.
    pub(super) fn first(src: IpAddr, dst: IpAddr, protocol: u8, options: SendOptions) -> Self {
        Self {
            src,
            dst,
            protocol,
            options,
            fragment: Fragment {
                id: 0,
                offset: 0,
                more: false,
            },
            bytes: &[],
        }
    }

    /// Largest number of bytes one piece carries, but for the last one a multiple of eight.
    pub(super) fn room(dst: IpAddr, mtu: usize) -> usize {
        (mtu - Self::overhead(dst)) / 8 * 8
    }

    pub(super) fn len(&self) -> usize {
        Self::overhead(self.dst) + self.bytes.len()
    }

    fn overhead(dst: IpAddr) -> usize {
        ip_header_len(dst) + if dst.is_ipv4() { 0 } else { 8 }
    }

    /// Writes the packet; `out` has [`Self::len`] bytes.
    pub(super) fn write(&self, out: &mut [u8]) {
        let hop_limit = self.options.hop_limit.max(1);
        let more = u16::from(self.fragment.more);
        let offset = u16::try_from(self.fragment.offset).unwrap_or(u16::MAX);
        if self.dst.is_ipv4() {
            let body = write_ip(out, self.src, self.dst, self.protocol, hop_limit);
            body.copy_from_slice(self.bytes);
            let [.., high, low] = self.fragment.id.to_be_bytes();
            out[4..6].copy_from_slice(&[high, low]);
            out[6..8].copy_from_slice(&((more << 13) | (offset / 8)).to_be_bytes());
        } else {
            const FRAGMENT: u8 = 44;
            let body = write_ip(out, self.src, self.dst, FRAGMENT, hop_limit);
            let (header, body) = body.split_at_mut(8);
            header.fill(0);
            header[0] = self.protocol;
            header[2..4].copy_from_slice(&(offset & !7 | more).to_be_bytes());
            header[4..8].copy_from_slice(&self.fragment.id.to_be_bytes());
            body.copy_from_slice(self.bytes);
        }
        set_traffic_class(out, self.options.traffic_class);
    }
}

/// Writes type of service or traffic class into a packet, and the IPv4 header's checksum anew.
pub(super) fn set_traffic_class(packet: &mut [u8], class: u8) {
    if packet[0] >> 4 == 4 {
        packet[1] = class;
        packet[10..12].fill(0);
        let sum = !checksum::data(&packet[..IPV4_HEADER]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[0] = 0x60 | class >> 4;
        packet[1] = packet[1] & 0x0f | class << 4;
    }
}

/// Length of an empty TCP segment towards `dst` as an IP packet.
pub(super) fn ack_packet_len(dst: IpAddr) -> usize {
    ip_header_len(dst) + TCP_HEADER
}

/// Writes an empty acknowledgement; `out` has [`ack_packet_len`] bytes.
pub(super) fn write_ack(out: &mut [u8], from: SocketAddr, to: SocketAddr, seq: u32, ack: u32) {
    let body = write_ip(out, from.ip(), to.ip(), TCP, 64);
    body.fill(0);
    body[0..2].copy_from_slice(&from.port().to_be_bytes());
    body[2..4].copy_from_slice(&to.port().to_be_bytes());
    body[4..8].copy_from_slice(&seq.to_be_bytes());
    body[8..12].copy_from_slice(&ack.to_be_bytes());
    body[12] = 5 << 4;
    body[13] = 0x10;
    let sum = transport_checksum(from.ip(), to.ip(), TCP, body);
    body[16..18].copy_from_slice(&sum.to_be_bytes());
}

/// The TCP segment of which `tcp` begins, from `from` to `to`, without its data and options and with number `seq`, as a packet:
/// for the TCP engine only, which does not look at checksums.
pub(super) fn trimmed(
    tcp: &[u8],
    from: SocketAddr,
    to: SocketAddr,
    seq: u32,
    segment: &Segment,
) -> Vec<u8> {
    let mut packet = vec![0; ack_packet_len(to.ip())];
    write_ack(&mut packet, from, to, seq, segment.ack);
    let at = packet.len() - TCP_HEADER;
    packet[at + 13] |= segment.flags & FIN;
    if let Some(window) = tcp.get(14..16) {
        packet[at + 14..at + 16].copy_from_slice(window);
    }
    packet
}

/// An ICMP or ICMPv6 message that arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Icmp<'a> {
    pub(super) kind: u8,
    pub(super) code: u8,
    /// Bytes 4..8: identifier and sequence, MTU or unused.
    pub(super) word: u32,
    pub(super) body: &'a [u8],
}

impl<'a> Icmp<'a> {
    pub(super) fn parse(icmp: &'a [u8]) -> Option<Self> {
        Some(Self {
            kind: *icmp.first()?,
            code: *icmp.get(1)?,
            word: be32(icmp, 4)?,
            body: icmp.get(ICMP_HEADER..)?,
        })
    }

    /// An echo request of the family.
    pub(super) fn is_echo_request(&self, v4: bool) -> bool {
        self.kind == if v4 { 8 } else { 128 }
    }

    /// An echo reply of the family.
    pub(super) fn is_echo_reply(&self, v4: bool) -> bool {
        self.kind == if v4 { 0 } else { 129 }
    }

    /// Of an echo request or reply.
    pub(super) fn identifier(&self) -> u16 {
        let [a, b, ..] = self.word.to_be_bytes();
        u16::from_be_bytes([a, b])
    }
}

/// Whether the checksum of a whole ICMP message is right. The message is not copied.
pub(super) fn is_icmp_intact(src: IpAddr, dst: IpAddr, message: &[u8]) -> bool {
    icmp_checksum(src, dst, message) == 0
}

/// The checksum over a whole ICMP message, whose own field counts as it is.
fn icmp_checksum(src: IpAddr, dst: IpAddr, message: &[u8]) -> u16 {
    match dst {
        IpAddr::V4(_) => !checksum::data(message),
        IpAddr::V6(_) => transport_checksum(src, dst, ICMPV6, message),
    }
}

/// Length of the IP packet of an ICMP message with `body` bytes behind its 8-byte header.
pub(super) fn icmp_packet_len(dst: IpAddr, body: usize) -> usize {
    ip_header_len(dst) + ICMP_HEADER + body
}

/// Writes an ICMP message of the family of `dst`; `out` has [`icmp_packet_len`] bytes.
pub(super) fn write_icmp(out: &mut [u8], src: IpAddr, dst: IpAddr, message: Icmp<'_>) {
    let body = write_ip(out, src, dst, icmp_number(dst), 64);
    write_icmp_message(body, src, dst, message);
}

/// Writes an ICMP message without an IP header.
pub(super) fn write_icmp_message(body: &mut [u8], src: IpAddr, dst: IpAddr, message: Icmp<'_>) {
    body[0] = message.kind;
    body[1] = message.code;
    body[2..4].fill(0);
    body[4..8].copy_from_slice(&message.word.to_be_bytes());
    body[ICMP_HEADER..].copy_from_slice(message.body);
    let sum = icmp_checksum(src, dst, body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Writes the IPv4 header's and TCP's checksum into a whole packet without IP options, where the loopback has left them out.
pub(super) fn fill_checksums(packet: &mut [u8]) {
    let Some(ip) = IpPacket::parse(packet) else {
        return;
    };
    let (src, dst, protocol) = (ip.src, ip.dst, ip.protocol);
    let (header, body) = packet.split_at_mut(ip_header_len(dst));
    if dst.is_ipv4() {
        header[10..12].fill(0);
        let sum = !checksum::data(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    if protocol == TCP && body.len() >= TCP_HEADER {
        body[16..18].fill(0);
        let sum = transport_checksum(src, dst, TCP, body);
        body[16..18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The packet quoted by an ICMP error: addresses, protocol, ports and (TCP) sequence number. It may be cut short, so
/// lengths in it are not believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted {
    pub(super) protocol: u8,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// Bytes 4..8 behind the ports: the sequence number of TCP.
    pub(super) word: u32,
    /// Where the header with the ports begins.
    pub(super) transport_at: usize,
}

impl Quoted {
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let (src, dst, protocol, at): (IpAddr, IpAddr, u8, usize) = match packet.first()? >> 4 {
            4 => {
                let header = packet.get(..IPV4_HEADER)?;
                // Only the first fragment has ports.
                if be16(header, 6)? & 0x1fff != 0 {
                    return None;
                }
                let src: [u8; 4] = header[12..16].try_into().ok()?;
                let dst: [u8; 4] = header[16..20].try_into().ok()?;
                (
                    src.into(),
                    dst.into(),
                    header[9],
                    usize::from(header[0] & 15) * 4,
                )
            }
            6 => {
                let header = packet.get(..IPV6_HEADER)?;
                let src: [u8; 16] = header[8..24].try_into().ok()?;
                let dst: [u8; 16] = header[24..40].try_into().ok()?;
                (src.into(), dst.into(), header[6], IPV6_HEADER)
            }
            _ => return None,
        };
        let transport = packet.get(at..)?;
        Some(Self {
            protocol,
            from: SocketAddr::new(src, be16(transport, 0)?),
            to: SocketAddr::new(dst, be16(transport, 2)?),
            word: be32(transport, 4)?,
            transport_at: at,
        })
    }

    /// What `packet`, which this was read from, holds behind a UDP header.
    pub(super) fn behind_udp<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet
            .get(self.transport_at + UDP_HEADER..)
            .unwrap_or_default()
    }

    /// What `packet`, which this was read from, holds behind the IP header.
    pub(super) fn behind_ip<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(self.transport_at..).unwrap_or_default()
    }

    /// Of an ICMP echo request: its identifier.
    pub(super) fn echo_identifier(&self) -> Option<u16> {
        let [kind, _] = self.from.port().to_be_bytes();
        let request = match self.from.ip() {
            IpAddr::V4(_) => self.protocol == ICMP && kind == 8,
            IpAddr::V6(_) => self.protocol == ICMPV6 && kind == 128,
        };
        let [a, b, ..] = self.word.to_be_bytes();
        request.then_some(u16::from_be_bytes([a, b]))
    }
}

/// Fills in what the writer of an IPv4 header of `header_len` bytes leaves to the stack: length, source, checksum, and an
/// identification where there is none.
pub(super) fn complete_header(packet: &mut [u8], header_len: usize, src: Ipv4Addr, number: u16) {
    let total = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    let header = &mut packet[..header_len];
    header[2..4].copy_from_slice(&total.to_be_bytes());
    if header[4..6] == [0, 0] {
        header[4..6].copy_from_slice(&number.to_be_bytes());
    }
    header[12..16].copy_from_slice(&src.octets());
    header[10..12].fill(0);
    let sum = !checksum::data(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Writes the IP header over `out` and returns what follows it.
pub(super) fn write_ip(
    out: &mut [u8],
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    hop_limit: u8,
) -> &mut [u8] {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = u16::try_from(out.len()).unwrap_or(u16::MAX);
            let (header, body) = out.split_at_mut(IPV4_HEADER);
            header.fill(0);
            header[0] = 0x45;
            header[2..4].copy_from_slice(&total.to_be_bytes());
            // Don't fragment; so the identification may be 0 (RFC 6864 §4.1).
            header[6] = 0x40;
            header[8] = hop_limit;
            header[9] = protocol;
            header[12..16].copy_from_slice(&src.octets());
            header[16..20].copy_from_slice(&dst.octets());
            let sum = !checksum::data(header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            body
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (header, body) = out.split_at_mut(IPV6_HEADER);
            header.fill(0);
            header[0] = 0x60;
            let len = u16::try_from(body.len()).unwrap_or(u16::MAX);
            header[4..6].copy_from_slice(&len.to_be_bytes());
            header[6] = protocol;
            header[7] = hop_limit;
            header[8..24].copy_from_slice(&src.octets());
            header[24..40].copy_from_slice(&dst.octets());
            body
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            unreachable!("callers pass two addresses of one family")
        }
    }
}

/// Writes an IP header with hop limit 1 and the router alert for messages about membership (RFC 2113, RFC 2711), and
/// returns what follows. The caller sets the checksum of IPv4.
pub(super) fn write_ip_with_alert(
    out: &mut [u8],
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
) -> &mut [u8] {
    if dst.is_ipv4() {
        let body = write_ip(out, src, dst, protocol, 1);
        body[..4].copy_from_slice(&[0x94, 4, 0, 0]);
        out[0] = 0x46;
        &mut out[IPV4_HEADER + 4..]
    } else {
        const HOP_BY_HOP: u8 = 0;
        let body = write_ip(out, src, dst, HOP_BY_HOP, 1);
        body[..8].copy_from_slice(&[protocol, 0, 5, 2, 0, 0, 1, 0]);
        &mut body[8..]
    }
}

/// Computes the checksum of an IPv4 header anew, options included.
pub(super) fn set_header_sum(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let sum = !checksum::data(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// The Internet checksum of `bytes` (RFC 1071).
pub(super) fn sum_of(bytes: &[u8]) -> u16 {
    !checksum::data(bytes)
}

/// Whether the checksum in `bytes` fits.
pub(super) fn sum_is_zero(bytes: &[u8]) -> bool {
    checksum::data(bytes) == u16::MAX
}

/// Whether the checksum of a message of ICMPv6 fits.
pub(super) fn icmpv6_sum_fits(ip: &IpPacket<'_>) -> bool {
    transport_checksum(ip.src, ip.dst, ICMPV6, ip.payload) == 0
}

/// The checksum of what follows an IP header, pseudo header included; the field itself is zero.
pub(super) fn transport_checksum(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> u16 {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    covered_checksum(src, dst, protocol, len, body)
}

/// Of the pseudo header for `len` bytes and those bytes that are covered.
fn covered_checksum(src: IpAddr, dst: IpAddr, protocol: u8, len: u32, covered: &[u8]) -> u16 {
    let pseudo = checksum::pseudo_header(&src.into(), &dst.into(), IpProtocol::from(protocol), len);
    !checksum::combine(&[pseudo, checksum::data(covered)])
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
