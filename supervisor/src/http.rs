// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread of the control API: HTTP on loopback and on the unix socket.
//!
//! Callers are known by uid, from the kernel: of a unix socket by its credentials, of a loopback connection by the owner of
//! the other end (sock_diag). The user of this supervisor may ask, and whoever presents its token; nobody else learns
//! anything. A program in a network may not ask, whoever it runs as and whatever it presents: the other end of each loopback
//! connection is looked for among the descriptors of containers, again and again (`gate`).
//!
//! Bounds: each kind of caller has places of its own, so that none can keep another out; connections beyond them are closed
//! at once, after an answer where it can be had without waiting.

mod gate;

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use netcon_api::server::{serve, unasked};
use netcon_api::{ApiError, Code};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};

use self::gate::{Guard, Who};
use crate::control::{PeerCredentials, Service};
use crate::sys::inet_diag::InetDiag;
use crate::sys::priority;

/// Connections of the user on loopback that are served at the same time.
pub const MOST_CONNECTIONS: usize = 256;
/// The same on the unix socket.
pub const MOST_UNIX: usize = 128;
/// Connections of all strangers, and of one uid among them.
pub const MOST_STRANGERS: usize = 32;
const MOST_OF_ONE: usize = 8;
/// By how much the thread stands back where the processor is busy: it gets a third of what others get.
const STEPS_BACK: i32 = 5;
/// Unix connections between the admission and this thread.
const WAITING: usize = 64;

/// The way of unix connections to the API's thread.
#[derive(Debug, Clone)]
pub struct UnixHttp(mpsc::Sender<(UnixStream, PeerCredentials)>);

impl UnixHttp {
    /// Gives the API a connection whose peer is no task of a container. Closed when too many wait.
    pub fn accept(&self, stream: UnixStream, peer: PeerCredentials) {
        if self.0.try_send((stream, peer)).is_err() {
            tracing::warn!(
                pid = peer.pid,
                "too many connections to the API; one was closed"
            );
        }
    }
}

/// Starts the thread, for the user of this process.
///
/// # Errors
/// When the runtime or the thread cannot be made.
pub fn start(service: Arc<Service>, listeners: Vec<TcpListener>) -> io::Result<UnixHttp> {
    start_for(nix::unistd::geteuid().as_raw(), service, listeners)
}

/// Starts the thread; `user` is served, and nobody else without the token.
///
/// # Errors
/// As [`start`].
pub fn start_for(
    user: u32,
    service: Arc<Service>,
    listeners: Vec<TcpListener>,
) -> io::Result<UnixHttp> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let listeners = listeners
        .into_iter()
        .map(|listener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        })
        .collect::<io::Result<Vec<_>>>()?;
    drop(guard);
    let places = Places {
        user,
        service,
        loopback: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        unix: Arc::new(Semaphore::new(MOST_UNIX)),
        strangers: Arc::new(Semaphore::new(MOST_STRANGERS)),
        of_one: Arc::default(),
    };
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new()
        .name("api".to_owned())
        .spawn(move || {
            // Packets and programs go first, and are not interrupted.
            if let Err(error) = priority::stand_back(STEPS_BACK) {
                tracing::debug!(%error, "the API's thread keeps its priority");
            }
            let _whoever_started_us_waits = ready.send(());
            runtime.block_on(run(places, listeners, receiver));
        })?;
    // The sandbox, which closes next, refuses what has been done by then.
    let _thread_has_ended = started.recv();
    Ok(UnixHttp(sender))
}

#[derive(Clone)]
struct Places {
    user: u32,
    service: Arc<Service>,
    loopback: Arc<Semaphore>,
    unix: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    /// Connections of each stranger; at most [`MOST_STRANGERS`] entries.
    of_one: Arc<Mutex<HashMap<u32, usize>>>,
}

/// A stranger's place beside its permit; given back when dropped.
struct Seat {
    uid: u32,
    of_one: Arc<Mutex<HashMap<u32, usize>>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut of_one = counted(&self.of_one);
        if let Some(count) = of_one.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                of_one.remove(&self.uid);
            }
        }
    }
}

