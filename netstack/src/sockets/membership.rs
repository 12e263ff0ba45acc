// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options about multicast groups (ip(7), ipv6(7), RFC 3678): joining, leaving, sources, and where groups are sent to.
//! Order of the checks and every errno are those of Linux 6.18.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use super::address::{AF_INET, AF_INET6};
use super::names::*;
use super::state::{Body, Socket};
use super::{Family, Kind, SocketId, Sockets};
use crate::errno::Errno;
use crate::stack::{Link, Membership, Reception, SourceFilter};

/// Groups of one socket: net.ipv4.igmp_max_memberships, then ENOBUFS; of IPv6, as many as its option memory holds
/// (net.core.optmem_max), then ENOMEM.
const V4_GROUPS_MAX: usize = 20;
const V6_GROUPS_MAX: usize = 2340;
/// Sources of one membership: net.ipv4.igmp_max_msf, net.ipv6.mld_max_msf; more: ENOBUFS.
const V4_SOURCES_MAX: usize = 10;
const V6_SOURCES_MAX: usize = 64;
/// struct sockaddr_storage; struct group_req and group_source_req; the fixed parts of struct ip_msfilter and group_filter.
const STORAGE: usize = 128;
const GROUP_REQ: usize = 8 + STORAGE;
const GROUP_SOURCE_REQ: usize = GROUP_REQ + STORAGE;
const IP_MSFILTER_FIXED: usize = 16;
const GROUP_FILTER_FIXED: usize = GROUP_REQ + 8;
/// Longest value of an option of this module that counts, bytes.
pub(super) const LONGEST: usize = GROUP_FILTER_FIXED + V6_SOURCES_MAX * STORAGE;
/// gf_fmode, imsf_fmode.
const MCAST_EXCLUDE: u32 = 0;
const MCAST_INCLUDE: u32 = 1;

/// One group a socket has joined.
#[derive(Debug, Clone)]
struct Joined {
    group: IpAddr,
    link: Link,
    filter: SourceFilter,
    /// A list of sources was made once: its mode does not change by the way any more.
    listed: bool,
}

/// What a socket has asked about groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    /// The newest first.
    joined: Vec<Joined>,
    /// IP_MULTICAST_IF: interface and address.
    pub(super) v4_link: Option<Link>,
    pub(super) v4_address: Option<Ipv4Addr>,
}

/// Which interface a call names.
#[derive(Debug, Clone, Copy)]
enum Where {
    /// By index; 0: any.
    Index(i32),
    /// By address, of IPv4; 0.0.0.0: any.
    Address(Ipv4Addr),
}

