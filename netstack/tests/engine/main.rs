// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scenarios of the engine on virtual time.
#![allow(clippy::unwrap_used, clippy::type_complexity, reason = "test helpers")]
mod world;

mod connections;
mod datagrams;
mod hostile;
mod icmp;
mod multicast;
mod paths;
mod pings;
mod scale;
mod transfer;