fn counted(of_one: &Mutex<HashMap<u32, usize>>) -> MutexGuard<'_, HashMap<u32, usize>> {
    // Every change is a single step.
    of_one.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(
    places: Places,
    listeners: Vec<tokio::net::TcpListener>,
    mut unix: mpsc::Receiver<(UnixStream, PeerCredentials)>,
) {
    for listener in listeners {
        tokio::spawn(accept_tcp(places.clone(), listener));
    }
    while let Some((stream, peer)) = unix.recv().await {
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixStream::from_std(stream));
        match stream {
            Ok(stream) => places.serve(stream, places.who(peer.uid, None)),
            Err(error) => tracing::debug!(%error, "a unix connection was lost"),
        }
    }
    // All senders are gone: loopback goes on until the process ends.
    std::future::pending::<()>().await;
}

async fn accept_tcp(places: Places, listener: tokio::net::TcpListener) {
    let mut diag = InetDiag::default();
    // Bound to one address: each connection's own one is that too.
    let here = match listener.local_addr() {
        Ok(here) => here,
        Err(error) => {
            tracing::error!(%error, "the API does not answer on loopback");
            return;
        }
    };
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on loopback");
                // Out of descriptors: others have to close some first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match diag.owner(peer, here) {
            Ok(Some(owner)) => {
                places.serve(stream, places.who(owner.uid, Some(owner.inode)));
            }
            Ok(None) => tracing::debug!("a loopback connection ended before it was known"),
            Err(error) => {
                tracing::warn!(%error, "cannot tell who connects on loopback");
                places.serve(stream, Who::Unknown);
            }
        }
    }
}

impl Places {
    /// What to think of a caller; `inode` is of its end of a loopback connection.
    fn who(&self, uid: u32, inode: Option<u64>) -> Who {
        match (uid == self.user, inode) {
            (true, inode) => Who::Owner { uid, inode },
            (false, inode) => Who::Stranger { uid, inode },
        }
    }

    fn serve(&self, stream: impl Connection, who: Who) {
        let (places, seat) = match who {
            Who::Owner { inode: None, .. } => (&self.unix, None),
            Who::Owner { inode: Some(_), .. } => (&self.loopback, None),
            Who::Stranger { uid, .. } => match self.seat(uid) {
                Some(seat) => (&self.strangers, Some(seat)),
                None => return stream.turn_away(),
            },
            Who::Unknown => (&self.strangers, None),
        };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            tracing::debug!("too many connections to the API; one was closed");
            return stream.turn_away();
        };
        let service = Arc::clone(&self.service);
        let need = matches!(who, Who::Owner { .. }).then(|| service.needs().enter());
        let guard = Guard::new(Arc::clone(&service), who);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, guard, service).await {
                tracing::debug!(%error, "a connection to the API failed");
            }
            drop((place, seat, need));
        });
    }

    /// One more connection of this stranger, if it may have one.
    fn seat(&self, uid: u32) -> Option<Seat> {
        let mut of_one = counted(&self.of_one);
        let count = of_one.entry(uid).or_insert(0);
        if *count >= MOST_OF_ONE {
            return None;
        }
        *count += 1;
        let of_one = Arc::clone(&self.of_one);
        Some(Seat { uid, of_one })
    }
}

/// A stream of either kind.
trait Connection:
    tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + Sized + 'static
{
    /// Says that there is no place, as far as that can be said without waiting, and closes.
    fn turn_away(self);
}

impl Connection for tokio::net::TcpStream {
    fn turn_away(self) {
        let _best_effort = self.try_write(&busy());
    }
}

impl Connection for tokio::net::UnixStream {
    fn turn_away(self) {
        let _best_effort = self.try_write(&busy());
    }
}

fn busy() -> Vec<u8> {
    unasked(&ApiError::new(
        Code::Busy,
        "There are too many connections to the netcon-supervisor.",
    ))
}

/// A whole HTTP answer that refuses a caller before its request is looked at.
pub(crate) fn forbidden(sentence: &str) -> Vec<u8> {
    unasked(&ApiError::new(Code::Forbidden, sentence))
}
