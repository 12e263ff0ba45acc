// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AF_NETLINK sockets of protocol NETLINK_ROUTE (netlink(7), rtnetlink(7)): a program asks which interfaces, addresses and
//! routes there are, and hears of its own network instead of the host's. Nothing can be configured.
//!
//! A request goes into [`Netlink::handle_request`], datagrams of the answer come out of [`Netlink::poll_reply`].

mod dump;
mod options;
mod wire;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::options::Options;
use self::wire::{HEADER, Header, Message, Writer, attribute, messages, u32_at};
use crate::errno::Errno;
use crate::interfaces::View;
use crate::sockets::OptionValue;

/// The family.
pub const AF_NETLINK: i32 = 16;
/// The protocol that is served.
pub const NETLINK_ROUTE: i32 = 0;
/// Size of struct sockaddr_nl.
pub const ADDRESS_LEN: usize = 12;

/// Bytes of one datagram of a dump, but for its last entry. What glibc and iproute2 offer at least.
const PART: usize = 8192;
/// Bytes of answers that wait, dumps aside; more: dropped, and the next receive says ENOBUFS (netlink(7)).
const WAITING: usize = 65_536;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Below are messages of netlink itself.
const NLMSG_MIN_TYPE: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_DUMP: u16 = 0x300;
/// Set in answers that were filtered by the kernel.
const NLM_F_DUMP_FILTERED: u16 = 0x20;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const RTM_GETRULE: u16 = 34;
/// Last type the kernel knows, rounded up (`RTM_MAX`).
const RTM_MAX: u16 = 123;

/// struct sockaddr_nl.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Address {
    /// nl_pid: the port; 0 is the kernel.
    pub port: u32,
    /// nl_groups.
    pub groups: u32,
}

impl Address {
    /// Reads a struct sockaddr_nl.
    ///
    /// # Errors
    /// EINVAL: too short, or of another family.
    pub fn decode(bytes: &[u8]) -> Result<Self, Errno> {
        let family = bytes.get(..2).and_then(|b| b.try_into().ok());
        let is_netlink = family.map(u16::from_ne_bytes) == u16::try_from(AF_NETLINK).ok();
        match (u32_at(bytes, 4), u32_at(bytes, 8)) {
            (Some(port), Some(groups)) if is_netlink => Ok(Self { port, groups }),
            _ => Err(Errno::EINVAL),
        }
    }

    /// As a struct sockaddr_nl.
    #[must_use]
    pub fn encode(self) -> [u8; ADDRESS_LEN] {
        let mut out = [0; ADDRESS_LEN];
        out[..2].copy_from_slice(&16_u16.to_ne_bytes());
        out[4..8].copy_from_slice(&self.port.to_ne_bytes());
        out[8..].copy_from_slice(&self.groups.to_ne_bytes());
        out
    }
}

/// A socket.
#[derive(Debug)]
pub struct Netlink {
    /// Its address; 0 until it is bound, by bind(2) or by its first request.
    port: u32,
    /// Multicast groups it has joined. Nothing is ever said there.
    groups: u64,
    /// Where connect(2) has pointed it.
    destination: Address,
    options: Options,
    replies: VecDeque<Vec<u8>>,
    waiting: usize,
    /// A dump is among `replies`.
    dumping: bool,
    /// An answer was dropped.
    overrun: bool,
}

impl Netlink {
    /// A fresh socket. `ty`: SOCK_RAW or SOCK_DGRAM, which do not differ.
    ///
    /// # Errors
    /// ESOCKTNOSUPPORT: another type. EPROTONOSUPPORT: another protocol than NETLINK_ROUTE, as in a kernel without it.
    pub fn new(ty: i32, protocol: i32) -> Result<Self, Errno> {
        const SOCK_DGRAM: i32 = 2;
        const SOCK_RAW: i32 = 3;
        if !matches!(ty, SOCK_DGRAM | SOCK_RAW) {
            return Err(Errno::ESOCKTNOSUPPORT);
        }
        if protocol != NETLINK_ROUTE {
            return Err(Errno::EPROTONOSUPPORT);
        }
        Ok(Self {
            port: 0,
            groups: 0,
            destination: Address::default(),
            options: Options::new(ty),
            replies: VecDeque::new(),
            waiting: 0,
            dumping: false,
            overrun: false,
        })
    }

