// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Groups and broadcasts as programs see them: what Linux 6.18 answered to the same calls on an interface with these addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::names::*;
use netcon_netstack::sockets::{CloseHow, ConnectTo, SocketId, Sockets};
use netcon_netstack::stack::Link;

use crate::world::{DGRAM, STREAM, World};

const GROUP: &str = "239.1.1.1";
const GROUP6: &str = "ff15::5";

fn octets(text: &str) -> Vec<u8> {
    match text.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// struct ip_mreq, ip_mreqn (with an index), ip_mreq_source (three addresses).
fn mreq(addresses: &[&str], index: Option<i32>) -> Vec<u8> {
    let mut out: Vec<u8> = addresses.iter().flat_map(|text| octets(text)).collect();
    out.extend(index.map(i32::to_ne_bytes).into_iter().flatten());
    out
}

fn storage(text: &str) -> Vec<u8> {
    let mut out = vec![0; 128];
    let octets = octets(text);
    let (family, at) = if octets.len() == 4 { (2, 4) } else { (10, 8) };
    out[0] = family;
    out[at..at + octets.len()].copy_from_slice(&octets);
    out
}

/// struct group_req, and with a source group_source_req.
fn group_req(index: u32, addresses: &[&str]) -> Vec<u8> {
    let mut out = [index.to_ne_bytes(), [0; 4]].concat();
    out.extend(addresses.iter().flat_map(|text| storage(text)));
    out
}

struct Caller<'a> {
    world: &'a mut World,
    host: usize,
}

impl Caller<'_> {
    fn open(&mut self, v6: bool, ty: i32) -> SocketId {
        let family = if v6 { 10 } else { 2 };
        self.sockets().socket(family, ty, 0).unwrap()
    }

    fn sockets(&mut self) -> &mut Sockets {
        &mut self.world.hosts[self.host]
    }

    fn set(&mut self, id: SocketId, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        let now = self.world.now;
        self.sockets().set_option(now, id, level, name, value)
    }

    fn on(&mut self, id: SocketId, level: i32, name: i32, value: i32) {
        self.set(id, level, name, &value.to_ne_bytes()).unwrap();
    }

    /// A socket bound with SO_REUSEADDR.
    fn bound(&mut self, v6: bool, at: &str) -> SocketId {
        let id = self.open(v6, DGRAM);
        self.on(id, SOL_SOCKET, SO_REUSEADDR, 1);
        let at: SocketAddr = at.parse().unwrap();
        self.sockets().bind(id, at).unwrap();
        id
    }

    fn send(&mut self, id: SocketId, to: &str, payload: &[u8]) -> Result<usize, Errno> {
        let now = self.world.now;
        let to = to.parse().map_err(|_| Errno::EFAULT)?;
        self.sockets().udp_send(now, id, Some(to), payload)
    }

    /// Sources, payloads and interfaces of what has come.
    fn got(&mut self, id: SocketId) -> Vec<(String, Vec<u8>, Link)> {
        let sockets = self.sockets();
        std::iter::from_fn(|| sockets.udp_recv(id))
            .map(|datagram| {
                let from = datagram.from.ip().to_canonical().to_string();
                (from, datagram.payload, datagram.link)
            })
            .collect()
    }
}

fn here(world: &mut World) -> Caller<'_> {
    Caller { world, host: 0 }
}

fn there(world: &mut World) -> Caller<'_> {
    Caller { world, host: 1 }
}

