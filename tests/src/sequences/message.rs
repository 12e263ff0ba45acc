// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the driver and the executing processes say to each other: one line of JSON each way per sequence.

use serde::{Deserialize, Serialize};

use super::step::Step;

/// A sequence to carry out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The steps.
    pub steps: Vec<Step>,
    /// How the sockets looked natively after each step; empty for the native process itself.
    pub expected: Vec<Vec<String>>,
    /// How long to wait for them to look so, milliseconds.
    pub patience: u64,
    /// The first of the ports that belong to this sequence.
    pub port: u16,
}

/// What came of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What the call gave.
    pub result: String,
    /// How the socket in each slot looks afterwards: poll's mask and FIONREAD. Empty without a socket.
    pub looks: Vec<String>,
    /// What the kernel says each socket is: kind and state. Of the native process only.
    pub kinds: Vec<String>,
}
