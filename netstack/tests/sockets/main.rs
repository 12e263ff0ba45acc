// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sequences of socket calls against what Linux 6.18 answered, on two hosts joined by a packet pump and a virtual clock.
#![allow(clippy::unwrap_used, missing_docs)]

mod binding;
mod connecting;
mod control;
mod datagrams;
mod ending;
mod errors;
mod figures;
mod icmp;
mod multicast;
mod whole;
mod world;
