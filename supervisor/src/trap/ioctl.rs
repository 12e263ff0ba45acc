// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ioctl(2) of the interface range (netdevice(7)) and SIOCOUTQ: never the host's answer, whatever descriptor it is asked on.

use super::{Call, OnSocket, Verdict};
use crate::container::Container;
use crate::network::{Role, State};
use crate::sys::ioctl as queue;
use netcon_netstack::errno::Errno;
use netcon_netstack::interfaces::{Interface, View};
use netcon_netstack::sockets::{Family, Kind};
use netcon_netstack::stack::FlowId;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

/// IFNAMSIZ.
const NAME: usize = 16;
/// struct ifreq.
const REQUEST: usize = 40;
/// struct ifconf: a length and a pointer.
const LIST: usize = 16;

const SIOCADDRT: u32 = 0x890b;
const SIOCDELRT: u32 = 0x890c;
const SIOCRTMSG: u32 = 0x890d;
const SIOCGIFNAME: u32 = 0x8910;
const SIOCSIFLINK: u32 = 0x8911;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCGIFDSTADDR: u32 = 0x8917;
const SIOCGIFBRDADDR: u32 = 0x8919;
const SIOCGIFNETMASK: u32 = 0x891b;
const SIOCGIFMETRIC: u32 = 0x891d;
const SIOCGIFMTU: u32 = 0x8921;
const SIOCGIFHWADDR: u32 = 0x8927;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCGIFTXQLEN: u32 = 0x8942;
const SIOCETHTOOL: u32 = 0x8946;
const SIOCGMIIPHY: u32 = 0x8947;
const SIOCGMIIREG: u32 = 0x8948;
const SIOCGARP: u32 = 0x8954;
const SIOCGIFMAP: u32 = 0x8970;
/// What changes something: CAP_NET_ADMIN.
const CHANGES: &[u32] = &[
    SIOCADDRT, SIOCDELRT, 0x8914, 0x8916, 0x8918, 0x891a, 0x891c, 0x891e, 0x8922, 0x8923, 0x8924,
    0x8926, 0x8930, 0x8931, 0x8932, 0x8934, 0x8936, 0x8937, 0x8943, 0x8949, 0x8953, 0x8955, 0x8971,
    0x89a0, 0x89a1, 0x89a2, 0x89a3, 0x89b0,
];

/// On something that is no socket: SIOCOUTQ is a terminal's TIOCOUTQ, the rest means nothing there.
pub(super) fn on_file(args: &[u64; 6]) -> Verdict {
    if request(args) == libc::TIOCOUTQ {
        Verdict::Proceed
    } else {
        Verdict::Fail(Errno::ENOTTY)
    }
}

/// On a socket that stands for no Internet socket, or of family `family`.
pub(super) fn on_socket(
    container: &Container,
    call: &Call,
    family: Option<Family>,
    args: &[u64; 6],
) -> Verdict {
    let Ok(number) = u32::try_from(request(args)) else {
        return Verdict::Fail(Errno::ENOTTY);
    };
    if request(args) == libc::TIOCOUTQ {
        return Verdict::Proceed;
    }
    let view = if container.has_left(call.tid) {
        View::Nothing
    } else {
        container.network.view()
    };
    let answered = match number {
        SIOCGIFCONF => list(call, &view, args[2]),
        _ => one(call, &view, number, family == Some(Family::V4), args[2]),
    };
    Verdict::from(answered.map(|()| 0))
}

/// Bytes that were written and not sent yet (linux/sockios.h).
const SIOCOUTQNSD: libc::Ioctl = 0x894b;

/// On a stand-in for an Internet socket.
pub(super) fn on_internet(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    let unsent = request(args) == SIOCOUTQNSD;
    if request(args) != libc::TIOCOUTQ && !unsent {
        let family = on.entry.network.lock().sockets.family(on.entry.socket);
        return on_socket(on.container, on.call, family, args);
    }
    let waiting = {
        let state = on.entry.network.lock();
        match state
            .carriers
            .get(&on.entry.socket)
            .map(|carrier| &carrier.role)
        {
            Some(Role::Linked(flow)) => {
                let stack = state.sockets.stack();
                let ring = if unsent {
                    stack.unsent(*flow)
                } else {
                    stack.send_queue(*flow)
                };
                ring + in_pair(&state, *flow)
            }
            // tcp(7): a listener has no queue.
            Some(Role::Listening(_)) => return Verdict::Fail(Errno::EINVAL),
            _ if unsent && state.sockets.kind(on.entry.socket) == Some(Kind::Datagram) => {
                return Verdict::Fail(Errno::ENOTTY);
            }
            Some(Role::Idle | Role::Connecting(_) | Role::Datagram(_)) | None => 0,
        }
    };
    let reported = i32::try_from(waiting).unwrap_or(i32::MAX);
    Verdict::from(on.call.write(args[2], &reported.to_ne_bytes()).map(|()| 0))
}

/// Bytes that the program has written and the engine has not taken yet.
pub(super) fn in_pair(state: &State, flow: FlowId) -> usize {
    state
        .links
        .get(&flow)
        .and_then(|link| {
            let unread = queue::input_queue(link.s.as_fd()).ok()?;
            let ours = link.plug + usize::from(link.marked);
            Some(unread.saturating_sub(ours) + link.stash.len())
        })
        .unwrap_or(0)
}

