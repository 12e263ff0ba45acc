// SPDX-License-Identifier: Apache-2.0 OR MIT
//! JSON of requests and answers. Names are those of ZeroTier's service API where they mean the same. Private keys appear in
//! no answer but the configuration that is exported for another side.

mod observe;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::answer::Media;
pub use observe::*;

/// What names networks and peers, as a regular expression.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$";
/// 32 bytes in base64.
const KEY: &str = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$";

/// GET /status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the supervisor.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// UDP port of the overlay.
    pub udp_port: u16,
    /// Where networks and keys are kept.
    pub state_directory: String,
    /// Number of networks.
    pub networks: usize,
    /// Number of running containers.
    pub containers: usize,
    /// Files of networks that cannot be used, with the reason.
    pub broken_files: Vec<BrokenFile>,
}

/// GET /health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// True.
    pub online: bool,
    /// Version of the supervisor.
    pub version: String,
}

/// GET and POST /token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// To be sent as `Authorization: Bearer` or `X-ZT1-Auth`.
    pub token: String,
    /// The file that holds it, readable by its user only.
    pub path: String,
}

/// A file that is kept but not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokenFile {
    /// Its path.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// 16 hexadecimal digits.
    pub id: String,
    /// Local name.
    pub name: String,
    /// OK, or FAILED with a reason.
    pub status: NetworkStatus,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Own addresses, `address/prefix`.
    pub assigned_addresses: Vec<String>,
    /// What is reached through peers.
    pub routes: Vec<Route>,
    /// Our key on it, base64.
    pub public_key: String,
    /// UDP port of the overlay.
    pub listen_port: u16,
    /// Number of peers.
    pub peers: usize,
    /// Programs may open raw sockets of ICMP.
    #[serde(default = "yes")]
    pub raw_sockets: bool,
}

const fn yes() -> bool {
    true
}

/// Whether a network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum NetworkStatus {
    /// It runs.
    Ok,
    /// It does not.
    Failed,
}

/// A prefix and the peer it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// `address/prefix`.
    pub target: String,
    /// The peer: its name, or its key.
    pub via: String,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// What people call it.
    pub name: Option<String>,
    /// Base64.
    pub public_key: String,
    /// Where it is, as known now: `address:port`.
    pub endpoint: Option<String>,
    /// The endpoint is where it was heard from, not the configured one.
    #[serde(default)]
    pub endpoint_learned: bool,
    /// Prefixes it may use and that lead to it.
    pub allowed_ips: Vec<String>,
    /// Seconds between keepalives, if any.
    pub persistent_keepalive: Option<u16>,
    /// A symmetric key is mixed in.
    pub has_preshared_key: bool,
    /// When the last handshake was completed, seconds since the Unix epoch.
    pub last_handshake: Option<u64>,
    /// Seconds since then.
    #[serde(default)]
    pub handshake_age: Option<u64>,
    /// Our handshakes that went unanswered since it was last heard.
    #[serde(default)]
    pub unanswered: u32,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets thrown away, by reason; only reasons that occurred.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
}

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its number.
    pub id: u64,
    /// Its network.
    pub network: String,
    /// First process.
    pub pid: u32,
    /// Name the program was started with.
    pub program: String,
    /// Command line of the first process, argument by argument: as it is now, or as it was when that process ended. Told up
    /// to 4096 bytes, then it ends in an ellipsis; empty while it is not known.
    #[serde(default)]
    pub command: Vec<String>,
    /// Seconds since the Unix epoch.
    pub started: u64,
    /// Sockets it has now.
    pub sockets: usize,
    /// Payload its programs have received so far, bytes.
    #[serde(default)]
    pub rx_bytes: u64,
    /// Payload its programs have sent so far, bytes.
    #[serde(default)]
    pub tx_bytes: u64,
}

/// POST /networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateNetwork {
    /// Local name.
    #[schemars(regex(pattern = NAME))]
    pub name: String,
    /// Own addresses, `address/prefix`; a family without one gets a random private prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Largest IP packet, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9000))]
    pub mtu: Option<u16>,
}

