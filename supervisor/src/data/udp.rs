// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The overlay's UDP socket: dual-stack, segmentation offload both ways, congestion marks, paths narrower than expected.

use netcon_overlay::{Ecn, Mark, Overlay};
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

use crate::sys::udp::{self, Fragments};

/// Receive buffers of one call; each takes a whole GRO batch.
const BUFFERS: usize = 8;
/// Bytes of each: no datagram is larger.
const BUFFER: usize = 65_536;
/// Socket buffers asked for, bytes: 4 ms at 10 Gbit/s. The kernel caps them silently.
const SOCKET_BUFFER: usize = 7 << 20;
/// Datagrams of up to this size (a packet of 1280 bytes, which every IPv6 link must carry) are fragmented where the path is
/// too narrow for them; larger ones are refused, and their senders told.
const FRAGMENTED: usize = Overlay::sealed_len(1280, 1280);

/// The path does not carry a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooBig;

/// What has passed the socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpCounts {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Calls that the kernel refused: ICMP errors of earlier sends, full buffers, no route.
    pub errors: u64,
}

/// The socket and its receive buffers.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Datagrams one call may carry; 1 where the kernel or the device cannot cut them.
    segments: usize,
    v6: bool,
    buffers: Vec<Vec<u8>>,
    meta: [RecvMeta; BUFFERS],
    counts: Cell<UdpCounts>,
}

impl Udp {
    /// Takes over a bound socket.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let v6 = socket.local_addr()?.is_ipv6();
        let state = prepared(&socket, v6)?;
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        // Handshakes leave without control messages and have this class; packets bring their own.
        if let Err(error) = udp::set_class(&socket, v6, Mark::HANDSHAKE_CLASS) {
            tracing::debug!(%error, "handshakes are not marked");
        }
        Ok(Self {
            segments: state.max_gso_segments().max(1),
            socket,
            state,
            v6,
            buffers: vec![vec![0; BUFFER]; BUFFERS],
            meta: [RecvMeta::default(); BUFFERS],
            counts: Cell::default(),
        })
    }

    /// The socket, to be watched.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Receives what is there and shows each datagram: source, congestion mark, buffer number, offset in it, bytes. False when
    /// nothing was.
    pub fn receive(
        &mut self,
        mut each: impl FnMut(SocketAddr, Ecn, usize, usize, &mut [u8]),
    ) -> bool {
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
                        self.count(0, &Err::<(), ()>(()));
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
            // The kernel puts together only datagrams with the same mark.
            let ecn = meta
                .ecn
                .map_or(Ecn::NotEct, |mark| Ecn::from_bits(mark as u8));
            let counts = self.counts.get_mut();
            counts.received += meta.len.div_ceil(stride) as u64;
            for (i, datagram) in buffer[..meta.len].chunks_mut(stride).enumerate() {
                each(from, ecn, number, i * stride, datagram);
            }
        }
        received > 0
    }

    /// What has passed so far.
    pub fn counts(&self) -> UdpCounts {
        self.counts.get()
    }

    /// A part of a receive buffer.
    pub fn part(&self, number: usize, start: usize, len: usize) -> &[u8] {
        &self.buffers[number][start..start + len]
    }

    /// Sends a message of the handshake, marked as such. It is far smaller than any path's MTU.
    pub fn send_handshake(&self, to: SocketAddr, message: &[u8]) {
        let destination = if self.v6 { mapped(to) } else { to };
        let sent = self.socket.send_to(message, destination);
        self.count(1, &sent);
        if let Err(error) = sent {
            tracing::trace!(%error, "handshake not sent");
        }
    }

    /// Sends datagrams of `size` bytes each (the last may be shorter) that lie one after the other, with a congestion mark. A
    /// full socket buffer drops them, as a full queue on the path would.
    ///
    /// # Errors
    /// [`TooBig`] when the path does not carry some of them; small ones were fragmented then, larger ones are lost.
    pub fn send(
        &mut self,
        to: SocketAddr,
        ecn: Ecn,
        size: usize,
        contents: &[u8],
    ) -> Result<(), TooBig> {
        let destination = if self.v6 { mapped(to) } else { to };
        let mut result = Ok(());
        for part in contents.chunks(size * self.segments) {
            let whole = self.try_send(destination, ecn, size, part);
            let cut = part.len() > size;
            match whole.map_err(|error| error.raw_os_error()) {
                Ok(()) => {}
                Err(Some(libc::EMSGSIZE)) if !cut => {
                    result = Err(TooBig);
                    self.fragment(destination, ecn, part);
                }
                // The path is too narrow, or the device cannot cut datagrams: one by one it shows.
                Err(Some(libc::EMSGSIZE | libc::EINVAL | libc::EIO)) if cut => {
                    if self.one_by_one(destination, ecn, size, part).is_err() {
                        result = Err(TooBig);
                    } else {
                        tracing::info!("no segmentation offload for the overlay's datagrams");
                        self.segments = 1;
                    }
                }
                Err(error) => tracing::trace!(?error, "datagram not sent"),
            }
        }
        result
    }

    fn one_by_one(
        &mut self,
        destination: SocketAddr,
        ecn: Ecn,
        size: usize,
        part: &[u8],
    ) -> Result<(), TooBig> {
        // After such an error the library leaves out marks and offload for good; it is asked afresh.
        match prepared(&self.socket, self.v6) {
            Ok(state) => self.state = state,
            Err(error) => tracing::debug!(%error, "the socket's state is kept"),
        }
        let mut result = Ok(());
        for one in part.chunks(size) {
            match self.try_send(destination, ecn, size, one) {
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    result = Err(TooBig);
                    self.fragment(destination, ecn, one);
                }
                Ok(()) => {}
                Err(error) => tracing::trace!(%error, "datagram not sent"),
            }
        }
        result
    }

    /// Sends one small datagram in fragments; a large one is given up.
    fn fragment(&self, destination: SocketAddr, ecn: Ecn, datagram: &[u8]) {
        if datagram.len() > FRAGMENTED {
            return;
        }
        let sent = udp::set_fragments(&self.socket, self.v6, Fragments::AsNeeded)
            .and_then(|()| self.try_send(destination, ecn, datagram.len(), datagram));
        if let Err(error) = sent {
            tracing::trace!(%error, "datagram not sent in fragments");
        }
        if let Err(error) = udp::set_fragments(&self.socket, self.v6, Fragments::Never) {
            tracing::debug!(%error, "datagrams may be fragmented");
        }
    }

    fn try_send(
        &self,
        destination: SocketAddr,
        ecn: Ecn,
        size: usize,
        contents: &[u8],
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination,
            ecn: EcnCodepoint::from_bits(ecn.bits()),
            contents,
            segment_size: (contents.len() > size).then_some(size),
            src_ip: None,
        };
        let sent = self
            .state
            .try_send(UdpSockRef::from(&self.socket), &transmit);
        self.count(contents.len().div_ceil(size.max(1)), &sent);
        sent
    }

    fn count<T, E>(&self, datagrams: usize, result: &Result<T, E>) {
        let mut counts = self.counts.get();
        match result {
            Ok(_) => counts.sent += datagrams as u64,
            Err(_) => counts.errors += 1,
        }
        self.counts.set(counts);
    }
}

