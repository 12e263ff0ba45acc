// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file of what handshakes must not forget over a restart: peers refuse initiations whose timestamp is not newer than the
//! last one (whitepaper, 5.4.2), and so do we.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use netcon_overlay::PublicKey;
use serde::{Deserialize, Serialize};

use super::{NetworkId, StateDir, StateError, atomic};

/// Bound on the file: a million peers.
const LARGEST: u64 = 128 * 1024 * 1024;

/// Timestamps of handshakes: ours, and the greatest of each peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// The newest of ours, since 1970.
    pub own: Duration,
    /// TAI64N, by network and peer.
    pub peers: BTreeMap<NetworkId, PeerTimestamps>,
}

/// The greatest timestamp of each peer of a network, TAI64N.
pub type PeerTimestamps = BTreeMap<PublicKey, [u8; 12]>;

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Seconds and nanoseconds.
    own: (u64, u32),
    /// Network → public key → 24 hexadecimal digits.
    peers: BTreeMap<NetworkId, BTreeMap<String, String>>,
}

impl StateDir {
    /// Where timestamps are kept. In a folder of their own, because they are written while other files are.
    #[must_use]
    pub fn timestamps_file(&self) -> PathBuf {
        self.timestamps.join("timestamps.json")
    }

    /// What the file says; nothing when there is none. One that cannot be used is reported and treated as if it were not there:
    /// handshakes then depend on the clock alone.
    #[must_use]
    pub fn load_timestamps(&self) -> Timestamps {
        let path = self.timestamps_file();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let read = opened.and_then(|file| {
            let mut text = Vec::new();
            file.take(LARGEST).read_to_end(&mut text)?;
            let file: File = serde_json::from_slice(&text)?;
            file.understand()
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no timestamps"))
        });
        match read {
            Ok(timestamps) => timestamps,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Timestamps::default(),
            Err(error) => {
                tracing::warn!("{} is not used: {error}.", path.display());
                Timestamps::default()
            }
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`StateError::Io`]; the old one is then still there.
    pub fn save_timestamps(&self, timestamps: &Timestamps) -> Result<(), StateError> {
        let path = self.timestamps_file();
        serde_json::to_vec(&File::from(timestamps))
            .map_err(io::Error::from)
            .and_then(|text| atomic::replace(&path, &text))
            .map_err(|error| StateError::Io {
                action: "write",
                path,
                error,
            })
    }
}

impl From<&Timestamps> for File {
    fn from(timestamps: &Timestamps) -> Self {
        let hex = |stamp: &[u8; 12]| stamp.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            own: (timestamps.own.as_secs(), timestamps.own.subsec_nanos()),
            peers: timestamps
                .peers
                .iter()
                .map(|(network, peers)| {
                    let peers = peers
                        .iter()
                        .map(|(key, stamp)| (key.to_string(), hex(stamp)));
                    (*network, peers.collect())
                })
                .collect(),
        }
    }
}

impl File {
    fn understand(self) -> Option<Timestamps> {
        let mut timestamps = Timestamps {
            // Not `Duration::new`, which panics when nanoseconds overflow the seconds.
            own: Duration::from_secs(self.own.0)
                .checked_add(Duration::from_nanos(self.own.1.into()))?,
            peers: BTreeMap::new(),
        };
        for (network, peers) in self.peers {
            let known = timestamps.peers.entry(network).or_default();
            for (key, stamp) in peers {
                known.insert(key.parse().ok()?, parse_hex(&stamp)?);
            }
        }
        Some(timestamps)
    }
}

fn parse_hex(text: &str) -> Option<[u8; 12]> {
    let mut stamp = [0; 12];
    if text.len() != 24 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in stamp.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(stamp)
}
