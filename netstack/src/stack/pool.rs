// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sockets with their rings, kept between connections: allocating rings is most of the cost of a short connection.
use super::TcpOptions;
use super::flow::Endpoint;

/// Bytes of rings that are kept for the next connections.
const KEPT_BYTES: usize = 32 << 20;

/// Endpoints without a connection. Bounded; what is too many is freed.
#[derive(Debug)]
pub(super) struct Pool {
    free: Vec<Endpoint>,
    ring: usize,
    limit: usize,
    /// Fewest free endpoints since the last trim: so many were not needed.
    unused: usize,
}

impl Pool {
    /// `ring`: bytes of each of the two rings of an endpoint.
    pub(super) fn new(ring: usize) -> Self {
        Self {
            free: Vec::new(),
            ring,
            limit: (KEPT_BYTES / (2 * ring)).clamp(4, 1024),
            unused: 0,
        }
    }

    pub(super) fn take(&mut self, options: &TcpOptions) -> Endpoint {
        let receive = options
            .receive_buffer
            .map_or(self.ring, |bytes| bytes.min(self.ring));
        let kept = if receive == self.ring {
            self.free.pop()
        } else {
            None
        };
        let mut endpoint = kept.unwrap_or_else(|| Endpoint::new(receive, self.ring));
        self.unused = self.unused.min(self.free.len());
        endpoint.prepare(options);
        endpoint
    }

    pub(super) fn give(&mut self, endpoint: Endpoint) {
        if self.free.len() < self.limit && endpoint.socket().recv_capacity() == self.ring {
            self.free.push(endpoint);
        }
    }

    /// Frees what was not needed since the last call.
    pub(super) fn trim(&mut self) {
        let keep = self.free.len().saturating_sub(self.unused);
        self.free.truncate(keep);
        self.free.shrink_to_fit();
        self.unused = self.free.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}
