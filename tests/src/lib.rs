// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The simulated world, in which many nodes, each netstack over overlay, live on one virtual clock, and one seed decides
//! everything ([`sim`], see `docs/simulation.md`); what foreign bytes may not do ([`fuzz`]); the relay, a bad network between real programs
//! ([`relay`]); and random socket calls on the kernel's sockets and on ours (`sequences`, see `ci/differential`).

#![deny(unsafe_code)]

pub mod fuzz;
pub mod relay;
#[cfg(feature = "sequences")]
pub mod sequences;
pub mod sim;
