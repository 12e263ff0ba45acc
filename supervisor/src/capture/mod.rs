// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Captures of a network's packets, in clear, as pcapng.
//!
//! The data thread shows every packet to [`Captures`], which belongs to the network's state. While nobody captures that is one
//! branch. Otherwise each capture encodes the packet into its own piece of file, and pieces go through a bounded channel to
//! the client. A client that is too slow loses packets, never holds up the network; losses stand in the file.
//!
//! A packet between two programs of this host is seen once, and has no direction. The file has one interface only: libpcap
//! refuses to read a second one with raw packets.

mod pcapng;

pub use pcapng::Direction;

use netcon_api::answer::Bytes;
use netcon_netstack::sockets::{Owners, SocketId};
use netcon_netstack::stack::PacketEnds;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Captures of one network at the same time.
pub const MOST: usize = 8;
/// Pieces that wait for a client.
const PIECES: usize = 64;
/// Bytes at which a piece is sent; it is larger by one packet at most.
const PIECE: usize = 64 * 1024;
/// Bytes of local packets that wait to be looked at.
pub const TAP: usize = 16 << 20;
/// Largest part of a packet that is kept, bytes: that of tcpdump.
pub const LONGEST: u32 = 262_144;
/// Silence after which statistics are sent, so that a reader that is gone is noticed.
const SILENCE: Duration = Duration::from_secs(15);
/// Connections whose last programs are remembered, so that the packets that end them are labelled too.
const REMEMBERED: usize = 4096;

/// What a capture is to keep.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Bytes kept of each packet, 1 to [`LONGEST`].
    pub snaplen: u32,
    /// Packets after which it ends; None: none.
    pub count: Option<u64>,
}

/// What the captures of a network have done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that went into a file; for each capture anew.
    pub packets: u64,
    /// Packets that did not, because the client was too slow.
    pub dropped: u64,
}

/// The captures of one network.
#[derive(Debug, Default)]
pub struct Captures {
    running: Vec<Capture>,
    /// What each connection's packets are labelled with.
    labels: HashMap<(bool, std::net::SocketAddr, std::net::SocketAddr), Arc<str>>,
    counts: Counts,
}

#[derive(Debug)]
struct Capture {
    sender: Sender<Bytes>,
    /// What is not sent yet.
    piece: Vec<u8>,
    wanted: Wanted,
    began: Duration,
    /// Packets seen.
    seen: u64,
    /// Packets missing in the file.
    dropped: u64,
    /// `dropped` as it stands in the file.
    told: u64,
    /// When something was last sent.
    spoke: Duration,
}

