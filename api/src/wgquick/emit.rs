// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writing wg-quick files.

use std::fmt;

use super::parse::is_word;
use super::{File, Interface, Peer, Prefix, is_endpoint, is_name};

/// A file that wg-quick(8) accepts. A name or endpoint that could break out of its line is left out.
impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        comment(f, "NetworkName", self.network_name.as_deref())?;
        self.interface.fmt(f)?;
        self.peers.iter().try_for_each(|peer| write!(f, "\n{peer}"))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[Interface]")?;
        comment(f, "Name", self.name.as_deref())?;
        writeln!(f, "PrivateKey = {}", self.private_key.to_base64())?;
        list(f, "Address", &self.addresses)?;
        number(f, "ListenPort", self.listen_port)?;
        number(f, "MTU", self.mtu)?;
        let unused = &self.unused;
        if let Some(mark) = unused.fw_mark {
            writeln!(f, "FwMark = {mark:#x}")?;
        }
        let words: Vec<&str> = unused.dns.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => {}
            words if words.iter().all(|word| is_word(word)) => {
                writeln!(f, "DNS = {}", words.join(", "))?;
            }
            [..] => {}
        }
        if let Some(table) = unused.table.as_deref().filter(|table| is_word(table)) {
            writeln!(f, "Table = {table}")?;
        }
        match unused.save_config {
            Some(save) => writeln!(f, "SaveConfig = {save}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[Peer]")?;
        comment(f, "Name", self.name.as_deref())?;
        writeln!(f, "PublicKey = {}", self.public_key.to_base64())?;
        if let Some(key) = &self.preshared_key {
            writeln!(f, "PresharedKey = {}", key.to_base64())?;
        }
        list(f, "AllowedIPs", &self.allowed_ips)?;
        if let Some(endpoint) = self.endpoint.as_deref().filter(|text| is_endpoint(text)) {
            writeln!(f, "Endpoint = {endpoint}")?;
        }
        number(f, "PersistentKeepalive", self.persistent_keepalive)
    }
}

fn comment(f: &mut fmt::Formatter<'_>, key: &str, name: Option<&str>) -> fmt::Result {
    match name.filter(|name| is_name(name)) {
        Some(name) => writeln!(f, "# {key} = {name}"),
        None => Ok(()),
    }
}

fn list(f: &mut fmt::Formatter<'_>, key: &str, prefixes: &[Prefix]) -> fmt::Result {
    let mut before = format!("{key} = ");
    for prefix in prefixes {
        write!(f, "{before}{prefix}")?;
        ", ".clone_into(&mut before);
    }
    match prefixes {
        [] => Ok(()),
        [..] => writeln!(f),
    }
}

fn number(f: &mut fmt::Formatter<'_>, key: &str, value: Option<u16>) -> fmt::Result {
    match value {
        Some(value) => writeln!(f, "{key} = {value}"),
        None => Ok(()),
    }
}
