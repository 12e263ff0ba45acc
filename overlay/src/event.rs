// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the overlay answers: results of its calls and the reasons it throws things away.

use std::net::SocketAddr;

use crate::ecn::Ecn;
use crate::key::PublicKey;
use crate::overlay::NetworkIndex;

/// A packet sealed in the caller's buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sealed {
    /// Bytes of the datagram, from the start of the buffer.
    pub len: usize,
    /// Where to send it.
    pub to: SocketAddr,
    /// Congestion mark for the outer header: that of the packet.
    pub ecn: Ecn,
}

/// A datagram that [`Overlay::poll_datagram`](crate::Overlay::poll_datagram) wrote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outgoing {
    /// Where to send it.
    pub to: SocketAddr,
    /// How to mark it.
    pub mark: Mark,
}

/// Traffic class of an outgoing datagram's outer header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// A message of the handshake: AF41 ([`Mark::HANDSHAKE_CLASS`]), so that it passes where data queues.
    Handshake,
    /// Data: no DSCP, which would tell observers what is inside, and the packet's own congestion mark.
    Data(Ecn),
}

impl Mark {
    /// DSCP AF41 (RFC 2597) as a byte of the IP header, without a congestion mark.
    pub const HANDSHAKE_CLASS: u8 = 0x88;

    /// The byte of the IP header: type of service, or traffic class.
    pub const fn class(self) -> u8 {
        match self {
            Self::Handshake => Self::HANDSHAKE_CLASS,
            Self::Data(ecn) => ecn.bits(),
        }
    }
}

/// Why [`Overlay::encapsulate`](crate::Overlay::encapsulate) left nothing to send in the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotSent {
    /// No peer's allowed IPs contain the destination.
    #[error("no peer has the destination")]
    NoRoute,
    /// The peer has no endpoint yet and has never called.
    #[error("the peer's endpoint is not known")]
    NoEndpoint,
    /// The path to the peer carries IP packets of at most `mtu` bytes now; the sender is to be told.
    #[error("larger than the {mtu} bytes the path carries")]
    TooLarge {
        /// Bytes of the largest packet.
        mtu: usize,
    },
    /// Copied to the peer's waiting packets; it leaves by `poll_transmit` when the handshake is done.
    #[error("waiting for a handshake")]
    Queued,
    /// Not an IP packet of `len` bytes, larger than the network's MTU, a buffer too small, or an unknown network.
    #[error("not a packet of this network")]
    Invalid,
}

/// What a datagram was.
#[derive(Debug)]
pub enum Received<'b> {
    /// An IP packet from a peer who may send from its source address.
    Packet {
        /// The network it arrived on.
        network: NetworkIndex,
        /// The peer that sealed it.
        peer: PublicKey,
        /// The packet, decrypted in the caller's buffer, without padding.
        packet: &'b mut [u8],
    },
    /// A handshake message or keepalive: nothing for the caller, but `poll_transmit` may have something.
    Handled,
    /// Thrown away, and counted.
    Dropped(DropReason),
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// Why something was thrown away. Each has a counter, see [`Overlay::drops`](crate::Overlay::drops).
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum DropReason {
            $($(#[$doc])* $reason,)*
        }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// The reason as a label for metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// A datagram too short for any message, or of the wrong length for its type.
    WrongLength = "wrong_length",
    /// A datagram that is no message of the protocol.
    UnknownType = "unknown_type",
    /// A handshake message whose mac1 is for none of our keys: not meant for us, or scanned.
    WrongMac1 = "wrong_mac1",
    /// No handshake or session has this receiver index: a late message, or we restarted.
    UnknownIndex = "unknown_index",
    /// An initiation by a key that is no peer of the network.
    UnknownPeer = "unknown_peer",
    /// A field did not decrypt: wrong preshared key, damaged, or forged.
    Forged = "forged",
    /// A public key of low order, with which the shared secret would be known to all.
    LowOrderKey = "low_order_key",
    /// An initiation not newer than the last one accepted: replayed, or the peer's clock went back.
    OldInitiation = "old_initiation",
    /// A second initiation of a peer within 20 ms.
    InitiationFlood = "initiation_flood",
    /// Under load: answered by a cookie instead of a handshake.
    CookieDemanded = "cookie_demanded",
    /// Under load: this source sends more handshakes than its share.
    SourceRate = "source_rate",
    /// A packet's counter was seen before or is too old to know.
    Replayed = "replayed",
    /// The session is past its time or its number of messages.
    SessionExpired = "session_expired",
    /// The sealed bytes are not one IP packet.
    NotIp = "not_ip",
    /// Marked as congested on its way, and its transport does not react to marks (RFC 6040).
    CongestionLoss = "congestion_loss",
    /// The reserved bytes after the type are neither zero nor those agreed with the peer.
    ReservedBytes = "reserved_bytes",
    /// The packet's source address does not belong to the peer that sealed it.
    ForbiddenSource = "forbidden_source",
    /// Outgoing: the peer's waiting packets were full, the oldest went.
    StageFull = "stage_full",
    /// Outgoing: larger than the path to the peer carries at present.
    PathTooNarrow = "path_too_narrow",
    /// Outgoing: the peer's endpoint is not known.
    NoEndpoint = "no_endpoint",
    /// Outgoing: packets that waited for a handshake that never finished.
    HandshakeTimeout = "handshake_timeout",
    /// Outgoing: too many cookie replies waited.
    CookieReplyQueueFull = "cookie_reply_queue_full",
}

/// Why a configuration was refused; nothing has changed then.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The index is in use.
    #[error("the network exists already")]
    NetworkExists,
    /// No network has this index.
    #[error("no such network")]
    UnknownNetwork,
    /// No peer of the network has this key.
    #[error("no such peer")]
    UnknownPeer,
    /// At the limit of networks one port can serve.
    #[error("too many networks")]
    TooManyNetworks,
    /// At the limit of peers.
    #[error("too many peers")]
    TooManyPeers,
    /// Another network has the same private key, so that handshakes could not be told apart.
    #[error("another network uses the same key")]
    KeyInUse,
    /// The MTU is below 576 or above 65,455 bytes.
    #[error("the MTU must be between 576 and 65455")]
    InvalidMtu,
    /// The peer's key is the network's own.
    #[error("a network cannot be its own peer")]
    OwnKey,
    /// The peer's public key is of low order: no secret can be shared with it.
    #[error("the peer's public key is weak")]
    WeakKey,
}

/// A counter for each [`DropReason`].
#[derive(Clone, Debug)]
pub(crate) struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    pub(crate) const fn new() -> Self {
        Self([0; DropReason::ALL.len()])
    }

    pub(crate) fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    pub(crate) fn add(&mut self, reason: DropReason, count: usize) {
        // A variant's number is its place in ALL: both come from one list.
        self.0[reason as usize] += count as u64;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().copied().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_its_counter_and_name() {
        let mut drops = Drops::new();
        for (count, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, count);
            drops.add(*reason, count);
        }
        assert!(
            drops
                .iter()
                .zip(0..)
                .all(|((reason, count), at)| reason as u64 == at && count == at)
        );
        let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
