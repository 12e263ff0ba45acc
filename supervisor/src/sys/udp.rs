// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Traffic class, fragmentation and path MTU of the overlay's UDP socket (ip(7), ipv6(7)).
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{setsockopt, sockopt};

/// What becomes of datagrams larger than the path's MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragments {
    /// None is made: `send` fails with EMSGSIZE as soon as the kernel knows (IP_PMTUDISC_DO).
    Never,
    /// The host makes them.
    AsNeeded,
}

/// Type of service and traffic class of datagrams that are sent without control messages.
///
/// # Errors
/// Whatever the kernel said.
pub fn set_class(socket: &UdpSocket, v6: bool, class: u8) -> io::Result<()> {
    let class = i32::from(class);
    // A dual-stack socket has both: IPv4 peers are v4-mapped.
    setsockopt(socket, sockopt::Ipv4Tos, &class)?;
    if v6 {
        setsockopt(socket, sockopt::Ipv6TClass, &class)?;
    }
    Ok(())
}

/// Says whether the host may fragment what is sent from now on.
///
/// # Errors
/// Whatever the kernel said.
pub fn set_fragments(socket: &UdpSocket, v6: bool, fragments: Fragments) -> io::Result<()> {
    let (v4_how, v6_how, forbidden) = match fragments {
        Fragments::Never => (libc::IP_PMTUDISC_DO, libc::IPV6_PMTUDISC_DO, 1),
        Fragments::AsNeeded => (libc::IP_PMTUDISC_DONT, libc::IPV6_PMTUDISC_DONT, 0),
    };
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4_how)?;
    if v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6_how)?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, forbidden)?;
    }
    Ok(())
}

/// Bytes of the largest IP packet that reaches `to`, as far as this host knows.
///
/// # Errors
/// Whatever the kernel said; without a route above all.
pub fn path_mtu(to: SocketAddr) -> io::Result<usize> {
    // The option tells of connected sockets only; connecting a datagram socket sends nothing.
    let (any, level, option): (SocketAddr, _, _) = if to.is_ipv4() {
        (
            (Ipv4Addr::UNSPECIFIED, 0).into(),
            libc::IPPROTO_IP,
            libc::IP_MTU,
        )
    } else {
        (
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU,
        )
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let mut value: libc::c_int = 0;
    let mut len = size_of_int();
    // SAFETY: the descriptor is open, value and len are ours and fit each other.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(value).unwrap_or(0))
}

fn set(socket: &UdpSocket, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open; the kernel reads one int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_int(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const fn size_of_int() -> libc::socklen_t {
    #[expect(clippy::cast_possible_truncation, reason = "an int has four bytes")]
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_an_mtu() {
        let target = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(path_mtu(target.local_addr().unwrap()).unwrap() >= 1280);
    }

    #[test]
    fn options_are_taken_by_sockets_of_both_kinds() {
        for (address, v6) in [("127.0.0.1:0", false), ("[::]:0", true)] {
            let Ok(socket) = UdpSocket::bind(address) else {
                continue;
            };
            set_class(&socket, v6, 0x88).unwrap();
            for fragments in [Fragments::Never, Fragments::AsNeeded] {
                set_fragments(&socket, v6, fragments).unwrap();
            }
        }
    }
}
