// SPDX-License-Identifier: Apache-2.0 OR MIT
//! bind, getsockname, getpeername, getsockopt, setsockopt: the model's answers, carried to the program's memory.

use super::address::{self, Address};
use super::{OnSocket, Verdict, datagram, errno, int, ioctl};
use crate::clock;
use crate::network::{Role, State};
use crate::sys::unix;
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{BindError, Kind, OptionValue, SocketId, Sockets};
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
    // Most levels look at the length first; IPv6's takes it as unsigned.
    let early = if level == libc::IPPROTO_IPV6 {
        name == IPV6_PATHMTU && (0..MTU_INFO).contains(&room)
    } else {
        room < 0
    };
    if early
        && on
            .entry
            .network
            .lock()
            .sockets
            .has_level(on.entry.socket, level)
    {
        return Err(Errno::EINVAL);
    }
    if is_native(level, name) {
        let value = unix::option(on.duplicate()?.as_fd(), name).map_err(errno)?;
        let part = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        let bytes = &value[..part.min(value.len())];
        on.call.write(args[3], bytes)?;
        let reported = u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
        return on.call.write(args[4], &reported.to_ne_bytes());
    }
    if let Some(answer) = filter(on, (level, name), args[3], room)? {
        on.call.write(args[3], &answer)?;
        let reported = u32::try_from(answer.len()).map_err(|_| Errno::EINVAL)?;
        return on.call.write(args[4], &reported.to_ne_bytes());
    }
    let is_error = level == libc::SOL_SOCKET && name == libc::SO_ERROR;
    if is_error {
        datagram::recall_on(on)?;
    }
    let (mut value, shown) = {
        let mut state = on.entry.network.lock();
        let mut value = state
            .sockets
            .get_option(clock::now(), on.entry.socket, level, name)?;
        if (level, name) == (libc::IPPROTO_TCP, libc::TCP_INFO) {
            complete_info(&state, on.entry.socket, &mut value);
        }
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
    on.call.write(args[4], &reported.to_ne_bytes())?;
    if (level, name) == (libc::IPPROTO_TCP, TCP_SAVED_SYN) {
        let mut state = on.entry.network.lock();
        state.sockets.forget_saved_syn(on.entry.socket);
    }
    Ok(())
}

/// linux/in.h
const IP_IPSEC_POLICY: i32 = 16;
const IP_XFRM_POLICY: i32 = 17;
/// linux/tcp.h
const TCP_FASTOPEN_KEY: i32 = 33;
/// linux/in6.h, and the size of struct ip6_mtuinfo, which is not cut.
const IPV6_PATHMTU: i32 = 61;
const MTU_INFO: i32 = 32;
/// linux/in6.h
const IPV6_2292PKTOPTIONS: i32 = 6;
/// linux/tcp.h
const TCP_SAVED_SYN: i32 = 28;

/// What only the supervisor knows of TCP_INFO: a listener's queue (tcpi_unacked), and what a program has written that the engine
/// does not have yet (tcpi_notsent_bytes).
fn complete_info(state: &State, socket: SocketId, info: &mut OptionValue) {
    const UNACKED: usize = 24;
    const NOT_SENT: usize = 144;
    match state.carriers.get(&socket).map(|carrier| &carrier.role) {
        Some(Role::Listening(listening)) => {
            let waiting = listening.queued + listening.overflow.len();
            info.add_u32(UNACKED, u32::try_from(waiting).unwrap_or(u32::MAX));
        }
        Some(Role::Linked(flow)) => {
            let unread = ioctl::in_pair(state, *flow);
            info.add_u32(NOT_SENT, u32::try_from(unread).unwrap_or(u32::MAX));
        }
        Some(Role::Idle | Role::Connecting(_) | Role::Datagram(_)) | None => {}
    }
}

