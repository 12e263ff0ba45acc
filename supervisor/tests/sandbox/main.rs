// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the closed sandbox refuses, and that everything the supervisor needs still works in it.
//!
//! Each case runs in a process of its own: this test binary again with that one test, told by the
//! environment which part to play. It ends with status 0 or says what went wrong.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "tests"
)]

mod allowed;
mod process;
mod refused;
mod served;

use process::{PART, close, play};

#[test]
fn starting_programs_is_refused() {
    play("starting_programs_is_refused", || {
        close();
        refused::exec();
    });
}

#[test]
fn tracing_is_refused() {
    play("tracing_is_refused", || {
        close();
        refused::ptrace();
    });
}

#[test]
fn other_sockets_are_refused() {
    play("other_sockets_are_refused", || {
        close();
        refused::sockets();
    });
}

#[test]
fn other_calls_are_refused() {
    play("other_calls_are_refused", || {
        close();
        refused::others();
    });
}

#[test]
fn every_thread_is_confined() {
    play("every_thread_is_confined", || {
        let before = refused::thread_from_before();
        close();
        refused::threads(before);
    });
}

#[test]
fn files_and_memory_work() {
    play("files_and_memory_work", || {
        close();
        allowed::files();
    });
}

#[test]
fn network_works() {
    play("network_works", || {
        close();
        allowed::network();
    });
}

#[test]
fn programs_are_served() {
    play("programs_are_served", || {
        if std::env::var(PART).is_ok_and(|part| part == served::SUPERVISED) {
            served::supervised();
        } else {
            served::serve();
        }
    });
}
