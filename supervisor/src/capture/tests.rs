// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Captures of packets made by hand.

use super::*;

const WANTED: Wanted = Wanted {
    snaplen: LONGEST,
    count: None,
};

/// A datagram from 10.0.0.FROM to 10.0.0.TO, and ports of these numbers.
fn udp(from: u8, to: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend_from_slice(&[10, 0, 0, from, 10, 0, 0, to]);
    packet.extend_from_slice(&[0, from, 0, to, 0, 8, 0, 0]);
    packet
}

fn owners(sender: Option<u64>, receiver: Option<u64>) -> Owners {
    Owners {
        sender: sender.map(SocketId),
        receiver: receiver.map(SocketId),
    }
}

fn name(socket: SocketId) -> Option<String> {
    (socket.0 < 10).then(|| format!("program{}[1]", socket.0))
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(1_700_000_000 + seconds)
}

/// Everything that waits; and whether the file has ended.
fn read(receiver: &mut Receiver<Bytes>) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        match receiver.try_recv() {
            Ok(piece) => all.extend_from_slice(&piece),
            Err(tokio::sync::mpsc::error::TryRecvError::Empty) => return (all, false),
            Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => return (all, true),
        }
    }
}

/// Comments of the packets in a file, and the losses that its last statistics tell.
fn comments(mut file: &[u8]) -> (Vec<Option<String>>, u64) {
    let word = |at: usize, file: &[u8]| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
    let half = |at: usize, file: &[u8]| u16::from_ne_bytes(file[at..at + 2].try_into().unwrap());
    let mut all = Vec::new();
    let mut dropped = 0;
    while !file.is_empty() {
        let len = word(4, file) as usize;
        match word(0, file) {
            6 => {
                let kept = word(20, file) as usize;
                let options = 28 + kept.next_multiple_of(4);
                all.push((half(options, file) == 1).then(|| {
                    let size = usize::from(half(options + 2, file));
                    String::from_utf8(file[options + 4..options + 4 + size].to_vec()).unwrap()
                }));
            }
            5 => {
                let value = file[len - 16..len - 8].try_into().unwrap();
                dropped = u64::from_ne_bytes(value);
            }
            _ => {}
        }
        file = &file[len..];
    }
    (all, dropped)
}

fn show(captures: &mut Captures, direction: Direction, packet: &[u8], owners: Owners) {
    captures.packet(at(1), direction, packet, owners, name);
}

#[test]
fn packets_bear_the_names_of_programs() {
    let mut captures = Captures::default();
    let mut file = captures.begin("demo", WANTED, at(0)).unwrap();
    show(
        &mut captures,
        Direction::Outbound,
        &udp(1, 2),
        owners(Some(1), None),
    );
    show(
        &mut captures,
        Direction::Inbound,
        &udp(2, 1),
        owners(None, Some(1)),
    );
    show(
        &mut captures,
        Direction::Unsaid,
        &udp(3, 4),
        owners(Some(1), Some(2)),
    );
    // The socket is gone; its connection is remembered, whichever way the packet goes. Others are not mixed up with it.
    show(
        &mut captures,
        Direction::Inbound,
        &udp(2, 1),
        owners(None, None),
    );
    show(
        &mut captures,
        Direction::Inbound,
        &udp(2, 9),
        owners(None, None),
    );
    // A new program on the same ports.
    show(
        &mut captures,
        Direction::Outbound,
        &udp(1, 2),
        owners(Some(3), None),
    );
    show(
        &mut captures,
        Direction::Inbound,
        &udp(2, 1),
        owners(None, None),
    );
    show(&mut captures, Direction::Inbound, b"", owners(None, None));
    captures.flush(at(2));
    let (bytes, ended) = read(&mut file);
    assert!(!ended);
    let (comments, _) = comments(&bytes);
    let comments: Vec<_> = comments.iter().map(Option::as_deref).collect();
    assert_eq!(
        comments,
        [
            Some("program1[1]"),
            Some("program1[1]"),
            Some("program1[1] to program2[1]"),
            Some("program1[1]"),
            None,
            Some("program3[1]"),
            Some("program3[1]"),
            None,
        ]
    );
    assert_eq!(
        captures.counts(),
        Counts {
            packets: 8,
            dropped: 0
        }
    );
}

