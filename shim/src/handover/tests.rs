// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Round trips, cuts, and bytes that mean nothing.

use super::*;

fn samples() -> Vec<Message> {
    let hello = |network: Option<&str>, argv0: &[u8], purpose| {
        Message::Hello(Hello {
            version: VERSION,
            network: network.map(str::to_owned),
            argv0: argv0.to_vec(),
            pid: 4242,
            purpose,
        })
    };
    vec![
        hello(None, b"", Purpose::New),
        hello(Some("demo"), b"./\xff\xfe", Purpose::New),
        hello(
            Some(""),
            b"curl",
            Purpose::Reattach {
                container: u64::MAX,
            },
        ),
        Message::Answer(Answer::Accepted {
            container: 7,
            network: "demo".into(),
        }),
        Message::Answer(Answer::Inside {
            network: "größe".into(),
        }),
        Message::Answer(Answer::Refused {
            code: refusal::UNKNOWN_NETWORK,
            sentence: "no".into(),
        }),
        Message::Listener(Listener {
            flags: Listener::WAIT_KILLABLE_RECV | 8,
        }),
        Message::Outcome(Outcome::Ready),
        Message::Outcome(Outcome::Failed {
            sentence: String::new(),
        }),
    ]
}

#[test]
fn round_trips() {
    for message in samples() {
        let mut bytes = message.encode();
        let length = bytes.len();
        assert_eq!(Message::decode(&bytes), Ok(Some((message.clone(), length))));
        assert_eq!(Message::read_from(&mut &bytes[..]).unwrap(), message);
        bytes.extend_from_slice(b"next");
        assert_eq!(Message::decode(&bytes), Ok(Some((message, length))));
    }
}

#[test]
fn a_part_of_a_message_is_awaited() {
    for message in samples() {
        let bytes = message.encode();
        for cut in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..cut]), Ok(None));
        }
    }
}

#[test]
fn a_body_may_grow_at_its_end() {
    for message in samples() {
        let mut bytes = message.encode();
        bytes.extend_from_slice(&[1, 2, 3]);
        let length = u32::try_from(bytes.len() - 4).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        assert_eq!(Message::decode(&bytes), Ok(Some((message, bytes.len()))));
    }
}

#[test]
fn texts_are_cut_to_their_bounds() {
    let long = "ä".repeat(MAX_MESSAGE);
    let messages = [
        Message::Hello(Hello {
            version: 1,
            network: Some(long.clone()),
            argv0: vec![b'a'; MAX_MESSAGE],
            pid: 1,
            purpose: Purpose::New,
        }),
        Message::Answer(Answer::Refused {
            code: 0,
            sentence: long.clone(),
        }),
        Message::Outcome(Outcome::Failed { sentence: long }),
    ];
    for message in messages {
        let bytes = message.encode();
        assert!(bytes.len() <= 4 + MAX_MESSAGE);
        assert!(matches!(Message::decode(&bytes), Ok(Some(_))));
    }
}

#[test]
fn lengths_are_bounded() {
    assert_eq!(Message::decode(&[0, 0, 0, 0]), Err(Malformed::Length(0)));
    assert_eq!(
        Message::decode(&[0xff; 4]),
        Err(Malformed::Length(u32::MAX))
    );
    assert_eq!(Message::decode(&[1, 0, 0, 0, 99]), Err(Malformed::Kind(99)));
    assert_eq!(
        Message::decode(&[5, 0, 0, 0, INSIDE, 0xff, 0xff, 0xff, 0xff]),
        Err(Malformed::Body)
    );
    assert_eq!(
        Message::decode(&[6, 0, 0, 0, INSIDE, 1, 0, 0, 0, 0xff]),
        Err(Malformed::Text)
    );
}

#[test]
fn random_bytes_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for round in 0..200_000_u32 {
        let samples = samples();
        let mut bytes = if round % 2 == 0 {
            let [length, kind, ..] = next();
            let mut bytes = vec![length, 0, 0, 0, kind % 9];
            (0..8).for_each(|_| bytes.extend_from_slice(&next()));
            bytes
        } else {
            let [pick, ..] = next();
            samples[usize::from(pick) % samples.len()].encode()
        };
        let [at, value, ..] = next();
        let at = usize::from(at) % bytes.len();
        bytes[at] = value;
        if let Ok(Some((message, length))) = Message::decode(&bytes) {
            assert!(length <= bytes.len());
            let again = message.encode();
            assert_eq!(Message::decode(&again), Ok(Some((message, again.len()))));
        }
    }
}
