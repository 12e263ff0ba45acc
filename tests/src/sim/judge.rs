// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the protocol allows, watched from outside: every datagram that leaves a node and every one that a node accepts. The
//! judge reads the open parts of the messages only (types, indices, counters) and knows where each datagram really came from.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netcon_overlay::{DropReason, Overlay};

/// Age at which keys may no longer be used, in either direction.
const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Least time between two initiations to one peer.
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// How far a counter may lag behind the newest: 8192 bits, of which one word is being refilled.
const REPLAY_WINDOW: u64 = 8192;
/// Sessions of one pair that may be in use: previous, current and next.
const SESSIONS: usize = 3;
/// Bytes of an empty transport message.
const KEEPALIVE: usize = 32;
/// Bytes of mac2, which means nothing without load.
const MAC2: usize = 16;
/// Window in which keepalives are counted.
const STORM: Duration = Duration::from_secs(10);

/// Ends the run: something happened that must not.
macro_rules! violation {
    ($now:expr, $($text:tt)*) => {
        panic!("at {:?}: {}", $now, format_args!($($text)*))
    };
}
pub(super) use violation;

/// Life of one node between two restarts.
pub(super) type Life = (usize, u32);

/// What became of a datagram on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter {
    /// Which datagram it was when it left a node; `None`: nobody's.
    pub(super) emission: Option<usize>,
    pub(super) state: Seal,
}

/// Whether it arrives as it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    Whole,
    /// Damaged where a receiver without load does not look.
    Mac2,
    Broken,
}

/// For how long a receiver can be expected to know which initiation of a peer was the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Memory {
    /// Several networks between two nodes, or peers removed in between: not seen from outside.
    #[default]
    Short,
    /// Until it restarts.
    Life,
    /// It writes it down.
    Lasting,
}

/// What the receiver made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A packet was handed up.
    Packet,
    /// Accepted: handshake, keepalive or cookie.
    Handled,
    Dropped(DropReason),
}

#[derive(Debug)]
struct Emission {
    life: Life,
    kind: u8,
    accepted: u32,
}

/// One node's half of a session.
#[derive(Debug)]
struct Half {
    peer: usize,
    remote_index: u32,
    created: Duration,
    may_send: bool,
    next_counter: u64,
    newest: u64,
    accepted: HashMap<u64, ()>,
    /// Number among the sessions of this pair.
    number: usize,
}

/// What happened, for the summary.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams that left a node.
    pub datagrams: u64,
    /// Sessions that came to be.
    pub sessions: u64,
    /// Inner packets that arrived.
    pub packets: u64,
    /// Cookie replies sent.
    pub cookies: u64,
    /// Datagrams that were refused though a peer had made them: repeated, late, or without a session.
    pub refused: u64,
    /// Datagrams that were refused because nobody had made them.
    pub forged: u64,
    /// Packets refused for their source.
    pub spoofed: u64,
    /// Streams that ended as both programs wanted.
    pub streams: u64,
    /// Streams that ended by a reset with a cause.
    pub resets: u64,
    /// Bytes programs read.
    pub bytes: u64,
    /// UDP datagrams programs read.
    pub messages: u64,
    /// What the man in the middle did.
    pub attacks: u64,
    /// Faults.
    pub faults: u64,
    /// Virtual seconds.
    pub seconds: u64,
    /// Turns of nodes.
    pub turns: u64,
}

impl Tally {
    /// Sums up.
    pub fn add(&mut self, other: &Self) {
        self.datagrams += other.datagrams;
        self.sessions += other.sessions;
        self.packets += other.packets;
        self.cookies += other.cookies;
        self.refused += other.refused;
        self.forged += other.forged;
        self.spoofed += other.spoofed;
        self.streams += other.streams;
        self.resets += other.resets;
        self.bytes += other.bytes;
        self.messages += other.messages;
        self.attacks += other.attacks;
        self.faults += other.faults;
        self.seconds += other.seconds;
        self.turns += other.turns;
    }
}

