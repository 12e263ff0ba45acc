// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From arguments to a running supervisor, and to its end.
//!
//! The order matters: what can fail for reasons of the user's comes first and says so in one
//! sentence; secrets are read only by a hardened process; the sandbox closes when everything that
//! it would refuse has been done; "ready" is said when everything listens.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::admission::{Socket, SocketError};
use crate::args::{Args, Exit};
use crate::control::{Runtime, RuntimeError, Service};
use crate::life::{self, Life};
use crate::state::{StateDir, StateError};
use crate::{http, ports, sandbox, state, sys, systemd};

/// Why the supervisor could not start or go on.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One sentence for the user.
    pub sentence: String,
}

/// What a node is made of.
#[derive(Debug)]
pub struct Parts {
    /// The overlay's socket.
    pub udp: ports::Udp,
    /// An empty folder of ours, 0700, for names that are unlinked at once (short: they fit sun_path).
    pub folder: PathBuf,
}

/// Runs until a signal, or idleness, ends it. `node` makes the node; `ready` is told when everything listens.
///
/// # Errors
/// [`Failure`], with everything this supervisor has put into the file system removed, but for its state.
pub fn run(
    args: &Args,
    ready: Option<&OwnedFd>,
    node: impl FnOnce(Parts) -> Result<Arc<dyn Runtime>, RuntimeError>,
) -> Result<(), Failure> {
    check_kernel()?;
    // Before any other file is opened: they come under numbers.
    let passed = systemd::sockets().map_err(fail(Exit::Runtime))?;
    let manager = systemd::Manager::of_this_process().unwrap_or_else(|error| {
        tracing::warn!(%error, "the service manager that NOTIFY_SOCKET names cannot be told anything");
        systemd::Manager::default()
    });
    // Blocked before other threads exist, so that they inherit it: signals are read, not handled.
    let signals = life::signals()
        .map_err(|errno| failure(Exit::Kernel, format!("Cannot wait for signals: {errno}.")))?;
    sandbox::harden().map_err(fail(Exit::Kernel))?;
    let port = args
        .wanted_port()
        .map_err(|sentence| failure(Exit::Usage, sentence))?;

    let directory = state_directory(args).map_err(fail(Exit::State))?;
    let socket = take_socket(passed)?;
    let state = StateDir::open(&directory).map_err(|error| match &error {
        StateError::Locked { .. } => fail(Exit::Another)(error),
        StateError::NoPlace | StateError::Io { .. } | StateError::Untrusted { .. } => {
            fail(Exit::State)(error)
        }
    })?;
    let udp = ports::bind_udp(port).map_err(|error| {
        failure(
            Exit::Port,
            format!(
                "No UDP port from {port} to {} can be used ({error}); choose others with --port.",
                port.saturating_add(ports::UDP_ATTEMPTS)
            ),
        )
    })?;
    if udp.port != port {
        tracing::warn!(
            "UDP port {port} is taken; the overlay uses {}: peers need that in their endpoint.",
            udp.port
        );
    }
    let udp_port = udp.port;
    let (listeners, complaint) = ports::bind_http(port);
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }

    let folder = Folder::make(socket.path())?;
    let parts = Parts {
        udp,
        folder: folder.0.clone(),
    };
    let node = node(parts).map_err(|error| failure(Exit::Failed, error.to_string()))?;
    let service = Service::start(state, node, udp_port).map_err(fail(Exit::State))?;
    let service = Arc::new(service);
    let addresses: Vec<String> = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .map(|address| format!("http://{address}"))
        .collect();
    let unix_http = http::start(Arc::clone(&service), listeners)
        .map_err(|error| failure(Exit::Failed, format!("Cannot start the API: {error}.")))?;
    socket
        .serve(Arc::clone(&service), move |stream, peer| {
            unix_http.accept(stream, peer);
        })
        .map_err(|error| failure(Exit::Failed, format!("Cannot start a thread: {error}.")))?;
    sandbox::confine().map_err(fail(Exit::Kernel))?;

    tracing::info!(
        udp = udp_port,
        socket = %socket.path().display(),
        http = addresses.join(" "),
        state = %service.state_directory().display(),
        networks = service.networks().len(),
        "ready"
    );
    manager.tell(systemd::Notice::Ready);
    if let Some(ready) = ready {
        // Whoever started us may have gone away meanwhile.
        let _nobody_waits = nix::unistd::write(ready, b"ready\n");
    }
    let life = Life {
        signals: &signals,
        socket: &socket,
        service: &service,
        manager: &manager,
        watchdog: systemd::watchdog(),
        idle: (args.idle_exit > 0).then(|| Duration::from_secs(args.idle_exit.into())),
    };
    life.live()
        .map_err(|errno| failure(Exit::Failed, format!("Cannot wait for signals: {errno}.")))
    // The socket's lock goes with `socket`, the folder with `folder`; the process's end closes the rest.
}

