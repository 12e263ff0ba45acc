// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which file a command names, whether it can run in a container, and its start: execvp(3), in two halves.

use crate::failure::Failure;
use netcon_shim::sys;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A file that can be executed and read.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
}

/// Finds `command` as execvp(3) does: with a slash it is a path, else it is looked for in `search` (PATH).
///
/// A program that cannot be read is refused: executing it makes the process non-dumpable, and a supervisor of the same user
/// can then neither read its memory nor tell its descriptors apart. The same goes for the interpreter of a script.
pub(crate) fn find(command: &OsStr, search: Option<&OsStr>) -> Result<Program, Failure> {
    let path = if command.as_bytes().contains(&b'/') {
        let path = PathBuf::from(command);
        executable(&path).map_err(|error| missing(command, path.clone(), error))?;
        path
    } else {
        in_path(command, search)?
    };
    readable(&path, INTERPRETERS)?;
    Ok(Program { path })
}

impl Program {
    /// Executes it with `command` as its name and `network` in NETCON_NET; returns only if that failed.
    pub(crate) fn execute(
        &self,
        command: &OsStr,
        arguments: &[OsString],
        network: &str,
    ) -> Failure {
        let environment = std::env::vars_os()
            .filter(|(name, _)| name != "NETCON_NET")
            .map(|(mut entry, value)| {
                entry.push("=");
                entry.push(value);
                entry
            });
        let strings = |strings: &mut dyn Iterator<Item = OsString>| -> Result<Vec<CString>, _> {
            strings
                .map(|string| CString::new(string.into_vec()))
                .collect()
        };
        let network = OsString::from(format!("NETCON_NET={network}"));
        let (Ok(path), Ok(mut arguments), Ok(environment)) = (
            CString::new(self.path.as_os_str().as_bytes()),
            strings(
                &mut std::iter::once(command)
                    .map(OsStr::to_owned)
                    .chain(arguments.iter().cloned()),
            ),
            strings(&mut environment.chain([network])),
        ) else {
            return Failure::NotExecutable(self.path.clone(), io::ErrorKind::InvalidInput.into());
        };
        let mut error = sys::execute(&path, &arguments, &environment);
        if error.raw_os_error() == Some(libc::ENOEXEC) {
            // Neither a binary nor a script with an interpreter: the shell's, as execvp(3) has it.
            arguments.splice(..1, [SHELL.to_owned(), path]);
            error = sys::execute(SHELL, &arguments, &environment);
        }
        if error.raw_os_error() == Some(libc::ENOENT) && self.path.exists() {
            return Failure::NoInterpreter(self.path.clone());
        }
        missing(command, self.path.clone(), error)
    }
}

const SHELL: &std::ffi::CStr = c"/bin/sh";
/// Where programs are looked for without PATH, as glibc has it.
const DEFAULT_SEARCH: &[u8] = b"/bin:/usr/bin";
/// Interpreters of interpreters that the kernel follows (BINPRM_BUF_SIZE and `exec_binprm` in fs/exec.c).
const INTERPRETERS: u32 = 5;
/// Bytes at the start of a file that the kernel looks at for `#!`.
const SCRIPT_LINE: u64 = 256;

fn in_path(command: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, Failure> {
    if command.is_empty() {
        return Err(Failure::NotFound(command.to_owned()));
    }
    let mut refused = None;
    for folder in search
        .map_or(DEFAULT_SEARCH, OsStr::as_bytes)
        .split(|byte| *byte == b':')
    {
        // An empty entry is the current folder.
        let folder = if folder.is_empty() { b"." } else { folder };
        let path = Path::new(OsStr::from_bytes(folder)).join(command);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                // The first one found is the one to tell about; the search goes on.
                if path.exists() && refused.is_none() {
                    refused = Some((path, error));
                }
            }
            Err(_) => {}
        }
    }
    match refused {
        Some((path, error)) => Err(Failure::NotExecutable(path, error)),
        None => Err(Failure::NotFound(command.to_owned())),
    }
}

fn executable(path: &Path) -> io::Result<()> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    sys::may_execute(path)
}

fn missing(command: &OsStr, path: PathBuf, error: io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Failure::NotFound(command.to_owned()),
        _ => Failure::NotExecutable(path, error),
    }
}

fn readable(path: &Path, depth: u32) -> Result<(), Failure> {
    if sys::may_read(path).is_err() {
        return Err(Failure::Unreadable(path.to_owned()));
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SCRIPT_LINE).read_to_end(&mut start));
    let Some(interpreter) = read.ok().and_then(|_| interpreter(&start)) else {
        return Ok(());
    };
    match executable(&interpreter) {
        Ok(()) if depth > 0 => readable(&interpreter, depth - 1),
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::NoInterpreter(path.to_owned()))
        }
        Err(error) => Err(Failure::NotExecutable(interpreter, error)),
    }
}

/// The interpreter that a script's first line names.
fn interpreter(start: &[u8]) -> Option<PathBuf> {
    let line = start
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let name = line
        .trim_ascii()
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .next()?;
    (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(name)))
}
