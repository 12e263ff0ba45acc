// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::wire::{u16_at, u32_at};
use super::*;
use crate::interfaces::NetworkView;

fn view() -> View {
    View::Network(NetworkView {
        mtu: 1420,
        v4: Some((Ipv4Addr::new(10, 77, 0, 1), 24)),
        v6: Some(("fd77::1".parse().unwrap(), 64)),
        routes: vec![
            ("10.77.0.2".parse().unwrap(), 32),
            ("10.77.0.0".parse().unwrap(), 24),
            ("fd77::2".parse().unwrap(), 128),
        ],
        ..NetworkView::default()
    })
}

fn socket() -> Netlink {
    let mut socket = Netlink::new(3, 0).unwrap();
    socket.bound(4711, 0);
    socket
}

fn request(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    let header = Header {
        kind,
        flags,
        seq: 5,
        port: 0,
    };
    writer.message(header, |body| {
        body.raw(payload);
    });
    writer.take()
}

fn answers(socket: &mut Netlink) -> Vec<(Header, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(reply) = socket.poll_reply() {
        all.extend(messages(&reply).map(|m| (m.header, m.payload().to_vec())));
    }
    all
}

fn dump(kind: u16, payload: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut socket = socket();
    socket.handle_request(&view(), &request(kind, NLM_F_REQUEST | NLM_F_DUMP, payload));
    let mut all = answers(&mut socket);
    let (header, end) = all.pop().unwrap();
    assert_eq!(
        (header.kind, header.seq, header.port),
        (NLMSG_DONE, 5, 4711)
    );
    assert_eq!(end, 0_i32.to_ne_bytes());
    assert!(all.iter().all(|(header, _)| header.flags & NLM_F_MULTI != 0
        && header.seq == 5
        && header.port == 4711));
    all
}

fn error(answers: &[(Header, Vec<u8>)]) -> i32 {
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0.kind, NLMSG_ERROR);
    -u32_at(&answers[0].1, 0).unwrap().cast_signed()
}

#[test]
fn two_links_are_listed() {
    let links = dump(RTM_GETLINK, &[0; 16]);
    let names: Vec<_> = links
        .iter()
        .map(|(_, payload)| attribute(&payload[16..], 3).unwrap().to_vec())
        .collect();
    assert_eq!(names, [b"lo\0".to_vec(), b"netcon0\0".to_vec()]);
    let mtu = attribute(&links[1].1[16..], 4).unwrap();
    assert_eq!(u32_at(mtu, 0), Some(1420));
    assert_eq!(u16_at(&links[1].1, 2), Some(0xfffe));
}

#[test]
fn addresses_are_listed_by_family() {
    let all = dump(RTM_GETADDR, &[0; 8]);
    let shown: Vec<_> = all
        .iter()
        .map(|(_, p)| (p[0], p[1], u32_at(p, 4).unwrap()))
        .collect();
    assert_eq!(shown, [(2, 8, 1), (2, 24, 2), (10, 128, 1), (10, 64, 2)]);
    assert_eq!(dump(RTM_GETADDR, &[2, 0, 0, 0, 0, 0, 0, 0]).len(), 2);
    assert_eq!(dump(RTM_GETADDR, &[10, 0, 0, 0, 0, 0, 0, 0]).len(), 2);
}

