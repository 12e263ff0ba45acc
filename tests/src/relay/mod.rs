// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A relay for datagrams between real programs that treats them as a bad network would: `netcon-relay`.
//!
//! [`rules`] is what it is told, [`link`] what happens to the datagrams of one direction (no clock and no socket: `now` and
//! the seed are passed in), [`nat`] the sockets. Each client of the relay gets an upstream socket of its own, so the far side
//! sees what it would see behind a NAT.

pub mod link;
pub mod nat;
pub mod rules;
