// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one table of intercepted system calls: which call, under what condition, and who needs the row.
//!
//! The filter is built from it, the supervisor dispatches by its [`Trapped`], the documentation lists it. A filter sees the
//! six argument registers and never memory, so every condition here is one on registers. Arguments that the kernel takes as
//! `int` are compared by their low 32 bits: a dirty upper half must not slip past. What the table does not name is allowed.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::{FOREIGN, NATIVE};

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;

/// A call that reaches the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trapped {
    /// socket(2), AF_INET, AF_INET6 and AF_NETLINK only.
    Socket,
    /// socketpair(2), the same families.
    SocketPair,
    /// connect(2).
    Connect,
    /// bind(2).
    Bind,
    /// listen(2).
    Listen,
    /// accept(2).
    Accept,
    /// accept4(2).
    Accept4,
    /// getsockname(2).
    GetSockName,
    /// getpeername(2).
    GetPeerName,
    /// shutdown(2).
    Shutdown,
    /// getsockopt(2).
    GetSockOpt,
    /// setsockopt(2), except the two time-outs of SOL_SOCKET.
    SetSockOpt,
    /// sendto(2) with an address or a flag an AF_UNIX socket would answer differently.
    SendTo,
    /// recvfrom(2) with an address or a flag an AF_UNIX socket would answer differently.
    RecvFrom,
    /// sendmsg(2).
    SendMsg,
    /// sendmmsg(2).
    SendMMsg,
    /// recvmsg(2).
    RecvMsg,
    /// recvmmsg(2).
    RecvMMsg,
    /// ioctl(2), SIOCOUTQ and the interface range only.
    Ioctl,
    /// pidfd_getfd(2).
    PidfdGetfd,
}

impl Trapped {
    /// The call with this native number; `None` when the filter traps no such call.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        let row = NATIVE.iter().find(|row| row.number == number)?;
        match row.rule {
            Rule::Trap(trapped, _) => Some(trapped),
            Rule::Refuse { .. } => None,
        }
    }
}

/// One intercepted call.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// System call number in the architecture of the table.
    pub number: u32,
    /// Its name in the kernel.
    pub name: &'static str,
    /// What happens to it.
    pub rule: Rule,
    /// Who needs this row.
    pub why: &'static str,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// The supervisor answers it, as far as the condition says.
    Trap(Trapped, When),
    /// It ends with this errno where the condition holds, without reaching anybody; errno 0 is success without effect.
    Refuse {
        /// errno(3), 0 to 4095.
        errno: u16,
        /// Which calls.
        when: When,
    },
}

/// A condition on the argument registers, numbered from 0.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// Each call.
    Always,
    /// The family in argument 0 is an Internet one or AF_NETLINK. AF_UNIX is allowed, any other family is refused with EAFNOSUPPORT.
    ServedFamily,
    /// Not one of these options (argument 2) of this level (argument 1).
    OptionNotIn {
        /// The level whose options are exempt.
        level: u32,
        /// The exempt options.
        options: &'static [u32],
    },
    /// The pointer in argument `address` is not null, or the flags in argument `flags` hold a bit of `mask`.
    AddressOrFlags {
        /// Argument with the pointer (64 bits).
        address: u8,
        /// Argument with the flags (int).
        flags: u8,
        /// The bits looked for.
        mask: u32,
    },
    /// Argument `argument` (int) lies in one of the inclusive ranges.
    InRanges {
        /// Which argument.
        argument: u8,
        /// First and last value.
        ranges: &'static [(u32, u32)],
    },
    /// Argument 0 (int) and argument 1 (64 bits) have these values.
    FirstTwo {
        /// Argument 0.
        first: u32,
        /// Argument 1.
        second: u64,
    },
}

/// What a filter decides about one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The kernel runs it.
    Allow,
    /// The supervisor is asked.
    Notify,
    /// It ends with this errno (0: success) without being run.
    Errno(u16),
}

/// What the table says about native call `number`.
///
/// Numbers of the x32 ABI (bit 30) are refused with ENOSYS, whatever they are; -1 is a tracer's skipped call.
#[must_use]
pub fn decide(number: u32, arguments: &[u64; 6]) -> Decision {
    if number >= X32_BIT && number != u32::MAX {
        return Decision::Errno(ENOSYS);
    }
    decide_in(NATIVE, number, arguments)
}

/// What the table says about call `number` of the foreign architecture (i386 on x86_64).
#[must_use]
pub fn decide_foreign(number: u32, arguments: &[u64; 6]) -> Decision {
    decide_in(FOREIGN, number, arguments)
}

/// Set in the numbers of the x32 ABI (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;

/// Errno of a call that a kernel without it gives: libraries then fall back.
pub const ENOSYS: u16 = 38;
/// Errno of a socket family that is not there.
pub const EAFNOSUPPORT: u16 = 97;

/// Families of socket(2) that stay the kernel's own.
pub const NATIVE_FAMILIES: &[u32] = &[1 /* AF_UNIX */];
/// Families of socket(2) that are the supervisor's.
pub const SERVED_FAMILIES: &[u32] = &[
    2,  /* AF_INET */
    10, /* AF_INET6 */
    16, /* AF_NETLINK */
];

fn decide_in(rows: &[Row], number: u32, arguments: &[u64; 6]) -> Decision {
    let Some(row) = rows.iter().find(|row| row.number == number) else {
        return Decision::Allow;
    };
    let (when, decision) = match row.rule {
        Rule::Trap(_, when) => (when, Decision::Notify),
        Rule::Refuse { errno, when } => (when, Decision::Errno(errno)),
    };
    let holds = match when {
        When::Always => true,
        When::ServedFamily => {
            let family = low(arguments[0]);
            if !NATIVE_FAMILIES.contains(&family) && !SERVED_FAMILIES.contains(&family) {
                return Decision::Errno(EAFNOSUPPORT);
            }
            SERVED_FAMILIES.contains(&family)
        }
        When::OptionNotIn { level, options } => {
            low(arguments[1]) != level || !options.contains(&low(arguments[2]))
        }
        When::AddressOrFlags {
            address,
            flags,
            mask,
        } => arguments[usize::from(address)] != 0 || low(arguments[usize::from(flags)]) & mask != 0,
        When::InRanges { argument, ranges } => {
            let value = low(arguments[usize::from(argument)]);
            ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&value))
        }
        When::FirstTwo { first, second } => low(arguments[0]) == first && arguments[1] == second,
    };
    if holds { decision } else { Decision::Allow }
}

/// The half of a register that the kernel takes for an `int`.
const fn low(register: u64) -> u32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
