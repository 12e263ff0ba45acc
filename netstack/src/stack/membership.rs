// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Membership between peers: what this host tells of its groups, and what it knows of theirs.
//!
//! A host reports as RFC 3376 and RFC 3810 say. There is no router on an overlay: whoever sends to a group asks who is a member,
//! before its first packet and every [`QUERY_INTERVAL`] while it goes on sending, and is answered. Until the answers can be here
//! its packets go to every peer, then to those that have reported. So nothing is said while nobody sends, and what a peer has
//! reported is forgotten after [`MEMBERSHIP`].
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::groups::{Changed, Groups, is_all_nodes, is_node_local};
use super::igmp::{self, Kind, Message, Record, Version};
use super::wire::IpPacket;
use super::{FANOUT_MAX, Fanout, Membership, SourceFilter, Stack};

/// RFC 3376 §8: between the questions about one group,
const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// how long a report holds, and how long an older querier is spoken to in its language,
const MEMBERSHIP: Duration = Duration::from_secs(260);
/// and between the repetitions of a report, at most.
const REPEAT: Duration = Duration::from_secs(1);
/// The first question is asked twice; after this time those that have not answered are no members.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(3);
/// No answer comes sooner, so that a flood of questions is not answered by a flood.
const LEAST_DELAY: Duration = Duration::from_millis(10);
/// Memberships of peers that are remembered; the one heard of longest ago gives way.
const MEMBERS_MAX: usize = 16_384;
/// Groups this host sends to that are remembered; the one asked about longest ago gives way.
const ASKED_MAX: usize = 256;
/// Groups of this host that are told, and queriers that are answered at once; more queriers: everyone is.
const TOLD_MAX: usize = 1024;
const QUERIERS_MAX: usize = 64;

/// What a host has to say about one family.
#[derive(Debug, Default)]
struct Host {
    /// By group.
    changes: BTreeMap<IpAddr, Change>,
    answer: Option<Answer>,
    /// An older querier, and until when it counts.
    older: Option<(Version, Instant)>,
}

/// A change that is being told.
#[derive(Debug)]
struct Change {
    records: Vec<Record>,
    left: u8,
    at: Instant,
}

/// A question that is going to be answered.
#[derive(Debug)]
struct Answer {
    at: Instant,
    /// Empty: too many to name.
    to: BTreeSet<IpAddr>,
    /// Groups, and sources of each (none: all). `None`: all groups.
    about: Option<BTreeMap<IpAddr, BTreeSet<IpAddr>>>,
}

/// When members of a group were asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    first: Instant,
    last: Instant,
}

/// Groups of peers, by what they have reported.
#[derive(Debug, Default)]
struct Members {
    until: BTreeMap<IpAddr, BTreeMap<IpAddr, Instant>>,
    order: BTreeSet<(Instant, IpAddr, IpAddr)>,
}

impl Members {
    fn joined(&mut self, now: Instant, group: IpAddr, member: IpAddr) {
        let until = now + MEMBERSHIP;
        let of_group = self.until.entry(group).or_default();
        if let Some(before) = of_group.insert(member, until) {
            self.order.remove(&(before, group, member));
        }
        self.order.insert((until, group, member));
        if self.order.len() > MEMBERS_MAX {
            self.forget_oldest();
        }
    }

