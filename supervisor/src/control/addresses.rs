// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Choosing addresses: random private prefixes for a network, the next free address for a peer.
//! Pure; randomness is given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::state::{InterfaceAddress, NetworkConfig};

/// Own address in a random 10.x.y.0/24 (RFC 1918): its `.1`.
#[must_use]
pub fn random_v4([x, y]: [u8; 2]) -> InterfaceAddress {
    InterfaceAddress::new(Ipv4Addr::new(10, x, y, 1).into(), 24)
        .expect("every 10.x.y.1 is a host address")
}

/// Own address in a random fdxx:…::/64 (RFC 4193, section 3: 40 bits of global id, 16 of subnet): its `::1`.
#[must_use]
pub fn random_v6(random: [u8; 7]) -> InterfaceAddress {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    octets[15] = 1;
    InterfaceAddress::new(Ipv6Addr::from(octets).into(), 64)
        .expect("every fd…::1 is a host address")
}

/// The lowest address free in each of the network's prefixes, of this host or of peers; in a
/// prefix that is full there is none.
#[must_use]
pub fn next_free(network: &NetworkConfig) -> Vec<InterfaceAddress> {
    network
        .addresses
        .iter()
        .filter_map(|own| {
            let address = next_free_in(network, *own)?;
            InterfaceAddress::new(address, own.length()).ok()
        })
        .collect()
}

/// In the order of addresses, past everything taken: the number of steps is bounded by the number of peers' prefixes,
/// whatever the size of the network.
fn next_free_in(network: &NetworkConfig, own: InterfaceAddress) -> Option<IpAddr> {
    let (first, last) = hosts(own);
    let ours = network
        .addresses
        .iter()
        .filter(|other| own.contains(other.address()))
        .map(|other| (number(other.address()), number(other.address())));
    let theirs = network
        .peers
        .iter()
        .flat_map(|peer| &peer.allowed_ips)
        // One that holds the whole network is a route through that peer and takes nothing.
        .filter(|prefix| prefix.len() > own.length() && own.contains(prefix.addr()))
        .map(|prefix| (number(prefix.addr()), last_of(prefix.addr(), prefix.len())));
    let mut taken: Vec<(u128, u128)> = ours.chain(theirs).collect();
    taken.sort_unstable();
    let mut candidate = first;
    for (from, to) in taken {
        if from > candidate {
            break;
        }
        if to >= candidate {
            candidate = to.checked_add(1)?;
        }
    }
    (candidate <= last).then(|| from_number(candidate, own.address()))
}

/// First and last host address: not the network's own, nor the broadcast address of IPv4.
fn hosts(own: InterfaceAddress) -> (u128, u128) {
    let first = number(own.network());
    let last = last_of(own.network(), own.length());
    (
        first.saturating_add(1),
        last - u128::from(own.address().is_ipv4() && last > first),
    )
}

/// The last address of a prefix; host bits of `address` are zero.
fn last_of(address: IpAddr, length: u8) -> u128 {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    number(address)
        | u128::MAX
            .checked_shr(u32::from(128 - bits + length))
            .unwrap_or(0)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Back again, in the family of `like`.
fn from_number(number: u128, like: IpAddr) -> IpAddr {
    match (like, u32::try_from(number)) {
        (IpAddr::V4(_), Ok(bits)) => Ipv4Addr::from_bits(bits).into(),
        (IpAddr::V4(_), Err(_)) => Ipv4Addr::BROADCAST.into(),
        (IpAddr::V6(_), _) => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use netcon_overlay::PrivateKey;

    use super::*;
    use crate::state::{DEFAULT_MTU, NetworkId, PeerEntry, Version};

    fn network(addresses: &[&str], taken: &[&str]) -> NetworkConfig {
        let private_key = PrivateKey::from_random([1; 32]);
        NetworkConfig {
            version: Version::One,
            id: NetworkId(1),
            name: "demo".parse().unwrap(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            mtu: DEFAULT_MTU,
            raw_sockets: true,
            wg_quick: None,
            peers: vec![PeerEntry {
                name: None,
                public_key: private_key.public(),
                preshared_key: None,
                endpoint: None,
                allowed_ips: taken.iter().map(|text| text.parse().unwrap()).collect(),
                persistent_keepalive: None,
                reserved: [0; 3],
            }],
            private_key,
        }
    }

    fn free(addresses: &[&str], taken: &[&str]) -> Vec<String> {
        next_free(&network(addresses, taken))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn the_lowest_free_address_is_next() {
        let own = ["10.77.0.1/24", "fd00::1/64"];
        assert_eq!(free(&own, &[]), ["10.77.0.2/24", "fd00::2/64"]);
        assert_eq!(
            free(&own, &["10.77.0.2/32", "fd00::2/128"]),
            ["10.77.0.3/24", "fd00::3/64"]
        );
        assert_eq!(
            free(&own, &["10.77.0.3/32"]),
            ["10.77.0.2/24", "fd00::2/64"]
        );
        assert_eq!(free(&["10.77.0.9/24"], &[]), ["10.77.0.1/24"]);
        assert_eq!(
            free(&own, &["10.77.0.0/28", "fd00::/65"]),
            ["10.77.0.16/24", "fd00::8000:0:0:0/64"]
        );
    }

    #[test]
    fn routes_through_a_peer_take_nothing() {
        assert_eq!(
            free(&["10.77.0.1/24"], &["0.0.0.0/0", "10.77.0.0/24"]),
            ["10.77.0.2/24"]
        );
    }

    #[test]
    fn full_networks_have_none() {
        assert_eq!(free(&["10.77.0.1/30"], &["10.77.0.2/32"]), [""; 0]);
        assert_eq!(free(&["10.77.0.1/32", "fd00::1/128"], &[]), [""; 0]);
        assert_eq!(free(&["255.255.255.1/0"], &[]), ["0.0.0.1/0"]);
    }

    #[test]
    fn random_prefixes_are_private() {
        assert_eq!(random_v4([3, 200]).to_string(), "10.3.200.1/24");
        assert_eq!(
            random_v6([1, 2, 3, 4, 5, 6, 7]).to_string(),
            "fd01:203:405:607::1/64"
        );
    }
}
