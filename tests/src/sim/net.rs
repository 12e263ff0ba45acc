// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The network between the nodes: links, NATs, and the man in the middle.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::dice::Dice;
use super::judge::{Judge, Letter, Seal};
use super::pcap::Capture;
use super::plan::{AttackPlan, Link, Mapping, NatPlan, Plan};

/// Datagrams the man in the middle remembers; the oldest gives way.
const REMEMBERED: usize = 128;
/// Mappings of one NAT; the oldest gives way.
const MAX_MAPPINGS: usize = 64;
/// A burst of loss is over after so long, also where hardly anything is sent.
const LONGEST_BURST: Duration = Duration::from_secs(2);
/// UDP port of all nodes.
const PORT: u16 = 9993;

/// A datagram on its way; ordered by arrival.
#[derive(Debug)]
pub(super) struct Flying {
    pub(super) at: Duration,
    order: u64,
    pub(super) node: usize,
    pub(super) from: SocketAddr,
    to: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) letter: Letter,
    /// Sent by the man in the middle.
    pub(super) hostile: bool,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Flying {}
impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[derive(Debug)]
struct NatMapping {
    port: u16,
    /// `None`: for everyone.
    to: Option<SocketAddr>,
    /// Who may answer.
    contacts: Vec<SocketAddr>,
    used: Duration,
}

#[derive(Debug)]
struct Nat {
    plan: NatPlan,
    mappings: VecDeque<NatMapping>,
    next_port: u16,
}

#[derive(Debug, Clone, Copy, Default)]
struct Way {
    /// When the last byte of the queue leaves.
    free_at: Duration,
    /// Since when datagrams are lost in a burst.
    burst: Option<Duration>,
}

#[derive(Debug)]
struct Caught {
    node: usize,
    sender: usize,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
    letter: Letter,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Net {
    links: Vec<Link>,
    ways: Vec<Way>,
    /// Until when nothing passes, by direction.
    parted: Vec<Duration>,
    nats: Vec<Option<Nat>>,
    /// Where each node is, as those see it who may reach it.
    pub(super) outside: Vec<SocketAddr>,
    moves: u8,
    v6: bool,
    flying: BinaryHeap<Reverse<Flying>>,
    order: u64,
    dice: Dice,
    attack: AttackPlan,
    /// Messages may be sent again from an address of the attacker without steering anyone there.
    from_elsewhere: bool,
    caught: VecDeque<Caught>,
    foe: Dice,
}

impl Net {
    pub(super) fn new(plan: &Plan) -> Self {
        let count = plan.nodes.len();
        let v6 = plan.nodes.iter().any(|node| node.v6_outside);
        let mut net = Self {
            links: plan.links.clone(),
            ways: vec![Way::default(); count * count],
            parted: vec![Duration::ZERO; count * count],
            nats: plan
                .nodes
                .iter()
                .map(|node| {
                    node.nat.map(|plan| Nat {
                        plan,
                        mappings: VecDeque::new(),
                        next_port: 40_000,
                    })
                })
                .collect(),
            outside: Vec::new(),
            moves: 0,
            v6,
            flying: BinaryHeap::new(),
            order: 0,
            dice: Dice::new(plan.seed, 2),
            attack: plan.attack,
            from_elsewhere: !plan.restarts(),
            caught: VecDeque::new(),
            foe: Dice::new(plan.seed, 3),
        };
        net.outside = (0..count).map(|node| net.address(node, 0)).collect();
        net
    }

    fn address(&self, node: usize, moves: u8) -> SocketAddr {
        let host = u8::try_from(node + 1).unwrap_or(u8::MAX);
        // The outside of a NAT is in another network.
        let block = u8::from(self.nats[node].is_some());
        let ip: IpAddr = if self.v6 {
            Ipv6Addr::new(
                0x2001,
                0xdb8,
                block.into(),
                moves.into(),
                0,
                0,
                0,
                host.into(),
            )
            .into()
        } else if block > 0 {
            Ipv4Addr::new(203, 0, 113, host).into()
        } else {
            Ipv4Addr::new(198, 51, 100, host + 100 * (moves % 2)).into()
        };
        SocketAddr::new(ip, PORT + u16::from(moves))
    }

