// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the supervisor lives on, and `netcon doctor` tries: seccomp user notification and other kernel interfaces ([`sys`]),
//! and [`probe`], which finds out what this kernel, this user and this container allow.

pub mod probe;
pub mod sys;
