// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A negative answer to a DNS question, so that a resolver whose server is not reachable from the network fails at once
//! instead of after its time-outs (RFC 1035 §4.1, RCODE 5).

/// Length of the DNS header, bytes.
const HEADER: usize = 12;
/// Longest name, bytes (RFC 1035 §2.3.4).
const NAME_MAX: usize = 255;
const QR: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RECURSION_DESIRED: u8 = 0x01;
const REFUSED: u8 = 5;

/// The REFUSED reply to `query`, or `None` if it is not a question a resolver would ask (then nothing is answered, as if the
/// datagram had been lost).
pub(crate) fn refusal(query: &[u8]) -> Option<Vec<u8>> {
    let header = query.get(..HEADER)?;
    let flags = *header.get(2)?;
    if flags & QR != 0 || header.get(4..6)? != [0, 1] {
        return None;
    }
    let question = question_len(query.get(HEADER..)?)?;
    let mut reply = Vec::with_capacity(HEADER + question);
    reply.extend_from_slice(query.get(..2)?);
    reply.extend_from_slice(&[
        QR | flags & (OPCODE | RECURSION_DESIRED),
        REFUSED,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    reply.extend_from_slice(query.get(HEADER..HEADER + question)?);
    Some(reply)
}

/// Bytes of the one question: name (no compression in a question), type, class.
fn question_len(question: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let label = usize::from(*question.get(at)?);
        at += 1;
        if label == 0 {
            break;
        }
        // The two high bits mark compression or extensions: not valid here.
        if label > 63 || at + label > NAME_MAX {
            return None;
        }
        at += label;
    }
    let end = at + 4;
    (question.len() >= end).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x02io\x00\x00\x1c\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

    #[test]
    fn refuses_a_question_and_drops_the_rest() {
        let reply = refusal(QUERY).unwrap();
        assert_eq!(
            reply,
            b"\x12\x34\x81\x05\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02io\x00\x00\x1c\x00\x01"
        );
        assert_eq!(refusal(&reply), None, "a reply is not a question");
    }

    #[test]
    fn every_truncation_and_byte_is_harmless() {
        for end in 0..QUERY.len() {
            let _ = refusal(&QUERY[..end]);
        }
        for at in 0..QUERY.len() {
            for value in 0..=255 {
                let mut changed = QUERY.to_vec();
                changed[at] = value;
                let _ = refusal(&changed);
            }
        }
        let mut long = QUERY[..12].to_vec();
        long.extend_from_slice(&[63; 600]);
        assert_eq!(refusal(&long), None);
    }
}
