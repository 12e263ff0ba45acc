// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The running node: networks, containers, and what they share. [`Running`] is its face towards the control side.

use crate::clock;
use crate::container::{self, Container};
use crate::control::{
    Admission, ContainerView, NetworkChange, NetworkStart, RunningTimestamps, Runtime,
    RuntimeError, Unanswered,
};
use crate::data::{Command, Handle};
use crate::events::Events;
use crate::metrics::Calls;
use crate::netlink::Ends;
use crate::network::{Holder, MAX_NETWORKS, Network, Role};
use crate::parked::{Message, Room};
use crate::registry::{Entry, Registry};
use crate::sys::diag::UnixDiag;
use crate::sys::{memory, notify, random, task, unix};
use crate::tasks::Tasks;
use netcon_api::model::Happening;
use netcon_netstack::sockets::{CloseHow, SocketId, Sockets, Traffic};
use netcon_netstack::stack::{self, Stack};
use netcon_overlay::{NetworkIndex, PeerConfig, PeerStatus, PublicKey};
use netcon_shim::handover::{PROBE_COOKIE, PROBE_FD};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Everything that runs. Shared by all threads.
#[derive(Debug)]
pub struct Node {
    /// inode → socket.
    pub registry: Registry,
    /// Netlink sockets.
    pub netlink: Ends,
    /// process → container.
    pub tasks: Tasks,
    /// Whether a socket still exists.
    pub diag: UnixDiag,
    /// Our folder for names that are unlinked at once; 0700.
    pub folder: PathBuf,
    /// The data thread.
    pub data: Handle,
    /// Where happenings are told.
    pub events: Arc<Events>,
    /// When it started, since the Unix epoch.
    pub started: Duration,
    /// Containers so far.
    pub containers_started: AtomicU64,
    /// Those that have ended.
    pub containers_ended: AtomicU64,
    /// Calls of those that have ended.
    pub ended_calls: Calls,
    /// The kernel does not wake a receiver when the last task goes (before Linux 6.11).
    pub poll_before_receive: bool,
    joiner: Mutex<unix::Joiner>,
    networks: RwLock<HashMap<NetworkIndex, Arc<Network>>>,
    containers: RwLock<BTreeMap<u64, Arc<Container>>>,
    next_index: AtomicU32,
    /// When the last sweep ended.
    swept: Mutex<Instant>,
}

