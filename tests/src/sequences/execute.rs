// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carries sequences out: the whole life of an executing process. What it writes down is the same on both sides: ports are
//! named in the order in which they appear, bytes by their letters.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::message::{Order, Outcome};
use super::step::{Family, Form, Host, Name, Port, ReceiveBy, Room, SLOTS, SendBy, Step, Value};
use super::sys::{self, Length, Memory, Message, Move};

/// How long a blocking call waits, milliseconds.
const WAIT: i64 = 60;
/// A descriptor that is not open.
const NONE: i32 = 999;
/// Where buffers were not written to.
const UNTOUCHED: u8 = 0xaa;
/// Both sides have these addresses.
const OWN: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 77, 0, 1),
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1),
);

/// Reads orders from standard input and answers each on standard output, to the end of the input.
///
/// # Errors
///
/// Those of the two streams, and of an order that cannot be read.
pub fn serve() -> io::Result<()> {
    sys::count_pipe_signals();
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let mut answer = serde_json::to_vec(&run(&order))?;
        answer.push(b'\n');
        output.write_all(&answer)?;
        output.flush()?;
    }
    Ok(())
}

/// Carries out one sequence with sockets of its own.
fn run(order: &Order) -> Vec<Outcome> {
    let mut bench = Bench::new(order.port);
    let mut patience = Duration::from_millis(order.patience);
    let native = order.expected.is_empty();
    let mut outcomes = Vec::with_capacity(order.steps.len());
    for (index, step) in order.steps.iter().enumerate() {
        sys::pipe_signals();
        let mut result = match bench.make(step, index) {
            Ok(text) => text,
            Err(errno) => errno_name(errno),
        };
        if sys::pipe_signals() > 0 {
            result.push_str(" SIGPIPE");
        }
        let looks = match order.expected.get(index) {
            Some(expected) => bench.until(expected, &mut patience),
            None => bench.settled(),
        };
        let kinds = if native { bench.kinds() } else { Vec::new() };
        outcomes.push(Outcome {
            result,
            looks,
            kinds,
        });
    }
    outcomes
}

/// The socket in a slot.
#[derive(Clone, Copy)]
struct Held {
    fd: i32,
    family: i32,
}

struct Bench {
    slots: [Option<Held>; SLOTS as usize],
    epoll: Option<i32>,
    /// The first of this sequence's ports.
    port: u16,
    /// Ports in the order in which they appeared.
    seen: Vec<u16>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Reset rather than ended in good order: nothing of a sequence is left for the next.
        for held in self.slots.iter().flatten() {
            let mut linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
            let _ = sys::setsockopt(
                held.fd,
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                Memory::Bytes(&mut linger),
                8,
            );
            let _ = sys::close(held.fd);
        }
        if let Some(epoll) = self.epoll {
            let _ = sys::close(epoll);
        }
    }
}

impl Bench {
    fn new(port: u16) -> Self {
        Self {
            slots: [None; SLOTS as usize],
            epoll: None,
            port,
            seen: Vec::new(),
        }
    }

    fn fd(&self, slot: u8) -> i32 {
        self.slots[usize::from(slot)].map_or(NONE, |held| held.fd)
    }

    fn family(&self, slot: u8) -> i32 {
        self.slots[usize::from(slot)].map_or(libc::AF_INET, |held| held.family)
    }

    fn put(&mut self, slot: u8, held: Held) {
        if let Some(old) = self.slots[usize::from(slot)].replace(held) {
            let _ = sys::close(old.fd);
        }
    }

