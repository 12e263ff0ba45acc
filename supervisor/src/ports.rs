// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's ports that the supervisor itself uses: one UDP port for all overlays, HTTP on loopback.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket, sockopt::Ipv6V6Only,
};

/// How many ports above the one asked for are tried.
pub const UDP_ATTEMPTS: u16 = 100;

/// The overlay's socket.
#[derive(Debug)]
pub struct Udp {
    /// Non-blocking; both families if `dual`, with IPv4 peers as v4-mapped addresses; else IPv4 only.
    pub socket: UdpSocket,
    /// Its port.
    pub port: u16,
    /// Whether this host has IPv6 sockets.
    pub dual: bool,
}

/// Takes `wanted`, or the next free port of the hundred above it.
///
/// # Errors
/// `AddrInUse` when all are taken; any other error of the kernel at once.
pub fn bind_udp(wanted: u16) -> io::Result<Udp> {
    for port in wanted..=wanted.saturating_add(UDP_ATTEMPTS) {
        match bind_udp_exactly(port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            // Ports below 1024 are not ours to take; those above may be.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && port != wanted => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// The loopback listeners for HTTP that could be had, and a sentence about those that could not.
#[must_use]
pub fn bind_http(port: u16) -> (Vec<TcpListener>, Option<String>) {
    let mut listeners = Vec::new();
    let mut refused = Vec::new();
    for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let address = SocketAddr::new(address, port);
        match TcpListener::bind(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.is_ipv6() && !is_busy(&error) => {
                tracing::debug!(%error, "no IPv6 loopback");
            }
            Err(error) => refused.push(format!("{address} ({error})")),
        }
    }
    let complaint = (!refused.is_empty()).then(|| {
        format!(
            "HTTP is not served on {}; the unix socket serves it.",
            refused.join(" and ")
        )
    });
    (listeners, complaint)
}

fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn bind_udp_exactly(port: u16) -> io::Result<Udp> {
    let (socket, dual) = match bind_dual(port) {
        Ok(socket) => (socket, true),
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
            (UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?, false)
        }
        Err(errno) => return Err(errno.into()),
    };
    socket.set_nonblocking(true)?;
    let port = socket.local_addr()?.port();
    Ok(Udp { socket, port, dual })
}

fn bind_dual(port: u16) -> Result<UdpSocket, Errno> {
    let socket = socket(
        AddressFamily::Inet6,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, Ipv6V6Only, &false)?;
    let address = std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    bind(socket.as_raw_fd(), &SockaddrIn6::from(address))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_stepped_over() {
        let first = bind_udp_exactly(0).unwrap();
        let second = bind_udp(first.port).unwrap();
        assert!(second.port > first.port);
        // IPv4 alone is enough to be busy: peers could not tell which of the two they reach.
        let four = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = four.local_addr().unwrap().port();
        assert_ne!(bind_udp(port).unwrap().port, port);
    }

    #[test]
    fn both_families_arrive() {
        let udp = bind_udp_exactly(0).unwrap();
        udp.socket.set_nonblocking(false).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", ("127.0.0.1", udp.port)).unwrap();
        assert_eq!(udp.socket.recv(&mut [0; 8]).unwrap(), 1);
    }

    #[test]
    fn busy_http_is_a_sentence() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let (_, complaint) = bind_http(port);
        assert!(complaint.unwrap().contains(&format!("127.0.0.1:{port}")));
    }
}
