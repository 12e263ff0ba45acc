// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The conversation with one client.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use netcon_shim::handover::{
    Answer, Hello, Listener, Message, OLDEST, Outcome, PREAMBLE, Purpose, VERSION, refusal,
};
use nix::sys::socket::{MsgFlags, recv};

use super::{Guest, PATIENCE};
use crate::clock;
use crate::control::{Admission, Admitted};
use crate::sys::receive::receive;
use crate::sys::{peer, task};

/// From the first byte to the hand-off. A client that misbehaves is dropped; it hears why if it can.
pub(super) fn hold(guest: &Guest) {
    if let Err(error) = converse(guest) {
        tracing::debug!(%error, pid = guest.peer.pid, "a client on the unix socket was dropped");
    }
}

fn converse(guest: &Guest) -> io::Result<()> {
    let mut client = Client {
        stream: &guest.stream,
        deadline: clock::now() + PATIENCE,
    };
    client.stream.set_write_timeout(Some(PATIENCE))?;
    let is_shim = client.peek()? == PREAMBLE[0];
    let ours = nix::unistd::geteuid().as_raw();
    let foreign = (guest.peer.uid != ours).then(|| {
        format!(
            "This netcon-supervisor serves uid {ours} and no other; you are uid {}.",
            guest.peer.uid
        )
    });
    match (is_shim, foreign) {
        (true, None) => hand_over(guest, &mut client),
        (true, Some(sentence)) => client.say(Message::Answer(Answer::Refused {
            code: refusal::IDENTITY,
            sentence,
        })),
        // Another user, root for one, may have the token: the API decides.
        (false, _) => match guest.door.service.runtime().network_of(guest.peer.pid) {
            // A container's task could connect, hand the connection on and be gone before it is asked for.
            None if !peer::is_alive(&guest.stream, guest.peer.pid) => client.refuse_http(
                "The process that opened this connection has ended; use a connection of your own.",
            ),
            None if is_hidden(guest) => client.refuse_http(HIDDEN),
            None => {
                guest.stream.set_write_timeout(None)?;
                guest.stream.set_read_timeout(None)?;
                (guest.door.http)(guest.stream.try_clone()?, guest.peer);
                Ok(())
            }
            Some(network) => client.refuse_http(&format!(
                "A program in network {network} may not use the control API; use it from outside."
            )),
        },
    }
}

fn hand_over(guest: &Guest, client: &mut Client<'_>) -> io::Result<()> {
    let mut preamble = [0; PREAMBLE.len()];
    client.read_exact(&mut preamble)?;
    if preamble != PREAMBLE {
        return client.refuse(
            refusal::VERSION,
            format!(
                "This netcon-supervisor ({}) and the shim are of different versions; install both from the same release, then: netcon service restart.",
                env!("CARGO_PKG_VERSION")
            ),
        );
    }
    let Message::Hello(hello) = Message::read_from(client)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    match admit(guest, hello) {
        Admitted::Inside { network } => client.say(Message::Answer(Answer::Inside { network })),
        Admitted::Refused { code, sentence } => client.refuse(code, sentence),
        Admitted::Accepted(admission) => {
            if !guest.begin_hand_over() {
                return client.refuse(
                    refusal::LIMIT,
                    "This process is handing a container over already.".to_owned(),
                );
            }
            let result = take_over(guest, client, admission);
            // Before the shim hears how it went: after a failure it may try again at once.
            guest.end_hand_over();
            client.say(Message::Outcome(result?))
        }
    }
}

