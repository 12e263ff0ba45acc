// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who on this host has joined which multicast group, on which interface and with which sources (RFC 3376 §2, §3).
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::interfaces::{LOOPBACK_INDEX, OVERLAY_INDEX};

/// An interface, as programs see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// `lo`.
    Loopback,
    /// `netcon0`.
    Overlay,
}

impl Link {
    /// Its number.
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Loopback => LOOPBACK_INDEX,
            Self::Overlay => OVERLAY_INDEX,
        }
    }

    /// The interface with that number.
    #[must_use]
    pub const fn of_index(index: u32) -> Option<Self> {
        match index {
            LOOPBACK_INDEX => Some(Self::Loopback),
            OVERLAY_INDEX => Some(Self::Overlay),
            _ => None,
        }
    }
}

/// The sources a member wants to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFilter {
    /// All but `sources`; otherwise none but them.
    pub exclude: bool,
    /// In the order in which they were asked for.
    pub sources: Vec<IpAddr>,
}

impl SourceFilter {
    /// Every source.
    #[must_use]
    pub const fn any() -> Self {
        Self {
            exclude: true,
            sources: Vec::new(),
        }
    }

    /// No source: not a member.
    pub(super) const fn none() -> Self {
        Self {
            exclude: false,
            sources: Vec::new(),
        }
    }

    /// Whether what comes from `source` is wanted.
    #[must_use]
    pub fn admits(&self, source: IpAddr) -> bool {
        self.sources.contains(&source) != self.exclude
    }

    pub(super) fn is_any(&self) -> bool {
        self.exclude && self.sources.is_empty()
    }
}

/// A group that a socket has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// A multicast address.
    pub group: IpAddr,
    /// Where.
    pub link: Link,
    /// From whom.
    pub filter: SourceFilter,
}

/// Every node is a member of these, without a word (RFC 1112 §4, RFC 4291 §2.7.1).
pub(super) fn is_all_nodes(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group == Ipv4Addr::new(224, 0, 0, 1),
        IpAddr::V6(group) => {
            group == Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1)
                || group == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
        }
    }
}

/// Groups that never leave the node: scope 0 and 1 of IPv6 (RFC 4291 §2.7).
pub(super) fn is_node_local(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(_) => false,
        IpAddr::V6(group) => group.octets()[1] & 15 <= 1,
    }
}

#[derive(Debug)]
struct Group {
    owners: BTreeSet<u64>,
    /// Owners that want every source.
    plain: usize,
    /// What at least one owner wants.
    filter: SourceFilter,
}

/// How the membership of the host has changed on `netcon0`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) group: IpAddr,
    pub(super) before: SourceFilter,
    pub(super) after: SourceFilter,
}

/// The groups of one host.
#[derive(Debug, Default)]
pub(super) struct Groups {
    owners: BTreeMap<u64, Vec<Membership>>,
    joined: BTreeMap<(Link, IpAddr), Group>,
}

impl Groups {
    /// Replaces what `owner` has joined.
    pub(super) fn set(&mut self, owner: u64, new: Vec<Membership>) -> Vec<Changed> {
        let old = self.owners.remove(&owner).unwrap_or_default();
        let by_key = |list: &[Membership]| -> BTreeMap<(Link, IpAddr), SourceFilter> {
            list.iter()
                .map(|m| ((m.link, m.group), m.filter.clone()))
                .collect()
        };
        let (old, after) = (by_key(&old), by_key(&new));
        let mut keys: BTreeSet<_> = old.keys().chain(after.keys()).copied().collect();
        keys.retain(|key| old.get(key) != after.get(key));
        if !new.is_empty() {
            self.owners.insert(owner, new);
        }
        let mut changes = Vec::new();
        for key in keys {
            let before = self.filter(key);
            let was_plain = old.get(&key).is_some_and(SourceFilter::is_any);
            self.recount(owner, key, was_plain);
            let after = self.filter(key);
            if key.0 == Link::Overlay && before != after {
                changes.push(Changed {
                    group: key.1,
                    before,
                    after,
                });
            }
        }
        changes
    }

    fn recount(&mut self, owner: u64, key: (Link, IpAddr), was_plain: bool) {
        let held = self.of(owner).iter().find(|m| (m.link, m.group) == key);
        let (is_member, is_plain) = (held.is_some(), held.is_some_and(|m| m.filter.is_any()));
        let group = self.joined.entry(key).or_insert_with(|| Group {
            owners: BTreeSet::new(),
            plain: 0,
            filter: SourceFilter::none(),
        });
        group.plain = group.plain + usize::from(is_plain) - usize::from(was_plain);
        if is_member {
            group.owners.insert(owner);
        } else {
            group.owners.remove(&owner);
        }
        if group.owners.is_empty() {
            self.joined.remove(&key);
        } else if group.plain > 0 {
            group.filter = SourceFilter::any();
        } else {
            let filters = group.owners.iter().filter_map(|owner| {
                let memberships = self.owners.get(owner)?;
                memberships.iter().find(|m| (m.link, m.group) == key)
            });
            group.filter = combined(filters.map(|membership| &membership.filter));
        }
    }