#[test]
fn joining_and_leaving_answer_as_linux() {
    let (ok, inval) = (Ok(()), Err(Errno::EINVAL));
    let (used, none) = (Err(Errno::EADDRINUSE), Err(Errno::EADDRNOTAVAIL));
    let nodev = Err(Errno::ENODEV);
    let any = |group: &str| mreq(&[group, "0.0.0.0"], None);
    let rows: Vec<(i32, Vec<u8>, Result<(), Errno>)> = vec![
        (IP_ADD_MEMBERSHIP, any(GROUP), ok),
        (IP_ADD_MEMBERSHIP, any(GROUP), used),
        (IP_ADD_MEMBERSHIP, mreq(&[GROUP, "10.9.0.1"], None), used),
        (IP_ADD_MEMBERSHIP, mreq(&[GROUP, "127.0.0.1"], None), ok),
        (
            IP_ADD_MEMBERSHIP,
            mreq(&["239.1.1.2", "10.99.0.1"], None),
            nodev,
        ),
        (IP_ADD_MEMBERSHIP, any("10.9.0.5"), inval),
        (IP_ADD_MEMBERSHIP, octets(GROUP), inval),
        (
            IP_ADD_MEMBERSHIP,
            mreq(&["239.1.1.4", "0.0.0.0"], Some(2)),
            ok,
        ),
        (
            IP_ADD_MEMBERSHIP,
            mreq(&["239.1.1.5", "0.0.0.0"], Some(99)),
            nodev,
        ),
        (
            IP_ADD_MEMBERSHIP,
            mreq(&["239.1.1.5", "0.0.0.0"], Some(-1)),
            nodev,
        ),
        (IP_DROP_MEMBERSHIP, any(GROUP), ok),
        (IP_DROP_MEMBERSHIP, any(GROUP), none),
        (IP_DROP_MEMBERSHIP, any("10.1.1.4"), none),
        (
            IP_DROP_MEMBERSHIP,
            mreq(&["239.1.1.4", "10.99.0.1"], None),
            none,
        ),
        (IP_DROP_MEMBERSHIP, vec![0; 4], inval),
        (MCAST_JOIN_GROUP, group_req(1, &[GROUP]), used),
        (MCAST_JOIN_GROUP, group_req(0, &[GROUP]), ok),
        (MCAST_JOIN_GROUP, group_req(0, &[GROUP6]), inval),
        (
            MCAST_JOIN_GROUP,
            group_req(0, &[GROUP])[..100].to_vec(),
            inval,
        ),
        (MCAST_JOIN_GROUP, group_req(99, &["239.1.1.9"]), nodev),
        (MCAST_LEAVE_GROUP, group_req(0, &[GROUP]), ok),
        (MCAST_LEAVE_GROUP, group_req(0, &[GROUP]), none),
    ];
    let mut world = World::new();
    let mut caller = here(&mut world);
    let id = caller.open(false, DGRAM);
    for (at, (name, value, expected)) in rows.into_iter().enumerate() {
        assert_eq!(caller.set(id, SOL_IP, name, &value), expected, "row {at}");
    }
    let full = caller.open(false, DGRAM);
    for number in 0..20 {
        let group = format!("239.2.0.{number}");
        assert_eq!(
            caller.set(full, SOL_IP, IP_ADD_MEMBERSHIP, &any(&group)),
            ok
        );
    }
    let more = caller.set(full, SOL_IP, IP_ADD_MEMBERSHIP, &any(GROUP));
    assert_eq!(more, Err(Errno::ENOBUFS));
    let again = caller.set(full, SOL_IP, IP_ADD_MEMBERSHIP, &any("239.2.0.1"));
    assert_eq!(again, used);
    let stream = caller.open(false, STREAM);
    let proto = Err(Errno::EPROTO);
    assert_eq!(
        caller.set(stream, SOL_IP, IP_ADD_MEMBERSHIP, &any(GROUP)),
        proto
    );
    assert_eq!(caller.set(stream, SOL_IP, IP_ADD_MEMBERSHIP, b"123"), proto);
    assert_eq!(
        caller.set(stream, SOL_IP, MCAST_JOIN_GROUP, &group_req(0, &[GROUP])),
        ok
    );
}

