// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading wg-quick files: line by line, bounded, keys in any case, blanks anywhere, `#` begins a comment anywhere (wg(8),
//! wg-quick(8)). What wg(8) would take and a network cannot have is refused here, too: here the line is known.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{File, Interface, Key, Peer, Prefix, Unused, is_endpoint, is_name};

/// Largest file, in bytes.
pub const LARGEST: usize = 256 * 1024;
/// Most `[Peer]` sections.
pub const MOST_PEERS: usize = 1024;
/// Most addresses of the interface, and most allowed IPs of a peer.
pub const MOST_PREFIXES: usize = 1024;

/// What every IPv6 link carries (RFC 8200, section 5), bytes.
pub const SMALLEST_MTU: u16 = 1280;
/// Jumbo frames; well below what a UDP datagram holds, bytes.
pub const LARGEST_MTU: u16 = 9000;
/// Most name servers and search domains.
const MOST_WORDS: usize = 64;

/// Why a file is not understood. Displays as a clause without a full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", .line.map_or_else(String::new, |line| format!("line {line}: ")))]
pub struct ParseError {
    /// Where, counted from 1; none if it is about the whole file.
    pub line: Option<usize>,
    /// What.
    pub problem: Problem,
}

/// What is wrong. Texts from the file are shortened, and keys are not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Too many bytes.
    #[error("the file is larger than {LARGEST} bytes")]
    TooLarge,
    /// A zero byte.
    #[error("this is no text")]
    Binary,
    /// Too many `[Peer]` sections.
    #[error("there are more than {MOST_PEERS} peers")]
    TooManyPeers,
    /// Too many prefixes in one section.
    #[error("there are more than {MOST_PREFIXES} addresses in one section")]
    TooManyPrefixes,
    /// A `[…]` that is neither `[Interface]` nor `[Peer]`.
    #[error("{0:?} is neither [Interface] nor [Peer]")]
    Section(String),
    /// A line that is no section and no assignment.
    #[error("there is no \"Key = value\"")]
    NoAssignment,
    /// An assignment above the first section.
    #[error("{0:?} belongs below [Interface] or [Peer]")]
    Outside(String),
    /// A key that the section does not have.
    #[error("{key:?} is not known in [{section}]")]
    UnknownKey {
        /// The key.
        key: String,
        /// The section.
        section: &'static str,
    },
    /// Not 32 bytes in base64.
    #[error("a key is 44 characters of base64")]
    Key,
    /// The same, and whose value it is.
    #[error("{0} is no key: a key is 44 characters of base64")]
    KeyOf(&'static str),
    /// Not an address with an optional prefix length.
    #[error("an address looks like 10.77.0.1/24 or fd77::1/64")]
    Prefix,
    /// The same, and what stands there.
    #[error("{0:?} is no address: an address looks like 10.77.0.1/24 or fd77::1/64")]
    PrefixText(String),
    /// An address that no host has.
    #[error("{0} cannot be this side's own address")]
    NotOwn(Prefix),
    /// Not `host:port`.
    #[error("{0:?} is no endpoint: an endpoint looks like host:port or [IPv6]:port")]
    Endpoint(String),
    /// An MTU that no network can have.
    #[error("an MTU of {0} bytes is not possible: it is from {SMALLEST_MTU} to {LARGEST_MTU}")]
    Mtu(u16),
    /// Neither true nor false.
    #[error("{0} is true or false")]
    Bool(&'static str),
    /// Not a mark of packets.
    #[error("FwMark is a number, 0x and a hexadecimal one, or off")]
    FwMark,
    /// Not a routing table.
    #[error("Table is off, auto, or a table's number or name")]
    Table,
    /// Not a name server, nor a domain.
    #[error("DNS is a list of at most 64 addresses and domains")]
    Dns,
    /// A public key that an earlier peer has.
    #[error("the peer of line {0} has this public key already")]
    SamePeer(usize),
    /// A prefix that an earlier peer has.
    #[error("{prefix} belongs to the peer of line {other} already")]
    SamePrefix {
        /// What.
        prefix: Prefix,
        /// Line of that peer.
        other: usize,
    },
    /// A peer's prefix that is this side's own address.
    #[error("{0} is this side's own address")]
    OwnPrefix(Prefix),
    /// A number that does not fit.
    #[error("{key} is a number from {least} to 65535")]
    Number {
        /// Of what.
        key: &'static str,
        /// The smallest that is possible.
        least: u16,
    },
    /// There is no `[Interface]`.
    #[error("it has no [Interface]")]
    NoInterface,
    /// There is no `PrivateKey`.
    #[error("[Interface] has no PrivateKey")]
    NoPrivateKey,
    /// There is no `Address`.
    #[error("[Interface] has no Address")]
    NoAddress,
    /// A peer without `PublicKey`.
    #[error("this [Peer] has no PublicKey")]
    NoPublicKey,
}

impl File {
    /// Reads a file. Names in comments that cannot be names are comments.
    ///
    /// # Errors
    /// [`ParseError`] with the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > LARGEST {
            return Err(whole(Problem::TooLarge));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.contains('\0') {
            let line = text.lines().position(|line| line.contains('\0'));
            return Err(ParseError {
                line: line.map(|index| index + 1),
                problem: Problem::Binary,
            });
        }
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            reader.line(number, line).map_err(|problem| ParseError {
                line: Some(number),
                problem,
            })?;
        }
        reader.finish()
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reader {
    section: Section,
    network_name: Option<String>,
    name: Option<String>,
    private_key: Option<Key>,
    addresses: Vec<Prefix>,
    listen_port: Option<u16>,
    mtu: Option<u16>,
    unused: Unused,
    /// Line of the first `[Interface]`.
    interface_line: Option<usize>,
    peers: Vec<PartialPeer>,
    ignored: Vec<String>,
}

#[derive(Default, Clone, Copy)]
enum Section {
    #[default]
    None,
    Interface,
    /// The last one of the list.
    Peer,
}

/// A `[Peer]` that may still lack its key.
#[derive(Default)]
struct PartialPeer {
    /// Line of the section.
    line: usize,
    name: Option<String>,
    /// With its line.
    public_key: Option<(Key, usize)>,
    preshared_key: Option<Key>,
    endpoint: Option<String>,
    /// With the line of each.
    allowed_ips: Vec<(Prefix, usize)>,
    persistent_keepalive: Option<u16>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Problem> {
        let (content, comment) = match line.split_once('#') {
            Some((content, comment)) => (content.trim(), Some(comment)),
            None => (line.trim(), None),
        };
        if content.is_empty() {
            if let Some(comment) = comment {
                self.comment(comment);
            }
            return Ok(());
        }
        if content.starts_with('[') {
            return self.section(number, content);
        }
        let (key, value) = content.split_once('=').ok_or(Problem::NoAssignment)?;
        let (key, value) = (compact(key), value.trim());
        match (self.section, self.peers.last_mut()) {
            (Section::None, _) => Err(Problem::Outside(shortened(&key))),
            (Section::Peer, Some(peer)) => peer.assign(number, &key, value),
            (Section::Interface | Section::Peer, _) => self.assign(number, &key, value),
        }
    }

    fn section(&mut self, number: usize, content: &str) -> Result<(), Problem> {
        let content = compact(content);
        if content.eq_ignore_ascii_case("[interface]") {
            self.section = Section::Interface;
            self.interface_line.get_or_insert(number);
        } else if content.eq_ignore_ascii_case("[peer]") {
            if self.peers.len() == MOST_PEERS {
                return Err(Problem::TooManyPeers);
            }
            self.section = Section::Peer;
            self.peers.push(PartialPeer {
                line: number,
                ..PartialPeer::default()
            });
        } else {
            return Err(Problem::Section(shortened(&content)));
        }
        Ok(())
    }

    fn comment(&mut self, comment: &str) {
        let Some((key, value)) = comment.split_once('=') else {
            return;
        };
        let (key, value) = (key.trim(), value.trim());
        if !is_name(value) {
            return;
        }
        if key.eq_ignore_ascii_case("networkname") {
            self.network_name.get_or_insert_with(|| value.to_owned());
        } else if key.eq_ignore_ascii_case("name") {
            let name = match (self.section, self.peers.last_mut()) {
                (Section::None, _) => return,
                (Section::Peer, Some(peer)) => &mut peer.name,
                (Section::Interface | Section::Peer, _) => &mut self.name,
            };
            name.get_or_insert_with(|| value.to_owned());
        }
    }

    /// An assignment in `[Interface]`.
    fn assign(&mut self, line: usize, key: &str, value: &str) -> Result<(), Problem> {
        let ignored = match key.to_ascii_lowercase().as_str() {
            "privatekey" => {
                self.private_key = Some(parse_key("PrivateKey", value)?);
                None
            }
            "address" => self.address(value)?,
            "listenport" => {
                self.listen_port = Some(parse_number(&compact(value), "ListenPort", 0)?);
                Some("has no effect: one UDP port serves all networks.")
            }
            "mtu" => {
                let mtu = parse_number(value, "MTU", 1)?;
                if !(SMALLEST_MTU..=LARGEST_MTU).contains(&mtu) {
                    return Err(Problem::Mtu(mtu));
                }
                self.mtu = Some(mtu);
                None
            }
            "dns" => {
                for word in words(value) {
                    if !is_word(word) || self.unused.dns.len() == MOST_WORDS {
                        return Err(Problem::Dns);
                    }
                    self.unused.dns.push(word.to_owned());
                }
                Some("has no effect: name servers are not configured by this file.")
            }
            "preup" | "postup" | "predown" | "postdown" => {
                Some("is not run: commands in configuration files are never run.")
            }
            "table" => {
                if !is_word(value) {
                    return Err(Problem::Table);
                }
                self.unused.table = Some(value.to_owned());
                Some("has no effect: the host's routing is not touched.")
            }
            "fwmark" => {
                self.unused.fw_mark = parse_mark(&compact(value))?;
                Some("has no effect: the host's routing is not touched.")
            }
            "saveconfig" => {
                self.unused.save_config = match value.to_ascii_lowercase().as_str() {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => return Err(Problem::Bool("SaveConfig")),
                };
                Some("has no effect: every change is saved.")
            }
            _ => {
                return Err(Problem::UnknownKey {
                    key: shortened(key),
                    section: "Interface",
                });
            }
        };
        if let Some(reason) = ignored {
            self.ignored.push(format!("{key} (line {line}) {reason}"));
        }
        Ok(())
    }

    /// Own addresses; wg-quick also takes blanks between them. One of each family counts.
    fn address(&mut self, value: &str) -> Result<Option<&'static str>, Problem> {
        let mut ignored = None;
        for word in words(value) {
            let prefix = parse_prefix(word)?;
            if !can_be_own(prefix.address()) {
                return Err(Problem::NotOwn(prefix));
            }
            let family = |other: &Prefix| other.address().is_ipv4() == prefix.address().is_ipv4();
            if self.addresses.contains(&prefix) {
                continue;
            }
            if self.addresses.len() == MOST_PREFIXES {
                return Err(Problem::TooManyPrefixes);
            }
            if self.addresses.iter().any(family) {
                ignored =
                    Some("holds more than one address of a family: the first of each is used.");
            }
            self.addresses.push(prefix);
        }
        Ok(ignored)
    }

    fn finish(self) -> Result<File, ParseError> {
        let Some(line) = self.interface_line else {
            return Err(ParseError {
                line: self.peers.first().map(|peer| peer.line),
                problem: Problem::NoInterface,
            });
        };
        let missing = |problem| ParseError {
            line: Some(line),
            problem,
        };
        let interface = Interface {
            name: self.name,
            private_key: self
                .private_key
                .ok_or_else(|| missing(Problem::NoPrivateKey))?,
            addresses: self.addresses,
            listen_port: self.listen_port,
            mtu: self.mtu,
            unused: self.unused,
        };
        if interface.addresses.is_empty() {
            return Err(missing(Problem::NoAddress));
        }
        check_peers(&interface, &self.peers)?;
        let peers = self
            .peers
            .into_iter()
            .map(PartialPeer::finish)
            .collect::<Result<_, _>>()?;
        Ok(File {
            network_name: self.network_name,
            interface,
            peers,
            ignored: self.ignored,
        })
    }
}