impl Sockets {
    /// setsockopt(2) of an option of this module; `None`: it is none.
    pub(super) fn set_group_option(
        &mut self,
        now: Instant,
        id: SocketId,
        (level, name): (i32, i32),
        value: &[u8],
    ) -> Option<Result<(), Errno>> {
        let socket = self.sockets.get(&id)?;
        let (mut groups, stream) = (socket.groups.clone(), socket.kind() == Kind::Stream);
        let call = Call {
            sockets: self,
            socket,
            groups: &mut groups,
        };
        let done = match (level, name) {
            (SOL_IP, IP_MULTICAST_IF) => call.interface(value),
            (SOL_IP, IP_ADD_MEMBERSHIP | IP_DROP_MEMBERSHIP) if stream => Err(Errno::EPROTO),
            (SOL_IP, IP_ADD_MEMBERSHIP) => call.v4_request(value, true),
            (SOL_IP, IP_DROP_MEMBERSHIP) => call.v4_request(value, false),
            (
                SOL_IP,
                IP_ADD_SOURCE_MEMBERSHIP
                | IP_DROP_SOURCE_MEMBERSHIP
                | IP_BLOCK_SOURCE
                | IP_UNBLOCK_SOURCE,
            ) => call.v4_source(name, value),
            (SOL_IP, IP_MSFILTER) => call.ip_msfilter(value),
            (SOL_IPV6, IPV6_ADD_MEMBERSHIP | IPV6_DROP_MEMBERSHIP)
                if socket.family == Family::V6 =>
            {
                call.v6_request(name == IPV6_ADD_MEMBERSHIP, value, stream)
            }
            (SOL_IP | SOL_IPV6, MCAST_JOIN_GROUP..=MCAST_MSFILTER)
                if level == SOL_IP || socket.family == Family::V6 =>
            {
                let v6 = level == SOL_IPV6;
                match name {
                    MCAST_JOIN_GROUP | MCAST_LEAVE_GROUP => {
                        call.group(v6, name == MCAST_JOIN_GROUP, value)
                    }
                    MCAST_MSFILTER => call.group_filter(v6, value),
                    _ => call.group_source(v6, name, value),
                }
            }
            _ => return None,
        };
        if done.is_ok() {
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.groups = groups;
            }
            self.tell_memberships(now, id);
        }
        Some(done)
    }

    /// getsockopt(2) of IP_MSFILTER and MCAST_MSFILTER, which read what they write over; `None`: another option.
    #[must_use]
    pub fn get_filter(
        &self,
        id: SocketId,
        level: i32,
        name: i32,
        asked: &[u8],
    ) -> Option<Result<Vec<u8>, Errno>> {
        let socket = self.sockets.get(&id)?;
        match (level, name, socket.family) {
            (SOL_IP, IP_MSFILTER, _) => Some(self.get_ip_msfilter(socket, asked)),
            (SOL_IP, MCAST_MSFILTER, _) => Some(get_group_filter(socket, false, asked)),
            (SOL_IPV6, MCAST_MSFILTER, Family::V6) => Some(get_group_filter(socket, true, asked)),
            _ => None,
        }
    }

    /// The most bytes that [`Self::set_option`] and [`Self::get_filter`] look at.
    #[must_use]
    pub const fn longest_option(level: i32, name: i32) -> usize {
        const PLAIN: usize = 512;
        match (level, name) {
            (SOL_IP, IP_MSFILTER | MCAST_MSFILTER) | (SOL_IPV6, MCAST_MSFILTER) => LONGEST,
            _ => PLAIN,
        }
    }

    fn get_ip_msfilter(&self, socket: &Socket, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        let fixed = asked.get(..IP_MSFILTER_FIXED).ok_or(Errno::EINVAL)?;
        let (group, room) = (v4_at(fixed, 0)?, u32_at(fixed, 12)?);
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        let link = self.link_v4(Where::Address(address_at(fixed, 4)?));
        let link = link.ok_or(Errno::ENODEV)?;
        let joined = socket.groups.joined.iter();
        let held = joined
            .clone()
            .find(|held| held.group == group && held.link == link)
            .ok_or(Errno::EADDRNOTAVAIL)?;
        let mut out = fixed[..8].to_vec();
        out.extend_from_slice(&mode_of(&held.filter).to_ne_bytes());
        out.extend_from_slice(&count_of(&held.filter).to_ne_bytes());
        for source in shown(&held.filter, room) {
            if let IpAddr::V4(source) = source {
                out.extend_from_slice(&source.octets());
            }
        }
        Ok(out)
    }

    /// The interface an IPv4 call means (`ip_mc_find_dev`).
    fn link_v4(&self, place: Where) -> Option<Link> {
        match place {
            Where::Index(0) => {
                Some(Link::Overlay).filter(|_| self.stack.own_address(false).is_some())
            }
            Where::Index(index) => Link::of_index(u32::try_from(index).ok()?),
            Where::Address(ip) if ip.is_unspecified() => self.link_v4(Where::Index(0)),
            Where::Address(ip) if ip.is_loopback() => Some(Link::Loopback),
            Where::Address(ip) => Some(Link::Overlay).filter(|_| self.stack.is_local(ip.into())),
        }
    }

    fn link_v6(&self, index: i32) -> Option<Link> {
        match index {
            0 => Some(Link::Overlay).filter(|_| self.stack.own_address(true).is_some()),
            _ => Link::of_index(u32::try_from(index).ok()?),
        }
    }

    /// The engine learns what a socket has joined and what it takes.
    pub(super) fn tell_memberships(&mut self, now: Instant, id: SocketId) {
        if let Some(socket) = self.sockets.get(&id) {
            let memberships = socket.groups.joined.iter().map(|held| Membership {
                group: held.group,
                link: held.link,
                filter: held.filter.clone(),
            });
            self.stack.set_memberships(now, id.0, memberships.collect());
        }
    }

    /// The engine learns which datagrams for many a socket takes.
    pub(super) fn tell_reception(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(&id) else {
            return;
        };
        let Body::Datagram(datagram) = &socket.body else {
            return;
        };
        if let Some(endpoint) = datagram.endpoint {
            let all = |level, name| {
                let value = socket.options.get(level, name);
                value.ok().and_then(|value| value.as_int()) == Some(1)
            };
            let reception = Reception {
                owner: id.0,
                all: [
                    all(SOL_IP, IP_MULTICAST_ALL),
                    all(SOL_IPV6, IPV6_MULTICAST_ALL),
                ],
                link: socket.options.link(),
            };
            self.stack.datagram_reception(endpoint, reception);
        }
    }
}

