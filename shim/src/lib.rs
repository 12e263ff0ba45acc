// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the shim, the supervisor and the `netcon` command agree on: where the supervisor's socket is ([`runtime`]), what is
//! said on it to hand a container over ([`handover`]), how a supervisor is started when none runs ([`start`]), and which system calls are intercepted ([`table`]).
//!
//! With the feature `filter` (the shim itself) also `filter`, which turns the table into a seccomp program.
#![deny(unsafe_code)]

#[cfg(feature = "filter")]
pub mod filter;
pub mod handover;
pub mod runtime;
pub mod start;
pub mod sys;
pub mod table;
