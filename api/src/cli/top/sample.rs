// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the supervisor says now, and how fast it changes.

use super::super::output::Failure;
use crate::client::{Client, ClientError};
use crate::command::Command;
use crate::model::{Network, Peer, PeersQuery, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::time::{Duration, Instant};

/// Everything at one moment.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) status: Status,
    pub(super) networks: Vec<Network>,
    /// With the name of the network.
    pub(super) peers: Vec<(String, Peer)>,
    pub(super) containers: Vec<Container>,
    /// Seconds since the Unix epoch.
    pub(super) now: u64,
    /// Bytes each second, received and sent, by what they are of.
    pub(super) rates: HashMap<Of, (u64, u64)>,
}

/// A container. Its bytes are missing where the supervisor does not count them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) id: u64,
    pub(super) network: String,
    pub(super) pid: u32,
    pub(super) program: String,
    #[serde(default)]
    pub(super) command: Vec<String>,
    pub(super) started: u64,
    pub(super) sockets: usize,
    #[serde(default)]
    pub(super) rx_bytes: u64,
    #[serde(default)]
    pub(super) tx_bytes: u64,
}

/// What has a rate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Of {
    /// All peers together.
    All,
    /// All peers of a network.
    Network(String),
    /// A peer, by network and key.
    Peer(String, String),
    /// A container.
    Container(u64),
}

/// News for the view.
#[derive(Debug)]
pub(super) enum News {
    /// A new sample.
    Sample(Box<Sample>),
    /// The supervisor could not be asked.
    Lost(String),
}

/// The thread that asks. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sampler {
    news: Receiver<News>,
    _end: Sender<()>,
}

/// News that wait to be shown: more would be old when they are.
const WAITING: usize = 2;

impl Sampler {
    /// Asks once, to see whether there is a supervisor, and then each `interval`.
    pub(super) fn start(client: Client, interval: Duration) -> Result<Self, Failure> {
        let first = ask(&client)?;
        let (give, news) = sync_channel(WAITING);
        let (end, ended) = channel();
        std::thread::Builder::new()
            .spawn(move || repeat(&client, interval, first, &give, &ended))
            .map_err(|error| Failure::other(format!("no thread can be started: {error}")))?;
        Ok(Self { news, _end: end })
    }

    /// What there is to show.
    pub(super) fn take(&self) -> Option<News> {
        self.news.try_recv().ok()
    }
}

#[expect(clippy::disallowed_methods, reason = "rates are of real time")]
fn repeat(
    client: &Client,
    interval: Duration,
    first: Sample,
    give: &SyncSender<News>,
    ended: &Receiver<()>,
) {
    let mut before = (Instant::now(), counters(&first));
    let mut news = News::Sample(Box::new(first));
    loop {
        match give.try_send(news) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return,
        }
        match ended.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        news = match ask(client) {
            Ok(mut sample) => {
                let now = Instant::now();
                let counters = counters(&sample);
                sample.rates = rates(&before.1, &counters, now.duration_since(before.0));
                before = (now, counters);
                News::Sample(Box::new(sample))
            }
            Err(error) => News::Lost(error.to_string()),
        };
    }
}

fn ask(client: &Client) -> Result<Sample, ClientError> {
    let networks: Vec<Network> = typed(client, &Command::NetworkList {})?;
    let mut peers = Vec::new();
    for network in &networks {
        let command = Command::PeerList {
            network: network.name.clone(),
            query: PeersQuery::default(),
        };
        let of: Vec<Peer> = typed(client, &command)?;
        peers.extend(of.into_iter().map(|peer| (network.name.clone(), peer)));
    }
    Ok(Sample {
        status: typed(client, &Command::Status {})?,
        networks,
        peers,
        containers: typed(client, &Command::ContainerList {})?,
        now: super::super::human::now(),
        rates: HashMap::new(),
    })
}

fn typed<T: DeserializeOwned>(client: &Client, command: &Command) -> Result<T, ClientError> {
    serde_json::from_value(client.json(command)?)
        .map_err(|error| ClientError::NotUnderstood(error.to_string()))
}

/// Bytes received and sent so far, by what they are of.
type Counters = HashMap<Of, (u64, u64)>;

pub(super) fn counters(sample: &Sample) -> Counters {
    let mut counters = Counters::new();
    for (network, peer) in &sample.peers {
        let bytes = (peer.rx_bytes, peer.tx_bytes);
        counters.insert(Of::Peer(network.clone(), peer.public_key.clone()), bytes);
        for of in [Of::Network(network.clone()), Of::All] {
            let sum = counters.entry(of).or_default();
            *sum = (sum.0.saturating_add(bytes.0), sum.1.saturating_add(bytes.1));
        }
    }
    for container in &sample.containers {
        counters.insert(
            Of::Container(container.id),
            (container.rx_bytes, container.tx_bytes),
        );
    }
    counters
}

/// Bytes each second between two moments. What has been counted anew since (a restart) has no rate.
pub(super) fn rates(before: &Counters, after: &Counters, time: Duration) -> Counters {
    let milliseconds = time.as_millis().max(1);
    let rate = |before: u64, after: u64| {
        let bytes = u128::from(after.checked_sub(before)?);
        u64::try_from(bytes * 1000 / milliseconds).ok()
    };
    let both = |(of, after): (&Of, &(u64, u64))| {
        let before = before.get(of)?;
        Some((
            of.clone(),
            (rate(before.0, after.0)?, rate(before.1, after.1)?),
        ))
    };
    after.iter().filter_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_what_was_there_before() {
        let counters =
            |rx, tx, id| Counters::from([(Of::All, (rx, tx)), (Of::Container(id), (rx, tx))]);
        let half = Duration::from_millis(500);
        let found = rates(&counters(1000, 0, 1), &counters(1500, 10, 2), half);
        assert_eq!(found, Counters::from([(Of::All, (1000, 20))]));
        assert_eq!(
            rates(&counters(9, 9, 1), &counters(0, 0, 1), half),
            Counters::new()
        );
        assert_eq!(
            rates(
                &counters(0, 0, 1),
                &counters(u64::MAX, 0, 1),
                Duration::ZERO
            )
            .get(&Of::All),
            None
        );
    }
}
