// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The conversation in which a shim hands its container to the supervisor. Pure: bytes in, bytes out.
//!
//! It runs over the supervisor's unix stream socket, which also serves HTTP: the first eight bytes are [`PREAMBLE`] (the
//! supervisor may peek at them), then come messages, each a length (u32, little endian, of what follows), a kind (u8) and a
//! body. Integers are little endian, strings and byte strings carry their length as u32.
//!
//! ```text
//! shim                                   supervisor
//!  PREAMBLE, Hello ----------------------->  who is it (SO_PEERCRED), which network
//!  <----------------------- Answer           Refused and Inside end the conversation: nothing has happened yet
//!  installs the filter; from here on its main thread is served
//!  Listener, SCM_RIGHTS on its bytes ----->  takes the fd, starts to receive
//!  main thread: getsockname(PROBE_FD,        the first notification: memory at argument 1 must read PROBE_COOKIE;
//!    &PROBE_COOKIE, &length)                 answers it with errno PROBE_ERRNO
//!  <----------------------- Outcome          Ready: the shim executes the program. Failed: it prints the sentence
//! ```
//!
//! The shim closes its own listener fd once it has been sent and before the probe: when the supervisor goes away at any
//! later point, the kernel answers trapped calls with ENOSYS and nobody waits for ever. After Failed, or instead of the
//! probe's answer, the supervisor closes the listener.
//!
//! Versions: PREAMBLE, the frame (length, kind) and [`Answer::Refused`] never change, and a body may grow at its end, so
//! that each version can read the other's refusal. A supervisor speaks every version from [`OLDEST`] to [`VERSION`]. A shim
//! begins with its newest; refused for its version, it asks again with the one before, down to its own oldest.

use std::fmt;
use std::io::{self, Read};

/// First bytes on the connection. The last is the version of the framing.
pub const PREAMBLE: [u8; 8] = *b"NETCON\0\x01";
/// Version of the conversation, said in [`Hello`].
pub const VERSION: u16 = 1;
/// Oldest version that is still spoken: a release speaks those of the releases before it, so that an upgrade needs no restart.
pub const OLDEST: u16 = 1;
/// Longest message, kind and body, in bytes.
pub const MAX_MESSAGE: usize = 16 * 1024;
/// Longest argv\[0\] said in [`Hello`], in bytes; longer ones are cut.
pub const MAX_ARGV0: usize = 4096;
/// Longest network name, in bytes; a longer one is no network's.
pub const MAX_NETWORK: usize = 256;

/// Descriptor of the probe call: none.
pub const PROBE_FD: i32 = -1;
/// What stands in memory at the second argument of the probe call.
pub const PROBE_COOKIE: [u8; 8] = *b"netcon\xa5\x5a";
/// Errno with which the probe is answered (EBADF): what the kernel itself would say.
pub const PROBE_ERRNO: i32 = 9;

/// Why a shim was refused; [`Answer::Refused`] carries it as a number, the sentence is for people.
pub mod refusal {
    /// The other side speaks another version.
    pub const VERSION: u16 = 1;
    /// Oldest version that is still spoken: a release speaks those of the releases before it, so that an upgrade needs no restart.
    pub const OLDEST: u16 = 1;
    /// No such network.
    pub const UNKNOWN_NETWORK: u16 = 2;
    /// None was named, and there is none or more than one.
    pub const NETWORK_NOT_NAMED: u16 = 3;
    /// The shim runs inside a container of another network.
    pub const OTHER_NETWORK: u16 = 4;
    /// The supervisor serves as many containers as it can.
    pub const LIMIT: u16 = 5;
    /// The caller is not who may use this supervisor.
    pub const IDENTITY: u16 = 6;
    /// Anything else.
    pub const OTHER: u16 = 7;
}

/// What a shim wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new container.
    New,
    /// To hand over the listener of a container that lives already (reserved).
    Reattach {
        /// Which.
        container: u64,
    },
}

/// First message of the shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`] of the shim.
    pub version: u16,
    /// Network by name or id; `None`: the only one there is.
    pub network: Option<String>,
    /// The program as typed; not trusted, for display only.
    pub argv0: Vec<u8>,
    /// Process id in the shim's own pid namespace; the trusted one is SO_PEERCRED's.
    pub pid: u32,
    /// What it wants.
    pub purpose: Purpose,
}

/// The supervisor's answer to [`Hello`], before anything irreversible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The shim shall install the filter.
    Accepted {
        /// Name of the new container.
        container: u64,
        /// Local name of its network.
        network: String,
    },
    /// The shim already runs in that network: it shall just execute the program.
    Inside {
        /// Local name of the network.
        network: String,
    },
    /// Nothing shall happen.
    Refused {
        /// One of [`refusal`].
        code: u16,
        /// For people: what is wrong and what to do.
        sentence: String,
    },
}

/// Goes with the listener fd (SCM_RIGHTS on the bytes of this message).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// `SECCOMP_FILTER_FLAG_*` with which the filter was really installed.
    pub flags: u32,
}

impl Listener {
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;

    /// True when a received call is interrupted by fatal signals only.
    #[must_use]
    pub const fn waits_killable(self) -> bool {
        self.flags & Self::WAIT_KILLABLE_RECV != 0
    }
}

/// Last message of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The probe was received, its memory read, and answered: the program may start.
    Ready,
    /// The container cannot be served; the program must not start.
    Failed {
        /// For people: why, and what to do.
        sentence: String,
    },
}