#[test]
fn sources_answer_as_linux() {
    let (ok, inval) = (Ok(()), Err(Errno::EINVAL));
    let (none, used) = (Err(Errno::EADDRNOTAVAIL), Err(Errno::EADDRINUSE));
    let any = mreq(&[GROUP, "0.0.0.0"], None);
    let of = |source: &str| mreq(&[GROUP, "0.0.0.0", source], None);
    let (nine, eight, seven) = (of("10.9.0.9"), of("10.9.0.8"), of("10.9.0.7"));
    let rows: Vec<(i32, &[u8], Result<(), Errno>)> = vec![
        (IP_BLOCK_SOURCE, &nine, inval),
        (IP_UNBLOCK_SOURCE, &nine, inval),
        (IP_DROP_SOURCE_MEMBERSHIP, &nine, inval),
        (IP_ADD_SOURCE_MEMBERSHIP, &nine, ok),
        (IP_ADD_SOURCE_MEMBERSHIP, &nine, none),
        (IP_ADD_SOURCE_MEMBERSHIP, &eight, ok),
        (IP_ADD_MEMBERSHIP, &any, used),
        (IP_BLOCK_SOURCE, &nine, inval),
        (IP_DROP_SOURCE_MEMBERSHIP, &seven, none),
        (IP_DROP_SOURCE_MEMBERSHIP, &nine, ok),
        (IP_DROP_SOURCE_MEMBERSHIP, &eight, ok),
        (IP_DROP_SOURCE_MEMBERSHIP, &eight, inval),
        (IP_ADD_MEMBERSHIP, &any, ok),
        (IP_ADD_SOURCE_MEMBERSHIP, &nine, ok),
        (IP_DROP_SOURCE_MEMBERSHIP, &nine, ok),
        (IP_BLOCK_SOURCE, &nine, inval),
        (IP_DROP_MEMBERSHIP, &any, none),
        (IP_ADD_MEMBERSHIP, &any, ok),
        (IP_BLOCK_SOURCE, &nine, ok),
        (IP_BLOCK_SOURCE, &nine, none),
        (IP_ADD_SOURCE_MEMBERSHIP, &seven, inval),
        (IP_UNBLOCK_SOURCE, &nine, ok),
        (IP_UNBLOCK_SOURCE, &nine, none),
        (IP_DROP_MEMBERSHIP, &any, ok),
    ];
    let mut world = World::new();
    let mut caller = here(&mut world);
    let id = caller.open(false, DGRAM);
    for (at, (name, value, expected)) in rows.into_iter().enumerate() {
        assert_eq!(caller.set(id, SOL_IP, name, value), expected, "row {at}");
    }
    for number in 0..10 {
        let value = of(&format!("10.9.1.{number}"));
        assert_eq!(caller.set(id, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &value), ok);
    }
    let more = caller.set(id, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &nine);
    assert_eq!(more, Err(Errno::ENOBUFS));
}

#[test]
fn filters_can_be_set_and_read() {
    let filter = |mode: u32, sources: &[&str]| {
        let mut out = mreq(&[GROUP, "0.0.0.0"], None);
        out.extend_from_slice(&mode.to_ne_bytes());
        out.extend_from_slice(&u32::try_from(sources.len()).unwrap().to_ne_bytes());
        out.extend(sources.iter().flat_map(|text| octets(text)));
        out
    };
    let mut world = World::new();
    let mut caller = here(&mut world);
    let id = caller.open(false, DGRAM);
    let one = filter(1, &["10.9.0.9", "10.9.0.8"]);
    let set = |caller: &mut Caller<'_>, value: &[u8]| caller.set(id, SOL_IP, IP_MSFILTER, value);
    let get = |caller: &mut Caller<'_>, room: &[&str]| {
        let asked = filter(9, room);
        caller
            .sockets()
            .get_filter(id, SOL_IP, IP_MSFILTER, &asked)
            .unwrap()
    };
    assert_eq!(set(&mut caller, &one), Err(Errno::EINVAL), "not joined");
    assert_eq!(get(&mut caller, &[]), Err(Errno::EADDRNOTAVAIL));
    let any = mreq(&[GROUP, "0.0.0.0"], None);
    caller.set(id, SOL_IP, IP_ADD_MEMBERSHIP, &any).unwrap();
    assert_eq!(get(&mut caller, &["1.1.1.1"]), Ok(filter(0, &[])));
    assert_eq!(set(&mut caller, &one), Ok(()));
    assert_eq!(get(&mut caller, &["1.1.1.1"; 3]), Ok(one.clone()));
    let mut cut = one;
    cut.truncate(20);
    assert_eq!(
        get(&mut caller, &["1.1.1.1"]),
        Ok(cut),
        "the count is the whole one"
    );
    assert_eq!(set(&mut caller, &filter(7, &[])), Err(Errno::EINVAL));
    assert_eq!(
        set(&mut caller, &filter(0, &["10.9.1.1"; 11])),
        Err(Errno::ENOBUFS)
    );
    assert_eq!(
        set(&mut caller, &filter(1, &[])),
        Ok(()),
        "to want none is to leave"
    );
    assert_eq!(get(&mut caller, &[]), Err(Errno::EADDRNOTAVAIL));
}

