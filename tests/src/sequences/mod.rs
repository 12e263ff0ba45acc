// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random sequences of socket calls, made once on the kernel's sockets and once on ours.
//!
//! [`strategy`] makes sequences of [`step::Step`]s; [`execute`] carries one out, in a process of its own, and tells after
//! each step what the call gave and what every socket looks like. [`pair`] runs a native and a supervised process side by
//! side; [`verdict`] compares what they tell; [`drive`] asks for many and shrinks what differs.
//!
//! Time: an effect that crosses the network takes no time on the kernel's loopback and some on ours. The native process
//! goes first, and the supervised one waits after each step until every socket looks as it did natively, or until its
//! patience is at an end. A difference counts only when it comes again in every repetition, and when natively nothing
//! varies.

pub mod drive;
pub mod execute;
pub mod known;
pub mod message;
pub mod pair;
pub mod step;
pub mod strategy;
#[expect(
    unsafe_code,
    reason = "the calls themselves, with the arguments a C program can give"
)]
mod sys;
pub mod verdict;
