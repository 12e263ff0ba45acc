// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `netcon service restart` and `reload`: by systemd where it runs the supervisor, else by signals.

use super::super::output::{Context, Failure, note};
use crate::client::Client;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// The unit that may run the supervisor, and the one that may start it.
const UNIT: &str = "netcon.service";
const SOCKET: &str = "netcon.socket";
/// The supervisor's name as the kernel cuts it (comm, proc(5)).
const COMM: &str = "netcon-supervis";
/// How long an orderly end may take, milliseconds.
const PATIENCE: i32 = 10_000;

/// Ends the supervisor that runs, waits for its end, and starts another.
pub(super) fn restart(context: Context) -> Result<(), Failure> {
    if is_unit_active() {
        return systemctl("restart");
    }
    let client = Client::new()?;
    if let Some(process) = supervisor(&client)? {
        signal(&process, Signal::TERM)?;
        if !netcon_shim::sys::wait_readable(Some(process.as_fd()), PATIENCE) {
            return Err(Failure::other(
                "the supervisor does not end; see its log, or kill it",
            ));
        }
    }
    let starting = Context {
        start: true,
        ..context
    };
    starting.client().map(drop)
}

/// Has the supervisor read its state directory again.
pub(super) fn reload() -> Result<(), Failure> {
    if is_unit_active() {
        return systemctl("reload");
    }
    let client = Client::new()?;
    match supervisor(&client)? {
        Some(process) => signal(&process, Signal::HUP),
        None => Err(Failure::other(
            "no supervisor runs: there is nothing to reload; the next one reads its files anyway",
        )),
    }
}

/// Who listens at the socket, by a descriptor that cannot come to mean another process.
fn supervisor(client: &Client) -> Result<Option<OwnedFd>, Failure> {
    let gone = |error: &dyn std::fmt::Display| {
        Failure::other(format!("the supervisor cannot be found out ({error})"))
    };
    let stream = match UnixStream::connect(client.path()) {
        Ok(stream) => stream,
        Err(error) if netcon_shim::start::is_absence(&error) => return Ok(None),
        Err(error) => return Err(gone(&error)),
    };
    let peer = socket_peercred(&stream).map_err(|error| gone(&error))?;
    let process = pidfd_open(peer.pid, PidfdFlags::empty()).map_err(|error| gone(&error))?;
    // A service manager that keeps the socket is not to be ended.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", peer.pid.as_raw_nonzero()));
    match name {
        Ok(name) if name.trim_end() == COMM => Ok(Some(process)),
        Ok(name) => Err(gone(&format!(
            "its socket was made by {}; restart it there",
            name.trim_end()
        ))),
        Err(error) => Err(gone(&error)),
    }
}

fn signal(process: &OwnedFd, signal: Signal) -> Result<(), Failure> {
    pidfd_send_signal(process, signal)
        .map_err(|error| Failure::other(format!("the supervisor cannot be told ({error})")))
}

fn is_unit_active() -> bool {
    Command::new("systemctl")
        .args(["--user", "--quiet", "is-active", UNIT, SOCKET])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn systemctl(verb: &str) -> Result<(), Failure> {
    match Command::new("systemctl")
        .args(["--user", verb, UNIT])
        .status()
    {
        Ok(status) if status.success() => {
            note(&format!("systemctl --user {verb} {UNIT}: done"));
            Ok(())
        }
        Ok(_) => Err(Failure::other(format!(
            "systemctl --user {verb} {UNIT} failed; systemctl --user status {UNIT} says why"
        ))),
        Err(error) => Err(Failure::other(format!("systemctl cannot be run ({error})"))),
    }
}
