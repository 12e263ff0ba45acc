// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which sequences are made. Sensible beginnings and single calls with any arguments take turns. Every step of a beginning
//! can be left out, which is how a sequence shrinks to what matters.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

use super::step::{Family, Form, Host, Name, Port, ReceiveBy, Room, SLOTS, SendBy, Step, Value};

/// Steps in a sequence, at most (and those of one beginning more).
const LONGEST: usize = 18;

/// Sequences of steps.
pub fn sequences() -> impl Strategy<Value = Vec<Step>> {
    let parts = vec(
        prop_oneof![1 => beginning(), 9 => single().prop_map(|step| vec![(true, step)])],
        1..LONGEST,
    );
    (beginning(), parts).prop_map(|(first, rest)| {
        let kept = |(keep, step): (bool, Step)| keep.then_some(step);
        first
            .into_iter()
            .chain(rest.into_iter().flatten())
            .filter_map(kept)
            .collect()
    })
}

/// Steps that may be left out.
type Optional = Vec<(bool, Step)>;

fn optional(steps: Vec<Step>) -> impl Strategy<Value = Optional> {
    let count = steps.len();
    vec(prop::bool::weighted(0.97), count)
        .prop_map(move |keep| keep.into_iter().zip(steps.clone()).collect())
}

/// A state worth starting from.
fn beginning() -> impl Strategy<Value = Optional> {
    let v = || prop_oneof![Just(libc::AF_INET), Just(libc::AF_INET6)];
    let slots = || Just([0u8, 1, 2, 3]).prop_shuffle();
    let home =
        || prop_oneof![4 => Just(Host::Loopback), 1 => Just(Host::Own), 1 => Just(Host::Any)];
    let any_of = (0..9u8, v(), slots(), home(), 0..3i32);
    any_of.prop_flat_map(|(which, family, [a, b, c, _], host, backlog)| {
        let at = |port| Name {
            family: Family::Same,
            host,
            port,
            form: Form::Right,
        };
        let to = |slot| Name {
            family: Family::Same,
            host: if host == Host::Own {
                Host::Own
            } else {
                Host::Loopback
            },
            port: Port::Of(slot),
            form: Form::Right,
        };
        let stream = |slot| Step::Socket {
            slot,
            family,
            kind: libc::SOCK_STREAM,
            protocol: 0,
        };
        let datagram = |slot| Step::Socket {
            slot,
            family,
            kind: libc::SOCK_DGRAM,
            protocol: 0,
        };
        let listener = vec![
            stream(a),
            Step::Bind {
                slot: a,
                name: at(Port::Zero),
            },
            Step::Listen {
                slot: a,
                backlog: backlog * 4,
            },
        ];
        let waiting = [
            listener.clone(),
            vec![
                stream(b),
                Step::Connect {
                    slot: b,
                    name: to(a),
                },
            ],
        ]
        .concat();
        let accept = Step::Accept {
            slot: a,
            into: c,
            flags: None,
            room: Room::Null,
        };
        let accepted = [waiting.clone(), vec![accept]].concat();
        let bound = vec![
            datagram(a),
            Step::Bind {
                slot: a,
                name: at(Port::Zero),
            },
        ];
        let towards = [
            bound.clone(),
            vec![
                datagram(b),
                Step::Connect {
                    slot: b,
                    name: to(a),
                },
            ],
        ]
        .concat();
        optional(match which {
            0 => vec![stream(a)],
            1 => listener,
            2 => waiting,
            3 | 4 => accepted,
            5 => [accepted, vec![Step::Close { slot: a }]].concat(),
            6 => bound,
            7 => towards,
            _ => [
                towards,
                vec![Step::Connect {
                    slot: a,
                    name: to(b),
                }],
            ]
            .concat(),
        })
    })
}

fn slot() -> impl Strategy<Value = u8> {
    // The first sockets are in every slot; the fourth is empty at first.
    prop_oneof![10 => 0..SLOTS - 1, 2 => Just(SLOTS - 1)]
}