    fn make(&mut self, step: &Step, index: usize) -> Result<String, i32> {
        match *step {
            Step::Socket {
                slot,
                family,
                kind,
                protocol,
            } => {
                let fd = sys::socket(family, kind | libc::SOCK_NONBLOCK, protocol)?;
                prepare(fd);
                self.put(slot, Held { fd, family });
                Ok("a socket".into())
            }
            Step::Bind { slot, ref name } => {
                let (mut bytes, len) = self.encode(slot, name);
                sys::bind(self.fd(slot), pointed(name.form, &mut bytes), len).map(number)
            }
            Step::Connect { slot, ref name } => {
                let (mut bytes, len) = self.encode(slot, name);
                sys::connect(self.fd(slot), pointed(name.form, &mut bytes), len).map(number)
            }
            Step::Listen { slot, backlog } => sys::listen(self.fd(slot), backlog).map(number),
            Step::Accept {
                slot,
                into,
                flags,
                room,
            } => {
                let mut out = Out::new(room);
                let fd = {
                    let (name, len) = out.pair();
                    sys::accept(self.fd(slot), name, len, flags)?
                };
                let status = sys::fcntl(fd, libc::F_GETFL, 0)?;
                let cloexec = sys::fcntl(fd, libc::F_GETFD, 0)?;
                let _ = sys::fcntl(fd, libc::F_SETFL, status | libc::O_NONBLOCK);
                let family = self.family(slot);
                prepare(fd);
                self.put(into, Held { fd, family });
                Ok(format!(
                    "flags {status:#x} {cloexec} from {}",
                    self.address(&out)
                ))
            }
            Step::Send {
                slot,
                len,
                flags,
                ref by,
            } => self.send(slot, len, flags, by, index),
            Step::Receive {
                slot,
                len,
                flags,
                by,
            } => self.receive(slot, len as usize, flags, by),
            Step::Shutdown { slot, how } => sys::shutdown(self.fd(slot), how).map(number),
            Step::Sockname { slot, room } => {
                let mut out = Out::new(room);
                let (name, len) = out.pair();
                sys::getsockname(self.fd(slot), name, len)?;
                Ok(self.address(&out))
            }
            Step::Peername { slot, room } => {
                let mut out = Out::new(room);
                let (name, len) = out.pair();
                sys::getpeername(self.fd(slot), name, len)?;
                Ok(self.address(&out))
            }
            Step::Get {
                slot,
                level,
                option,
                room,
            } => {
                let mut out = Out::new(room);
                let (value, len) = out.pair();
                sys::getsockopt(self.fd(slot), level, option, value, len)?;
                Ok(format!("{} bytes {}", out.len, hex(out.written())))
            }
            Step::Set {
                slot,
                level,
                option,
                value,
            } => {
                let mut bytes = [0; 16];
                let len = match value {
                    Value::Int(first) => {
                        bytes[..4].copy_from_slice(&first.to_ne_bytes());
                        4
                    }
                    Value::Pair(first, second) => {
                        bytes[..4].copy_from_slice(&first.to_ne_bytes());
                        bytes[4..8].copy_from_slice(&second.to_ne_bytes());
                        8
                    }
                    Value::Short(first, len) => {
                        bytes[..4].copy_from_slice(&first.to_ne_bytes());
                        len.cast_unsigned()
                    }
                    Value::Bad => 4,
                    Value::Null => 0,
                };
                let memory = match value {
                    Value::Bad => Memory::Bad,
                    Value::Null => Memory::Null,
                    Value::Int(_) | Value::Pair(..) | Value::Short(..) => Memory::Bytes(&mut bytes),
                };
                sys::setsockopt(self.fd(slot), level, option, memory, len).map(number)
            }
            Step::Ioctl {
                slot,
                request,
                value,
            } => {
                let mut value = value;
                sys::ioctl(self.fd(slot), request, &mut value)?;
                Ok(format!("value {value}"))
            }
            Step::Blocking { slot, on } => {
                let flags = sys::fcntl(self.fd(slot), libc::F_GETFL, 0)?;
                let wanted = if on {
                    flags & !libc::O_NONBLOCK
                } else {
                    flags | libc::O_NONBLOCK
                };
                sys::fcntl(self.fd(slot), libc::F_SETFL, wanted)?;
                Ok(format!("flags were {flags:#x}"))
            }
            Step::Dup { slot, into } => {
                let Some(held) = self.slots[usize::from(slot)] else {
                    return sys::dup(NONE).map(number);
                };
                let fd = match self.slots[usize::from(into)] {
                    Some(old) => sys::dup2(held.fd, old.fd)?,
                    None => sys::dup(held.fd)?,
                };
                self.slots[usize::from(into)] = Some(Held { fd, ..held });
                Ok("a socket".into())
            }
            Step::Close { slot } => match self.slots[usize::from(slot)].take() {
                Some(held) => sys::close(held.fd).map(number),
                None => sys::close(NONE).map(number),
            },
            Step::Poll { slot, events } => {
                let mut asked = [libc::pollfd {
                    fd: self.fd(slot),
                    events,
                    revents: 0,
                }];
                sys::poll(&mut asked)?;
                Ok(mask_names(poll_events(asked[0].revents)))
            }
            Step::Watch { slot, events } => {
                let epoll = match self.epoll {
                    Some(epoll) => epoll,
                    None => *self.epoll.insert(sys::epoll_create()?),
                };
                sys::epoll_add(
                    epoll,
                    self.fd(slot),
                    events | libc::EPOLLET.cast_unsigned(),
                    slot.into(),
                )
                .map(number)
            }
            Step::Edges => {
                let Some(epoll) = self.epoll else {
                    return Ok("nothing is watched".into());
                };
                let mut edges: Vec<String> = sys::epoll_wait(epoll)?
                    .into_iter()
                    .map(|(slot, events)| format!("S{slot}: {}", mask_names(events)))
                    .collect();
                edges.sort();
                Ok(format!("[{}]", edges.join(", ")))
            }
        }
    }