/// What must hold between the peers, so that an address leads to one of them.
fn check_peers(interface: &Interface, peers: &[PartialPeer]) -> Result<(), ParseError> {
    let mut keys = HashMap::new();
    let mut prefixes = HashMap::new();
    for peer in peers {
        let Some((key, line)) = &peer.public_key else {
            continue;
        };
        if let Some(other) = keys.insert(*key.as_bytes(), peer.line) {
            return Err(ParseError {
                line: Some(*line),
                problem: Problem::SamePeer(other),
            });
        }
        for (prefix, line) in &peer.allowed_ips {
            let at = |problem| ParseError {
                line: Some(*line),
                problem,
            };
            if let Some(other) = prefixes.insert(*prefix, peer.line) {
                let prefix = *prefix;
                return Err(at(Problem::SamePrefix { prefix, other }));
            }
            let single = prefix.length() == if prefix.address().is_ipv4() { 32 } else { 128 };
            let own = |own: &Prefix| own.address() == prefix.address();
            if single && interface.addresses.iter().any(own) {
                return Err(at(Problem::OwnPrefix(*prefix)));
            }
        }
    }
    Ok(())
}

impl PartialPeer {
    fn assign(&mut self, line: usize, key: &str, value: &str) -> Result<(), Problem> {
        let value = compact(value);
        match key.to_ascii_lowercase().as_str() {
            "publickey" => self.public_key = Some((parse_key("PublicKey", &value)?, line)),
            "presharedkey" => self.preshared_key = Some(parse_key("PresharedKey", &value)?),
            "endpoint" if is_endpoint(&value) => self.endpoint = Some(value),
            "endpoint" => return Err(Problem::Endpoint(shortened(&value))),
            "allowedips" => self.allow(line, &value)?,
            "persistentkeepalive" => {
                self.persistent_keepalive = match value.as_str() {
                    off if off.eq_ignore_ascii_case("off") => None,
                    seconds => Some(parse_number(seconds, "PersistentKeepalive", 0)?),
                }
            }
            _ => {
                return Err(Problem::UnknownKey {
                    key: shortened(key),
                    section: "Peer",
                });
            }
        }
        Ok(())
    }

