// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a seed to a scenario: who is there, how the network treats them, what they send, and what goes wrong when.

use super::dice::Dice;
use std::time::Duration;

/// What is asked of a scenario beyond safety, which is asked of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Every stream ends as its programs want; bytes keep moving once faults are over.
    Progress,
    /// The network is too hostile for that: only what holds always.
    Safety,
}

/// How a link treats datagrams, in one direction.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Up to this much is added at random: reordering.
    pub jitter: Duration,
    /// Bytes per second; what does not fit the queue is dropped.
    pub rate: Option<u64>,
    /// Bytes of the queue in front of `rate`.
    pub queue: u64,
    /// Lost, per thousand.
    pub loss: u64,
    /// Bursts: per thousand to begin one, to end it, and the loss during it.
    pub bursts: Option<[u64; 3]>,
    /// Delivered twice, per thousand.
    pub duplicate: u64,
    /// One bit flipped, per thousand.
    pub corrupt: u64,
}

impl Link {
    /// 5 ms, nothing goes wrong.
    pub const CLEAN: Self = Self {
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        rate: None,
        queue: 0,
        loss: 0,
        bursts: None,
        duplicate: 0,
        corrupt: 0,
    };
}

/// How a NAT chooses the port that the outside sees (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// One for everyone.
    EndpointIndependent,
    /// One for each destination.
    EndpointDependent,
}

/// A NAT in front of a node. Only whom the node has written to may answer.
#[derive(Debug, Clone, Copy)]
pub struct NatPlan {
    /// Choice of ports.
    pub mapping: Mapping,
    /// Silence after which a mapping is forgotten.
    pub expiry: Duration,
}

/// One node.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Its NAT, if it has one: nobody knows its endpoint then.
    pub nat: Option<NatPlan>,
    /// Endpoint of IPv6.
    pub v6_outside: bool,
    /// Seconds.
    pub keepalive: Option<u16>,
    /// Its wall clock at the start, against the true time.
    pub clock: i64,
    /// It writes down its own timestamps and those of peers, so that a restart forgets neither.
    pub persists: bool,
    /// It sends what it may not, inside its tunnels.
    pub evil: bool,
}

/// One network.
#[derive(Debug, Clone)]
pub struct NetPlan {
    /// Nodes.
    pub members: Vec<usize>,
    /// Inner MTU.
    pub mtu: usize,
    /// Pairs have preshared keys.
    pub preshared: bool,
    /// Peers that are configured and never there.
    pub phantoms: usize,
    /// The last member also has the whole prefix of the network.
    pub wide: bool,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Each side closes its direction when it has sent everything.
    WhenSent,
    /// The server closes its direction only when it has read everything, or the client does.
    AfterReading {
        /// Which.
        server: bool,
    },
    /// A side resets after it has sent so many bytes.
    Abort {
        /// Which.
        server: bool,
        /// Bytes.
        after: u64,
    },
}

/// One side of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Bytes to send.
    pub total: u64,
    /// At most so many bytes at a time, then a pause. Zero: no pauses.
    pub write: (u64, Duration),
    /// The same for reading.
    pub read: (u64, Duration),
}

/// One TCP connection.
#[derive(Debug, Clone, Copy)]
pub struct StreamPlan {
    /// Network.
    pub net: usize,
    /// Client and server, as nodes.
    pub ends: [usize; 2],
    /// Over IPv6.
    pub v6: bool,
    /// When the client connects.
    pub start: Duration,
    /// What client and server do.
    pub paces: [Pace; 2],
    /// How it ends.
    pub ending: Ending,
}

/// Datagrams from one node to another.
#[derive(Debug, Clone, Copy)]
pub struct FlowPlan {
    /// Network.
    pub net: usize,
    /// From and to, as nodes.
    pub ends: [usize; 2],
    /// Over IPv6.
    pub v6: bool,
    /// When the first is sent.
    pub start: Duration,
    /// Time between two.
    pub interval: Duration,
    /// How many.
    pub count: u32,
    /// Largest payload.
    pub size: u64,
    /// Each is answered.
    pub echo: bool,
    /// Nobody listens there.
    pub closed: bool,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes between a node and the others for so long.
    Isolate(usize, Duration),
    /// Nothing passes between two nodes for so long.
    Part(usize, usize, Duration),
    /// A node loses everything and begins anew after so long.
    Restart(usize, Duration),
    /// The wall clock jumps by so many milliseconds.
    Clock(usize, i64),
    /// The NAT forgets its mappings and takes other ports.
    Rebind(usize),
    /// A node without NAT has another address.
    Move(usize),
    /// Handshakes cost their sender a cookie for so long.
    Load(usize, Duration),
    /// Two members agree on another preshared key, one a little later than the other.
    Preshared(usize, usize, usize),
    /// A member removes another and takes it back after so long.
    Forget(usize, usize, usize, Duration),
}