#[test]
fn joining_and_leaving_of_ipv6() {
    let (ok, inval) = (Ok(()), Err(Errno::EINVAL));
    let (used, none) = (Err(Errno::EADDRINUSE), Err(Errno::EADDRNOTAVAIL));
    let of = |group: &str, index: i32| mreq(&[group], Some(index));
    let rows: Vec<(i32, Vec<u8>, Result<(), Errno>)> = vec![
        (IPV6_ADD_MEMBERSHIP, of("ff02::5", 0), ok),
        (IPV6_ADD_MEMBERSHIP, of("ff02::5", 2), used),
        (IPV6_ADD_MEMBERSHIP, of("ff02::5", 1), ok),
        (IPV6_ADD_MEMBERSHIP, of("ff02::6", 99), Err(Errno::ENODEV)),
        (IPV6_ADD_MEMBERSHIP, of("fd09::5", 0), inval),
        (IPV6_ADD_MEMBERSHIP, octets("ff02::6"), inval),
        (IPV6_DROP_MEMBERSHIP, of("ff02::5", 0), ok),
        (IPV6_DROP_MEMBERSHIP, of("ff02::5", 0), ok),
        (IPV6_DROP_MEMBERSHIP, of("ff02::5", 0), none),
        (IPV6_DROP_MEMBERSHIP, of("fd09::5", 0), inval),
        (MCAST_JOIN_GROUP, group_req(0, &[GROUP]), none),
        (
            MCAST_JOIN_SOURCE_GROUP,
            group_req(0, &[GROUP6, "fd09::9"]),
            ok,
        ),
        (
            MCAST_JOIN_SOURCE_GROUP,
            group_req(0, &[GROUP6, "fd09::9"]),
            none,
        ),
        (
            MCAST_BLOCK_SOURCE,
            group_req(0, &[GROUP6, "fd09::9"]),
            inval,
        ),
        (
            MCAST_LEAVE_SOURCE_GROUP,
            group_req(0, &[GROUP6, "fd09::9"]),
            ok,
        ),
        (
            MCAST_LEAVE_SOURCE_GROUP,
            group_req(0, &[GROUP6, "fd09::9"]),
            inval,
        ),
    ];
    let mut world = World::new();
    let mut caller = here(&mut world);
    let id = caller.open(true, DGRAM);
    for (at, (name, value, expected)) in rows.into_iter().enumerate() {
        assert_eq!(caller.set(id, SOL_IPV6, name, &value), expected, "row {at}");
    }
    let stream = caller.open(true, STREAM);
    let joined = caller.set(stream, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &of(GROUP6, 0));
    assert_eq!(joined, Err(Errno::EPROTO));
}

