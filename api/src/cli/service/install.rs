// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts everything below the user's own prefix, and takes it away again: a list of what was put there stays beside it, and
//! nothing that is not on it is ever overwritten or removed.

use super::super::beside::{self, Program};
use super::super::generated::{self, Shell};
use super::super::human::count;
use super::super::output::{Context, Failure, note};
use super::super::screen::Screen;
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where to.
#[derive(Debug, Args)]
pub(in super::super) struct Install {
    /// Folder below which everything goes [default: ~/.local]
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
}

/// From where.
#[derive(Debug, Args)]
pub(in super::super) struct Uninstall {
    /// Folder below which everything is [default: ~/.local]
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// Remove networks and their keys, too
    #[arg(long)]
    purge: bool,
}

/// The programs: they lie beside each other.
const PROGRAMS: [&str; 3] = ["netcon", "netcon-shim", "netcon-supervisor"];
/// The units, with the path of the supervisor in them that is replaced.
const UNITS: &[(&str, &str)] = &[
    (
        "netcon.service",
        include_str!("../../../../packaging/systemd/netcon.service"),
    ),
    (
        "netcon.socket",
        include_str!("../../../../packaging/systemd/netcon.socket"),
    ),
];
const SUPERVISOR_IN_UNITS: &str = "%h/.local/bin/netcon-supervisor";
/// What was put where, below the prefix: a line each, `f` and a file or `d` and a folder that was not there before.
const LIST: &str = "share/netcon/installed";
/// Completions of each shell, below the prefix: what stands before and behind the name of the program.
const COMPLETIONS: [(Shell, &str, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions/", ""),
    (Shell::Zsh, "share/zsh/site-functions/_", ""),
    (Shell::Fish, "share/fish/vendor_completions.d/", ".fish"),
];

/// Installs; over an older installation, too.
pub(super) fn install(context: Context, options: &Install) -> Result<(), Failure> {
    let prefix = prefix(options.prefix.as_deref())?;
    let source = beside::folder()?;
    let mut files = Vec::new();
    for program in PROGRAMS {
        let path = source.join(program);
        let content = fs::read(&path).map_err(|error| {
            Failure::file(format!(
                "cannot read {} ({error}); the three programs have to lie beside each other",
                path.display()
            ))
        })?;
        files.push((format!("bin/{program}"), content, 0o755));
    }
    for (name, page) in generated::pages()? {
        files.push((format!("share/man/man1/{name}"), page, 0o644));
    }
    for program in Program::ALL {
        let name = program.name();
        let page = beside::output_of(&source.join(name), "--man")?;
        files.push((format!("share/man/man1/{name}.1"), page, 0o644));
    }
    for (shell, before, behind) in COMPLETIONS {
        files.push((format!("{before}netcon{behind}"), shell.script()?, 0o644));
        for program in Program::ALL {
            let path = format!("{before}{}{behind}", program.name());
            files.push((path, program.completions(shell)?, 0o644));
        }
    }
    let supervisor = prefix.join("bin/netcon-supervisor");
    // systemd takes a percent sign and a blank for its own (systemd.unit(5), systemd.service(5)).
    let supervisor = supervisor
        .to_string_lossy()
        .replace('%', "%%")
        .replace(' ', "\\x20");
    for (name, unit) in UNITS {
        let unit = unit.replace(SUPERVISOR_IN_UNITS, &supervisor);
        files.push((
            format!("share/systemd/user/{name}"),
            unit.into_bytes(),
            0o644,
        ));
    }
    let mut list = List::read(&prefix)?;
    let own = list.clone();
    for (path, ..) in &files {
        let path = prefix.join(path);
        if path.symlink_metadata().is_ok() && !own.files.contains(&path) {
            return Err(Failure::file(format!(
                "{} is there and was not put there by netcon service install; remove it first",
                path.display()
            )));
        }
    }
    let written: BTreeSet<PathBuf> = files.iter().map(|(path, ..)| prefix.join(path)).collect();
    // On the list before it is there: what is interrupted can be taken away, too.
    list.files.extend(written.iter().cloned());
    list.add_folders(&prefix);
    list.write(&prefix)?;
    for (path, content, mode) in &files {
        put(&prefix.join(path), content, *mode)?;
    }
    // What an older release had and this one has not.
    for old in own.files.difference(&written) {
        remove_file(old)?;
    }
    list.files = written;
    list.write(&prefix)?;
    reload();
    if context.json {
        let paths: Vec<&PathBuf> = list.files.iter().collect();
        return context.show(
            json!({ "prefix": prefix, "files": paths }),
            |_: &serde_json::Value| Screen::new(),
        );
    }
    let sentence = format!(
        "{} are below {}",
        count(list.files.len(), "file"),
        prefix.display()
    );
    context.show(json!(sentence), |sentence: &String| {
        Screen::sentence(sentence)
    })?;
    let bin = prefix.join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder == bin) {
        note(&format!("{} is not in PATH: add it there", bin.display()));
    }
    Ok(())
}

