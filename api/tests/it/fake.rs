// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A supervisor that is only a table of answers.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netcon_api::answer::{Bytes, Either, Later, Stream, Text};
use netcon_api::model::{
    AddPeer, AddedPeer, ChangeLog, ChangeNetwork, ChangePeer, Container, CreateNetwork,
    ExportFormat, ExportQuery, ExportedNetwork, Health, ImportNetwork, Imported, Log, Network,
    NetworkStatus, Peer, PeersFormat, PeersQuery, Route, Status, TokenView, WgDump, WgQuick,
};
use netcon_api::model::{
    CaptureQuery, EventStream, Pcapng, PingAnswer, PingOutcome, PingRequest, Prometheus, Socket,
    Sockets, SocketsQuery, Whois, WhoisKind, WhoisQuery,
};
use netcon_api::server::{Gate, serve};
use netcon_api::wgquick::{self, File};
use netcon_api::{ApiError, Caller, Code, Command, Handler};
use tokio::net::UnixListener;

/// Answers every command and notes it.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    asked: Mutex<Vec<Command>>,
}

impl Fake {
    fn note(&self, command: Command) {
        self.asked.lock().unwrap().push(command);
    }

    /// What it has been asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Command> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// Lets everybody in who presents no token, or this one.
pub(crate) struct Open;

impl Gate for Open {
    fn admit(&self, tokens: &[&[u8]]) -> Result<Caller, ApiError> {
        if tokens.iter().all(|token| *token == token_bytes()) {
            Ok(Caller { uid: 1000 })
        } else {
            Err(ApiError::new(Code::Unauthorized, "The token is wrong."))
        }
    }

    fn head_time(&self) -> Duration {
        Duration::from_millis(500)
    }
}

fn token_bytes() -> Vec<u8> {
    token().token.into_bytes()
}

fn known(name: &str) -> Result<Network, ApiError> {
    match name {
        "demo" | "1122334455667788" => Ok(network("demo")),
        _ => Err(ApiError::new(
            Code::NotFound,
            format!("There is no network {name:?}; there are: demo."),
        )),
    }
}

impl Handler for Fake {
    fn status(&self, _: Caller) -> Result<Status, ApiError> {
        self.note(Command::Status {});
        Ok(Status {
            version: "1.2.3".into(),
            uptime_seconds: 7201,
            udp_port: 9993,
            state_directory: "/state".into(),
            networks: 1,
            containers: 1,
            broken_files: Vec::new(),
        })
    }

    fn health(&self, _: Caller) -> Result<Health, ApiError> {
        self.note(Command::Health {});
        Ok(Health {
            online: true,
            version: "1.2.3".into(),
        })
    }

    fn openapi(&self, _: Caller) -> Result<serde_json::Value, ApiError> {
        self.note(Command::Openapi {});
        Ok(netcon_api::openapi::document())
    }

    fn token_show(&self, _: Caller) -> Result<TokenView, ApiError> {
        self.note(Command::TokenShow {});
        Ok(token())
    }

    fn token_rotate(&self, _: Caller) -> Result<TokenView, ApiError> {
        self.note(Command::TokenRotate {});
        Ok(token())
    }

    fn log_show(&self, _: Caller) -> Result<Log, ApiError> {
        self.note(Command::LogShow {});
        Ok(Log {
            filter: "warn".into(),
        })
    }

    fn log_change(&self, _: Caller, body: ChangeLog) -> Result<Log, ApiError> {
        let filter = body.filter.clone().apply(None);
        self.note(Command::LogChange { body });
        Ok(Log {
            filter: filter.unwrap_or_else(|| "warn".into()),
        })
    }

    fn network_list(&self, _: Caller) -> Result<Vec<Network>, ApiError> {
        self.note(Command::NetworkList {});
        Ok(vec![network("demo")])
    }

    fn network_create(&self, _: Caller, body: CreateNetwork) -> Result<Network, ApiError> {
        self.note(Command::NetworkCreate { body: body.clone() });
        if body.name == "demo" {
            return Err(ApiError::new(
                Code::Conflict,
                "A network named demo exists already.",
            ));
        }
        Ok(network(&body.name))
    }

    fn network_import(&self, _: Caller, body: ImportNetwork) -> Result<Imported, ApiError> {
        self.note(Command::NetworkImport { body: body.clone() });
        let file = File::parse(&body.config).map_err(|error| {
            ApiError::new(Code::BadFile, format!("This is no wg-quick file: {error}."))
        })?;
        let name = body.name.or(file.network_name).or(body.fallback_name);
        Ok(Imported {
            network: network(&name.unwrap_or_default()),
            ignored: file.ignored,
        })
    }

    fn network_show(&self, _: Caller, network: String) -> Result<Network, ApiError> {
        let found = known(&network);
        self.note(Command::NetworkShow { network });
        found
    }

