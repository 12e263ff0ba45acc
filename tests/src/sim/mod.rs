// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One run: [`plan`] makes a scenario of a seed, [`world`] lets it happen.

mod apps;
pub mod dice;
mod judge;
mod net;
mod node;
pub mod pcap;
pub mod plan;
pub mod world;

pub use judge::Tally;
