// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Receiving with MSG_ERRQUEUE (recvmsg(2), ip(7)): never waits.

use super::message::{Buffers, Header};
use super::receive::{Into, Many, arrival};
use super::{Call, OnSocket, Verdict, address, datagram};
use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{ControlMessage, QueuedError};
use std::net::SocketAddr;

/// One error as the program is told of it.
struct Told {
    error: QueuedError,
    to: Option<SocketAddr>,
    control: Vec<ControlMessage>,
}

pub(super) fn receive(on: &OnSocket<'_>, into: &Into) -> Verdict {
    if let Err(errno) = datagram::recall_on(on) {
        return Verdict::Fail(errno);
    }
    let result = match into {
        Into::Plain {
            buffers,
            address,
            length,
        } => take(on).and_then(|told| {
            let copied = copy(on.call, buffers, &told.error)?;
            if *address != 0 {
                address::write(on.call, *address, *length, told.to)?;
            }
            Ok(copied)
        }),
        Into::Header(header) => take(on).and_then(|told| fill(on.call, header, &told)),
        Into::Many(messages) => {
            let verdict = many(on, messages);
            datagram::show_again(on);
            return verdict;
        }
    };
    datagram::show_again(on);
    Verdict::from(result)
}

fn many(on: &OnSocket<'_>, many: &Many) -> Verdict {
    let mut many = many.clone();
    loop {
        let next = many.next(on.call).and_then(|header| {
            let Some(header) = header else {
                return Ok(false);
            };
            let n = fill(on.call, &header, &take(on)?)?;
            many.filled(on.call, &header, n)?;
            Ok(true)
        });
        match next {
            Ok(true) => {}
            Ok(false) => return many.finish(on.call),
            Err(errno) if many.is_empty() => return Verdict::Fail(errno),
            Err(_) => return many.finish(on.call),
        }
    }
}

fn take(on: &OnSocket<'_>) -> Result<Told, Errno> {
    let mut state = on.entry.network.lock();
    let socket = on.entry.socket;
    let error = state
        .sockets
        .take_queued_error(socket)
        .ok_or(Errno::EAGAIN)?;
    Ok(Told {
        to: state.sockets.error_destination(socket, &error),
        control: state
            .sockets
            .error_control(socket, &error, arrival(error.at())),
        error,
    })
}

fn copy(call: &Call, buffers: &Buffers, error: &QueuedError) -> Result<i64, Errno> {
    let part = error.payload.len().min(buffers.total());
    let copied = buffers.scatter(call, &error.payload[..part])?;
    i64::try_from(copied).map_err(|_| Errno::EINVAL)
}

fn fill(call: &Call, header: &Header, told: &Told) -> Result<i64, Errno> {
    let n = copy(call, &header.buffers, &told.error)?;
    let mut name_len = 0;
    if header.name != 0
        && let Some(to) = told.to
    {
        let (bytes, length) = address::encode(to);
        let part = length.min(header.name_len as usize);
        call.write(header.name, &bytes[..part])?;
        name_len = u32::try_from(length).map_err(|_| Errno::EINVAL)?;
    }
    let cut = told.error.payload.len() > header.buffers.total();
    let flags = libc::MSG_ERRQUEUE | if cut { libc::MSG_TRUNC } else { 0 };
    header.report(call, name_len, flags, &told.control)?;
    Ok(n)
}