    /// The own port; 0: not bound.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// Whether bind(2) may give it `address`; `Some(port)`: after the caller has made sure that no other socket of the
    /// network has that port (0: any free one), it says so with [`Netlink::bound`].
    ///
    /// # Errors
    /// EINVAL: bound to another port already.
    pub const fn bind(&mut self, address: Address) -> Result<Option<u32>, Errno> {
        if self.port != 0 {
            if address.port != self.port {
                return Err(Errno::EINVAL);
            }
            self.join_lowest(address.groups);
            return Ok(None);
        }
        Ok(Some(address.port))
    }

    /// It has a port now.
    pub const fn bound(&mut self, port: u32, groups: u32) {
        self.port = port;
        self.join_lowest(groups);
    }

    /// bind(2) replaces the 32 groups its address can name.
    const fn join_lowest(&mut self, groups: u32) {
        self.groups = self.groups & !(u32::MAX as u64) | groups as u64;
    }

    /// connect(2); `None` dissolves.
    ///
    /// # Errors
    /// EPERM: towards anybody but the kernel, which needs CAP_NET_ADMIN.
    pub const fn connect(&mut self, to: Option<Address>) -> Result<(), Errno> {
        let to = match to {
            Some(to) => to,
            None => Address { port: 0, groups: 0 },
        };
        if to.port != 0 || to.groups != 0 {
            return Err(Errno::EPERM);
        }
        self.destination = to;
        Ok(())
    }

    /// getsockname(2).
    #[must_use]
    pub fn local_address(&self) -> Address {
        Address {
            port: self.port,
            groups: u32::try_from(self.groups & u64::from(u32::MAX)).unwrap_or(0),
        }
    }

    /// getpeername(2).
    #[must_use]
    pub const fn peer_address(&self) -> Address {
        self.destination
    }

