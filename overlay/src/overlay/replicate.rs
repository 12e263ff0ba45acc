// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets for many: WireGuard has no medium that carries one packet to all, so each peer gets a copy of its own.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{NetworkIndex, Overlay};
use crate::ecn::Ecn;
use crate::ip::Header;
use crate::peer::PeerId;
use crate::wireguard::sealed_len;

/// To whom a packet goes, beside the peer to whom its destination belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recipients<'a> {
    /// The peers to whom these addresses belong.
    OwnersOf(&'a [IpAddr]),
    /// Every peer of the network that has an endpoint.
    Everyone,
    /// Of those, the ones with whom there is a session.
    Awake,
}

impl Overlay {
    /// Copies of one packet, at most.
    pub const MAX_REPLICAS: usize = 256;
    /// Peers that are looked at for one packet.
    const MAX_LOOKED_AT: usize = 4 * Self::MAX_REPLICAS;

    /// Seals a copy of an IP packet for each recipient and gives it to `send`, with its destination and congestion mark; a peer
    /// gets one copy, however many of its addresses are named. What must wait for a handshake is queued as by
    /// [`Self::encapsulate`], and what a path does not carry is dropped and counted. Of more than [`Self::MAX_REPLICAS`]
    /// recipients the first get a copy, in the order of the addresses or of the peers' keys. `scratch` is memory to work in. Returns
    /// the number of recipients; 0 for what is no packet of the network. Call [`Self::poll_datagram`] afterwards.
    pub fn replicate(
        &mut self,
        (now, unix): (Instant, Duration),
        index: NetworkIndex,
        packet: &[u8],
        to: Recipients<'_>,
        scratch: &mut Vec<u8>,
        mut send: impl FnMut(SocketAddr, Ecn, &[u8]),
    ) -> usize {
        let len = packet.len();
        let header = Header::parse(packet).filter(|header| header.total_len == len);
        let (Some(header), Some(network)) = (header, self.networks.get(&index)) else {
            return 0;
        };
        if len > network.mtu {
            return 0;
        }
        let mtu = network.mtu;
        let recipients = self.recipients(now, index, header.destination, to);
        let ecn = Ecn::of(packet);
        for &id in &recipients {
            let Some(peer) = self.peers.get_mut(id) else {
                continue;
            };
            scratch.clear();
            scratch.resize(sealed_len(len, mtu), 0);
            scratch[Self::HEADROOM..Self::HEADROOM + len].copy_from_slice(packet);
            let mut env = self.common.env(now, unix, id);
            let sealed = peer.tunnel.encapsulate(&mut env, scratch, len);
            self.agenda.settle(now, id, peer);
            if let Ok(endpoint) = sealed {
                send(endpoint, ecn, scratch);
            }
        }
        recipients.len()
    }