/// Descriptors of one process that are looked through for a socket.
const SEARCH_FDS: usize = 4096;
/// Processes of one container that are looked through for a socket.
const SEARCH_PROCESSES: usize = 256;
/// A sweep, and the pause after it, take far less. It enters every network and looks after every receiver: what hangs there
/// shows here.
const LONGEST_SWEEP: Duration = Duration::from_secs(20);
/// Between two looks whether connections have ended.
const FAREWELL_PAUSE: Duration = Duration::from_millis(10);
/// How long the filtered thread may take to make the probe call.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Node {
    /// A node without networks. `folder` is ours, 0700.
    pub fn new(folder: PathBuf, data: Handle) -> io::Result<Self> {
        Ok(Self {
            registry: Registry::default(),
            netlink: Ends::default(),
            tasks: Tasks::default(),
            diag: UnixDiag::new()?,
            joiner: Mutex::new(unix::Joiner::new(&folder)?),
            folder,
            data,
            events: Arc::default(),
            started: clock::unix(),
            containers_started: AtomicU64::new(0),
            containers_ended: AtomicU64::new(0),
            ended_calls: Calls::default(),
            poll_before_receive: kernel_before_6_11(),
            networks: RwLock::default(),
            containers: RwLock::default(),
            next_index: AtomicU32::new(0),
            swept: Mutex::new(clock::now()),
        })
    }

    /// Makes `inode` stand for a socket. A number the kernel has given out again belonged to a socket that is gone.
    pub fn adopt(&self, inode: u64, entry: Entry) {
        if let Some(old) = self.registry.insert(inode, entry) {
            let mut state = old.network.lock();
            if let Some(carrier) = state.carriers.get_mut(&old.socket) {
                carrier.inode = None;
            }
            state.close(clock::now(), &self.registry, old.socket, CloseHow::Graceful);
        }
    }

    /// Joins A to a new S.
    pub fn join(&self, a: BorrowedFd<'_>) -> Result<OwnedFd, nix::errno::Errno> {
        self.joiner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .join(a)
    }

    /// A duplicate of the program's end: where it was last seen, else wherever in its container it is.
    pub fn find_end(&self, container: u64, holder: Holder, inode: u64) -> Option<OwnedFd> {
        if let Ok(a) = task::duplicate(holder.tid, holder.fd, inode) {
            return Some(a);
        }
        self.tasks
            .of_container(container, SEARCH_PROCESSES)
            .into_iter()
            .find_map(|pid| {
                task::duplicate(pid, task::find_socket(pid, inode, SEARCH_FDS)?, inode).ok()
            })
    }

    /// A container that runs.
    pub fn container(&self, id: u64) -> Option<Arc<Container>> {
        self.containers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    /// Networks that run.
    pub(crate) fn running_networks(&self) -> Vec<Arc<Network>> {
        let networks = self.networks.read().unwrap_or_else(PoisonError::into_inner);
        let mut running: Vec<_> = networks.values().cloned().collect();
        running.sort_by_key(|network| network.index);
        running
    }

    /// Containers that run.
    pub(crate) fn running(&self) -> Vec<Arc<Container>> {
        let containers = self
            .containers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        containers.values().cloned().collect()
    }

    /// Closes the listener a connection to `address` would reach on this host, if its program is gone: such a
    /// connection must be refused, not accepted and then reset.
    pub fn release_dead_listener(&self, network: &Arc<Network>, address: SocketAddr) {
        let found = {
            let state = network.lock();
            // connect(2) to the unspecified address means this host.
            let to = match address.ip().to_canonical() {
                IpAddr::V4(ip) if ip.is_unspecified() => {
                    SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
                }
                IpAddr::V6(ip) if ip.is_unspecified() => {
                    SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()))
                }
                ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => SocketAddr::new(ip, address.port()),
            };
            let listener = state.sockets.stack().listener_at(to);
            listener.and_then(|listener| state.sockets.socket_of_listener(listener))
        };
        if let Some(socket) = found {
            self.close_if_gone(network, socket);
        }
    }

    /// The last task of a container is gone; its sockets are, unless another process was given them.
    pub fn container_ended(&self, container: &Container) {
        self.containers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&container.id);
        self.tasks.forget(container.id);
        let sockets: Vec<SocketId> = container
            .network
            .lock()
            .carriers
            .iter()
            .filter(|(_, carrier)| carrier.container == container.id)
            .map(|(&socket, _)| socket)
            .collect();
        for socket in sockets {
            self.close_if_gone(&container.network, socket);
        }
        container.network.lock().ended.remove(&container.id);
        self.containers_ended.fetch_add(1, Ordering::Relaxed);
        self.ended_calls.absorb(&container.calls);
        self.data.wake();
        self.events.publish(Happening::ContainerEnded {
            network: container.network.name(),
            container: container.id,
            pid: container.pid,
            program: container.program(),
        });
        tracing::debug!(container = container.id, "container ended");
    }

    /// Looks after sockets whose end shows no other way (datagrams, listeners, unconnected ones): at most a tenth of all,
    /// at least 512, from `cursor` on.
    pub fn sweep(self: &Arc<Self>, cursor: &mut usize) {
        let containers: Vec<_> = self.running();
        for container in &containers {
            container::relieve(self, container);
        }
        let inodes = self.registry.inodes();
        let share = (inodes.len() / 10).max(512).min(inodes.len());
        if *cursor >= inodes.len() {
            *cursor = 0;
        }
        for &inode in inodes.iter().cycle().skip(*cursor).take(share) {
            if let Some(entry) = self.registry.find(inode) {
                self.close_if_gone(&entry.network, entry.socket);
                let forgotten = !entry.network.lock().carriers.contains_key(&entry.socket);
                if forgotten {
                    self.registry
                        .remove(inode, entry.network.index, entry.socket);
                }
            }
        }
        *cursor += share;
        let networks: Vec<_> = self
            .networks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        for network in networks {
            let mut state = network.lock();
            state.sweep_unaccepted(&self.registry);
            if state.captures.any() {
                state.flush_captures();
            }
        }
        self.events.tick();
        self.tasks.sweep();
    }

    /// Notes that a sweep has ended.
    pub fn swept(&self, now: Instant) {
        *self.swept.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Closes every socket of a network that no program holds any more: when a port or a descriptor is wanted.
    pub fn sweep_network(&self, network: &Arc<Network>) {
        let sockets: Vec<SocketId> = network.lock().carriers.keys().copied().collect();
        for socket in sockets {
            self.close_if_gone(network, socket);
        }
    }

    /// Closes a socket if no program holds it any more and all that its program sent has been taken. True if it did.
    pub fn close_if_gone(&self, network: &Arc<Network>, socket: SocketId) -> bool {
        let inode = network
            .lock()
            .carriers
            .get(&socket)
            .and_then(|carrier| carrier.inode);
        let Some(inode) = inode else { return false };
        if self.diag.exists(inode) {
            return false;
        }
        let mut state = network.lock();
        let Some(carrier) = state
            .carriers
            .get(&socket)
            .filter(|carrier| carrier.inode == Some(inode))
        else {
            return false;
        };
        let busy = match &carrier.role {
            // S tells the end itself, after the data that still lies in it.
            Role::Linked(flow) => state.links.get(flow).is_some_and(|link| !link.is_drained()),
            Role::Idle | Role::Connecting(_) | Role::Listening(_) | Role::Datagram(_) => false,
        };
        if busy {
            return false;
        }
        if let Role::Datagram(end) = &carrier.role {
            let end = Arc::clone(end);
            let mut scratch = vec![0; 65_536];
            while crate::trap::take_sent_datagrams(&mut state, socket, &end, &mut scratch) {}
        }
        state.close(clock::now(), &self.registry, socket, CloseHow::Graceful);
        drop(state);
        self.data.wake();
        true
    }
}

