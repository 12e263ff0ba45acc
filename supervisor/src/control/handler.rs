// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control API's commands, done by the [`Service`]; its values as JSON.

use super::service::{
    ControlError, ImportedNetwork, Known, NewNetwork, NewPeer, PeerExport, Service,
};
use crate::clock;
use crate::state::{InterfaceAddress, NetworkName, PeerEntry};
use netcon_api::model::{
    AddPeer, AddedPeer, BrokenFile, Container, CreateNetwork, ImportNetwork, Imported, Network,
    NetworkStatus, Peer, Route, Status,
};
use netcon_api::wgquick::{self, File, Key, Prefix};
use netcon_api::{Answer, ApiError, Caller, Command, Handler};
use netcon_overlay::{IpPrefix, PeerStatus, PresharedKey, PrivateKey, PublicKey};

impl Handler for Service {
    fn handle(&self, _caller: Caller, command: Command) -> Result<Answer, ApiError> {
        match command {
            Command::Status => Ok(Answer::Status(self.status())),
            Command::Health => Ok(Answer::Health {
                online: true,
                version: VERSION.to_owned(),
            }),
            Command::NetworkList => Ok(Answer::Networks(
                self.networks()
                    .iter()
                    .map(|known| self.view(known))
                    .collect(),
            )),
            Command::NetworkCreate(request) => {
                let known = self.create(new_network(&request)?)?;
                Ok(Answer::Network(Box::new(self.view(&known))))
            }
            Command::NetworkImport(request) => self.import(&request),
            Command::NetworkShow(name) => {
                Ok(Answer::Network(Box::new(self.view(&self.network(&name)?))))
            }
            Command::NetworkDelete(name) => {
                Ok(Answer::Network(Box::new(self.view(&self.delete(&name)?))))
            }
            Command::PeerList(name) => Ok(Answer::Peers(self.peers(&self.network(&name)?))),
            Command::PeerShow(name, peer) => {
                let known = self.network(&name)?;
                let entry = known.config.peer(&peer).ok_or_else(|| {
                    ApiError::new(
                        404,
                        "not_found",
                        format!("Network {} has no peer {peer}.", known.config.name),
                    )
                })?;
                let status = self.runtime().peer_status(known.config.name.as_str());
                Ok(Answer::Peer(Box::new(peer_view(entry, &status))))
            }
            Command::PeerRemove(name, peer) => Ok(Answer::Peer(Box::new(peer_view(
                &self.remove_peer(&name, &peer)?,
                &[],
            )))),
            Command::PeerAdd(name, request) => self.add(&name, request),
            Command::ContainerList => Ok(Answer::Containers(self.containers())),
            Command::ContainerShow(id) => self
                .containers()
                .into_iter()
                .find(|container| container.id == id)
                .map(Answer::Container)
                .ok_or_else(|| {
                    ApiError::new(404, "not_found", format!("There is no container {id}."))
                }),
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let (status, code) = match &error {
            ControlError::NotFound(_) => (404, "not_found"),
            ControlError::Conflict(_) => (409, "conflict"),
            ControlError::Invalid(_) => (400, "invalid"),
            ControlError::Failed(_) => (500, "failed"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl Service {
    fn status(&self) -> Status {
        let broken_files = self
            .broken()
            .into_iter()
            .map(|broken| BrokenFile {
                path: broken.path.display().to_string(),
                reason: broken.reason.to_string(),
            })
            .collect();
        Status {
            version: VERSION.to_owned(),
            uptime_seconds: clock::now()
                .saturating_duration_since(self.started())
                .as_secs(),
            udp_port: self.udp_port(),
            state_directory: self.state_directory().display().to_string(),
            networks: self.networks().len(),
            containers: self.runtime().containers().len(),
            broken_files,
        }
    }

    fn view(&self, known: &Known) -> Network {
        let config = &known.config;
        let via = |peer: &PeerEntry| {
            peer.name
                .clone()
                .unwrap_or_else(|| peer.public_key.to_string())
        };
        Network {
            id: config.id.to_string(),
            name: config.name.to_string(),
            status: if known.failure.is_none() {
                NetworkStatus::Ok
            } else {
                NetworkStatus::Failed
            },
            failure: known.failure.clone(),
            mtu: config.mtu,
            assigned_addresses: config.addresses.iter().map(ToString::to_string).collect(),
            routes: config
                .peers
                .iter()
                .flat_map(|peer| {
                    peer.allowed_ips.iter().map(move |target| Route {
                        target: target.to_string(),
                        via: via(peer),
                    })
                })
                .collect(),
            public_key: config.private_key.public().to_string(),
            listen_port: self.udp_port(),
            peers: config.peers.len(),
        }
    }

    fn peers(&self, known: &Known) -> Vec<Peer> {
        let status = self.runtime().peer_status(known.config.name.as_str());
        known
            .config
            .peers
            .iter()
            .map(|peer| peer_view(peer, &status))
            .collect()
    }

    fn containers(&self) -> Vec<Container> {
        let view = |view: super::ContainerView| Container {
            id: view.id,
            network: view.network,
            pid: view.pid,
            program: view.program,
            started: view.started.as_secs(),
            sockets: view.sockets,
        };
        self.runtime().containers().into_iter().map(view).collect()
    }

    fn import(&self, request: &ImportNetwork) -> Result<Answer, ApiError> {
        let file = File::parse(&request.config).map_err(|error| {
            ApiError::new(
                400,
                "bad_file",
                format!("This is no wg-quick file: {error}."),
            )
        })?;
        let name = request
            .name
            .as_ref()
            .or(file.network_name.as_ref())
            .or(request.fallback_name.as_ref())
            .ok_or_else(|| {
                ApiError::new(
                    400,
                    "invalid",
                    "The file does not name its network; say what to call it with --name.",
                )
            })?;
        let peers = file
            .peers
            .iter()
            .map(imported_peer)
            .collect::<Result<_, _>>()?;
        let addresses = file
            .interface
            .addresses
            .iter()
            .map(|prefix| address(&prefix.to_string()))
            .collect::<Result<_, _>>()?;
        let known = self.add_network(ImportedNetwork {
            name: network_name(name)?,
            private_key: PrivateKey::from_bytes(*file.interface.private_key.as_bytes()),
            addresses,
            mtu: file.interface.mtu,
            peers,
        })?;
        Ok(Answer::Imported(Box::new(Imported {
            network: self.view(&known),
            ignored: file.ignored,
        })))
    }

    fn add(&self, network: &str, request: AddPeer) -> Result<Answer, ApiError> {
        // Ours may be without a port: this supervisor's is meant then.
        if let Some(endpoint) = &request.endpoint
            && !wgquick::is_endpoint(endpoint)
        {
            return Err(invalid(format!(
                "{endpoint:?} is no endpoint: write host:port or [address]:port."
            )));
        }
        let public_key = request
            .public_key
            .as_deref()
            .map(parse_key)
            .transpose()?
            .map(|key| PublicKey::from_bytes(*key.as_bytes()));
        let preshared_key = request
            .preshared_key
            .as_deref()
            .map(parse_key)
            .transpose()?
            .map(|key| PresharedKey::from_bytes(*key.as_bytes()));
        let allowed_ips = request
            .allowed_ips
            .iter()
            .map(|text| prefix(text))
            .collect::<Result<_, _>>()?;
        let added = self.add_peer(
            network,
            NewPeer {
                name: request.name,
                public_key,
                preshared_key,
                endpoint: request.endpoint,
                allowed_ips,
                persistent_keepalive: request.persistent_keepalive,
                our_endpoint: request.our_endpoint,
            },
        )?;
        let name = self.network(network)?.config.name.to_string();
        let config = added
            .export
            .as_ref()
            .map(|export| exported(&name, added.peer.name.clone(), export).to_string());
        Ok(Answer::AddedPeer(Box::new(AddedPeer {
            peer: peer_view(&added.peer, &[]),
            config,
        })))
    }
}

fn peer_view(peer: &PeerEntry, status: &[PeerStatus]) -> Peer {
    let live = status
        .iter()
        .find(|status| status.public_key == peer.public_key);
    Peer {
        name: peer.name.clone(),
        public_key: peer.public_key.to_string(),
        endpoint: live
            .and_then(|live| live.endpoint)
            .map(|at| at.to_string())
            .or_else(|| peer.endpoint.clone()),
        allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
        persistent_keepalive: peer.persistent_keepalive,
        has_preshared_key: peer.preshared_key.is_some(),
        last_handshake: live
            .and_then(|live| live.last_handshake)
            .map(|at| at.as_secs()),
        rx_bytes: live.map_or(0, |live| live.rx_bytes),
        tx_bytes: live.map_or(0, |live| live.tx_bytes),
    }
}

fn new_network(request: &CreateNetwork) -> Result<NewNetwork, ApiError> {
    Ok(NewNetwork {
        name: network_name(&request.name)?,
        addresses: request
            .addresses
            .iter()
            .map(|text| address(text))
            .collect::<Result<_, _>>()?,
        mtu: request.mtu,
    })
}

fn exported(network: &str, peer_name: Option<String>, export: &PeerExport) -> File {
    File {
        network_name: Some(network.to_owned()),
        interface: wgquick::Interface {
            name: peer_name,
            private_key: Key::from_bytes(*export.private_key.as_bytes()),
            addresses: export
                .addresses
                .iter()
                .filter_map(|own| own.to_string().parse().ok())
                .collect(),
            listen_port: None,
            mtu: Some(export.mtu),
        },
        peers: vec![wgquick::Peer {
            name: export.us.name.clone(),
            public_key: Key::from_bytes(*export.us.public_key.as_bytes()),
            preshared_key: export
                .us
                .preshared_key
                .as_ref()
                .map(|key| Key::from_bytes(*key.as_bytes())),
            endpoint: export.us.endpoint.clone(),
            allowed_ips: export
                .us
                .allowed_ips
                .iter()
                .filter_map(|ip| Prefix::new(ip.addr(), ip.len()))
                .collect(),
            persistent_keepalive: export.us.persistent_keepalive,
        }],
        ignored: Vec::new(),
    }
}

fn imported_peer(peer: &wgquick::Peer) -> Result<PeerEntry, ApiError> {
    Ok(PeerEntry {
        name: peer.name.clone(),
        public_key: PublicKey::from_bytes(*peer.public_key.as_bytes()),
        preshared_key: peer
            .preshared_key
            .as_ref()
            .map(|key| PresharedKey::from_bytes(*key.as_bytes())),
        endpoint: peer.endpoint.clone(),
        allowed_ips: peer
            .allowed_ips
            .iter()
            .map(|ip| prefix(&ip.network().to_string()))
            .collect::<Result<_, _>>()?,
        persistent_keepalive: peer.persistent_keepalive,
    })
}

fn network_name(text: &str) -> Result<NetworkName, ApiError> {
    text.parse().map_err(|error| invalid(format!("{error}.")))
}

fn address(text: &str) -> Result<InterfaceAddress, ApiError> {
    text.parse().map_err(|error| invalid(format!("{error}.")))
}

fn prefix(text: &str) -> Result<IpPrefix, ApiError> {
    text.parse()
        .map_err(|error| invalid(format!("{text:?} is no prefix: {error}.")))
}

fn parse_key(text: &str) -> Result<Key, ApiError> {
    text.parse()
        .map_err(|_| invalid("A key is 44 characters of base64.".to_owned()))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(400, "invalid", message)
}
