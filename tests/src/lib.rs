// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several hosts, each a netstack over an overlay, joined by links that delay, lose, reorder, duplicate and corrupt, on one
//! virtual clock. Everything follows from the seed.
#![forbid(unsafe_code)]

pub mod relay;
pub mod world;
