// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the supervisor's socket is: one answer for supervisor, shim and command.
//!
//! `NETCON_SOCKET` names the socket itself. Otherwise it is `supervisor.sock` in the first of: `netcon` in
//! `$XDG_RUNTIME_DIR`, `netcon` in `/run/user/<uid>` (each if it is there, ours, and nobody else may write to it), and
//! `/tmp/netcon-<uid>`. That folder must be a real directory of ours that nobody else may enter: whoever could swap the socket would
//! serve our programs.

use std::ffi::OsString;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the socket in its folder.
pub const SOCKET_NAME: &str = "supervisor.sock";

/// The folder of the socket. Does not create it; when it exists it has been verified.
pub fn runtime_dir() -> Result<PathBuf, RuntimeError> {
    Surroundings::of_this_process().directory(false)
}

/// Path of the supervisor's socket; with `create` its folder exists afterwards. The socket itself is not looked at.
pub fn socket_path(create: bool) -> Result<PathBuf, RuntimeError> {
    Surroundings::of_this_process().socket(create)
}

/// Why the folder cannot be used. Displays as a sentence that says what to do.
#[derive(Debug)]
pub enum RuntimeError {
    /// The folder belongs to somebody else.
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others may enter the folder.
    Mode {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is a symbolic link, or no directory.
    NotDirectory {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be made or opened.
    Io {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { path, owner } => write!(
                f,
                "{} belongs to user {owner}; set XDG_RUNTIME_DIR or NETCON_SOCKET to a place of your own",
                path.display()
            ),
            Self::Mode { path, mode } => write!(
                f,
                "{} has mode {mode:04o} and is open to others; run: chmod 700 {}",
                path.display(),
                path.display()
            ),
            Self::NotDirectory { path } => write!(
                f,
                "{} is not a directory; remove it, or set NETCON_SOCKET to another place",
                path.display()
            ),
            Self::Io { path, error } => write!(
                f,
                "{} cannot be used ({error}); set XDG_RUNTIME_DIR or NETCON_SOCKET to a place of your own",
                path.display()
            ),
        }
    }
}

impl std::error::Error for RuntimeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Owner { .. } | Self::Mode { .. } | Self::NotDirectory { .. } => None,
        }
    }
}

/// What the answer depends on.
#[derive(Debug)]
struct Surroundings {
    netcon_socket: Option<OsString>,
    xdg_runtime_dir: Option<OsString>,
    /// Usually `/run/user`.
    run_user: PathBuf,
    /// Usually `/tmp`.
    tmp: PathBuf,
    uid: u32,
}

impl Surroundings {
    fn of_this_process() -> Self {
        Self {
            netcon_socket: std::env::var_os("NETCON_SOCKET"),
            xdg_runtime_dir: std::env::var_os("XDG_RUNTIME_DIR"),
            run_user: PathBuf::from("/run/user"),
            tmp: PathBuf::from("/tmp"),
            uid: crate::sys::effective_uid(),
        }
    }

    fn socket(&self, create: bool) -> Result<PathBuf, RuntimeError> {
        let directory = self.directory(create)?;
        Ok(self
            .named_socket()
            .unwrap_or_else(|| directory.join(SOCKET_NAME)))
    }

    fn directory(&self, create: bool) -> Result<PathBuf, RuntimeError> {
        if let Some(socket) = self.named_socket() {
            // The user's own choice of place: made if missing, taken as it is.
            let parent = socket
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let directory = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
            if create && !directory.is_dir() {
                make(&directory, true)?;
            }
            return Ok(directory);
        }
        let directory = match self.user_directory() {
            Some(base) => base.join("netcon"),
            None => self.tmp.join(format!("netcon-{}", self.uid)),
        };
        if create {
            make(&directory, false)?;
        }
        self.verify(&directory)?;
        Ok(directory)
    }

    fn named_socket(&self) -> Option<PathBuf> {
        self.netcon_socket
            .as_ref()
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    /// The runtime folder that a login session gives, if it is this user's.
    fn user_directory(&self) -> Option<PathBuf> {
        // A relative path is invalid and ignored (XDG Base Directory Specification).
        let named = self
            .xdg_runtime_dir
            .as_ref()
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let session = self.run_user.join(self.uid.to_string());
        named.into_iter().chain([session]).find(|path| {
            path.metadata().is_ok_and(|meta| {
                meta.is_dir() && meta.uid() == self.uid && meta.mode() & 0o022 == 0
            })
        })
    }

    /// Looks at the directory itself, through a descriptor, so that what was checked is what is there. Absent is fine.
    fn verify(&self, path: &Path) -> Result<(), RuntimeError> {
        let meta = match open_directory(path).and_then(|directory| directory.metadata()) {
            Ok(meta) => meta,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::ENOENT) => Ok(()),
                    Some(libc::ELOOP | libc::ENOTDIR) => Err(RuntimeError::NotDirectory {
                        path: path.to_owned(),
                    }),
                    _ => Err(RuntimeError::Io {
                        path: path.to_owned(),
                        error,
                    }),
                };
            }
        };
        if meta.uid() != self.uid {
            return Err(RuntimeError::Owner {
                path: path.to_owned(),
                owner: meta.uid(),
            });
        }
        if meta.mode() & 0o077 != 0 {
            return Err(RuntimeError::Mode {
                path: path.to_owned(),
                mode: meta.mode() & 0o777,
            });
        }
        Ok(())
    }
}

fn make(path: &Path, parents: bool) -> Result<(), RuntimeError> {
    match DirBuilder::new()
        .mode(0o700)
        .recursive(parents)
        .create(path)
    {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(RuntimeError::Io {
            path: path.to_owned(),
            error,
        }),
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    // O_PATH: a folder without read permission can still be looked at. O_NOFOLLOW with O_DIRECTORY: a link is ENOTDIR.
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY)
        .open(path)
}

#[cfg(test)]
mod tests;
