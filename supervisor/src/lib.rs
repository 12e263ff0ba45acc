// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The netcon supervisor: serves supervised programs, moves their packets, keeps the state.
#![deny(unsafe_code)]

pub mod admission;
pub mod args;
pub mod capture;
pub mod clock;
pub mod container;
pub mod control;
pub mod data;
pub mod events;
pub mod http;
pub mod life;
pub mod limits;
pub mod log_filter;
pub mod logging;
pub mod metrics;
pub mod needs;
pub mod netlink;
pub mod network;
pub mod node;
pub mod observe;
pub mod page;
pub mod parked;
pub mod ports;
pub mod registry;
pub mod sandbox;
pub mod startup;
pub mod state;
pub mod sys;
pub mod systemd;
pub mod tasks;
pub mod threads;
pub mod trap;
