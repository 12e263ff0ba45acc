// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Listening addresses and the connections that are being opened to them.
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::flow::Tuple;
use super::hash::{Secrets, TableKey};
use super::slab::Slab;
use super::{FlowId, ListenerId, LocalAddr, TcpOptions};

/// Half-open connections that even the smallest backlog admits: they last one round trip, and Linux keeps them outside the
/// accept queue (SYN cookies).
const MIN_HALF_OPEN: usize = 16;
/// A half-open connection older than this gives way to a new SYN when the bound is reached.
pub(super) const HALF_OPEN_YIELDS: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) at: LocalAddr,
    backlog: usize,
    pub(super) paused: bool,
    pub(super) options: TcpOptions,
    /// Flows in SYN_RCVD, the oldest first, with their time.
    half_open: VecDeque<(Instant, FlowId)>,
}

/// Whether a listener takes one more SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admit,
    /// Admit after this stale attempt was removed.
    Replace(FlowId),
    Drop,
}

impl Listener {
    pub(super) fn admission(&self, now: Instant) -> Admission {
        if self.paused {
            return Admission::Drop;
        }
        if self.half_open.len() < self.backlog.max(MIN_HALF_OPEN) {
            return Admission::Admit;
        }
        match self.half_open.front() {
            Some((since, flow)) if now >= *since + HALF_OPEN_YIELDS => Admission::Replace(*flow),
            Some(_) | None => Admission::Drop,
        }
    }

    pub(super) fn add_half_open(&mut self, now: Instant, flow: FlowId) {
        self.half_open.push_back((now, flow));
    }

    pub(super) fn remove_half_open(&mut self, flow: FlowId) {
        // Attempts end roughly in the order they began: the search is short.
        if let Some(at) = self.half_open.iter().position(|(_, other)| *other == flow) {
            self.half_open.remove(at);
        }
    }

    pub(super) fn into_half_open(self) -> impl Iterator<Item = FlowId> {
        self.half_open.into_iter().map(|(_, flow)| flow)
    }
}

#[derive(Debug)]
pub(super) struct Listeners {
    all: Slab<Listener>,
    exact: HashMap<SocketAddr, Vec<ListenerId>, TableKey>,
    wildcard: HashMap<(u16, bool), Vec<ListenerId>, TableKey>,
}

impl Listeners {
    pub(super) fn new(key: TableKey) -> Self {
        Self {
            all: Slab::new(),
            exact: HashMap::with_hasher(key),
            wildcard: HashMap::with_hasher(key),
        }
    }

    pub(super) fn add(&mut self, at: LocalAddr, backlog: usize, options: TcpOptions) -> ListenerId {
        let id = self.all.insert_with(|_| Listener {
            at,
            backlog,
            paused: false,
            options,
            half_open: VecDeque::new(),
        });
        // A full table gives an id that never existed: such a listener receives nothing.
        let Some(id) = id.map(ListenerId) else {
            return ListenerId(0);
        };
        match at.ip {
            Some(ip) => self
                .exact
                .entry(SocketAddr::new(ip, at.port))
                .or_default()
                .push(id),
            None => {
                for v4 in at.families.each_v4() {
                    self.wildcard.entry((at.port, v4)).or_default().push(id);
                }
            }
        }
        id
    }

    pub(super) fn remove(&mut self, id: ListenerId) -> Option<Listener> {
        let listener = self.all.remove(id.0)?;
        let LocalAddr { ip, families, port } = listener.at;
        match ip {
            Some(ip) => {
                let key = SocketAddr::new(ip, port);
                if let Some(ids) = self.exact.get_mut(&key) {
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        self.exact.remove(&key);
                    }
                }
            }
            None => {
                for v4 in families.each_v4() {
                    let key = (port, v4);
                    if let Some(ids) = self.wildcard.get_mut(&key) {
                        ids.retain(|other| *other != id);
                        if ids.is_empty() {
                            self.wildcard.remove(&key);
                        }
                    }
                }
            }
        }
        Some(listener)
    }

    pub(super) fn get(&self, id: ListenerId) -> Option<&Listener> {
        self.all.get(id.0)
    }

    pub(super) fn get_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.all.get_mut(id.0)
    }

    pub(super) fn set_backlog(&mut self, id: ListenerId, backlog: usize) {
        if let Some(listener) = self.all.get_mut(id.0) {
            listener.backlog = backlog;
        }
    }

    /// The listener for a new connection: exact address before wildcard; several on one address share by 4-tuple.
    pub(super) fn find(&self, secrets: &Secrets, tuple: &Tuple) -> Option<ListenerId> {
        let local = tuple.local;
        let ids = self
            .exact
            .get(&local)
            .or_else(|| self.wildcard.get(&(local.port(), local.is_ipv4())))?;
        match ids.as_slice() {
            [] => None,
            [only] => Some(*only),
            several => several.get(secrets.spread(tuple, several.len())).copied(),
        }
    }
}