/// SIOCGIFCONF: the interfaces that have an IPv4 address; without a buffer, the length they need.
fn list(call: &Call, view: &View, at: u64) -> Result<(), Errno> {
    let mut conf = [0_u8; LIST];
    call.read(at, &mut conf)?;
    let room = i32::from_ne_bytes([conf[0], conf[1], conf[2], conf[3]]);
    let mut pointer = [0_u8; 8];
    pointer.copy_from_slice(&conf[8..]);
    let pointer = u64::from_ne_bytes(pointer);
    let mut entries = Vec::new();
    for interface in view.interfaces() {
        if let Some((ip, _)) = interface.v4() {
            let mut entry = named(&interface);
            entry[NAME..NAME + 16].copy_from_slice(&address(ip));
            entries.extend_from_slice(&entry);
        }
    }
    if pointer != 0 {
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        entries.truncate(room / REQUEST * REQUEST);
        call.write(pointer, &entries)?;
    }
    let length = i32::try_from(entries.len()).map_err(|_| Errno::EINVAL)?;
    call.write(at, &length.to_ne_bytes())
}

/// Everything with a struct ifreq.
fn one(call: &Call, view: &View, number: u32, v4: bool, at: u64) -> Result<(), Errno> {
    if CHANGES.contains(&number) {
        return Err(Errno::EPERM);
    }
    if number == SIOCRTMSG || number == SIOCSIFLINK {
        return Err(Errno::EINVAL);
    }
    if number == SIOCGARP {
        // No interface of ours has neighbours with addresses of their own.
        return Err(Errno::ENXIO);
    }
    let mut entry = [0_u8; REQUEST];
    call.read(at, &mut entry)?;
    let of_address = matches!(
        number,
        SIOCGIFADDR | SIOCGIFDSTADDR | SIOCGIFBRDADDR | SIOCGIFNETMASK
    );
    if of_address && !v4 {
        return Err(Errno::ENOTTY);
    }
    if number == SIOCETHTOOL {
        // Its command comes first.
        let mut pointer = [0; 8];
        pointer.copy_from_slice(&entry[NAME..NAME + 8]);
        call.read(u64::from_ne_bytes(pointer), &mut [0; 4])?;
    }
    let union = [entry[16], entry[17], entry[18], entry[19]];
    // An alias (`lo:1`) is its interface, but for an address of its own, which no interface of ours has.
    let written = entry[..NAME].split(|&b| b == 0).next().unwrap_or_default();
    let mut parts = written.splitn(2, |&b| b == b':');
    let interface = if number == SIOCGIFNAME {
        view.by_index(u32::from_ne_bytes(union))
    } else {
        view.by_name(parts.next().unwrap_or_default())
    };
    if interface.is_some() && of_address && parts.next().is_some() {
        return Err(Errno::EADDRNOTAVAIL);
    }
    let interface = interface.ok_or(Errno::ENODEV)?;
    // The value overlays the union; what it does not cover stays as the program left it.
    let value = value(number, &interface)?;
    if number == SIOCGIFNAME {
        entry[..NAME].copy_from_slice(&named(&interface)[..NAME]);
    } else {
        entry[NAME..NAME + value.len()].copy_from_slice(&value);
    }
    call.write(at, &entry)
}

fn value(number: u32, interface: &Interface) -> Result<Vec<u8>, Errno> {
    let int = |value: u32| Ok(value.to_ne_bytes().to_vec());
    match number {
        SIOCGIFNAME => Ok(Vec::new()),
        SIOCGIFFLAGS => {
            // A short: the flags above it are netlink's.
            let [a, b, ..] = interface.flags.to_ne_bytes();
            Ok(vec![a, b])
        }
        SIOCGIFINDEX => int(interface.index),
        SIOCGIFMTU => int(interface.mtu),
        SIOCGIFMETRIC => int(0),
        SIOCGIFTXQLEN => int(interface.queue),
        SIOCGIFHWADDR => {
            let mut out = vec![0; 16];
            out[..2].copy_from_slice(&interface.hardware.to_ne_bytes());
            Ok(out)
        }
        SIOCGIFMAP => Ok(vec![0; 24]),
        SIOCGIFADDR | SIOCGIFDSTADDR | SIOCGIFBRDADDR | SIOCGIFNETMASK => {
            let (ip, len) = interface.v4().ok_or(Errno::EADDRNOTAVAIL)?;
            Ok(address(match number {
                SIOCGIFNETMASK => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(len.min(32)));
                    Ipv4Addr::from_bits(mask.unwrap_or(0))
                }
                SIOCGIFBRDADDR => interface.broadcast().unwrap_or(Ipv4Addr::UNSPECIFIED),
                _ => ip,
            })
            .to_vec())
        }
        SIOCETHTOOL | SIOCGMIIPHY | SIOCGMIIREG | 0x89f0..=0x89ff => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOTTY),
    }
}

/// A struct ifreq with its name.
fn named(interface: &Interface) -> [u8; REQUEST] {
    let mut entry = [0; REQUEST];
    let name = interface.name.as_bytes();
    entry[..name.len()].copy_from_slice(name);
    entry
}

/// A struct sockaddr_in.
fn address(ip: Ipv4Addr) -> [u8; 16] {
    let mut out = [0; 16];
    out[..2].copy_from_slice(&2_u16.to_ne_bytes());
    out[4..8].copy_from_slice(&ip.octets());
    out
}

fn request(args: &[u64; 6]) -> libc::Ioctl {
    args[1] & 0xffff_ffff
}
