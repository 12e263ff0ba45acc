// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The relay's sockets: one in front, and behind it one per client.
//!
//! An upstream socket is connected to the target, so only the target's datagrams come back through it: a NAT whose mapping and
//! filtering depend on address and port (RFC 4787, sections 4.1 and 5).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use serde::Serialize;

use super::link::{Counts, Link};
use super::rules::{Command, Direction, Rules};

/// Clients at a time; the one that was silent for longest is forgotten for a new one.
pub const MAX_CLIENTS: usize = 512;
/// Datagrams taken from one socket in a turn, so that one flood does not starve the others.
const BUDGET: usize = 64;
/// Asked of the kernel for each socket; it may give less.
const SOCKET_BUFFER: usize = 4 << 20;

/// A client, by a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ClientId(u64);

#[derive(Debug)]
struct Client {
    address: SocketAddr,
    upstream: UdpSocket,
    last_heard: Instant,
}

/// What a relay has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Chance followed from it.
    pub seed: u64,
    /// Clients known now.
    pub clients: usize,
    /// Clients forgotten because of [`MAX_CLIENTS`].
    pub forgotten: u64,
    /// Upstream ports changed by command.
    pub rebound: u64,
    /// Clients to target.
    pub up: Counts,
    /// Target to clients.
    pub down: Counts,
}

/// A relay with its sockets.
#[derive(Debug)]
pub struct Relay {
    front: UdpSocket,
    target: SocketAddr,
    bind: Option<IpAddr>,
    clients: BTreeMap<ClientId, Client>,
    by_address: HashMap<SocketAddr, ClientId>,
    next_client: u64,
    up: Link<ClientId>,
    down: Link<ClientId>,
    seed: u64,
    forgotten: u64,
    rebound: u64,
    buffer: Vec<u8>,
}

impl Relay {
    /// Listens at `front` and passes on to `target`, from the address `bind` if one is given.
    ///
    /// # Errors
    /// That of bind(2) or of an upstream socket tried for once.
    pub fn new(
        front: SocketAddr,
        target: SocketAddr,
        bind: Option<IpAddr>,
        seed: u64,
    ) -> io::Result<Self> {
        upstream(target, bind)?;
        let front = UdpSocket::bind(front)?;
        front.set_nonblocking(true)?;
        enlarge(&front);
        Ok(Self {
            front,
            target,
            bind,
            clients: BTreeMap::new(),
            by_address: HashMap::new(),
            next_client: 0,
            up: Link::new(seed),
            down: Link::new(!seed),
            seed,
            forgotten: 0,
            rebound: 0,
            buffer: vec![0; 65_536],
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// That of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.front.local_addr()
    }

    /// Does what a command says; [`Command::Counts`] and [`Command::Quit`] are the caller's.
    ///
    /// # Errors
    /// A new upstream socket could not be made; the old one is kept then.
    pub fn command(&mut self, command: &Command) -> io::Result<()> {
        match command {
            Command::Change(direction, changes) => {
                self.each(*direction, |rules| rules.apply(changes))
            }
            Command::Clear(direction) => self.each(*direction, |rules| *rules = Rules::default()),
            Command::Rebind => {
                for client in self.clients.values_mut() {
                    // The new socket exists before the old one goes, so the kernel cannot choose the same port.
                    client.upstream = upstream(self.target, self.bind)?;
                    self.rebound += 1;
                }
            }
            Command::To(target) => {
                upstream(*target, self.bind)?;
                self.target = *target;
                for client in self.clients.values_mut() {
                    client.upstream = upstream(*target, self.bind)?;
                }
            }
            Command::Counts | Command::Quit => {}
        }
        Ok(())
    }

    /// What it has done so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            seed: self.seed,
            clients: self.clients.len(),
            forgotten: self.forgotten,
            rebound: self.rebound,
            up: self.up.counts(),
            down: self.down.counts(),
        }
    }

