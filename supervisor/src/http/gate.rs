// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whose requests are answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use netcon_api::server::Gate;
use netcon_api::{ApiError, Caller, Code};

use crate::clock;
use crate::control::Service;

/// Time for the head of a request of the user.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// The same of a stranger, who may be one that only wants to hold a place.
const STRANGERS_HEAD_TIME: Duration = Duration::from_secs(5);
/// How long it counts that no container holds the other end of a connection. To look means to go through all descriptors of
/// all containers.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A caller as the kernel knows it. `inode` is of its end of a loopback connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    /// The user of this supervisor.
    Owner { uid: u32, inode: Option<u64> },
    /// Another user.
    Stranger { uid: u32, inode: Option<u64> },
    /// The kernel does not say.
    Unknown,
}

/// The gate of one connection.
pub(super) struct Guard {
    service: Arc<Service>,
    who: Who,
    /// When no container held the other end.
    looked: Mutex<Option<Instant>>,
}

impl Guard {
    pub(super) fn new(service: Arc<Service>, who: Who) -> Self {
        Self {
            service,
            who,
            looked: Mutex::default(),
        }
    }

    /// The network of a container that holds the other end. A socket goes from process to process: looked for before the first
    /// request, and then anew where the last look is [`LOOK_AGAIN`] old.
    fn holder(&self, inode: u64) -> Option<String> {
        let now = clock::now();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK_AGAIN) {
            return None;
        }
        let found = self.service.runtime().network_of_socket(inode);
        *looked = found.is_none().then_some(now);
        found
    }
}

impl Gate for Guard {
    fn admit(&self, tokens: &[&[u8]]) -> Result<Caller, ApiError> {
        let (uid, inode) = match self.who {
            Who::Owner { uid, inode } | Who::Stranger { uid, inode } => (uid, inode),
            Who::Unknown => (u32::MAX, None),
        };
        if let Some(network) = inode.and_then(|inode| self.holder(inode)) {
            return Err(forbidden(&format!(
                "A program in network {network} may not use the control API; use it from outside."
            )));
        }
        match self.who {
            // A token that is presented counts, of the user too: through a proxy of his, others may ask.
            Who::Owner { .. } if tokens.is_empty() => Ok(Caller { uid }),
            Who::Owner { .. } | Who::Stranger { .. } | Who::Unknown => {
                self.by_token(tokens, Caller { uid })
            }
        }
    }

    fn answered(&self, status: u16) {
        self.service.count_request(status);
    }

    fn head_time(&self) -> Duration {
        match self.who {
            Who::Owner { .. } => HEAD_TIME,
            Who::Stranger { .. } | Who::Unknown => STRANGERS_HEAD_TIME,
        }
    }
}

impl Guard {
    fn by_token(&self, tokens: &[&[u8]], caller: Caller) -> Result<Caller, ApiError> {
        if tokens.is_empty() {
            return Err(forbidden(match self.who {
                Who::Owner { .. } | Who::Stranger { .. } => {
                    "This netcon-supervisor is another user's; start one of your own, or present its token."
                }
                Who::Unknown => {
                    "The netcon-supervisor cannot tell who you are; use its unix socket, or present its token."
                }
            }));
        }
        // Each is compared, whatever the others are.
        let right = tokens
            .iter()
            .filter(|token| self.service.is_token(token))
            .count();
        if right == tokens.len() {
            Ok(caller)
        } else {
            Err(ApiError::new(
                Code::Unauthorized,
                "The token is wrong; its user gets it with: netcon token",
            ))
        }
    }
}

fn forbidden(sentence: &str) -> ApiError {
    ApiError::new(Code::Forbidden, sentence)
}
