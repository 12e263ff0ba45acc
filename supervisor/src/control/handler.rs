// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control API's commands, done by the [`Service`]; its values as JSON.

mod change;

use super::runtime::{ContainerView, Runtime};
use super::service::{
    ControlError, ImportedNetwork, Known, NewNetwork, NewPeer, PeerExport, Service, no_peer,
};
use crate::state::{InterfaceAddress, NetworkConfig, NetworkName, PeerEntry, WgQuickSettings};
use crate::{clock, log_filter};
use netcon_api::answer::{Either, Later, Stream, Text};
use netcon_api::model::{
    AddPeer, AddedPeer, BrokenFile, Change, ChangeLog, ChangeNetwork, ChangePeer, Container,
    CreateNetwork, ExportFormat, ExportQuery, ExportedNetwork, Health, ImportNetwork, Imported,
    Log, Network, NetworkStatus, Peer, PeersFormat, PeersQuery, Route, Status, TokenView, WgDump,
    WgQuick,
};
use netcon_api::model::{
    CaptureQuery, EventStream, Pcapng, PingAnswer, PingRequest, Prometheus, Sockets, SocketsQuery,
    Whois, WhoisQuery,
};
use netcon_api::token::Token;
use netcon_api::wgquick::{self, File, Key, Prefix};
use netcon_api::{ApiError, Caller, Code, Handler, openapi};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;

use netcon_overlay::{IpPrefix, PeerStatus, PresharedKey, PrivateKey, PublicKey};

impl Handler for Service {
    fn status(&self, _caller: Caller) -> Result<Status, ApiError> {
        Ok(self.status_view())
    }

    fn health(&self, _caller: Caller) -> Result<Health, ApiError> {
        Ok(Health {
            online: true,
            version: VERSION.to_owned(),
        })
    }

    fn openapi(&self, _caller: Caller) -> Result<serde_json::Value, ApiError> {
        Ok(openapi::document())
    }

    fn token_show(&self, _caller: Caller) -> Result<TokenView, ApiError> {
        Ok(self.token_view(&self.token()))
    }

    fn token_rotate(&self, _caller: Caller) -> Result<TokenView, ApiError> {
        Ok(self.token_view(&self.rotate_token()?))
    }

    fn log_show(&self, _caller: Caller) -> Result<Log, ApiError> {
        let filter = log_filter::current();
        Ok(Log { filter })
    }

    fn log_change(&self, _caller: Caller, body: ChangeLog) -> Result<Log, ApiError> {
        match &body.filter {
            Change::Keep => Ok(()),
            Change::Clear => log_filter::change(None),
            Change::Set(filter) => log_filter::change(Some(filter)),
        }
        .map_err(invalid)?;
        let filter = log_filter::current();
        Ok(Log { filter })
    }

    fn network_list(&self, _caller: Caller) -> Result<Vec<Network>, ApiError> {
        Ok(self
            .networks()
            .iter()
            .map(|known| self.view(known))
            .collect())
    }

    fn network_create(&self, _caller: Caller, body: CreateNetwork) -> Result<Network, ApiError> {
        let known = self.create(new_network(&body)?)?;
        Ok(self.view(&known))
    }

    fn network_import(&self, _caller: Caller, body: ImportNetwork) -> Result<Imported, ApiError> {
        self.import(&body)
    }

    fn network_show(&self, _caller: Caller, network: String) -> Result<Network, ApiError> {
        Ok(self.view(&self.network(&network)?))
    }

    fn network_export(
        &self,
        _caller: Caller,
        network: String,
        query: ExportQuery,
    ) -> Result<Either<ExportedNetwork, Text<WgQuick>>, ApiError> {
        let known = self.network(&network)?;
        let config = own_file(&known.config, self.udp_port()).to_string();
        Ok(match query.format {
            ExportFormat::WgQuick => Either::Other(Text::new(config)),
            ExportFormat::Json => Either::One(ExportedNetwork {
                name: known.config.name.to_string(),
                config,
            }),
        })
    }

    fn network_change(
        &self,
        _caller: Caller,
        network: String,
        body: ChangeNetwork,
    ) -> Result<Network, ApiError> {
        let wanted = change::network(body)?;
        Ok(self.view(&self.change_network(&network, wanted)?))
    }

    fn network_delete(&self, _caller: Caller, network: String) -> Result<Network, ApiError> {
        Ok(self.view(&self.delete(&network)?))
    }

    fn peer_list(
        &self,
        _caller: Caller,
        network: String,
        query: PeersQuery,
    ) -> Result<Either<Vec<Peer>, Text<WgDump>>, ApiError> {
        let known = self.network(&network)?;
        let peers = self.peers(&known);
        Ok(match query.format {
            PeersFormat::Json => Either::One(peers),
            PeersFormat::WgDump => {
                Either::Other(Text::new(wgquick::dump(&self.view(&known), &peers)))
            }
        })
    }

