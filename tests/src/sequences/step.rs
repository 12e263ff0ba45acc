// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps that sequences are made of, and how they are shown.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// Sockets that a sequence may hold at a time, each in a slot.
pub const SLOTS: u8 = 4;

/// One call. Numbers are as the kernel takes them, legal or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the arguments of the calls")]
pub enum Step {
    /// socket(2), always non-blocking, into a slot.
    Socket {
        slot: u8,
        family: i32,
        kind: i32,
        protocol: i32,
    },
    Bind {
        slot: u8,
        name: Name,
    },
    Listen {
        slot: u8,
        backlog: i32,
    },
    Connect {
        slot: u8,
        name: Name,
    },
    /// accept(2) without flags, accept4(2) with. The new socket is made non-blocking.
    Accept {
        slot: u8,
        into: u8,
        flags: Option<i32>,
        room: Room,
    },
    /// Sends so many bytes of a letter that names the step.
    Send {
        slot: u8,
        len: u32,
        flags: i32,
        by: SendBy,
    },
    /// Receives into so much room.
    Receive {
        slot: u8,
        len: u32,
        flags: i32,
        by: ReceiveBy,
    },
    Shutdown {
        slot: u8,
        how: i32,
    },
    Sockname {
        slot: u8,
        room: Room,
    },
    Peername {
        slot: u8,
        room: Room,
    },
    Get {
        slot: u8,
        level: i32,
        option: i32,
        room: Room,
    },
    Set {
        slot: u8,
        level: i32,
        option: i32,
        value: Value,
    },
    /// ioctl(2) with a pointer to a number.
    Ioctl {
        slot: u8,
        request: u64,
        value: i32,
    },
    /// fcntl(2), O_NONBLOCK; a blocking socket waits for a moment only.
    Blocking {
        slot: u8,
        on: bool,
    },
    /// dup(2), or dup2(2) when the other slot holds a socket.
    Dup {
        slot: u8,
        into: u8,
    },
    Close {
        slot: u8,
    },
    /// poll(2) for these events.
    Poll {
        slot: u8,
        events: i16,
    },
    /// epoll_ctl(2): edges of these events from now on.
    Watch {
        slot: u8,
        events: u32,
    },
    /// epoll_wait(2): what has come since it was asked last.
    Edges,
}

/// An address as an argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// What stands in `sa_family`.
    pub family: Family,
    /// The host in it.
    pub host: Host,
    /// The port in it.
    pub port: Port,
    /// Where it lies and how long it is said to be.
    pub form: Form,
}

/// `sa_family` of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// That of the socket.
    Same,
    /// AF_INET, whatever the socket is.
    V4,
    /// AF_INET6.
    V6,
    /// AF_UNSPEC, in the shape of the socket's family.
    Unspec,
    /// AF_UNIX, in that shape.
    Wrong,
}

/// Host part of an address, in the family it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "names say it")]
pub enum Host {
    Loopback,
    Any,
    /// The network's own address of this node.
    Own,
    /// An address that nobody has and that no route leads to.
    Foreign,
    /// IPv4's loopback as IPv6 writes it; 127.0.0.2 in IPv4.
    Mapped,
    Broadcast,
    Multicast,
}

/// Port of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Port {
    /// 0: the kernel chooses.
    Zero,
    /// The port that the socket in this slot has.
    Of(u8),
    /// One of the ports that belong to this sequence alone.
    Fixed(u8),
    /// A port at which nobody is.
    Closed,
}

/// How a structure is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// As it should be.
    Right,
    /// With this length.
    Length(u32),
    /// At an address where there is no memory.
    Bad,
    /// A null pointer.
    Null,
}

/// Room for an address or an option that comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Room {
    /// So many bytes, at most [`Room::LARGEST`]; negative is said as it is.
    Bytes(i32),
    /// The buffer is nowhere.
    Bad,
    /// The length is nowhere.
    BadLength,
    /// Both null.
    Null,
}

impl Room {
    /// The most room there is.
    pub const LARGEST: i32 = 256;
    /// Enough for whatever comes.
    pub const PLENTY: Self = Self::Bytes(128);
}

/// The value of an option that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// A C int.
    Int(i32),
    /// Two of them.
    Pair(i32, i32),
    /// A C int, of which so many bytes are said to be there.
    Short(i32, i32),
    /// Nowhere.
    Bad,
    /// Null, with length 0.
    Null,
}

