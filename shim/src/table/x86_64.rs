// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers of x86_64 and, as the foreign architecture a 64-bit process can enter at any time (`int $0x80`), of i386.

use super::{ENOSYS, Row, Rule, Trapped, When};

/// Intercepted calls of the 64-bit ABI.
pub const NATIVE: &[Row] = &[
    trap(
        41,
        "socket",
        Trapped::Socket,
        When::ServedFamily,
        "a container's Internet sockets are the supervisor's",
    ),
    trap(
        53,
        "socketpair",
        Trapped::SocketPair,
        When::ServedFamily,
        "as socket; Linux answers EOPNOTSUPP",
    ),
    always(
        42,
        "connect",
        Trapped::Connect,
        "connections go through the network",
    ),
    always(
        49,
        "bind",
        Trapped::Bind,
        "addresses and ports are the network's",
    ),
    always(50, "listen", Trapped::Listen, "listeners are the network's"),
    always(
        43,
        "accept",
        Trapped::Accept,
        "peer address; identity of the new socket",
    ),
    always(
        288,
        "accept4",
        Trapped::Accept4,
        "peer address; identity of the new socket",
    ),
    always(
        51,
        "getsockname",
        Trapped::GetSockName,
        "the stand-in has no Internet address",
    ),
    always(
        52,
        "getpeername",
        Trapped::GetPeerName,
        "the stand-in has no Internet address",
    ),
    always(
        48,
        "shutdown",
        Trapped::Shutdown,
        "ENOTCONN and listeners differ from AF_UNIX",
    ),
    always(
        55,
        "getsockopt",
        Trapped::GetSockOpt,
        "SO_ERROR, SO_DOMAIN, TCP_*, IP_* differ from AF_UNIX",
    ),
    trap(
        54,
        "setsockopt",
        Trapped::SetSockOpt,
        When::OptionNotIn {
            level: SOL_SOCKET,
            options: TIME_OUTS,
        },
        "options differ from AF_UNIX, except the two time-outs",
    ),
    trap(
        44,
        "sendto",
        Trapped::SendTo,
        When::AddressOrFlags {
            address: 4,
            flags: 3,
            mask: FLAGS,
        },
        "destination; flags that AF_UNIX treats differently. send(2) is this call without an address",
    ),
    trap(
        45,
        "recvfrom",
        Trapped::RecvFrom,
        When::AddressOrFlags {
            address: 4,
            flags: 3,
            mask: FLAGS,
        },
        "source; flags that AF_UNIX treats differently. recv(2) is this call without an address",
    ),
    always(
        46,
        "sendmsg",
        Trapped::SendMsg,
        "destination and control data are in memory",
    ),
    always(
        307,
        "sendmmsg",
        Trapped::SendMMsg,
        "destination and control data are in memory",
    ),
    always(
        47,
        "recvmsg",
        Trapped::RecvMsg,
        "source and control data are in memory",
    ),
    always(
        299,
        "recvmmsg",
        Trapped::RecvMMsg,
        "source and control data are in memory",
    ),
    trap(
        16,
        "ioctl",
        Trapped::Ioctl,
        When::InRanges {
            argument: 1,
            ranges: INTERFACE_REQUESTS,
        },
        "interfaces of the host must not show; SIOCOUTQ differs on AF_UNIX",
    ),
    always(
        438,
        "pidfd_getfd",
        Trapped::PidfdGetfd,
        "would fetch a host socket out of another process",
    ),
    HIDE_DUMPABLE,
    refuse(
        425,
        "io_uring_setup",
        "would make socket calls past the filter",
    ),
    refuse(
        426,
        "io_uring_enter",
        "would make socket calls past the filter",
    ),
    refuse(
        427,
        "io_uring_register",
        "would make socket calls past the filter",
    ),
];

