// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Limits, folders, ports, the clock, the supervisor: what is no question to the kernel's seccomp.

use super::super::human::now;
use super::{Check, plain};
use crate::client::{Client, ClientError};
use crate::command::Command;
use crate::model::Status;
use rustix::process::{Resource, getrlimit};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// The port of the overlay and of the API, unless another is asked for.
const PORT: u16 = 9993;

/// All of it.
pub(super) fn checks() -> Vec<Check> {
    let status = supervisor_status();
    vec![
        descriptors(getrlimit(Resource::Nofile).maximum),
        clock(now()),
        runtime_folder(),
        state_folder(
            std::env::var_os("XDG_STATE_HOME").map(PathBuf::from),
            std::env::var_os("HOME").map(PathBuf::from),
        ),
        program("netcon-shim"),
        program("netcon-supervisor"),
        port(status.as_ref().ok()),
        supervisor(&status),
    ]
}

/// Each connection takes three descriptors of the supervisor's; it raises its limit to the hard one.
fn descriptors(hard: Option<u64>) -> Check {
    let check = |finding: &str| Check::ok("nofile", "open files", finding);
    match hard {
        None => check("no limit"),
        Some(hard @ 4096..) => check(&format!("up to {hard}")),
        Some(hard) => check("").warning(
            format!("at most {hard}: that is soon too few connections, and programs get EMFILE or ENFILE"),
            "raise the hard limit (ulimit -Hn, LimitNOFILE= of the unit)",
        ),
    }
}

/// Handshakes carry the time, and a peer refuses what is older than what it saw (WireGuard, section 5.4.2).
fn clock(seconds: u64) -> Check {
    // 2025-01-01 and 2100-01-01.
    const FIRST: u64 = 1_735_689_600;
    const LAST: u64 = 4_102_444_800;
    let check = Check::ok("clock", "clock", "sane");
    if (FIRST..LAST).contains(&seconds) {
        check
    } else {
        check.warning(
            format!("says it is {seconds} seconds after 1970, which cannot be: peers will not take handshakes once it is set"),
            "set the clock (timedatectl set-ntp true)",
        )
    }
}

fn runtime_folder() -> Check {
    let check = |finding: &str| Check::ok("runtime-folder", "runtime folder", finding);
    let remedy =
        "set XDG_RUNTIME_DIR to a folder of yours with mode 0700, or NETCON_SOCKET to the socket";
    let path = match netcon_shim::runtime::socket_path(false) {
        Ok(path) => path,
        Err(error) => return check("").failure(error.to_string(), remedy),
    };
    match path.parent().map(existing) {
        Some(Ok(_folder)) => check(&format!("the socket is {}", path.display())),
        Some(Err(error)) => check("").failure(format!("{}: {error}", path.display()), remedy),
        None => check("").failure(format!("{} is no path of a socket", path.display()), remedy),
    }
}

fn state_folder(xdg: Option<PathBuf>, home: Option<PathBuf>) -> Check {
    let check = |finding: &str| Check::ok("state-folder", "state folder", finding);
    let absolute = |path: &PathBuf| path.is_absolute();
    let base = xdg
        .filter(absolute)
        .or_else(|| home.filter(absolute).map(|home| home.join(".local/state")));
    let Some(folder) = base.map(|base| base.join("netcon")) else {
        return check("").failure(
            "neither XDG_STATE_HOME nor HOME names a folder: there is no place for networks and keys",
            "set HOME, or start netcon-supervisor with --state-dir",
        );
    };
    match existing(&folder) {
        Ok(_folder) => check(&folder.display().to_string()),
        Err(error) => check("").failure(
            format!("{} cannot be used: {error}", folder.display()),
            "make it writable for this user, or start netcon-supervisor with --state-dir",
        ),
    }
}

/// The folder, or the nearest one above it that exists: whether it can be written to.
fn existing(folder: &Path) -> Result<PathBuf, String> {
    use rustix::fs::{Access, access};
    for candidate in folder.ancestors() {
        match candidate.metadata() {
            Ok(about) if about.is_dir() => {
                return match access(candidate, Access::WRITE_OK | Access::EXEC_OK) {
                    Ok(()) => Ok(candidate.to_owned()),
                    Err(error) => Err(format!(
                        "{} is not writable ({})",
                        candidate.display(),
                        plain(&error.into())
                    )),
                };
            }
            Ok(_file) => return Err(format!("{} is no folder", candidate.display())),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(format!("{}: {}", candidate.display(), plain(&error))),
        }
    }
    Err("no folder above it exists".to_owned())
}