type PacketKey = (usize, usize, usize, u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Judge {
    pub(super) tally: Tally,
    /// Changes with every datagram: two runs of a seed agree.
    pub(super) fingerprint: u64,
    emissions: Vec<Emission>,
    /// By local index.
    halves: HashMap<(Life, u32), Half>,
    /// From the index in what is sent to the local one.
    by_remote: HashMap<(Life, u32), u32>,
    /// For how long receivers can be expected to know the order of initiations.
    pub(super) memory: Memory,
    /// Receiver, sender: the least emission that may be accepted next.
    initiations_accepted: HashMap<(Life, usize), usize>,
    /// Sessions of a node with a peer are numbered by the order in which they came to be.
    pair_sessions: HashMap<(Life, usize, usize), usize>,
    initiations: HashMap<(Life, SocketAddr), VecDeque<Duration>>,
    keepalives: HashMap<(Life, SocketAddr), VecDeque<Duration>>,
    handshakes: HashMap<(Life, SocketAddr), VecDeque<Duration>>,
    responses_owed: HashMap<Life, u64>,
    packets: HashMap<PacketKey, u32>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn counter(bytes: &[u8]) -> u64 {
    bytes
        .get(8..16)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// FNV-1a over words: cheap, and what it is for is not secret.
pub(super) fn digest(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.try_into().map_or(0, u64::from_le_bytes);
        hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 29;
    }
    for byte in chunks.remainder() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^ (bytes.len() as u64)
}

fn recent(times: &mut VecDeque<Duration>, now: Duration, window: Duration) -> usize {
    while times.front().is_some_and(|at| *at + window <= now) {
        times.pop_front();
    }
    times.len()
}

impl Judge {
    /// Where a letter that leaves now can be damaged without harm.
    pub(super) fn seal_after_damage(bytes: &[u8], at: usize) -> Seal {
        let handshake = matches!((bytes.first(), bytes.len()), (Some(1), 148) | (Some(2), 92));
        if handshake && at >= bytes.len() - MAC2 {
            Seal::Mac2
        } else {
            Seal::Broken
        }
    }

    /// Type of message a letter was when it left, and whether it has been accepted.
    pub(super) fn history(&self, letter: Letter) -> Option<(usize, u8, bool)> {
        let emission = self.emissions.get(letter.emission?)?;
        Some((emission.life.0, emission.kind, emission.accepted > 0))
    }

    /// A node sends a datagram. `shared` networks may have a peer at `to`.
    pub(super) fn sent(
        &mut self,
        now: Duration,
        life: Life,
        to: SocketAddr,
        shared: usize,
        bytes: &[u8],
    ) -> Letter {
        self.tally.datagrams += 1;
        self.fingerprint = digest(
            self.fingerprint ^ u64::try_from(now.as_nanos()).unwrap_or(0),
            bytes,
        );
        let kind = bytes.first().copied().unwrap_or(0);
        match (kind, bytes.len()) {
            (1, 148) => self.sent_initiation(now, life, to, shared, bytes),
            (2, 92) => self.sent_response(now, life, to, bytes),
            (3, 64) => self.tally.cookies += 1,
            (4, KEEPALIVE..) => self.sent_transport(now, life, to, shared, bytes),
            (_, len) => violation!(now, "node {} sent {len} bytes of type {kind}", life.0),
        }
        self.emissions.push(Emission {
            life,
            kind,
            accepted: 0,
        });
        Letter {
            emission: Some(self.emissions.len() - 1),
            state: Seal::Whole,
        }
    }

    fn sent_initiation(
        &mut self,
        now: Duration,
        life: Life,
        to: SocketAddr,
        shared: usize,
        bytes: &[u8],
    ) {
        self.handshakes
            .entry((life, to))
            .or_default()
            .push_back(now);
        let times = self.initiations.entry((life, to)).or_default();
        let before = recent(times, now, REKEY_TIMEOUT);
        if before >= shared.max(1) {
            violation!(
                now,
                "node {} sends initiations to {to} faster than once in {REKEY_TIMEOUT:?}",
                life.0
            );
        }
        times.push_back(now);
        let index = u32_at(bytes, 4);
        if self.halves.contains_key(&(life, index)) {
            violation!(now, "node {} uses index {index:08x} again", life.0);
        }
    }

    fn sent_response(&mut self, now: Duration, life: Life, to: SocketAddr, bytes: &[u8]) {
        self.handshakes
            .entry((life, to))
            .or_default()
            .push_back(now);
        let owed = self.responses_owed.entry(life).or_default();
        if *owed == 0 {
            violation!(
                now,
                "node {} answers an initiation it did not accept",
                life.0
            );
        }
        *owed -= 1;
        let (local, remote) = (u32_at(bytes, 4), u32_at(bytes, 8));
        self.add_half(now, life, local, remote, false);
    }

    fn add_half(&mut self, now: Duration, life: Life, local: u32, remote: u32, may_send: bool) {
        let half = Half {
            peer: usize::MAX,
            remote_index: remote,
            created: now,
            may_send,
            next_counter: 0,
            newest: 0,
            accepted: HashMap::new(),
            number: 0,
        };
        if self.halves.insert((life, local), half).is_some() {
            violation!(now, "node {} uses index {local:08x} again", life.0);
        }
        self.by_remote.insert((life, remote), local);
        self.tally.sessions += u64::from(may_send);
    }

    fn sent_transport(
        &mut self,
        now: Duration,
        life: Life,
        to: SocketAddr,
        shared: usize,
        bytes: &[u8],
    ) {
        let receiver = u32_at(bytes, 4);
        let half = self
            .by_remote
            .get(&(life, receiver))
            .and_then(|local| self.halves.get_mut(&(life, *local)));
        let Some(half) = half else {
            violation!(
                now,
                "node {} sends with index {receiver:08x}, which no handshake gave it",
                life.0
            );
        };
        if !half.may_send {
            violation!(
                now,
                "responder {} sends before the initiator has proved its keys",
                life.0
            );
        }
        if now.saturating_sub(half.created) >= REJECT_AFTER_TIME {
            violation!(
                now,
                "node {} sends with keys of {:?}",
                life.0,
                now.saturating_sub(half.created)
            );
        }
        if counter(bytes) != half.next_counter {
            violation!(
                now,
                "node {} sends counter {} where {} follows",
                life.0,
                counter(bytes),
                half.next_counter
            );
        }
        half.next_counter += 1;
        if bytes.len() == KEEPALIVE {
            let handshakes = self
                .handshakes
                .get_mut(&(life, to))
                .map_or(0, |times| recent(times, now, STORM));
            let times = self.keepalives.entry((life, to)).or_default();
            if recent(times, now, STORM) >= 3 * shared.max(1) + 2 * handshakes {
                violation!(now, "node {} sends keepalives to {to} in a storm", life.0);
            }
            times.push_back(now);
        }
    }

    /// A node has looked at a datagram whose first bytes were `head`.
    pub(super) fn received(
        &mut self,
        now: Duration,
        life: Life,
        from: SocketAddr,
        head: &[u8],
        letter: Letter,
        outcome: Outcome,
    ) {
        let authentic = match outcome {
            Outcome::Packet | Outcome::Handled => true,
            // Opened, and then not wanted.
            Outcome::Dropped(DropReason::ForbiddenSource) => {
                self.tally.spoofed += 1;
                true
            }
            Outcome::Dropped(DropReason::NotIp | DropReason::CongestionLoss) => true,
            Outcome::Dropped(_) => false,
        };
        if !authentic {
            if letter.state == Seal::Whole && letter.emission.is_some() {
                self.tally.refused += 1;
            } else {
                self.tally.forged += 1;
            }
            return;
        }
        let Some(emission) = letter.emission else {
            violation!(now, "node {} accepts what nobody sent: {outcome:?}", life.0);
        };
        let kind = self.emissions[emission].kind;
        let origin = self.emissions[emission].life;
        if letter.state == Seal::Broken || letter.state == Seal::Mac2 && !matches!(kind, 1 | 2) {
            violation!(
                now,
                "node {} accepts a changed message of type {kind}",
                life.0
            );
        }
        self.emissions[emission].accepted += 1;
        if origin.0 == life.0 {
            violation!(now, "node {} accepts its own message", life.0);
        }
        match kind {
            1 => {
                *self.responses_owed.entry(life).or_default() += 1;
                self.accepted_initiation(now, life, origin.0, emission);
            }
            2 => {
                self.handshakes
                    .entry((life, from))
                    .or_default()
                    .push_back(now);
                let (remote, local) = (u32_at(head, 4), u32_at(head, 8));
                self.add_half(now, life, local, remote, true);
                self.note_peer(life, local, origin.0);
            }
            3 => {}
            _ => self.received_transport(now, life, head, origin),
        }
    }

    /// Older or equal timestamps are refused, also those from before a restart if they were written down.
    fn accepted_initiation(&mut self, now: Duration, life: Life, origin: usize, emission: usize) {
        let memory = if self.memory == Memory::Lasting {
            0
        } else {
            life.1
        };
        if self.memory != Memory::Short {
            let last = self
                .initiations_accepted
                .entry(((life.0, memory), origin))
                .or_default();
            if emission < *last {
                violation!(
                    now,
                    "node {} accepts an initiation that is not newer",
                    life.0
                );
            }
            *last = emission + 1;
        }
    }

    fn note_peer(&mut self, life: Life, local: u32, peer: usize) {
        if let Some(half) = self.halves.get_mut(&(life, local)) {
            half.peer = peer;
            let count = self.pair_sessions.entry((life, peer, 0)).or_default();
            *count += 1;
            half.number = *count;
        }
    }

    fn received_transport(&mut self, now: Duration, life: Life, head: &[u8], origin: Life) {
        let local = u32_at(head, 4);
        let Some(half) = self.halves.get_mut(&(life, local)) else {
            violation!(
                now,
                "node {} accepts for index {local:08x}, which it does not have",
                life.0
            );
        };
        let age = now.saturating_sub(half.created);
        if age >= REJECT_AFTER_TIME {
            violation!(now, "node {} accepts with keys of {age:?}", life.0);
        }
        let counter = counter(head);
        if half.accepted.insert(counter, ()).is_some() {
            violation!(now, "node {} accepts counter {counter} twice", life.0);
        }
        if counter + REPLAY_WINDOW <= half.newest {
            violation!(
                now,
                "node {} accepts counter {counter} after {}",
                life.0,
                half.newest
            );
        }
        half.newest = half.newest.max(counter);
        half.may_send = true;
        if half.peer == usize::MAX {
            self.note_peer(life, local, origin.0);
            return;
        }
        if half.peer != origin.0 {
            violation!(now, "node {} accepts on a session of another peer", life.0);
        }
    }

    /// How many sessions with one peer have come after the one with this index.
    pub(super) fn check_superseded(&self, now: Duration, life: Life, head: &[u8]) {
        let Some(half) = self.halves.get(&(life, u32_at(head, 4))) else {
            return;
        };
        let newest = self
            .pair_sessions
            .get(&(life, half.peer, 0))
            .copied()
            .unwrap_or(0);
        // Sessions are counted when they are first used, so that one more may wait.
        if newest.saturating_sub(half.number) > SESSIONS {
            violation!(
                now,
                "node {} accepts on a session (remote index {:08x}) that {} others have followed",
                life.0,
                half.remote_index,
                newest - half.number
            );
        }
    }

    // Inside

    /// The engine of node `source` gives a packet for node `destination` to the overlay.
    pub(super) fn packet_sent(
        &mut self,
        net: usize,
        source: usize,
        destination: usize,
        packet: &[u8],
    ) {
        let key = (net, source, destination, digest(0, packet));
        *self.packets.entry(key).or_default() += 1;
    }

    /// The overlay of node `destination` hands up a packet, which it says is from `source`.
    pub(super) fn packet_received(
        &mut self,
        now: Duration,
        net: usize,
        source: usize,
        destination: usize,
        packet: &[u8],
    ) {
        self.tally.packets += 1;
        let key = (net, source, destination, digest(0, packet));
        match self.packets.get_mut(&key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                self.packets.remove(&key);
            }
            None => violation!(
                now,
                "node {destination} receives a packet of {} bytes on network {net} that node {source} did not send, or sent \
                 fewer times: {:02x?}",
                packet.len(),
                &packet[..packet.len().min(48)]
            ),
        }
    }
}

/// Where an IP packet says it comes from and goes to; `None`: not a whole header.
pub(super) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    fn take<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
        packet.get(at..at + N)?.try_into().ok()
    }
    Some(match packet.first()? >> 4 {
        4 => (
            IpAddr::from(take::<4>(packet, 12)?),
            IpAddr::from(take::<4>(packet, 16)?),
        ),
        6 => (
            IpAddr::from(take::<16>(packet, 8)?),
            IpAddr::from(take::<16>(packet, 24)?),
        ),
        _ => return None,
    })
}

/// Entries in the overlay's table of indices.
pub(super) fn indices(overlay: &Overlay) -> usize {
    let text = format!("{overlay:?}");
    let number = text
        .split_once("indices: ")
        .map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
    number.flatten().and_then(|n| n.parse().ok()).unwrap_or(0)
}
