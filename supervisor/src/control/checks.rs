// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a network must be before it is written or run, whoever describes it: a request, an imported file, or a state file
//! that a person has edited.

use std::collections::{HashMap, HashSet};

use netcon_overlay::IpPrefix;

use super::endpoints::is_endpoint;
use super::service::ControlError;
use crate::state::{DEFAULT_MTU, InterfaceAddress, NetworkConfig, NetworkName, PeerEntry};

/// What every IPv6 link carries (RFC 8200, section 5), bytes.
const SMALLEST_MTU: u16 = 1280;
/// Jumbo frames; well below what a UDP datagram holds, bytes.
const LARGEST_MTU: u16 = 9000;

/// Names that paths of the control API have already.
const RESERVED: [&str; 1] = ["import"];

/// A name that does not stand for something else.
///
/// # Errors
/// [`ControlError::Invalid`] for one that does.
pub(super) fn check_name(name: &NetworkName) -> Result<(), ControlError> {
    if RESERVED.contains(&name.as_str()) {
        return Err(ControlError::Invalid(format!(
            "No network can be named {name}: that is a path of the control API."
        )));
    }
    Ok(())
}

/// The MTU that is wanted, or the usual one.
///
/// # Errors
/// [`ControlError::Invalid`] outside the range.
pub(super) fn check_mtu(mtu: Option<u16>) -> Result<u16, ControlError> {
    let mtu = mtu.unwrap_or(DEFAULT_MTU);
    if (SMALLEST_MTU..=LARGEST_MTU).contains(&mtu) {
        Ok(mtu)
    } else {
        Err(ControlError::Invalid(format!(
            "An MTU of {mtu} is not possible; it must be from {SMALLEST_MTU} to {LARGEST_MTU} bytes."
        )))
    }
}

/// One own address of each family: a program that asks for its address must get an answer.
///
/// # Errors
/// [`ControlError::Invalid`] for a second one.
pub(super) fn check_addresses(addresses: &[InterfaceAddress]) -> Result<(), ControlError> {
    for (index, own) in addresses.iter().enumerate() {
        let first = addresses[..index]
            .iter()
            .find(|other| other.address().is_ipv4() == own.address().is_ipv4());
        if let Some(first) = first {
            return Err(ControlError::Invalid(format!(
                "This host has {first} already; give it one IPv4 and one IPv6 address, not {own} as well."
            )));
        }
    }
    Ok(())
}

/// What must hold between the peers of a network.
///
/// # Errors
/// [`ControlError`] about the first peer that cannot be right.
pub(super) fn check_peers(config: &NetworkConfig) -> Result<(), ControlError> {
    let own = config.private_key.public();
    let mut keys = HashSet::with_capacity(config.peers.len());
    let mut holders: HashMap<IpPrefix, &PeerEntry> = HashMap::with_capacity(config.peers.len());
    for peer in &config.peers {
        if peer.public_key == own {
            return Err(ControlError::Invalid(
                "That is this host's own public key.".to_owned(),
            ));
        }
        if !keys.insert(peer.public_key) {
            return Err(ControlError::Conflict(format!(
                "Network {} has a peer with that public key already.",
                config.name
            )));
        }
        if let Some(endpoint) = &peer.endpoint
            && !is_endpoint(endpoint)
        {
            return Err(ControlError::Invalid(format!(
                "{endpoint:?} is not an endpoint; write HOST:PORT or [IPV6]:PORT."
            )));
        }
        for prefix in &peer.allowed_ips {
            let holder = *holders.entry(*prefix).or_insert(peer);
            if holder.public_key != peer.public_key {
                return Err(ControlError::Conflict(format!(
                    "{prefix} belongs to peer {} already.",
                    holder
                        .name
                        .clone()
                        .unwrap_or_else(|| holder.public_key.to_string())
                )));
            }
            if config
                .addresses
                .iter()
                .any(|own| *prefix == IpPrefix::host(own.address()))
            {
                return Err(ControlError::Conflict(format!(
                    "{prefix} is this host's own address."
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_address_of_each_family() {
        let parse = |all: &[&str]| -> Vec<InterfaceAddress> {
            all.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert!(check_addresses(&parse(&["10.77.0.1/24", "fd77::1/64"])).is_ok());
        for two in [
            ["10.77.0.1/24", "10.78.0.1/24"],
            ["fd77::1/64", "fd78::1/64"],
        ] {
            let refused = check_addresses(&parse(&two));
            assert!(matches!(refused, Err(ControlError::Invalid(_))), "{two:?}");
        }
    }
}
