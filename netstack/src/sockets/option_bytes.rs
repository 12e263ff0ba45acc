// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Options whose value is no `int`, or that are refused in a way of their own.

use super::names::*;
use super::{Kind, OptionValue};
use crate::errno::Errno;

/// Longest IP options, bytes (RFC 791 §3.1).
const IP_OPTIONS_MAX: usize = 40;
/// Lengths of a fast open key: one, or a primary and a backup one.
const FASTOPEN_KEYS: [usize; 2] = [16, 32];
/// struct sock_txtime: a clock and flags; the only clock without privileges is CLOCK_MONOTONIC.
const TXTIME_LEN: usize = 8;
const CLOCK_MONOTONIC: i32 = 1;
const TXTIME_FLAGS: i32 = 3;
/// struct in6_pktinfo, bytes.
const PKTINFO_LEN: usize = 20;
/// struct cmsghdr, bytes: the least that is looked at.
const CMSG_LEN: usize = 16;

/// Values that are kept and shown again.
#[derive(Debug, Clone, Default)]
pub(super) struct Bytes {
    /// IP_OPTIONS: nothing but fillers.
    ip: Vec<u8>,
    /// TCP_FASTOPEN_KEY. Without effect: no cookie is granted.
    key: Vec<u8>,
    /// SO_TXTIME: clock, flags. Without effect, as on an interface whose queue does not look at it.
    txtime: (i32, i32),
}

impl Bytes {
    /// What setsockopt(2) answers; `None`: not an option of this kind.
    pub(super) fn set(
        &mut self,
        kind: Kind,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Option<Result<(), Errno>> {
        let stream = kind == Kind::Stream;
        Some(match (level, name) {
            // Advice on a neighbour: there is none to be advised on.
            (SOL_SOCKET, SO_CNX_ADVICE) => Ok(()),
            (SOL_SOCKET, SO_TXTIME) => self.set_txtime(value),
            (SOL_IP, IP_OPTIONS) => fillers(value).map(|options| self.ip = options),
            // Of raw sockets (ip(7)).
            (SOL_IP, IP_ROUTER_ALERT) => Err(Errno::EINVAL),
            // A number of an interface in network byte order: none may be asked for.
            (SOL_IP, IP_UNICAST_IF) | (SOL_IPV6, IPV6_UNICAST_IF) if value.len() != 4 => {
                Err(Errno::EINVAL)
            }
            // Segments are not signed, connections not repaired.
            (SOL_TCP, TCP_MD5SIG | TCP_MD5SIG_EXT | TCP_REPAIR_OPTIONS) => Err(Errno::EINVAL),
            (SOL_TCP, TCP_REPAIR_WINDOW | TCP_AO_REPAIR) => Err(Errno::EPERM),
            (SOL_TCP, TCP_FASTOPEN_KEY) => {
                if FASTOPEN_KEYS.contains(&value.len()) {
                    self.key = value.to_vec();
                    Ok(())
                } else {
                    Err(Errno::EINVAL)
                }
            }
            // A header that says how long it is: nothing of ours is that.
            (SOL_IPV6, IPV6_PKTOPTIONS) if value.len() >= CMSG_LEN => Err(Errno::EINVAL),
            (SOL_IPV6, IPV6_PKTOPTIONS) => Ok(()),
            (SOL_IPV6, IPV6_FLOWLABEL_MGR) => Err(Errno::EINVAL),
            (SOL_IPV6, IPV6_PKTINFO) if value.len() >= PKTINFO_LEN => Ok(()),
            (SOL_IPV6, IPV6_PKTINFO) => Err(Errno::EINVAL),
            (SOL_IPV6, IPV6_RTHDR) if value.is_empty() => Ok(()),
            (SOL_IPV6, IPV6_RTHDR) => Err(Errno::EINVAL),
            // ipv6(7): headers of every packet are for privileged programs.
            (SOL_IPV6, IPV6_HOPOPTS | IPV6_RTHDRDSTOPTS | IPV6_DSTOPTS) => Err(Errno::EPERM),
            (SOL_IP, IP_PKTOPTIONS) if stream => Err(Errno::ENOPROTOOPT),
            _ => return None,
        })
    }

    /// What getsockopt(2) answers; `None`: not an option of this kind.
    pub(super) fn get(
        &self,
        kind: Kind,
        level: i32,
        name: i32,
    ) -> Option<Result<OptionValue, Errno>> {
        let stream = kind == Kind::Stream;
        let nothing = Ok(OptionValue::bytes(Vec::new()));
        Some(match (level, name) {
            (SOL_SOCKET, SO_TXTIME) => {
                let (clock, flags) = self.txtime;
                let fields = [clock.to_ne_bytes(), flags.to_ne_bytes()];
                Ok(OptionValue::bytes(fields.concat()))
            }
            (SOL_IP, IP_OPTIONS) => Ok(OptionValue::bytes(self.ip.clone())),
            (SOL_IP, IP_IPSEC_POLICY | IP_XFRM_POLICY) => Err(Errno::ENOPROTOOPT),
            (SOL_IP, IP_PKTOPTIONS) if stream => nothing,
            (SOL_TCP, TCP_FASTOPEN_KEY) => Ok(OptionValue::bytes(self.key.clone())),
            (SOL_TCP, TCP_ULP | TCP_SAVED_SYN | TCP_CC_INFO) => nothing,
            // What only a connection under repair has; what needs memory of the kernel's.
            (
                SOL_TCP,
                TCP_REPAIR_QUEUE | TCP_QUEUE_SEQ | TCP_REPAIR_WINDOW | TCP_ZEROCOPY_RECEIVE,
            ) => Err(Errno::EINVAL),
            (SOL_TCP, TCP_AO_REPAIR) => Err(Errno::EPERM),
            // Not one of several paths: there is no MPTCP.
            (SOL_TCP, TCP_IS_MPTCP) => Ok(OptionValue::int(0)),
            (SOL_IPV6, IPV6_FLOWLABEL_MGR) => Err(Errno::EINVAL),
            (SOL_IPV6, IPV6_HOPOPTS | IPV6_RTHDRDSTOPTS | IPV6_RTHDR | IPV6_DSTOPTS) => nothing,
            (SOL_IPV6, IPV6_PKTOPTIONS) if stream => nothing,
            _ => return None,
        })
    }

    fn set_txtime(&mut self, value: &[u8]) -> Result<(), Errno> {
        if value.len() != TXTIME_LEN {
            return Err(Errno::EINVAL);
        }
        let (clock, flags) = (
            super::options::int_at(value, 0)?,
            super::options::int_at(value, 4)?,
        );
        if flags & !TXTIME_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        if clock != CLOCK_MONOTONIC {
            return Err(Errno::EPERM);
        }
        self.txtime = (clock, flags);
        Ok(())
    }
}

/// IP options of nothing but fillers (RFC 791 §3.1: no operation, end of list): what follows the end is made 0, the length a
/// multiple of four. Others would have to be sent.
fn fillers(value: &[u8]) -> Result<Vec<u8>, Errno> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    if value.len() > IP_OPTIONS_MAX {
        return Err(Errno::EINVAL);
    }
    let used = value
        .iter()
        .take_while(|byte| **byte == NO_OPERATION)
        .count();
    if value.get(used).is_some_and(|byte| *byte != END) {
        return Err(Errno::EINVAL);
    }
    let mut options = value[..used].to_vec();
    options.resize(value.len().next_multiple_of(4), END);
    Ok(options)
}