#[test]
fn routes_are_listed_once_and_found() {
    let all = dump(RTM_GETROUTE, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let main: Vec<_> = all
        .iter()
        .filter(|(_, p)| p[4] == 254)
        .map(|(_, p)| (p[1], attribute(&p[12..], 1).unwrap().to_vec()))
        .collect();
    let groups = (4, vec![224, 0, 0, 0]);
    let expected = [(24, vec![10, 77, 0, 0]), (32, vec![10, 77, 0, 2]), groups];
    assert_eq!(main, expected);
    let of_kind = |kind: u8| {
        let routes = all.iter().filter(|(_, p)| p[7] == kind);
        let found: Vec<_> = routes
            .map(|(_, p)| attribute(&p[12..], 1).unwrap().to_vec())
            .collect();
        found
    };
    let broadcasts = [vec![10, 77, 0, 255], vec![127, 255, 255, 255]];
    assert_eq!(of_kind(3), broadcasts);

    let ask = |to: [u8; 4]| {
        let mut socket = socket();
        let mut payload = vec![2, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 1, 0];
        payload.extend_from_slice(&to);
        socket.handle_request(&view(), &request(RTM_GETROUTE, NLM_F_REQUEST, &payload));
        answers(&mut socket)
    };
    let found = ask([10, 77, 0, 2]);
    assert_eq!(
        attribute(&found[0].1[12..], 7),
        Some([10, 77, 0, 1].as_slice())
    );
    assert_eq!(
        attribute(&found[0].1[12..], 4),
        Some(2_u32.to_ne_bytes().as_slice())
    );
    assert_eq!(error(&ask([8, 8, 8, 8])), Errno::ENETUNREACH.0);
    for (to, kind) in [([239, 1, 1, 1], 5), ([10, 77, 0, 255], 3)] {
        let found = ask(to);
        assert_eq!(found[0].1[7], kind);
        assert_eq!(
            attribute(&found[0].1[12..], 7),
            Some([10, 77, 0, 1].as_slice())
        );
    }
}

#[test]
fn nothing_can_be_configured() {
    for kind in [16_u16, 17, 19, 20, 21, 24, 25, 28, 32, 36] {
        let mut socket = socket();
        socket.handle_request(&view(), &request(kind, NLM_F_REQUEST, &[0; 16]));
        assert_eq!(error(&answers(&mut socket)), Errno::EPERM.0, "type {kind}");
        socket.handle_request(
            &View::Nothing,
            &request(kind, NLM_F_REQUEST | NLM_F_ACK, &[0; 16]),
        );
        let own = matches!(kind, 16 | 19 | 20);
        assert_eq!(
            error(&answers(&mut socket)) == 0,
            own,
            "type {kind} in an own namespace"
        );
    }
}

#[test]
fn one_link_is_found_by_name_or_number() {
    let ask = |index: u32, name: &[u8]| {
        let mut payload = vec![0; 16];
        payload[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut writer = Writer::default();
        let header = Header {
            kind: RTM_GETLINK,
            flags: NLM_F_REQUEST,
            seq: 1,
            port: 0,
        };
        writer.message(header, |body| {
            body.raw(&payload).attribute(3, name);
        });
        let mut socket = socket();
        socket.handle_request(&view(), &writer.take());
        answers(&mut socket)
    };
    assert_eq!(u32_at(&ask(0, b"netcon0\0")[0].1, 4), Some(2));
    assert_eq!(u32_at(&ask(1, b"")[0].1, 4), Some(1));
    assert_eq!(error(&ask(0, b"eth0\0")), Errno::ENODEV.0);
    assert_eq!(error(&ask(7, b"")), Errno::ENODEV.0);
}

#[test]
fn answers_nobody_takes_are_bounded() {
    let mut socket = socket();
    let ask = request(RTM_GETLINK, NLM_F_REQUEST, &[1; 16]);
    for _ in 0..3000 {
        socket.handle_request(&view(), &ask);
    }
    assert!(socket.waiting <= WAITING);
    assert_eq!(socket.take_error(), Some(Errno::ENOBUFS));
    assert_eq!(socket.take_error(), None);

    let mut socket = self::socket();
    let all = request(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, &[0; 16]);
    socket.handle_request(&view(), &all);
    socket.handle_request(&view(), &all);
    let last = answers(&mut socket).pop().unwrap();
    assert_eq!(last.0.kind, NLMSG_ERROR);
    assert_eq!(-u32_at(&last.1, 0).unwrap().cast_signed(), Errno::EBUSY.0);
}

#[test]
fn ten_thousand_routes_come_in_parts() {
    let mut network = NetworkView {
        v4: Some((Ipv4Addr::new(10, 0, 0, 1), 32)),
        ..NetworkView::default()
    };
    network.routes = (0..10_000_u32)
        .map(|i| (Ipv4Addr::from_bits(0x0a01_0000 + i).into(), 32))
        .collect();
    let mut socket = socket();
    let ask = request(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, &[0; 12]);
    socket.handle_request(&View::Network(network), &ask);
    let mut entries = 0;
    while let Some(reply) = socket.poll_reply() {
        assert!(reply.len() <= PART);
        entries += messages(&reply).filter(|m| m.header.kind == 24).count();
    }
    assert!(entries >= 10_000);
}

#[test]
fn options_and_addresses() {
    let mut socket = socket();
    assert_eq!(socket.get_option(1, 39).unwrap().as_int(), Some(16));
    assert_eq!(socket.get_option(1, 3).unwrap().as_int(), Some(3));
    socket.set_option(270, 12, &1_i32.to_ne_bytes()).unwrap();
    assert_eq!(socket.get_option(270, 12).unwrap().as_int(), Some(1));
    assert_eq!(
        socket.set_option(270, 1, &0_i32.to_ne_bytes()),
        Err(Errno::EINVAL)
    );
    socket.set_option(270, 1, &1_i32.to_ne_bytes()).unwrap();
    assert_eq!(
        socket.local_address(),
        Address {
            port: 4711,
            groups: 1
        }
    );
    assert_eq!(
        socket.set_option(1, 33, &1_i32.to_ne_bytes()),
        Err(Errno::EPERM)
    );
    assert_eq!(
        socket.bind(Address { port: 1, groups: 0 }),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        socket.bind(Address {
            port: 4711,
            groups: 0
        }),
        Ok(None)
    );
    assert_eq!(
        socket.connect(Some(Address { port: 9, groups: 0 })),
        Err(Errno::EPERM)
    );
    let address = Address { port: 7, groups: 3 };
    assert_eq!(Address::decode(&address.encode()), Ok(address));
    assert_eq!(Address::decode(&address.encode()[..11]), Err(Errno::EINVAL));
    assert_eq!(Address::decode(&[2; 12]), Err(Errno::EINVAL));
    assert_eq!(Netlink::new(3, 16).unwrap_err(), Errno::EPROTONOSUPPORT);
}

#[test]
fn any_bytes_are_survived() {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let mut socket = socket();
    for _ in 0..20_000 {
        let len = random.random_range(0..200);
        let mut bytes: Vec<u8> = (0..len).map(|_| random.random()).collect();
        if len >= 16 && random.random() {
            bytes[..4].copy_from_slice(&u32::try_from(len).unwrap().to_ne_bytes());
            bytes[4..6].copy_from_slice(&random.random_range(0..130_u16).to_ne_bytes());
            bytes[6..8].copy_from_slice(&random.random_range(0..0x400_u16).to_ne_bytes());
        }
        socket
            .set_option(270, 12, &i32::from(random.random::<bool>()).to_ne_bytes())
            .unwrap();
        socket.handle_request(&view(), &bytes);
        while socket.poll_reply().is_some() {}
    }
}