/// PATCH /networks/{network}. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeNetwork {
    /// Local name.
    #[serde(
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "String", regex(pattern = NAME))]
    pub name: Option<String>,
    /// All own addresses, `address/prefix`, at most one of each family.
    #[serde(
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Vec<String>")]
    pub addresses: Option<Vec<String>>,
    /// Largest IP packet, bytes; null for the usual one.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[schemars(range(min = 1280, max = 9000))]
    pub mtu: Change<u16>,
    /// Whether programs may open raw sockets of ICMP from now on; those that are open stay.
    #[serde(
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "bool")]
    pub raw_sockets: Option<bool>,
}

/// PATCH /networks/{network}/peers/{peer}. What is absent stays as it is.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangePeer {
    /// What people call it; null for no name.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[schemars(regex(pattern = NAME))]
    pub name: Change<String>,
    /// Base64; null for none. It takes effect with the next handshake.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[schemars(regex(pattern = KEY))]
    pub preshared_key: Change<String>,
    /// Where it is: `host:port`. With null it has to call first, once the address it is known by now is forgotten.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub endpoint: Change<String>,
    /// All its prefixes.
    #[serde(
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Vec<String>")]
    pub allowed_ips: Option<Vec<String>>,
    /// Seconds between keepalives towards it; null for none.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub persistent_keepalive: Change<u16>,
    /// The three reserved bytes of our messages to it; null for zero.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub reserved: Change<[u8; 3]>,
}

/// POST /networks/import.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportNetwork {
    /// A wg-quick file.
    pub config: String,
    /// Name of the network here; else the one in the file, else `fallbackName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME))]
    pub name: Option<String>,
    /// Used when the file names none, usually the file's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_name: Option<String>,
}

/// GET and PATCH /log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// Levels, of all or of parts: `debug`, or `warn,netcon_supervisor=trace`, as in `RUST_LOG`.
    pub filter: String,
}

/// PATCH /log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeLog {
    /// Levels, of all or of parts; null for what it was at the start.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub filter: Change<String>,
}

/// GET /networks/{network}/export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportQuery {
    /// How it is to be written.
    #[serde(default)]
    pub format: ExportFormat,
}

/// How a network is exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// A wg-quick file.
    #[default]
    WgQuick,
    /// The same in JSON, as `POST /networks/import` takes it.
    Json,
}

/// A network as another host takes it over. It holds the private key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportedNetwork {
    /// Its name here.
    pub name: String,
    /// A wg-quick file.
    pub config: String,
}

/// Media type of a wg-quick file.
#[derive(Debug)]
pub struct WgQuick;

impl Media for WgQuick {
    const NAME: &'static str = "text/plain; charset=utf-8";
    const DESCRIPTION: &'static str = "A wg-quick file.";
}

/// GET /networks/{network}/peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeersQuery {
    /// How they are to be written.
    #[serde(default)]
    pub format: PeersFormat,
}

/// How peers are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PeersFormat {
    /// A list.
    #[default]
    Json,
    /// The table of `wg show INTERFACE dump`, its secret keys `(hidden)`.
    WgDump,
}

/// Media type of the table of `wg show INTERFACE dump`.
#[derive(Debug)]
pub struct WgDump;

impl Media for WgDump {
    const NAME: &'static str = "text/tab-separated-values; charset=utf-8";
    const DESCRIPTION: &'static str = "The table that `wg show INTERFACE dump` prints.";
}

/// Answer to an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// The network.
    pub network: Network,
    /// Settings of the file that have no effect here.
    pub ignored: Vec<String>,
}

