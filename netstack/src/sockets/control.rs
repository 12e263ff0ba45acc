// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Control messages of datagram sockets (cmsg(3)): what recvmsg(2) tells beside a datagram, what sendmsg(2) asks for it
//! (ip(7), ipv6(7), socket(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::names::*;
use super::state::Socket;
use super::{Family, SocketId, Sockets};
use crate::errno::Errno;
use crate::stack::{Datagram, DatagramProtocol, Link};

/// Types of messages whose option has another number.
const IPV6_PKTINFO: i32 = 50;
const IPV6_HOPLIMIT: i32 = 52;
/// SCM_RIGHTS, SCM_CREDENTIALS: level SOL_SOCKET, of AF_UNIX only.
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
/// A dma-buf to send from: its number is looked at with MSG_ZEROCOPY only.
const SCM_DEVMEM_DMABUF: i32 = 79;
/// SOF_TIMESTAMPING_TX_RECORD_MASK: which times of sending are asked for (linux/net_tstamp.h).
const TIMESTAMPS_SENT: i32 = 0x4_0303;
/// IP options of a packet, bytes.
const IP_OPTIONS_MAX: usize = 40;

/// One control message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlMessage {
    /// cmsg_level.
    pub level: i32,
    /// cmsg_type.
    pub kind: i32,
    /// What follows the header.
    pub data: Vec<u8>,
}

/// What sendmsg(2) asks for one datagram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendControl {
    /// IP_PKTINFO, IPV6_PKTINFO: the source address.
    pub source: Option<IpAddr>,
    /// IP_TTL, IPV6_HOPLIMIT.
    pub hop_limit: Option<u8>,
    /// IP_TOS, IPV6_TCLASS.
    pub traffic_class: Option<u8>,
    /// IPV6_DONTFRAG.
    pub whole: Option<bool>,
    /// UDP_SEGMENT: bytes of each datagram; 0: one.
    pub segment: Option<u16>,
    /// MSG_MORE: the datagram is not whole yet.
    pub more: bool,
    /// IP_PKTINFO, IPV6_PKTINFO: the interface; counts for groups and broadcasts.
    pub link: Option<Link>,
}

impl SendControl {
    /// Reads the messages of a sendmsg(2) on a datagram socket of that family, whose datagram goes to an address of IPv6
    /// (`v6`) or of IPv4, mapped or not.
    ///
    /// # Errors
    /// EINVAL: of a level that is looked at, but not known, or a value that cannot be. EPERM: what only privileged programs
    /// may ask for. ENODEV: no such interface.
    pub fn parse(family: Family, v6: bool, messages: &[ControlMessage]) -> Result<Self, Errno> {
        let mut control = Self::default();
        for message in messages {
            match (message.level, v6) {
                (SOL_SOCKET, _) => of_socket(message)?,
                (SOL_IP, false) => control.take_v4(message)?,
                (SOL_IPV6, true) => control.take_v6(message)?,
                // The IPv4 half of an IPv6 socket knows this one of IPv6.
                (SOL_IPV6, false) if family == Family::V6 && message.kind == IPV6_PKTINFO => {
                    control.take_v6(message)?;
                    if control.source.is_none_or(|source| source.is_ipv6()) {
                        return Err(Errno::EINVAL);
                    }
                }
                (SOL_UDP, _) => control.take_udp(message)?,
                // Linux skips what is another protocol's.
                _ => {}
            }
        }
        Ok(control)
    }

