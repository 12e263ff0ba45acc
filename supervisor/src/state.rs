// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state directory: one readable file per network, and a lock.
//!
//! ```text
//! <state directory>/           owned by this user, writable by nobody else
//!   lock                       held (flock(2)) while a supervisor uses the directory
//!   token                      0600; whoever knows it may use the control API
//!   timestamps/                0700; what handshakes must not forget over a restart
//!   networks/                  0700
//!     <name>.json              0600; the network, its private key and its peers
//! ```
//!
//! Files are replaced, never edited: written beside, flushed, renamed over, the directory flushed.
//! A file that cannot be read or understood is left exactly as it is, reported in one sentence, and
//! its name stays taken until a person has repaired or removed it.

mod atomic;
mod keys;
mod network;
mod timestamps;
mod token;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

pub(crate) use network::is_name;
pub use network::{
    DEFAULT_MTU, InterfaceAddress, InterfaceAddressError, NameError, NetworkConfig, NetworkId,
    NetworkName, PeerEntry, Version, WgQuickSettings,
};
pub use timestamps::{PeerTimestamps, Timestamps};

/// A file of a network that could not be used. It is untouched.
#[derive(Debug, Clone)]
pub struct Broken {
    /// The name that it would have; taken until the file is repaired or removed.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What the directory held when it was read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Networks, by name.
    pub networks: Vec<NetworkConfig>,
    /// Files that could not be used, by name.
    pub broken: Vec<Broken>,
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Neither `--state-dir` nor the environment says where the state is.
    #[error(
        "There is no place for the state: neither XDG_STATE_HOME nor HOME is set; use --state-dir."
    )]
    NoPlace,
    /// A file or directory could not be used.
    #[error("Cannot {action} {path}: {error}.", path = path.display())]
    Io {
        /// What was tried, as a verb: "create", "write" …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Others could change keys in this directory.
    #[error("The state directory {path} {why}; use a directory of your own (mode 0700).", path = path.display())]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// "belongs to …" or "can be written by others".
        why: String,
    },
    /// Another supervisor uses the directory.
    #[error(
        "Another netcon-supervisor uses the state directory {path}; stop it, or use another --state-dir.",
        path = path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
}

/// An open state directory; holds its lock until dropped.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    networks: PathBuf,
    timestamps: PathBuf,
    _lock: Flock<File>,
}

/// Where the state is when `--state-dir` is not given: `$XDG_STATE_HOME/netcon`, else
/// `~/.local/state/netcon` (XDG Base Directory Specification; relative paths are ignored as it says).
///
/// # Errors
/// [`StateError::NoPlace`] when the environment has neither.
pub fn default_directory(
    xdg_state_home: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Result<PathBuf, StateError> {
    xdg_state_home
        .filter(|path| path.is_absolute())
        .or_else(|| {
            home.filter(|path| path.is_absolute())
                .map(|home| home.join(".local/state"))
        })
        .map(|base| base.join("netcon"))
        .ok_or(StateError::NoPlace)
}

impl StateDir {
    /// Opens the directory, creating what is missing, and takes its lock.
    ///
    /// # Errors
    /// [`StateError`]; nothing was changed but for directories that were missing.
    pub fn open(root: &Path) -> Result<Self, StateError> {
        create_directory(root)?;
        check_directory(root)?;
        let networks = root.join("networks");
        let timestamps = root.join("timestamps");
        for folder in [&networks, &timestamps] {
            create_directory(folder)?;
            check_directory(folder)?;
        }
        let lock = take_lock(root)?;
        atomic::remove_leftovers(&networks);
        atomic::remove_leftovers(&timestamps);
        atomic::remove_leftovers(root);
        Ok(Self {
            root: root.to_path_buf(),
            networks,
            timestamps,
            _lock: lock,
        })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Reads every network file.
    ///
    /// # Errors
    /// [`StateError::Io`] when the directory cannot be listed; a bad file is not an error but in
    /// [`Loaded::broken`].
    pub fn load(&self) -> Result<Loaded, StateError> {
        let fail = |error| StateError::Io {
            action: "list",
            path: self.networks.clone(),
            error,
        };
        let mut loaded = Loaded::default();
        for entry in std::fs::read_dir(&self.networks).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            match read_network(&path, &stem) {
                Ok(network) => loaded.networks.push(network),
                Err(reason) => loaded.broken.push(Broken {
                    name: stem.into_owned(),
                    path,
                    reason,
                }),
            }
        }
        loaded.networks.sort_by(|a, b| a.name.cmp(&b.name));
        loaded.broken.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(loaded)
    }

    /// Writes a network's file: after a crash it is either the old one or the new one, whole.
    ///
    /// # Errors
    /// [`StateError::Io`]; the old file is then untouched.
    pub fn save(&self, network: &NetworkConfig) -> Result<(), StateError> {
        let path = self.file(&network.name);
        let mut text = serde_json::to_vec_pretty(network).map_err(|error| StateError::Io {
            action: "write",
            path: path.clone(),
            error: error.into(),
        })?;
        text.push(b'\n');
        atomic::replace(&path, &text).map_err(|error| StateError::Io {
            action: "write",
            path,
            error,
        })
    }

    /// Writes the file of a network that must not have one yet.
    ///
    /// # Errors
    /// [`StateError::Io`], with `AlreadyExists` when a file of that name is there, whatever is in it.
    pub fn save_new(&self, network: &NetworkConfig) -> Result<(), StateError> {
        let path = self.file(&network.name);
        if path.symlink_metadata().is_ok() {
            return Err(StateError::Io {
                action: "create",
                path,
                error: io::ErrorKind::AlreadyExists.into(),
            });
        }
        self.save(network)
    }

    /// Removes a network's file, and with it the private key.
    ///
    /// # Errors
    /// [`StateError::Io`]; a file that is already gone is not an error.
    pub fn remove(&self, name: &NetworkName) -> Result<(), StateError> {
        let path = self.file(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::Io {
                action: "remove",
                path,
                error,
            }),
            Ok(()) | Err(_) => {
                atomic::flush_directory(&self.networks).map_err(|error| StateError::Io {
                    action: "flush",
                    path: self.networks.clone(),
                    error,
                })
            }
        }
    }

    /// The file of a network.
    #[must_use]
    pub fn file(&self, name: &NetworkName) -> PathBuf {
        // A NetworkName has no dot and no slash: it cannot leave the directory.
        self.networks.join(format!("{name}.json"))
    }
}