/// A node with its threads: what the control side talks to.
#[derive(Debug, Clone)]
pub struct Running(pub Arc<Node>);

impl Running {
    /// Puts a peer into the overlay; `timestamp` is what it has shown before a restart. Whether the routes have changed.
    fn place_peer(
        &self,
        network: &Network,
        peer: PeerConfig,
        timestamp: Option<[u8; 12]>,
    ) -> Result<bool, RuntimeError> {
        self.0
            .data
            .ask(|reply| Command::SetPeer {
                network: network.index,
                peer: Box::new(peer),
                timestamp,
                reply,
            })
            .map_err(|_| RuntimeError("the data thread has ended".to_owned()))?
            .map_err(|error| RuntimeError(error.to_string()))
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Network>> {
        let networks = self
            .0
            .networks
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        networks
            .values()
            .find(|network| network.name() == name)
            .cloned()
    }

    fn update_routes(&self, network: &Network) {
        let routes = self
            .0
            .data
            .ask(|reply| Command::Routes {
                network: network.index,
                reply,
            })
            .unwrap_or_default();
        let routes = routes
            .into_iter()
            .map(|prefix| (prefix.addr(), prefix.len()))
            .collect();
        network.lock().sockets.stack_mut().set_routes(routes);
    }
}

impl Runtime for Running {
    fn start_network(&self, start: NetworkStart) -> Result<(), RuntimeError> {
        if self.by_name(&start.name).is_some() {
            return Err(RuntimeError(format!("network {} runs already", start.name)));
        }
        let number = self.0.next_index.fetch_add(1, Ordering::Relaxed);
        if number >= MAX_NETWORKS {
            return Err(RuntimeError(
                "too many networks were started; restart the supervisor".to_owned(),
            ));
        }
        let index = NetworkIndex(number);
        let random = |_| RuntimeError("the kernel gave no random bytes".to_owned());
        let seed: [u8; 32] = random::bytes().map_err(random)?;
        let ports = u64::from_ne_bytes(random::bytes().map_err(random)?);
        let mtu = usize::from(start.mtu);
        let config = stack::Config {
            mtu,
            v4: v4(&start.addresses),
            v6: v6(&start.addresses),
            seed,
            limits: stack::Limits::default(),
        };
        let mut sockets = Sockets::new(Stack::new(config, clock::now()), ports);
        sockets.set_raw(start.raw_sockets);
        let network = Arc::new(Network::new(index, start.name, mtu, sockets));
        self.0
            .data
            .ask(|reply| Command::AddNetwork {
                network: Arc::clone(&network),
                key: start.private_key,
                reply,
            })
            .map_err(|_| RuntimeError("the data thread has ended".to_owned()))?
            .map_err(|error| RuntimeError(error.to_string()))?;
        self.0
            .networks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(index, Arc::clone(&network));
        for peer in start.peers {
            let timestamp = start.timestamps.get(&peer.public_key).copied();
            if let Err(error) = self.place_peer(&network, peer, timestamp) {
                self.stop_network(&network.name());
                return Err(error);
            }
        }
        self.update_routes(&network);
        Ok(())
    }