/// One call on one socket.
struct Call<'a> {
    sockets: &'a Sockets,
    socket: &'a Socket,
    /// As they will be.
    groups: &'a mut Groups,
}

impl Call<'_> {
    /// IP_MULTICAST_IF: struct in_addr, ip_mreq or ip_mreqn.
    fn interface(self, value: &[u8]) -> Result<(), Errno> {
        if self.socket.kind() == Kind::Stream {
            return Err(Errno::EINVAL);
        }
        let (address, index) = match value.len() {
            12.. => (address_at(value, 4)?, i32_at(value, 8)?),
            8.. => (address_at(value, 4)?, 0),
            4.. => (address_at(value, 0)?, 0),
            _ => return Err(Errno::EINVAL),
        };
        if index == 0 && address.is_unspecified() {
            (self.groups.v4_link, self.groups.v4_address) = (None, None);
            return Ok(());
        }
        let place = match index {
            0 => Where::Address(address),
            index => Where::Index(index),
        };
        let link = self.sockets.link_v4(place).ok_or(Errno::EADDRNOTAVAIL)?;
        if self
            .socket
            .options
            .link()
            .is_some_and(|bound| bound != link)
        {
            return Err(Errno::EINVAL);
        }
        self.groups.v4_link = Some(link);
        self.groups.v4_address = Some(address).filter(|address| !address.is_unspecified());
        Ok(())
    }

    /// struct ip_mreq or ip_mreqn.
    fn v4_request(mut self, value: &[u8], join: bool) -> Result<(), Errno> {
        let group = v4_at(value, 0)?;
        let address = address_at(value, 4)?;
        let place = match i32_at(value, 8) {
            Ok(index) if index != 0 => Where::Index(index),
            Ok(_) | Err(_) => Where::Address(address),
        };
        if join {
            self.join_v4(group, place, SourceFilter::any())
        } else {
            self.leave_v4(group, place)
        }
    }

    /// struct ip_mreq_source.
    fn v4_source(mut self, name: i32, value: &[u8]) -> Result<(), Errno> {
        if value.len() < 12 {
            return Err(Errno::EINVAL);
        }
        let (group, source) = (v4_at(value, 0)?, v4_at(value, 8)?);
        let address = address_at(value, 4)?;
        let action = match name {
            IP_ADD_SOURCE_MEMBERSHIP => Action::Join,
            IP_DROP_SOURCE_MEMBERSHIP => Action::Leave,
            IP_BLOCK_SOURCE => Action::Block,
            _ => Action::Unblock,
        };
        self.source_v4(action, group, Where::Address(address), source)
    }

    /// struct ipv6_mreq.
    fn v6_request(mut self, join: bool, value: &[u8], stream: bool) -> Result<(), Errno> {
        let (group, index) = (v6_at(value, 0)?, i32_at(value, 16)?);
        if stream {
            return Err(Errno::EPROTO);
        }
        if join {
            self.join_v6(group, index, SourceFilter::any())
        } else {
            self.leave_v6(group, index)
        }
    }

    /// struct group_req.
    fn group(mut self, v6: bool, join: bool, value: &[u8]) -> Result<(), Errno> {
        if value.len() < GROUP_REQ {
            return Err(Errno::EINVAL);
        }
        let index = i32_at(value, 0)?;
        let group = stored(value, 8);
        match (v6, group, join) {
            (false, Some(group @ IpAddr::V4(_)), true) => {
                self.join_v4(group, Where::Index(index), SourceFilter::any())
            }
            (false, Some(group @ IpAddr::V4(_)), false) => {
                self.leave_v4(group, Where::Index(index))
            }
            (true, Some(group @ IpAddr::V6(_)), true) => {
                self.join_v6(group, index, SourceFilter::any())
            }
            (true, Some(group @ IpAddr::V6(_)), false) => self.leave_v6(group, index),
            (false, _, _) => Err(Errno::EINVAL),
            (true, _, _) => Err(Errno::EADDRNOTAVAIL),
        }
    }

    /// struct group_source_req.
    fn group_source(mut self, v6: bool, name: i32, value: &[u8]) -> Result<(), Errno> {
        if value.len() < GROUP_SOURCE_REQ {
            return Err(Errno::EINVAL);
        }
        let index = i32_at(value, 0)?;
        let (group, source) = (stored(value, 8), stored(value, GROUP_REQ));
        let action = match name {
            MCAST_JOIN_SOURCE_GROUP => Action::Join,
            MCAST_LEAVE_SOURCE_GROUP => Action::Leave,
            MCAST_BLOCK_SOURCE => Action::Block,
            _ => Action::Unblock,
        };
        match (v6, group, source) {
            (false, Some(group @ IpAddr::V4(_)), Some(source @ IpAddr::V4(_))) => {
                self.source_v4(action, group, Where::Index(index), source)
            }
            (true, Some(group @ IpAddr::V6(_)), Some(source @ IpAddr::V6(_))) => {
                self.source_v6(action, group, index, source)
            }
            _ => Err(Errno::EADDRNOTAVAIL),
        }
    }

    fn ip_msfilter(mut self, value: &[u8]) -> Result<(), Errno> {
        let fixed = value.get(..IP_MSFILTER_FIXED).ok_or(Errno::EINVAL)?;
        let (mode, count) = (u32_at(fixed, 8)?, u32_at(fixed, 12)?);
        let sources = counted(count, V4_SOURCES_MAX, value, IP_MSFILTER_FIXED, 4)?;
        let address = address_at(fixed, 4)?;
        let sources = sources
            .map(|bytes| v4_at(bytes, 0))
            .collect::<Result<_, _>>()?;
        self.filter_v4(v4_at(fixed, 0)?, Where::Address(address), mode, sources)
    }

    /// struct group_filter.
    fn group_filter(mut self, v6: bool, value: &[u8]) -> Result<(), Errno> {
        let fixed = value.get(..GROUP_FILTER_FIXED).ok_or(Errno::EINVAL)?;
        let (index, mode, count) = (
            i32_at(fixed, 0)?,
            u32_at(fixed, GROUP_REQ)?,
            u32_at(fixed, GROUP_REQ + 4)?,
        );
        let most = if v6 { V6_SOURCES_MAX } else { V4_SOURCES_MAX };
        let sources = counted(count, most, value, GROUP_FILTER_FIXED, STORAGE)?;
        let sources: Option<Vec<_>> = sources
            .map(|bytes| stored(bytes, 0).filter(|source| source.is_ipv6() == v6))
            .collect();
        let group = stored(fixed, 8).filter(|group| group.is_ipv6() == v6);
        let (Some(sources), Some(group)) = (sources, group) else {
            return Err(Errno::EADDRNOTAVAIL);
        };
        if v6 {
            self.filter_v6(group, index, mode, sources)
        } else {
            self.filter_v4(group, Where::Index(index), mode, sources)
        }
    }

    // What the kernel's functions of these names do.

    /// `ip_mc_join_group_ssm`.
    fn join_v4(&mut self, group: IpAddr, place: Where, filter: SourceFilter) -> Result<(), Errno> {
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        let link = self.sockets.link_v4(place).ok_or(Errno::ENODEV)?;
        let joined = &self.groups.joined;
        if joined
            .iter()
            .any(|held| held.group == group && held.link == link)
        {
            return Err(Errno::EADDRINUSE);
        }
        if joined.iter().filter(|held| held.group.is_ipv4()).count() >= V4_GROUPS_MAX {
            return Err(Errno::ENOBUFS);
        }
        self.groups.add(group, link, filter);
        Ok(())
    }

    /// `ip_mc_leave_group`.
    fn leave_v4(&mut self, group: IpAddr, place: Where) -> Result<(), Errno> {
        let any = match place {
            Where::Index(index) => index == 0,
            Where::Address(address) => address.is_unspecified(),
        };
        let Some(link) = self.sockets.link_v4(place) else {
            return Err(if any {
                Errno::ENODEV
            } else {
                Errno::EADDRNOTAVAIL
            });
        };
        self.groups
            .remove(|held| held.group == group && held.link == link)
    }

    /// `ip_mc_source`, with the join before it.
    fn source_v4(
        &mut self,
        action: Action,
        group: IpAddr,
        place: Where,
        source: IpAddr,
    ) -> Result<(), Errno> {
        if action == Action::Join {
            match self.join_v4(group, place, SourceFilter::include(Vec::new())) {
                Ok(()) | Err(Errno::EADDRINUSE) => {}
                Err(errno) => return Err(errno),
            }
        }
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        let link = self.sockets.link_v4(place).ok_or(Errno::ENODEV)?;
        self.groups
            .change_source(action, source, V4_SOURCES_MAX, |held| {
                held.group == group && held.link == link
            })
    }

    /// `ip_mc_msfilter`.
    fn filter_v4(
        &mut self,
        group: IpAddr,
        place: Where,
        mode: u32,
        sources: Vec<IpAddr>,
    ) -> Result<(), Errno> {
        let filter = filter_of(group, mode, sources)?;
        let link = self.sockets.link_v4(place).ok_or(Errno::ENODEV)?;
        if filter == SourceFilter::include(Vec::new()) {
            return self.leave_v4(group, place);
        }
        self.groups
            .replace(filter, |held| held.group == group && held.link == link)
    }

    /// `__ipv6_sock_mc_join`.
    fn join_v6(&mut self, group: IpAddr, index: i32, filter: SourceFilter) -> Result<(), Errno> {
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        let joined = &self.groups.joined;
        if joined.iter().any(|held| held.is_v6(group, index)) {
            return Err(Errno::EADDRINUSE);
        }
        let link = self.sockets.link_v6(index).ok_or(Errno::ENODEV)?;
        if joined.iter().filter(|held| held.group.is_ipv6()).count() >= V6_GROUPS_MAX {
            return Err(Errno::ENOMEM);
        }
        self.groups.add(group, link, filter);
        Ok(())
    }

    /// `__ipv6_sock_mc_drop`.
    fn leave_v6(&mut self, group: IpAddr, index: i32) -> Result<(), Errno> {
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        self.groups.remove(|held| held.is_v6(group, index))
    }

    /// `ip6_mc_source`, with the join before it.
    fn source_v6(
        &mut self,
        action: Action,
        group: IpAddr,
        index: i32,
        source: IpAddr,
    ) -> Result<(), Errno> {
        if action == Action::Join {
            match self.join_v6(group, index, SourceFilter::include(Vec::new())) {
                Ok(()) | Err(Errno::EADDRINUSE) => {}
                Err(errno) => return Err(errno),
            }
        }
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        self.sockets.link_v6(index).ok_or(Errno::ENODEV)?;
        self.groups
            .change_source(action, source, V6_SOURCES_MAX, |held| {
                held.is_v6(group, index)
            })
    }

    /// `ip6_mc_msfilter`: the interface must be named.
    fn filter_v6(
        &mut self,
        group: IpAddr,
        index: i32,
        mode: u32,
        sources: Vec<IpAddr>,
    ) -> Result<(), Errno> {
        let filter = filter_of(group, mode, sources)?;
        self.sockets.link_v6(index).ok_or(Errno::ENODEV)?;
        if filter == SourceFilter::include(Vec::new()) {
            return self.leave_v6(group, index);
        }
        self.groups
            .replace(filter, |held| index != 0 && held.is_v6(group, index))
    }
}

