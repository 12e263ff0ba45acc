// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may be a container, and of which network.

use std::sync::atomic::Ordering;

use netcon_shim::handover::refusal;

use super::{Service, find, names};
use crate::control::runtime::{Admission, PeerCredentials};

/// Answer to a shim that wants a container.
#[derive(Debug)]
pub enum Admitted {
    /// The notification fd may be handed over.
    Accepted(Admission),
    /// The caller is already in that network.
    Inside {
        /// The network.
        network: String,
    },
    /// No.
    Refused {
        /// One of [`refusal`].
        code: u16,
        /// One sentence for the user.
        sentence: String,
    },
}

impl Service {
    /// Decides about a shim: which network, and whether it may.
    pub fn admit(&self, network: Option<&str>, argv0: Vec<u8>, peer: PeerCredentials) -> Admitted {
        let refused = |code, sentence| Admitted::Refused { code, sentence };
        let inside = self.shared.runtime.network_of(peer.pid);
        let tables = self.lock();
        let wanted = match (network, &inside) {
            (Some(name), _) => match find(&tables, name) {
                Ok(known) => known,
                Err(error) => return refused(refusal::UNKNOWN_NETWORK, error.to_string()),
            },
            (None, Some(inside)) => {
                return Admitted::Inside {
                    network: inside.clone(),
                };
            }
            (None, None) => {
                let mut all = tables.networks.values();
                match (all.next(), all.next()) {
                    (Some(only), None) => only,
                    (None, _) => {
                        return refused(
                            refusal::NETWORK_NOT_NAMED,
                            "There is no network yet; make one with: netcon network create NAME."
                                .to_owned(),
                        );
                    }
                    (Some(_), Some(_)) => {
                        return refused(
                            refusal::NETWORK_NOT_NAMED,
                            format!(
                                "Say which network with --net NAME; there are: {}.",
                                names(&tables)
                            ),
                        );
                    }
                }
            }
        };
        let name = wanted.config.name.to_string();
        match inside {
            Some(inside) if inside == name => return Admitted::Inside { network: name },
            Some(inside) => {
                return refused(
                    refusal::OTHER_NETWORK,
                    format!(
                        "This process lives in network {inside}; a program cannot be in {name} as well."
                    ),
                );
            }
            None => {}
        }
        if let Some(failure) = &wanted.failure {
            return refused(
                refusal::OTHER,
                format!("Network {name} does not run: {failure}"),
            );
        }
        Admitted::Accepted(Admission {
            container: self.next_container.fetch_add(1, Ordering::Relaxed),
            network: name,
            argv0,
            peer,
        })
    }
}