    fn send(
        &mut self,
        slot: u8,
        len: u32,
        flags: i32,
        by: &SendBy,
        index: usize,
    ) -> Result<String, i32> {
        let fd = self.fd(slot);
        // What MSG_MORE holds back goes out at once here (docs/differences.md).
        let flags = flags & !libc::MSG_MORE;
        let letter = *b"abcdefghijklmnopqrstuvwxyz"
            .iter()
            .cycle()
            .nth(index)
            .unwrap_or(&b'a');
        let mut data = vec![letter; len as usize];
        let sent = match by {
            SendBy::Send => sys::send(fd, Memory::Bytes(&mut data), len as usize, flags)?,
            SendBy::Nowhere => sys::send(fd, Memory::Bad, len as usize, flags)?,
            SendBy::Write => sys::write(fd, &mut data)?,
            SendBy::Writev => sys::writev(fd, &mut data)?,
            SendBy::Sendto(name) => {
                let (mut bytes, name_len) = self.encode(slot, name);
                sys::sendto(
                    fd,
                    &mut data,
                    flags,
                    pointed(name.form, &mut bytes),
                    name_len,
                )?
            }
            SendBy::Sendmsg(name) | SendBy::Sendmmsg(name) => {
                let mut again = data.clone();
                let mut names = [([0; 128], 0), ([0; 128], 0)];
                if let Some(name) = name {
                    names = [self.encode(slot, name), self.encode(slot, name)];
                }
                let mut all: Vec<Message<'_>> = [&mut data, &mut again]
                    .into_iter()
                    .zip(&mut names)
                    .map(|(data, (bytes, name_len))| Message {
                        data,
                        name: name
                            .as_ref()
                            .map_or(Memory::Null, |name| pointed(name.form, bytes)),
                        name_len: *name_len,
                        control: &mut [],
                        control_len: 0,
                        flags: 0,
                        moved: 0,
                    })
                    .collect();
                if matches!(by, SendBy::Sendmsg(_)) {
                    all.truncate(1);
                    sys::messages(fd, &mut all, flags, Move::Sendmsg)?
                } else {
                    let count = sys::messages(fd, &mut all, flags, Move::Sendmmsg)?;
                    let lens: Vec<u32> = all[..count].iter().map(|message| message.moved).collect();
                    return Ok(format!("{lens:?}"));
                }
            }
        };
        Ok(sent.to_string())
    }