#[test]
fn the_interface_of_groups() {
    let (ok, none) = (Ok(()), Err(Errno::EADDRNOTAVAIL));
    let inval = Err(Errno::EINVAL);
    let rows: Vec<(Vec<u8>, Result<(), Errno>, &str)> = vec![
        (octets("10.9.0.1"), ok, "10.9.0.1"),
        (octets("127.0.0.2"), ok, "127.0.0.2"),
        (octets("10.99.0.1"), none, "127.0.0.2"),
        (octets("0.0.0.0"), ok, "0.0.0.0"),
        (mreq(&["0.0.0.0", "10.9.0.1"], None), ok, "10.9.0.1"),
        (mreq(&["0.0.0.0", "0.0.0.0"], Some(1)), ok, "0.0.0.0"),
        (mreq(&["0.0.0.0", "10.9.0.1"], Some(1)), ok, "10.9.0.1"),
        (mreq(&["0.0.0.0", "0.0.0.0"], Some(99)), none, "10.9.0.1"),
        (vec![1, 2, 3], inval, "10.9.0.1"),
    ];
    let mut world = World::new();
    let mut caller = here(&mut world);
    let id = caller.open(false, DGRAM);
    for (at, (value, expected, shown)) in rows.into_iter().enumerate() {
        let set = caller.set(id, SOL_IP, IP_MULTICAST_IF, &value);
        assert_eq!(set, expected, "row {at}");
        let now = caller.world.now;
        let value = caller
            .sockets()
            .get_option(now, id, SOL_IP, IP_MULTICAST_IF);
        assert_eq!(value.unwrap().as_bytes(), octets(shown), "row {at}");
    }
    let bound = caller.open(false, DGRAM);
    caller
        .set(bound, SOL_SOCKET, SO_BINDTODEVICE, b"lo\0")
        .unwrap();
    let set = caller.set(bound, SOL_IP, IP_MULTICAST_IF, &octets("10.9.0.1"));
    assert_eq!(set, inval);
    let bound = caller.open(true, DGRAM);
    caller
        .set(bound, SOL_SOCKET, SO_BINDTODEVICE, b"lo\0")
        .unwrap();
    let index = 2_i32.to_ne_bytes();
    assert_eq!(
        caller.set(bound, SOL_IPV6, IPV6_MULTICAST_IF, &index),
        inval
    );
}