fn admit(guest: &Guest, hello: Hello) -> Admitted {
    let refused = |code, sentence: String| Admitted::Refused { code, sentence };
    if !(OLDEST..=VERSION).contains(&hello.version) {
        return refused(
            refusal::VERSION,
            format!(
                "The shim speaks version {} of the hand-over, this netcon-supervisor ({}) versions {OLDEST} to {VERSION}; install both from the same release, then: netcon service restart.",
                hello.version,
                env!("CARGO_PKG_VERSION")
            ),
        );
    }
    match hello.purpose {
        Purpose::New => {}
        Purpose::Reattach { .. } => {
            return refused(
                refusal::OTHER,
                "This netcon-supervisor cannot take over a running container.".to_owned(),
            );
        }
    }
    if guest.peer.pid == 0 {
        return refused(
            refusal::IDENTITY,
            "The shim runs in a pid namespace that the netcon-supervisor cannot see; start the supervisor in the same one or in its parent."
                .to_owned(),
        );
    }
    let admitted = guest
        .door
        .service
        .admit(hello.network.as_deref(), hello.argv0, guest.peer);
    // Asked afterwards: then it was there while its network was looked up.
    if !peer::is_alive(&guest.stream, guest.peer.pid) {
        return refused(
            refusal::IDENTITY,
            "The process that opened this connection has ended.".to_owned(),
        );
    }
    if is_hidden(guest) {
        return refused(refusal::IDENTITY, HIDDEN.to_owned());
    }
    admitted
}

const HIDDEN: &str = "The process that opened this connection is hidden from the netcon-supervisor (/proc is mounted with hidepid, and its program may not be read); use a program that may be read.";

/// True for a process that cannot be looked at, so that it may live in a container. Pid 0 is a process of a pid namespace
/// that is not below ours, where no task of a container is served.
fn is_hidden(guest: &Guest) -> bool {
    guest.peer.pid != 0 && task::start_time(guest.peer.pid).is_none()
}

fn take_over(guest: &Guest, client: &mut Client<'_>, admission: Admission) -> io::Result<Outcome> {
    let (container, network) = (admission.container, admission.network.clone());
    client.say(Message::Answer(Answer::Accepted {
        container,
        network: network.clone(),
    }))?;
    // The shim builds and installs its filter now; its time starts anew.
    client.deadline = clock::now() + PATIENCE;
    let (listener, notify) = client.listener()?;
    guest.heard();
    let started = guest
        .door
        .service
        .runtime()
        .start_container(admission, notify, listener.flags);
    match started {
        Ok(()) => {
            tracing::info!(
                container,
                network,
                pid = guest.peer.pid,
                "container started"
            );
            Ok(Outcome::Ready)
        }
        Err(error) => {
            tracing::warn!(container, network, %error, "container not started");
            Ok(Outcome::Failed {
                sentence: error.to_string(),
            })
        }
    }
}

/// The other end of the conversation, with the time it has left.
struct Client<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
}

impl Client<'_> {
    /// The first byte, which stays where it is.
    fn peek(&self) -> io::Result<u8> {
        self.arm()?;
        let mut first = [0];
        match recv(self.stream.as_raw_fd(), &mut first, MsgFlags::MSG_PEEK)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first[0]),
        }
    }

    /// The message with the notification fd.
    fn listener(&mut self) -> io::Result<(Listener, OwnedFd)> {
        let mut buffer = Vec::new();
        let mut files = Vec::new();
        loop {
            self.arm()?;
            let mut part = [0; 64];
            let (count, mut arrived) = receive(self.stream.as_fd(), &mut part)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer.extend_from_slice(&part[..count]);
            files.append(&mut arrived);
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            match (Message::decode(&buffer).map_err(invalid)?, files.len()) {
                (Some((Message::Listener(listener), _)), 1) => {
                    return Ok((listener, files.remove(0)));
                }
                (None, 0 | 1) => {}
                (Some(_) | None, _) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    fn say(&mut self, message: Message) -> io::Result<()> {
        self.stream.write_all(&message.encode())
    }

    fn refuse(&mut self, code: u16, sentence: String) -> io::Result<()> {
        tracing::debug!(code, sentence, "a shim was refused");
        self.say(Message::Answer(Answer::Refused { code, sentence }))
    }

    /// Answers 403 without looking at the request, and waits for the client to read it.
    fn refuse_http(&mut self, sentence: &str) -> io::Result<()> {
        self.stream.write_all(&crate::http::forbidden(sentence))?;
        self.stream.shutdown(Shutdown::Write)?;
        // Closing with its request unread would take the answer away from a client that still writes.
        let mut unread = [0; 4096];
        while self.read(&mut unread)? > 0 {}
        Ok(())
    }

    /// Gives the next read what is left of the client's time.
    fn arm(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
    }
}

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        self.stream.read(buffer)
    }
}