/// What is done about one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Join,
    Leave,
    Block,
    Unblock,
}

impl Joined {
    fn is_v6(&self, group: IpAddr, index: i32) -> bool {
        self.group == group && (index == 0 || i64::from(self.link.index()) == i64::from(index))
    }
}

impl Groups {
    fn add(&mut self, group: IpAddr, link: Link, filter: SourceFilter) {
        let listed = false;
        let new = Joined {
            group,
            link,
            filter,
            listed,
        };
        self.joined.insert(0, new);
    }

    fn remove(&mut self, which: impl Fn(&Joined) -> bool) -> Result<(), Errno> {
        let at = self.joined.iter().position(which);
        self.joined.remove(at.ok_or(Errno::EADDRNOTAVAIL)?);
        Ok(())
    }

    fn replace(
        &mut self,
        filter: SourceFilter,
        which: impl Fn(&Joined) -> bool,
    ) -> Result<(), Errno> {
        let held = self.joined.iter_mut().find(|held| which(held));
        let held = held.ok_or(Errno::EINVAL)?;
        held.listed = !filter.sources.is_empty();
        held.filter = filter;
        Ok(())
    }

    fn change_source(
        &mut self,
        action: Action,
        source: IpAddr,
        most: usize,
        which: impl Fn(&Joined) -> bool,
    ) -> Result<(), Errno> {
        let at = self.joined.iter().position(which).ok_or(Errno::EINVAL)?;
        let held = &mut self.joined[at];
        let (exclude, add) = match action {
            Action::Join => (false, true),
            Action::Leave => (false, false),
            Action::Block => (true, true),
            Action::Unblock => (true, false),
        };
        if held.filter.exclude != exclude {
            if held.listed {
                return Err(Errno::EINVAL);
            }
            held.filter.exclude = exclude;
        }
        let sources = &mut held.filter.sources;
        let known = sources.iter().position(|other| *other == source);
        if add {
            if sources.len() >= most {
                return Err(Errno::ENOBUFS);
            }
            if known.is_some() {
                return Err(Errno::EADDRNOTAVAIL);
            }
            sources.push(source);
            held.listed = true;
            return Ok(());
        }
        let known = known.ok_or(Errno::EADDRNOTAVAIL)?;
        if !exclude && sources.len() == 1 {
            // To want none is to leave.
            self.joined.remove(at);
        } else {
            sources.remove(known);
        }
        Ok(())
    }

