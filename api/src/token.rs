// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The token by which anybody may ask who holds it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Characters of a token: 256 bits in the URL-safe alphabet of base64 (RFC 4648, section 5).
const LENGTH: usize = 43;

/// A token.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

/// What a file holds is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token has {LENGTH} letters, digits, '-' or '_'")]
pub struct TokenError;

impl Token {
    /// A new token of random bytes.
    #[must_use]
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(random)))
    }

    /// The token that a text is; white space around it does not count.
    ///
    /// # Errors
    /// [`TokenError`] when it is none.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim_ascii();
        let is_token = text.len() == LENGTH
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if is_token {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(TokenError)
        }
    }

    /// Whether this is the token that was presented. The time it takes depends on the length only, which is no secret.
    #[must_use]
    pub fn is(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_it() {
        let token = Token::from_random([7; 32]);
        let text = token.expose();
        assert_eq!(text.len(), LENGTH);
        assert!(token.is(text.as_bytes()));
        for wrong in [
            "",
            &text[1..],
            &text[..42],
            &format!("{text}A"),
            &text.to_lowercase(),
        ] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert!(!token.is(Token::from_random([8; 32]).expose().as_bytes()));
    }

    #[test]
    fn files_may_end_in_a_newline() {
        let token = Token::from_random([7; 32]);
        let parsed = Token::parse(&format!("{}\n", token.expose())).unwrap();
        assert!(token.is(parsed.expose().as_bytes()));
        for wrong in ["", "short", &"ä".repeat(22), &"a".repeat(44)] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{token:?}").contains(token.expose()));
    }
}
