// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What people and shims may ask of the supervisor, and what the supervisor asks of the running node.
//!
//! [`Service`] is the one owner of the configuration: it answers the control API, writes the state
//! files and keeps the node in step with them. [`Runtime`] is the node as seen from here: networks,
//! peers and containers, nothing about packets. A change is first checked, then written to disk,
//! then applied; what cannot be applied is taken back from disk, so that file and node agree.

pub mod addresses;
mod checks;
mod endpoints;
mod handler;
mod look;
pub mod observe;
pub mod runtime;
pub mod service;

pub use observe::Observe;
pub use runtime::{
    Admission, ContainerView, NetworkChange, NetworkStart, PeerCredentials, RunningTimestamps,
    Runtime, RuntimeError, Unanswered,
};
pub use service::{Admitted, ControlError, Service};
