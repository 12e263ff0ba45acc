// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One kernel interface per module, owned descriptors in and out; the only place with unsafe code.

pub mod allocator;
pub mod diag;
pub mod inet_diag;
pub mod inherited;
pub mod ioctl;
pub mod memory;
pub mod peer;
pub mod priority;
pub mod random;
pub mod receive;
pub mod task;
pub mod udp;
pub mod unix;

pub use netcon_kernel::sys::{kernel, notify};