fn single() -> Union<BoxedStrategy<Step>> {
    Union::new_weighted(vec![
        (4, socket().boxed()),
        (
            5,
            (slot(), name())
                .prop_map(|(slot, name)| Step::Bind { slot, name })
                .boxed(),
        ),
        (
            4,
            (slot(), backlog())
                .prop_map(|(slot, backlog)| Step::Listen { slot, backlog })
                .boxed(),
        ),
        (
            7,
            (slot(), name())
                .prop_map(|(slot, name)| Step::Connect { slot, name })
                .boxed(),
        ),
        (7, accept().boxed()),
        (14, send().boxed()),
        (16, receive().boxed()),
        (
            6,
            (
                slot(),
                prop_oneof![9 => 0..3i32, 1 => select(vec![-1, 3, 4])],
            )
                .prop_map(|(slot, how)| Step::Shutdown { slot, how })
                .boxed(),
        ),
        (
            3,
            (slot(), room())
                .prop_map(|(slot, room)| Step::Sockname { slot, room })
                .boxed(),
        ),
        (
            3,
            (slot(), room())
                .prop_map(|(slot, room)| Step::Peername { slot, room })
                .boxed(),
        ),
        (7, get().boxed()),
        (7, set().boxed()),
        (2, ioctl().boxed()),
        (
            1,
            (slot(), any::<bool>())
                .prop_map(|(slot, on)| Step::Blocking { slot, on })
                .boxed(),
        ),
        (
            2,
            (slot(), slot())
                .prop_map(|(slot, into)| Step::Dup { slot, into })
                .boxed(),
        ),
        (5, slot().prop_map(|slot| Step::Close { slot }).boxed()),
        (
            1,
            (
                slot(),
                select(vec![0, 1, 4, 5, 0x40, 0x100, 0x2000, 0x7fff]),
            )
                .prop_map(|(slot, events)| Step::Poll { slot, events })
                .boxed(),
        ),
        (
            2,
            (slot(), select(vec![0x1, 0x2001, 0x2]))
                .prop_map(|(slot, events)| Step::Watch { slot, events })
                .boxed(),
        ),
        (2, Just(Step::Edges).boxed()),
    ])
}

fn socket() -> impl Strategy<Value = Step> {
    let usual = (
        select(vec![libc::AF_INET, libc::AF_INET6]),
        select(vec![
            libc::SOCK_STREAM,
            libc::SOCK_DGRAM,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
        ]),
        Just(0),
    );
    let strange = (
        select(vec![libc::AF_INET, libc::AF_INET6]),
        select(vec![
            0,
            1,
            2,
            4,
            5,
            6,
            7,
            10,
            15,
            16,
            0x1001,
            0x8_0000 | 0x10_0000 | 1,
            -1,
        ]),
        select(vec![0, 6, 17, 132, 136, 1000, -1, 256, 255]),
    );
    (
        0..SLOTS,
        prop_oneof![6 => usual.boxed(), 1 => strange.boxed()],
    )
        .prop_map(|(slot, (family, kind, protocol))| Step::Socket {
            slot,
            family,
            kind,
            protocol,
        })
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        12 => Just(Host::Loopback),
        4 => Just(Host::Any),
        3 => Just(Host::Own),
        2 => Just(Host::Mapped),
        1 => Just(Host::Foreign),
        1 => Just(Host::Broadcast),
        1 => Just(Host::Multicast),
    ]
}

