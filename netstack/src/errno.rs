// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Linux error numbers, and the one place where typed errors of the engine become them.

use std::fmt;

use crate::stack::{ConnectError, Failure, SendError};

/// A Linux error number (x86_64 and aarch64 agree on all of these; errno(3), asm-generic/errno.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Errno {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The symbolic name, or `None` for a number this crate does not know.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }

        #[cfg(test)]
        const ALL: &[(Errno, &str)] = &[$((Errno::$name, stringify!($name)),)*];
    };
}

errnos! {
    /// Operation not permitted: what Linux answers without CAP_NET_ADMIN or CAP_NET_RAW.
    EPERM = 1;
    /// No such file or directory: an unknown name (congestion control, upper layer protocol).
    ENOENT = 2;
    /// No such process.
    ESRCH = 3;
    /// Interrupted system call.
    EINTR = 4;
    /// Input/output error.
    EIO = 5;
    /// No such device or address: no entry for it in the ARP table (arp(7)).
    ENXIO = 6;
    /// Bad file descriptor.
    EBADF = 9;
    /// Try again: would block (EWOULDBLOCK is the same number); for UDP also "no free local port" (udp(7)).
    EAGAIN = 11;
    /// Out of memory.
    ENOMEM = 12;
    /// Permission denied: broadcast without SO_BROADCAST (udp(7), ip(7)).
    EACCES = 13;
    /// Bad address.
    EFAULT = 14;
    /// Device or resource busy: a dump of this netlink socket is not read yet.
    EBUSY = 16;
    /// File exists.
    EEXIST = 17;
    /// No such device.
    ENODEV = 19;
    /// Invalid argument.
    EINVAL = 22;
    /// System-wide limit of open files.
    ENFILE = 23;
    /// Limit of open files of the process.
    EMFILE = 24;
    /// Inappropriate ioctl.
    ENOTTY = 25;
    /// Broken pipe: sending after SHUT_WR.
    EPIPE = 32;
    /// Function not implemented.
    ENOSYS = 38;
    /// No data available.
    ENODATA = 61;
    /// Machine is not on the network: ICMP "source host isolated".
    ENONET = 64;
    /// Protocol error: multicast membership on a stream socket.
    EPROTO = 71;
    /// Not a socket.
    ENOTSOCK = 88;
    /// Destination address required.
    EDESTADDRREQ = 89;
    /// Message too long.
    EMSGSIZE = 90;
    /// Protocol wrong type for socket.
    EPROTOTYPE = 91;
    /// Protocol option not available.
    ENOPROTOOPT = 92;
    /// Protocol not supported.
    EPROTONOSUPPORT = 93;
    /// Socket type not supported.
    ESOCKTNOSUPPORT = 94;
    /// Operation not supported on this socket.
    EOPNOTSUPP = 95;
    /// Address family not supported.
    EAFNOSUPPORT = 97;
    /// Address already in use.
    EADDRINUSE = 98;
    /// Cannot assign requested address; connect: no free local port.
    EADDRNOTAVAIL = 99;
    /// Network is down.
    ENETDOWN = 100;
    /// Network is unreachable: no route.
    ENETUNREACH = 101;
    /// Connection aborted.
    ECONNABORTED = 103;
    /// Connection reset by peer.
    ECONNRESET = 104;
    /// No buffer space available: a table or queue is full.
    ENOBUFS = 105;
    /// Already connected.
    EISCONN = 106;
    /// Not connected.
    ENOTCONN = 107;
    /// Connection timed out.
    ETIMEDOUT = 110;
    /// Connection refused.
    ECONNREFUSED = 111;
    /// Host is down: ICMP "destination host unknown".
    EHOSTDOWN = 112;
    /// No route to host.
    EHOSTUNREACH = 113;
    /// Operation already in progress.
    EALREADY = 114;
    /// Operation now in progress.
    EINPROGRESS = 115;
}