    fn stop_network(&self, network: &str) {
        let Some(network) = self.by_name(network) else {
            return;
        };
        self.0
            .networks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&network.index);
        let _ = self.0.data.ask(|reply| Command::RemoveNetwork {
            network: network.index,
            reply,
        });
        let mut guard = network.lock();
        guard.stopped = true;
        guard.captures.end(clock::unix());
        guard.pings.clear();
        let sockets: Vec<_> = guard.carriers.keys().copied().collect();
        for container in self.0.running() {
            if container.network.index == network.index {
                container.room.post(Message::Retry);
            }
        }
        for socket in sockets {
            guard.close(clock::now(), &self.0.registry, socket, CloseHow::Reset);
        }
    }

    fn change_network(&self, network: &str, change: NetworkChange) -> Result<(), RuntimeError> {
        let NetworkChange {
            name,
            addresses,
            mtu,
            raw_sockets,
        } = change;
        let network = self
            .by_name(network)
            .ok_or_else(|| RuntimeError(format!("network {network} does not run")))?;
        if let Some(mtu) = mtu.map(usize::from) {
            self.0
                .data
                .ask(|reply| Command::SetMtu {
                    network: network.index,
                    mtu,
                    reply,
                })
                .map_err(|_| RuntimeError("the data thread has ended".to_owned()))?
                .map_err(|error| RuntimeError(error.to_string()))?;
            network.set_mtu(mtu);
            let mut state = network.lock();
            state.sockets.stack_mut().set_mtu(mtu);
        }
        if let Some(allowed) = raw_sockets {
            network.lock().sockets.set_raw(allowed);
        }
        if let Some(addresses) = addresses {
            network
                .lock()
                .sockets
                .stack_mut()
                .set_addresses(v4(&addresses), v6(&addresses));
        }
        if let Some(name) = name {
            network.rename(name);
        }
        self.0.data.wake();
        Ok(())
    }

    fn set_peer(&self, network: &str, peer: PeerConfig) -> Result<(), RuntimeError> {
        let Some(network) = self.by_name(network) else {
            return Err(RuntimeError(format!("network {network} does not run")));
        };
        if self.place_peer(&network, peer, None)? {
            self.update_routes(&network);
        }
        Ok(())
    }

    fn watch_unanswered(&self, hook: Unanswered) {
        self.0.data.watch_unanswered(hook);
    }

    fn set_least_time(&self, unix: Duration) {
        self.0.data.set_least_time(unix);
    }

    fn changed_timestamps(&self) -> Option<RunningTimestamps> {
        if !self.0.data.take_timestamps_changed() {
            return None;
        }
        let mut found = RunningTimestamps::default();
        let networks: Vec<_> = self
            .0
            .networks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        for network in networks {
            let ask = |reply| Command::Timestamps {
                network: network.index,
                reply,
            };
            let (own, peers) = self.0.data.ask(ask).ok()?;
            found.own = found.own.max(own);
            found.peers.push((network.name(), peers));
        }
        Some(found)
    }

    fn remove_peer(&self, network: &str, peer: &PublicKey) {
        let Some(network) = self.by_name(network) else {
            return;
        };
        let peer = *peer;
        let _ = self.0.data.ask(|reply| Command::RemovePeer {
            network: network.index,
            peer,
            reply,
        });
        self.update_routes(&network);
    }