/// Intercepted calls of the i386 ABI. Sockets are not served there: a 32-bit program sees a kernel without them.
pub const FOREIGN: &[Row] = &[
    refuse(102, "socketcall", I386_SOCKETS),
    refuse(359, "socket", I386_SOCKETS),
    refuse(360, "socketpair", I386_SOCKETS),
    refuse(361, "bind", I386_SOCKETS),
    refuse(362, "connect", I386_SOCKETS),
    refuse(363, "listen", I386_SOCKETS),
    refuse(364, "accept4", I386_SOCKETS),
    refuse(365, "getsockopt", I386_SOCKETS),
    refuse(366, "setsockopt", I386_SOCKETS),
    refuse(367, "getsockname", I386_SOCKETS),
    refuse(368, "getpeername", I386_SOCKETS),
    refuse(369, "sendto", I386_SOCKETS),
    refuse(370, "sendmsg", I386_SOCKETS),
    refuse(371, "recvfrom", I386_SOCKETS),
    refuse(372, "recvmsg", I386_SOCKETS),
    refuse(373, "shutdown", I386_SOCKETS),
    refuse(337, "recvmmsg", I386_SOCKETS),
    refuse(345, "sendmmsg", I386_SOCKETS),
    refuse(417, "recvmmsg_time64", I386_SOCKETS),
    refuse(
        438,
        "pidfd_getfd",
        "would fetch a host socket out of another process",
    ),
    refuse(
        425,
        "io_uring_setup",
        "would make socket calls past the filter",
    ),
    refuse(
        426,
        "io_uring_enter",
        "would make socket calls past the filter",
    ),
    refuse(
        427,
        "io_uring_register",
        "would make socket calls past the filter",
    ),
    Row {
        number: 54,
        name: "ioctl",
        rule: Rule::Refuse {
            errno: ENOSYS,
            when: When::InRanges {
                argument: 1,
                ranges: INTERFACE_REQUESTS_ONLY,
            },
        },
        why: "interfaces of the host must not show",
    },
    Row {
        number: 172,
        ..HIDE_DUMPABLE
    },
];

const I386_SOCKETS: &str = "the second door to the kernel's sockets, also for 64-bit programs";

/// Takes effect nowhere: a process that is not dumpable cannot be served, its memory and descriptors are out of reach.
const HIDE_DUMPABLE: Row = Row {
    number: 157,
    name: "prctl",
    rule: Rule::Refuse {
        errno: 0,
        when: When::FirstTwo {
            first: 4, /* PR_SET_DUMPABLE */
            second: 0,
        },
    },
    why: "a process that is not dumpable cannot be served; answered with success, not done",
};

const SOL_SOCKET: u32 = 1;
/// SO_RCVTIMEO and SO_SNDTIMEO, with the old (20, 21) and the 64-bit (66, 67) time format.
const TIME_OUTS: &[u32] = &[20, 21, 66, 67];
/// MSG_OOB, MSG_TRUNC, MSG_ERRQUEUE, MSG_FASTOPEN.
const FLAGS: u32 = 0x1 | 0x20 | 0x2000 | 0x2000_0000;
/// SIOC* from SIOCADDRT on: routes, interfaces, ARP, bridges, private requests. Owner, mark and stamp requests stay below.
const INTERFACES: (u32, u32) = (0x890b, 0x89ff);
const INTERFACE_REQUESTS_ONLY: &[(u32, u32)] = &[INTERFACES];
/// The same and SIOCOUTQ, whose number terminals share as TIOCOUTQ.
const INTERFACE_REQUESTS: &[(u32, u32)] = &[(0x5411, 0x5411), INTERFACES];

const fn trap(
    number: u32,
    name: &'static str,
    trapped: Trapped,
    when: When,
    why: &'static str,
) -> Row {
    Row {
        number,
        name,
        rule: Rule::Trap(trapped, when),
        why,
    }
}

const fn always(number: u32, name: &'static str, trapped: Trapped, why: &'static str) -> Row {
    trap(number, name, trapped, When::Always, why)
}

const fn refuse(number: u32, name: &'static str, why: &'static str) -> Row {
    Row {
        number,
        name,
        rule: Rule::Refuse {
            errno: ENOSYS,
            when: When::Always,
        },
        why,
    }
}
