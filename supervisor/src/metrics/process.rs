// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The supervisor's own process (proc(5)).

use super::{
    Figures, PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_MEMORY, PROCESS_START,
    PROCESS_THREADS,
};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use std::fs;
use std::time::Duration;

/// Shows it; what the kernel does not say is left out.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has floats only; microseconds of 100 years are exact"
)]
pub(super) fn show(figures: &mut Figures, started: Duration) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        figures.add_float(PROCESS_CPU, &[], micros as f64 / 1e6);
    }
    if let Ok(folder) = fs::read_dir("/proc/self/fd") {
        // One of them is that of the folder itself.
        figures.add(PROCESS_FDS, &[], (folder.count() as u64).saturating_sub(1));
    }
    if let Ok((most, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        figures.add(PROCESS_MAX_FDS, &[], most);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    if let Some(threads) = field("Threads:") {
        figures.add(PROCESS_THREADS, &[], threads);
    }
    if let Some(kilobytes) = field("VmRSS:") {
        figures.add(PROCESS_MEMORY, &[], kilobytes * 1024);
    }
    figures.add_float(PROCESS_START, &[], started.as_secs_f64());
}