/// POST /networks/{id}/peers.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddPeer {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME))]
    pub name: Option<String>,
    /// Base64. Without it a key pair is made, and handed out once in `config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = KEY))]
    pub public_key: Option<String>,
    /// Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = KEY))]
    pub preshared_key: Option<String>,
    /// Where it is: `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Its prefixes; the next free addresses if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_ips: Vec<String>,
    /// Seconds between keepalives towards it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_keepalive: Option<u16>,
    /// Where it finds us: `host:port`; our outgoing address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub our_endpoint: Option<String>,
    /// The three reserved bytes of our messages to it; zero, which is WireGuard's, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<[u8; 3]>,
}

/// Answer to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddedPeer {
    /// The peer.
    pub peer: Peer,
    /// The other side's wg-quick file, if its keys were made here. It is kept nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// What a PATCH says of a field that can be without a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// Absent: it stays as it is.
    #[default]
    Keep,
    /// Null: it has no value from now on.
    Clear,
    /// It has this value from now on.
    Set(T),
}

impl<T> Change<T> {
    /// Whether nothing is to change.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The field as it is to be, with `old` as it is.
    pub fn apply(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Keep => old,
            Self::Clear => None,
            Self::Set(new) => Some(new),
        }
    }

    /// The same change of another form.
    ///
    /// # Errors
    /// Those of `convert`.
    pub fn try_map<U, E>(self, convert: impl FnOnce(T) -> Result<U, E>) -> Result<Change<U>, E> {
        Ok(match self {
            Self::Keep => Change::Keep,
            Self::Clear => Change::Clear,
            Self::Set(new) => Change::Set(convert(new)?),
        })
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::Set(new) => serializer.serialize_some(new),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T: JsonSchema> JsonSchema for Change<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// A field that may be absent, but not null.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Stands for a value in debugging output that holds keys.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl fmt::Debug for ImportNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            config: _,
            name,
            fallback_name,
        } = self;
        f.debug_struct("ImportNetwork")
            .field("config", &Hidden)
            .field("name", name)
            .field("fallback_name", fallback_name)
            .finish()
    }
}

impl fmt::Debug for TokenView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token: _, path } = self;
        f.debug_struct("TokenView")
            .field("token", &Hidden)
            .field("path", path)
            .finish()
    }
}

impl fmt::Debug for ExportedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, config: _ } = self;
        f.debug_struct("ExportedNetwork")
            .field("name", name)
            .field("config", &Hidden)
            .finish()
    }
}

impl fmt::Debug for AddPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            public_key,
            preshared_key,
            endpoint,
            allowed_ips,
            persistent_keepalive,
            our_endpoint,
            reserved,
        } = self;
        f.debug_struct("AddPeer")
            .field("name", name)
            .field("public_key", public_key)
            .field("preshared_key", &preshared_key.as_ref().map(|_| Hidden))
            .field("endpoint", endpoint)
            .field("allowed_ips", allowed_ips)
            .field("persistent_keepalive", persistent_keepalive)
            .field("our_endpoint", our_endpoint)
            .field("reserved", reserved)
            .finish()
    }
}

impl fmt::Debug for ChangePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            preshared_key,
            endpoint,
            allowed_ips,
            persistent_keepalive,
            reserved,
        } = self;
        let preshared_key = preshared_key.clone().try_map(|_| Ok::<_, ()>(Hidden));
        f.debug_struct("ChangePeer")
            .field("name", name)
            .field("preshared_key", &preshared_key)
            .field("endpoint", endpoint)
            .field("allowed_ips", allowed_ips)
            .field("persistent_keepalive", persistent_keepalive)
            .field("reserved", reserved)
            .finish()
    }
}

impl fmt::Debug for AddedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, config } = self;
        f.debug_struct("AddedPeer")
            .field("peer", peer)
            .field("config", &config.as_ref().map(|_| Hidden))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_in_debugging_output() {
        let import = ImportNetwork {
            config: "SECRET".into(),
            name: Some("demo".into()),
            fallback_name: None,
        };
        let add = AddPeer {
            name: Some("phone".into()),
            preshared_key: Some("SECRET".into()),
            ..AddPeer::default()
        };
        let shown = format!("{import:?} {add:#?}");
        assert!(shown.contains("demo") && shown.contains("phone"), "{shown}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}