    fn peer_status(&self, network: &str) -> Vec<PeerStatus> {
        self.by_name(network)
            .and_then(|network| {
                self.0
                    .data
                    .ask(|reply| Command::PeerStatus {
                        network: network.index,
                        reply,
                    })
                    .ok()
            })
            .unwrap_or_default()
    }

    fn peer(&self, network: &str, peer: &PublicKey) -> Option<PeerStatus> {
        let network = self.by_name(network)?.index;
        let ask = |reply| Command::Peer {
            network,
            peer: *peer,
            reply,
        };
        self.0.data.ask(ask).ok().flatten()
    }

    fn containers(&self) -> Vec<ContainerView> {
        let running = self.0.running();
        // One pass over each network's sockets, however many containers there are.
        let mut totals: HashMap<u64, (usize, Traffic)> = HashMap::new();
        let mut looked_at: Vec<NetworkIndex> = Vec::new();
        for network in running.iter().map(|container| &container.network) {
            if looked_at.contains(&network.index) {
                continue;
            }
            looked_at.push(network.index);
            for (&container, &traffic) in &network.lock().ended {
                totals.entry(container).or_default().1 += traffic;
            }
            network.each_socket(|seen| {
                let total = totals.entry(seen.container).or_default();
                total.0 += 1;
                total.1 += seen.row.traffic;
            });
        }
        let view = |container: Arc<Container>| {
            let (sockets, traffic) = totals.get(&container.id).copied().unwrap_or_default();
            ContainerView {
                id: container.id,
                network: container.network.name(),
                pid: container.pid,
                program: container.program(),
                command: container.command(),
                started: container.started,
                sockets,
                traffic,
            }
        };
        running.into_iter().map(view).collect()
    }

    fn look_at_commands(&self) -> Vec<oneshot::Receiver<()>> {
        let running = self.0.running();
        running
            .iter()
            .filter_map(|container| container.ask_for_command())
            .collect()
    }

    fn network_of(&self, pid: u32) -> Option<String> {
        let container = self.0.tasks.container_of(pid)?;
        Some(self.0.container(container)?.network.name())
    }

    fn network_of_socket(&self, inode: u64) -> Option<String> {
        let tasks = &self.0.tasks;
        let holder = tasks.connected_from(inode).or_else(|| {
            let mut all = tasks.of_all(SEARCH_PROCESSES).into_iter();
            let holds =
                |&(pid, _): &(u32, u64)| task::find_socket(pid, inode, SEARCH_FDS).is_some();
            all.find(holds).map(|(_, container)| container)
        })?;
        Some(self.0.container(holder)?.network.name())
    }

    fn check(&self, within: Duration) -> Result<(), RuntimeError> {
        if !self.0.data.answers(within) {
            return Err(RuntimeError(
                "The thread that moves packets does not answer".to_owned(),
            ));
        }
        let swept = *self.0.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if clock::now().saturating_duration_since(swept) > LONGEST_SWEEP {
            return Err(RuntimeError(
                "The thread that looks after sockets and receivers does not get on".to_owned(),
            ));
        }
        Ok(())
    }

    fn end(&self, within: Duration) {
        let deadline = clock::now() + within;
        let networks = self.networks();
        for network in &networks {
            let mut state = network.lock();
            state.stopped = true;
            let sockets: Vec<_> = state.carriers.keys().copied().collect();
            for socket in sockets {
                state.close(clock::now(), &self.0.registry, socket, CloseHow::Graceful);
            }
        }
        for container in self.0.running() {
            container.room.post(Message::Retry);
        }
        self.0.data.wake();
        let flows = |network: &Arc<Network>| network.lock().sockets.stack().sizes().flows;
        while clock::now() < deadline && networks.iter().any(|network| flows(network) > 0) {
            std::thread::park_timeout(FAREWELL_PAUSE);
        }
        for network in &networks {
            network.lock().sockets.stack_mut().abort_all(clock::now());
        }
        // The second answer comes after a turn in which the resets left.
        let rest = Duration::from_millis(200);
        let _even_if_it_hangs = self.0.data.answers(rest) && self.0.data.answers(rest);
    }