    fn receive(&mut self, slot: u8, len: usize, flags: i32, by: ReceiveBy) -> Result<String, i32> {
        let fd = self.fd(slot);
        let mut data = vec![UNTOUCHED; len];
        let mut more = String::new();
        let got = match by {
            ReceiveBy::Recv => sys::recv(fd, Memory::Bytes(&mut data), len, flags)?,
            ReceiveBy::Nowhere => sys::recv(fd, Memory::Bad, len, flags)?,
            ReceiveBy::Read => sys::read(fd, &mut data)?,
            ReceiveBy::Readv => sys::readv(fd, &mut data)?,
            ReceiveBy::Recvfrom(room) => {
                let mut out = Out::new(room);
                let (name, name_len) = out.pair();
                let got = sys::recvfrom(fd, &mut data, flags, name, name_len)?;
                let _ = write!(more, " from {}", self.address(&out));
                got
            }
            ReceiveBy::Recvmsg { name, control } => {
                let mut names = [UNTOUCHED; 256];
                let mut controls = vec![UNTOUCHED; control.into()];
                let mut all = [incoming(&mut data, &mut names, name.into(), &mut controls)];
                let got = sys::messages(fd, &mut all, flags, Move::Recvmsg)?;
                let [message] = all;
                let (name_len, control_len, flags) =
                    (message.name_len, message.control_len, message.flags);
                let from = self.shown(&names, name.into(), name_len);
                let _ = write!(
                    more,
                    " from {from} flags {flags:#x} control {}",
                    controls_shown(&controls, control_len)
                );
                got
            }
            ReceiveBy::Recvmmsg => {
                let mut second = data.clone();
                let mut names = [[UNTOUCHED; 256]; 2];
                let [one, two] = &mut names;
                let mut all = [
                    incoming(&mut data, one, 128, &mut []),
                    incoming(&mut second, two, 128, &mut []),
                ];
                let count = sys::messages(fd, &mut all, flags, Move::Recvmmsg)?;
                let told = all.map(|message| (message.moved, message.name_len, message.flags));
                for ((bytes, name), (moved, name_len, flags)) in [&data, &second]
                    .into_iter()
                    .zip(&names)
                    .zip(told)
                    .take(count)
                {
                    let from = self.shown(name, 128, name_len);
                    let _ = write!(
                        more,
                        " [{moved} {} from {from} flags {flags:#x}]",
                        letters(bytes, moved as usize)
                    );
                }
                return Ok(format!("{count}{more}"));
            }
        };
        Ok(format!("{got} {}{more}", letters(&data, got)))
    }

    /// A sockaddr as bytes, and its length.
    fn encode(&self, slot: u8, name: &Name) -> ([u8; 128], u32) {
        let own = self.family(slot);
        let (family, shape) = match name.family {
            Family::Same => (own, own),
            Family::V4 => (libc::AF_INET, libc::AF_INET),
            Family::V6 => (libc::AF_INET6, libc::AF_INET6),
            Family::Unspec => (libc::AF_UNSPEC, own),
            Family::Wrong => (libc::AF_UNIX, own),
        };
        let port = match name.port {
            Port::Zero => 0,
            Port::Closed => 1,
            Port::Fixed(index) => self.port + u16::from(index),
            Port::Of(slot) => self.port_of(slot),
        };
        let mut bytes = [0; 128];
        let family = u16::try_from(family).unwrap_or_default();
        bytes[..2].copy_from_slice(&family.to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        let len = if shape == libc::AF_INET6 {
            let host = match name.host {
                Host::Loopback => Ipv6Addr::LOCALHOST,
                Host::Any => Ipv6Addr::UNSPECIFIED,
                Host::Own => OWN.1,
                Host::Foreign => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
                Host::Mapped => Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
                Host::Broadcast => Ipv4Addr::BROADCAST.to_ipv6_mapped(),
                Host::Multicast => Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 0x77),
            };
            bytes[8..24].copy_from_slice(&host.octets());
            28
        } else {
            let host = match name.host {
                Host::Loopback => Ipv4Addr::LOCALHOST,
                Host::Any => Ipv4Addr::UNSPECIFIED,
                Host::Own => OWN.0,
                Host::Foreign => Ipv4Addr::new(203, 0, 113, 7),
                Host::Mapped => Ipv4Addr::new(127, 0, 0, 2),
                Host::Broadcast => Ipv4Addr::BROADCAST,
                Host::Multicast => Ipv4Addr::new(239, 7, 7, 7),
            };
            bytes[4..8].copy_from_slice(&host.octets());
            16
        };
        let len = match name.form {
            Form::Right | Form::Bad => len,
            Form::Length(len) => len.min(128),
            Form::Null => 0,
        };
        (bytes, len)
    }