    /// Waits until a datagram comes, one is due, or one of `others` can be read.
    ///
    /// # Errors
    /// That of ppoll(2).
    pub fn wait(&self, now: Instant, others: &[PollFd<'_>]) -> io::Result<()> {
        let mut all: Vec<PollFd<'_>> = others.to_vec();
        all.push(PollFd::new(self.front.as_fd(), PollFlags::POLLIN));
        for client in self.clients.values() {
            all.push(PollFd::new(client.upstream.as_fd(), PollFlags::POLLIN));
        }
        let due = [self.up.poll_timeout(), self.down.poll_timeout()]
            .into_iter()
            .flatten()
            .min();
        let timeout = due.map(|due| TimeSpec::from_duration(due.saturating_duration_since(now)));
        match nix::poll::ppoll(&mut all, timeout, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what came and sends what is due.
    pub fn turn(&mut self, now: Instant) {
        self.take_from_clients(now);
        self.take_from_target(now);
        while let Some((id, bytes)) = self.up.poll_datagram(now) {
            let sent = self
                .clients
                .get(&id)
                .is_some_and(|client| send(|| client.upstream.send(&bytes)));
            if !sent {
                self.up.not_sent(bytes.len());
            }
        }
        while let Some((id, bytes)) = self.down.poll_datagram(now) {
            let sent = self
                .clients
                .get(&id)
                .is_some_and(|client| send(|| self.front.send_to(&bytes, client.address)));
            if !sent {
                self.down.not_sent(bytes.len());
            }
        }
    }

    fn each(&mut self, direction: Direction, mut change: impl FnMut(&mut Rules)) {
        if direction.up() {
            change(&mut self.up.rules);
        }
        if direction.down() {
            change(&mut self.down.rules);
        }
    }

    fn take_from_clients(&mut self, now: Instant) {
        for _ in 0..BUDGET {
            // An error is an ICMP message for an earlier datagram, or there is nothing more.
            let (len, from) = match self.front.recv_from(&mut self.buffer) {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => continue,
            };
            if let Some(id) = self.client(now, from) {
                self.up
                    .handle_datagram(now, id, self.buffer[..len].to_vec());
            }
        }
    }

    fn take_from_target(&mut self, now: Instant) {
        for (id, client) in &self.clients {
            for _ in 0..BUDGET {
                match client.upstream.recv(&mut self.buffer) {
                    Ok(len) => self
                        .down
                        .handle_datagram(now, *id, self.buffer[..len].to_vec()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
        }
    }

    /// The client with that address, a new one if need be; `None` when no socket could be made for it.
    fn client(&mut self, now: Instant, address: SocketAddr) -> Option<ClientId> {
        if let Some(id) = self.by_address.get(&address) {
            self.clients.get_mut(id)?.last_heard = now;
            return Some(*id);
        }
        if self.clients.len() >= MAX_CLIENTS {
            let oldest = *self
                .clients
                .iter()
                .min_by_key(|(_, client)| client.last_heard)?
                .0;
            let gone = self.clients.remove(&oldest)?;
            self.by_address.remove(&gone.address);
            self.forgotten += 1;
        }
        let upstream = upstream(self.target, self.bind).ok()?;
        let id = ClientId(self.next_client);
        self.next_client += 1;
        self.by_address.insert(address, id);
        self.clients.insert(
            id,
            Client {
                address,
                upstream,
                last_heard: now,
            },
        );
        Some(id)
    }
}

/// Sends, and once more when the first try only brought the news of an earlier ICMP error.
fn send(mut attempt: impl FnMut() -> io::Result<usize>) -> bool {
    attempt().is_ok() || attempt().is_ok()
}

fn upstream(target: SocketAddr, bind: Option<IpAddr>) -> io::Result<UdpSocket> {
    let any = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((bind.unwrap_or(any), 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    enlarge(&socket);
    Ok(socket)
}

/// Large kernel buffers, as far as allowed: a full one loses datagrams that no rule asked for.
fn enlarge(socket: &UdpSocket) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        let _smaller = setsockopt(socket, sockopt::RcvBuf, &SOCKET_BUFFER);
    }
    let _smaller = setsockopt(socket, sockopt::SndBuf, &SOCKET_BUFFER);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::rules::parse;
    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(5);

    #[expect(clippy::disallowed_methods, reason = "a test with real sockets")]
    fn now() -> Instant {
        Instant::now()
    }

    struct Pair {
        relay: Relay,
        client: UdpSocket,
        server: UdpSocket,
    }

    fn pair(loopback: IpAddr) -> Pair {
        let server = UdpSocket::bind((loopback, 0)).unwrap();
        let relay =
            Relay::new((loopback, 0).into(), server.local_addr().unwrap(), None, 1).unwrap();
        let client = UdpSocket::bind((loopback, 0)).unwrap();
        client.connect(relay.address().unwrap()).unwrap();
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Pair {
            relay,
            client,
            server,
        }
    }

    impl Pair {
        fn tell(&mut self, line: &str) {
            self.relay.command(&parse(line).unwrap().unwrap()).unwrap();
        }

        fn turn(&mut self) {
            self.relay.wait(now(), &[]).unwrap();
            self.relay.turn(now());
        }

        /// There and back; the port the server saw.
        fn round(&mut self, text: &[u8]) -> u16 {
            let mut buffer = [0; 2000];
            self.client.send(text).unwrap();
            self.turn();
            let (len, from) = self.server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], text);
            self.server.send_to(&buffer[..len], from).unwrap();
            self.turn();
            let len = self.client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], text);
            from.port()
        }
    }

    #[test]
    fn datagrams_pass_both_ways_in_both_families() {
        for loopback in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            let mut pair = pair(loopback);
            let port = pair.round(b"first");
            assert_eq!(pair.round(b"second"), port, "a client keeps its mapping");
            let report = pair.relay.report();
            assert_eq!(
                (report.clients, report.up.sent, report.down.sent),
                (1, 2, 2)
            );
        }
    }

    #[test]
    fn another_client_gets_another_port() {
        let mut pair = pair(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let first = pair.round(b"x");
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        other.connect(pair.relay.address().unwrap()).unwrap();
        other.set_read_timeout(Some(PATIENCE)).unwrap();
        pair.client = other;
        assert_ne!(pair.round(b"y"), first);
        assert_eq!(pair.relay.report().clients, 2);
    }

    #[test]
    fn rebinding_changes_the_port_and_ends_the_old_mapping() {
        let mut pair = pair(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let before = pair.round(b"before");
        pair.tell("rebind");
        pair.server
            .send_to(b"to the old port", (Ipv4Addr::LOCALHOST, before))
            .unwrap();
        assert_ne!(pair.round(b"after"), before);
        let report = pair.relay.report();
        assert_eq!(
            (report.rebound, report.down.received),
            (1, 2),
            "nothing came through the old port"
        );
    }

    #[test]
    fn rules_change_while_it_runs_and_for_one_direction() {
        let mut pair = pair(IpAddr::V4(Ipv4Addr::LOCALHOST));
        pair.round(b"x");
        pair.tell("down loss=100%");
        pair.client.send(b"y").unwrap();
        pair.turn();
        let (_, from) = pair.server.recv_from(&mut [0; 10]).unwrap();
        pair.server.send_to(b"y", from).unwrap();
        pair.turn();
        assert_eq!(pair.relay.report().down.lost, 1);
        pair.tell("clear");
        pair.round(b"z");
    }

    #[test]
    fn a_delayed_datagram_waits_for_its_time() {
        let mut pair = pair(IpAddr::V4(Ipv4Addr::LOCALHOST));
        pair.tell("up delay=30ms");
        let sent = now();
        pair.client.send(b"x").unwrap();
        while pair.relay.report().up.sent == 0 {
            assert!(now() - sent < PATIENCE);
            pair.turn();
        }
        assert!(now() - sent >= Duration::from_millis(30));
    }

    #[test]
    fn a_target_that_is_not_there_yet_does_no_harm() {
        let mut pair = pair(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let address = pair.server.local_addr().unwrap();
        pair.server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        pair.server.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..3 {
            pair.client.send(b"lost").unwrap();
            pair.turn();
        }
        assert_ne!(pair.server.local_addr().unwrap(), address);
        let target = pair.server.local_addr().unwrap();
        pair.tell(&format!("to {target}"));
        pair.round(b"there now");
    }

    #[test]
    fn clients_are_bounded() {
        let mut pair = pair(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let time = now();
        for port in 1..=600 {
            pair.relay.client(
                time + Duration::from_millis(port),
                ([127, 0, 0, 1], u16::try_from(port).unwrap()).into(),
            );
        }
        let report = pair.relay.report();
        assert_eq!(
            (report.clients, report.forgotten),
            (MAX_CLIENTS, 600 - MAX_CLIENTS as u64)
        );
        assert_eq!(pair.relay.by_address.len(), MAX_CLIENTS);
    }
}