/// Bound on a network file: far above any real one, far below what would hurt.
const LARGEST_FILE: u64 = 8 * 1024 * 1024;

fn read_network(path: &Path, stem: &str) -> Result<NetworkConfig, String> {
    let name: NetworkName = stem.parse().map_err(|error: NameError| error.to_string())?;
    // Not blocking: the name could be a FIFO.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| format!("it cannot be opened ({error})"))?;
    let about = file
        .metadata()
        .map_err(|error| format!("it cannot be examined ({error})"))?;
    if !about.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if about.len() > LARGEST_FILE {
        return Err(format!("it is larger than {LARGEST_FILE} bytes"));
    }
    if about.mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others can read a file with a private key; chmod 600 it");
    }
    let mut text = String::new();
    file.take(LARGEST_FILE)
        .read_to_string(&mut text)
        .map_err(|error| format!("it cannot be read ({error})"))?;
    let network: NetworkConfig = serde_json::from_str(&text)
        .map_err(|error| format!("it does not describe a network ({error})"))?;
    if network.name != name {
        return Err(format!(
            "it is named {stem} but says that it is {}",
            network.name
        ));
    }
    Ok(network)
}

fn create_directory(path: &Path) -> Result<(), StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StateError::Io {
            action: "create",
            path: path.to_path_buf(),
            error,
        })
}

fn check_directory(path: &Path) -> Result<(), StateError> {
    let about = path.metadata().map_err(|error| StateError::Io {
        action: "examine",
        path: path.to_path_buf(),
        error,
    })?;
    let untrusted = |why: String| {
        Err(StateError::Untrusted {
            path: path.to_path_buf(),
            why,
        })
    };
    let uid = nix::unistd::geteuid().as_raw();
    if about.uid() != uid {
        return untrusted(format!("belongs to uid {}, not to uid {uid}", about.uid()));
    }
    if about.mode() & 0o022 != 0 {
        return untrusted("can be written by others".to_owned());
    }
    Ok(())
}

fn take_lock(root: &Path) -> Result<Flock<File>, StateError> {
    let path = root.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| StateError::Io {
            action: "open",
            path: path.clone(),
            error,
        })?;
    let deadline = clock::now() + LOCK_PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((unlocked, Errno::EWOULDBLOCK)) if clock::now() < deadline => {
                file = unlocked;
                std::thread::park_timeout(LOCK_PAUSE);
            }
            Err((_file, Errno::EWOULDBLOCK)) => {
                return Err(StateError::Locked {
                    path: root.to_path_buf(),
                });
            }
            Err((_file, errno)) => {
                return Err(StateError::Io {
                    action: "lock",
                    path,
                    error: errno.into(),
                });
            }
        }
    }
}

/// How long a supervisor that ends may still hold the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