    fn network_export(
        &self,
        _: Caller,
        network: String,
        query: ExportQuery,
    ) -> Result<Either<ExportedNetwork, Text<WgQuick>>, ApiError> {
        let name = known(&network)?.name;
        self.note(Command::NetworkExport { network, query });
        let config = "[Interface]\n".to_owned();
        Ok(match query.format {
            ExportFormat::WgQuick => Either::Other(Text::new(config)),
            ExportFormat::Json => Either::One(ExportedNetwork { name, config }),
        })
    }

    fn network_change(
        &self,
        _: Caller,
        network: String,
        body: ChangeNetwork,
    ) -> Result<Network, ApiError> {
        let found = known(&network);
        self.note(Command::NetworkChange { network, body });
        found
    }

    fn network_delete(&self, _: Caller, network: String) -> Result<Network, ApiError> {
        let found = known(&network);
        self.note(Command::NetworkDelete { network });
        found
    }

    fn peer_list(
        &self,
        _: Caller,
        network: String,
        query: PeersQuery,
    ) -> Result<Either<Vec<Peer>, Text<WgDump>>, ApiError> {
        let found = known(&network);
        self.note(Command::PeerList { network, query });
        let peers = vec![peer("laptop")];
        found.map(|network| match query.format {
            PeersFormat::Json => Either::One(peers),
            PeersFormat::WgDump => Either::Other(Text::new(wgquick::dump(&network, &peers))),
        })
    }

    fn peer_add(&self, _: Caller, network: String, body: AddPeer) -> Result<AddedPeer, ApiError> {
        known(&network)?;
        let body_noted = body.clone();
        self.note(Command::PeerAdd {
            network,
            body: body_noted,
        });
        let config = body
            .public_key
            .is_none()
            .then(|| "[Interface]\nPrivateKey = secret\n".to_owned());
        Ok(AddedPeer {
            peer: peer(&body.name.unwrap_or_default()),
            config,
        })
    }

    fn peer_show(&self, _: Caller, network: String, of: String) -> Result<Peer, ApiError> {
        let found = known(&network).map(|_| peer(&of));
        self.note(Command::PeerShow { network, peer: of });
        found
    }

    fn peer_change(
        &self,
        _: Caller,
        network: String,
        of: String,
        body: ChangePeer,
    ) -> Result<Peer, ApiError> {
        let found = known(&network).map(|_| peer(&of));
        self.note(Command::PeerChange {
            network,
            peer: of,
            body,
        });
        found
    }

    fn peer_remove(&self, _: Caller, network: String, of: String) -> Result<Peer, ApiError> {
        let found = known(&network).map(|_| peer(&of));
        self.note(Command::PeerRemove { network, peer: of });
        found
    }

    fn container_list(&self, _: Caller) -> Result<Later<Vec<Container>>, ApiError> {
        self.note(Command::ContainerList {});
        Ok(done(vec![container()]))
    }

    fn container_show(&self, _: Caller, id: u64) -> Result<Later<Container>, ApiError> {
        self.note(Command::ContainerShow { id });
        Ok(done(container()))
    }

    fn socket_list(
        &self,
        _: Caller,
        network: String,
        query: SocketsQuery,
    ) -> Result<Sockets, ApiError> {
        known(&network)?;
        self.note(Command::SocketList { network, query });
        // Two pages of one socket each.
        let (number, next) = match query.after {
            None => (1, Some(1)),
            Some(_) => (2, None),
        };
        Ok(Sockets {
            sockets: vec![socket(number)],
            next,
        })
    }

    fn whois(&self, _: Caller, network: String, query: WhoisQuery) -> Result<Whois, ApiError> {
        let name = known(&network)?.name;
        let address = query.addr.clone();
        self.note(Command::Whois { network, query });
        let (kind, peer, sockets) = match address.as_str() {
            "10.77.0.1" => (WhoisKind::Own, None, Vec::new()),
            "10.77.0.2" => (WhoisKind::Peer, Some(peer("laptop")), vec![socket(1)]),
            _ => (WhoisKind::Nobody, None, Vec::new()),
        };
        Ok(Whois {
            address,
            network: name,
            kind,
            route: peer.as_ref().map(|_| "10.77.0.2/32".to_owned()),
            peer,
            sockets,
        })
    }