    /// The port that the socket there has; that of nobody when it has none.
    fn port_of(&self, slot: u8) -> u16 {
        let mut out = Out::new(Room::PLENTY);
        let (name, len) = out.pair();
        match sys::getsockname(self.fd(slot), name, len) {
            Ok(_) if out.bytes[2..4] != [0, 0] => u16::from_be_bytes([out.bytes[2], out.bytes[3]]),
            Ok(_) | Err(_) => 1,
        }
    }

    /// An address that came out, without the numbers that vary.
    fn address(&mut self, out: &Out) -> String {
        match out.room {
            Room::Bytes(room) => {
                self.shown(&out.bytes, usize::try_from(room).unwrap_or(0), out.len)
            }
            Room::Bad | Room::BadLength | Room::Null => "nobody asked".into(),
        }
    }

    fn shown(&mut self, bytes: &[u8], room: usize, len: u32) -> String {
        let there = &bytes[..room.min(len as usize).min(bytes.len())];
        let beyond = bytes[there.len()..].iter().any(|byte| *byte != UNTOUCHED);
        let mut text = format!("({len}");
        if let Some(family) = there.get(..2) {
            let _ = write!(
                text,
                " family {}",
                u16::from_ne_bytes([family[0], family[1]])
            );
        }
        if let Some(port) = there.get(2..4) {
            let port = self.port_name(u16::from_be_bytes([port[0], port[1]]));
            let _ = write!(text, " {port}");
        }
        match there.get(4..) {
            Some(rest) if rest.len() == 12 => {
                let _ = write!(text, " {}.{}.{}.{}", rest[0], rest[1], rest[2], rest[3]);
                if rest[4..] != [0; 8] {
                    let _ = write!(text, " {}", hex(&rest[4..]));
                }
            }
            Some(rest) if rest.len() == 24 => {
                let mut host = [0; 16];
                host.copy_from_slice(&rest[4..20]);
                let _ = write!(text, " {}", Ipv6Addr::from(host));
                if rest[..4] != [0; 4] || rest[20..] != [0; 4] {
                    let _ = write!(text, " flow {} scope {}", hex(&rest[..4]), hex(&rest[20..]));
                }
            }
            Some(rest) => {
                let _ = write!(text, " {}", hex(rest));
            }
            None => {}
        }
        if beyond {
            text.push_str(" and written beyond");
        }
        text.push(')');
        text
    }

    fn port_name(&mut self, port: u16) -> String {
        if port < 1024 {
            return port.to_string();
        }
        let index = match self.seen.iter().position(|seen| *seen == port) {
            Some(index) => index,
            None => {
                self.seen.push(port);
                self.seen.len() - 1
            }
        };
        format!("port{index}")
    }

    /// How every socket looks now.
    fn looks(&self) -> Vec<String> {
        const ASKED: i16 = libc::POLLIN | libc::POLLPRI | libc::POLLOUT | libc::POLLRDHUP;
        let mut asked: Vec<libc::pollfd> = (0..SLOTS)
            .map(|slot| libc::pollfd {
                fd: self.slots[usize::from(slot)].map_or(-1, |held| held.fd),
                events: ASKED,
                revents: 0,
            })
            .collect();
        let _ = sys::poll(&mut asked);
        let mut looks = Vec::with_capacity(asked.len());
        for entry in &asked {
            if entry.fd < 0 {
                looks.push(String::new());
                continue;
            }
            let mut waiting = 0;
            let waiting = match sys::ioctl(entry.fd, libc::FIONREAD, &mut waiting) {
                Ok(_) => waiting.to_string(),
                Err(errno) => errno_name(errno),
            };
            looks.push(format!(
                "{}, {waiting}",
                mask_names(poll_events(entry.revents))
            ));
        }
        looks
    }

