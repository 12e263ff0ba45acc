// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The running node as the control side sees it.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use netcon_netstack::sockets::Traffic;
use netcon_overlay::{PeerConfig, PeerStatus, PrivateKey, PublicKey};
use tokio::sync::oneshot;

use crate::state::PeerTimestamps;

/// The node: networks, peers and containers that exist now.
///
/// Called from the API thread and from hand-over threads at the same time; every method is quick
/// (it may take a lock, it does not wait for a program or a peer), except [`Runtime::start_container`],
/// which waits for the probe and bounds that wait itself. Names are those of the configuration;
/// a name that is not running is an error or an empty answer, never a panic.
pub trait Runtime: super::Observe {
    /// Starts a network: keys, addresses, peers. On an error nothing of it is left running.
    ///
    /// # Errors
    /// [`RuntimeError`] when the name runs already or the overlay or the stack refuses the configuration.
    fn start_network(&self, network: NetworkStart) -> Result<(), RuntimeError>;

    /// Changes a network that runs; what is not named in `change` goes on undisturbed.
    ///
    /// # Errors
    /// [`RuntimeError`] when the network does not run or the overlay refuses; nothing has changed then.
    fn change_network(&self, network: &str, change: NetworkChange) -> Result<(), RuntimeError>;

    /// Stops a network. Its containers keep running; their sockets behave as on a machine that
    /// lost its network. Without effect when it does not run.
    fn stop_network(&self, network: &str);

    /// Adds a peer, or updates it and keeps its session.
    ///
    /// # Errors
    /// [`RuntimeError`] when the network does not run or the overlay refuses the peer.
    fn set_peer(&self, network: &str, peer: PeerConfig) -> Result<(), RuntimeError>;

    /// Removes a peer and its session. Without effect when there is none.
    fn remove_peer(&self, network: &str, peer: &PublicKey);

    /// No initiation of ours is to be older than `unix`, whatever the clock says.
    fn set_least_time(&self, unix: Duration);

    /// Timestamps of handshakes, if one has changed since this was last asked.
    fn changed_timestamps(&self) -> Option<RunningTimestamps>;

    /// State of each peer of a network, in any order.
    fn peer_status(&self, network: &str) -> Vec<PeerStatus>;

    /// State of one peer. Quick with any number of peers.
    fn peer(&self, network: &str, peer: &PublicKey) -> Option<PeerStatus> {
        let all = self.peer_status(network);
        all.into_iter().find(|status| status.public_key == *peer)
    }

    /// Has `hook` called for every peer whose handshakes go unanswered. Once, before the first network is started.
    fn watch_unanswered(&self, hook: Unanswered) {
        drop(hook);
    }

    /// Every container that has at least one live task, oldest first.
    fn containers(&self) -> Vec<ContainerView>;

    /// Has the command lines of all containers looked at, so that [`Runtime::containers`] tells them as they are now. Each
    /// channel is told when one has been; a program may hold that up for ever.
    fn look_at_commands(&self) -> Vec<oneshot::Receiver<()>> {
        Vec::new()
    }

    /// The network in which the process `pid` lives, if it is a task of a container.
    ///
    /// Asked for every connection on the unix socket before a byte of it is obeyed. `connect` is
    /// trapped, so a task that reached the socket has been seen by its container's receiver.
    fn network_of(&self, pid: u32) -> Option<String>;

    /// The network of a container whose programs hold, or have connected, the host socket with this inode: one that they
    /// were given from outside. Looks at a bounded number of descriptors.
    fn network_of_socket(&self, inode: u64) -> Option<String>;

    /// Takes over a container: tries the notification fd with the probe call of the filtered
    /// thread and a memory read, then serves it until its last task ends.
    ///
    /// # Errors
    /// A sentence for the user when the probe fails; the fd is closed then.
    fn start_container(
        &self,
        admission: Admission,
        notify: OwnedFd,
        flags: u32,
    ) -> Result<(), RuntimeError>;

    /// Whether packets are moved and sockets looked after: asked before the watchdog is told that all is well. Waits up to
    /// `within` for an answer.
    ///
    /// # Errors
    /// Which part does not answer.
    fn check(&self, _within: Duration) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// The end of the node: every socket of every network is closed as the kernel closes those of a process that dies.
    /// Peers hear it (FIN, and RST where they have not answered in time); returns within about `within`.
    fn end(&self, _within: Duration) {}
}

/// Who hears of a peer, by the name of its network and its key, whose handshakes go unanswered: its endpoint may be a wrong
/// one. Called from the data thread: it may take a lock for a moment, and waits for nothing.
pub type Unanswered = Box<dyn Fn(&str, PublicKey) + Send + Sync>;

/// Everything the node needs to run a network.
#[derive(Debug)]
pub struct NetworkStart {
    /// Local name; unique among running networks.
    pub name: String,
    /// Key of this host on the network.
    pub private_key: PrivateKey,
    /// Own addresses, each with the prefix length of the network it lies in.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Programs may open raw sockets.
    pub raw_sockets: bool,
    /// Peers known from the start; endpoints resolved.
    pub peers: Vec<PeerConfig>,
    /// What the peers' initiations have shown before: older ones are replays.
    pub timestamps: PeerTimestamps,
}

/// Timestamps of handshakes as the overlay knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunningTimestamps {
    /// The newest of ours, since 1970.
    pub own: Duration,
    /// TAI64N of the peers, by the network's name.
    pub peers: Vec<(String, PeerTimestamps)>,
}

/// What is to change of a network that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkChange {
    /// Its local name.
    pub name: Option<String>,
    /// All own addresses, each with the prefix length of the network it lies in.
    pub addresses: Option<Vec<(IpAddr, u8)>>,
    /// Largest IP packet, in bytes.
    pub mtu: Option<u16>,
    /// Programs may open raw sockets from now on.
    pub raw_sockets: Option<bool>,
}

/// A shim that was admitted and is about to hand its notification fd over.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Number of the container; never used twice by one supervisor.
    pub container: u64,
    /// The network it joins; it exists when this is built.
    pub network: String,
    /// `argv[0]` of the program to be run, as the shim sent it (hostile bytes, bounded).
    pub argv0: Vec<u8>,
    /// The shim's process as the kernel names it. It becomes the program by exec.
    pub peer: PeerCredentials,
}

/// Who is at the other end of a unix socket, from SO_PEERCRED (unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process that called connect, in our pid namespace; 0 when it is not visible from it.
    pub pid: u32,
    /// Its effective uid then.
    pub uid: u32,
    /// Its effective gid then.
    pub gid: u32,
}

/// One running container, for tables.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Number of the container.
    pub id: u64,
    /// Network it lives in.
    pub network: String,
    /// First process of it.
    pub pid: u32,
    /// `argv[0]` of the program, lossily made text.
    pub program: String,
    /// Command line of the first process, lossily made text; empty while it is not known.
    pub command: Vec<String>,
    /// When it started, since the Unix epoch.
    pub started: Duration,
    /// Sockets that exist in it now.
    pub sockets: usize,
    /// Payload its sockets have received and sent so far.
    pub traffic: Traffic,
}

/// Why the node refused; the text is one sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);
