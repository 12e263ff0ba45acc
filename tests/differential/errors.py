# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which call reports which error, and where it is tested: one row for each errno of a manual page and each circumstance of it.

A row is (call, errno, when, PROGRAM, STEP): in some variant of the program, a step whose label matches the pattern STEP comes to that
errno on the kernel's sockets; that it does so on a virtual network too is what comparing them shows. Or (call, errno, when, None,
reason): nothing tests it, and why. Every errno that stands in DOCUMENTED needs a row.
"""

import fnmatch
import re

# The errnos under ERRORS of each page; the pages of the other calls of a family refer to the first's.
DOCUMENTED = {
    "socket": "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT",
    "socketpair": "EAFNOSUPPORT EFAULT EMFILE ENFILE EOPNOTSUPP EPROTONOSUPPORT",
    "bind": "EACCES EADDRINUSE EBADF EINVAL ENOTSOCK EADDRNOTAVAIL EFAULT ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EROFS",
    "connect": "EACCES EPERM EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNREFUSED EFAULT EINPROGRESS EINTR "
    "EISCONN ENETUNREACH ENOTSOCK EPROTOTYPE ETIMEDOUT",
    "listen": "EADDRINUSE EBADF ENOTSOCK EOPNOTSUPP",
    "accept": "EAGAIN EBADF ECONNABORTED EFAULT EINTR EINVAL EMFILE ENFILE ENOBUFS ENOMEM ENOTSOCK EOPNOTSUPP EPERM EPROTO",
    "accept4": "EAGAIN EBADF EFAULT EINTR EINVAL EMFILE ENOTSOCK EOPNOTSUPP",
    "getsockname": "EBADF EFAULT EINVAL ENOBUFS ENOTSOCK",
    "getpeername": "EBADF EFAULT EINVAL ENOBUFS ENOTCONN ENOTSOCK",
    "getsockopt": "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK",
    "setsockopt": "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK",
    "shutdown": "EBADF EINVAL ENOTCONN ENOTSOCK",
    "ioctl": "EBADF EFAULT EINVAL ENOTTY",
    "poll": "EFAULT EINTR EINVAL ENOMEM",
    "select": "EBADF EINTR EINVAL ENOMEM",
    "epoll_ctl": "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM",
    "epoll_wait": "EBADF EFAULT EINTR EINVAL",
}
SEND = (
    "EACCES EAGAIN EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR EINVAL EISCONN EMSGSIZE ENOBUFS ENOMEM ENOTCONN ENOTSOCK "
    "EOPNOTSUPP EPIPE"
)
RECEIVE = "EAGAIN EBADF ECONNREFUSED EFAULT EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK"
SENDS = ("send", "sendto", "sendmsg", "sendmmsg")
RECEIVES = ("recv", "recvfrom", "recvmsg", "recvmmsg")
DOCUMENTED.update({call: SEND for call in SENDS})
DOCUMENTED.update({call: RECEIVE for call in RECEIVES})

MEMORY = "the kernel's memory would have to run out"
FILES = "the machine's table of files would have to be full; the network's own bound on sockets is tested in the netstack"
UNIX = "of unix sockets only, which are the kernel's own"
FIREWALL = "there is no firewall on a network"

ROWS = [
    ("socket", "EACCES", "ping sockets, for users outside net.ipv4.ping_group_range", None, "the range is the machine's setting"),
    ("socket", "EPERM", "SOCK_RAW without CAP_NET_RAW", "refused_sockets", "socket, raw"),
    ("socket", "EAFNOSUPPORT", "a family that does not exist", "refused_sockets", "socket, *family*"),
    ("socket", "EINVAL", "unknown flags", "refused_sockets", "socket, flags"),
    ("socket", "EINVAL", "a type that does not exist", "refused_sockets", "socket, type out of range"),
    ("socket", "EINVAL", "a protocol that does not exist", "refused_sockets", "socket, protocol out of range"),
    ("socket", "ESOCKTNOSUPPORT", "a type that the family has not", "refused_sockets", "socket, type of another family"),
    ("socket", "EPROTONOSUPPORT", "a protocol of another type", "refused_sockets", "socket, protocol of another type"),
    ("socket", "EPROTONOSUPPORT", "a protocol of the other family", "refused_sockets", "socket, protocol of another family"),
    ("socket", "EMFILE", "RLIMIT_NOFILE", "descriptor_numbers", "socket"),
    ("socket", "ENFILE", "", None, FILES),
    ("socket", "ENOBUFS", "", None, MEMORY),
    ("socket", "ENOMEM", "", None, MEMORY),
    ("socketpair", "EAFNOSUPPORT", "a family that does not exist", "refused_sockets", "socketpair, *family*"),
    ("socketpair", "EFAULT", "of the Internet", "refused_sockets", "socketpair of the Internet to nowhere"),
    ("socketpair", "EMFILE", "RLIMIT_NOFILE (unix)", "descriptor_numbers", "pair"),
    ("socketpair", "ENFILE", "", None, FILES),
    ("socketpair", "EOPNOTSUPP", "SOCK_STREAM of the Internet", "refused_sockets", "socketpair of the Internet, 1"),
    ("socketpair", "EOPNOTSUPP", "SOCK_DGRAM of IPv6", "refused_sockets", "socketpair of IPv6, 2"),
    ("socketpair", "EPROTONOSUPPORT", "a protocol of another type", "refused_sockets", "socketpair, protocol of another type"),
    ("socketpair", "EINVAL", "unknown flags", "refused_sockets", "socketpair, flags"),
    ("bind", "EACCES", "a port below 1024", "refused_routes", "bind 1 to a port*"),
    ("bind", "EADDRINUSE", "the port is taken; SO_REUSEADDR on one side only", "bind_conflicts", "1 reuse 0 1*"),
    ("bind", "EADDRINUSE", "SO_REUSEPORT on one side only", "bind_reuseport", "1 port 0 1 reuse 0"),
    ("bind", "EADDRINUSE", "the other family's wildcard, without IPV6_V6ONLY", "bind_two_families", "1 only 0*"),
    ("bind", "EADDRINUSE", "no free port (IP_LOCAL_PORT_RANGE), TCP", "refused_ports", "bind 1"),
    ("bind", "EADDRINUSE", "no free port (IP_LOCAL_PORT_RANGE), UDP", "refused_ports", "bind 2"),
    ("bind", "EBADF", "", "wrong_files", "none bind"),
    ("bind", "EINVAL", "bound already", "bind_twice", "second"),
    ("bind", "EINVAL", "connected", "bind_after_use", "connected"),
    ("bind", "EINVAL", "addrlen too short", "bind_shapes", "length 8"),
    ("bind", "EINVAL", "addrlen negative", "bind_shapes", "length -1"),
    ("bind", "EINVAL", "a mapped address with IPV6_V6ONLY", "v6only_states", "mapped"),
    ("bind", "EAFNOSUPPORT", "another family", "bind_shapes", "family 1"),
    ("bind", "ENOTSOCK", "", "wrong_files", "file bind"),
    ("bind", "EADDRNOTAVAIL", "an address of nobody here", "bind_addresses", "bind * 203.0.113.7"),
    ("bind", "ENODEV", "a scope without an interface", "scope_numbers", "bind 1 99"),
    ("bind", "EFAULT", "null", "bind_shapes", "null"),
    ("bind", "EFAULT", "a bad address", "bind_shapes", "bad pointer"),
    ("connect", "EACCES", "broadcast without SO_BROADCAST", "options_broadcast", "connect"),
    ("connect", "EPERM", "", None, FIREWALL),
    ("connect", "EADDRINUSE", "", None, "Linux says EADDRNOTAVAIL where TCP finds the pair of addresses taken"),
    ("connect", "EADDRNOTAVAIL", "the pair of addresses exists", "refused_connecting", "connect, the pair exists"),
    ("connect", "EAFNOSUPPORT", "another family", "connect_shapes", "family 1"),
    ("connect", "EAGAIN", "UDP without a free port (IP_LOCAL_PORT_RANGE)", "refused_ports", "connect a datagram*"),
    ("connect", "EALREADY", "O_NONBLOCK, an attempt goes on", "connect_queue_full", "third"),
    ("connect", "EALREADY", "after a signal", "signal_in_connect", "again"),
    ("connect", "EALREADY", "after SO_SNDTIMEO", "connect_time_limit", "again"),
    ("connect", "EBADF", "", "wrong_files", "none connect"),
    ("connect", "ECONNREFUSED", "nobody listens", "connect_refused", "connect"),
    ("connect", "ECONNREFUSED", "O_NONBLOCK, in SO_ERROR", "connect_refused", "SO_ERROR"),
    ("connect", "ECONNABORTED", "the error was read from SO_ERROR before", "refused_connecting", "connect, its error was read"),
    ("connect", "ECONNRESET", "shutdown by another thread", "threads_and_connect", "woken"),
    ("connect", "EFAULT", "null", "connect_shapes", "null"),
    ("connect", "EFAULT", "a bad address", "connect_shapes", "bad pointer"),
    ("connect", "EINPROGRESS", "O_NONBLOCK", "connect_success", "connect"),
    ("connect", "EINPROGRESS", "SO_SNDTIMEO", "connect_time_limit", "connect"),
    ("connect", "EINTR", "a handler without SA_RESTART", "signal_interrupts", "connect"),
    ("connect", "EINVAL", "addrlen too short", "connect_shapes", "length 8"),
    ("connect", "EINVAL", "link-local without a scope", "scope_numbers", "connect 1 0"),
    ("connect", "EINVAL", "a loopback source outwards", "own_addresses", "loopback source*"),
    ("connect", "EISCONN", "connected", "connect_success", "third"),
    ("connect", "EISCONN", "listening", "connect_listener", "connect"),
    ("connect", "ENETUNREACH", "no route", "no_route", "connect *"),
    ("connect", "ENETUNREACH", "multicast, TCP", "refused_routes", "connect to many"),
    ("connect", "ENETUNREACH", "a mapped address with IPV6_V6ONLY", "connect_mapped", "v6 only"),
    ("connect", "ENOTSOCK", "", "bad_descriptors", "connect file"),
    ("connect", "EPROTOTYPE", "", None, UNIX),
    ("connect", "ETIMEDOUT", "TCP_USER_TIMEOUT", "refused_connecting", "connect, no answer*"),
    ("listen", "EADDRINUSE", "another socket listens", "refused_connecting", "listen, another listens"),
    ("listen", "EADDRINUSE", "no free port (IP_LOCAL_PORT_RANGE)", "refused_ports", "listen without a port"),
    ("listen", "EBADF", "", "wrong_files", "none listen"),
    ("listen", "EINVAL", "connected", "listen_states", "connected"),
    ("listen", "ENOTSOCK", "", "wrong_files", "file listen"),
    ("listen", "EOPNOTSUPP", "UDP", "listen_states", "datagram"),
    ("accept", "EAGAIN", "O_NONBLOCK", "accept_ready", "nobody"),
    ("accept", "EAGAIN", "SO_RCVTIMEO", "accept_woken", "time limit"),
    ("accept", "EBADF", "", "bad_descriptors", "accept 999"),
    ("accept", "ECONNABORTED", "", None, "Linux gives the connection all the same (accept_gone)"),
    ("accept", "EFAULT", "addrlen", "pointers_of_streams", "accept length*"),
    ("accept", "EINTR", "a handler without SA_RESTART", "signal_interrupts", "accept"),
    ("accept", "EINTR", "SO_RCVTIMEO, a handler with SA_RESTART", "signal_time_limits", "accept"),
    ("accept", "EINVAL", "not listening", "fresh_calls", "accept"),
    ("accept", "EINVAL", "shut down", "listener_shut", "accept"),
    ("accept", "EMFILE", "RLIMIT_NOFILE", "descriptor_numbers", "accept"),
    ("accept", "ENFILE", "", None, FILES),
    ("accept", "ENOBUFS", "", None, MEMORY),
    ("accept", "ENOMEM", "", None, MEMORY),
    ("accept", "ENOTSOCK", "", "bad_descriptors", "accept file"),
    ("accept", "EOPNOTSUPP", "UDP", "listen_states", "accept on datagram"),
    ("accept", "EPERM", "", None, FIREWALL),
    ("accept", "EPROTO", "", None, "TCP has no such error"),
    ("accept4", "EAGAIN", "O_NONBLOCK", "accept_calls", "accept4 nobody"),
    ("accept4", "EBADF", "", "wrong_files", "none accept4"),
    ("accept4", "EFAULT", "addrlen", "accept_calls", "accept4 into nowhere"),
    ("accept4", "EINTR", "a handler without SA_RESTART", "signal_interrupts", "accept4"),
    ("accept4", "EINVAL", "unknown flags", "accept_calls", "accept4 flags"),
    ("accept4", "EINVAL", "not listening", "accept_calls", "accept4 not listening"),
    ("accept4", "EMFILE", "RLIMIT_NOFILE", "accept_calls", "accept4 no descriptor left"),
    ("accept4", "ENOTSOCK", "", "accept_calls", "accept4 on a file"),
    ("accept4", "EOPNOTSUPP", "UDP", "accept_calls", "accept4 on datagram"),
    ("shutdown", "EBADF", "", "wrong_files", "none shutdown"),
    ("shutdown", "EINVAL", "an unknown direction", "fresh_calls", "shutdown 3"),
    ("shutdown", "ENOTCONN", "TCP, never connected", "fresh_calls", "shutdown 0"),
    ("shutdown", "ENOTCONN", "TCP, over", "end_shutdown_states", "over"),
    ("shutdown", "ENOTCONN", "UDP without a peer", "datagram_shutdown", "not connected"),
    ("shutdown", "ENOTSOCK", "", "wrong_files", "file shutdown"),
    ("ioctl", "EBADF", "", "ioctl_errors", "closed"),
    ("ioctl", "EFAULT", "FIONREAD", "ioctl_states", "client FIONREAD null"),
    ("ioctl", "EFAULT", "SIOCOUTQ", "ioctl_states", "client TIOCOUTQ null"),
    ("ioctl", "EFAULT", "SIOCATMARK", "ioctl_states", "client SIOCATMARK null"),
    ("ioctl", "EFAULT", "FIONBIO", "ioctl_states", "client FIONBIO null"),
    ("ioctl", "EFAULT", "FIOASYNC", "ioctl_states", "client FIOASYNC bad"),
    ("ioctl", "EFAULT", "SIOCGIFFLAGS", "ioctl_interfaces", "null"),
    ("ioctl", "EINVAL", "FIONREAD of a listener", "ioctl_states", "listener FIONREAD"),
    ("ioctl", "EINVAL", "SIOCOUTQ of a listener", "ioctl_states", "listener TIOCOUTQ"),
    ("ioctl", "ENODEV", "SIOCGIFINDEX of an interface that is not there", "ioctl_interfaces", "nonsense0 INDEX"),
    ("ioctl", "EADDRNOTAVAIL", "SIOCGIFADDR of an alias that is not there", "ioctl_interfaces", "lo:1 ADDR"),
    ("ioctl", "EPERM", "SIOCSIFADDR", "ioctl_interfaces", "set address"),
    ("ioctl", "ENOTTY", "a request of terminals", "ioctl_states", "client TCGETS"),
    ("ioctl", "ENOTTY", "an unknown request", "ioctl_states", "client nonsense"),
    ("ioctl", "ENOENT", "SIOCGSTAMP without a time", "ioctl_states", "client SIOCGSTAMP"),
    ("poll", "EFAULT", "", "pointers_of_streams", "poll *"),
    ("poll", "EINTR", "", "signal_interrupts", "poll"),
    ("poll", "EINTR", "a handler with SA_RESTART all the same", "signal_time_limits", "poll"),
    ("poll", "EINTR", "ppoll lets a signal in", "signal_masks", "ppoll"),
    ("poll", "EINVAL", "more than RLIMIT_NOFILE", "refused_waiting", "poll, more*"),
    ("poll", "EINVAL", "ppoll, a time below zero", "poll_many", "time below zero"),
    ("poll", "ENOMEM", "", None, MEMORY),
    ("select", "EBADF", "", "select_errors", "closed"),
    ("select", "EINTR", "", "select_signal", "select"),
    ("select", "EINVAL", "a count below zero", "select_errors", "negative count"),
    ("select", "EINVAL", "a time below zero", "select_errors", "negative time"),
    ("select", "EFAULT", "", "select_errors", "bad pointer"),
    ("select", "ENOMEM", "", None, MEMORY),
    ("epoll_ctl", "EBADF", "the instance", "edge_errors", "closed instance"),
    ("epoll_ctl", "EBADF", "the socket", "edge_errors", "closed socket"),
    ("epoll_ctl", "EEXIST", "", "edge_errors", "add twice"),
    ("epoll_ctl", "EFAULT", "", "edge_errors", "null"),
    ("epoll_ctl", "EINVAL", "a socket as the instance", "edge_errors", "no instance"),
    ("epoll_ctl", "EINVAL", "an unknown operation", "edge_errors", "unknown operation"),
    ("epoll_ctl", "EINVAL", "EPOLLEXCLUSIVE with EPOLLONESHOT", "edge_exclusive", "with one shot"),
    ("epoll_ctl", "EINVAL", "EPOLLEXCLUSIVE and EPOLL_CTL_MOD", "edge_exclusive", "modify*"),
    ("epoll_ctl", "EINVAL", "EPOLLEXCLUSIVE on an instance", "edge_exclusive", "on an instance"),
    ("epoll_ctl", "ELOOP", "a ring", "edge_nested", "ring"),
    ("epoll_ctl", "ELOOP", "too deep", "refused_waiting", "epoll_ctl, depth 4"),
    ("epoll_ctl", "ENOENT", "EPOLL_CTL_MOD", "edge_errors", "modify what is not there"),
    ("epoll_ctl", "ENOENT", "EPOLL_CTL_DEL", "edge_errors", "remove again"),
    ("epoll_ctl", "ENOMEM", "", None, MEMORY),
    ("epoll_ctl", "ENOSPC", "max_user_watches", None, "the limit is the machine's"),
    ("epoll_ctl", "EPERM", "a regular file", "edge_errors", "regular file"),
    ("epoll_wait", "EBADF", "", "edge_errors", "wait on nothing"),
    ("epoll_wait", "EFAULT", "", "edge_errors", "into a bad place"),
    ("epoll_wait", "EINTR", "", "signal_interrupts", "epoll_wait"),
    ("epoll_wait", "EINTR", "epoll_pwait lets a signal in", "signal_masks", "epoll_pwait"),
    ("epoll_wait", "EINVAL", "on a socket", "edge_errors", "wait on a socket"),
    ("epoll_wait", "EINVAL", "no room", "edge_errors", "wait for 0"),
]

ROWS += [("bind", errno, "", None, UNIX) for errno in ("ELOOP", "ENAMETOOLONG", "ENOENT", "ENOTDIR", "EROFS")]
ROWS.append(("bind", "ENOMEM", "", None, MEMORY))

for _call in ("getsockname", "getpeername"):
    ROWS += [
        (_call, "EBADF", "", "wrong_files", "none " + _call),
        (_call, "EFAULT", "the buffer", "getsockname_room", "null buffer"),
        (_call, "EFAULT", "addrlen", "pointers_of_streams", _call + " length*"),
        (_call, "EINVAL", "addrlen below zero", "getsockname_room", _call + " -1"),
        (_call, "ENOBUFS", "", None, MEMORY),
        (_call, "ENOTSOCK", "", "wrong_files", "file " + _call),
    ]
ROWS += [
    ("getpeername", "ENOTCONN", "never connected", "fresh_calls", "getpeername"),
    ("getpeername", "ENOTCONN", "after a reset", "end_reset", "peer"),
    ("getpeername", "ENOTCONN", "an attempt goes on", "connect_queue_full", "peer"),
    ("getpeername", "ENOTCONN", "UDP, dissolved", "udp_basic", "peer gone"),
]

# Per option: what a program of options.py or calls.py says of it. STREAM is options_stream, DATAGRAM options_datagram.
for _call, _word in (("getsockopt", "get"), ("setsockopt", "set")):
    ROWS += [
        (_call, "EBADF", "", "wrong_files", "none " + _call),
        (_call, "EFAULT", "SO_REUSEADDR", "option_pointers", _word + " *null"),
        (_call, "EFAULT", "TCP_NODELAY", "pointers_of_streams", _call + " *"),
        (_call, "EINVAL", "optlen below zero", "option_pointers", _word + " length -1"),
        (_call, "ENOTSOCK", "", "wrong_files", "file " + _call),
        (_call, "ENOPROTOOPT", "SOL_SOCKET, unknown", "option_pointers", _word + " level 1"),
        (_call, "ENOPROTOOPT", "SOL_IP, unknown", "option_pointers", _word + " level 0"),
        (_call, "ENOPROTOOPT", "SOL_TCP, unknown", "option_pointers", _word + " level 6"),
        (_call, "ENOPROTOOPT", "SOL_IPV6, unknown", "option_pointers", _word + " level 41"),
        (_call, "ENOPROTOOPT", "SOL_UDP on TCP", "option_pointers", _word + " level 17"),
    ]
ROWS.append(("getsockopt", "EFAULT", "optlen", "option_pointers", "get length null"))
for _name, _level, _number, _errno, _value in (
    ("SO_DEBUG", 1, 1, "EACCES", "1"),
    ("SO_TYPE", 1, 3, "ENOPROTOOPT", "1"),
    ("SO_ERROR", 1, 4, "ENOPROTOOPT", "1"),
    ("SO_REUSEADDR", 1, 2, "EINVAL", "length 3"),
    ("SO_KEEPALIVE", 1, 9, "EINVAL", "length 3"),
    ("SO_PRIORITY", 1, 12, "EPERM", "7"),
    ("SO_REUSEPORT", 1, 15, "EINVAL", "length 3"),
    ("SO_ACCEPTCONN", 1, 30, "ENOPROTOOPT", "1"),
    ("SO_PROTOCOL", 1, 38, "ENOPROTOOPT", "1"),
    ("SO_DOMAIN", 1, 39, "ENOPROTOOPT", "1"),
    ("IP_TTL", 0, 2, "EINVAL", "256"),
    ("IP_MTU_DISCOVER", 0, 10, "EINVAL", "255"),
    ("IP_MTU", 0, 14, "ENOPROTOOPT", "1"),
    ("IP_MINTTL", 0, 21, "EINVAL", "256"),
    ("TCP_NODELAY", 6, 1, "EINVAL", "length 3"),
    ("TCP_MAXSEG", 6, 2, "EINVAL", "1"),
    ("TCP_KEEPIDLE", 6, 4, "EINVAL", "0"),
    ("TCP_KEEPINTVL", 6, 5, "EINVAL", "0"),
    ("TCP_KEEPCNT", 6, 6, "EINVAL", "0"),
    ("TCP_SYNCNT", 6, 7, "EINVAL", "0"),
    ("TCP_USER_TIMEOUT", 6, 18, "EINVAL", "-1"),
    ("TCP_FASTOPEN", 6, 23, "EINVAL", "-1"),
    ("IPV6_UNICAST_HOPS", 41, 16, "EINVAL", "256"),
    ("IPV6_MTU_DISCOVER", 41, 23, "EINVAL", "255"),
    ("IPV6_V6ONLY", 41, 26, "EINVAL", "length 3"),
    ("IPV6_TCLASS", 41, 67, "EINVAL", "256"),
):
    ROWS.append(("setsockopt", _errno, "%s: %s" % (_name, _value), "options_stream", "stream %d/%d set %s" % (_level, _number, _value)))
ROWS += [
    ("setsockopt", "EINVAL", "IPV6_V6ONLY when bound", "v6only_states", "set when bound"),
    ("setsockopt", "EINVAL", "SO_LINGER, too short", "options_strings", "SO_LINGER 4"),
    ("setsockopt", "EDOM", "SO_RCVTIMEO, too many microseconds", "stream_time_limits", "bad 16"),
    ("setsockopt", "EINVAL", "SO_RCVTIMEO, too short", "stream_time_limits", "bad 4"),
    ("setsockopt", "ENOENT", "TCP_CONGESTION, unknown", "options_strings", "TCP_CONGESTION b'nonsense'"),
    ("setsockopt", "ENODEV", "SO_BINDTODEVICE, unknown", "options_strings", "SO_BINDTODEVICE b'nonsense0'"),
    ("setsockopt", "EPERM", "TCP_REPAIR", "options_strings", "TCP_REPAIR"),
    ("setsockopt", "EPERM", "SO_MARK", "options_strings", "SO_MARK"),
    ("setsockopt", "EPERM", "IP_TRANSPARENT", "options_strings", "IP_TRANSPARENT"),
    ("setsockopt", "ENOENT", "SO_DETACH_FILTER without one", "options_strings", "SO_DETACH_FILTER"),
]

for _call in SENDS:
    ROWS += [
        (_call, "EAGAIN", "full, O_NONBLOCK", "refused_sending_full", _call + " full"),
        (_call, "EAGAIN", "full, MSG_DONTWAIT", "refused_sending_full", _call + " full, MSG_DONTWAIT"),
        (_call, "EAGAIN", "full, SO_SNDTIMEO", "refused_sending_full", _call + " full, SO_SNDTIMEO"),
        (_call, "EALREADY", "", None, "another Fast Open: the engine has none"),
        (_call, "EBADF", "", "refused_sending", _call + " on nothing"),
        (_call, "ECONNRESET", "after a reset", "refused_after_reset", _call + " after a reset"),
        (_call, "EDESTADDRREQ", "UDP without a peer", "refused_datagrams", _call + " datagram without a peer"),
        (_call, "EFAULT", "TCP", "refused_sending", _call + " from nowhere"),
        (_call, "EINTR", "full, a handler without SA_RESTART", "refused_sending_full", _call + " full, a signal"),
        (_call, "EISCONN", "", None, "Linux ignores the address on a connected stream (stream_messages)"),
        (_call, "ENOBUFS", "", None, MEMORY),
        (_call, "ENOMEM", "", None, MEMORY),
        (_call, "ENOTCONN", "", None, "Linux says EPIPE on TCP and EDESTADDRREQ on UDP"),
        (_call, "ENOTSOCK", "", "refused_sending", _call + " on a file"),
        (_call, "EPIPE", "after SHUT_WR", "refused_sending", _call + " after shutdown"),
        (_call, "EPIPE", "after SHUT_WR, MSG_NOSIGNAL", "refused_sending", _call + " after shutdown, quietly"),
        (_call, "EPIPE", "never connected", "refused_sending", _call + " unconnected"),
        (_call, "EPIPE", "listening", "refused_sending", _call + " listening"),
    ]
    if _call == "send":
        ROWS += [
            (_call, "EACCES", "", None, "send has no address; connect says it"),
            (_call, "EINVAL", "", None, "send has no address and no message"),
            (_call, "EMSGSIZE", "UDP", "udp_basic", "too large"),
            (_call, "EOPNOTSUPP", "", None, "send has no address: shown for sendto"),
        ]
        continue
    ROWS += [
        (_call, "EACCES", "UDP, broadcast without SO_BROADCAST", "options_broadcast", _call),
        (_call, "EFAULT", "UDP", "refused_datagrams", _call + " datagram from nowhere"),
        (_call, "EINVAL", "UDP, port 0", "refused_datagrams", _call + " datagram to port 0"),
        (_call, "EINVAL", "UDP, an address too short", "refused_datagrams", _call + " datagram to a short address"),
        (_call, "EAFNOSUPPORT", "UDP, another family", "refused_datagrams", _call + " datagram to another family"),
        (_call, "EMSGSIZE", "UDP", "refused_datagrams", _call + " datagram too long"),
        (_call, "ENETUNREACH", "UDP, no route", "refused_routes", _call + " datagram without a route"),
        (_call, "EPIPE", "UDP after SHUT_WR", "refused_datagrams", _call + " datagram after shutdown"),
    ]
ROWS += [
    ("sendto", "EAGAIN", "UDP without a free port (IP_LOCAL_PORT_RANGE)", "refused_ports", "sendto without a port"),
    ("sendto", "EFAULT", "the address, TCP", "pointers_of_streams", "sendto address*"),
    ("sendto", "EFAULT", "the address, UDP", "pointers_of_datagrams", "sendto address bad"),
    ("sendto", "EOPNOTSUPP", "UDP, MSG_OOB", "datagram_peek", "send urgent"),
    ("sendmsg", "EOPNOTSUPP", "", None, "as sendto, in the same function"),
    ("sendmmsg", "EOPNOTSUPP", "", None, "as sendto, in the same function"),
    ("sendmsg", "EMSGSIZE", "more than IOV_MAX parts", "vector_limits", "sendmsg 1025"),
    ("sendmsg", "EINVAL", "control data, IP_TTL of 256", "datagram_control", "wrong 0 2 *"),
    ("sendmsg", "EINVAL", "control data, IPV6_HOPLIMIT of 256", "datagram_control", "wrong 41 52 *"),
    ("sendmsg", "ENETUNREACH", "control data, IP_PKTINFO of a stranger", "datagram_control", "wrong 0 8 *"),
]
for _call in RECEIVES:
    ROWS += [
        (_call, "EAGAIN", "TCP, O_NONBLOCK", "refused_receiving", _call + " empty"),
        (_call, "EAGAIN", "TCP, MSG_DONTWAIT", "refused_receiving", _call + " empty, MSG_DONTWAIT"),
        (_call, "EAGAIN", "TCP, SO_RCVTIMEO", "refused_receiving", _call + " empty, SO_RCVTIMEO"),
        (_call, "EAGAIN", "TCP, MSG_ERRQUEUE", "refused_receiving", _call + " error queue"),
        (_call, "EAGAIN", "UDP, O_NONBLOCK", "refused_datagrams", _call + " no datagram"),
        (_call, "EAGAIN", "UDP, MSG_DONTWAIT", "refused_datagrams", _call + " no datagram, MSG_DONTWAIT"),
        (_call, "EAGAIN", "UDP, SO_RCVTIMEO", "refused_datagrams", _call + " no datagram, SO_RCVTIMEO"),
        (_call, "EAGAIN", "UDP, MSG_ERRQUEUE", "refused_datagrams", _call + " no datagram, error queue"),
        (_call, "EBADF", "", "refused_receiving", _call + " on nothing"),
        (_call, "ECONNRESET", "after a reset", "refused_receiving", _call + " after a reset"),
        (_call, "EFAULT", "", "refused_receiving", _call + " into nowhere"),
        (_call, "EINTR", "TCP, a handler without SA_RESTART", "refused_receiving", _call + " empty, a signal"),
        (_call, "EINTR", "UDP, a handler without SA_RESTART", "refused_datagrams", _call + " no datagram, a signal"),
        (_call, "EINVAL", "MSG_OOB without urgent data", "refused_receiving", _call + " no urgent data"),
        (_call, "ENOMEM", "", None, MEMORY),
        (_call, "ENOTCONN", "never connected", "refused_receiving", _call + " unconnected"),
        (_call, "ENOTSOCK", "", "refused_receiving", _call + " on a file"),
    ]
    ROWS.append((_call, "ECONNREFUSED", "UDP, nobody there", "refused_datagrams", _call + " datagram refused"))
ROWS += [
    ("recvmmsg", "EINVAL", "a time-out that is none", "refused_receiving", "recvmmsg with a bad time"),
    ("recvmsg", "EMSGSIZE", "more than IOV_MAX parts", "vector_limits", "recvmsg 1025"),
    ("recvmsg", "EFAULT", "the message, UDP", "pointers_of_datagrams", "recvmsg *"),
    ("recvfrom", "EFAULT", "the address", "pointers_of_datagrams", "recvfrom address bad"),
]

ALIASES = {"EOPNOTSUPP": "ENOTSUP"}


def shows(row, native):
    """Whether the program of a row comes to its errno on the kernel's sockets."""
    _, errno, _, program, step = row
    wanted = re.compile(r"\b%s\b" % ALIASES.get(errno, errno))
    for name, lines in native.items():
        if name.split("/")[0] == program:
            for line in lines:
                label, _, outcome = line.rpartition(": ") if ": " in line else (line, "", "")
                if wanted.search(outcome) and fnmatch.fnmatchcase(label, step):
                    return True
    return False