    fn take_udp(&mut self, message: &ControlMessage) -> Result<(), Errno> {
        match (message.kind, message.data.as_slice()) {
            (UDP_SEGMENT, &[low, high]) => self.segment = Some(u16::from_ne_bytes([low, high])),
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn take_v4(&mut self, message: &ControlMessage) -> Result<(), Errno> {
        match message.kind {
            IP_PKTINFO => {
                let data = <[u8; 12]>::try_from(message.data.as_slice());
                let data = data.map_err(|_| Errno::EINVAL)?;
                let index = [data[0], data[1], data[2], data[3]];
                self.link = interface(i32::from_ne_bytes(index))?;
                let source = Ipv4Addr::new(data[4], data[5], data[6], data[7]);
                self.source = (!source.is_unspecified()).then_some(source.into());
            }
            IP_TTL => self.hop_limit = Some(number(message, 1..=255)?),
            IP_TOS => {
                // One byte is enough.
                self.traffic_class = Some(match message.data.as_slice() {
                    [byte] => *byte,
                    _ => number(message, 0..=255)?,
                });
            }
            // No option but padding is sent.
            IP_RETOPTS => {
                let used = message.data.iter().take(IP_OPTIONS_MAX);
                if used.take_while(|byte| **byte != 0).any(|byte| *byte != 1) {
                    return Err(Errno::EINVAL);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn take_v6(&mut self, message: &ControlMessage) -> Result<(), Errno> {
        // -1 stands for the socket's own value.
        let own = message.data == (-1_i32).to_ne_bytes();
        match message.kind {
            IPV6_PKTINFO | IPV6_2292PKTINFO => {
                let data = start::<20>(&message.data)?;
                let index = [data[16], data[17], data[18], data[19]];
                self.link = interface(i32::from_ne_bytes(index))?;
                let mut octets = [0; 16];
                octets.copy_from_slice(&data[..16]);
                let source = Ipv6Addr::from(octets);
                self.source =
                    (!source.is_unspecified()).then_some(IpAddr::V6(source).to_canonical());
            }
            IPV6_HOPLIMIT | IPV6_2292HOPLIMIT if own => {}
            IPV6_TCLASS if own => {}
            IPV6_HOPLIMIT | IPV6_2292HOPLIMIT => self.hop_limit = Some(number(message, 0..=255)?),
            IPV6_TCLASS => self.traffic_class = Some(number(message, 0..=255)?),
            IPV6_DONTFRAG => self.whole = Some(number(message, 0..=1)? != 0),
            // Flow labels are not sent.
            IPV6_FLOWINFO => start::<4>(&message.data).map(drop)?,
            IPV6_HOPOPTS | IPV6_2292HOPOPTS | IPV6_DSTOPTS | IPV6_2292DSTOPTS
            | IPV6_RTHDRDSTOPTS => {
                // The second byte counts what follows the first eight.
                let [_, more] = start::<2>(&message.data)?;
                let whole = message.data.len() >= (usize::from(more) + 1) * 8;
                return Err(if whole { Errno::EPERM } else { Errno::EINVAL });
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}

impl Sockets {
    /// Whether a datagram to `to`, or to the peer, is one of IPv6.
    #[must_use]
    pub fn sends_v6(&self, id: SocketId, to: Option<SocketAddr>) -> bool {
        self.sockets.get(&id).is_some_and(|socket| match to {
            Some(to) => to.ip().to_canonical().is_ipv6(),
            None => socket.peer_is_v6(),
        })
    }

    /// Whether recvmsg(2) on a datagram socket is to tell anything beside the datagram.
    #[must_use]
    pub fn wants_control(&self, id: SocketId) -> bool {
        self.sockets.get(&id).is_some_and(|socket| {
            ASKED
                .iter()
                .any(|&(level, name)| socket.options.is_on(level, name))
        })
    }

    /// What recvmsg(2) tells beside `datagram`, in Linux' order. `stamp`: when it came, since the Unix epoch.
    #[must_use]
    pub fn receive_control(
        &self,
        id: SocketId,
        datagram: &Datagram,
        stamp: Duration,
    ) -> Vec<ControlMessage> {
        let Some(socket) = self.sockets.get(&id) else {
            return Vec::new();
        };
        let mut told = Told::new(socket);
        told.stamp(stamp);
        if datagram.dropped > 0 && told.asked(SOL_SOCKET, SO_RXQ_OVFL) {
            told.tell(SOL_SOCKET, SO_RXQ_OVFL, &datagram.dropped.to_ne_bytes());
        }
        self.tell_beside(&mut told, datagram, None);
        told.messages
    }

    /// What ip(7) and ipv6(7) tell of a packet. `specific`: the local address of the route back where IP_PKTINFO is to tell
    /// another than the destination.
    pub(super) fn tell_beside(
        &self,
        told: &mut Told<'_>,
        datagram: &Datagram,
        specific: Option<Ipv4Addr>,
    ) {
        let socket = told.socket;
        let to = datagram.to.ip().to_canonical();
        let index = datagram.link.index();
        let address = match socket.family {
            Family::V6 => told.v6_address(datagram, index),
            Family::V4 => Vec::new(),
        };
        match (to, socket.family) {
            (IpAddr::V4(ip), _) => {
                // An echo socket is not told which address it would answer from (icmp(7)).
                let own = || match socket.options.protocol() {
                    DatagramProtocol::Echo => Ipv4Addr::UNSPECIFIED,
                    DatagramProtocol::Udp | DatagramProtocol::UdpLite | DatagramProtocol::Icmp => {
                        self.answered_from(datagram, ip)
                    }
                };
                told.v4(datagram, ip, specific.unwrap_or_else(own), index);
            }
            (IpAddr::V6(_), Family::V6) => told.v6(datagram, &address),
            (IpAddr::V6(_), Family::V4) => {}
        }
    }

    /// ipi_spec_dst: the address an answer would come from.
    fn answered_from(&self, datagram: &Datagram, to: Ipv4Addr) -> Ipv4Addr {
        if !self.is_for_many(to.into()) {
            return to;
        }
        let from = datagram.from.ip().to_canonical();
        let own = self.stack.own_address(false);
        match Some(from).filter(|from| self.stack.is_local(*from)).or(own) {
            Some(IpAddr::V4(ip)) => ip,
            Some(IpAddr::V6(_)) | None => to,
        }
    }
}

/// Options that make recvmsg(2) tell something.
const ASKED: &[(i32, i32)] = &[
    (SOL_SOCKET, SO_TIMESTAMP),
    (SOL_SOCKET, SO_TIMESTAMPNS),
    (SOL_SOCKET, SO_TIMESTAMP_NEW),
    (SOL_SOCKET, SO_TIMESTAMPNS_NEW),
    (SOL_SOCKET, SO_RXQ_OVFL),
    (SOL_IP, IP_PKTINFO),
    (SOL_IP, IP_RECVTTL),
    (SOL_IP, IP_RECVTOS),
    (SOL_IP, IP_RECVORIGDSTADDR),
    (SOL_IPV6, IPV6_RECVPKTINFO),
    (SOL_IPV6, IPV6_2292PKTINFO),
    (SOL_IPV6, IPV6_FLOWINFO),
    (SOL_IPV6, IPV6_RECVHOPLIMIT),
    (SOL_IPV6, IPV6_2292HOPLIMIT),
    (SOL_IPV6, IPV6_RECVTCLASS),
    (SOL_IPV6, IPV6_RECVORIGDSTADDR),
];

impl Socket {
    /// Whether the time a datagram came is asked for.
    pub(super) fn wants_stamp(&self) -> bool {
        ASKED[..4]
            .iter()
            .any(|&(level, name)| self.options.is_on(level, name))
    }
}

/// Messages as they are collected.
pub(super) struct Told<'a> {
    socket: &'a Socket,
    pub(super) messages: Vec<ControlMessage>,
}

impl<'a> Told<'a> {
    pub(super) const fn new(socket: &'a Socket) -> Self {
        Self {
            socket,
            messages: Vec::new(),
        }
    }

    fn asked(&self, level: i32, name: i32) -> bool {
        self.socket.options.is_on(level, name)
    }

    pub(super) fn tell(&mut self, level: i32, kind: i32, data: &[u8]) {
        self.messages.push(ControlMessage {
            level,
            kind,
            data: data.to_vec(),
        });
    }

    /// The nanosecond form wins where both are asked for.
    pub(super) fn stamp(&mut self, at: Duration) {
        let pair = |part: u32| [at.as_secs().to_ne_bytes(), u64::from(part).to_ne_bytes()].concat();
        for (name, part) in [
            (SO_TIMESTAMPNS_NEW, at.subsec_nanos()),
            (SO_TIMESTAMPNS, at.subsec_nanos()),
            (SO_TIMESTAMP_NEW, at.subsec_micros()),
            (SO_TIMESTAMP, at.subsec_micros()),
        ] {
            if self.asked(SOL_SOCKET, name) {
                self.tell(SOL_SOCKET, name, &pair(part));
                return;
            }
        }
    }

    /// IPV6_PKTINFO, also for an IPv4 datagram: its address is mapped. Gives what it says.
    fn v6_address(&mut self, datagram: &Datagram, index: u32) -> Vec<u8> {
        let octets = match datagram.to.ip() {
            IpAddr::V6(ip) => ip.octets(),
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        };
        let data = [octets.as_slice(), &index.to_ne_bytes()].concat();
        if self.asked(SOL_IPV6, IPV6_RECVPKTINFO) {
            self.tell(SOL_IPV6, IPV6_PKTINFO, &data);
        }
        data
    }

    fn v4(&mut self, datagram: &Datagram, to: Ipv4Addr, specific: Ipv4Addr, index: u32) {
        if self.asked(SOL_IP, IP_PKTINFO) {
            let data = [index.to_ne_bytes(), specific.octets(), to.octets()].concat();
            self.tell(SOL_IP, IP_PKTINFO, &data);
        }
        if self.asked(SOL_IP, IP_RECVTTL) {
            let ttl = i32::from(datagram.hop_limit);
            self.tell(SOL_IP, IP_TTL, &ttl.to_ne_bytes());
        }
        if self.asked(SOL_IP, IP_RECVTOS) {
            self.tell(SOL_IP, IP_TOS, &[datagram.traffic_class]);
        }
        if self.asked(SOL_IP, IP_RECVORIGDSTADDR) {
            let port = datagram.to.port().to_be_bytes();
            let data = [&2_u16.to_ne_bytes(), &port, to.octets().as_slice(), &[0; 8]].concat();
            self.tell(SOL_IP, IP_RECVORIGDSTADDR, &data);
        }
    }

    fn v6(&mut self, datagram: &Datagram, address: &[u8]) {
        let hops = i32::from(datagram.hop_limit).to_ne_bytes();
        if self.asked(SOL_IPV6, IPV6_RECVHOPLIMIT) {
            self.tell(SOL_IPV6, IPV6_HOPLIMIT, &hops);
        }
        if self.asked(SOL_IPV6, IPV6_RECVTCLASS) {
            let class = i32::from(datagram.traffic_class);
            self.tell(SOL_IPV6, IPV6_TCLASS, &class.to_ne_bytes());
        }
        // Class and flow label, where there is one or the other; labels are not kept.
        if self.asked(SOL_IPV6, IPV6_FLOWINFO) && datagram.traffic_class != 0 {
            let flow = u32::from(datagram.traffic_class) << 20;
            self.tell(SOL_IPV6, IPV6_FLOWINFO, &flow.to_be_bytes());
        }
        if self.asked(SOL_IPV6, IPV6_2292PKTINFO) {
            self.tell(SOL_IPV6, IPV6_2292PKTINFO, address);
        }
        if self.asked(SOL_IPV6, IPV6_2292HOPLIMIT) {
            self.tell(SOL_IPV6, IPV6_2292HOPLIMIT, &hops);
        }
        if self.asked(SOL_IPV6, IPV6_RECVORIGDSTADDR)
            && let SocketAddr::V6(to) = datagram.to
        {
            let port = to.port().to_be_bytes();
            let octets = to.ip().octets();
            let data = [
                &10_u16.to_ne_bytes(),
                port.as_slice(),
                &[0; 4],
                &octets,
                &[0; 4],
            ]
            .concat();
            self.tell(SOL_IPV6, IPV6_RECVORIGDSTADDR, &data);
        }
    }
}

/// Level SOL_SOCKET (`__sock_cmsg_send`).
fn of_socket(message: &ControlMessage) -> Result<(), Errno> {
    match message.kind {
        SCM_RIGHTS | SCM_CREDENTIALS => return Ok(()),
        SO_MARK => return Err(Errno::EPERM),
        _ => {}
    }
    let value = <[u8; 4]>::try_from(message.data.as_slice())
        .map(i32::from_ne_bytes)
        .map_err(|_| Errno::EINVAL)?;
    match message.kind {
        // A time is kept for whom it is asked of the socket, too (SO_TIMESTAMPING).
        SO_TIMESTAMPING | SO_TIMESTAMPING_NEW if value & !TIMESTAMPS_SENT == 0 => Ok(()),
        SCM_DEVMEM_DMABUF => Ok(()),
        SO_PRIORITY if (0..=6).contains(&value) => Ok(()),
        SO_PRIORITY => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// The interface a datagram is to leave by; 0: any.
const fn interface(index: i32) -> Result<Option<Link>, Errno> {
    match (index, Link::of_index(index.cast_unsigned())) {
        (0, _) => Ok(None),
        (_, Some(link)) => Ok(Some(link)),
        (_, None) => Err(Errno::ENODEV),
    }
}

fn start<const N: usize>(data: &[u8]) -> Result<[u8; N], Errno> {
    data.get(..N)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Errno::EINVAL)
}

fn number(message: &ControlMessage, range: std::ops::RangeInclusive<i32>) -> Result<u8, Errno> {
    let value = <[u8; 4]>::try_from(message.data.as_slice())
        .map(i32::from_ne_bytes)
        .map_err(|_| Errno::EINVAL)?;
    if !range.contains(&value) {
        return Err(Errno::EINVAL);
    }
    u8::try_from(value).map_err(|_| Errno::EINVAL)
}