#[test]
fn a_count_ends_it_with_statistics() {
    let mut captures = Captures::default();
    let wanted = Wanted {
        count: Some(2),
        ..WANTED
    };
    let mut file = captures.begin("demo", wanted, at(0)).unwrap();
    for _ in 0..3 {
        show(
            &mut captures,
            Direction::Outbound,
            &udp(1, 2),
            owners(Some(1), None),
        );
    }
    assert!(!captures.any());
    let (bytes, ended) = read(&mut file);
    assert!(ended);
    assert_eq!(comments(&bytes).0.len(), 2);
}

/// A reader that does not read loses packets; the file says how many, and is whole to its last block.
#[test]
fn a_slow_reader_loses_packets_and_is_told() {
    let mut captures = Captures::default();
    let mut file = captures.begin("demo", WANTED, at(0)).unwrap();
    let large = [udp(1, 2), vec![0; 20_000]].concat();
    let shown = 1000;
    for _ in 0..shown {
        show(
            &mut captures,
            Direction::Outbound,
            &large,
            owners(Some(1), None),
        );
    }
    let lost = captures.counts().dropped;
    assert!(lost > 0);
    assert!(
        captures.counts().packets * 20_000 < 9 << 20,
        "{:?}",
        captures.counts()
    );
    captures.lost(5);
    captures.end(at(2));
    let (bytes, ended) = read(&mut file);
    assert!(ended);
    let (comments, dropped) = comments(&bytes);
    assert_eq!(comments.len() as u64 + lost, shown);
    assert_eq!(dropped, lost + 5);
}

#[test]
fn a_reader_that_has_recovered_reads_of_its_losses_at_once() {
    let mut captures = Captures::default();
    let mut file = captures.begin("demo", WANTED, at(0)).unwrap();
    let large = [udp(1, 2), vec![0; 60_000]].concat();
    for _ in 0..200 {
        show(
            &mut captures,
            Direction::Outbound,
            &large,
            owners(Some(1), None),
        );
    }
    let lost = captures.counts().dropped;
    let (mut bytes, _) = read(&mut file);
    captures.flush(at(2));
    captures.flush(at(2));
    bytes.extend(read(&mut file).0);
    assert_eq!(comments(&bytes).1, lost);
}

#[test]
fn several_at_once_but_not_too_many() {
    let mut captures = Captures::default();
    let mut files: Vec<_> = (0..MOST)
        .map(|_| captures.begin("demo", WANTED, at(0)).unwrap())
        .collect();
    assert!(captures.begin("demo", WANTED, at(0)).is_none());
    files.pop();
    files.push(captures.begin("demo", WANTED, at(0)).unwrap());
    show(
        &mut captures,
        Direction::Outbound,
        &udp(1, 2),
        owners(Some(1), None),
    );
    captures.flush(at(1));
    for file in &mut files {
        assert_eq!(comments(&read(file).0).0.len(), 1);
    }
    drop(files);
    captures.flush(at(1));
    assert!(!captures.any());
}

#[test]
fn silence_is_broken_now_and_then() {
    let mut captures = Captures::default();
    let mut file = captures.begin("demo", WANTED, at(0)).unwrap();
    read(&mut file);
    captures.flush(at(14));
    assert!(read(&mut file).0.is_empty());
    captures.flush(at(15));
    let (comments, dropped) = comments(&read(&mut file).0);
    assert_eq!((comments.len(), dropped), (0, 0));
    captures.flush(at(16));
    assert!(read(&mut file).0.is_empty());
}

#[test]
fn only_so_much_of_a_packet_is_kept() {
    let mut captures = Captures::default();
    let wanted = Wanted {
        snaplen: 20,
        ..WANTED
    };
    let mut file = captures.begin("demo", wanted, at(0)).unwrap();
    let before = read(&mut file).0.len();
    show(
        &mut captures,
        Direction::Outbound,
        &udp(1, 2),
        owners(None, None),
    );
    captures.flush(at(1));
    let (bytes, _) = read(&mut file);
    assert!(before > 0);
    // Header 28, packet 20, flags 8, end of options 4, length 4.
    assert_eq!(bytes.len(), 64);
}
