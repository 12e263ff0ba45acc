// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One lazy heap of flow deadlines. An entry may be earlier than the flow's true deadline, never later; an entry that the
//! flow no longer knows (`Flow::timer`) is stale and skipped. Moving a deadline later costs nothing.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::FlowId;

/// Stale entries that are tolerated beside twice the live ones.
const SLACK: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, FlowId)>>,
}

impl Timers {
    /// Makes sure that `flow` is looked at by `at`; `armed` is that flow's own record.
    pub(super) fn arm(&mut self, flow: FlowId, armed: &mut Option<Instant>, at: Instant) {
        if armed.is_some_and(|armed| armed <= at) {
            return;
        }
        *armed = Some(at);
        self.heap.push(Reverse((at, flow)));
    }

    /// The next entry due at `now`; the caller compares it with the flow's record.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, FlowId)> {
        let Reverse((at, flow)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((at, flow))
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Drops stale entries in front, so that nobody is woken for them, and all of them once they outnumber the `live` flows.
    pub(super) fn compact(
        &mut self,
        live: usize,
        mut is_current: impl FnMut(FlowId, Instant) -> bool,
    ) {
        while let Some(Reverse((at, flow))) = self.heap.peek()
            && !is_current(*flow, *at)
        {
            self.heap.pop();
        }
        if self.heap.len() > 2 * live + SLACK {
            self.heap
                .retain(|Reverse((at, flow))| is_current(*flow, *at));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}
