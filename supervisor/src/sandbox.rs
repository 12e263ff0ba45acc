// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The supervisor confines itself, in numbered stages.
//!
//! Not a secret kept from the user whose process this is: what a hostile peer, packet or program
//! could make of a mistake in here. After the last stage no thread can start a program, trace one,
//! make a namespace or a raw socket, or reach the rest of the kernel's interface.
//!
//! 1. [`harden`], before anything secret is in memory: not dumpable (no core with keys, nobody of
//!    this uid attaches), no new privileges, as many descriptors as the hard limit allows.
//! 2. [`confine`], when everything that needs more is open: clone3 does not exist (its flags are
//!    behind a pointer that a filter cannot read; the C library then uses clone).
//! 3. [`confine`], over it: what is listed in [`allowed`] works, everything else is EPERM. An error
//!    and not a kill: a kernel or C library that uses a new call falls back instead of losing every
//!    program's network.
//!
//! Never Landlock on a thread that touches programs: it would deny their memory and descriptors.

mod rules;

use std::collections::BTreeMap;
use std::io;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

use rules::allowed;

/// Why the sandbox could not be closed. The supervisor does not go on then.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel refused.
    #[error("Cannot {action}: {error}.")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// The filter could not be built for this machine.
    #[error("Cannot build the supervisor's own seccomp filter: {0}.")]
    Filter(#[from] seccompiler::BackendError),
    /// The filter could not be installed on every thread.
    #[error(
        "Cannot install the supervisor's own seccomp filter ({0}); it needs Linux 5.14 or newer with CONFIG_SECCOMP_FILTER."
    )]
    Install(#[from] seccompiler::Error),
}

/// Stage 1. Before keys are read and before other threads exist.
///
/// # Errors
/// When the kernel refuses; a descriptor limit that cannot be raised is only reported.
pub fn harden() -> Result<(), SandboxError> {
    let kernel = |action| {
        move |errno: nix::errno::Errno| SandboxError::Kernel {
            action,
            error: errno.into(),
        }
    };
    nix::sys::prctl::set_dumpable(false).map_err(kernel("become non-dumpable"))?;
    nix::sys::prctl::set_no_new_privs().map_err(kernel("give up new privileges"))?;
    // Every file that follows (sockets, state) is for this user alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    if let Err(error) = crate::limits::raise_descriptors() {
        tracing::warn!(%error, "the limit of open files stays low; programs may see EMFILE early");
    }
    Ok(())
}

/// Stages 2 and 3, on all threads at once (SECCOMP_FILTER_FLAG_TSYNC). Not to be taken back.
///
/// # Errors
/// [`SandboxError`]; the process is then not confined as promised and has to end.
pub fn confine() -> Result<(), SandboxError> {
    for filter in filters()? {
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    Ok(())
}

/// The filters of stages 2 and 3, in the order in which they are installed.
///
/// # Errors
/// [`SandboxError::Filter`] on an architecture that is not known.
pub fn filters() -> Result<[BpfProgram; 2], SandboxError> {
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    Ok([
        compile(clone3, SeccompAction::Allow, absent)?,
        compile(allowed()?, refused, SeccompAction::Allow)?,
    ])
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture)?;
    Ok(filter.try_into()?)
}
