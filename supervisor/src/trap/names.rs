// SPDX-License-Identifier: Apache-2.0 OR MIT
//! bind, getsockname, getpeername, getsockopt, setsockopt: the model's answers, carried to the program's memory.

use super::address::{self, Address};
use super::{OnSocket, Verdict, datagram, errno, int};
use crate::clock;
use crate::network::State;
use crate::sys::unix;
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{BindError, Kind, OptionValue, SocketId};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// bind(2).
pub(super) fn bind(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    Verdict::from(try_bind(on, args).map(|()| 0))
}

/// Closes those holders of a port that no program holds any more. True if there was one.
pub(super) fn release_dead(on: &OnSocket<'_>, holders: &[SocketId]) -> bool {
    let mut any = false;
    for &holder in holders {
        any |= on.node.close_if_gone(&on.entry.network, holder);
    }
    any
}

fn try_bind(on: &OnSocket<'_>, args: &[u64; 6]) -> Result<(), Errno> {
    let long = address::is_v6_long(args[2]);
    let wanted = match address::read(on.call, args[1], args[2])? {
        Address::Internet(address) => address,
        // Linux takes AF_UNSPEC with INADDR_ANY as AF_INET (ip(7), compatibility).
        Address::Unspecified(Some(v4)) if v4.ip().is_unspecified() => {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), v4.port())
        }
        Address::Short => return Err(Errno::EINVAL),
        Address::Unspecified(_) | Address::Foreign => return Err(Errno::EAFNOSUPPORT),
    };
    let socket = on.entry.socket;
    address::check_family(on, wanted, long)?;
    let first = on.entry.network.lock().sockets.bind(socket, wanted);
    match first {
        Ok(()) => {}
        Err(BindError::InUse { holders }) if release_dead(on, &holders) => {
            match on.entry.network.lock().sockets.bind(socket, wanted) {
                Ok(()) => {}
                Err(BindError::InUse { .. }) => return Err(Errno::EADDRINUSE),
                Err(BindError::Errno(errno)) => return Err(errno),
            }
        }
        Err(BindError::InUse { .. }) => return Err(Errno::EADDRINUSE),
        Err(BindError::Errno(errno)) => return Err(errno),
    }
    let kind = on.entry.network.lock().sockets.kind(socket);
    if kind == Some(Kind::Datagram) {
        datagram::open_end(on)?;
    }
    Ok(())
}

/// getsockname(2).
pub(super) fn local(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    let address = on
        .entry
        .network
        .lock()
        .sockets
        .local_address(on.entry.socket);
    Verdict::from(
        address
            .and_then(|address| address::write(on.call, args[1], args[2], Some(address)))
            .map(|()| 0),
    )
}

/// getpeername(2).
pub(super) fn peer(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    let address = on
        .entry
        .network
        .lock()
        .sockets
        .peer_address(on.entry.socket);
    Verdict::from(
        address
            .and_then(|address| address::write(on.call, args[1], args[2], Some(address)))
            .map(|()| 0),
    )
}

/// getsockopt(2): the value is cut to the room there is, except where the model says otherwise.
pub(super) fn get_option(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    Verdict::from(try_get_option(on, args).map(|()| 0))
}

fn try_get_option(on: &OnSocket<'_>, args: &[u64; 6]) -> Result<(), Errno> {
    let (level, name) = (int(args[1]), int(args[2]));
    let mut room = [0_u8; 4];
    on.call.read(args[4], &mut room)?;
    let room = i32::from_ne_bytes(room);
    if is_native(level, name) {
        let value = unix::option(on.duplicate()?.as_fd(), name).map_err(errno)?;
        let part = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        let bytes = &value[..part.min(value.len())];
        on.call.write(args[3], bytes)?;
        let reported = u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
        return on.call.write(args[4], &reported.to_ne_bytes());
    }
    let is_error = level == libc::SOL_SOCKET && name == libc::SO_ERROR;
    if is_error {
        datagram::recall_on(on)?;
    }
    let (mut value, shown) = {
        let mut state = on.entry.network.lock();
        let value = state.sockets.get_option(on.entry.socket, level, name)?;
        let shown = state
            .carriers
            .get(&on.entry.socket)
            .is_some_and(|carrier| carrier.reset_shown);
        (value, shown)
    };
    if is_error && value.as_bytes().iter().any(|&b| b != 0) {
        // The stand-in carries an error of its own; both are consumed together.
        if let Ok(a) = on.duplicate()
            && !unix::has_error(a.as_fd())
            && shown
        {
            // A read has taken it.
            value = OptionValue::int(0);
        }
    }
    if is_error {
        datagram::show_again(on);
    }
    let bytes = value.fit(level, name, room)?;
    on.call.write(args[3], bytes)?;
    let reported = u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
    on.call.write(args[4], &reported.to_ne_bytes())
}

