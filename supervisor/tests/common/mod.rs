// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A node that only remembers what it was told, and a folder of a test's own.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netcon_api::answer::Bytes;
use netcon_netstack::stack::{Ping, PingError, PingOutcome};
use netcon_overlay::{IpPrefix, PeerConfig, PeerStatus, PublicKey};
use netcon_supervisor::capture::{Captures, Wanted};
use netcon_supervisor::control::Observe;
use netcon_supervisor::control::observe::{NotCaptured, NotPinged, SocketView, Whereabouts};
use netcon_supervisor::control::{
    Admission, ContainerView, NetworkChange, NetworkStart, RunningTimestamps, Runtime,
    RuntimeError, Service, Unanswered,
};
use netcon_supervisor::events::Events;
use netcon_supervisor::metrics::Figures;
use netcon_supervisor::state::{PeerTimestamps, StateDir};
use tokio::sync::{mpsc, oneshot};

/// What the fake node knows.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Running networks with the endpoints of their peers.
    pub(crate) networks: BTreeMap<String, Vec<PeerConfig>>,
    /// Changes of networks, each with the name before it.
    pub(crate) changes: Vec<(String, NetworkChange)>,
    /// Containers that were started.
    pub(crate) containers: Vec<(Admission, u32)>,
    /// Containers that run.
    pub(crate) running: Vec<ContainerView>,
    /// Process → network: tasks of containers.
    pub(crate) inside: BTreeMap<u32, String>,
    /// Host socket → network: held by programs of containers.
    pub(crate) sockets_inside: BTreeMap<u64, String>,
    /// How often containers were looked through for a socket.
    pub(crate) searches: usize,
    /// What the overlay says of peers.
    pub(crate) status: Vec<PeerStatus>,
    /// What it was told or shall tell about timestamps.
    pub(crate) least_time: Duration,
    /// What the node restored.
    pub(crate) restored: PeerTimestamps,
    /// What has changed.
    pub(crate) timestamps: Option<RunningTimestamps>,
    /// A stream of events ends after its greeting.
    pub(crate) events_end: bool,
    /// The next start fails with this.
    pub(crate) failure: Option<String>,
}

/// A [`Runtime`] without packets.
#[derive(Default)]
pub(crate) struct Fake(Mutex<Seen>, Mutex<Option<Arc<Unanswered>>>, Arc<Events>);

impl Fake {
    /// Tells the service of a peer that does not answer.
    pub(crate) fn miss(&self, network: &str, peer: PublicKey) {
        let hook = self.1.lock().unwrap().clone().expect("somebody listens");
        hook(network, peer);
    }

    /// What it has seen.
    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    fn fail(&self) -> Result<(), RuntimeError> {
        self.seen()
            .failure
            .take()
            .map_or(Ok(()), |text| Err(RuntimeError(text)))
    }
}

impl Runtime for Fake {
    fn start_network(&self, network: NetworkStart) -> Result<(), RuntimeError> {
        self.fail()?;
        self.seen().restored.extend(network.timestamps);
        assert!(
            self.seen()
                .networks
                .insert(network.name, network.peers)
                .is_none()
        );
        Ok(())
    }

    fn change_network(&self, network: &str, change: NetworkChange) -> Result<(), RuntimeError> {
        self.fail()?;
        let mut seen = self.seen();
        if let Some(name) = change.name.clone() {
            let peers = seen.networks.remove(network).expect("it runs");
            seen.networks.insert(name, peers);
        }
        seen.changes.push((network.to_owned(), change));
        Ok(())
    }

    fn stop_network(&self, network: &str) {
        self.seen().networks.remove(network);
    }

    fn set_peer(&self, network: &str, peer: PeerConfig) -> Result<(), RuntimeError> {
        self.fail()?;
        let mut seen = self.seen();
        let peers = seen.networks.get_mut(network).expect("it runs");
        peers.retain(|old| old.public_key != peer.public_key);
        peers.push(peer);
        Ok(())
    }