impl Errno {
    /// What an ICMP error (`v6`: ICMPv6) means for the socket whose packet it is about, and whether a connected socket that
    /// did not ask for errors hears of it (ip(7); `icmp_err_convert` and `icmpv6_err_convert` of the kernel).
    #[must_use]
    pub const fn of_icmp(v6: bool, kind: u8, code: u8) -> (Self, bool) {
        if v6 {
            return match (kind, code) {
                (1, 0) => (Self::ENETUNREACH, false),
                (1, 1 | 5 | 6) => (Self::EACCES, true),
                (1, 2 | 3) | (3, _) => (Self::EHOSTUNREACH, false),
                (1, 4) => (Self::ECONNREFUSED, true),
                (2, _) => (Self::EMSGSIZE, true),
                (1 | 4, _) => (Self::EPROTO, true),
                _ => (Self::EPROTO, false),
            };
        }
        match (kind, code) {
            (3, 0 | 11) => (Self::ENETUNREACH, false),
            (3, 2) => (Self::ENOPROTOOPT, true),
            (3, 3) => (Self::ECONNREFUSED, true),
            (3, 4) => (Self::EMSGSIZE, true),
            (3, 5) => (Self::EOPNOTSUPP, false),
            (3, 6 | 9) => (Self::ENETUNREACH, true),
            (3, 7) => (Self::EHOSTDOWN, true),
            (3, 8) => (Self::ENONET, true),
            (3, 10 | 13..=15) => (Self::EHOSTUNREACH, true),
            (12, _) => (Self::EPROTO, true),
            _ => (Self::EHOSTUNREACH, false),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Errno {}

impl From<Failure> for Errno {
    fn from(failure: Failure) -> Self {
        match failure {
            // tcp(7)/connect(2): nobody listens there. udp(7): ICMP port unreachable.
            Failure::Refused | Failure::PortUnreachable => Self::ECONNREFUSED,
            // read(2) on a socket: the peer sent RST. A broken flow of ours looks the same to the program.
            Failure::Reset | Failure::Internal => Self::ECONNRESET,
            // connect(2), tcp(7): no answer, keepalive or TCP_USER_TIMEOUT over.
            Failure::TimedOut => Self::ETIMEDOUT,
            // ip(7): ICMP host unreachable; time exceeded and administratively prohibited map here too.
            Failure::HostUnreachable | Failure::Prohibited => Self::EHOSTUNREACH,
            // connect(2): no route, or ICMP network unreachable.
            Failure::NetUnreachable => Self::ENETUNREACH,
            // udp(7), ip(7): larger than the path MTU with IP_MTU_DISCOVER set.
            Failure::PacketTooBig => Self::EMSGSIZE,
        }
    }
}

impl From<ConnectError> for Errno {
    fn from(error: ConnectError) -> Self {
        match error {
            // ip(7): not enough memory; the limit of flows is a memory limit.
            ConnectError::TooMany => Self::ENOBUFS,
            // connect(2): no ephemeral port, or the bound address is connected to that peer already.
            ConnectError::InUse => Self::EADDRNOTAVAIL,
            // connect(2): the model has refused such addresses with their own error before.
            ConnectError::Unaddressable => Self::EINVAL,
        }
    }
}

impl From<SendError> for Errno {
    fn from(error: SendError) -> Self {
        match error {
            // send(2): the protocol requires that the message be sent atomically.
            SendError::TooBig => Self::EMSGSIZE,
            // ip(7): no route to the destination.
            SendError::NoRoute => Self::ENETUNREACH,
            // send(2): the output queue of a network interface was full.
            SendError::QueueFull => Self::ENOBUFS,
            // raw(7), icmp(7): not a message of this socket's protocol.
            SendError::Malformed => Self::EINVAL,
            // raw(7): what a program may not send.
            SendError::Forbidden => Self::EPERM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_distinct() {
        for (index, (errno, name)) in ALL.iter().enumerate() {
            assert_eq!(errno.name(), Some(*name));
            assert!(ALL.iter().skip(index + 1).all(|(other, _)| other != errno));
        }
        assert_eq!(Errno::ECONNREFUSED.to_string(), "ECONNREFUSED");
        assert_eq!(Errno(9999).to_string(), "errno 9999");
    }

    #[test]
    fn failures_of_the_network() {
        assert_eq!(Errno::from(Failure::Refused), Errno::ECONNREFUSED);
        assert_eq!(Errno::from(Failure::PortUnreachable), Errno::ECONNREFUSED);
        assert_eq!(Errno::from(Failure::TimedOut), Errno::ETIMEDOUT);
        assert_eq!(Errno::from(ConnectError::InUse), Errno::EADDRNOTAVAIL);
        assert_eq!(Errno::from(SendError::TooBig), Errno::EMSGSIZE);
    }
}