    fn recipients(
        &self,
        now: Instant,
        index: NetworkIndex,
        destination: IpAddr,
        to: Recipients<'_>,
    ) -> Vec<PeerId> {
        let Some(network) = self.networks.get(&index) else {
            return Vec::new();
        };
        let mut ids: Vec<PeerId> = network.routes.lookup(destination).into_iter().collect();
        match to {
            Recipients::OwnersOf(addresses) => {
                let addresses = addresses.iter().take(Self::MAX_LOOKED_AT);
                ids.extend(addresses.filter_map(|address| network.routes.lookup(*address)));
            }
            Recipients::Everyone | Recipients::Awake => {
                let peers = network.peers.values().take(Self::MAX_LOOKED_AT);
                ids.extend(peers.copied().filter(|id| {
                    self.peers.get(*id).is_some_and(|peer| {
                        peer.tunnel.endpoint().is_some()
                            && (to == Recipients::Everyone || peer.tunnel.can_send(now))
                    })
                }));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        ids.retain(|id| seen.insert(*id));
        ids.truncate(Self::MAX_REPLICAS);
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::super::PeerConfig;
    use super::*;
    use crate::event::Received;
    use crate::key::PrivateKey;
    use crate::testing::origin;

    const UNIX: Duration = Duration::from_secs(1_700_000_000);
    const NET: NetworkIndex = NetworkIndex(0);

    fn at(number: usize) -> SocketAddr {
        format!("192.0.2.{}:1", number + 1).parse().unwrap()
    }

    fn inner(number: usize) -> IpAddr {
        format!("10.0.0.{}", number + 1).parse().unwrap()
    }

    /// Overlays of a full mesh; the last one is nobody's to call.
    fn mesh(now: Instant, count: usize) -> Vec<Overlay> {
        let key = |number: usize| PrivateKey::from_random([u8::try_from(number).unwrap() + 1; 32]);
        let mut sides = Vec::new();
        for here in 0..count {
            let mut overlay = Overlay::new([u8::try_from(here).unwrap(); 32]);
            overlay.add_network(NET, key(here), 1420).unwrap();
            for there in (0..count).filter(|there| *there != here) {
                let config = PeerConfig {
                    public_key: key(there).public(),
                    preshared_key: None,
                    endpoint: (there + 1 < count).then(|| at(there)),
                    allowed_ips: vec![
                        format!("{}/32", inner(there)).parse().unwrap(),
                        format!("fd00::{}/128", there + 1).parse().unwrap(),
                    ],
                    persistent_keepalive: None,
                    reserved: [0; 3],
                };
                overlay.set_peer(now, NET, config).unwrap();
            }
            sides.push(overlay);
        }
        sides
    }

    fn packet(to: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[3] = 28;
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[16..20].copy_from_slice(&to);
        packet
    }

    /// Sends from side 0 and counts the packets that each side gets.
    fn spread(
        sides: &mut [Overlay],
        now: Instant,
        packet: &[u8],
        to: Recipients<'_>,
    ) -> Vec<usize> {
        let mut wire = Vec::new();
        let mut scratch = Vec::new();
        sides[0].replicate(
            (now, UNIX),
            NET,
            packet,
            to,
            &mut scratch,
            |to, _, bytes| wire.push((at(0), to, bytes.to_vec())),
        );
        let mut got = vec![0; sides.len()];
        let mut out = Vec::new();
        loop {
            for (here, side) in sides.iter_mut().enumerate() {
                while let Some(to) = side.poll_transmit(now, UNIX, &mut out) {
                    wire.push((at(here), to, out.clone()));
                }
            }
            if wire.is_empty() {
                return got;
            }
            for (from, to, mut bytes) in std::mem::take(&mut wire) {
                let Some(there) = (0..sides.len()).find(|there| at(*there) == to) else {
                    continue;
                };
                let received = sides[there].handle_datagram(now, UNIX, from, &mut bytes);
                if let Received::Packet { packet: opened, .. } = received {
                    assert_eq!(opened, packet);
                    got[there] += 1;
                }
            }
        }
    }

    #[test]
    fn each_recipient_gets_one_copy() {
        let now = origin();
        let mut sides = mesh(now, 5);
        let group = packet([239, 1, 1, 1]);
        let awake = spread(&mut sides, now, &group, Recipients::Awake);
        assert_eq!(awake, [0; 5], "nobody is awake");
        let both: [IpAddr; 4] = [
            inner(2),
            "fd00::3".parse().unwrap(),
            inner(2),
            "192.0.2.77".parse().unwrap(),
        ];
        let members = spread(&mut sides, now, &group, Recipients::OwnersOf(&both));
        assert_eq!(members, [0, 0, 1, 0, 0]);
        let awake = spread(&mut sides, now, &group, Recipients::Awake);
        assert_eq!(awake, [0, 0, 1, 0, 0]);
        let everyone = spread(&mut sides, now, &group, Recipients::Everyone);
        assert_eq!(everyone, [0, 1, 1, 1, 0], "the last has no endpoint");
        // To an address that a peer has, it goes once.
        let plain = packet([10, 0, 0, 2]);
        let owner = spread(&mut sides, now, &plain, Recipients::OwnersOf(&[]));
        assert_eq!(owner, [0, 1, 0, 0, 0]);
        let mut longer = packet([239, 1, 1, 1]);
        longer.push(0);
        let mut send = |_: SocketAddr, _: Ecn, _: &[u8]| panic!("no packet");
        let count = sides[0].replicate(
            (now, UNIX),
            NET,
            &longer,
            Recipients::Everyone,
            &mut Vec::new(),
            &mut send,
        );
        assert_eq!(count, 0);
    }

    #[test]
    fn copies_are_bounded() {
        let now = origin();
        let mut overlay = Overlay::new([9; 32]);
        let key = |number: u16| {
            let [a, b] = number.to_be_bytes();
            let mut bytes = [7; 32];
            bytes[8..10].copy_from_slice(&[a, b]);
            PrivateKey::from_random(bytes)
        };
        overlay.add_network(NET, key(999), 1420).unwrap();
        for number in 0..300 {
            let config = PeerConfig {
                public_key: key(number).public(),
                preshared_key: None,
                endpoint: Some(at(1)),
                allowed_ips: vec![
                    format!("10.0.{}.{}", number / 200, number % 200)
                        .parse()
                        .unwrap(),
                ],
                persistent_keepalive: None,
                reserved: [0; 3],
            };
            overlay.set_peer(now, NET, config).unwrap();
        }
        let count = overlay.replicate(
            (now, UNIX),
            NET,
            &packet([239, 1, 1, 1]),
            Recipients::Everyone,
            &mut Vec::new(),
            |_, _, _| {},
        );
        assert_eq!(count, Overlay::MAX_REPLICAS);
    }
}
