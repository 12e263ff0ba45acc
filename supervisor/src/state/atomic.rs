// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Replacing a file so that a crash leaves the old one or the new one, whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Name of the file being written; one at a time, under the directory's lock.
const UNFINISHED: &str = ".unfinished";

/// Puts `content` in the place of `path`, with mode 0600.
///
/// # Errors
/// Whatever the kernel said; `path` is then as it was, unless only the last flush failed.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let unfinished = directory.join(UNFINISHED);
    // Whatever is there is ours and was abandoned; a new file has the mode and owner asked for.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let result = write_and_rename(&unfinished, path, content);
    if result.is_err() {
        let _already_failing = std::fs::remove_file(&unfinished);
        return result;
    }
    flush_directory(directory)
}

/// Removes what an interrupted [`replace`] left behind.
pub(super) fn remove_leftovers(directory: &Path) {
    let _usually_absent = std::fs::remove_file(directory.join(UNFINISHED));
}

/// Makes renames and removals in a directory durable (fsync(2)).
///
/// # Errors
/// Whatever the kernel said.
pub(super) fn flush_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn write_and_rename(unfinished: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(unfinished)?;
    file.write_all(content)?;
    // The content must be on disk before the name points to it.
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}