/// One message of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Shim: who and what.
    Hello(Hello),
    /// Supervisor: may it.
    Answer(Answer),
    /// Shim: the listener.
    Listener(Listener),
    /// Supervisor: does it work.
    Outcome(Outcome),
}

/// Bytes that are no message of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Longer than [`MAX_MESSAGE`], or empty.
    Length(u32),
    /// Unknown kind of message.
    Kind(u8),
    /// The body ends early or holds an unknown tag.
    Body,
    /// A string is not UTF-8.
    Text,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "a message of {length} bytes"),
            Self::Kind(kind) => write!(f, "a message of unknown kind {kind}"),
            Self::Body => write!(f, "a message that does not hold what it should"),
            Self::Text => write!(f, "a message with text that is not UTF-8"),
        }
    }
}

impl std::error::Error for Malformed {}

impl Message {
    /// The message with its length in front. Texts beyond their bounds are cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![0; 4]);
        match self {
            Self::Hello(hello) => {
                out.u8(HELLO);
                out.u16(hello.version);
                match &hello.network {
                    None => out.u8(0),
                    Some(name) => {
                        out.u8(1);
                        out.text(name, MAX_NETWORK);
                    }
                }
                out.bytes(&hello.argv0, MAX_ARGV0);
                out.u32(hello.pid);
                match hello.purpose {
                    Purpose::New => out.u8(0),
                    Purpose::Reattach { container } => {
                        out.u8(1);
                        out.u64(container);
                    }
                }
            }
            Self::Answer(Answer::Accepted { container, network }) => {
                out.u8(ACCEPTED);
                out.u64(*container);
                out.text(network, MAX_NETWORK);
            }
            Self::Answer(Answer::Inside { network }) => {
                out.u8(INSIDE);
                out.text(network, MAX_NETWORK);
            }
            Self::Answer(Answer::Refused { code, sentence }) => {
                out.u8(REFUSED);
                out.u16(*code);
                out.text(sentence, MAX_SENTENCE);
            }
            Self::Listener(listener) => {
                out.u8(LISTENER);
                out.u32(listener.flags);
            }
            Self::Outcome(Outcome::Ready) => out.u8(READY),
            Self::Outcome(Outcome::Failed { sentence }) => {
                out.u8(FAILED);
                out.text(sentence, MAX_SENTENCE);
            }
        }
        out.finish()
    }

    /// The first message in `buffer` and how many bytes it took; `None` while it is not complete.
    pub fn decode(buffer: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((length, rest)) = buffer.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = checked_length(*length)?;
        match rest.get(..length) {
            None => Ok(None),
            Some(message) => Ok(Some((Self::decode_content(message)?, 4 + length))),
        }
    }

    /// Reads one message from a stream, and not a byte more.
    ///
    /// Errors: InvalidData for a [`Malformed`] one, UnexpectedEof, and what the stream gives.
    pub fn read_from(stream: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut content = vec![0; checked_length(length).map_err(invalid)?];
        stream.read_exact(&mut content)?;
        Self::decode_content(&content).map_err(invalid)
    }

    fn decode_content(content: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(content);
        let message = match input.u8()? {
            HELLO => Self::Hello(Hello {
                version: input.u16()?,
                network: match input.u8()? {
                    0 => None,
                    1 => Some(input.text()?),
                    _ => return Err(Malformed::Body),
                },
                argv0: input.bytes()?.to_vec(),
                pid: input.u32()?,
                purpose: match input.u8()? {
                    0 => Purpose::New,
                    1 => Purpose::Reattach {
                        container: input.u64()?,
                    },
                    _ => return Err(Malformed::Body),
                },
            }),
            ACCEPTED => Self::Answer(Answer::Accepted {
                container: input.u64()?,
                network: input.text()?,
            }),
            INSIDE => Self::Answer(Answer::Inside {
                network: input.text()?,
            }),
            REFUSED => Self::Answer(Answer::Refused {
                code: input.u16()?,
                sentence: input.text()?,
            }),
            LISTENER => Self::Listener(Listener {
                flags: input.u32()?,
            }),
            READY => Self::Outcome(Outcome::Ready),
            FAILED => Self::Outcome(Outcome::Failed {
                sentence: input.text()?,
            }),
            kind => return Err(Malformed::Kind(kind)),
        };
        Ok(message)
    }
}

const HELLO: u8 = 1;
const ACCEPTED: u8 = 2;
const INSIDE: u8 = 3;
const REFUSED: u8 = 4;
const LISTENER: u8 = 5;
const READY: u8 = 6;
const FAILED: u8 = 7;
const MAX_SENTENCE: usize = 4096;

fn checked_length(bytes: [u8; 4]) -> Result<usize, Malformed> {
    let length = u32::from_le_bytes(bytes);
    match usize::try_from(length) {
        Ok(size @ 1..=MAX_MESSAGE) => Ok(size),
        Ok(_) | Err(_) => Err(Malformed::Length(length)),
    }
}

fn invalid(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, value: &[u8], limit: usize) {
        let value = value.get(..limit).unwrap_or(value);
        self.u32(u32::try_from(value.len()).expect("every limit is far below 2^32"));
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, value: &str, limit: usize) {
        self.bytes(&value.as_bytes()[..value.floor_char_boundary(limit)], limit);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).expect("bounded by the limits of its parts");
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Malformed::Body)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed::Body)?;
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed::Body)?;
        self.0 = tail;
        Ok(head)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        std::str::from_utf8(self.bytes()?)
            .map(str::to_owned)
            .map_err(|_| Malformed::Text)
    }
}

#[cfg(test)]
mod tests;