/// Someone on the path, who sees all datagrams and sends what he likes.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttackPlan {
    /// Per thousand datagrams that he does something about.
    pub rate: u64,
    /// He also keeps datagrams back for minutes.
    pub holds: bool,
}

/// A scenario.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What made it.
    pub seed: u64,
    /// What must come of it.
    pub demand: Demand,
    /// Nodes.
    pub nodes: Vec<NodePlan>,
    /// Networks.
    pub nets: Vec<NetPlan>,
    /// Links, one for each pair `(low, high)` at `low * nodes + high`.
    pub links: Vec<Link>,
    /// TCP.
    pub streams: Vec<StreamPlan>,
    /// UDP.
    pub flows: Vec<FlowPlan>,
    /// What goes wrong and when.
    pub faults: Vec<(Duration, Fault)>,
    /// The man in the middle.
    pub attack: AttackPlan,
}

const SECOND: Duration = Duration::from_secs(1);

impl Plan {
    /// Nothing but nodes in one network, joined by `link`.
    #[must_use]
    pub fn quiet(seed: u64, nodes: usize, link: Link) -> Self {
        let node = NodePlan {
            nat: None,
            v6_outside: false,
            keepalive: None,
            clock: 0,
            persists: true,
            evil: false,
        };
        Self {
            seed,
            demand: Demand::Progress,
            nodes: vec![node; nodes],
            nets: vec![NetPlan {
                members: (0..nodes).collect(),
                mtu: 1420,
                preshared: false,
                phantoms: 0,
                wide: false,
            }],
            links: vec![link; nodes * nodes],
            streams: Vec::new(),
            flows: Vec::new(),
            faults: Vec::new(),
            attack: AttackPlan::default(),
        }
    }

