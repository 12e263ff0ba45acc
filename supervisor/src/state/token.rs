// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file of the control API's token.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use netcon_api::token::Token;

use super::{StateDir, StateError, atomic};

/// Bound on the file; a token is much shorter.
const LARGEST: u64 = 1024;

impl StateDir {
    /// Where the token is.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.root.join("token")
    }

    /// The token of the file. One that is missing, is none, or could have been read by others is replaced by `fresh`; the
    /// latter two with a log line.
    ///
    /// # Errors
    /// [`StateError::Io`] when the file can neither be read nor replaced.
    pub fn token(&self, fresh: Token) -> Result<Token, StateError> {
        let path = self.token_file();
        match read(&path) {
            Ok(token) => return Ok(token),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!("{}: {error}; a new token is made.", path.display());
            }
            Err(error) => {
                return Err(StateError::Io {
                    action: "read",
                    path,
                    error,
                });
            }
        }
        self.save_token(&fresh)?;
        Ok(fresh)
    }

    /// Writes the token.
    ///
    /// # Errors
    /// [`StateError::Io`]; the old one is then still there.
    pub fn save_token(&self, token: &Token) -> Result<(), StateError> {
        let path = self.token_file();
        let line = format!("{}\n", token.expose());
        atomic::replace(&path, line.as_bytes()).map_err(|error| StateError::Io {
            action: "write",
            path,
            error,
        })
    }
}

/// `InvalidData` for what must not be used.
fn read(path: &Path) -> io::Result<Token> {
    let unusable = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return unusable("it is a symbolic link");
        }
        opened => opened?,
    };
    let about = file.metadata()?;
    if !about.is_file() {
        return unusable("it is not a regular file");
    }
    if about.uid() != nix::unistd::geteuid().as_raw() || about.mode() & 0o077 != 0 {
        return unusable("others could read it");
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    Token::parse(&text).or_else(|error| unusable(&error.to_string()))
}
