// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ioctl(2) of the interface range and SIOCOUTQ: never the host's answer, whatever descriptor it is asked on.

use super::{OnSocket, Verdict};
use crate::network::Role;
use crate::sys::ioctl as queue;
use netcon_netstack::errno::Errno;
use std::os::fd::AsFd;

/// On a descriptor that is not ours: SIOCOUTQ is the kernel's, interfaces there are none.
pub(super) fn foreign(args: &[u64; 6]) -> Verdict {
    if request(args) == libc::TIOCOUTQ {
        Verdict::Proceed
    } else {
        Verdict::Fail(Errno::ENODEV)
    }
}

/// On one of our sockets.
pub(super) fn on_socket(on: &OnSocket<'_>, args: &[u64; 6]) -> Verdict {
    if request(args) != libc::TIOCOUTQ {
        return Verdict::Fail(Errno::ENODEV);
    }
    let waiting = {
        let state = on.entry.network.lock();
        match state
            .carriers
            .get(&on.entry.socket)
            .map(|carrier| &carrier.role)
        {
            Some(Role::Linked(flow)) => {
                let ring = state.sockets.stack().send_queue(*flow);
                let pair = state
                    .links
                    .get(flow)
                    .and_then(|link| {
                        let unread = queue::input_queue(link.s.as_fd()).ok()?;
                        let ours = link.plug + usize::from(link.marked);
                        Some(unread.saturating_sub(ours) + link.stash.len())
                    })
                    .unwrap_or(0);
                ring + pair
            }
            Some(Role::Idle | Role::Connecting(_) | Role::Listening(_) | Role::Datagram(_))
            | None => 0,
        }
    };
    let reported = i32::try_from(waiting).unwrap_or(i32::MAX);
    Verdict::from(on.call.write(args[2], &reported.to_ne_bytes()).map(|()| 0))
}

fn request(args: &[u64; 6]) -> libc::Ioctl {
    args[1] & 0xffff_ffff
}