    fn left(&mut self, group: IpAddr, member: IpAddr) {
        let Some(of_group) = self.until.get_mut(&group) else {
            return;
        };
        if let Some(until) = of_group.remove(&member) {
            self.order.remove(&(until, group, member));
        }
        if of_group.is_empty() {
            self.until.remove(&group);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(&(_, group, member)) = self.order.first() {
            self.left(group, member);
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.order.first().is_some_and(|(until, ..)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn of(&self, group: IpAddr) -> Arc<[IpAddr]> {
        let members = self.until.get(&group).into_iter().flatten();
        members
            .map(|(member, _)| *member)
            .take(FANOUT_MAX)
            .collect()
    }
}

/// Everything about groups that one network's engine knows.
#[derive(Debug, Default)]
pub(super) struct Multicast {
    pub(super) groups: Groups,
    hosts: [Host; 2],
    members: Members,
    asked: BTreeMap<IpAddr, Asked>,
    /// Random delays drawn so far.
    drawn: u64,
}

impl Multicast {
    pub(super) fn set(&mut self, now: Instant, owner: u64, memberships: Vec<Membership>) {
        for change in self.groups.set(owner, memberships) {
            if is_all_nodes(change.group) || is_node_local(change.group) {
                continue;
            }
            let host = &mut self.hosts[usize::from(change.group.is_ipv6())];
            let retold = host.changes.contains_key(&change.group);
            if host.changes.len() >= TOLD_MAX && !retold {
                continue;
            }
            // What was not told often enough yet is told again by telling all.
            let records = if retold {
                vec![state(change.group, &change.after, true)]
            } else {
                difference(&change)
            };
            let change_of = Change {
                records,
                left: igmp::ROBUSTNESS,
                at: now,
            };
            host.changes.insert(change.group, change_of);
        }
    }

    /// When there is something to be said.
    pub(super) fn next(&self) -> Option<Instant> {
        let of_host = |host: &Host| {
            let changes = host.changes.values().map(|change| change.at);
            changes
                .chain(host.answer.as_ref().map(|answer| answer.at))
                .min()
        };
        self.hosts.iter().filter_map(of_host).min()
    }
}

/// RFC 3376 §5.1: how a change is told.
fn difference(change: &Changed) -> Vec<Record> {
    let Changed {
        group,
        before,
        after,
    } = change;
    if before.exclude != after.exclude || *after == SourceFilter::none() {
        return vec![state(*group, after, true)];
    }
    let minus = |one: &SourceFilter, other: &SourceFilter| {
        let sources = one.sources.iter().copied();
        sources
            .filter(|source| !other.sources.contains(source))
            .collect::<Vec<_>>()
    };
    let (mut allow, mut block) = (minus(after, before), minus(before, after));
    if after.exclude {
        std::mem::swap(&mut allow, &mut block);
    }
    let records = [(Kind::Allow, allow), (Kind::Block, block)];
    records
        .into_iter()
        .filter(|(_, sources)| !sources.is_empty())
        .map(|(kind, sources)| Record {
            kind,
            group: *group,
            sources,
        })
        .collect()
}

/// A record of all that is wanted of a group.
fn state(group: IpAddr, filter: &SourceFilter, changed: bool) -> Record {
    let kind = match (filter.exclude, changed) {
        (true, true) => Kind::ToExclude,
        (false, true) => Kind::ToInclude,
        (true, false) => Kind::IsExclude,
        (false, false) => Kind::IsInclude,
    };
    Record {
        kind,
        group,
        sources: filter.sources.clone(),
    }
}

/// RFC 3376 §5.2: what is said to a question about `sources` of a group; nothing if none of them is wanted.
fn about_sources(
    group: IpAddr,
    filter: &SourceFilter,
    sources: &BTreeSet<IpAddr>,
) -> Option<Record> {
    if sources.is_empty() {
        return Some(state(group, filter, false));
    }
    let wanted: Vec<_> = sources
        .iter()
        .copied()
        .filter(|source| filter.admits(*source))
        .collect();
    (!wanted.is_empty()).then_some(Record {
        kind: Kind::IsInclude,
        group,
        sources: wanted,
    })
}

impl Stack {
    /// To whom a packet for `to` goes; asks for the members of a group where that is not known.
    pub(super) fn fanout(&mut self, now: Instant, to: IpAddr) -> Fanout {
        if !to.is_multicast() || is_all_nodes(to) {
            return Fanout::Everyone;
        }
        let known = self.multicast.asked.get(&to).copied();
        let known = known.filter(|asked| now < asked.last + MEMBERSHIP);
        let due = match known {
            Some(Asked { first, last }) if first == last => now >= first + ASK_AGAIN,
            Some(Asked { last, .. }) => now >= last + QUERY_INTERVAL,
            None => true,
        };
        let first = known.map_or(now, |asked| asked.first);
        if due {
            self.ask(now, first, to);
        }
        if now < first + SETTLE {
            return Fanout::Everyone;
        }
        self.multicast.members.expire(now);
        Fanout::Members(self.multicast.members.of(to))
    }

    fn ask(&mut self, now: Instant, first: Instant, group: IpAddr) {
        let asked = &mut self.multicast.asked;
        if asked.len() >= ASKED_MAX && !asked.contains_key(&group) {
            let oldest = asked.iter().min_by_key(|(_, asked)| asked.last);
            if let Some(oldest) = oldest.map(|(group, _)| *group) {
                asked.remove(&oldest);
            }
        }
        asked.insert(group, Asked { first, last: now });
        if let Some(from) = self.addresses.source_for(group) {
            self.say(&igmp::query(from, group), Fanout::Everyone);
        }
    }

    /// A message about membership from a peer.
    pub(super) fn handle_membership(&mut self, now: Instant, ip: &IpPacket<'_>) {
        match Message::parse(ip) {
            None => self.counters.malformed += 1,
            Some(Message::Report(records)) => {
                self.multicast.members.expire(now);
                for record in records {
                    if is_all_nodes(record.group) || record.group.is_ipv4() != ip.src.is_ipv4() {
                        continue;
                    }
                    let members = &mut self.multicast.members;
                    match (record.kind, record.sources.is_empty()) {
                        (Kind::IsExclude | Kind::ToExclude, _)
                        | (Kind::IsInclude | Kind::ToInclude | Kind::Allow, false) => {
                            members.joined(now, record.group, ip.src);
                        }
                        (Kind::IsInclude | Kind::ToInclude, true) => {
                            members.left(record.group, ip.src);
                        }
                        // Others may still be wanted; if not, it is forgotten in time.
                        (Kind::Allow, true) | (Kind::Block, _) => {}
                    }
                }
            }
            Some(Message::Query {
                version,
                group,
                sources,
                within,
            }) => {
                if version < Version::Three {
                    let host = &mut self.multicast.hosts[usize::from(ip.src.is_ipv6())];
                    host.older = Some((version, now + MEMBERSHIP));
                }
                self.answer_later(now, ip.src, group, sources, within);
            }
        }
    }

    fn answer_later(
        &mut self,
        now: Instant,
        from: IpAddr,
        group: Option<IpAddr>,
        sources: Vec<IpAddr>,
        within: Duration,
    ) {
        let groups = &self.multicast.groups;
        let concerned = match group {
            Some(group) => {
                group.is_ipv4() == from.is_ipv4()
                    && !is_all_nodes(group)
                    && !is_node_local(group)
                    && groups.wanted(group).is_some()
            }
            None => groups
                .on_overlay()
                .any(|(group, _)| group.is_ipv4() == from.is_ipv4()),
        };
        if !concerned {
            return;
        }
        let at = now + self.delay(within).max(LEAST_DELAY);
        let host = &mut self.multicast.hosts[usize::from(from.is_ipv6())];
        let answer = host.answer.get_or_insert_with(|| Answer {
            at,
            to: BTreeSet::from([from]),
            about: Some(BTreeMap::new()),
        });
        answer.at = answer.at.min(at);
        if !answer.to.is_empty() {
            answer.to.insert(from);
        }
        if answer.to.len() > QUERIERS_MAX {
            answer.to.clear();
        }
        match (group, &mut answer.about) {
            (None, about) => *about = None,
            (Some(_), None) => {}
            (Some(group), Some(about)) => match about.get_mut(&group) {
                // Asked about all sources already, or now.
                Some(asked) if asked.is_empty() || sources.is_empty() => asked.clear(),
                Some(asked) if asked.len() + sources.len() > FANOUT_MAX => asked.clear(),
                Some(asked) => asked.extend(sources),
                None => {
                    about.insert(group, sources.into_iter().collect());
                }
            },
        }
    }

    /// A time in `0..within`.
    fn delay(&mut self, within: Duration) -> Duration {
        self.multicast.drawn += 1;
        // Apart from the numbers of flows.
        let random = self.secrets.nonce(u64::MAX / 2 + self.multicast.drawn);
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(random % millis.max(1))
    }

    /// Says what is due.
    pub(super) fn report_memberships(&mut self, now: Instant) {
        for family in 0..2 {
            let (mut joins, mut leaves) = (Vec::new(), Vec::new());
            let groups: Vec<_> = self.multicast.hosts[family]
                .changes
                .iter()
                .filter(|(_, change)| change.at <= now)
                .map(|(group, _)| *group)
                .collect();
            for group in groups {
                let again = now + self.delay(REPEAT).max(LEAST_DELAY);
                let host = &mut self.multicast.hosts[family];
                let Some(change) = host.changes.get_mut(&group) else {
                    continue;
                };
                for record in &change.records {
                    let leaves_all = matches!(
                        record.kind,
                        Kind::ToInclude | Kind::Block if record.sources.is_empty()
                            || record.kind == Kind::Block
                    );
                    let list = if leaves_all { &mut leaves } else { &mut joins };
                    list.push(record.clone());
                }
                change.left -= 1;
                change.at = again;
                if change.left == 0 {
                    host.changes.remove(&group);
                }
            }
            let v6 = family == 1;
            self.report(now, v6, joins, &Fanout::Everyone);
            self.report(now, v6, leaves, &Fanout::Awake);
            self.answer_now(now, v6);
        }
    }

    fn answer_now(&mut self, now: Instant, v6: bool) {
        let due = |answer: &mut Answer| answer.at <= now;
        let multicast = &mut self.multicast;
        let Some(answer) = multicast.hosts[usize::from(v6)].answer.take_if(due) else {
            return;
        };
        let groups = &multicast.groups;
        let records: Vec<_> = match answer.about {
            None => groups
                .on_overlay()
                .filter(|(group, _)| group.is_ipv6() == v6)
                .filter(|(group, _)| !is_all_nodes(*group) && !is_node_local(*group))
                .take(TOLD_MAX)
                .map(|(group, filter)| state(group, filter, false))
                .collect(),
            Some(about) => about
                .into_iter()
                .filter_map(|(group, sources)| {
                    about_sources(group, groups.wanted(group)?, &sources)
                })
                .collect(),
        };
        let to = if answer.to.is_empty() {
            Fanout::Awake
        } else {
            Fanout::Members(answer.to.into_iter().collect())
        };
        self.report(now, v6, records, &to);
    }

    /// Sends records in the language of the oldest querier.
    fn report(&mut self, now: Instant, v6: bool, records: Vec<Record>, to: &Fanout) {
        let Some(from) = self.own_address(v6) else {
            return;
        };
        let records: Vec<_> = records.into_iter().map(Record::told).collect();
        let older = self.multicast.hosts[usize::from(v6)].older;
        let packets = match older.filter(|(_, until)| now < *until) {
            Some((version, _)) => records
                .iter()
                .filter(|record| record.kind != Kind::Block)
                .filter_map(|record| igmp::old_report(from, record, version))
                .collect(),
            None => igmp::reports(from, &records, self.config.mtu),
        };
        for packet in packets {
            self.say(&packet, to.clone());
        }
    }

    /// Queues a message; where there is no room it is lost, as it may be on its way.
    fn say(&mut self, packet: &[u8], to: Fanout) {
        if self.egress.has_room() {
            let (buffer, _) = self.egress.push_for(packet.len(), None, Some(to));
            buffer.copy_from_slice(packet);
        }
    }
}