    fn remove_peer(&self, network: &str, peer: &PublicKey) {
        let mut seen = self.seen();
        seen.networks
            .get_mut(network)
            .expect("it runs")
            .retain(|old| old.public_key != *peer);
    }

    fn set_least_time(&self, unix: Duration) {
        self.seen().least_time = unix;
    }

    fn changed_timestamps(&self) -> Option<RunningTimestamps> {
        self.seen().timestamps.take()
    }

    fn peer_status(&self, _network: &str) -> Vec<PeerStatus> {
        self.seen().status.clone()
    }

    fn watch_unanswered(&self, hook: Unanswered) {
        *self.1.lock().unwrap() = Some(Arc::new(hook));
    }

    fn containers(&self) -> Vec<ContainerView> {
        self.seen().running.clone()
    }

    fn network_of(&self, pid: u32) -> Option<String> {
        self.seen().inside.get(&pid).cloned()
    }

    fn network_of_socket(&self, inode: u64) -> Option<String> {
        let mut seen = self.seen();
        seen.searches += 1;
        seen.sockets_inside.get(&inode).cloned()
    }

    fn start_container(
        &self,
        admission: Admission,
        _notify: OwnedFd,
        flags: u32,
    ) -> Result<(), RuntimeError> {
        self.fail()?;
        self.seen().containers.push((admission, flags));
        Ok(())
    }
}

/// Nothing passes here, and nobody has a socket.
impl Observe for Fake {
    fn sockets(
        &self,
        network: &str,
        _after: Option<u64>,
        _most: usize,
        _wanted: &dyn Fn(&netcon_supervisor::network::Seen) -> bool,
    ) -> Option<(Vec<SocketView>, Option<u64>)> {
        let runs = self.seen().networks.contains_key(network);
        runs.then(|| (Vec::new(), None))
    }

    fn whereabouts(&self, network: &str, address: IpAddr) -> Whereabouts {
        let seen = self.seen();
        let mut peers = seen.networks.get(network).into_iter().flatten();
        let prefix = IpPrefix::host(address);
        peers
            .find(|peer| peer.allowed_ips.contains(&prefix))
            .map_or(Whereabouts::Unknown, |peer| {
                Whereabouts::Peer(peer.public_key)
            })
    }

    fn ping(&self, network: &str, ping: Ping) -> Result<oneshot::Receiver<PingOutcome>, NotPinged> {
        if self.whereabouts(network, ping.to) == Whereabouts::Unknown {
            return Err(NotPinged::Refused(PingError::NoRoute));
        }
        let (asker, answer) = oneshot::channel();
        let _asked_for_just_now = asker.send(PingOutcome::TimedOut);
        Ok(answer)
    }

    fn capture(&self, network: &str, wanted: Wanted) -> Result<mpsc::Receiver<Bytes>, NotCaptured> {
        let mut captures = Captures::default();
        let file = captures.begin(network, wanted, Duration::ZERO).unwrap();
        captures.end(Duration::ZERO);
        Ok(file)
    }

    fn figures(&self, _names: &dyn Fn(&str, &str) -> Option<String>) -> Figures {
        Figures::default()
    }

    fn events(&self) -> &Arc<Events> {
        &self.2
    }

    fn listen_to_events(&self) -> Option<mpsc::Receiver<Bytes>> {
        if self.seen().events_end {
            return Events::default().subscribe();
        }
        self.2.subscribe()
    }
}

/// A folder of its own, removed at the end.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("netcon-t{}-{number}", std::process::id()));
        let _left_by_an_earlier_run = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.0);
    }
}

/// A service over a fresh state directory.
pub(crate) fn service(folder: &Folder) -> (Arc<Service>, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let state = StateDir::open(&folder.path().join("state")).unwrap();
    let runtime: Arc<dyn Runtime> = Arc::<Fake>::clone(&fake);
    (
        Arc::new(Service::start(state, runtime, 9993).unwrap()),
        fake,
    )
}

/// Number of a socket.
pub(crate) fn inode(socket: impl std::os::fd::AsFd) -> u64 {
    netcon_supervisor::sys::unix::inode(socket.as_fd()).unwrap()
}
