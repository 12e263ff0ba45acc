// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One node: an overlay, an engine for each of its networks, and what joins them, turn by turn as the supervisor's data thread
//! does it (`supervisor/src/data/thread.rs`), without sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use netcon_netstack::stack::{self, PacketSink, Stack};
use netcon_overlay::{
    IpPrefix, NetworkIndex, Overlay, PeerConfig, PresharedKey, PrivateKey, PublicKey,
};

use super::dice::{Dice, mix};
use super::judge::Life;
use super::plan::Plan;

/// Packets and bytes of one batch, and batches of one turn: as in the supervisor.
const MAX_PACKETS: usize = 256;
const CAPACITY: usize = 256 * 1024;
pub(super) const BATCHES: usize = 4;
/// Bytes of a TCP ring: small, so that it fills.
const RING: usize = 32_768;
/// Wall clock at virtual time zero, since 1970.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// One network on one node.
#[derive(Debug)]
pub(super) struct Iface {
    pub(super) net: usize,
    pub(super) stack: Stack,
    pub(super) mtu: usize,
    /// Packets that arrived.
    pub(super) arrived: Vec<Vec<u8>>,
    /// A program has called.
    pub(super) due: bool,
    pub(super) timeout: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) life: Life,
    pub(super) overlay: Overlay,
    pub(super) ifaces: Vec<Iface>,
    pub(super) up: bool,
    /// The wall clock against the true time.
    pub(super) clock: i64,
    /// When it wants a turn.
    pub(super) wake: Option<Duration>,
    pub(super) turns: u64,
    /// What it wrote down before it ended.
    pub(super) written: Written,
}

/// What outlives a restart, of nodes that write it down.
#[derive(Debug, Default, Clone)]
pub(super) struct Written {
    pub(super) own_time: Duration,
    pub(super) timestamps: Vec<(usize, PublicKey, [u8; 12])>,
}

/// Keys and addresses of a scenario: the same for all lives of a node.
#[derive(Debug)]
pub(super) struct Directory {
    seed: u64,
    pub(super) publics: Vec<Vec<PublicKey>>,
    /// Number of the agreement about preshared keys, by network and pair.
    agreements: Vec<(usize, usize, usize, usize, u64)>,
}