    /// Adds prefixes to those of earlier lines. A `+` before one adds, a `-` takes away (wg(8), AllowedIPs).
    fn allow(&mut self, line: usize, value: &str) -> Result<(), Problem> {
        for item in value.split(',').filter(|item| !item.is_empty()) {
            let (taken_away, item) = match item.strip_prefix('-') {
                Some(item) => (true, item),
                None => (false, item.strip_prefix('+').unwrap_or(item)),
            };
            let prefix = parse_prefix(item)?.network();
            if taken_away {
                self.allowed_ips.retain(|(other, _)| *other != prefix);
            } else if !self.allowed_ips.iter().any(|(other, _)| *other == prefix) {
                if self.allowed_ips.len() == MOST_PREFIXES {
                    return Err(Problem::TooManyPrefixes);
                }
                self.allowed_ips.push((prefix, line));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Peer, ParseError> {
        let (public_key, _line) = self.public_key.ok_or(ParseError {
            line: Some(self.line),
            problem: Problem::NoPublicKey,
        })?;
        Ok(Peer {
            name: self.name,
            public_key,
            preshared_key: self.preshared_key,
            endpoint: self.endpoint,
            allowed_ips: self.allowed_ips.into_iter().map(|(ip, _line)| ip).collect(),
            persistent_keepalive: self.persistent_keepalive.filter(|seconds| *seconds > 0),
        })
    }
}

/// A text without blanks: wg(8) takes them out of its lines before it looks at them.
fn compact(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The items of a list of wg-quick(8): it takes commas for blanks.
fn words(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

/// An address, a domain, a table: what stands in one word, and cannot break out of its line.
pub(super) fn is_word(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:%~".contains(&byte))
}

/// Whether a host can have this address as its own.
fn can_be_own(address: IpAddr) -> bool {
    let mapped = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    !(mapped || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

fn parse_key(name: &'static str, value: &str) -> Result<Key, Problem> {
    compact(value).parse().map_err(|_| Problem::KeyOf(name))
}

fn parse_prefix(text: &str) -> Result<Prefix, Problem> {
    text.parse()
        .map_err(|_| Problem::PrefixText(shortened(text)))
}

/// `off`, a number, or 0x and a hexadecimal one; 0 is off.
fn parse_mark(text: &str) -> Result<Option<u32>, Problem> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` would accept a plus sign.
    let mark = digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u32::from_str_radix(digits, radix).ok())
        .flatten()
        .ok_or(Problem::FwMark)?;
    Ok((mark != 0).then_some(mark))
}

fn parse_number(text: &str, key: &'static str, least: u16) -> Result<u16, Problem> {
    // `parse` would accept a plus sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && *number >= least)
        .ok_or(Problem::Number { key, least })
}

fn whole(problem: Problem) -> ParseError {
    ParseError {
        line: None,
        problem,
    }
}

/// Enough of a text to find it again.
fn shortened(text: &str) -> String {
    text.chars().take(32).collect()
}