/// The library's state for a socket that tells of narrow paths.
fn prepared(socket: &UdpSocket, v6: bool) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    udp::set_fragments(socket, v6, Fragments::Never)?;
    Ok(state)
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
    };
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    /// Our socket, dual-stack, and one of each family to send to.
    fn sockets() -> (Udp, Vec<UdpSocket>) {
        let ours = Udp::new(crate::ports::bind_udp(0).unwrap().socket).unwrap();
        let others = ["127.0.0.1:0", "[::1]:0"]
            .iter()
            .filter_map(|address| UdpSocket::bind(address).ok())
            .filter(|socket| ours.v6 || socket.local_addr().unwrap().is_ipv4())
            .collect();
        (ours, others)
    }

    /// Traffic class and length of the next datagram.
    fn next(socket: &UdpSocket) -> (u8, usize) {
        let mut buffer = [0; 2048];
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let mut control = nix::cmsg_space!(i32, i32);
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::empty(),
        )
        .unwrap();
        let class = message.cmsgs().unwrap().find_map(|message| {
            if let ControlMessageOwned::Ipv4Tos(tos) = message {
                Some(tos)
            } else if let ControlMessageOwned::Ipv6TClass(class) = message {
                u8::try_from(class).ok()
            } else {
                None
            }
        });
        (class.expect("a traffic class"), message.bytes)
    }

    #[test]
    fn handshakes_are_af41_and_packets_have_their_mark_and_no_dscp() {
        let (mut ours, others) = sockets();
        for other in others {
            let to = other.local_addr().unwrap();
            if to.is_ipv4() {
                setsockopt(&other, sockopt::IpRecvTos, &true).unwrap();
            } else {
                setsockopt(&other, sockopt::Ipv6RecvTClass, &true).unwrap();
            }
            other
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            ours.send_handshake(to, &[1; 148]);
            assert_eq!(next(&other), (0x88, 148), "{to}");
            for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
                ours.send(to, ecn, 100, &[4; 250]).unwrap();
                for len in [100, 100, 50] {
                    assert_eq!(next(&other), (ecn.bits(), len), "{to}");
                }
            }
        }
    }

    #[test]
    fn marks_of_received_datagrams_are_told() {
        let (mut ours, others) = sockets();
        let port = ours.socket.local_addr().unwrap().port();
        for other in others {
            let from = other.local_addr().unwrap();
            let to = SocketAddr::new(from.ip(), port);
            let v6 = from.is_ipv6();
            for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ce] {
                let class = i32::from(0x20 | ecn.bits());
                if v6 {
                    setsockopt(&other, sockopt::Ipv6TClass, &class).unwrap();
                } else {
                    setsockopt(&other, sockopt::Ipv4Tos, &class).unwrap();
                }
                other.send_to(b"marked", to).unwrap();
                let mut seen = Vec::new();
                while seen.is_empty() {
                    ours.receive(|at, mark, _, _, bytes| seen.push((at, mark, bytes.to_vec())));
                    std::thread::yield_now();
                }
                assert_eq!(seen, [(from, ecn, b"marked".to_vec())]);
            }
        }
    }

    #[test]
    fn case_15_the_largest_datagram_arrives_whole() {
        let (mut ours, others) = sockets();
        let port = ours.socket.local_addr().unwrap().port();
        for other in others {
            let from = other.local_addr().unwrap();
            let largest = if from.is_ipv4() { 65_507 } else { 65_527 };
            let content: Vec<u8> = (0..largest).map(|at: u32| at.to_le_bytes()[0]).collect();
            other
                .send_to(&content, SocketAddr::new(from.ip(), port))
                .unwrap();
            let mut seen = Vec::new();
            while seen.is_empty() {
                ours.receive(|_, _, _, _, bytes| seen.push(bytes.to_vec()));
                std::thread::yield_now();
            }
            assert!(seen == [content], "{from}");
        }
    }
}
