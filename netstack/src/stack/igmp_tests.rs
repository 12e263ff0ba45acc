// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn parse(packet: &[u8]) -> Option<Message> {
    Message::parse(&IpPacket::parse(packet)?)
}

fn record(kind: Kind, group: &str, sources: &[&str]) -> Record {
    Record {
        kind,
        group: ip(group),
        sources: sources.iter().map(|source| ip(source)).collect(),
    }
}

type Row = (Kind, &'static str, &'static [&'static str]);

/// Packets that Linux 6.18 sends when its programs join and leave.
const OF_LINUX: [(&str, &str, &[Row]); 4] = [
    (
        "10.77.0.1",
        "46c00028000040000102f9ab0a4d0001e0000016940400002200e9fb0000000104000000ef010101",
        &[(Kind::ToExclude, "239.1.1.1", &[])],
    ),
    (
        "10.77.0.1",
        "46c00034000040000102f99f0a4d0001e0000016940400002200ea9f0000000205000001ef0101020a4d000904000000ef010101",
        &[
            (Kind::Allow, "239.1.1.2", &["10.77.0.9"]),
            (Kind::ToExclude, "239.1.1.1", &[]),
        ],
    ),
    (
        "fe80::1",
        "6000000000240001fe800000000000000000000000000001ff0200000000000000000000000000163a000502000001008f006ff20000000104000000ff150000000000000000000000000005",
        &[(Kind::ToExclude, "ff15::5", &[])],
    ),
    (
        "fe80::1",
        "6000000000240001fe800000000000000000000000000001ff0200000000000000000000000000163a000502000001008f0070f20000000103000000ff150000000000000000000000000005",
        &[(Kind::ToInclude, "ff15::5", &[])],
    ),
];

#[test]
fn reports_are_those_of_linux() {
    for (from, packet, rows) in OF_LINUX {
        let records: Vec<_> = rows
            .iter()
            .map(|(kind, group, sources)| record(*kind, group, sources))
            .collect();
        assert_eq!(reports(ip(from), &records, 1420), [hex(packet)]);
        assert_eq!(parse(&hex(packet)), Some(Message::Report(records)));
    }
}

#[test]
fn what_is_written_can_be_read() {
    for (from, group, to) in [
        ("10.77.0.1", "239.1.1.1", "224.0.0.2"),
        ("fd77::1", "ff15::5", "ff02::2"),
    ] {
        let (from, group_ip) = (ip(from), ip(group));
        let asked = query(from, group_ip);
        assert_eq!(
            parse(&asked),
            Some(Message::Query {
                version: Version::Three,
                group: Some(group_ip),
                sources: Vec::new(),
                within: Duration::from_secs(1),
            })
        );
        let join = old_report(from, &record(Kind::ToExclude, group, &[]), Version::Two).unwrap();
        assert_eq!(IpPacket::parse(&join).unwrap().dst, group_ip);
        assert_eq!(
            parse(&join),
            Some(Message::Report(vec![record(Kind::IsExclude, group, &[])]))
        );
        let leave = old_report(from, &record(Kind::ToInclude, group, &[]), Version::Two).unwrap();
        assert_eq!(IpPacket::parse(&leave).unwrap().dst, ip(to));
        assert_eq!(
            parse(&leave),
            Some(Message::Report(vec![record(Kind::ToInclude, group, &[])]))
        );
        let first = old_report(from, &record(Kind::ToInclude, group, &[]), Version::One);
        assert_eq!(first.is_none(), from.is_ipv4(), "IGMPv1 has no leave");
    }
}

#[test]
fn older_queries_are_told_apart() {
    let body = |code: u8| {
        packet(
            ip("10.77.0.1"),
            ip("224.0.0.1"),
            &[0x11, code, 0, 0, 0, 0, 0, 0],
        )
    };
    let of = |code| match parse(&body(code)) {
        Some(Message::Query {
            version, within, ..
        }) => (version, within.as_millis()),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(0), (Version::One, 10_000));
    assert_eq!(of(100), (Version::Two, 10_000));
    assert_eq!(decode(0x7f, 7, 4), 127);
    assert_eq!(decode(0x80, 7, 4), 128);
    assert_eq!(decode(0xff, 7, 4), 31 << 10);
    assert_eq!(decode(0x8000, 15, 12), 32_768);
}

#[test]
fn long_reports_are_cut_at_records_and_long_lists_are_not_told() {
    let records: Vec<_> = (0..400_u32)
        .map(|n| {
            record(
                Kind::IsExclude,
                &format!("239.0.{}.{}", n / 200, n % 200),
                &[],
            )
        })
        .collect();
    let packets = reports(ip("10.77.0.1"), &records, 1420);
    assert!(packets.len() > 1 && packets.iter().all(|packet| packet.len() <= 1420));
    let told: usize = packets
        .iter()
        .map(|packet| match parse(packet) {
            Some(Message::Report(records)) => records.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    // A message with more records than are read would be lost.
    assert_eq!(told, 400);
    let sources = (0..65).map(|n| IpAddr::V4(Ipv4Addr::new(10, 77, 1, n)));
    let long = Record {
        kind: Kind::ToInclude,
        group: ip("239.1.1.1"),
        sources: sources.collect(),
    };
    assert_eq!(long.told(), record(Kind::ToExclude, "239.1.1.1", &[]));
}

#[test]
fn damaged_messages_are_none_and_nothing_panics() {
    let mut state = 1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    for (_, packet, _) in OF_LINUX {
        let good = hex(packet);
        for at in 0..good.len() {
            let _ = parse(&good[..at]);
            // One bit is always noticed behind the IP header; in it, by other means or not at all.
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            let behind = if good[0] >> 4 == 4 { 24 } else { 48 };
            assert!(at < behind || parse(&bad).is_none(), "{packet}: byte {at}");
        }
        for _ in 0..3000 {
            let mut bad = good.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % bad.len();
                bad[at] = u8::try_from(random() % 256).unwrap();
            }
            bad.truncate(bad.len() - random() % 8);
            let Some(ip) = IpPacket::parse(&bad) else {
                continue;
            };
            // Behind the checksums too.
            let _ = Message::parse(&ip);
            let _ = parse_v4(ip.payload);
            let _ = parse_v6(ip.payload);
        }
    }
    let mut far = hex(OF_LINUX[0].1);
    far[8] = 2;
    assert_eq!(parse(&far), None, "it has passed a router");
}