    /// Whether there is anything to forget.
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }
}

impl SourceFilter {
    const fn include(sources: Vec<IpAddr>) -> Self {
        Self {
            exclude: false,
            sources,
        }
    }
}

fn filter_of(group: IpAddr, mode: u32, sources: Vec<IpAddr>) -> Result<SourceFilter, Errno> {
    if !group.is_multicast() || !matches!(mode, MCAST_INCLUDE | MCAST_EXCLUDE) {
        return Err(Errno::EINVAL);
    }
    Ok(SourceFilter {
        exclude: mode == MCAST_EXCLUDE,
        sources,
    })
}

fn get_group_filter(socket: &Socket, v6: bool, asked: &[u8]) -> Result<Vec<u8>, Errno> {
    let fixed = asked.get(..GROUP_FILTER_FIXED).ok_or(Errno::EINVAL)?;
    let (index, room) = (u32_at(fixed, 0)?, u32_at(fixed, GROUP_REQ + 4)?);
    let group = stored(fixed, 8).filter(|group| group.is_ipv6() == v6);
    let group = group.ok_or(Errno::EADDRNOTAVAIL)?;
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let mut joined = socket.groups.joined.iter();
    let held = joined
        .find(|held| held.group == group && held.link.index() == index)
        .ok_or(Errno::EADDRNOTAVAIL)?;
    let mut out = fixed[..GROUP_REQ].to_vec();
    out.extend_from_slice(&mode_of(&held.filter).to_ne_bytes());
    out.extend_from_slice(&count_of(&held.filter).to_ne_bytes());
    for source in shown(&held.filter, room) {
        let at = out.len();
        out.resize(at + STORAGE, 0);
        match source {
            IpAddr::V4(source) => {
                out[at] = 2;
                out[at + 4..at + 8].copy_from_slice(&source.octets());
            }
            IpAddr::V6(source) => {
                out[at] = 10;
                out[at + 8..at + 24].copy_from_slice(&source.octets());
            }
        }
    }
    Ok(out)
}

