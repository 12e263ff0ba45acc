// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options of a netlink socket: those of netlink(7), and those of socket(7) that programs use on it.

use super::{AF_NETLINK, NETLINK_ROUTE, Netlink};
use crate::errno::Errno;
use crate::sockets::OptionValue;

const SOL_SOCKET: i32 = 1;
const SOL_NETLINK: i32 = 270;

const SO_TYPE: i32 = 3;
const SO_ERROR: i32 = 4;
const SO_SNDBUF: i32 = 7;
const SO_RCVBUF: i32 = 8;
const SO_PASSCRED: i32 = 16;
const SO_ATTACH_FILTER: i32 = 26;
const SO_DETACH_FILTER: i32 = 27;
const SO_ACCEPTCONN: i32 = 30;
const SO_SNDBUFFORCE: i32 = 32;
const SO_RCVBUFFORCE: i32 = 33;
const SO_PROTOCOL: i32 = 38;
const SO_DOMAIN: i32 = 39;

const ADD_MEMBERSHIP: i32 = 1;
const DROP_MEMBERSHIP: i32 = 2;
const PKTINFO: i32 = 3;
const BROADCAST_ERROR: i32 = 4;
const NO_ENOBUFS: i32 = 5;
const LISTEN_ALL_NSID: i32 = 8;
const LIST_MEMBERSHIPS: i32 = 9;
const CAP_ACK: i32 = 10;
const EXT_ACK: i32 = 11;
const GET_STRICT_CHK: i32 = 12;

/// Groups of rtnetlink a socket can join, numbered from 1.
const GROUPS: i32 = 64;
/// net.core.rmem_max and wmem_max of an untouched Linux, bytes.
const BUFFER_MAX: i32 = 212_992;
/// Smallest buffers: SOCK_MIN_SNDBUF and SOCK_MIN_RCVBUF.
const SEND_MIN: i32 = 4608;
const RECEIVE_MIN: i32 = 2304;

/// What was set.
#[derive(Debug)]
pub(super) struct Options {
    ty: i32,
    send_buffer: i32,
    receive_buffer: i32,
    pass_credentials: bool,
    packet_info: bool,
    broadcast_error: bool,
    pub(super) no_enobufs: bool,
    pub(super) cap_ack: bool,
    extended_ack: bool,
    pub(super) strict: bool,
}

impl Options {
    pub(super) const fn new(ty: i32) -> Self {
        Self {
            ty,
            send_buffer: BUFFER_MAX,
            receive_buffer: BUFFER_MAX,
            pass_credentials: false,
            packet_info: false,
            broadcast_error: false,
            no_enobufs: false,
            cap_ack: false,
            extended_ack: false,
            strict: false,
        }
    }

    /// The switches of netlink(7).
    const fn switch(&mut self, name: i32) -> Option<&mut bool> {
        match name {
            PKTINFO => Some(&mut self.packet_info),
            BROADCAST_ERROR => Some(&mut self.broadcast_error),
            NO_ENOBUFS => Some(&mut self.no_enobufs),
            CAP_ACK => Some(&mut self.cap_ack),
            EXT_ACK => Some(&mut self.extended_ack),
            GET_STRICT_CHK => Some(&mut self.strict),
            _ => None,
        }
    }
}

pub(super) fn get(socket: &mut Netlink, level: i32, name: i32) -> Result<OptionValue, Errno> {
    let options = &mut socket.options;
    let value = match (level, name) {
        (SOL_SOCKET, SO_TYPE) => options.ty,
        (SOL_SOCKET, SO_DOMAIN) => AF_NETLINK,
        (SOL_SOCKET, SO_PROTOCOL) => NETLINK_ROUTE,
        (SOL_SOCKET, SO_SNDBUF) => options.send_buffer,
        (SOL_SOCKET, SO_RCVBUF) => options.receive_buffer,
        (SOL_SOCKET, SO_PASSCRED) => i32::from(options.pass_credentials),
        (SOL_SOCKET, SO_ACCEPTCONN) => 0,
        (SOL_SOCKET, SO_ERROR) => socket.take_error().map_or(0, |errno| errno.0),
        (SOL_NETLINK, LIST_MEMBERSHIPS) => {
            return Ok(OptionValue::bytes(socket.groups.to_ne_bytes().to_vec()));
        }
        (SOL_NETLINK, _) => options
            .switch(name)
            .map(|on| i32::from(*on))
            .ok_or(Errno::ENOPROTOOPT)?,
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(OptionValue::int(value))
}

pub(super) fn set(socket: &mut Netlink, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    if (level, name) == (SOL_SOCKET, SO_ATTACH_FILTER) {
        // What a filter would drop is never sent: groups are quiet, and answers are wanted.
        return Ok(());
    }
    let int = value
        .get(..4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    let options = &mut socket.options;
    match (level, name) {
        (SOL_SOCKET, SO_SNDBUFFORCE | SO_RCVBUFFORCE) => return Err(Errno::EPERM),
        (SOL_SOCKET, SO_TYPE | SO_ERROR | SO_ACCEPTCONN | SO_PROTOCOL | SO_DOMAIN) => {
            return Err(Errno::ENOPROTOOPT);
        }
        (SOL_SOCKET, SO_SNDBUF) => {
            let wanted = int.ok_or(Errno::EINVAL)?.clamp(0, BUFFER_MAX);
            options.send_buffer = (wanted * 2).max(SEND_MIN);
        }
        (SOL_SOCKET, SO_RCVBUF) => {
            let wanted = int.ok_or(Errno::EINVAL)?.clamp(0, BUFFER_MAX);
            options.receive_buffer = (wanted * 2).max(RECEIVE_MIN);
        }
        (SOL_SOCKET, SO_PASSCRED) => options.pass_credentials = int.ok_or(Errno::EINVAL)? != 0,
        (SOL_SOCKET, SO_DETACH_FILTER) => return Err(Errno::ENOENT),
        (SOL_NETLINK, ADD_MEMBERSHIP | DROP_MEMBERSHIP) => {
            let group = int.filter(|group| (1..=GROUPS).contains(group));
            let bit = 1_u64 << (group.ok_or(Errno::EINVAL)? - 1);
            if name == ADD_MEMBERSHIP {
                socket.groups |= bit;
            } else {
                socket.groups &= !bit;
            }
        }
        (SOL_NETLINK, LISTEN_ALL_NSID) => return Err(Errno::EPERM),
        (SOL_NETLINK, _) => {
            *options.switch(name).ok_or(Errno::ENOPROTOOPT)? = int.ok_or(Errno::EINVAL)? != 0;
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}