/// Whether another of the three programs is installed: beside this one, or in PATH.
fn program(name: &'static str) -> Check {
    let check = |finding: &str| Check::ok(name, name, finding);
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = beside
        .into_iter()
        .chain(in_path)
        .find(|path| path.is_file());
    let Some(path) = found else {
        return check("").warning(
            "not found beside netcon, nor in PATH",
            "install the three programs from one release into one folder of PATH",
        );
    };
    let said = std::process::Command::new(&path).arg("--version").output();
    let version = match &said {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => {
            return check("").warning(
                format!("{} cannot be run: {error}", path.display()),
                "install it anew",
            );
        }
    };
    if version.split_whitespace().last() == Some(env!("CARGO_PKG_VERSION")) {
        check(&path.display().to_string())
    } else {
        check("").warning(
            format!(
                "{} says {version:?}, this netcon is {}",
                path.display(),
                env!("CARGO_PKG_VERSION")
            ),
            "install the three programs from one release",
        )
    }
}

fn supervisor_status() -> Result<Status, ClientError> {
    let value = Client::new()?.json(&Command::Status {})?;
    serde_json::from_value(value).map_err(|error| ClientError::NotUnderstood(error.to_string()))
}

/// A busy port is no failure: the overlay takes the next one, and the unix socket always serves.
fn port(status: Option<&Status>) -> Check {
    let check = |finding: &str| Check::ok("port", "port 9993", finding);
    if let Some(status) = status {
        return check(&format!("the supervisor uses UDP port {}", status.udp_port));
    }
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).map(drop);
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).map(drop);
    match (udp, tcp) {
        (Ok(()), Ok(())) => check("free"),
        (Err(error), _) => check("").warning(
            format!(
                "UDP port {PORT} is taken ({}): the overlay takes the next free one",
                error.kind()
            ),
            "say another with netcon-supervisor --port, and in the endpoints of peers",
        ),
        (Ok(()), Err(error)) => check("").warning(
            format!(
                "TCP port {PORT} is taken ({}): HTTP is on the unix socket only",
                error.kind()
            ),
            "say another with netcon-supervisor --port, or leave it: netcon does not need it",
        ),
    }
}

fn supervisor(status: &Result<Status, ClientError>) -> Check {
    let check = |finding: &str| Check::ok("supervisor", "supervisor", finding);
    let own = env!("CARGO_PKG_VERSION");
    match status {
        Ok(status) if status.version == own => check(&format!("answers, version {own}")),
        Ok(status) => check("").warning(
            format!("is version {}, this netcon is {own}", status.version),
            "start the supervisor again after an upgrade",
        ),
        Err(ClientError::NoSupervisor { path, .. }) => check("").warning(
            format!("none answers at {path}"),
            "start one with netcon-supervisor, or have it always with netcon service install",
        ),
        Err(error) => check("").failure(error.to_string(), "see the supervisor's log"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn limits_and_clocks() {
        assert_eq!(descriptors(None).level, Level::Ok);
        assert_eq!(descriptors(Some(4096)).level, Level::Ok);
        assert_eq!(descriptors(Some(1024)).level, Level::Warning);
        assert_eq!(clock(1_800_000_000).level, Level::Ok);
        assert_eq!(clock(0).level, Level::Warning);
        assert_eq!(clock(u64::MAX).level, Level::Warning);
    }

    #[test]
    fn folders() {
        let missing = |xdg: Option<&str>, home: Option<&str>| {
            state_folder(xdg.map(PathBuf::from), home.map(PathBuf::from))
        };
        assert_eq!(missing(None, None).level, Level::Failure);
        assert_eq!(missing(Some("relative"), None).level, Level::Failure);
        assert_eq!(missing(Some("/tmp"), None).level, Level::Ok);
        assert_eq!(missing(None, Some("/tmp/not/there")).level, Level::Ok);
        let file = missing(Some("/etc/passwd"), None);
        assert!(
            file.level == Level::Failure && file.finding.contains("no folder"),
            "{file:?}"
        );
        // Of nobody; also root may not write there.
        assert_eq!(missing(Some("/proc/1"), None).level, Level::Failure);
    }
}
