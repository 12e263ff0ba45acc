// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the supervisor can be asked, as values; HTTP is one spelling of it.

use crate::model::{
    AddPeer, AddedPeer, Container, CreateNetwork, ImportNetwork, Imported, Network, Peer, Status,
};
use serde::{Deserialize, Serialize};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// What runs.
    Status,
    /// Whether it runs.
    Health,
    /// All networks.
    NetworkList,
    /// A new network with a new key.
    NetworkCreate(CreateNetwork),
    /// A network another side has made.
    NetworkImport(ImportNetwork),
    /// One network, by name or id.
    NetworkShow(String),
    /// Ends a network and removes its file.
    NetworkDelete(String),
    /// Peers of a network.
    PeerList(String),
    /// A new peer of a network.
    PeerAdd(String, AddPeer),
    /// One peer: network; name or public key.
    PeerShow(String, String),
    /// Removes a peer: network; name or public key.
    PeerRemove(String, String),
    /// Running containers.
    ContainerList,
    /// One container.
    ContainerShow(u64),
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// For Status.
    Status(Status),
    /// For Health.
    Health {
        /// True.
        online: bool,
        /// Version of the supervisor.
        version: String,
    },
    /// For NetworkList.
    Networks(Vec<Network>),
    /// For NetworkCreate, NetworkShow, NetworkDelete.
    Network(Box<Network>),
    /// For NetworkImport.
    Imported(Box<Imported>),
    /// For PeerList.
    Peers(Vec<Peer>),
    /// For PeerShow, PeerRemove.
    Peer(Box<Peer>),
    /// For PeerAdd.
    AddedPeer(Box<AddedPeer>),
    /// For ContainerList.
    Containers(Vec<Container>),
    /// For ContainerShow.
    Container(Container),
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Stable, for programs: `not_found`, `unknown_path`, `conflict`, `invalid`, `unknown_field`, `bad_file`, `forbidden`,
    /// `too_large`, `too_slow`, `method`, `failed`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// HTTP status.
    #[serde(skip)]
    pub status: u16,
}

impl ApiError {
    /// A refusal with this status.
    #[must_use]
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            status,
        }
    }
}

/// Who asks. It has been established before that they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
}

/// The supervisor. Calls are quick: they may take a lock, they do not wait for a program or a peer.
pub trait Handler: Send + Sync {
    /// Does it.
    ///
    /// # Errors
    /// A sentence for the user; nothing has changed then.
    fn handle(&self, caller: Caller, command: Command) -> Result<Answer, ApiError>;
}
