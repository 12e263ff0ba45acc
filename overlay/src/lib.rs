// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The encrypted overlay: WireGuard's protocol without sockets, clock or system randomness.
//!
//! # Theory of operation
//!
//! One [`Overlay`] serves all virtual networks behind one UDP port. A network has a key, an MTU and peers; a peer has a key, an
//! endpoint and the addresses that belong to it. IP packets go in and datagrams come out, and the reverse:
//!
//! * Out: [`Overlay::encapsulate`] looks the destination up in the network's allowed IPs, and seals the packet in the caller's
//!   buffer with the peer's session. Without a session the packet is kept and a handshake begun.
//! * In: [`Overlay::handle_datagram`] finds the peer by the receiver index in the datagram (one table for all networks), opens it
//!   in place, and hands the packet up if its source address belongs to that very peer. A handshake's first message has no index:
//!   its mac1 tells which network's key it is for.
//! * By itself: handshakes, keepalives and packets that waited come out of [`Overlay::poll_transmit`]; timers are
//!   [`Overlay::poll_timeout`] and [`Overlay::handle_timeout`].
//!
//! The order of calls is free, spurious calls are harmless, and `now` must not go back. After any input call `poll_transmit` until it
//! returns `None`, then sleep until `poll_timeout` or the next input.
//!
//! Limits: 256 networks, 2^20 peers, 128 waiting packets per peer (the oldest gives way), 64 waiting cookie replies; everything else
//! that waits is one of its kind per peer. What is thrown away is counted by [`DropReason`].
//!
//! What it does not do: resolve names, find or relay to peers behind NAT, forward between peers, or fragment.
//!
//! ```
//! use std::time::Duration;
//! use netcon_overlay::{NetworkIndex, NotSent, Overlay, PeerConfig, PrivateKey, Received};
//!
//! # #[expect(clippy::disallowed_methods)]
//! # fn clock() -> (std::time::Instant, Duration) { (std::time::Instant::now(), Duration::from_secs(1_700_000_000)) }
//! let (now, unix) = clock();
//! let network = NetworkIndex(0);
//! let keys = [PrivateKey::from_random([1; 32]), PrivateKey::from_random([2; 32])];
//! let addresses = ["192.0.2.1:9993".parse()?, "192.0.2.2:9993".parse()?];
//! let mut sides = [Overlay::new([3; 32]), Overlay::new([4; 32])];
//! for (here, there) in [(0, 1), (1, 0)] {
//!     sides[here].add_network(network, keys[here].clone(), 1420)?;
//!     sides[here].set_peer(now, network, PeerConfig {
//!         public_key: keys[there].public(),
//!         preshared_key: None,
//!         endpoint: Some(addresses[there]),
//!         allowed_ips: vec![format!("10.0.0.{there}/32").parse()?],
//!         persistent_keepalive: None,
//!         reserved: [0; 3],
//!     })?;
//! }
//!
//! // An IPv4 packet of 20 bytes from 10.0.0.0 to 10.0.0.1, sent by side 0.
//! let mut buf = vec![0; Overlay::sealed_len(20, 1420)];
//! buf[16..20].copy_from_slice(&[0x45, 0, 0, 20]);
//! buf[28..36].copy_from_slice(&[10, 0, 0, 0, 10, 0, 0, 1]);
//! assert_eq!(sides[0].encapsulate(now, unix, network, &mut buf, 20), Err(NotSent::Queued));
//!
//! // Whatever one side sends, the other receives, until both are silent.
//! let (mut datagram, mut arrived) = (Vec::new(), 0);
//! while arrived == 0 {
//!     for (here, there) in [(0, 1), (1, 0)] {
//!         while sides[here].poll_transmit(now, unix, &mut datagram).is_some() {
//!             if let Received::Packet { packet, .. } = sides[there].handle_datagram(now, unix, addresses[here], &mut datagram) {
//!                 arrived += packet.len();
//!             }
//!         }
//!     }
//! }
//! assert_eq!(arrived, 20);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod aead;
mod agenda;
mod ecn;
mod event;
mod ip;
mod key;
mod load;
mod overlay;
mod peer;
mod random;
mod routes;
#[cfg(test)]
mod testing;
mod wireguard;

pub use ecn::Ecn;
pub use event::{ConfigError, DropReason, Mark, NotSent, Outgoing, Received, Sealed};
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use overlay::{NetworkIndex, Overlay, PeerConfig, PeerStatus, Recipients};
pub use routes::{IpPrefix, PrefixError};
