// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table that `wg show INTERFACE dump` prints (wg(8)), for programs that read it.

use std::fmt::Write;

use crate::model::{Network, Peer};

/// The first line is the interface: private key, public key, port, mark; each further one a peer: public key, preshared key,
/// endpoint, allowed IPs, latest handshake (seconds since the Unix epoch), bytes received and sent, keepalive. Columns are
/// separated by tabs. Secret keys are `(hidden)`: who needs them exports the network.
#[must_use]
pub fn dump(network: &Network, peers: &[Peer]) -> String {
    let Network {
        public_key,
        listen_port,
        ..
    } = network;
    let mut text = format!("{HIDDEN}\t{public_key}\t{listen_port}\toff\n");
    for peer in peers {
        let Peer {
            public_key,
            rx_bytes,
            tx_bytes,
            ..
        } = peer;
        let preshared = if peer.has_preshared_key { HIDDEN } else { NONE };
        let endpoint = peer.endpoint.as_deref().unwrap_or(NONE);
        let allowed = match peer.allowed_ips.as_slice() {
            [] => NONE.to_owned(),
            ips => ips.join(","),
        };
        let handshake = peer.last_handshake.unwrap_or(0);
        let keepalive = peer
            .persistent_keepalive
            .map_or_else(|| "off".to_owned(), |seconds| seconds.to_string());
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{public_key}\t{preshared}\t{endpoint}\t{allowed}\t{handshake}\t{rx_bytes}\t{tx_bytes}\t{keepalive}"
        );
    }
    text
}

const HIDDEN: &str = "(hidden)";
const NONE: &str = "(none)";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_those_of_wg() {
        let network: Network = serde_json::from_value(json!({
            "id": "1122334455667788", "name": "demo", "status": "OK", "mtu": 1420, "assignedAddresses": [],
            "routes": [], "publicKey": "OWN=", "listenPort": 9993, "peers": 2,
        }))
        .unwrap();
        let quiet: Peer = serde_json::from_value(json!({
            "name": "a\tb", "publicKey": "A=", "allowedIps": [], "hasPresharedKey": false, "rxBytes": 0, "txBytes": 0,
        }))
        .unwrap();
        let busy = Peer {
            public_key: "B=".into(),
            endpoint: Some("[2001:db8::1]:9993".into()),
            allowed_ips: vec!["10.77.0.2/32".into(), "fd77::2/128".into()],
            persistent_keepalive: Some(25),
            has_preshared_key: true,
            last_handshake: Some(1_700_000_000),
            rx_bytes: 12,
            tx_bytes: 34,
            ..quiet.clone()
        };
        assert_eq!(
            dump(&network, &[quiet, busy]),
            "(hidden)\tOWN=\t9993\toff\n\
             A=\t(none)\t(none)\t(none)\t0\t0\t0\toff\n\
             B=\t(hidden)\t[2001:db8::1]:9993\t10.77.0.2/32,fd77::2/128\t1700000000\t12\t34\t25\n"
        );
    }
}