    /// Whether a message may go to `to` (sendto(2), sendmsg(2)).
    ///
    /// # Errors
    /// EPERM: to anybody but the kernel.
    pub const fn may_send(&self, to: Address) -> Result<(), Errno> {
        if to.port != 0 || to.groups != 0 {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// getsockopt(2).
    ///
    /// # Errors
    /// ENOPROTOOPT.
    pub fn get_option(&mut self, level: i32, name: i32) -> Result<OptionValue, Errno> {
        options::get(self, level, name)
    }

    /// setsockopt(2).
    ///
    /// # Errors
    /// ENOPROTOOPT, EINVAL for a value that cannot be, EPERM for what needs CAP_NET_ADMIN.
    pub fn set_option(&mut self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        options::set(self, level, name, value)
    }

    /// The error the next receive reports, once: ENOBUFS, an answer was lost.
    pub fn take_error(&mut self) -> Option<Errno> {
        std::mem::take(&mut self.overrun).then_some(Errno::ENOBUFS)
    }

    /// The program has sent these messages.
    pub fn handle_request(&mut self, view: &View, bytes: &[u8]) {
        for message in messages(bytes) {
            let header = message.header;
            let mut outcome = Ok(Answer::Nothing);
            // The kernel obeys requests only.
            if header.flags & NLM_F_REQUEST != 0 && header.kind >= NLMSG_MIN_TYPE {
                outcome = self.obey(view, &message);
            }
            match outcome {
                Ok(Answer::Dump) => {}
                Ok(Answer::Nothing) if header.flags & NLM_F_ACK == 0 => {}
                Ok(Answer::Nothing) => self.acknowledge(&message, Errno(0)),
                Err(errno) => self.acknowledge(&message, errno),
            }
        }
    }

    /// The next datagram for the program.
    pub fn poll_reply(&mut self) -> Option<Vec<u8>> {
        let reply = self.replies.pop_front()?;
        self.waiting = self.waiting.saturating_sub(reply.len());
        self.dumping &= !self.replies.is_empty();
        Some(reply)
    }

    /// It found no room: it is the next one again.
    pub fn put_back(&mut self, reply: Vec<u8>) {
        self.waiting += reply.len();
        self.replies.push_front(reply);
    }

    fn obey(&mut self, view: &View, message: &Message<'_>) -> Result<Answer, Errno> {
        let (kind, flags) = (message.header.kind, message.header.flags);
        if kind > RTM_MAX {
            return Err(Errno::EOPNOTSUPP);
        }
        // struct rtgenmsg: the family. Without it the kernel does nothing.
        let Some(&family) = message.payload().first() else {
            return Ok(Answer::Nothing);
        };
        // Of four types in a row, new, del, get, set, the third reads.
        if kind & 3 != 2 {
            return match kind {
                // A task that has made itself a network namespace owns it, and brings up its `lo` (bubblewrap).
                RTM_NEWLINK | RTM_SETLINK | RTM_NEWADDR if view.is_own_namespace() => {
                    Ok(Answer::Nothing)
                }
                _ => Err(Errno::EPERM),
            };
        }
        if flags & NLM_F_DUMP != 0 {
            if self.dumping {
                return Err(Errno::EBUSY);
            }
            self.dump(view, message, family);
            return Ok(Answer::Dump);
        }
        self.single(view, message)
    }

    /// One entry.
    fn single(&mut self, view: &View, message: &Message<'_>) -> Result<Answer, Errno> {
        let header = self.reply_header(message, 0);
        let mut writer = Writer::default();
        match message.header.kind {
            RTM_GETLINK => {
                let attributes = message.payload().get(16..).ok_or(Errno::EINVAL)?;
                let index = u32_at(message.payload(), 4).unwrap_or(0);
                let found = match attribute(attributes, 3) {
                    _ if index != 0 => view.by_index(index),
                    Some(name) => view.by_name(name),
                    None => return Err(Errno::EINVAL),
                };
                dump::link(&mut writer, header, &found.ok_or(Errno::ENODEV)?);
            }
            RTM_GETROUTE => {
                let to = destination(message.payload())?;
                let route = dump::route_to(view, to).ok_or(Errno::ENETUNREACH)?;
                dump::route(&mut writer, header, &route);
            }
            RTM_GETNEIGH => return Err(Errno::ENOENT),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        self.queue(writer.take());
        Ok(Answer::Nothing)
    }

    /// All entries, in parts, and the mark of their end.
    fn dump(&mut self, view: &View, message: &Message<'_>, family: u8) {
        let strict = self.options.strict;
        let payload = message.payload();
        // The kernel filters for those who ask it to look closely.
        let filter = |at: usize| u32_at(payload, at).filter(|&index| strict && index != 0);
        let mut header = self.reply_header(message, NLM_F_MULTI);
        let mut parts = Parts::default();
        match message.header.kind {
            RTM_GETLINK => {
                for interface in view.interfaces() {
                    parts.entry(|writer| dump::link(writer, header, &interface));
                }
            }
            RTM_GETADDR => {
                let only = filter(4);
                header.flags |= only.map_or(0, |_| NLM_F_DUMP_FILTERED);
                let wanted = |ip: IpAddr| {
                    !matches!(family, dump::AF_INET | dump::AF_INET6) || dump::family(ip) == family
                };
                // Linux lists all of IPv4, then all of IPv6.
                for v4 in [true, false] {
                    for interface in view.interfaces() {
                        if only.is_some_and(|only| only != interface.index) {
                            continue;
                        }
                        for &(ip, len) in &interface.addresses {
                            if ip.is_ipv4() == v4 && wanted(ip) {
                                parts.entry(|writer| {
                                    dump::address(writer, header, &interface, (ip, len));
                                });
                            }
                        }
                    }
                }
            }
            RTM_GETROUTE => {
                const CLONED: u32 = 0x200;
                let attributes = payload.get(12..).unwrap_or_default();
                let table = attribute(attributes, 15)
                    .and_then(|value| u32_at(value, 0))
                    .or_else(|| payload.get(4).map(|&table| u32::from(table)))
                    .filter(|&table| strict && table != 0);
                let out = attribute(attributes, 4)
                    .and_then(|value| u32_at(value, 0))
                    .filter(|_| strict);
                if table.is_some() || out.is_some() {
                    header.flags |= NLM_F_DUMP_FILTERED;
                }
                let cached = u32_at(payload, 8).is_some_and(|flags| flags & CLONED != 0);
                for route in dump::routes(view) {
                    let of_family = !matches!(family, dump::AF_INET | dump::AF_INET6)
                        || dump::family(route.destination.0) == family;
                    let of_table = table.is_none_or(|table| table == u32::from(route.table));
                    let of_interface = out.is_none_or(|out| out == route.interface);
                    if of_family && of_table && of_interface && !cached {
                        parts.entry(|writer| dump::route(writer, header, &route));
                    }
                }
            }
            RTM_GETRULE if !view.is_own_namespace() => {
                parts.entry(|writer| dump::rules(writer, header, family));
            }
            // Neighbours, queues, labels: there are none.
            _ => {}
        }
        let done = Header {
            kind: NLMSG_DONE,
            ..header
        };
        let replies = parts.finish(|writer| {
            writer.message(done, |body| {
                body.raw(&0_i32.to_ne_bytes());
            });
        });
        for reply in replies {
            self.waiting += reply.len();
            self.replies.push_back(reply);
        }
        self.dumping = true;
    }

    /// NLMSG_ERROR: an error, or with errno 0 the acknowledgement that was asked for.
    fn acknowledge(&mut self, message: &Message<'_>, errno: Errno) {
        let capped = errno.0 == 0 || self.options.cap_ack;
        let header = Header {
            kind: NLMSG_ERROR,
            ..self.reply_header(message, if capped { NLM_F_CAPPED } else { 0 })
        };
        let mut writer = Writer::default();
        writer.message(header, |body| {
            let quoted = if capped {
                &message.whole[..HEADER]
            } else {
                message.whole
            };
            body.raw(&(-errno.0).to_ne_bytes()).raw(quoted);
        });
        self.queue(writer.take());
    }

    fn queue(&mut self, reply: Vec<u8>) {
        if self.waiting + reply.len() > WAITING {
            self.overrun = !self.options.no_enobufs;
            return;
        }
        self.waiting += reply.len();
        self.replies.push_back(reply);
    }

    const fn reply_header(&self, message: &Message<'_>, flags: u16) -> Header {
        Header {
            kind: 0,
            flags,
            seq: message.header.seq,
            port: self.port,
        }
    }
}

/// What a request that succeeded was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Entries and their end; no acknowledgement follows.
    Dump,
    /// One entry or none.
    Nothing,
}

/// Entries of a dump, cut into datagrams.
#[derive(Debug, Default)]
struct Parts {
    writer: Writer,
    full: Vec<Vec<u8>>,
}

impl Parts {
    fn entry(&mut self, write: impl FnOnce(&mut Writer)) {
        // No entry of ours is longer than 1 KiB.
        if self.writer.len() + 1024 > PART {
            self.full.push(self.writer.take());
        }
        write(&mut self.writer);
    }

    /// The end comes in a datagram of its own, as in Linux.
    fn finish(mut self, write: impl FnOnce(&mut Writer)) -> Vec<Vec<u8>> {
        if self.writer.len() > 0 {
            self.full.push(self.writer.take());
        }
        write(&mut self.writer);
        self.full.push(self.writer.take());
        self.full
    }
}

/// RTA_DST of a question for one route; without it Linux takes the address of all zeros.
fn destination(payload: &[u8]) -> Result<IpAddr, Errno> {
    let (Some(&family), Some(attributes)) = (payload.first(), payload.get(12..)) else {
        return Err(Errno::EINVAL);
    };
    let value = attribute(attributes, 1);
    match family {
        dump::AF_INET => {
            let octets: [u8; 4] = value
                .unwrap_or(&[0; 4])
                .try_into()
                .map_err(|_| Errno::EINVAL)?;
            Ok(Ipv4Addr::from(octets).into())
        }
        dump::AF_INET6 => {
            let octets: [u8; 16] = value
                .unwrap_or(&[0; 16])
                .try_into()
                .map_err(|_| Errno::EINVAL)?;
            Ok(Ipv6Addr::from(octets).into())
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

#[cfg(test)]
mod tests;
