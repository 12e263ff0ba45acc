// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The corner cases that have bitten implementations of WireGuard, each by its number in docs/wireguard.md.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../common/mod.rs"]
mod common;
mod handshakes;
mod hostile;
mod packets;
mod paths;

pub(crate) use std::collections::HashSet;
pub(crate) use std::net::SocketAddr;

use blake2::digest::{FixedOutput, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest, digest::consts::U16};
pub(crate) use common::*;
pub(crate) use netcon_overlay::{
    DropReason, Ecn, Mark, NetworkIndex, NotSent, Overlay, PeerConfig, PrivateKey, PublicKey,
    Received,
};

pub(crate) fn stranger() -> SocketAddr {
    "203.0.113.66:6666".parse().unwrap()
}

/// The index a transport message names.
pub(crate) fn receiver(datagram: &Datagram) -> [u8; 4] {
    *datagram.bytes[4..].first_chunk().unwrap()
}

/// The last datagram of a kind that a side sent.
pub(crate) fn last(pair: &Pair, side: usize, kind: u8) -> Datagram {
    pair.log
        .iter()
        .rfind(|datagram| datagram.side == side && datagram.kind() == kind)
        .unwrap()
        .clone()
}

/// Sends without the link, so that the test decides when and whether the datagram arrives.
pub(crate) fn held(pair: &mut Pair, side: usize, payload: &[u8]) -> Datagram {
    let loss = std::mem::replace(&mut pair.link.loss, 100);
    pair.send(side, payload).unwrap();
    pair.link.loss = loss;
    pair.log.last().unwrap().clone()
}

/// A new mac1 for a handshake message to `recipient`, without a cookie.
pub(crate) fn sign(recipient: &PublicKey, message: &mut [u8]) {
    let key = Blake2s256::new()
        .chain_update(b"mac1----")
        .chain_update(recipient.as_bytes())
        .finalize();
    let at = message.len() - 32;
    let mac = Blake2sMac::<U16>::new_from_slice(&key)
        .unwrap()
        .chain_update(&message[..at])
        .finalize_fixed();
    message[at..at + 16].copy_from_slice(&mac);
    message[at + 16..].fill(0);
}