/// Which call sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the calls themselves")]
pub enum SendBy {
    Send,
    Write,
    /// writev(2) in two pieces.
    Writev,
    Sendto(Name),
    /// sendmsg(2) in two pieces.
    Sendmsg(Option<Name>),
    /// sendmmsg(2): twice the same message.
    Sendmmsg(Option<Name>),
    /// send(2) of memory that is not there.
    Nowhere,
}

/// Which call receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the calls themselves")]
pub enum ReceiveBy {
    Recv,
    Read,
    /// readv(2) in two pieces.
    Readv,
    Recvfrom(Room),
    /// recvmsg(2) in two pieces, with room for an address and for control data.
    Recvmsg {
        name: u8,
        control: u8,
    },
    /// recvmmsg(2): two messages at most.
    Recvmmsg,
    /// recv(2) into memory that is not there.
    Nowhere,
}

impl Step {
    /// The slot whose socket the call is made on; for socket(2) the one it goes to.
    #[must_use]
    pub fn slot(&self) -> Option<u8> {
        match *self {
            Self::Socket { .. } | Self::Edges => None,
            Self::Bind { slot, .. }
            | Self::Listen { slot, .. }
            | Self::Connect { slot, .. }
            | Self::Accept { slot, .. }
            | Self::Send { slot, .. }
            | Self::Receive { slot, .. }
            | Self::Shutdown { slot, .. }
            | Self::Sockname { slot, .. }
            | Self::Peername { slot, .. }
            | Self::Get { slot, .. }
            | Self::Set { slot, .. }
            | Self::Ioctl { slot, .. }
            | Self::Blocking { slot, .. }
            | Self::Dup { slot, .. }
            | Self::Close { slot }
            | Self::Poll { slot, .. }
            | Self::Watch { slot, .. } => Some(slot),
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket {
                slot,
                family,
                kind,
                protocol,
            } => write!(
                f,
                "S{slot} = socket({}, {}, {protocol})",
                family_name(*family),
                kind_name(*kind)
            ),
            Self::Bind { slot, name } => write!(f, "bind(S{slot}, {name})"),
            Self::Listen { slot, backlog } => write!(f, "listen(S{slot}, {backlog})"),
            Self::Connect { slot, name } => write!(f, "connect(S{slot}, {name})"),
            Self::Accept {
                slot,
                into,
                flags: None,
                room,
            } => write!(f, "S{into} = accept(S{slot}, {room})"),
            Self::Accept {
                slot,
                into,
                flags: Some(flags),
                room,
            } => write!(f, "S{into} = accept4(S{slot}, {room}, {flags:#x})"),
            Self::Send {
                slot,
                len,
                flags,
                by,
            } => match by {
                SendBy::Send => write!(f, "send(S{slot}, {len}, {})", Flags(*flags)),
                SendBy::Write => write!(f, "write(S{slot}, {len})"),
                SendBy::Writev => write!(f, "writev(S{slot}, {len})"),
                SendBy::Sendto(name) => {
                    write!(f, "sendto(S{slot}, {len}, {}, {name})", Flags(*flags))
                }
                SendBy::Sendmsg(None) => write!(f, "sendmsg(S{slot}, {len}, {})", Flags(*flags)),
                SendBy::Sendmsg(Some(name)) => {
                    write!(f, "sendmsg(S{slot}, {len}, {}, {name})", Flags(*flags))
                }
                SendBy::Sendmmsg(None) => write!(f, "sendmmsg(S{slot}, {len}, {})", Flags(*flags)),
                SendBy::Sendmmsg(Some(name)) => {
                    write!(f, "sendmmsg(S{slot}, {len}, {}, {name})", Flags(*flags))
                }
                SendBy::Nowhere => {
                    write!(f, "send(S{slot}, bad pointer, {len}, {})", Flags(*flags))
                }
            },
            Self::Receive {
                slot,
                len,
                flags,
                by,
            } => match by {
                ReceiveBy::Recv => write!(f, "recv(S{slot}, {len}, {})", Flags(*flags)),
                ReceiveBy::Read => write!(f, "read(S{slot}, {len})"),
                ReceiveBy::Readv => write!(f, "readv(S{slot}, {len})"),
                ReceiveBy::Recvfrom(room) => {
                    write!(f, "recvfrom(S{slot}, {len}, {}, {room})", Flags(*flags))
                }
                ReceiveBy::Recvmsg { name, control } => write!(
                    f,
                    "recvmsg(S{slot}, {len}, {}, name {name}, control {control})",
                    Flags(*flags)
                ),
                ReceiveBy::Recvmmsg => write!(f, "recvmmsg(S{slot}, {len}, {})", Flags(*flags)),
                ReceiveBy::Nowhere => {
                    write!(f, "recv(S{slot}, bad pointer, {len}, {})", Flags(*flags))
                }
            },
            Self::Shutdown { slot, how } => write!(f, "shutdown(S{slot}, {how})"),
            Self::Sockname { slot, room } => write!(f, "getsockname(S{slot}, {room})"),
            Self::Peername { slot, room } => write!(f, "getpeername(S{slot}, {room})"),
            Self::Get {
                slot,
                level,
                option,
                room,
            } => write!(f, "getsockopt(S{slot}, {level}, {option}, {room})"),
            Self::Set {
                slot,
                level,
                option,
                value,
            } => write!(f, "setsockopt(S{slot}, {level}, {option}, {value})"),
            Self::Ioctl {
                slot,
                request,
                value,
            } => write!(f, "ioctl(S{slot}, {request:#x}, {value})"),
            Self::Blocking { slot, on: true } => write!(f, "fcntl(S{slot}, blocking)"),
            Self::Blocking { slot, on: false } => write!(f, "fcntl(S{slot}, non-blocking)"),
            Self::Dup { slot, into } => write!(f, "S{into} = dup(S{slot})"),
            Self::Close { slot } => write!(f, "close(S{slot})"),
            Self::Poll { slot, events } => write!(f, "poll(S{slot}, {events:#x})"),
            Self::Watch { slot, events } => write!(f, "epoll_ctl(S{slot}, edges of {events:#x})"),
            Self::Edges => write!(f, "epoll_wait()"),
        }
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Bad => return f.write_str("bad pointer"),
            Form::Null => return f.write_str("NULL"),
            Form::Right | Form::Length(_) => {}
        }
        match self.family {
            Family::Same => {}
            Family::V4 => f.write_str("INET ")?,
            Family::V6 => f.write_str("INET6 ")?,
            Family::Unspec => f.write_str("UNSPEC ")?,
            Family::Wrong => f.write_str("UNIX ")?,
        }
        write!(f, "{}:", format!("{:?}", self.host).to_lowercase())?;
        match self.port {
            Port::Zero => f.write_str("0")?,
            Port::Of(slot) => write!(f, "port of S{slot}")?,
            Port::Fixed(index) => write!(f, "fixed{index}")?,
            Port::Closed => f.write_str("closed")?,
        }
        match self.form {
            Form::Length(len) => write!(f, " length {len}"),
            Form::Right | Form::Bad | Form::Null => Ok(()),
        }
    }
}