/// Who gets what this host sends to a group, and by which interface.
#[test]
fn local_members_of_every_kind() {
    let mut world = World::new();
    let mut caller = here(&mut world);
    let wildcard = caller.bound(false, "0.0.0.0:5001");
    let member = caller.bound(false, "0.0.0.0:5001");
    let at_group = caller.bound(false, "239.1.1.1:5001");
    let strict = caller.bound(false, "0.0.0.0:5001");
    let unicast = caller.bound(false, "10.9.0.1:5001");
    let on_lo = caller.bound(false, "0.0.0.0:5001");
    let dual = caller.bound(true, "[::]:5001");
    let all = [wildcard, member, at_group, strict, unicast, on_lo, dual];
    for id in [strict, on_lo] {
        caller.on(id, SOL_IP, IP_MULTICAST_ALL, 0);
    }
    let any = mreq(&[GROUP, "0.0.0.0"], None);
    caller.set(member, SOL_IP, IP_ADD_MEMBERSHIP, &any).unwrap();
    let lo = mreq(&[GROUP, "127.0.0.1"], None);
    caller.set(on_lo, SOL_IP, IP_ADD_MEMBERSHIP, &lo).unwrap();
    let sender = caller.open(false, DGRAM);
    let who = |caller: &mut Caller<'_>, to: &str| -> (Vec<bool>, Vec<(String, Link)>) {
        assert_eq!(caller.send(sender, to, b"x"), Ok(1));
        let got: Vec<_> = all.iter().map(|id| caller.got(*id)).collect();
        let first = got
            .iter()
            .flatten()
            .map(|(from, _, link)| (from.clone(), *link));
        let mut told: Vec<_> = first.collect();
        told.dedup();
        (got.iter().map(|got| got.len() == 1).collect(), told)
    };
    let group = "239.1.1.1:5001";
    let expected = [true, true, true, false, false, false, false];
    let by_overlay = vec![("10.9.0.1".to_owned(), Link::Overlay)];
    assert_eq!(who(&mut caller, group), (expected.to_vec(), by_overlay));
    // Groups that nobody here has joined are not received; the one of all hosts always.
    assert_eq!(who(&mut caller, "239.1.1.9:5001").0, [false; 7]);
    let expected = [true, true, false, false, false, false, false];
    assert_eq!(who(&mut caller, "224.0.0.1:5001").0, expected);
    caller.on(sender, SOL_IP, IP_MULTICAST_LOOP, 0);
    assert_eq!(who(&mut caller, group).0, [false; 7]);
    // On lo it comes back whatever the option says.
    caller
        .set(sender, SOL_IP, IP_MULTICAST_IF, &octets("127.0.0.1"))
        .unwrap();
    let expected = [true, true, true, false, false, true, false];
    let by_lo = vec![("127.0.0.1".to_owned(), Link::Loopback)];
    assert_eq!(who(&mut caller, group), (expected.to_vec(), by_lo));
    let by_index = mreq(&["0.0.0.0", "0.0.0.0"], Some(1));
    caller
        .set(sender, SOL_IP, IP_MULTICAST_IF, &by_index)
        .unwrap();
    assert_eq!(
        who(&mut caller, group).1,
        [("10.9.0.1".to_owned(), Link::Loopback)]
    );
    // Membership ends with the socket.
    let now = caller.world.now;
    for id in [member, on_lo] {
        caller.sockets().close(now, id, CloseHow::Graceful);
    }
    assert_eq!(who(&mut caller, group).0, [false; 7]);
}

#[test]
fn sources_are_filtered_by_socket() {
    let mut world = World::new();
    let mut caller = here(&mut world);
    let mut with = |name: Option<i32>, source: &str| {
        let id = caller.bound(false, "0.0.0.0:5005");
        let any = mreq(&[GROUP, "0.0.0.0"], None);
        let of = mreq(&[GROUP, "0.0.0.0", source], None);
        if name != Some(IP_ADD_SOURCE_MEMBERSHIP) {
            caller.set(id, SOL_IP, IP_ADD_MEMBERSHIP, &any).unwrap();
        }
        if let Some(name) = name {
            caller.set(id, SOL_IP, name, &of).unwrap();
        }
        id
    };
    let ids = [
        with(Some(IP_ADD_SOURCE_MEMBERSHIP), "10.9.0.1"),
        with(Some(IP_ADD_SOURCE_MEMBERSHIP), "10.9.0.9"),
        with(Some(IP_BLOCK_SOURCE), "10.9.0.1"),
        with(None, "10.9.0.1"),
    ];
    let sender = caller.open(false, DGRAM);
    caller.send(sender, "239.1.1.1:5005", b"x").unwrap();
    let got = ids.map(|id| caller.got(id).len());
    assert_eq!(got, [1, 0, 0, 1]);
}

