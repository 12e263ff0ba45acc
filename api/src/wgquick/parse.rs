// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading wg-quick files: line by line, bounded, keys in any case, `#` begins a comment anywhere (wg(8), wg-quick(8)).

use super::{File, Interface, Key, Peer, Prefix, is_endpoint, is_name};

/// Largest file, in bytes.
pub const LARGEST: usize = 256 * 1024;
/// Most `[Peer]` sections.
pub const MOST_PEERS: usize = 1024;
/// Most addresses of the interface, and most allowed IPs of a peer.
pub const MOST_PREFIXES: usize = 1024;

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
    /// Not an address with an optional prefix length.
    #[error("an address looks like 10.77.0.1/24 or fd77::1/64")]
    Prefix,
    /// Not `host:port`.
    #[error("an endpoint looks like host:port or [IPv6]:port")]
    Endpoint,
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
    interface_seen: bool,
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
    public_key: Option<Key>,
    preshared_key: Option<Key>,
    endpoint: Option<String>,
    allowed_ips: Vec<Prefix>,
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
        let (key, value) = (key.trim(), value.trim());
        match (self.section, self.peers.last_mut()) {
            (Section::None, _) => Err(Problem::Outside(shortened(key))),
            (Section::Peer, Some(peer)) => peer.assign(key, value),
            (Section::Interface | Section::Peer, _) => self.assign(number, key, value),
        }
    }

    fn section(&mut self, number: usize, content: &str) -> Result<(), Problem> {
        if content.eq_ignore_ascii_case("[interface]") {
            self.section = Section::Interface;
            self.interface_seen = true;
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
            return Err(Problem::Section(shortened(content)));
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
        match key.to_ascii_lowercase().as_str() {
            "privatekey" => self.private_key = Some(value.parse()?),
            "address" => prefixes(value, &mut self.addresses, |prefix| prefix)?,
            "listenport" => {
                self.listen_port = Some(parse_number(value, "ListenPort", 0)?);
                self.ignored.push(format!(
                    "ListenPort (line {line}) has no effect: one UDP port serves all networks."
                ));
            }
            "mtu" => self.mtu = Some(parse_number(value, "MTU", 1)?),
            "dns" => self.ignored.push(format!(
                "DNS (line {line}) has no effect: name servers are not configured by this file."
            )),
            "preup" | "postup" | "predown" | "postdown" => self.ignored.push(format!(
                "{key} (line {line}) is not run: commands in configuration files are never run."
            )),
            "table" | "fwmark" => self.ignored.push(format!(
                "{key} (line {line}) has no effect: the host's routing is not touched."
            )),
            "saveconfig" => self.ignored.push(format!(
                "{key} (line {line}) has no effect: every change is saved."
            )),
            _ => {
                return Err(Problem::UnknownKey {
                    key: shortened(key),
                    section: "Interface",
                });
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<File, ParseError> {
        if !self.interface_seen {
            return Err(whole(Problem::NoInterface));
        }
        let interface = Interface {
            name: self.name,
            private_key: self
                .private_key
                .ok_or_else(|| whole(Problem::NoPrivateKey))?,
            addresses: self.addresses,
            listen_port: self.listen_port,
            mtu: self.mtu,
        };
        if interface.addresses.is_empty() {
            return Err(whole(Problem::NoAddress));
        }
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

impl PartialPeer {
    fn assign(&mut self, key: &str, value: &str) -> Result<(), Problem> {
        match key.to_ascii_lowercase().as_str() {
            "publickey" => self.public_key = Some(value.parse()?),
            "presharedkey" => self.preshared_key = Some(value.parse()?),
            "endpoint" if is_endpoint(value) => self.endpoint = Some(value.to_owned()),
            "endpoint" => return Err(Problem::Endpoint),
            "allowedips" => prefixes(value, &mut self.allowed_ips, Prefix::network)?,
            "persistentkeepalive" => {
                self.persistent_keepalive = match value {
                    "0" => None,
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

    fn finish(self) -> Result<Peer, ParseError> {
        Ok(Peer {
            name: self.name,
            public_key: self.public_key.ok_or(ParseError {
                line: Some(self.line),
                problem: Problem::NoPublicKey,
            })?,
            preshared_key: self.preshared_key,
            endpoint: self.endpoint,
            allowed_ips: self.allowed_ips,
            persistent_keepalive: self.persistent_keepalive.filter(|seconds| *seconds > 0),
        })
    }
}

/// Adds a list of prefixes to those of earlier lines. A `+` before one adds, a `-` takes away (wg(8), AllowedIPs).
fn prefixes(
    value: &str,
    list: &mut Vec<Prefix>,
    form: impl Fn(Prefix) -> Prefix,
) -> Result<(), Problem> {
    for item in value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let (taken_away, item) = match item.strip_prefix('-') {
            Some(item) => (true, item),
            None => (false, item.strip_prefix('+').unwrap_or(item)),
        };
        let prefix = form(item.parse()?);
        if taken_away {
            list.retain(|other| *other != prefix);
        } else if !list.contains(&prefix) {
            if list.len() == MOST_PREFIXES {
                return Err(Problem::TooManyPrefixes);
            }
            list.push(prefix);
        }
    }
    Ok(())
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
