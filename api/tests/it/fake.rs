// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A supervisor that is only a table of answers.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use netcon_api::model::{
    AddPeer, AddedPeer, Container, CreateNetwork, Imported, Network, NetworkStatus, Peer, Route,
    Status,
};
use netcon_api::server::serve;
use netcon_api::wgquick::File;
use netcon_api::{Answer, ApiError, Caller, Command, Handler};
use tokio::net::UnixListener;

/// Answers every command and notes it.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    asked: Mutex<Vec<Command>>,
}

impl Fake {
    fn note(&self, command: &Command) {
        self.asked.lock().unwrap().push(command.clone());
    }

    /// What it has been asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Command> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Handler for Fake {
    fn handle(&self, _caller: Caller, command: Command) -> Result<Answer, ApiError> {
        self.note(&command);
        let known = |name: &str| match name {
            "demo" | "1122334455667788" => Ok(network("demo")),
            _ => Err(ApiError::new(
                404,
                "not_found",
                format!("There is no network {name:?}; there are: demo."),
            )),
        };
        Ok(match command {
            Command::Status => Answer::Status(Status {
                version: "1.2.3".into(),
                uptime_seconds: 7201,
                udp_port: 9993,
                state_directory: "/state".into(),
                networks: 1,
                containers: 1,
                broken_files: Vec::new(),
            }),
            Command::Health => Answer::Health {
                online: true,
                version: "1.2.3".into(),
            },
            Command::NetworkList => Answer::Networks(vec![network("demo")]),
            Command::NetworkCreate(CreateNetwork { name, .. }) if name == "demo" => {
                return Err(ApiError::new(
                    409,
                    "conflict",
                    "A network named demo exists already.",
                ));
            }
            Command::NetworkCreate(CreateNetwork { name, .. }) => {
                Answer::Network(Box::new(network(&name)))
            }
            Command::NetworkImport(import) => {
                let file = File::parse(&import.config).map_err(|error| {
                    ApiError::new(
                        400,
                        "bad_file",
                        format!("This is no wg-quick file: {error}."),
                    )
                })?;
                let name = import.name.or(file.network_name).or(import.fallback_name);
                let name = name.unwrap_or_default();
                Answer::Imported(Box::new(Imported {
                    network: network(&name),
                    ignored: file.ignored,
                }))
            }
            Command::NetworkShow(name) | Command::NetworkDelete(name) => {
                Answer::Network(Box::new(known(&name)?))
            }
            Command::PeerList(name) => known(&name).map(|_| Answer::Peers(vec![peer("laptop")]))?,
            Command::PeerAdd(
                name,
                AddPeer {
                    name: peer_name,
                    public_key,
                    ..
                },
            ) => {
                known(&name)?;
                let config = public_key
                    .is_none()
                    .then(|| "[Interface]\nPrivateKey = secret\n".to_owned());
                Answer::AddedPeer(Box::new(AddedPeer {
                    peer: peer(&peer_name.unwrap_or_default()),
                    config,
                }))
            }
            Command::PeerShow(name, of) | Command::PeerRemove(name, of) => {
                known(&name)?;
                Answer::Peer(Box::new(peer(&of)))
            }
            Command::ContainerList => Answer::Containers(vec![container()]),
            Command::ContainerShow(_) => Answer::Container(container()),
        })
    }
}

fn network(name: &str) -> Network {
    Network {
        id: "1122334455667788".into(),
        name: name.into(),
        status: NetworkStatus::Ok,
        failure: None,
        mtu: 1420,
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
        allowed_ips: vec!["10.77.0.2/32".into()],
        persistent_keepalive: None,
        has_preshared_key: true,
        last_handshake: None,
        rx_bytes: 1234,
        tx_bytes: 5_000_000,
    }
}

fn container() -> Container {
    Container {
        id: 7,
        network: "demo".into(),
        pid: 4321,
        // A program may be called anything.
        program: "nginx\x1b[2J".into(),
        started: 0,
        sockets: 3,
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
                    tokio::spawn(serve(stream, Caller { uid: 1000 }, Arc::clone(&served)));
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