    /// What `owner` has joined.
    pub(super) fn of(&self, owner: u64) -> &[Membership] {
        self.owners.get(&owner).map_or(&[], Vec::as_slice)
    }

    fn filter(&self, key: (Link, IpAddr)) -> SourceFilter {
        self.joined
            .get(&key)
            .map_or(SourceFilter::none(), |group| group.filter.clone())
    }

    /// What this host wants of a group on `netcon0`.
    pub(super) fn wanted(&self, group: IpAddr) -> Option<&SourceFilter> {
        let group = self.joined.get(&(Link::Overlay, group))?;
        Some(&group.filter)
    }

    /// Groups joined on `netcon0`.
    pub(super) fn on_overlay(&self) -> impl Iterator<Item = (IpAddr, &SourceFilter)> {
        let first = (Link::Overlay, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.joined
            .range(first..)
            .map(|((_, group), joined)| (*group, &joined.filter))
    }

    /// Whether some socket wants what `source` sends to `group`.
    pub(super) fn admits(&self, link: Link, group: IpAddr, source: IpAddr) -> bool {
        is_all_nodes(group)
            || self
                .joined
                .get(&(link, group))
                .is_some_and(|group| group.filter.admits(source))
    }

    /// Whether a socket takes it, on an interface that does. `all`: also of groups it has not joined (IP_MULTICAST_ALL). A
    /// membership counts for its interface only, of IPv6 for every one, as on Linux.
    pub(super) fn socket_admits(
        &self,
        owner: u64,
        all: bool,
        link: Link,
        group: IpAddr,
        source: IpAddr,
    ) -> bool {
        self.of(owner)
            .iter()
            .find(|m| m.group == group && (m.link == link || group.is_ipv6()))
            .map_or(all, |membership| membership.filter.admits(source))
    }
}

/// RFC 3376 §3.2: everything that at least one of them wants, in order and each once.
fn combined<'a>(filters: impl Iterator<Item = &'a SourceFilter>) -> SourceFilter {
    let mut included = BTreeSet::new();
    let mut excluded: Option<BTreeSet<IpAddr>> = None;
    for filter in filters {
        let sources = filter.sources.iter().copied();
        if !filter.exclude {
            included.extend(sources);
            continue;
        }
        let own: BTreeSet<_> = sources.collect();
        excluded = Some(match excluded {
            Some(all) => all.intersection(&own).copied().collect(),
            None => own,
        });
    }
    match excluded {
        Some(excluded) => SourceFilter {
            exclude: true,
            sources: excluded.difference(&included).copied().collect(),
        },
        None => SourceFilter {
            exclude: false,
            sources: included.into_iter().collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn filter(exclude: bool, sources: &[&str]) -> SourceFilter {
        SourceFilter {
            exclude,
            sources: sources.iter().map(|text| ip(text)).collect(),
        }
    }

    fn joined(link: Link, exclude: bool, sources: &[&str]) -> Vec<Membership> {
        vec![Membership {
            group: ip("239.1.1.1"),
            link,
            filter: filter(exclude, sources),
        }]
    }

    #[test]
    fn the_host_wants_what_one_socket_wants() {
        let mut groups = Groups::default();
        let group = ip("239.1.1.1");
        let rows: [(u64, Vec<Membership>, SourceFilter); 7] = [
            (
                1,
                joined(Link::Overlay, false, &["10.0.0.9"]),
                filter(false, &["10.0.0.9"]),
            ),
            (
                2,
                joined(Link::Overlay, false, &["10.0.0.8"]),
                filter(false, &["10.0.0.8", "10.0.0.9"]),
            ),
            (
                3,
                joined(Link::Overlay, true, &["10.0.0.7", "10.0.0.8"]),
                filter(true, &["10.0.0.7"]),
            ),
            (4, joined(Link::Overlay, true, &[]), filter(true, &[])),
            (4, Vec::new(), filter(true, &["10.0.0.7"])),
            (3, Vec::new(), filter(false, &["10.0.0.8", "10.0.0.9"])),
            (
                1,
                joined(Link::Loopback, true, &[]),
                filter(false, &["10.0.0.8"]),
            ),
        ];
        for (step, (owner, memberships, expected)) in rows.into_iter().enumerate() {
            let before = groups.filter((Link::Overlay, group));
            let changes = groups.set(owner, memberships);
            let [change] = changes.as_slice() else {
                panic!("step {step}: {changes:?}");
            };
            assert_eq!(change.before, before, "step {step}");
            assert_eq!(change.after, expected, "step {step}");
        }
        assert!(groups.set(1, Vec::new()).is_empty(), "lo is told nobody");
        groups.set(2, Vec::new());
        assert!(groups.joined.is_empty() && groups.owners.is_empty());
    }

    #[test]
    fn what_changes_nothing_is_no_change() {
        let mut groups = Groups::default();
        assert_eq!(groups.set(1, joined(Link::Overlay, true, &[])).len(), 1);
        assert!(groups.set(1, joined(Link::Overlay, true, &[])).is_empty());
        assert!(groups.set(2, joined(Link::Overlay, true, &[])).is_empty());
        assert!(groups.set(1, Vec::new()).is_empty());
        assert_eq!(groups.set(2, Vec::new()).len(), 1);
    }
}