    /// Looks until nothing changes: natively an effect takes no time, but may be under way on another processor.
    fn settled(&self) -> Vec<String> {
        let mut last = self.looks();
        loop {
            std::thread::yield_now();
            let looks = self.looks();
            if looks == last {
                return looks;
            }
            last = looks;
        }
    }

    /// Looks until everything is as expected, or patience is at an end; what was waited in vain is taken off it.
    fn until(&self, expected: &[String], patience: &mut Duration) -> Vec<String> {
        let start = now();
        for round in 0.. {
            let looks = self.looks();
            if looks == expected {
                return looks;
            }
            let waited = now().duration_since(start);
            if waited >= *patience {
                *patience = (*patience / 8).max(Duration::from_millis(4));
                return looks;
            }
            match round {
                0..8 => std::thread::yield_now(),
                _ => pause(Duration::from_micros(150)),
            }
        }
        Vec::new()
    }

    /// What the kernel says of each socket.
    fn kinds(&self) -> Vec<String> {
        (0..SLOTS)
            .map(|slot| self.slots[usize::from(slot)].map_or_else(String::new, kind))
            .collect()
    }
}

/// Nothing waits for long, and no small segment for an acknowledgement.
fn prepare(fd: i32) {
    sys::limit_waiting(fd, WAIT);
    let mut on = 1i32.to_ne_bytes();
    // A datagram socket refuses it.
    let _ = sys::setsockopt(
        fd,
        libc::IPPROTO_TCP,
        libc::TCP_NODELAY,
        Memory::Bytes(&mut on),
        4,
    );
}

/// Kind, family and state of a socket of the kernel's.
fn kind(held: Held) -> String {
    const STATES: [&str; 13] = [
        "?",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
    ];
    let version = if held.family == libc::AF_INET6 { 6 } else { 4 };
    let has = |call: fn(i32, Memory<'_>, Length<'_>) -> Result<i32, i32>| {
        let mut out = Out::new(Room::PLENTY);
        let (name, len) = out.pair();
        call(held.fd, name, len).is_ok() && out.bytes[2..4] != [0, 0]
    };
    let mut info = Out::new(Room::Bytes(8));
    let (value, len) = info.pair();
    if sys::getsockopt(held.fd, libc::IPPROTO_TCP, libc::TCP_INFO, value, len).is_ok() {
        let state = STATES.get(usize::from(info.bytes[0])).unwrap_or(&"?");
        let bound = if *state == "CLOSE" && has(sys::getsockname) {
            " bound"
        } else {
            ""
        };
        return format!("tcp{version} {state}{bound}");
    }
    let state = match (has(sys::getpeername), has(sys::getsockname)) {
        (true, _) => "connected",
        (false, true) => "bound",
        (false, false) => "fresh",
    };
    format!("udp{version} {state}")
}

/// A buffer for an address or an option that comes out.
struct Out {
    bytes: [u8; Room::LARGEST as usize],
    len: u32,
    room: Room,
}

impl Out {
    fn new(room: Room) -> Self {
        let len = match room {
            Room::Bytes(len) => len.min(Room::LARGEST).cast_unsigned(),
            Room::Bad => 28,
            Room::BadLength | Room::Null => 0,
        };
        Self {
            bytes: [UNTOUCHED; Room::LARGEST as usize],
            len,
            room,
        }
    }

    fn pair(&mut self) -> (Memory<'_>, Length<'_>) {
        match self.room {
            Room::Bytes(_) => (Memory::Bytes(&mut self.bytes), Length::Of(&mut self.len)),
            Room::Bad => (Memory::Bad, Length::Of(&mut self.len)),
            Room::BadLength => (Memory::Bytes(&mut self.bytes), Length::Bad),
            Room::Null => (Memory::Null, Length::Null),
        }
    }

