// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which folder, and which folders are refused.

use super::*;
use std::fs::{Permissions, create_dir, set_permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of the test's own, removed afterwards.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("netcon-runtime-{}-{count}", std::process::id()));
        create_dir(&path).unwrap();
        for part in ["tmp", "run", "xdg"] {
            create_dir(path.join(part)).unwrap();
            mode(&path.join(part), 0o700);
        }
        Self(path)
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            netcon_socket: None,
            xdg_runtime_dir: None,
            run_user: self.0.join("run"),
            tmp: self.0.join("tmp"),
            uid: crate::sys::effective_uid(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path, mode: u32) {
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_order_of_places() {
    let place = Place::new();
    let mut surroundings = place.surroundings();
    let uid = surroundings.uid;
    let tmp = place.0.join(format!("tmp/netcon-{uid}/{SOCKET_NAME}"));
    assert_eq!(surroundings.socket(false).unwrap(), tmp);

    let run = place.0.join(format!("run/{uid}"));
    create_dir(&run).unwrap();
    mode(&run, 0o700);
    assert_eq!(
        surroundings.socket(false).unwrap(),
        run.join("netcon").join(SOCKET_NAME)
    );

    surroundings.xdg_runtime_dir = Some(place.0.join("xdg").into());
    assert_eq!(
        surroundings.socket(false).unwrap(),
        place.0.join("xdg/netcon").join(SOCKET_NAME)
    );

    surroundings.netcon_socket = Some("/some/where.sock".into());
    assert_eq!(
        surroundings.socket(false).unwrap(),
        PathBuf::from("/some/where.sock")
    );
    assert_eq!(
        surroundings.directory(false).unwrap(),
        PathBuf::from("/some")
    );
}

#[test]
fn a_session_folder_that_is_not_ours_alone_is_passed_over() {
    let place = Place::new();
    let mut surroundings = place.surroundings();
    let tmp = place.0.join(format!("tmp/netcon-{}", surroundings.uid));
    for unusable in ["relative", "/nonexistent/xdg"] {
        surroundings.xdg_runtime_dir = Some(unusable.into());
        assert_eq!(surroundings.directory(false).unwrap(), tmp);
    }
    surroundings.xdg_runtime_dir = Some(place.0.join("xdg").into());
    mode(&place.0.join("xdg"), 0o777);
    assert_eq!(surroundings.directory(false).unwrap(), tmp);
}

#[test]
fn made_private() {
    let place = Place::new();
    let surroundings = place.surroundings();
    let socket = surroundings.socket(true).unwrap();
    let meta = socket.parent().unwrap().symlink_metadata().unwrap();
    assert!(meta.is_dir());
    assert_eq!(meta.mode() & 0o777, 0o700);
    assert_eq!(surroundings.socket(true).unwrap(), socket);
}

#[test]
fn others_may_not_enter() {
    let place = Place::new();
    let surroundings = place.surroundings();
    let directory = surroundings.directory(true).unwrap();
    for open in [0o755, 0o710, 0o707] {
        mode(&directory, open);
        let error = surroundings.socket(true).unwrap_err();
        assert!(matches!(error, RuntimeError::Mode { mode, .. } if mode == open));
        assert!(error.to_string().contains("chmod 700"));
    }
}

#[test]
fn a_link_is_refused() {
    let place = Place::new();
    let surroundings = place.surroundings();
    let directory = place.0.join(format!("tmp/netcon-{}", surroundings.uid));
    symlink(place.0.join("xdg"), &directory).unwrap();
    for create in [false, true] {
        assert!(matches!(
            surroundings.socket(create),
            Err(RuntimeError::NotDirectory { .. })
        ));
    }
    std::fs::remove_file(&directory).unwrap();
    std::fs::write(&directory, "").unwrap();
    assert!(matches!(
        surroundings.socket(true),
        Err(RuntimeError::NotDirectory { .. })
    ));
}

#[test]
fn another_owner_is_refused() {
    let place = Place::new();
    let mut surroundings = place.surroundings();
    let ours = surroundings.uid;
    surroundings.uid = ours + 1;
    let directory = place.0.join(format!("tmp/netcon-{}", surroundings.uid));
    create_dir(&directory).unwrap();
    mode(&directory, 0o700);
    assert!(
        matches!(surroundings.socket(true), Err(RuntimeError::Owner { owner, .. }) if owner == ours)
    );
}

#[test]
fn the_folder_of_a_named_socket_is_made() {
    let place = Place::new();
    let mut surroundings = place.surroundings();
    surroundings.netcon_socket = Some(place.0.join("a/b/s.sock").into());
    surroundings.socket(true).unwrap();
    assert_eq!(
        place.0.join("a/b").metadata().unwrap().mode() & 0o777,
        0o700
    );
}
