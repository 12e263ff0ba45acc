// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every operation of the API, one row each. The first line of its comment is its title in the OpenAPI document and in
//! `docs/api.md`.
//!
//! A path's literal parts go before its parameters: `/networks/import` is no network. `{network}` is a name or an id, `{peer}` a
//! name or a public key (base64, percent-encoded or with the URL-safe alphabet of RFC 4648, section 5).

use super::Route;
use super::declare::routes;
use crate::answer::{Answer, Either, Later, Reply, Stream, Text};
use crate::command::{ApiError, Caller};
use crate::model::{
    AddPeer, AddedPeer, ChangeLog, ChangeNetwork, ChangePeer, Container, CreateNetwork,
    ExportQuery, ExportedNetwork, Health, ImportNetwork, Imported, Log, Network, Peer, PeersQuery,
    Status, TokenView, WgDump, WgQuick,
};
use crate::model::{
    CaptureQuery, EventStream, Pcapng, PingAnswer, PingRequest, Prometheus, Sockets, SocketsQuery,
    Whois, WhoisQuery,
};

/// Other names of the first part of a path.
pub const ALIASES: &[(&str, &str)] = &[("network", "networks")];

routes! {
    /// What runs
    Status = status: GET "/status" -> Status;

    /// Whether it runs
    Health = health: GET "/health" -> Health;

    /// This description of the API
    ///
    /// OpenAPI 3.1, written from the declaration by which requests are routed.
    Openapi = openapi: GET "/openapi.json" -> serde_json::Value;

    /// The token by which others may ask
    TokenShow = token_show: GET "/token" -> TokenView;

    /// Make a new token; the old one is worth nothing from then on
    TokenRotate = token_rotate: POST "/token" -> TokenView;

    /// What is logged
    LogShow = log_show: GET "/log" -> Log;

    /// Change what is logged, until the supervisor ends
    LogChange = log_change: PATCH "/log" body(body: ChangeLog) -> Log;

    /// All networks
    NetworkList = network_list: GET "/networks" -> Vec<Network>;

    /// Make a network with a new key
    NetworkCreate = network_create: POST "/networks" body(body: CreateNetwork) -> Network;

    /// Join the network that a wg-quick file describes
    NetworkImport = network_import: POST "/networks/import" body(body: ImportNetwork) -> Imported;

    /// One network
    NetworkShow = network_show: GET "/networks/{network}" (network: String) -> Network;

    /// A network as another host takes it over, with its private key
    NetworkExport = network_export: GET "/networks/{network}/export" (network: String) query(query: ExportQuery)
        -> Either<ExportedNetwork, Text<WgQuick>>;

    /// Change a network
    ///
    /// At once, and without disturbing what does not change: programs, sessions with peers, connections. As on Linux, connections
    /// of an address that is gone get no answers any more.
    NetworkChange = network_change: PATCH "/networks/{network}" (network: String) body(body: ChangeNetwork) -> Network;

    /// End a network and remove its file, and with it its key
    NetworkDelete = network_delete: DELETE "/networks/{network}" (network: String) -> Network;

    /// Peers of a network
    PeerList = peer_list: GET "/networks/{network}/peers" (network: String) query(query: PeersQuery)
        -> Either<Vec<Peer>, Text<WgDump>>;

    /// Add a peer to a network
    ///
    /// Without a public key a key pair is made; the other side's configuration is in the answer and kept nowhere.
    PeerAdd = peer_add: POST "/networks/{network}/peers" (network: String) body(body: AddPeer) -> AddedPeer;

    /// One peer
    PeerShow = peer_show: GET "/networks/{network}/peers/{peer}" (network: String, peer: String) -> Peer;

    /// Change a peer
    ///
    /// At once; its session goes on.
    PeerChange = peer_change: PATCH "/networks/{network}/peers/{peer}" (network: String, peer: String)
        body(body: ChangePeer) -> Peer;

    /// Remove a peer from a network
    PeerRemove = peer_remove: DELETE "/networks/{network}/peers/{peer}" (network: String, peer: String) -> Peer;

    /// Sockets of a network
    ///
    /// Oldest first, in pages: sockets are looked at 256 at a time, so that packets are not held up.
    SocketList = socket_list: GET "/networks/{network}/sockets" (network: String) query(query: SocketsQuery) -> Sockets;

    /// Who has an address
    Whois = whois: GET "/networks/{network}/whois" (network: String) query(query: WhoisQuery) -> Whois;

    /// Send an echo request and wait for what becomes of it
    Ping = ping: POST "/networks/{network}/ping" (network: String) body(body: PingRequest) -> Later<PingAnswer>;

    /// Packets of a network, in clear, as they pass
    ///
    /// A packet's comment names its program. Packets between programs of this host are there once, without a direction. Who reads
    /// too slowly loses packets; the file says how many. Ends when the client leaves.
    Capture = capture: GET "/networks/{network}/capture" (network: String) query(query: CaptureQuery) -> Stream<Pcapng>;

    /// Running containers
    ContainerList = container_list: GET "/containers" -> Later<Vec<Container>>;

    /// One container
    ContainerShow = container_show: GET "/containers/{id}" (id: u64) -> Later<Container>;

    /// Figures for Prometheus
    Metrics = metrics: GET "/metrics" -> Text<Prometheus>;

    /// What happens, as it happens
    ///
    /// Who reads too slowly loses events, and a `lost` event says how many. Ends when the client leaves.
    Events = events: GET "/events" -> Stream<EventStream>;
}