    /// What is in the buffer, as far as the length says and the room went.
    fn written(&self) -> &[u8] {
        match self.room {
            Room::Bytes(room) => {
                &self.bytes[..usize::try_from(room)
                    .unwrap_or(0)
                    .min(self.len as usize)
                    .min(self.bytes.len())]
            }
            Room::Bad | Room::BadLength | Room::Null => &[],
        }
    }
}

fn incoming<'a>(
    data: &'a mut [u8],
    name: &'a mut [u8],
    name_len: u32,
    control: &'a mut [u8],
) -> Message<'a> {
    Message {
        data,
        name: if name_len == 0 {
            Memory::Null
        } else {
            Memory::Bytes(name)
        },
        name_len,
        control,
        control_len: 0,
        flags: 0,
        moved: 0,
    }
}

fn pointed(form: Form, bytes: &mut [u8]) -> Memory<'_> {
    match form {
        Form::Right | Form::Length(_) => Memory::Bytes(bytes),
        Form::Bad => Memory::Bad,
        Form::Null => Memory::Null,
    }
}

fn number(value: i32) -> String {
    value.to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes as letters and how many of each come in a row, to the end of what was written.
fn letters(data: &[u8], count: usize) -> String {
    let mut text = String::new();
    for run in data[..count.min(data.len())].chunk_by(|a, b| a == b) {
        let letter = if run[0] == UNTOUCHED {
            '?'
        } else {
            char::from(run[0])
        };
        let _ = write!(text, "{letter}*{} ", run.len());
    }
    if data[count.min(data.len())..]
        .iter()
        .any(|byte| *byte != UNTOUCHED)
    {
        text.push_str("and more ");
    }
    text.trim_end().to_owned()
}

/// Control data: level, type and bytes of each; times vary.
fn controls_shown(bytes: &[u8], len: usize) -> String {
    const HEAD: usize = 16;
    let mut rest = &bytes[..len.min(bytes.len())];
    let mut text = format!("{len}");
    while let Some(head) = rest.get(..HEAD) {
        let field = |range: std::ops::Range<usize>| {
            head[range]
                .iter()
                .rev()
                .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let (size, level, kind) = (field(0..8), field(8..12), field(12..16));
        if size < HEAD {
            break;
        }
        let data = &rest[HEAD..size.clamp(HEAD, rest.len())];
        let shown = if level == 1 {
            String::from("…")
        } else {
            hex(data)
        };
        let _ = write!(text, " ({level}, {kind}, {shown})");
        rest = rest.get(size.next_multiple_of(8)..).unwrap_or_default();
    }
    text
}

/// Events of poll as epoll has them: the same bits.
fn poll_events(events: i16) -> u32 {
    u32::from(events.cast_unsigned())
}

fn mask_names(mask: u32) -> String {
    const NAMES: [(i16, &str); 11] = [
        (libc::POLLIN, "IN"),
        (libc::POLLPRI, "PRI"),
        (libc::POLLOUT, "OUT"),
        (libc::POLLERR, "ERR"),
        (libc::POLLHUP, "HUP"),
        (libc::POLLNVAL, "NVAL"),
        (libc::POLLRDNORM, "RDNORM"),
        (libc::POLLRDBAND, "RDBAND"),
        (libc::POLLWRNORM, "WRNORM"),
        (libc::POLLWRBAND, "WRBAND"),
        (libc::POLLRDHUP, "RDHUP"),
    ];
    let names: Vec<&str> = NAMES
        .iter()
        .filter(|(bit, _)| mask & poll_events(*bit) != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        "0".into()
    } else {
        names.join(" ")
    }
}

fn errno_name(errno: i32) -> String {
    // The name in the standard's spelling, which `Debug` of the enumeration is.
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the executing process has a clock of its own"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is waited for has no event of its own: all that poll and FIONREAD tell"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