#[test]
fn broadcasts() {
    let mut world = World::new();
    let mut caller = here(&mut world);
    let ids = [
        caller.bound(false, "0.0.0.0:6001"),
        caller.bound(false, "255.255.255.255:6001"),
        caller.bound(false, "10.9.0.255:6001"),
        caller.bound(false, "10.9.0.1:6001"),
        caller.bound(false, "127.0.0.1:6001"),
        caller.bound(true, "[::]:6001"),
    ];
    let sender = caller.open(false, DGRAM);
    for to in [
        "255.255.255.255:6001",
        "10.9.0.255:6001",
        "127.255.255.255:6001",
    ] {
        assert_eq!(caller.send(sender, to, b"x"), Err(Errno::EACCES), "{to}");
        let now = caller.world.now;
        let connect = ConnectTo::Address(to.parse().unwrap());
        let refused = caller.sockets().connect(now, sender, connect);
        assert_eq!(refused.unwrap_err(), Errno::EACCES, "{to}");
    }
    caller.on(sender, SOL_SOCKET, SO_BROADCAST, 1);
    for (to, expected, from, link) in [
        (
            "255.255.255.255:6001",
            [1, 1, 0, 0, 0, 1],
            "10.9.0.1",
            Link::Overlay,
        ),
        (
            "10.9.0.255:6001",
            [1, 0, 1, 0, 0, 1],
            "10.9.0.1",
            Link::Overlay,
        ),
        (
            "127.255.255.255:6001",
            [1, 0, 0, 0, 0, 1],
            "127.0.0.1",
            Link::Loopback,
        ),
    ] {
        assert_eq!(caller.send(sender, to, b"x"), Ok(1));
        let got = ids.map(|id| caller.got(id));
        assert_eq!(got[0], [(from.to_owned(), b"x".to_vec(), link)], "{to}");
        assert_eq!(got.map(|got| got.len()), expected, "{to}");
    }
    // What is left goes to the other host.
    world.run();
    let mut caller = there(&mut world);
    let far = caller.bound(false, "0.0.0.0:6001");
    let mut caller = here(&mut world);
    caller.send(sender, "10.9.0.255:6001", b"y").unwrap();
    caller.send(sender, "127.255.255.255:6001", b"z").unwrap();
    world.run();
    let got = there(&mut world).got(far);
    assert_eq!(got, [("10.9.0.1".to_owned(), b"y".to_vec(), Link::Overlay)]);
}

#[test]
fn groups_reach_members_on_the_other_host_of_both_families() {
    let mut world = World::new();
    for v6 in [false, true] {
        let (level, name, any, to, value) = if v6 {
            let value = mreq(&[GROUP6], Some(0));
            (
                SOL_IPV6,
                IPV6_ADD_MEMBERSHIP,
                "[::]:7001",
                "[ff15::5]:7001",
                value,
            )
        } else {
            let value = mreq(&[GROUP, "0.0.0.0"], None);
            (
                SOL_IP,
                IP_ADD_MEMBERSHIP,
                "0.0.0.0:7001",
                "239.1.1.1:7001",
                value,
            )
        };
        let mut caller = there(&mut world);
        let members = [caller.bound(v6, any), caller.bound(v6, any)];
        let sender = here(&mut world).open(v6, DGRAM);
        here(&mut world).send(sender, to, b"0").unwrap();
        world.run();
        assert_eq!(there(&mut world).got(members[0]), [], "nobody has joined");
        there(&mut world)
            .set(members[0], level, name, &value)
            .unwrap();
        here(&mut world).send(sender, to, b"1").unwrap();
        world.run();
        // The other socket is no member, but hears all groups.
        for id in members {
            let [(_, payload, link)] = &there(&mut world).got(id)[..] else {
                panic!("{v6}: not one datagram");
            };
            assert_eq!((payload.as_slice(), *link), (&b"1"[..], Link::Overlay));
        }
        // A hop limit of 0 stays on the host, and nothing is answered with an error.
        let hops = if v6 {
            IPV6_MULTICAST_HOPS
        } else {
            IP_MULTICAST_TTL
        };
        here(&mut world).on(sender, level, hops, 0);
        here(&mut world).send(sender, to, b"2").unwrap();
        world.run();
        assert_eq!(there(&mut world).got(members[0]), []);
        let error = here(&mut world).sockets().take_error(sender);
        assert_eq!(error, None);
    }
}

