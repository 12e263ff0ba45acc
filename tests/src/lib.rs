// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The simulated world, in which many nodes, each netstack over overlay, live on one virtual clock, and one seed decides
//! everything ([`sim`], see `docs/simulation.md`); what foreign bytes may not do ([`fuzz`]); and the relay, a bad network between real programs ([`relay`]).

#![forbid(unsafe_code)]

pub mod fuzz;
pub mod relay;
pub mod sim;