    fn peer_add(
        &self,
        _caller: Caller,
        network: String,
        body: AddPeer,
    ) -> Result<AddedPeer, ApiError> {
        self.add(&network, body)
    }

    fn peer_show(&self, _caller: Caller, network: String, peer: String) -> Result<Peer, ApiError> {
        let known = self.network(&network)?;
        let entry = known
            .config
            .peer(&peer)
            .ok_or_else(|| no_peer(&known.config, &peer))?;
        let status = self
            .runtime()
            .peer(known.config.name.as_str(), &entry.public_key);
        Ok(peer_view(entry, status.as_ref()))
    }

    fn peer_change(
        &self,
        _caller: Caller,
        network: String,
        peer: String,
        body: ChangePeer,
    ) -> Result<Peer, ApiError> {
        let wanted = change::peer(body)?;
        let entry = self.change_peer(&network, &peer, wanted)?;
        let name = self.network(&network)?.config.name.clone();
        let status = self.runtime().peer(name.as_str(), &entry.public_key);
        Ok(peer_view(&entry, status.as_ref()))
    }

    fn peer_remove(
        &self,
        _caller: Caller,
        network: String,
        peer: String,
    ) -> Result<Peer, ApiError> {
        Ok(peer_view(&self.remove_peer(&network, &peer)?, None))
    }

    fn container_list(&self, _caller: Caller) -> Result<Later<Vec<Container>>, ApiError> {
        Ok(self.with_commands(|runtime| Ok(containers(runtime))))
    }

    fn container_show(&self, _caller: Caller, id: u64) -> Result<Later<Container>, ApiError> {
        Ok(self.with_commands(move |runtime| {
            containers(runtime)
                .into_iter()
                .find(|container| container.id == id)
                .ok_or_else(|| {
                    ApiError::new(Code::NotFound, format!("There is no container {id}."))
                })
        }))
    }

    fn socket_list(
        &self,
        _caller: Caller,
        network: String,
        query: SocketsQuery,
    ) -> Result<Sockets, ApiError> {
        self.list_sockets(&network, query)
    }

    fn whois(
        &self,
        _caller: Caller,
        network: String,
        query: WhoisQuery,
    ) -> Result<Whois, ApiError> {
        self.who_is(&network, &query.addr)
    }

    fn ping(
        &self,
        _caller: Caller,
        network: String,
        body: PingRequest,
    ) -> Result<Later<PingAnswer>, ApiError> {
        self.send_ping(&network, &body)
    }

    fn capture(
        &self,
        _caller: Caller,
        network: String,
        query: CaptureQuery,
    ) -> Result<Stream<Pcapng>, ApiError> {
        self.begin_capture(&network, query)
    }

    fn metrics(&self, _caller: Caller) -> Result<Text<Prometheus>, ApiError> {
        Ok(self.show_metrics())
    }

