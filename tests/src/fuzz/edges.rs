// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parsers at the edges of the programs: what a shim, a client of the control API, a file or a program's memory may hold.

use netcon_api::route::{methods, route};
use netcon_api::wgquick::File;
use netcon_shim::handover::Message;
use netcon_supervisor::state::NetworkConfig;
use netcon_supervisor::trap::address::{Address, decode, encode};

use super::feed::Feed;

/// Messages between shim and supervisor: what was read is what is written.
pub fn handover(input: &[u8]) {
    let mut rest = input;
    while let Ok(Some((message, used))) = Message::decode(rest) {
        assert!(used > 0 && used <= rest.len());
        let again = Message::decode(&message.encode());
        assert!(
            again.is_ok_and(|again| again.is_some_and(|(again, _)| again == message)),
            "{message:?} is not read as it was written"
        );
        rest = &rest[used..];
    }
}

/// wg-quick's files: what was read and written is read the same.
pub fn wg_quick(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match File::parse(text) {
        Ok(file) => {
            let written = file.to_string();
            let again = File::parse(&written);
            assert!(
                again.is_ok_and(|again| again.to_string() == written),
                "not read as it was written: {written}"
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Requests of the control API: method, target and body, one line each.
pub fn control_request(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or("/");
    let (method, target) = (text(), text());
    let body = parts.next().unwrap_or_default();
    if let Err(error) = route(method, target, body) {
        assert!(!error.message.is_empty(), "{error:?}");
    }
    let _ = methods(target);
    let mut feed = Feed::new(body);
    let mut header = || std::str::from_utf8(feed.chunk()).ok();
    let (host, origin, referer) = (header(), header(), header());
    let _ = netcon_api::origin::check_origin(host, origin, referer);
}

/// Files of networks: what was read is written and read the same.
pub fn state_file(input: &[u8]) {
    if let Ok(network) = serde_json::from_slice::<NetworkConfig>(input) {
        let written = serde_json::to_string(&network).expect("what was read can be written");
        let again = serde_json::from_str::<NetworkConfig>(&written)
            .map(|again| serde_json::to_string(&again).expect("what was read can be written"));
        assert!(again.is_ok_and(|again| again == written), "{written}");
    }
}

/// Addresses in a program's memory.
pub fn socket_address(input: &[u8]) {
    if let Address::Internet(address) = decode(input) {
        let (bytes, len) = encode(address);
        assert_eq!(decode(&bytes[..len]), Address::Internet(address));
    }
}
