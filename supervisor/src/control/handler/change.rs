// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PATCH: from JSON to values.

use netcon_api::ApiError;
use netcon_api::model::{ChangeNetwork, ChangePeer};
use netcon_api::wgquick;
use netcon_overlay::PresharedKey;

use super::super::service::{ChangedNetwork, ChangedPeer};
use super::{address, invalid, network_name, parse_key, prefix};

/// What is to change of a network.
pub(super) fn network(request: ChangeNetwork) -> Result<ChangedNetwork, ApiError> {
    Ok(ChangedNetwork {
        name: request.name.as_deref().map(network_name).transpose()?,
        addresses: request
            .addresses
            .map(|all| all.iter().map(|text| address(text)).collect())
            .transpose()?,
        mtu: request.mtu,
        raw_sockets: request.raw_sockets,
    })
}

/// What is to change of a peer.
pub(super) fn peer(request: ChangePeer) -> Result<ChangedPeer, ApiError> {
    Ok(ChangedPeer {
        name: request.name,
        preshared_key: request.preshared_key.try_map(|text| {
            parse_key(&text).map(|key| PresharedKey::from_bytes(*key.as_bytes()))
        })?,
        endpoint: request.endpoint.try_map(|text| {
            if wgquick::is_endpoint(&text) {
                Ok(text)
            } else {
                Err(invalid(format!(
                    "{text:?} is no endpoint: write host:port or [address]:port."
                )))
            }
        })?,
        allowed_ips: request
            .allowed_ips
            .map(|all| all.iter().map(|text| prefix(text)).collect())
            .transpose()?,
        persistent_keepalive: request.persistent_keepalive,
        reserved: request.reserved,
    })
}