/// setsockopt(2).
pub(super) fn set_option(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    Verdict::from(try_set_option(on, args).map(|()| 0))
}

/// linux/socket.h
const SO_SELECT_ERR_QUEUE: i32 = 45;
/// No option of ours is longer; Linux ignores what lies behind the part it knows.
const LONGEST_OPTION: usize = 512;

fn try_set_option(on: &OnSocket<'_>, args: &[u64; 6]) -> Result<(), Errno> {
    let length = usize::try_from(int(args[4])).map_err(|_| Errno::EINVAL)?;
    let mut bytes = [0_u8; LONGEST_OPTION];
    let used = length.min(LONGEST_OPTION);
    on.call.read(args[3], &mut bytes[..used])?;
    if is_native(int(args[1]), int(args[2])) {
        let a = on.duplicate()?;
        return unix::set_option(a.as_fd(), int(args[2]), &bytes[..used]).map_err(errno);
    }
    let mut state = on.entry.network.lock();
    let done = state.sockets.set_option(
        clock::now(),
        on.entry.socket,
        int(args[1]),
        int(args[2]),
        &bytes[..used],
    );
    let buffer = matches!(
        (int(args[1]), int(args[2])),
        (libc::SOL_SOCKET, libc::SO_SNDBUF | libc::SO_RCVBUF)
    );
    let ours = done.is_ok() && buffer && state.apply_buffers(on.entry.socket);
    drop(state);
    if ours && let Ok(a) = on.duplicate() {
        let (send, _) = on.entry.network.lock().sockets.buffers(on.entry.socket);
        unix::set_send_buffer(a.as_fd(), send);
    }
    let reading = matches!(
        (int(args[1]), int(args[2])),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE | libc::SO_RCVLOWAT)
    );
    if done.is_ok()
        && reading
        && let Ok(a) = on.duplicate()
    {
        let mut state = on.entry.network.lock();
        if state.sockets.kind(on.entry.socket) == Some(Kind::Stream) {
            apply_native(a.as_fd(), &mut state, on.entry.socket);
        }
    }
    if done.is_ok()
        && matches!(
            (int(args[1]), int(args[2])),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        )
    {
        datagram::hear_errors(on)?;
    }
    if done.is_ok() && (int(args[1]), int(args[2])) == (libc::SOL_SOCKET, SO_SELECT_ERR_QUEUE) {
        // What poll(2) says of an error is the stand-in's.
        let a = on.duplicate()?;
        unix::set_option(a.as_fd(), SO_SELECT_ERR_QUEUE, &bytes[..used]).map_err(errno)?;
    }
    // A timer may have been set.
    if buffer
        || (int(args[1]), int(args[2])) == (libc::SOL_SOCKET, libc::SO_KEEPALIVE)
        || int(args[1]) == libc::SOL_UDP
        || int(args[1]) == libc::IPPROTO_TCP && int(args[2]) != libc::TCP_NODELAY
    {
        on.node.data.wake();
    }
    done
}

/// Options that count where the program itself reads: on its own end.
pub(super) fn apply_native(a: BorrowedFd<'_>, state: &mut State, socket: SocketId) {
    for name in [libc::SO_OOBINLINE, libc::SO_RCVLOWAT] {
        if let Ok(value) = state.sockets.get_option(socket, libc::SOL_SOCKET, name) {
            // Only readiness is at stake.
            let _ = unix::set_option(a, name, value.as_bytes());
        }
    }
}

/// Options of level SOL_SOCKET that are the stand-in's alone.
const fn is_native(level: i32, name: i32) -> bool {
    /// linux/socket.h
    const SO_RCVTIMEO_NEW: i32 = 66;
    const SO_SNDTIMEO_NEW: i32 = 67;
    level == libc::SOL_SOCKET
        && matches!(
            name,
            libc::SO_RCVTIMEO
                | libc::SO_SNDTIMEO
                | SO_RCVTIMEO_NEW
                | SO_SNDTIMEO_NEW
                | libc::SO_PEEK_OFF
        )
}