pub(super) fn index(net: usize) -> NetworkIndex {
    NetworkIndex(u32::try_from(net).unwrap_or(u32::MAX))
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// A node's address inside a network.
pub(super) fn inside(net: usize, node: usize, v6: bool) -> IpAddr {
    let (net, host) = (byte(net), byte(node + 1));
    if v6 {
        Ipv6Addr::new(0xfd77, net.into(), 0, 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(10, net, 0, host).into()
    }
}

/// The node whose address this is.
pub(super) fn node_of(ip: IpAddr) -> usize {
    let last = match ip {
        IpAddr::V4(ip) => usize::from(ip.octets()[3]),
        IpAddr::V6(ip) => usize::from(ip.octets()[15]),
    };
    last.wrapping_sub(1)
}

fn prefix(ip: IpAddr, len: u8) -> IpPrefix {
    IpPrefix::new(ip, len).unwrap_or_else(|_| IpPrefix::host(ip))
}

impl Directory {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut directory = Self {
            seed: plan.seed,
            publics: Vec::new(),
            agreements: Vec::new(),
        };
        directory.publics = (0..plan.nets.len())
            .map(|net| {
                (0..plan.nodes.len())
                    .map(|node| directory.key(net, node).public())
                    .collect()
            })
            .collect();
        directory
    }

    fn key(&self, net: usize, node: usize) -> PrivateKey {
        let purpose = 100 + (net as u64) * 1000 + node as u64;
        PrivateKey::from_random(Dice::new(self.seed, purpose).key())
    }

    /// Another preshared key, as `node` knows it for the pair.
    pub(super) fn agree(&mut self, net: usize, node: usize, peer: usize) {
        let (a, b) = (node.min(peer), node.max(peer));
        match self
            .agreements
            .iter_mut()
            .find(|row| (row.0, row.1, row.2, row.3) == (net, a, b, node))
        {
            Some(row) => row.4 += 1,
            None => self.agreements.push((net, a, b, node, 1)),
        }
    }

    fn preshared(&self, plan: &Plan, net: usize, node: usize, peer: usize) -> Option<PresharedKey> {
        let (a, b) = (node.min(peer), node.max(peer));
        let number = self
            .agreements
            .iter()
            .find(|row| (row.0, row.1, row.2, row.3) == (net, a, b, node))
            .map_or(0, |row| row.4);
        (plan.nets[net].preshared || number > 0).then(|| {
            let purpose = mix((net as u64) << 32 | (a as u64) << 16 | b as u64) ^ number;
            PresharedKey::from_bytes(Dice::new(self.seed, purpose).key())
        })
    }

    /// How `node` has `peer` configured.
    pub(super) fn peer(
        &self,
        plan: &Plan,
        net: usize,
        node: usize,
        peer: usize,
        endpoint: Option<SocketAddr>,
    ) -> PeerConfig {
        let mut allowed_ips = vec![
            IpPrefix::host(inside(net, peer, false)),
            IpPrefix::host(inside(net, peer, true)),
        ];
        if plan.nets[net].wide && plan.nets[net].members.last() == Some(&peer) {
            allowed_ips.push(prefix(Ipv4Addr::new(10, byte(net), 0, 0).into(), 16));
        }
        PeerConfig {
            public_key: self.publics[net][peer],
            preshared_key: self.preshared(plan, net, node, peer),
            endpoint,
            allowed_ips,
            persistent_keepalive: plan.nodes[node].keepalive,
            reserved: [0; 3],
        }
    }
}

impl Node {
    /// A node at the beginning of a life.
    pub(super) fn new(
        plan: &Plan,
        directory: &Directory,
        now: Instant,
        life: Life,
        clock: i64,
        written: Written,
        endpoint: impl Fn(usize) -> Option<SocketAddr>,
    ) -> Self {
        let node = life.0;
        let mut dice = Dice::new(plan.seed, 50_000 + (node as u64) * 1000 + u64::from(life.1));
        let mut overlay = Overlay::new(dice.key());
        let mut ifaces = Vec::new();
        for (net, network) in plan.nets.iter().enumerate() {
            if !network.members.contains(&node) {
                continue;
            }
            let key = directory.key(net, node);
            let added = overlay.add_network(index(net), key, network.mtu);
            assert_eq!(added, Ok(()), "a fresh overlay takes a network");
            let mut routes = Vec::new();
            for &peer in network.members.iter().filter(|peer| **peer != node) {
                let config = directory.peer(plan, net, node, peer, endpoint(peer));
                routes.extend(config.allowed_ips.iter().map(|p| (p.addr(), p.len())));
                let set = overlay.set_peer(now, index(net), config);
                assert_eq!(set, Ok(()), "a valid peer");
            }
            for number in 0..network.phantoms {
                let ip = Ipv4Addr::new(10, byte(net), 9, byte(number)).into();
                let purpose = 90_000 + number as u64;
                let config = PeerConfig {
                    public_key: PrivateKey::from_random(Dice::new(plan.seed, purpose).key())
                        .public(),
                    preshared_key: None,
                    endpoint: None,
                    allowed_ips: vec![IpPrefix::host(ip)],
                    persistent_keepalive: None,
                    reserved: [0; 3],
                };
                let set = overlay.set_peer(now, index(net), config);
                assert_eq!(set, Ok(()), "a valid peer");
            }
            let as_v4 = |ip| match ip {
                IpAddr::V4(ip) => Some((ip, 24)),
                IpAddr::V6(_) => None,
            };
            let as_v6 = |ip| match ip {
                IpAddr::V6(ip) => Some((ip, 64)),
                IpAddr::V4(_) => None,
            };
            let config = stack::Config {
                mtu: network.mtu,
                v4: as_v4(inside(net, node, false)),
                v6: as_v6(inside(net, node, true)),
                seed: dice.key(),
                limits: stack::Limits {
                    tcp_buffer: RING,
                    ..stack::Limits::default()
                },
            };
            let mut stack = Stack::new(config, now);
            stack.set_routes(routes);
            ifaces.push(Iface {
                net,
                stack,
                mtu: network.mtu,
                arrived: Vec::new(),
                due: true,
                timeout: None,
            });
        }
        if plan.nodes[node].persists {
            overlay.set_least_time(written.own_time);
            for (net, key, timestamp) in &written.timestamps {
                overlay.restore_timestamp(index(*net), key, *timestamp);
            }
        }
        Self {
            life,
            overlay,
            ifaces,
            up: true,
            clock,
            wake: None,
            turns: 0,
            written: Written::default(),
        }
    }

    /// What it writes down.
    pub(super) fn write_down(&self, plan: &Plan) -> Written {
        if !plan.nodes[self.life.0].persists {
            return Written::default();
        }
        let timestamps = self.ifaces.iter().flat_map(|iface| {
            let of_net = self.overlay.timestamps(index(iface.net));
            of_net
                .into_iter()
                .map(|(key, timestamp)| (iface.net, key, timestamp))
        });
        Written {
            own_time: self.overlay.own_time(),
            timestamps: timestamps.collect(),
        }
    }

    /// The wall clock, since 1970.
    pub(super) fn unix(&self, now: Duration) -> Duration {
        let by = Duration::from_millis(self.clock.unsigned_abs());
        if self.clock < 0 {
            (EPOCH + now).saturating_sub(by)
        } else {
            EPOCH + now + by
        }
    }

    pub(super) fn iface(&mut self, net: usize) -> Option<&mut Iface> {
        self.ifaces.iter_mut().find(|iface| iface.net == net)
    }

    /// When the data thread would wake up: at the earliest deadline, rounded up to a millisecond unless it is due.
    pub(super) fn plan_wake(&mut self, now: Duration, start: Instant) {
        let ifaces = self.ifaces.iter().filter_map(|iface| iface.timeout);
        let first = ifaces.chain(self.overlay.poll_timeout()).min();
        self.wake = first.map(|at| {
            let wait = at.saturating_duration_since(start + now);
            if wait.is_zero() {
                return now;
            }
            let millis = (wait + Duration::from_micros(999)).as_millis();
            now + Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
        });
    }
}

/// Packets of one batch, each with room to be sealed where it lies.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) packets: Vec<(Vec<u8>, usize)>,
    used: usize,
    mtu: usize,
}

impl Batch {
    pub(super) fn new(mtu: usize) -> Self {
        Self {
            mtu,
            ..Self::default()
        }
    }
}

impl PacketSink for Batch {
    fn has_room(&self) -> bool {
        self.packets.len() < MAX_PACKETS
            && self.used + Overlay::sealed_len(self.mtu, self.mtu) <= CAPACITY
    }

    fn packet(&mut self, len: usize) -> &mut [u8] {
        assert!(self.has_room() && len <= self.mtu, "a packet without room");
        let room = Overlay::sealed_len(len, self.mtu);
        self.used += room;
        self.packets.push((vec![0; room], len));
        let buffer = &mut self.packets.last_mut().expect("just pushed").0;
        &mut buffer[Overlay::HEADROOM..Overlay::HEADROOM + len]
    }
}