/// The socket that a service manager has made, or one of our own.
fn take_socket(passed: Vec<OwnedFd>) -> Result<Socket, Failure> {
    let mut passed = passed.into_iter();
    let result = match (passed.next(), passed.next()) {
        (Some(_), Some(_)) => {
            return Err(failure(
                Exit::Runtime,
                "More than one socket was passed; one ListenStream= is what the unit needs."
                    .to_owned(),
            ));
        }
        (Some(socket), None) => Socket::adopt(socket),
        (None, _) => {
            let path = netcon_shim::runtime::socket_path(true)
                .map_err(|error| failure(Exit::Runtime, format!("{error}.")))?;
            check_length(&path)?;
            Socket::bind(&path)
        }
    };
    let socket = result.map_err(|error| match &error {
        SocketError::Live { .. } => fail(Exit::Another)(error),
        SocketError::NotSocket { .. } | SocketError::Io { .. } => fail(Exit::Runtime)(error),
    })?;
    check_length(socket.path())?;
    Ok(socket)
}

fn state_directory(args: &Args) -> Result<PathBuf, StateError> {
    let named = std::env::var_os("NETCON_STATE_DIR").filter(|value| !value.is_empty());
    match args.state_dir.clone().or_else(|| named.map(PathBuf::from)) {
        Some(directory) => Ok(directory),
        None => state::default_directory(
            std::env::var_os("XDG_STATE_HOME").map(PathBuf::from),
            std::env::var_os("HOME").map(PathBuf::from),
        ),
    }
}

/// The folder beside the socket; nobody else uses it because the socket's lock is ours. Removed at the end.
#[derive(Debug)]
struct Folder(PathBuf);

/// Bytes of a socket's name (unix(7), sun_path without its final zero).
const LONGEST_NAME: usize = 107;
/// Bytes of a name in the folder, and of the slash before it.
const NAME_IN_FOLDER: usize = 17;

/// Whether the socket, and those in the folder beside it, can have their names.
fn check_length(socket: &Path) -> Result<(), Failure> {
    let length = |path: &Path| path.as_os_str().len();
    let beside = length(&Folder::beside(socket)) + NAME_IN_FOLDER;
    if beside <= LONGEST_NAME {
        return Ok(());
    }
    Err(failure(
        Exit::Runtime,
        format!(
            "The socket's path {} is too long by {} bytes; set NETCON_SOCKET to a shorter one.",
            socket.display(),
            beside - LONGEST_NAME
        ),
    ))
}

impl Folder {
    /// The socket's name is kept whole: then no other socket's folder has this name.
    fn beside(socket: &Path) -> PathBuf {
        let mut name = socket.as_os_str().to_owned();
        name.push(".d");
        name.into()
    }

    fn make(socket: &Path) -> Result<Self, Failure> {
        let path = Self::beside(socket);
        let made = match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::clear(&path),
            result => result,
        };
        made.map_err(|error| {
            failure(
                Exit::Runtime,
                format!("Cannot make the folder {}: {error}.", path.display()),
            )
        })?;
        Ok(Self(path))
    }

    /// What a supervisor that was killed left: the folder, and a name or two in it.
    fn clear(path: &Path) -> io::Result<()> {
        let about = path.symlink_metadata()?;
        let ours = nix::unistd::geteuid().as_raw();
        if !about.is_dir() || about.uid() != ours || about.mode() & 0o077 != 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        for entry in path.read_dir()? {
            let entry = entry?;
            if entry.file_type()?.is_socket() {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = Self::clear(&self.0).and_then(|()| std::fs::remove_dir(&self.0));
    }
}

/// ADDFD with SEND is the newest thing that cannot be done without.
const OLDEST: (u32, u32) = (5, 14);

fn check_kernel() -> Result<(), Failure> {
    let (release, numbers) = sys::kernel::release().unwrap_or_else(|| ("?".to_owned(), OLDEST));
    if numbers < OLDEST {
        return Err(failure(
            Exit::Kernel,
            format!("This kernel is Linux {release}; netcon needs 5.14 or newer."),
        ));
    }
    sys::kernel::has_notifications().map_err(|error| {
        failure(
            Exit::Kernel,
            format!(
                "This kernel (Linux {release}) has no seccomp user notification, or a container hides it ({error}); netcon cannot work here."
            ),
        )
    })
}

fn failure(exit: Exit, sentence: String) -> Failure {
    Failure { exit, sentence }
}

fn fail<E: std::fmt::Display>(exit: Exit) -> impl Fn(E) -> Failure {
    move |error| failure(exit, error.to_string())
}