#[test]
fn ipv6_groups_need_their_interface() {
    let mut world = World::new();
    let mut caller = here(&mut world);
    let id = caller.open(true, DGRAM);
    let net = Err(Errno::ENETUNREACH);
    assert_eq!(caller.send(id, "[ff02::1%2]:7001", b"x"), Ok(1));
    assert_eq!(caller.send(id, "[ff02::1%1]:7001", b"x"), net);
    assert_eq!(caller.send(id, "[ff02::1%99]:7001", b"x"), net);
    caller.on(id, SOL_IPV6, IPV6_MULTICAST_IF, 1);
    assert_eq!(caller.send(id, "[ff15::5]:7001", b"x"), net);
    caller.on(id, SOL_IPV6, IPV6_MULTICAST_IF, 0);
    let now = caller.world.now;
    let connect = ConnectTo::Address("[ff02::5]:7001".parse().unwrap());
    let refused = caller.sockets().connect(now, id, connect);
    assert_eq!(refused.unwrap_err(), Errno::EINVAL);
    let connect = ConnectTo::Address("[ff15::5]:7001".parse().unwrap());
    assert!(caller.sockets().connect(now, id, connect).is_ok());
    let local = caller.sockets().local_address(id).unwrap();
    assert_eq!(local.ip(), "fd09::1".parse::<IpAddr>().unwrap());
}

/// A sender knows after three seconds who is a member; what peers have reported is forgotten in time, and silence is silence.
#[test]
fn nothing_is_said_while_nobody_sends() {
    let mut world = World::new();
    let mut caller = there(&mut world);
    let member = caller.bound(false, "0.0.0.0:7001");
    let any = mreq(&[GROUP, "0.0.0.0"], None);
    caller.set(member, SOL_IP, IP_ADD_MEMBERSHIP, &any).unwrap();
    let sender = here(&mut world).open(false, DGRAM);
    for _ in 0..200 {
        here(&mut world)
            .send(sender, "239.1.1.1:7001", b"x")
            .unwrap();
        world.run_for(Duration::from_secs(2));
    }
    assert_eq!(there(&mut world).got(member).len(), 200);
    world.run_for(Duration::from_secs(5));
    let said = |world: &World| {
        let out = |host: usize| world.hosts[host].stack().counters().packets_out;
        (out(0), out(1))
    };
    let before = said(&world);
    world.run_for(Duration::from_secs(1000));
    assert_eq!(said(&world), before);
}

/// Whatever the bytes and however many, there is an answer, and the engine goes on.
#[test]
fn no_value_is_dangerous() {
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % below
    };
    let mut world = World::new();
    let mut caller = here(&mut world);
    let ids = [
        caller.open(false, DGRAM),
        caller.open(true, DGRAM),
        caller.open(true, STREAM),
    ];
    let seeds = [
        group_req(0, &[GROUP, "10.9.0.9", "10.9.0.8"]),
        group_req(2, &[GROUP6, "fd09::9", "fd09::8"]),
        mreq(&[GROUP, "0.0.0.0", "10.9.0.9", "10.9.0.8"], Some(0)),
        mreq(&[GROUP6], Some(0)),
    ];
    for _ in 0..20_000 {
        let level = if random(2) == 0 { SOL_IP } else { SOL_IPV6 };
        let name = i32::try_from(random(50)).unwrap();
        let mut value = seeds[usize::try_from(random(4)).unwrap()].clone();
        value.resize(usize::try_from(random(600)).unwrap(), 0);
        for _ in 0..random(4) {
            let at = random(value.len() as u64 + 1);
            if let Some(byte) = value.get_mut(usize::try_from(at).unwrap()) {
                *byte = u8::try_from(random(256)).unwrap();
            }
        }
        let id = ids[usize::try_from(random(3)).unwrap()];
        let _ = caller.set(id, level, name, &value);
        let _ = caller.sockets().get_filter(id, level, name, &value);
        let now = caller.world.now;
        let _ = caller.sockets().get_option(now, id, level, name);
    }
    let now = caller.world.now;
    for id in ids {
        caller.sockets().close(now, id, CloseHow::Graceful);
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.hosts[0].stack().poll_timeout(), None);
}