    fn ping(
        &self,
        _: Caller,
        network: String,
        body: PingRequest,
    ) -> Result<Later<PingAnswer>, ApiError> {
        known(&network)?;
        let mut answer = PingAnswer {
            address: body.address.clone(),
            outcome: PingOutcome::Timeout,
            bytes: None,
            ttl: None,
            time_us: None,
            reason: Some("no handshake with peer laptop yet".into()),
        };
        match body.address.as_str() {
            "10.77.0.2" => {
                answer.outcome = PingOutcome::Reply;
                answer.bytes = Some(64);
                answer.ttl = Some(64);
                answer.time_us = Some(1234);
                answer.reason = None;
            }
            "10.99.0.1" => {
                answer.outcome = PingOutcome::NoRoute;
                answer.reason = Some("nobody has it".into());
            }
            _ => {}
        }
        self.note(Command::Ping { network, body });
        let (sender, receiver) = tokio::sync::oneshot::channel();
        sender.send(Ok(answer)).ok().unwrap();
        Ok(Later(receiver))
    }

    fn capture(
        &self,
        _: Caller,
        network: String,
        query: CaptureQuery,
    ) -> Result<Stream<Pcapng>, ApiError> {
        known(&network)?;
        self.note(Command::Capture { network, query });
        Ok(Stream::new(pieces(&["PCAP", "NG"])))
    }

    fn metrics(&self, _: Caller) -> Result<Text<Prometheus>, ApiError> {
        self.note(Command::Metrics {});
        Ok(Text::new("netcon_networks 1\n".to_owned()))
    }

    fn events(&self, _: Caller) -> Result<Stream<EventStream>, ApiError> {
        self.note(Command::Events {});
        Ok(Stream::new(pieces(&[
            ": listening\n\n",
            "id: 1\nevent: network_created\ndata: {\"id\":1,\"time\":0.0,\"type\":\"network_created\",\"network\":\"demo\"}\n\n",
        ])))
    }
}

/// A stream of these pieces that then ends.
fn pieces(all: &'static [&'static str]) -> tokio::sync::mpsc::Receiver<Bytes> {
    let (sender, receiver) = tokio::sync::mpsc::channel(all.len());
    for piece in all {
        sender
            .try_send(Bytes::from_static(piece.as_bytes()))
            .unwrap();
    }
    receiver
}

fn socket(id: u64) -> Socket {
    Socket {
        id,
        protocol: "tcp".into(),
        local: "10.77.0.1:40000".into(),
        remote: Some("10.77.0.2:443".into()),
        state: "ESTAB".into(),
        receive_queue: 0,
        send_queue: 5,
        rx_bytes: 12,
        tx_bytes: 34_000,
        container: 7,
        pid: Some(4321),
        program: Some("curl\x1b[2J".into()),
        age: 61,
    }
}

fn network(name: &str) -> Network {
    Network {
        id: "1122334455667788".into(),
        name: name.into(),
        status: NetworkStatus::Ok,
        failure: None,
        mtu: 1420,
        raw_sockets: true,
        assigned_addresses: vec!["10.77.0.1/24".into(), "fd77::1/64".into()],
        routes: vec![Route {
            target: "10.77.0.2/32".into(),
            via: "laptop".into(),
        }],
        public_key: "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".into(),
        listen_port: 9993,
        peers: 1,
    }
}

fn peer(name: &str) -> Peer {
    Peer {
        name: Some(name.into()),
        public_key: "A/+BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".into(),
        endpoint: Some("192.0.2.1:9993".into()),
        endpoint_learned: false,
        allowed_ips: vec!["10.77.0.2/32".into()],
        persistent_keepalive: None,
        has_preshared_key: true,
        last_handshake: None,
        handshake_age: None,
        unanswered: 0,
        rx_bytes: 1234,
        tx_bytes: 5_000_000,
        drops: std::collections::BTreeMap::new(),
    }
}

fn token() -> TokenView {
    TokenView {
        token: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into(),
        path: "/state/token".into(),
    }
}

/// An answer that is there.
fn done<T>(value: T) -> Later<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let _receiver_is_here = sender.send(Ok(value));
    Later(receiver)
}

fn container() -> Container {
    Container {
        id: 7,
        network: "demo".into(),
        pid: 4321,
        // A program may be called anything.
        program: "nginx\x1b[2J".into(),
        command: vec!["nginx\x1b[2J".into(), "-c".into(), "a, b".into()],
        started: 0,
        sockets: 3,
        rx_bytes: 12_000,
        tx_bytes: 34_000_000,
    }
}

/// A unix socket on which a [`Fake`] is served, in a folder of its own.
pub(crate) struct Supervisor {
    pub(crate) fake: Arc<Fake>,
    pub(crate) folder: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Supervisor {
    pub(crate) fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("netcon-api-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let socket = folder.join("supervisor.sock");
        let fake = Arc::new(Fake::default());
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let served = Arc::clone(&fake);
        // Ends with the process.
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let listener = UnixListener::from_std(listener).unwrap();
                while let Ok((stream, _unnamed)) = listener.accept().await {
                    tokio::spawn(serve(stream, Open, Arc::clone(&served)));
                }
            });
        });
        Self {
            fake,
            folder,
            socket,
        }
    }

    pub(crate) fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.folder);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
