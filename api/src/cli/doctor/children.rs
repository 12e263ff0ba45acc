// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The probes, each in a process of its own.

use super::super::output::Failure;
use netcon_kernel::probe::{Outcome, Part, Thing};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

/// What came of everything that was tried.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<Thing, Result<(), Trouble>>);

/// Why something is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Refused with this errno.
    Errno(i32),
    /// The process that tried was ended by this signal.
    Signal(i32),
    /// What comes before it failed.
    Untried,
}

impl Found {
    /// What came of one thing.
    pub(super) fn of(&self, thing: Thing) -> Result<(), Trouble> {
        self.0.get(&thing).copied().unwrap_or(Err(Trouble::Untried))
    }

    fn add(&mut self, text: &str) {
        for outcome in Outcome::parse(text) {
            self.0
                .insert(outcome.thing, outcome.result.map_err(Trouble::Errno));
        }
    }
}

#[cfg(test)]
impl<const N: usize> From<[(Thing, Result<(), Trouble>); N]> for Found {
    fn from(outcomes: [(Thing, Result<(), Trouble>); N]) -> Self {
        Self(outcomes.into())
    }
}

/// Tries everything.
pub(super) fn examine() -> Result<Found, Failure> {
    let mut found = Found::default();
    // Things that a signal leaves untold are of the part that it ended.
    for (part, things) in [
        (Part::Notifications, &[Thing::Listener][..]),
        (Part::Udp, &[Thing::UdpSegment, Thing::UdpGro]),
        (Part::IoUring, &[Thing::IoUring]),
        (Part::X32, &[Thing::X32]),
        (Part::I386, &[Thing::I386]),
        (Part::Ping, &[Thing::Ping]),
        (Part::UserNamespace, &[Thing::UserNamespace]),
    ] {
        let child = start(part, None)?;
        let output = child.wait_with_output().map_err(|error| cannot(&error))?;
        found.add(&String::from_utf8_lossy(&output.stdout));
        if let Some(signal) = output.status.signal() {
            for thing in things {
                found
                    .0
                    .entry(*thing)
                    .or_insert(Err(Trouble::Signal(signal)));
            }
        }
    }
    reach(&mut found)?;
    Ok(found)
}

/// Two processes of which neither is the other's parent: as a program and the supervisor are.
fn reach(found: &mut Found) -> Result<(), Failure> {
    let mut target = start(Part::Target, None)?;
    let mut line = String::new();
    if let Some(output) = target.stdout.take() {
        BufReader::new(output.take(256))
            .read_line(&mut line)
            .map_err(|error| cannot(&error))?;
    }
    let looked = start(Part::Reach, Some(line.trim()))?.wait_with_output();
    // Its input ends, and with it the process.
    drop(target.stdin.take());
    target.wait().map_err(|error| cannot(&error))?;
    found.add(&String::from_utf8_lossy(
        &looked.map_err(|error| cannot(&error))?.stdout,
    ));
    Ok(())
}

fn start(part: Part, target: Option<&str>) -> Result<Child, Failure> {
    // Also if the file has been replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.args(["doctor", "--probe", part.name()]);
    if let Some(target) = target {
        command.args(["--target", target]);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| cannot(&error))
}

fn cannot(error: &std::io::Error) -> Failure {
    Failure::other(format!("cannot run a probe: {error}"))
}