def faults(native=None):
    """What is wrong with the rows; with `native`, the steps of all programs, also with what they claim."""
    found = []
    for call, errnos in DOCUMENTED.items():
        for errno in errnos.split():
            if not any(row[:2] == (call, errno) for row in ROWS):
                found.append("%s: %s has no row" % (call, errno))
    for row in ROWS:
        if row[0] not in DOCUMENTED:
            found.append("%s: is no call of the page" % row[0])
        if row[3] and native is not None and not shows(row, native):
            found.append("%s: %s (%s): %s does not show it in `%s`" % (row[0], row[1], row[2], row[3], row[4]))
    return found


def page():
    """docs/errors.md."""
    out = [
        "<!-- SPDX-License-Identifier: Apache-2.0 OR MIT -->",
        "# Errors",
        "",
        "Which call reports which error, and the program of `tests/differential` that shows it: the same steps are run on the kernel's",
        "sockets and on a virtual network, and have to come out the same but for what stands in [differences](differences.md). Every errno",
        "of a call's manual page is here, once for each option or state that it depends on. Written from `tests/differential/errors.py`:",
        "",
        "    tests/differential/run --page",
    ]
    for call in DOCUMENTED:
        rows = sorted((row for row in ROWS if row[0] == call), key=lambda row: row[1])
        out += ["", "## %s" % call, "", "| errno | when | shown by |", "|---|---|---|"]
        for _, errno, when, program, step in rows:
            said = "`%s`: %s" % (program, step.replace("*", "…").replace("|", "")) if program else "not tested: %s" % step
            out.append("| %s | %s | %s |" % (errno, when, said))
    tested = sum(1 for row in ROWS if row[3])
    out += ["", "%d rows, %d tested, %d not." % (len(ROWS), tested, len(ROWS) - tested)]
    return "\n".join(out) + "\n"
