// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One kernel interface per module; the only place of this crate with unsafe code.

pub mod kernel;
pub mod notify;
pub mod tried;