    fn foe_address(&self) -> SocketAddr {
        let ip = if self.v6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0x66, 0, 0, 0, 0, 1).into()
        } else {
            IpAddr::from(Ipv4Addr::new(192, 0, 2, 66))
        };
        SocketAddr::new(ip, 6666)
    }

    /// Whether a node can be reached without having been called.
    pub(super) fn is_public(&self, node: usize) -> bool {
        self.nats[node].is_none()
    }

    // Faults

    pub(super) fn part(&mut self, a: usize, b: usize, until: Duration) {
        let count = self.outside.len();
        for at in [a * count + b, b * count + a] {
            self.parted[at] = self.parted[at].max(until);
        }
    }

    pub(super) fn rebind(&mut self, node: usize) {
        if let Some(nat) = &mut self.nats[node] {
            nat.mappings.clear();
            nat.next_port = nat.next_port.wrapping_add(100).max(1024);
        }
    }

    pub(super) fn move_node(&mut self, node: usize) {
        self.moves += 1;
        self.outside[node] = self.address(node, self.moves);
    }

    /// The man in the middle goes, and what he kept with him; links stay as they are.
    pub(super) fn end_attack(&mut self) {
        self.attack = AttackPlan::default();
        self.flying.retain(|Reverse(flying)| !flying.hostile);
    }

    // Datagrams

    pub(super) fn next_arrival(&self) -> Option<Duration> {
        self.flying.peek().map(|Reverse(flying)| flying.at)
    }

    /// The next datagram that has arrived.
    pub(super) fn arrived(&mut self, now: Duration) -> Option<Flying> {
        loop {
            if self.next_arrival()? > now {
                return None;
            }
            let Reverse(flying) = self.flying.pop()?;
            if self.passes_nat(now, &flying) {
                return Some(flying);
            }
        }
    }

    fn passes_nat(&mut self, now: Duration, flying: &Flying) -> bool {
        let Some(nat) = &self.nats[flying.node] else {
            return flying.to == self.outside[flying.node];
        };
        nat.mappings.iter().any(|mapping| {
            mapping.port == flying.to.port()
                && mapping.used + nat.plan.expiry > now
                && mapping.contacts.contains(&flying.from)
        })
    }

    fn source(&mut self, now: Duration, node: usize, to: SocketAddr) -> SocketAddr {
        let outside = self.outside[node];
        let Some(nat) = &mut self.nats[node] else {
            return outside;
        };
        let expiry = nat.plan.expiry;
        nat.mappings.retain(|mapping| mapping.used + expiry > now);
        let wanted = match nat.plan.mapping {
            Mapping::EndpointIndependent => None,
            Mapping::EndpointDependent => Some(to),
        };
        let found = nat.mappings.iter_mut().find(|mapping| mapping.to == wanted);
        let port = if let Some(mapping) = found {
            mapping.used = now;
            if !mapping.contacts.contains(&to) {
                mapping.contacts.push(to);
            }
            mapping.port
        } else {
            nat.next_port = nat.next_port.wrapping_add(1).max(1024);
            if nat.mappings.len() >= MAX_MAPPINGS {
                nat.mappings.pop_front();
            }
            nat.mappings.push_back(NatMapping {
                port: nat.next_port,
                to: wanted,
                contacts: vec![to],
                used: now,
            });
            nat.next_port
        };
        SocketAddr::new(outside.ip(), port)
    }

    /// The node whose address this is, now.
    pub(super) fn owner(&self, to: SocketAddr) -> Option<usize> {
        self.outside
            .iter()
            .enumerate()
            .find(|(node, outside)| {
                **outside == to || self.nats[*node].is_some() && outside.ip() == to.ip()
            })
            .map(|(node, _)| node)
    }

    /// A node sends a datagram.
    pub(super) fn send(
        &mut self,
        now: Duration,
        sender: usize,
        to: SocketAddr,
        bytes: Vec<u8>,
        letter: Letter,
        capture: &mut Option<Capture>,
        judge: &mut Judge,
    ) {
        let from = self.source(now, sender, to);
        if let Some(capture) = capture {
            capture.datagram(now, from, to, &bytes);
        }
        let Some(node) = self.owner(to) else {
            return;
        };
        let link = sender * self.outside.len() + node;
        if self.parted[link] > now {
            return;
        }
        if self.attack.holds && self.foe.chance(self.attack.rate / 4) {
            // He takes it away, and brings it when the session is old.
            judge.tally.attacks += 1;
            let at = now + self.foe.millis(1_000, 400_000);
            return self.fly(at, node, from, to, bytes, letter, true);
        }
        let Some(left) = self.queue(now, link, bytes.len() as u64) else {
            return;
        };
        let plan = self.links[sender.min(node) * self.outside.len() + sender.max(node)];
        if self.is_lost(now, link, &plan) {
            return;
        }
        let copies = 1 + u8::from(self.dice.chance(plan.duplicate));
        let mut earliest = Duration::MAX;
        for _ in 0..copies {
            let mut bytes = bytes.clone();
            let mut letter = letter;
            if self.dice.chance(plan.corrupt) {
                let at = self.dice.index(bytes.len());
                bytes[at] ^= 1 << self.dice.below(8);
                letter.state = Judge::seal_after_damage(&bytes, at);
            }
            let jitter = u64::try_from(plan.jitter.as_micros()).unwrap_or(0);
            let at = left + plan.delay + Duration::from_micros(self.dice.below(jitter + 1));
            earliest = earliest.min(at);
            self.fly(at, node, from, to, bytes, letter, false);
        }
        if self.attack.rate > 0 {
            self.watch(earliest, node, sender, from, to, &bytes, letter, judge);
        }
    }

    /// When a datagram has left the queue; `None`: it did not fit.
    fn queue(&mut self, now: Duration, link: usize, bytes: u64) -> Option<Duration> {
        let (a, b) = (link / self.outside.len(), link % self.outside.len());
        let plan = &self.links[a.min(b) * self.outside.len() + a.max(b)];
        let Some(rate) = plan.rate else {
            return Some(now);
        };
        let way = &mut self.ways[link];
        let waiting = way.free_at.saturating_sub(now);
        let queued = u64::try_from(waiting.as_micros()).unwrap_or(u64::MAX) / 1000 * rate / 1000;
        if queued + bytes > plan.queue {
            return None;
        }
        way.free_at = way.free_at.max(now) + Duration::from_micros(bytes * 1_000_000 / rate);
        Some(way.free_at)
    }

    fn is_lost(&mut self, now: Duration, link: usize, plan: &Link) -> bool {
        if let Some([begin, end, loss]) = plan.bursts {
            let way = &mut self.ways[link];
            match way.burst {
                None if self.dice.chance(begin) => way.burst = Some(now),
                Some(since) if now > since + LONGEST_BURST || self.dice.chance(end) => {
                    way.burst = None;
                }
                None | Some(_) => {}
            }
            if way.burst.is_some() && self.dice.chance(loss) {
                return true;
            }
        }
        self.dice.chance(plan.loss)
    }

    fn fly(
        &mut self,
        at: Duration,
        node: usize,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
        letter: Letter,
        hostile: bool,
    ) {
        self.order += 1;
        self.flying.push(Reverse(Flying {
            at,
            order: self.order,
            node,
            from,
            to,
            bytes,
            letter,
            hostile,
        }));
    }

    // The man in the middle

    /// He sees a datagram and perhaps does something about it, at once or later.
    fn watch(
        &mut self,
        at: Duration,
        node: usize,
        sender: usize,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        letter: Letter,
        judge: &mut Judge,
    ) {
        if self.caught.len() >= REMEMBERED {
            self.caught.pop_front();
        }
        self.caught.push_back(Caught {
            node,
            sender,
            from,
            to,
            bytes: bytes.to_vec(),
            letter,
        });
        if !self.foe.chance(self.attack.rate) {
            return;
        }
        judge.tally.attacks += 1;
        let at = at + self.foe.millis(0, 300);
        let chosen = self.foe.index(self.caught.len());
        // He likes handshakes best.
        let chosen = (0..8)
            .map(|_| self.foe.index(self.caught.len()))
            .find(|at| self.caught[*at].bytes.len() == 148 || self.caught[*at].bytes.len() == 92)
            .filter(|_| self.foe.chance(500))
            .unwrap_or(chosen);
        let Caught {
            node,
            sender,
            from,
            to,
            ref bytes,
            letter,
        } = self.caught[chosen];
        let mut bytes = bytes.clone();
        let broken = Letter {
            state: Seal::Broken,
            ..letter
        };
        match self.foe.below(12) {
            0..=2 => self.fly(at, node, from, to, bytes, letter, true),
            3 => {
                // From his own address: only what has been accepted before, since fresh messages may move a peer's endpoint.
                let known = judge
                    .history(letter)
                    .is_some_and(|(_, _, accepted)| accepted);
                if known && self.from_elsewhere {
                    self.fly(at, node, self.foe_address(), to, bytes, letter, true);
                }
            }
            4 | 5 => {
                let bit = self.foe.index(bytes.len());
                bytes[bit] ^= 1 << self.foe.below(8);
                let letter = Letter {
                    state: Judge::seal_after_damage(&bytes, bit),
                    ..letter
                };
                // A receiver that looks at mac2 does not say what it saw before.
                if letter.state == Seal::Broken {
                    self.fly(at, node, from, to, bytes, letter, true);
                }
            }
            6 => {
                bytes.truncate(self.foe.index(bytes.len()));
                self.fly(at, node, from, to, bytes, broken, true);
            }
            7 => {
                for _ in 0..self.foe.between(1, 64) {
                    bytes.push(self.foe.byte());
                }
                self.fly(at, node, from, to, bytes, broken, true);
            }
            8 => self.fly(at, sender, to, self.outside[sender], bytes, letter, true),
            9 => {
                let other = self.foe.index(self.outside.len());
                if other != node {
                    self.fly(at, other, from, self.outside[other], bytes, letter, true);
                }
            }
            10 => {
                let len = self
                    .foe
                    .pick(&[0, 1, 3, 16, 31, 32, 33, 64, 92, 148, 1200, 65_000]);
                bytes.clear();
                bytes.resize_with(len, || self.foe.byte());
                if let Some(first) = bytes.first_mut() {
                    *first = self.foe.byte() % 5;
                }
                if let Some(reserved) = bytes.get_mut(1..4) {
                    reserved.fill(0);
                }
                let letter = Letter {
                    emission: None,
                    state: Seal::Broken,
                };
                self.fly(at, node, self.foe_address(), to, bytes, letter, true);
            }
            _ => {
                if self.attack.holds {
                    let at = at + self.foe.millis(1_000, 400_000);
                    self.fly(at, node, from, to, bytes, letter, true);
                }
            }
        }
    }
}