fn name() -> impl Strategy<Value = Name> {
    let family = prop_oneof![
        20 => Just(Family::Same),
        1 => Just(Family::V4),
        1 => Just(Family::V6),
        2 => Just(Family::Unspec),
        1 => Just(Family::Wrong),
    ];
    let port = prop_oneof![
        10 => slot().prop_map(Port::Of),
        4 => Just(Port::Zero),
        3 => (0..3u8).prop_map(Port::Fixed),
        2 => Just(Port::Closed),
    ];
    let form = prop_oneof![
        30 => Just(Form::Right),
        2 => select(vec![0, 1, 2, 8, 15, 16, 17, 24, 27, 28, 29, 100, 128]).prop_map(Form::Length),
        1 => Just(Form::Bad),
        1 => Just(Form::Null),
    ];
    (family, host(), port, form).prop_map(|(family, host, port, form)| Name {
        family,
        host,
        port,
        form,
    })
}

fn backlog() -> impl Strategy<Value = i32> {
    prop_oneof![4 => Just(8), 2 => 0..3i32, 1 => select(vec![-1, 128, 5000, i32::MAX, i32::MIN])]
}

fn room() -> impl Strategy<Value = Room> {
    prop_oneof![
        8 => Just(Room::PLENTY),
        3 => select(vec![0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 27, 28, 29, 256, -1]).prop_map(Room::Bytes),
        1 => Just(Room::Bad),
        1 => Just(Room::BadLength),
        1 => Just(Room::Null),
    ]
}

fn accept() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![
        4 => Just(None),
        3 => select(vec![0, libc::SOCK_NONBLOCK, libc::SOCK_CLOEXEC, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC]).prop_map(Some),
        1 => select(vec![1, 4, -1, 0x4000_0000]).prop_map(Some),
    ];
    (slot(), slot(), flags, room()).prop_map(|(slot, into, flags, room)| Step::Accept {
        slot,
        into,
        flags,
        room,
    })
}

/// Bits that a transfer may carry, and some that mean nothing there.
fn flags() -> impl Strategy<Value = i32> {
    let bits = vec![
        libc::MSG_DONTWAIT,
        libc::MSG_PEEK,
        libc::MSG_TRUNC,
        libc::MSG_NOSIGNAL,
        libc::MSG_OOB,
        libc::MSG_WAITALL,
        libc::MSG_DONTROUTE,
        libc::MSG_ERRQUEUE,
        libc::MSG_CTRUNC,
        libc::MSG_EOR,
        libc::MSG_CONFIRM,
        libc::MSG_CMSG_CLOEXEC,
        0x10,
        0x0100_0000,
    ];
    prop_oneof![
        8 => Just(0),
        4 => select(vec![libc::MSG_DONTWAIT, libc::MSG_PEEK, libc::MSG_NOSIGNAL, libc::MSG_TRUNC]),
        2 => select(bits.clone()),
        1 => (select(bits.clone()), select(bits)).prop_map(|(one, other)| one | other),
    ]
}

fn send() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        12 => select(vec![0u32, 1, 2, 5, 10, 100]),
        2 => select(vec![1000, 1400, 3000, 5000]),
        1 => select(vec![20_000, 65_507, 65_508, 70_000]),
    ];
    let by = prop_oneof![
        6 => Just(SendBy::Send),
        3 => Just(SendBy::Write),
        1 => Just(SendBy::Writev),
        4 => name().prop_map(SendBy::Sendto),
        3 => prop::option::of(name()).prop_map(SendBy::Sendmsg),
        2 => prop::option::of(name()).prop_map(SendBy::Sendmmsg),
        1 => Just(SendBy::Nowhere),
    ];
    (slot(), len, flags(), by).prop_map(|(slot, len, flags, by)| Step::Send {
        slot,
        len,
        flags,
        by,
    })
}

fn receive() -> impl Strategy<Value = Step> {
    let len = prop_oneof![6 => select(vec![0u32, 1, 2, 3, 10, 100]), 2 => select(vec![1500, 10_000, 100_000])];
    let by = prop_oneof![
        5 => Just(ReceiveBy::Recv),
        3 => Just(ReceiveBy::Read),
        1 => Just(ReceiveBy::Readv),
        4 => room().prop_map(ReceiveBy::Recvfrom),
        3 => (select(vec![0u8, 4, 16, 28, 128]), select(vec![0u8, 8, 16, 64, 200])).prop_map(|(name, control)| ReceiveBy::Recvmsg { name, control }),
        2 => Just(ReceiveBy::Recvmmsg),
        1 => Just(ReceiveBy::Nowhere),
    ];
    (slot(), len, flags(), by).prop_map(|(slot, len, flags, by)| Step::Receive {
        slot,
        len,
        flags,
        by,
    })
}

