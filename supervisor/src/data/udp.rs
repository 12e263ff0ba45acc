// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The overlay's UDP socket: dual-stack, segmentation offload both ways.

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

/// Receive buffers of one call; each takes a whole GRO batch.
const BUFFERS: usize = 8;
/// Bytes of each.
const BUFFER: usize = 65_536;
/// Socket buffers asked for, bytes: 4 ms at 10 Gbit/s. The kernel caps them silently.
const SOCKET_BUFFER: usize = 7 << 20;

/// The socket and its receive buffers.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    v6: bool,
    buffers: Vec<Vec<u8>>,
    meta: [RecvMeta; BUFFERS],
}

impl Udp {
    /// Takes over a bound socket.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        let v6 = socket.local_addr()?.is_ipv6();
        Ok(Self {
            socket,
            state,
            v6,
            buffers: vec![vec![0; BUFFER]; BUFFERS],
            meta: [RecvMeta::default(); BUFFERS],
        })
    }

    /// The socket, to be watched.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Receives what is there and shows each datagram: source, buffer number, offset in it, bytes. False when nothing was.
    pub fn receive(&mut self, mut each: impl FnMut(SocketAddr, usize, usize, &mut [u8])) -> bool {
        let mut slices: [IoSliceMut<'_>; BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (slice, buffer) in slices.iter_mut().zip(&mut self.buffers) {
            *slice = IoSliceMut::new(buffer);
        }
        let received =
            match self
                .state
                .recv(UdpSockRef::from(&self.socket), &mut slices, &mut self.meta)
            {
                Ok(n) => n,
                // An ICMP error of an earlier send; the peer's timers deal with it.
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::trace!(%error, "receive");
                    }
                    return false;
                }
            };
        for (number, (meta, buffer)) in self
            .meta
            .iter()
            .zip(&mut self.buffers)
            .take(received)
            .enumerate()
        {
            let stride = meta.stride.max(1);
            let from = unmapped(meta.addr);
            for (i, datagram) in buffer[..meta.len].chunks_mut(stride).enumerate() {
                each(from, number, i * stride, datagram);
            }
        }
        received > 0
    }

    /// A part of a receive buffer.
    pub fn part(&self, number: usize, start: usize, len: usize) -> &[u8] {
        &self.buffers[number][start..start + len]
    }

    /// Sends datagrams of `size` bytes each (the last may be shorter) that lie one after the other. A full socket buffer
    /// drops them, as a full queue on the path would.
    pub fn send(&self, to: SocketAddr, size: usize, contents: &[u8]) {
        let destination = if self.v6 { mapped(to) } else { to };
        let segments = self.state.max_gso_segments().max(1);
        for part in contents.chunks(size * segments) {
            let segment_size = (part.len() > size).then_some(size);
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: part,
                segment_size,
                src_ip: None,
            };
            if let Err(error) = self
                .state
                .try_send(UdpSockRef::from(&self.socket), &transmit)
            {
                tracing::trace!(%error, "datagram not sent");
            }
        }
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => {
            SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
        }
        SocketAddr::V6(_) => address,
    }
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => v6
            .ip()
            .to_ipv4_mapped()
            .map_or(address, |v4| SocketAddr::new(IpAddr::V4(v4), v6.port())),
        SocketAddr::V4(_) => address,
    }
}