/// The filter of sources of a group: an option that is read before it is written.
fn filter(
    on: &OnSocket<'_>,
    (level, name): (i32, i32),
    at: u64,
    room: i32,
) -> Result<Option<Vec<u8>>, Errno> {
    let longest = Sockets::longest_option(level, name);
    if longest <= LONGEST_OPTION {
        return Ok(None);
    }
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let mut asked = vec![0; room.min(longest)];
    on.call.read(at, &mut asked)?;
    let state = on.entry.network.lock();
    let answer = state
        .sockets
        .get_filter(on.entry.socket, level, name, &asked);
    answer.transpose()
}

/// setsockopt(2).
pub(super) fn set_option(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    Verdict::from(try_set_option(on, args).map(|()| 0))
}

/// linux/socket.h
const SO_SELECT_ERR_QUEUE: i32 = 45;
/// Longest option but filters of sources; Linux ignores what lies behind the part it knows.
const LONGEST_OPTION: usize = 512;

fn try_set_option(on: &OnSocket<'_>, args: &[u64; 6]) -> Result<(), Errno> {
    let length = usize::try_from(int(args[4])).map_err(|_| Errno::EINVAL)?;
    let (mut short, mut long) = ([0_u8; LONGEST_OPTION], Vec::new());
    let used = length.min(Sockets::longest_option(int(args[1]), int(args[2])));
    let bytes = if used <= LONGEST_OPTION {
        &mut short[..]
    } else {
        long.resize(used, 0);
        &mut long[..]
    };
    if let Err(errno) = on.call.read(args[3], &mut bytes[..used]) {
        return set_unreadable(on, args, &bytes[..used], errno);
    }
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
    // A timer may have been set, and a group joined.
    if buffer
        || matches!(int(args[1]), libc::IPPROTO_IP | libc::IPPROTO_IPV6)
        || (int(args[1]), int(args[2])) == (libc::SOL_SOCKET, libc::SO_KEEPALIVE)
        || int(args[1]) == libc::SOL_UDP
        || int(args[1]) == libc::IPPROTO_TCP && int(args[2]) != libc::TCP_NODELAY
    {
        on.node.data.wake();
    }
    done
}

/// setsockopt(2) with a value that cannot be read: levels differ in when they notice.
fn set_unreadable(
    on: &OnSocket<'_>,
    args: &[u64; 6],
    zeros: &[u8],
    errno: Errno,
) -> Result<(), Errno> {
    let (level, name) = (int(args[1]), int(args[2]));
    let mut state = on.entry.network.lock();
    // ipv6(7): no value at all is 0.
    if level == libc::IPPROTO_IPV6
        && args[3] == 0
        && name != IPV6_2292PKTOPTIONS
        && state.sockets.has_level(on.entry.socket, level)
    {
        let now = clock::now();
        return state
            .sockets
            .set_option(now, on.entry.socket, level, name, zeros);
    }
    let first = matches!(
        level,
        libc::SOL_SOCKET | libc::IPPROTO_TCP | libc::IPPROTO_UDP
    ) && state.sockets.has_level(on.entry.socket, level);
    if !first && !state.sockets.may_be_set(on.entry.socket, level, name) {
        return Err(Errno::ENOPROTOOPT);
    }
    match (level, name) {
        // A right, or the length, is looked at before.
        (libc::IPPROTO_IP, IP_IPSEC_POLICY | IP_XFRM_POLICY) => Err(Errno::EPERM),
        (libc::IPPROTO_TCP, TCP_FASTOPEN_KEY) if !matches!(zeros.len(), 16 | 32) => {
            Err(Errno::EINVAL)
        }
        _ => Err(errno),
    }
}

/// Options that count where the program itself reads: on its own end.
pub(super) fn apply_native(a: BorrowedFd<'_>, state: &mut State, socket: SocketId) {
    for name in [libc::SO_OOBINLINE, libc::SO_RCVLOWAT] {
        if let Ok(value) = state
            .sockets
            .get_option(clock::now(), socket, libc::SOL_SOCKET, name)
        {
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