    fn start_container(
        &self,
        admission: Admission,
        notify: OwnedFd,
        _flags: u32,
    ) -> Result<(), RuntimeError> {
        let network = self.by_name(&admission.network).ok_or_else(|| {
            RuntimeError(format!(
                "network {} does not run any more",
                admission.network
            ))
        })?;
        let room =
            Room::new().map_err(|error| RuntimeError(format!("out of descriptors: {error}")))?;
        let _ = notify::set_sync_wake_up(notify.as_fd());
        let container = Arc::new(Container {
            id: admission.container,
            network,
            argv0: admission.argv0,
            namespace: task::network_namespace(admission.peer.pid),
            pid: admission.peer.pid,
            started: clock::unix(),
            notify: Arc::new(notify),
            room,
            duty: container::Duty::default(),
            calls: Calls::default(),
            command: container::Command::default(),
        });
        probe(&container)?;
        let _ = self.0.tasks.note(container.pid, container.id);
        self.0
            .containers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(container.id, Arc::clone(&container));
        container
            .network
            .lock()
            .ended
            .insert(container.id, Traffic::default());
        self.0.containers_started.fetch_add(1, Ordering::Relaxed);
        self.0.events.publish(Happening::ContainerStarted {
            network: container.network.name(),
            container: container.id,
            pid: container.pid,
            program: container.program(),
        });
        container::start(&self.0, &container).map_err(|error| {
            self.0.container_ended(&container);
            RuntimeError(format!(
                "no thread could be started for the program: {error}"
            ))
        })
    }
}

/// The own IPv4 address.
fn v4(addresses: &[(IpAddr, u8)]) -> Option<(Ipv4Addr, u8)> {
    addresses
        .iter()
        .find_map(|(address, length)| match address {
            IpAddr::V4(v4) => Some((*v4, *length)),
            IpAddr::V6(_) => None,
        })
}

/// The own IPv6 address.
fn v6(addresses: &[(IpAddr, u8)]) -> Option<(Ipv6Addr, u8)> {
    addresses
        .iter()
        .find_map(|(address, length)| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some((*v6, *length)),
        })
}

impl Running {
    fn networks(&self) -> Vec<Arc<Network>> {
        let networks = self
            .0
            .networks
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        networks.values().cloned().collect()
    }
}

/// Receives the shim's probe call, reads its memory and answers it: proof that both work before anything is irreversible.
fn probe(container: &Container) -> Result<(), RuntimeError> {
    let refused = |what: &str, error: &dyn std::fmt::Display| {
        RuntimeError(format!(
            "{what} ({error}); run the supervisor as the same user, outside of other sandboxes"
        ))
    };
    let mut polled = [PollFd::new(container.notify.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PROBE_TIMEOUT).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, timeout) {
        Ok(n) if n > 0 => {}
        Ok(_) => {
            return Err(RuntimeError(
                "the program's trapped calls do not arrive here".to_owned(),
            ));
        }
        Err(error) => {
            return Err(refused(
                "the program's trapped calls cannot be awaited",
                &error,
            ));
        }
    }
    let listener = container.notify.as_fd();
    let note = notify::receive(listener)
        .map_err(|error| refused("the program's trapped calls cannot be received", &error))?;
    let mut cookie = [0_u8; PROBE_COOKIE.len()];
    let read = memory::read(note.tid, note.args[1], &mut cookie);
    // A number no program has open: EBADF says that we may, EPERM that we may not (Yama, default Docker).
    let duplicated = task::duplicate_any(note.tid, i32::MAX);
    let answered = notify::answer(listener, note.id, Err(libc::EBADF));
    read.map_err(|error| refused("the program's memory cannot be read", &error))?;
    answered.map_err(|error| refused("the program's trapped calls cannot be answered", &error))?;
    if let Err(error) = duplicated
        && error.raw_os_error() != Some(libc::EBADF)
    {
        return Err(RuntimeError(format!(
            "the program's sockets cannot be reached by pidfd_getfd ({error}); set kernel.yama.ptrace_scope to 0, or give the container SYS_PTRACE"
        )));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
    let fd = (note.args[0] as u32).cast_signed();
    if fd != PROBE_FD || cookie != PROBE_COOKIE {
        return Err(RuntimeError("the shim did not make the call that was agreed; install shim and supervisor of one version".to_owned()));
    }
    Ok(())
}

fn kernel_before_6_11() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 11)
}
