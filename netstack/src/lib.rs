// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an Internet socket of Linux does, without any kernel: a TCP/UDP/ICMP engine ([`stack`]) and the socket
//! model over it ([`sockets`]).
//!
//! Sans-IO: no clock, random numbers, sockets, files, threads or async. `now` and a seed are passed in; IP packets go in
//! with `handle_*` and come out with `poll_*`. Knows nothing of the overlay that carries the packets, nor of the kernel
//! objects that stand in for the sockets of a program.
#![forbid(unsafe_code)]

pub mod errno;
pub mod interfaces;
pub mod netlink;
pub mod sockets;
pub mod stack;