impl Display for Room {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(len) => write!(f, "room {len}"),
            Self::Bad => f.write_str("bad pointer"),
            Self::BadLength => f.write_str("bad length pointer"),
            Self::Null => f.write_str("NULL"),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Pair(first, second) => write!(f, "[{first}, {second}]"),
            Self::Short(value, len) => write!(f, "{value} length {len}"),
            Self::Bad => f.write_str("bad pointer"),
            Self::Null => f.write_str("NULL"),
        }
    }
}

/// Flags of a transfer by name.
struct Flags(i32);

impl Display for Flags {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const NAMES: [(i32, &str); 10] = [
            (libc::MSG_OOB, "OOB"),
            (libc::MSG_PEEK, "PEEK"),
            (libc::MSG_DONTROUTE, "DONTROUTE"),
            (libc::MSG_TRUNC, "TRUNC"),
            (libc::MSG_DONTWAIT, "DONTWAIT"),
            (libc::MSG_WAITALL, "WAITALL"),
            (libc::MSG_ERRQUEUE, "ERRQUEUE"),
            (libc::MSG_NOSIGNAL, "NOSIGNAL"),
            (libc::MSG_MORE, "MORE"),
            (libc::MSG_CMSG_CLOEXEC, "CLOEXEC"),
        ];
        let mut left = self.0;
        let mut shown = Vec::new();
        for (bit, name) in NAMES {
            if left & bit != 0 {
                left &= !bit;
                shown.push(name.to_owned());
            }
        }
        if left != 0 || shown.is_empty() {
            shown.push(if left == 0 {
                "0".to_owned()
            } else {
                format!("{left:#x}")
            });
        }
        f.write_str(&shown.join("|"))
    }
}

fn family_name(family: i32) -> String {
    match family {
        libc::AF_INET => "INET".into(),
        libc::AF_INET6 => "INET6".into(),
        other => other.to_string(),
    }
}

fn kind_name(kind: i32) -> String {
    match kind {
        libc::SOCK_STREAM => "STREAM".into(),
        libc::SOCK_DGRAM => "DGRAM".into(),
        other => format!("{other:#x}"),
    }
}