/// Takes everything away that was installed, and the folders that were made for it if nothing else is in them.
pub(super) fn uninstall(context: Context, options: &Uninstall) -> Result<(), Failure> {
    let prefix = prefix(options.prefix.as_deref())?;
    let list = List::read(&prefix)?;
    if list.files.is_empty() {
        return Err(Failure::file(format!(
            "nothing is installed below {}; say with --prefix where it is",
            prefix.display()
        )));
    }
    let state = if options.purge {
        Some(state_folder()?)
    } else {
        None
    };
    if state.is_some() && context.ask(&crate::Command::Health {}).is_ok() {
        return Err(Failure::other(
            "a supervisor runs, whose networks and keys would be removed; end it first",
        ));
    }
    for (name, _unit) in UNITS {
        systemctl(&["disable", "--now", name]);
    }
    for file in &list.files {
        remove_file(file)?;
    }
    remove_file(&prefix.join(LIST))?;
    // The deepest first.
    for folder in list.folders.iter().rev() {
        match fs::remove_dir(folder) {
            Ok(()) => {}
            // Somebody else uses it by now.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound
                ) => {}
            Err(error) => return Err(cannot("remove", folder, &error)),
        }
    }
    reload();
    let kept = match state {
        Some(folder) => match fs::remove_dir_all(&folder) {
            Ok(()) => "networks and their keys are removed".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                "there were no networks".to_owned()
            }
            Err(error) => return Err(cannot("remove", &folder, &error)),
        },
        None => "networks and their keys are kept (--purge removes them)".to_owned(),
    };
    let sentence = format!(
        "{} are removed from {}; {kept}",
        count(list.files.len(), "file"),
        prefix.display()
    );
    context.show(json!(sentence), |sentence: &String| {
        Screen::sentence(sentence)
    })
}

/// What is installed, and which folders were made for it.
#[derive(Debug, Default, Clone)]
struct List {
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

impl List {
    fn read(prefix: &Path) -> Result<Self, Failure> {
        let path = prefix.join(LIST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(cannot("read", &path, &error)),
        };
        let mut list = Self::default();
        for line in text.lines() {
            // Only what lies below the prefix can be ours.
            let below =
                |path: &str| Some(PathBuf::from(path)).filter(|path| path.starts_with(prefix));
            match line.split_once(' ') {
                Some(("f", path)) => list.files.extend(below(path)),
                Some(("d", path)) => list.folders.extend(below(path)),
                Some(_) | None => {}
            }
        }
        Ok(list)
    }

    fn write(&self, prefix: &Path) -> Result<(), Failure> {
        let lines = |kind: &str, paths: &BTreeSet<PathBuf>| -> String {
            paths
                .iter()
                .map(|path| format!("{kind} {}\n", path.display()))
                .collect()
        };
        let text = lines("d", &self.folders) + &lines("f", &self.files);
        put(&prefix.join(LIST), text.as_bytes(), 0o644)
    }

    /// Notes the folders that do not exist yet: they will be made.
    fn add_folders(&mut self, prefix: &Path) {
        let list = prefix.join(LIST);
        for path in self.files.iter().chain([&list]) {
            for folder in path.ancestors().skip(1) {
                if folder.exists() {
                    break;
                }
                self.folders.insert(folder.to_owned());
            }
        }
    }
}

fn prefix(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let prefix = match given {
        Some(prefix) => std::path::absolute(prefix).map_err(|error| {
            Failure::usage(format!("{} is no folder: {error}", prefix.display()))
        })?,
        None => home()?.join(".local"),
    };
    match prefix.to_str() {
        Some(text) if !text.contains(char::is_control) => Ok(prefix),
        Some(_) | None => Err(Failure::usage(
            "the prefix has to be text without control characters",
        )),
    }
}

fn home() -> Result<PathBuf, Failure> {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.is_absolute())
        .ok_or_else(|| Failure::usage("HOME names no folder; say with --prefix where to install"))
}

fn state_folder() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    Ok(match named {
        Some(base) => base.join("netcon"),
        None => home()?.join(".local/state/netcon"),
    })
}

/// Writes a file by renaming: a program that runs keeps its own, and no half is ever there.
fn put(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| cannot("make", folder, &error))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(content)?;
            // Whatever the umask takes away.
            file.set_permissions(Permissions::from_mode(mode))
        })
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|error| cannot("write", path, &error))
}

fn remove_file(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot("remove", path, &error)),
    }
}

/// Has systemd look at the units, where it runs for this user.
fn reload() {
    systemctl(&["daemon-reload"]);
}

/// Where systemd does not run for this user there is nothing that it would have to know.
fn systemctl(arguments: &[&str]) {
    let runs = std::env::var_os("XDG_RUNTIME_DIR")
        .is_some_and(|folder| Path::new(&folder).join("systemd/private").exists());
    if runs {
        let asked = Command::new("systemctl")
            .arg("--user")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = asked {
            note(&format!("systemctl cannot be run: {error}"));
        }
    }
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::file(format!("cannot {what} {}: {error}", path.display()))
}