/// Level and option. Left out are those whose value is the machine's, the path's or the process's own.
fn option() -> impl Strategy<Value = (i32, i32)> {
    const SOCKET: [i32; 33] = [
        1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 28, 29, 30, 31, 34, 35, 37, 38,
        39, 40, 41, 43, 44, 45, 60, 61, 80,
    ];
    const TCP: [i32; 23] = [
        4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 27, 29, 30, 31, 36, 60,
    ];
    const IP: [i32; 26] = [
        1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 18, 19, 20, 21, 22, 23, 24, 25, 26, 32, 33, 34,
        49,
    ];
    const IPV6: [i32; 34] = [
        1, 2, 3, 4, 5, 8, 11, 16, 17, 18, 19, 23, 25, 26, 29, 30, 31, 33, 49, 51, 52, 53, 56, 58,
        60, 61, 62, 66, 67, 70, 73, 74, 75, 78,
    ];
    prop_oneof![
        6 => select(&SOCKET[..]).prop_map(|option| (libc::SOL_SOCKET, option)),
        4 => select(&TCP[..]).prop_map(|option| (libc::IPPROTO_TCP, option)),
        2 => select(&IP[..]).prop_map(|option| (libc::IPPROTO_IP, option)),
        2 => select(&IPV6[..]).prop_map(|option| (libc::IPPROTO_IPV6, option)),
        1 => select(vec![100, 101, 102, 103, 104]).prop_map(|option| (libc::IPPROTO_UDP, option)),
        1 => (select(vec![-1, 2, 7, 132, 255, 270, 1000]), 0..4i32),
        4 => Just((libc::SOL_SOCKET, libc::SO_ERROR)),
    ]
}

fn get() -> impl Strategy<Value = Step> {
    (slot(), option(), room()).prop_map(|(slot, (level, option), room)| Step::Get {
        slot,
        level,
        option,
        room,
    })
}

fn set() -> impl Strategy<Value = Step> {
    let int = || select(vec![0, 1, 2, -1, 3, 64, 255, 256, 70_000, i32::MIN]);
    let value = prop_oneof![
        8 => int().prop_map(Value::Int),
        // As for SO_LINGER, with a time so short that close does not wait for it.
        2 => (0..2i32).prop_map(|on| Value::Pair(on, 0)),
        2 => (int(), select(vec![0, 1, 2, 3, 5, 8, 16, -1])).prop_map(|(value, len)| Value::Short(value, len)),
        1 => Just(Value::Bad),
        1 => Just(Value::Null),
    ];
    (slot(), option(), value)
        .prop_filter("waits in close", |(_, (level, option), value)| {
            (*level, *option) != (libc::SOL_SOCKET, libc::SO_LINGER)
                || matches!(
                    value,
                    Value::Pair(..) | Value::Null | Value::Bad | Value::Short(_, ..=7)
                )
        })
        .prop_map(|(slot, (level, option), value)| Step::Set {
            slot,
            level,
            option,
            value,
        })
}

fn ioctl() -> impl Strategy<Value = Step> {
    const SIOCATMARK: u64 = 0x8905;
    (
        slot(),
        select(vec![
            libc::FIONREAD,
            libc::TIOCOUTQ,
            libc::FIONBIO,
            SIOCATMARK,
        ]),
        select(vec![0, 1, 5]),
    )
        .prop_map(|(slot, request, value)| Step::Ioctl {
            slot,
            request,
            value,
        })
}