impl Captures {
    /// Somebody captures.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.running.is_empty()
    }

    /// Captures that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// What they have done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Begins one of the network `name`; the file comes through the channel, and ends with it. None: [`MOST`] run.
    pub fn begin(&mut self, name: &str, wanted: Wanted, now: Duration) -> Option<Receiver<Bytes>> {
        self.prune();
        if self.running.len() >= MOST {
            return None;
        }
        let (sender, receiver) = channel(PIECES);
        let mut piece = Vec::with_capacity(PIECE);
        pcapng::section(&mut piece, concat!("netcon ", env!("CARGO_PKG_VERSION")));
        let description = format!("network {name}");
        pcapng::interface(&mut piece, "netcon0", &description, wanted.snaplen);
        let mut capture = Capture {
            sender,
            piece,
            wanted,
            began: now,
            seen: 0,
            dropped: 0,
            told: 0,
            spoke: now,
        };
        // A reader sees at once that there is a file.
        capture.send(now);
        self.running.push(capture);
        Some(receiver)
    }

    /// Shows a packet to all captures. `owners` are its sockets, `label` names the program of one.
    pub fn packet(
        &mut self,
        now: Duration,
        direction: Direction,
        bytes: &[u8],
        owners: Owners,
        label: impl Fn(SocketId) -> Option<String>,
    ) {
        let label = self.label(bytes, owners, label);
        let counts = &mut self.counts;
        self.running.retain_mut(|capture| {
            if capture.add(now, direction, bytes, label.as_deref()) {
                counts.packets += 1;
            } else {
                counts.dropped += 1;
            }
            let over = capture
                .wanted
                .count
                .is_some_and(|count| capture.seen - capture.dropped >= count);
            if over {
                capture.end(now);
            }
            !over
        });
    }

    /// Notes local packets that were lost before they could be shown.
    pub fn lost(&mut self, packets: u64) {
        for capture in &mut self.running {
            capture.seen += packets;
            capture.dropped += packets;
            self.counts.dropped += packets;
        }
    }

    /// Sends what has come together; to be called when nothing more comes for now. Captures nobody reads any more end.
    pub fn flush(&mut self, now: Duration) {
        for capture in &mut self.running {
            capture.tell_drops(now);
            if now.saturating_sub(capture.spoke) >= SILENCE && capture.piece.is_empty() {
                capture.statistics(now);
            }
            capture.send(now);
        }
        self.prune();
    }

    /// Ends all of them.
    pub fn end(&mut self, now: Duration) {
        for mut capture in self.running.drain(..) {
            capture.end(now);
        }
        self.labels = HashMap::new();
    }

    /// Forgets captures nobody reads any more.
    pub fn prune(&mut self) {
        self.running.retain(|capture| !capture.sender.is_closed());
        if self.running.is_empty() {
            self.labels = HashMap::new();
        }
    }

    fn label(
        &mut self,
        bytes: &[u8],
        owners: Owners,
        label: impl Fn(SocketId) -> Option<String>,
    ) -> Option<Arc<str>> {
        let ends = PacketEnds::of(bytes)?;
        // One entry for both ways.
        let key = (ends.stream, ends.from.min(ends.to), ends.from.max(ends.to));
        let name = |owner: Option<SocketId>| owner.and_then(&label);
        let text = match (name(owners.sender), name(owners.receiver)) {
            (Some(from), Some(to)) => format!("{from} to {to}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return self.labels.get(&key).cloned(),
        };
        if let Some(known) = self.labels.get(&key).filter(|known| ***known == *text) {
            return Some(Arc::clone(known));
        }
        if self.labels.len() >= REMEMBERED {
            self.labels.clear();
        }
        let text: Arc<str> = text.into();
        self.labels.insert(key, Arc::clone(&text));
        Some(text)
    }
}

impl Capture {
    /// False: there was no room.
    fn add(
        &mut self,
        now: Duration,
        direction: Direction,
        bytes: &[u8],
        comment: Option<&str>,
    ) -> bool {
        self.seen += 1;
        if self.piece.len() >= PIECE {
            self.send(now);
        }
        if self.piece.len() >= PIECE {
            self.dropped += 1;
            return false;
        }
        self.tell_drops(now);
        let snaplen = usize::try_from(self.wanted.snaplen).unwrap_or(usize::MAX);
        pcapng::packet(&mut self.piece, now, direction, bytes, snaplen, comment);
        true
    }

    /// A file may be cut off at any time: what is missing is said as soon as there is room.
    fn tell_drops(&mut self, now: Duration) {
        if self.dropped != self.told && self.piece.len() < PIECE {
            self.statistics(now);
        }
    }

    fn statistics(&mut self, now: Duration) {
        pcapng::statistics(&mut self.piece, self.began, now, self.seen, self.dropped);
        self.told = self.dropped;
    }

    /// Gives the piece away if there is room for it and for the last one.
    fn send(&mut self, now: Duration) {
        if !self.piece.is_empty() && self.sender.capacity() > 1 {
            self.spoke = now;
            self.send_now();
        }
    }

    fn send_now(&mut self) {
        match self.sender.try_send(std::mem::take(&mut self.piece).into()) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(piece)) => self.piece = piece.into(),
        }
    }

    /// The last piece has a place kept for it.
    fn end(&mut self, now: Duration) {
        self.statistics(now);
        self.send_now();
    }
}

#[cfg(test)]
mod tests;