const fn mode_of(filter: &SourceFilter) -> u32 {
    if filter.exclude {
        MCAST_EXCLUDE
    } else {
        MCAST_INCLUDE
    }
}

fn count_of(filter: &SourceFilter) -> u32 {
    u32::try_from(filter.sources.len()).unwrap_or(u32::MAX)
}

/// As many sources as there is room for.
fn shown(filter: &SourceFilter, room: u32) -> impl Iterator<Item = IpAddr> {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    filter.sources.iter().copied().take(room)
}

/// The `count` items of `width` bytes behind the fixed part of a filter.
fn counted(
    count: u32,
    most: usize,
    value: &[u8],
    fixed: usize,
    width: usize,
) -> Result<std::slice::ChunksExact<'_, u8>, Errno> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > most {
        return Err(Errno::ENOBUFS);
    }
    let items = value.get(fixed..fixed + count * width);
    Ok(items.ok_or(Errno::EINVAL)?.chunks_exact(width))
}

/// The address in a struct sockaddr_storage.
fn stored(value: &[u8], at: usize) -> Option<IpAddr> {
    let family = u16::from_ne_bytes([*value.get(at)?, *value.get(at + 1)?]);
    match i32::from(family) {
        AF_INET => v4_at(value, at + 4).ok(),
        AF_INET6 => v6_at(value, at + 8).ok(),
        _ => None,
    }
}

fn array<const N: usize>(value: &[u8], at: usize) -> Result<[u8; N], Errno> {
    let bytes = value.get(at..at + N);
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Errno::EINVAL)
}

fn address_at(value: &[u8], at: usize) -> Result<Ipv4Addr, Errno> {
    Ok(Ipv4Addr::from(array::<4>(value, at)?))
}

fn v4_at(value: &[u8], at: usize) -> Result<IpAddr, Errno> {
    address_at(value, at).map(IpAddr::V4)
}

fn v6_at(value: &[u8], at: usize) -> Result<IpAddr, Errno> {
    Ok(Ipv6Addr::from(array::<16>(value, at)?).into())
}

fn i32_at(value: &[u8], at: usize) -> Result<i32, Errno> {
    Ok(i32::from_ne_bytes(array(value, at)?))
}

fn u32_at(value: &[u8], at: usize) -> Result<u32, Errno> {
    Ok(u32::from_ne_bytes(array(value, at)?))
}
