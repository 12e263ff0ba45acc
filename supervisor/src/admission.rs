// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The supervisor's unix socket: shims hand containers over on it, people and tools speak HTTP.
//!
//! Theory of operation. One thread accepts; each connection gets a short-lived thread that blocks on
//! that one client. The client's uid and pid are the kernel's word (SO_PEERCRED). The first byte
//! tells the two protocols apart and is only peeked at. HTTP leaves for the API's runtime at once,
//! unless the client is a task of a container: a supervised program may not drive the control API.
//! A shim goes through [`netcon_shim::handover`]: who and where, then the notification fd, then the
//! node's probe.
//!
//! Bounds. A client has [`PATIENCE`] for everything it has to say, however it spreads it. At most
//! [`MOST_GUESTS`] are in conversation; one more throws the one out that has kept us waiting longest
//! (an honest shim keeps nobody waiting). A process hands over one container at a time.

mod conversation;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{getsockopt, sockopt};

use crate::clock;
use crate::control::{PeerCredentials, Service};
use crate::needs::Need;

/// Time a client has to say everything it has to say.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Clients in conversation at the same time.
pub const MOST_GUESTS: usize = 64;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another supervisor serves it.
    #[error("Another netcon-supervisor serves {path}; stop it, or set NETCON_SOCKET to another place.", path = path.display())]
    Live {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{path} exists and is not a socket; remove it, or set NETCON_SOCKET to another place.", path = path.display())]
    NotSocket {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("Cannot {action} {path}: {error}.", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// The bound socket. Its file goes when this does, unless a service manager has made it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// A service manager has made it, and keeps it for the next supervisor.
    passed: bool,
    accepting: Mutex<Option<Accepting>>,
    _lock: Flock<File>,
}

/// The thread that accepts.
#[derive(Debug)]
struct Accepting {
    stop: Arc<EventFd>,
    thread: thread::JoinHandle<()>,
    door: Arc<Door>,
}

/// How long a supervisor that is beginning or ending may hold the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

impl Socket {
    /// Binds `path`, mode 0600. What a dead supervisor left is replaced; a live one is not.
    ///
    /// # Errors
    /// [`SocketError`]; a file that is there has not been touched then.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |action| {
            move |error| SocketError::Io {
                action,
                path: path.to_path_buf(),
                error,
            }
        };
        let lock = lock(path)?;
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail("examine")(error)),
            Ok(about) => {
                use std::os::unix::fs::FileTypeExt;
                if !about.file_type().is_socket() {
                    return Err(SocketError::NotSocket {
                        path: path.to_path_buf(),
                    });
                }
                // The lock is ours; whoever listens nevertheless is not to be robbed of its name.
                if UnixStream::connect(path).is_ok() {
                    return Err(SocketError::Live {
                        path: path.to_path_buf(),
                    });
                }
                std::fs::remove_file(path).map_err(fail("replace"))?;
            }
        }
        let listener = UnixListener::bind(path).map_err(fail("bind"))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(fail("protect"))?;
        Ok(Self {
            listener,
            passed: false,
            accepting: Mutex::new(None),
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    /// Takes a listening socket that a service manager has made.
    ///
    /// # Errors
    /// [`SocketError::NotSocket`] for anything else; [`SocketError::Live`] when another supervisor has its lock.
    pub fn adopt(passed: OwnedFd) -> Result<Self, SocketError> {
        let listens = getsockopt(&passed, sockopt::AcceptConn).unwrap_or(false);
        let listener = UnixListener::from(passed);
        let path = listener
            .local_addr()
            .ok()
            .filter(|_| listens)
            .and_then(|address| address.as_pathname().map(Path::to_path_buf))
            .ok_or_else(|| SocketError::NotSocket {
                path: "the socket that was passed".into(),
            })?;
        Ok(Self {
            _lock: lock_quietly(&path)?,
            listener,
            passed: true,
            accepting: Mutex::new(None),
            path,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts the accepting thread. HTTP connections go to `http`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn serve(
        &self,
        service: Arc<Service>,
        http: impl Fn(UnixStream, PeerCredentials) + Send + Sync + 'static,
    ) -> io::Result<()> {
        let door = Arc::new(Door {
            service,
            http: Box::new(http),
            guests: Mutex::new(Guests::default()),
            left: Condvar::new(),
        });
        self.begin(door)
    }

    /// Accepts nobody while `nobody_is_there` is asked. True: that is so, and the socket is closed; false: it goes on as
    /// before. Clients that come meanwhile wait.
    ///
    /// # Errors
    /// When accepting cannot be taken up again.
    pub fn close_if(&self, nobody_is_there: impl FnOnce() -> bool) -> io::Result<bool> {
        let Some(door) = self.pause() else {
            return Ok(true);
        };
        if nobody_is_there() {
            self.close();
            return Ok(true);
        }
        self.begin(door)?;
        Ok(false)
    }

    /// Accepts nobody any more. Who waits is hung up when the process ends, and asks again; those at a socket that was
    /// passed wait for the next supervisor.
    pub fn close(&self) {
        if !self.passed {
            // The lock is still ours: nobody else has bound this name meanwhile.
            let _may_be_gone = std::fs::remove_file(&self.path);
        }
        self.pause();
    }

    fn pause(&self) -> Option<Arc<Door>> {
        let ended = self.accepting().take()?;
        let _cannot_overflow = ended.stop.write(1);
        let _panicked = ended.thread.join();
        Some(ended.door)
    }

    fn begin(&self, door: Arc<Door>) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let (their_stop, their_door) = (Arc::clone(&stop), Arc::clone(&door));
        let thread = thread::Builder::new()
            .name("admission".to_owned())
            .spawn(move || accept(&listener, &their_stop, &their_door))?;
        *self.accepting() = Some(Accepting { stop, thread, door });
        Ok(())
    }

    fn accepting(&self) -> MutexGuard<'_, Option<Accepting>> {
        self.accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

/// Two supervisors that start together must not both find the other dead. One that holds the lock and does not listen is
/// about to: to end, or to begin.
fn lock(path: &Path) -> Result<Flock<File>, SocketError> {
    lock_unless(path, || UnixStream::connect(path).is_ok())
}

/// The same without a look at who listens.
fn lock_quietly(path: &Path) -> Result<Flock<File>, SocketError> {
    lock_unless(path, || false)
}

fn lock_unless(path: &Path, is_live: impl Fn() -> bool) -> Result<Flock<File>, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let fail = |error| SocketError::Io {
        action: "lock",
        path: lock_path.clone(),
        error,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&lock_path)
        .map_err(fail)?;
    let deadline = clock::now() + LOCK_PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((_file, errno)) if errno != nix::errno::Errno::EWOULDBLOCK => {
                return Err(fail(errno.into()));
            }
            Err((unlocked, _busy)) => {
                if clock::now() >= deadline || is_live() {
                    return Err(SocketError::Live {
                        path: path.to_path_buf(),
                    });
                }
                file = unlocked;
                thread::park_timeout(LOCK_PAUSE);
            }
        }
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// What the conversations share.
struct Door {
    service: Arc<Service>,
    http: Box<dyn Fn(UnixStream, PeerCredentials) + Send + Sync>,
    guests: Mutex<Guests>,
    left: Condvar,
}

/// Who is in conversation.
#[derive(Debug, Default)]
struct Guests {
    /// Number of the next one.
    next: u64,
    /// All that have a thread.
    present: usize,
    /// Those that we wait for, longest first.
    awaited: BTreeMap<u64, Arc<UnixStream>>,
    /// Processes that are handing a container over.
    handing_over: BTreeSet<u32>,
}

/// Until `stop` is raised.
fn accept(listener: &UnixListener, stop: &EventFd, door: &Arc<Door>) {
    loop {
        let mut polled = [
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        let _interrupted = poll(&mut polled, PollTimeout::NONE);
        if polled[0].any().unwrap_or(false) {
            return;
        }
        match listener.accept() {
            Ok((stream, _unnamed)) => receive(stream, door),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the unix socket");
                // Out of descriptors: others have to close some first.
                thread::park_timeout(Duration::from_millis(100));
            }
        }
    }
}

fn receive(stream: UnixStream, door: &Arc<Door>) {
    let peer = match credentials(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::debug!(%error, "a client without credentials");
            return;
        }
    };
    let guest = Guest::enter(Arc::clone(door), Arc::new(stream), peer);
    let spawned = thread::Builder::new()
        .name("hand-over".to_owned())
        .spawn(move || conversation::hold(&guest));
    if let Err(error) = spawned {
        tracing::warn!(%error, "cannot start a thread for a client");
    }
}

fn credentials(stream: &UnixStream) -> io::Result<PeerCredentials> {
    let found = getsockopt(&stream.as_fd(), sockopt::PeerCredentials)?;
    Ok(PeerCredentials {
        pid: u32::try_from(found.pid()).unwrap_or(0),
        uid: found.uid(),
        gid: found.gid(),
    })
}

/// One client in conversation; leaves the table when dropped.
struct Guest {
    door: Arc<Door>,
    number: u64,
    stream: Arc<UnixStream>,
    peer: PeerCredentials,
    _need: Need,
}

impl Guest {
    /// Makes room if there is none.
    fn enter(door: Arc<Door>, stream: Arc<UnixStream>, peer: PeerCredentials) -> Self {
        let mut guests = door.guests();
        while guests.present >= MOST_GUESTS {
            if let Some((_number, slowest)) = guests.awaited.pop_first() {
                tracing::debug!("a slow client is thrown out");
                let _may_be_gone = slowest.shutdown(Shutdown::Both);
            }
            guests = door
                .left
                .wait_timeout(guests, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let number = guests.next;
        guests.next += 1;
        guests.present += 1;
        guests.awaited.insert(number, Arc::clone(&stream));
        drop(guests);
        Self {
            _need: door.service.needs().enter(),
            door,
            number,
            stream,
            peer,
        }
    }

    /// From here on it is we who take the time: not to be thrown out any more.
    fn heard(&self) {
        self.door.guests().awaited.remove(&self.number);
    }

    /// Notes that the process hands a container over; false if it does already.
    fn begin_hand_over(&self) -> bool {
        self.door.guests().handing_over.insert(self.peer.pid)
    }

    fn end_hand_over(&self) {
        self.door.guests().handing_over.remove(&self.peer.pid);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.door.guests();
        guests.awaited.remove(&self.number);
        guests.present -= 1;
        drop(guests);
        self.door.left.notify_one();
    }
}

impl Door {
    fn guests(&self) -> MutexGuard<'_, Guests> {
        // Every change is a single step.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
