// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What getsockopt(2) answers.

use super::names::{
    IPV6_PATHMTU, SO_BINDTODEVICE, SO_COOKIE, SO_PEERNAME, SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_TCP,
    TCP_SAVED_SYN,
};
use crate::errno::Errno;

/// The value of an option as getsockopt(2) would copy it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionValue(Vec<u8>);

impl OptionValue {
    /// An `int`.
    #[must_use]
    pub fn int(value: i32) -> Self {
        Self(value.to_ne_bytes().to_vec())
    }

    pub(crate) const fn bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The whole value, in the byte order of the machine.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds to a 32-bit number in it: what the driver knows beside the model. Out of its bounds: nothing.
    pub fn add_u32(&mut self, at: usize, more: u32) {
        if let Some(field) = self.0.get_mut(at..at + 4)
            && let Ok(bytes) = <[u8; 4]>::try_from(&*field)
        {
            let sum = u32::from_ne_bytes(bytes).saturating_add(more);
            field.copy_from_slice(&sum.to_ne_bytes());
        }
    }

    /// The `int` in it, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i32> {
        self.0.as_slice().try_into().ok().map(i32::from_ne_bytes)
    }

    /// What is copied to a program that gave room for `optlen` bytes; the length of the slice is the new `optlen`.
    ///
    /// Linux truncates silently. Options of level SOL_IP that fit one byte are written as one byte to a short buffer; names of
    /// devices and cookies are not truncated, a peer's name is not asked for in more bytes than it has.
    ///
    /// # Errors
    /// EINVAL: `optlen` negative, or too short for an option that is not truncated.
    pub fn fit(&self, level: i32, name: i32, optlen: i32) -> Result<&[u8], Errno> {
        let room = match usize::try_from(optlen) {
            Ok(room) => room,
            // That level takes it as unsigned.
            Err(_) if level == SOL_IPV6 => self.0.len(),
            Err(_) => return Err(Errno::EINVAL),
        };
        let whole = match (level, name) {
            // IFNAMSIZ whatever the name's length.
            (SOL_SOCKET, SO_BINDTODEVICE) => !self.0.is_empty() && room < 16,
            (SOL_SOCKET, SO_PEERNAME) => room > self.0.len(),
            (SOL_SOCKET, SO_COOKIE) | (SOL_IPV6, IPV6_PATHMTU) | (SOL_TCP, TCP_SAVED_SYN) => {
                room < self.0.len()
            }
            _ => false,
        };
        if whole {
            return Err(Errno::EINVAL);
        }
        let byte = level == SOL_IP
            && (1..4).contains(&room)
            && self
                .as_int()
                .is_some_and(|value| (0..=255).contains(&value));
        let room = if byte { 1 } else { room };
        Ok(self.0.get(..room).unwrap_or(&self.0))
    }
}