    fn events(&self, _caller: Caller) -> Result<Stream<EventStream>, ApiError> {
        self.follow_events()
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let code = match &error {
            ControlError::NotFound(_) => Code::NotFound,
            ControlError::Conflict(_) => Code::Conflict,
            ControlError::Invalid(_) => Code::Invalid,
            ControlError::Failed(_) => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

impl Service {
    fn token_view(&self, token: &Token) -> TokenView {
        TokenView {
            token: token.expose().to_owned(),
            path: self.token_file().display().to_string(),
        }
    }

    fn status_view(&self) -> Status {
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
            raw_sockets: config.raw_sockets,
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
        let status: BTreeMap<PublicKey, PeerStatus> = self
            .runtime()
            .peer_status(known.config.name.as_str())
            .into_iter()
            .map(|status| (status.public_key, status))
            .collect();
        known
            .config
            .peers
            .iter()
            .map(|peer| peer_view(peer, status.get(&peer.public_key)))
            .collect()
    }

    /// An answer that is made when the command lines of all containers have been looked at, or [`LOOK_TIME`] has passed.
    fn with_commands<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&dyn Runtime) -> Result<T, ApiError> + Send + 'static,
    ) -> Later<T> {
        let (sender, receiver) = oneshot::channel();
        let looks = self.runtime().look_at_commands();
        let runtime = self.shared_runtime();
        let wait = async move {
            for look in looks {
                // One that is dropped has ended.
                let _told_or_ended = look.await;
            }
        };
        tokio::spawn(async move {
            let _some_are_as_they_were = tokio::time::timeout(LOOK_TIME, wait).await;
            // Whoever asked may have left.
            let _ = sender.send(answer(&*runtime));
        });
        Later(receiver)
    }

    fn import(&self, request: &ImportNetwork) -> Result<Imported, ApiError> {
        let file = File::parse(&request.config).map_err(|error| {
            ApiError::new(Code::BadFile, format!("This is no wg-quick file: {error}."))
        })?;
        let name = request
            .name
            .as_ref()
            .or(file.network_name.as_ref())
            .or(request.fallback_name.as_ref())
            .ok_or_else(|| {
                ApiError::new(
                    Code::Invalid,
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
            .first_addresses()
            .map(|prefix| address(&prefix.to_string()))
            .collect::<Result<_, _>>()?;
        let known = self.add_network(ImportedNetwork {
            name: network_name(name)?,
            private_key: PrivateKey::from_bytes(*file.interface.private_key.as_bytes()),
            addresses,
            mtu: file.interface.mtu,
            wg_quick: Some(WgQuickSettings::of(&file.interface)),
            peers,
        })?;
        Ok(Imported {
            network: self.view(&known),
            ignored: file.ignored,
        })
    }

    fn add(&self, network: &str, request: AddPeer) -> Result<AddedPeer, ApiError> {
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
                reserved: request.reserved.unwrap_or_default(),
            },
        )?;
        let name = self.network(network)?.config.name.to_string();
        let config = added
            .export
            .as_ref()
            .map(|export| exported(&name, added.peer.name.clone(), export).to_string());
        Ok(AddedPeer {
            peer: peer_view(&added.peer, None),
            config,
        })
    }
}

/// How long an answer waits for the command lines of programs, each of which may hold that up.
const LOOK_TIME: Duration = Duration::from_millis(200);

fn containers(runtime: &dyn Runtime) -> Vec<Container> {
    let view = |view: ContainerView| Container {
        id: view.id,
        network: view.network,
        pid: view.pid,
        program: view.program,
        command: view.command,
        started: view.started.as_secs(),
        sockets: view.sockets,
        rx_bytes: view.traffic.received,
        tx_bytes: view.traffic.sent,
    };
    runtime.containers().into_iter().map(view).collect()
}

pub(super) fn peer_view(peer: &PeerEntry, live: Option<&PeerStatus>) -> Peer {
    let last_handshake = live.and_then(|live| live.last_handshake);
    Peer {
        name: peer.name.clone(),
        public_key: peer.public_key.to_string(),
        endpoint: live
            .and_then(|live| live.endpoint)
            .map(|at| at.to_string())
            .or_else(|| peer.endpoint.clone()),
        endpoint_learned: live.is_some_and(|live| live.endpoint_learned),
        allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
        persistent_keepalive: peer.persistent_keepalive,
        has_preshared_key: peer.preshared_key.is_some(),
        last_handshake: last_handshake.map(|at| at.as_secs()),
        handshake_age: last_handshake.map(|at| clock::unix().saturating_sub(at).as_secs()),
        unanswered: live.map_or(0, |live| live.unanswered),
        rx_bytes: live.map_or(0, |live| live.rx_bytes),
        tx_bytes: live.map_or(0, |live| live.tx_bytes),
        drops: live
            .into_iter()
            .flat_map(|live| &live.drops)
            .map(|(reason, count)| (reason.name().to_owned(), *count))
            .collect(),
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

/// A network as the file that makes another host this one.
fn own_file(config: &NetworkConfig, udp_port: u16) -> File {
    File {
        network_name: Some(config.name.to_string()),
        interface: wgquick::Interface {
            name: None,
            private_key: Key::from_bytes(*config.private_key.as_bytes()),
            addresses: config.addresses.iter().filter_map(written).collect(),
            listen_port: match &config.wg_quick {
                Some(imported) => imported.listen_port,
                None => Some(udp_port),
            },
            mtu: Some(config.mtu),
            unused: config
                .wg_quick
                .as_ref()
                .map(WgQuickSettings::unused)
                .unwrap_or_default(),
        },
        peers: config.peers.iter().map(exported_peer).collect(),
        ignored: Vec::new(),
    }
}

fn exported_peer(peer: &PeerEntry) -> wgquick::Peer {
    wgquick::Peer {
        name: peer.name.clone(),
        public_key: Key::from_bytes(*peer.public_key.as_bytes()),
        preshared_key: peer
            .preshared_key
            .as_ref()
            .map(|key| Key::from_bytes(*key.as_bytes())),
        endpoint: peer.endpoint.clone(),
        allowed_ips: peer
            .allowed_ips
            .iter()
            .filter_map(|ip| Prefix::new(ip.addr(), ip.len()))
            .collect(),
        persistent_keepalive: peer.persistent_keepalive,
    }
}

fn written(own: &InterfaceAddress) -> Option<Prefix> {
    own.to_string().parse().ok()
}

fn exported(network: &str, peer_name: Option<String>, export: &PeerExport) -> File {
    File {
        network_name: Some(network.to_owned()),
        interface: wgquick::Interface {
            name: peer_name,
            private_key: Key::from_bytes(*export.private_key.as_bytes()),
            addresses: export.addresses.iter().filter_map(written).collect(),
            listen_port: None,
            mtu: Some(export.mtu),
            unused: wgquick::Unused::default(),
        },
        peers: vec![exported_peer(&export.us)],
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
        reserved: [0; 3],
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

pub(super) fn invalid(message: String) -> ApiError {
    ApiError::new(Code::Invalid, message)
}
