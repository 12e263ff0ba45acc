// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread of the control API: HTTP on loopback and on the unix socket.
//!
//! Callers are known by uid, from the kernel: of a unix socket by its credentials (checked before
//! the connection gets here), of a loopback connection by the owner of the other end (sock_diag).
//! Whoever is not the user of this supervisor hears one sentence and nothing else.
//!
//! Bounds: [`MOST_CONNECTIONS`] are served, further ones are closed at once; connections of
//! strangers are counted apart, so that they cannot take the places.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netcon_api::server::{Caller, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};

use crate::control::{PeerCredentials, Service};
use crate::sys::inet_diag;

/// Connections served at the same time.
pub const MOST_CONNECTIONS: usize = 256;
/// Connections of strangers that are being told so.
const MOST_STRANGERS: usize = 32;
/// Time a stranger has to read that it is one.
const STRANGERS_TIME: Duration = Duration::from_secs(2);
/// Unix connections between the admission and this thread.
const WAITING: usize = 64;

/// The way of unix connections to the API's thread.
#[derive(Debug, Clone)]
pub struct UnixHttp(mpsc::Sender<(UnixStream, PeerCredentials)>);

impl UnixHttp {
    /// Gives the API a connection whose peer is entitled to it. Closed when too many wait.
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

/// Starts the thread; on loopback `user` is served and nobody else.
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
        served: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        strangers: Arc::new(Semaphore::new(MOST_STRANGERS)),
    };
    thread::Builder::new()
        .name("api".to_owned())
        .spawn(move || runtime.block_on(run(places, listeners, receiver)))?;
    Ok(UnixHttp(sender))
}

#[derive(Clone)]
struct Places {
    user: u32,
    service: Arc<Service>,
    served: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
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
            Ok(stream) => places.serve(stream, Caller { uid: peer.uid }),
            Err(error) => tracing::debug!(%error, "a unix connection was lost"),
        }
    }
    // All senders are gone: loopback goes on until the process ends.
    std::future::pending::<()>().await;
}

async fn accept_tcp(places: Places, listener: tokio::net::TcpListener) {
    let ours = places.user;
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
        let owner = stream
            .local_addr()
            .and_then(|local| inet_diag::owner(peer, local));
        match owner {
            Ok(Some(uid)) if uid == ours => places.serve(stream, Caller { uid }),
            Ok(Some(uid)) => places.refuse(
                stream,
                format!("This netcon-supervisor belongs to uid {ours}; you are uid {uid}."),
            ),
            Ok(None) => tracing::debug!("a loopback connection ended before it was known"),
            Err(error) => {
                tracing::warn!(%error, "cannot tell who connects on loopback");
                places.refuse(
                    stream,
                    format!(
                        "The netcon-supervisor cannot tell who you are ({error}); use its unix socket."
                    ),
                );
            }
        }
    }
}

impl Places {
    fn serve<S>(&self, stream: S, caller: Caller)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.served).try_acquire_owned() else {
            tracing::warn!("too many connections to the API; one was closed");
            return;
        };
        let service = Arc::clone(&self.service);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, caller, service).await {
                tracing::debug!(%error, "a connection to the API failed");
            }
            drop(place);
        });
    }

    fn refuse(&self, mut stream: tokio::net::TcpStream, sentence: String) {
        tracing::debug!(sentence, "a caller was refused");
        let Ok(place) = Arc::clone(&self.strangers).try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            let farewell = async {
                stream.write_all(&forbidden(&sentence)).await?;
                stream.shutdown().await?;
                // Closing with its request unread would take the answer away from it.
                let mut unread = [0; 4096];
                while stream.read(&mut unread).await? > 0 {}
                io::Result::Ok(())
            };
            let _strangers_problem = tokio::time::timeout(STRANGERS_TIME, farewell).await;
            drop(place);
        });
    }
}

/// A whole HTTP answer that refuses a caller before its request is looked at.
pub(crate) fn forbidden(sentence: &str) -> Vec<u8> {
    let body = serde_json::json!({"error": {"code": "forbidden", "message": sentence}});
    let body = format!("{body}\n");
    format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
