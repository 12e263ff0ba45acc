// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the control side looks at in the running node: sockets, addresses, packets, happenings.

use std::net::IpAddr;
use std::sync::Arc;

use netcon_api::answer::Bytes;
use netcon_netstack::stack::{Ping, PingError, PingOutcome};
use netcon_overlay::PublicKey;
use tokio::sync::{mpsc, oneshot};

use crate::capture::Wanted;
use crate::events::Events;
use crate::metrics::Figures;
use crate::network::Seen;

/// The node as it can be looked at. Every method is quick, as those of [`super::Runtime`]; none holds up packets for longer
/// than a page of sockets takes.
pub trait Observe: Send + Sync {
    /// At most `most` sockets of a network for which `wanted` holds, after number `after`, oldest first; and the number to go
    /// on after, if there may be more. None: the network does not run.
    fn sockets(
        &self,
        network: &str,
        after: Option<u64>,
        most: usize,
        wanted: &dyn Fn(&Seen) -> bool,
    ) -> Option<(Vec<SocketView>, Option<u64>)>;

    /// Where packets of this host to `address` go.
    fn whereabouts(&self, network: &str, address: IpAddr) -> Whereabouts;

    /// Sends an echo request; the channel tells what became of it, or is closed when the network ends.
    ///
    /// # Errors
    /// [`NotPinged`].
    fn ping(&self, network: &str, ping: Ping) -> Result<oneshot::Receiver<PingOutcome>, NotPinged>;

    /// Begins a capture; the channel gives the file, and is closed at its end.
    ///
    /// # Errors
    /// [`NotCaptured`].
    fn capture(&self, network: &str, wanted: Wanted) -> Result<mpsc::Receiver<Bytes>, NotCaptured>;

    /// Figures of the node; `names` gives a peer's name from network and key.
    fn figures(&self, names: &dyn Fn(&str, &str) -> Option<String>) -> Figures;

    /// Where happenings are told.
    fn events(&self) -> &Arc<Events>;

    /// Told what happens from now on; None: too many listen already.
    fn listen_to_events(&self) -> Option<mpsc::Receiver<Bytes>>;
}

/// A socket and the program that has it.
#[derive(Debug, Clone)]
pub struct SocketView {
    /// The socket.
    pub seen: Seen,
    /// Process that used it last, and its name; as far as they are known.
    pub program: Option<crate::network::Program>,
}

/// What an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// An address of this host on the network.
    Own,
    /// Private to this host: 127.0.0.0/8, ::1.
    Loopback,
    /// Behind this peer.
    Peer(PublicKey),
    /// Nowhere.
    Unknown,
}

/// Why no echo request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPinged {
    /// The network does not run.
    NoNetwork,
    /// The engine's reason.
    Refused(PingError),
}

/// Why no capture was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCaptured {
    /// The network does not run.
    NoNetwork,
    /// [`crate::capture::MOST`] run.
    TooMany,
}