    /// The scenario of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let count = match dice.below(20) {
            0..=11 => 2,
            12..=16 => 3,
            17..=18 => dice.index(2) + 4,
            _ => dice.index(3) + 6,
        };
        let mut plan = Self::quiet(seed, count, Link::CLEAN);
        plan.demand = if dice.chance(150) {
            Demand::Safety
        } else {
            Demand::Progress
        };
        plan.nodes(&mut dice);
        plan.networks(&mut dice);
        let rough = dice.below(4);
        for at in 0..plan.links.len() {
            plan.links[at] = link(&mut dice, rough, plan.demand);
        }
        // Most cases are short, some outlive several sessions.
        let span = match dice.below(10) {
            0..=4 => dice.between(5, 40),
            5..=8 => dice.between(60, 420),
            _ => dice.between(420, 1500),
        };
        plan.traffic(&mut dice, span);
        if dice.chance(600) {
            plan.faults(&mut dice, span);
        }
        if dice.chance(500) {
            plan.attack.rate = dice.pick(&[5, 20, 100]);
            // What he keeps back and sends later moves the endpoint of a peer whose address has changed meanwhile.
            plan.attack.holds = plan.demand == Demand::Safety || !plan.moves();
        }
        plan
    }

    /// Whether addresses change during the run.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.nodes.iter().any(|node| node.nat.is_some())
            || self
                .faults
                .iter()
                .any(|(_, fault)| matches!(fault, Fault::Move(_)))
    }

    /// Whether a node loses its state during the run.
    #[must_use]
    pub fn restarts(&self) -> bool {
        self.faults
            .iter()
            .any(|(_, fault)| matches!(fault, Fault::Restart(..) | Fault::Forget(..)))
    }

    /// Nothing is lost on the way.
    #[must_use]
    pub fn lossless(&self) -> bool {
        self.faults.is_empty()
            && self.nodes.iter().all(|node| node.nat.is_none())
            && self.links.iter().all(|link| {
                link.loss == 0 && link.corrupt == 0 && link.bursts.is_none() && link.rate.is_none()
            })
    }

    fn nodes(&mut self, dice: &mut Dice) {
        let natted = dice.chance(250);
        let many = self.nodes.len();
        // Addresses of both families do not reach each other.
        let v6_outside = dice.chance(200);
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.v6_outside = v6_outside;
            // The first is always reachable.
            if at > 0 && natted && dice.chance(600) {
                let safe = self.demand == Demand::Safety;
                node.nat = Some(NatPlan {
                    mapping: dice.pick(&[Mapping::EndpointIndependent, Mapping::EndpointDependent]),
                    expiry: SECOND
                        * if safe && dice.chance(500) {
                            8
                        } else {
                            dice.pick(&[30, 60, 180])
                        },
                });
                node.keepalive = Some(dice.pick(&[5, 15, 25]));
            } else if dice.chance(150) {
                node.keepalive = Some(dice.pick(&[10, 25, 120]));
            }
            if dice.chance(200) {
                node.clock = dice.pick(&[-86_400_000, -1500, 700, 3_600_000]);
            }
            node.persists = dice.chance(700);
            // Whose only peer is evil has nothing to fear for.
            node.evil = at > 0 && many > 2 && dice.chance(100);
        }
    }

    fn networks(&mut self, dice: &mut Dice) {
        let count = match dice.below(20) {
            0..=14 => 1,
            15..=18 => dice.index(2) + 2,
            _ => 10,
        };
        let everyone: Vec<usize> = (0..self.nodes.len()).collect();
        self.nets.clear();
        for at in 0..count {
            let mut members = everyone.clone();
            if at > 0 {
                while members.len() > 2 && dice.chance(500) {
                    members.remove(dice.index(members.len()));
                }
            }
            self.nets.push(NetPlan {
                members,
                mtu: dice.pick(&[1280, 1380, 1420, 1420, 1420, 8920]),
                preshared: dice.chance(250),
                phantoms: if dice.chance(30) { dice.index(60) } else { 0 },
                wide: dice.chance(200),
            });
        }
    }

    /// Two members of a network that can reach each other.
    fn pair(&self, dice: &mut Dice) -> Option<(usize, [usize; 2])> {
        for _ in 0..20 {
            let net = dice.index(self.nets.len());
            let members = &self.nets[net].members;
            let ends = [
                members[dice.index(members.len())],
                members[dice.index(members.len())],
            ];
            if ends[0] != ends[1] && self.reachable(ends) {
                return Some((net, ends));
            }
        }
        None
    }

    fn reachable(&self, ends: [usize; 2]) -> bool {
        ends.iter().any(|end| self.nodes[*end].nat.is_none())
    }

    fn traffic(&mut self, dice: &mut Dice, span: u64) {
        for _ in 0..dice.between(1, 4) {
            let Some((net, ends)) = self.pair(dice) else {
                continue;
            };
            let total = |dice: &mut Dice| match dice.below(8) {
                0 => 0,
                1..=4 => dice.between(1, 4000),
                5 | 6 => dice.between(4000, 60_000),
                _ => dice.between(60_000, 250_000),
            };
            let pace = |dice: &mut Dice| {
                let total = total(dice);
                let slow = |dice: &mut Dice| {
                    if !dice.chance(300) {
                        return (0, Duration::ZERO);
                    }
                    let steps = dice.between(1, 12);
                    let pause = dice.millis(1, 1 + span * 1000 / steps);
                    (total / steps + 1, pause)
                };
                Pace {
                    total,
                    write: slow(dice),
                    // The reader of the other side's bytes: bounded below, so that it ends.
                    read: if dice.chance(200) {
                        (dice.between(2000, 20_000), dice.millis(1, 2000))
                    } else {
                        (0, Duration::ZERO)
                    },
                }
            };
            let paces = [pace(dice), pace(dice)];
            let ending = match dice.below(10) {
                0..=5 => Ending::WhenSent,
                6 | 7 => Ending::AfterReading {
                    server: dice.chance(500),
                },
                _ => {
                    let server = dice.chance(500);
                    let after = dice.below(paces[usize::from(server)].total + 1);
                    Ending::Abort { server, after }
                }
            };
            self.streams.push(StreamPlan {
                net,
                ends,
                v6: dice.chance(400),
                start: dice.millis(0, span * 700),
                paces,
                ending,
            });
        }
        for _ in 0..dice.below(3) {
            let Some((net, ends)) = self.pair(dice) else {
                continue;
            };
            let count = dice.between(1, 60);
            let interval = if dice.chance(150) {
                // More than can wait for a session.
                Duration::from_micros(200)
            } else {
                dice.millis(1, 1 + span * 1000 / count)
            };
            self.flows.push(FlowPlan {
                net,
                ends,
                v6: dice.chance(400),
                start: dice.millis(0, span * 500),
                interval,
                count: u32::try_from(if interval < Duration::from_millis(1) {
                    count * 5
                } else {
                    count
                })
                .unwrap_or(1),
                size: dice.pick(&[20, 300, 1200, 5000]),
                echo: dice.chance(400),
                closed: dice.chance(80),
            });
        }
    }

    fn faults(&mut self, dice: &mut Dice, span: u64) {
        let nodes = self.nodes.len();
        let mut restarted = false;
        let mut moved = false;
        for _ in 0..dice.between(1, 3) {
            let at = dice.millis(0, span * 800);
            let node = dice.index(nodes);
            let other = (node + 1 + dice.index(nodes - 1)) % nodes;
            let long = SECOND * u32::try_from(dice.pick(&[1, 7, 20, 60, 100, 250])).unwrap_or(1);
            let fault = match dice.below(18) {
                0..=2 => Fault::Isolate(node, long),
                3..=5 => Fault::Part(node, other, long),
                6..=8 if !restarted => {
                    restarted = true;
                    Fault::Restart(node, dice.millis(0, 30_000))
                }
                9 | 10 => {
                    // Back in time without a restart is harmless; forward makes a later restart's timestamps old.
                    let by = dice.pick(&[-3_600_000, -5_000, -200, 300, 60_000]);
                    Fault::Clock(node, by)
                }
                11 | 12 if self.nodes[node].nat.is_some() => Fault::Rebind(node),
                // Whose own address changes has to say so: it needs a keepalive. Not two at once.
                13 if !moved && self.nodes[node].nat.is_none() && self.alone_public(node) => {
                    moved = true;
                    self.nodes[node].keepalive.get_or_insert(20);
                    Fault::Move(node)
                }
                14 | 15 => Fault::Load(node, long),
                16 => Fault::Preshared(dice.index(self.nets.len()), node, other),
                17 => {
                    let net = dice.index(self.nets.len());
                    // A wider prefix would take over the addresses of who is forgotten.
                    self.nets[net].wide = false;
                    Fault::Forget(net, node, other, long)
                }
                _ => Fault::Part(node, other, SECOND * 3),
            };
            self.faults.push((at, fault));
        }
        let back = self.faults.iter().any(|(_, fault)| {
            matches!(fault, Fault::Clock(_, by) if *by < 0)
                || matches!(fault, Fault::Clock(_, by) if *by > 0)
        });
        // A clock that was changed and a restart that forgets: refused until the clock catches up, as the protocol has it.
        if back && restarted {
            for node in &mut self.nodes {
                node.persists = true;
            }
        }
    }

    /// Nobody behind a NAT depends on this node's address.
    fn alone_public(&self, node: usize) -> bool {
        self.nodes
            .iter()
            .enumerate()
            .all(|(at, plan)| at == node || plan.nat.is_none())
    }
}

fn link(dice: &mut Dice, rough: u64, demand: Demand) -> Link {
    let mut link = Link {
        delay: dice.millis(0, 5),
        ..Link::CLEAN
    };
    if rough == 0 {
        return link;
    }
    link.delay = match dice.below(4) {
        0 => dice.millis(0, 2),
        1 | 2 => dice.millis(5, 60),
        _ => dice.millis(100, 400),
    };
    if dice.chance(400) {
        link.jitter = dice.millis(0, 30);
    }
    if dice.chance(300) {
        link.duplicate = dice.between(1, 80);
    }
    if rough == 1 {
        return link;
    }
    if dice.chance(400) {
        link.rate = Some(dice.between(20_000, 2_000_000));
        link.queue = dice.between(12_000, 200_000);
    }
    if dice.chance(500) {
        link.loss = match demand {
            Demand::Progress => dice.between(1, 60),
            Demand::Safety => dice.between(1, 500),
        };
    }
    if dice.chance(200) {
        link.bursts = Some([dice.between(1, 20), dice.between(50, 400), 700]);
    }
    if dice.chance(200) {
        link.corrupt = dice.between(1, 30);
    }
    link
}
