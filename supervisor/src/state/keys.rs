// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keys and prefixes as text in a file.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use netcon_overlay::PublicKey;
use serde::de::{Deserialize, Deserializer, Error};

/// A public key as people write it: base64, or the same as in a URL, with `-` and `_` and perhaps without `=`.
pub(super) fn parse_public(text: &str) -> Result<PublicKey, netcon_overlay::KeyError> {
    let padded = format!("{}=", text.trim_end_matches('='));
    padded.replace('-', "+").replace('_', "/").parse()
}

fn parse<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    // Text is not quoted in the error: it may be a secret.
    Cow::<'de, str>::deserialize(deserializer)?
        .parse()
        .map_err(Error::custom)
}

pub(super) mod private {
    use netcon_overlay::PrivateKey;
    use serde::{Deserializer, Serializer};

    pub(in crate::state) fn serialize<S: Serializer>(
        key: &PrivateKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&key.to_base64())
    }

    pub(in crate::state) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PrivateKey, D::Error> {
        super::parse(deserializer)
    }
}

pub(super) mod public {
    use netcon_overlay::PublicKey;
    use serde::{Deserializer, Serializer};

    pub(in crate::state) fn serialize<S: Serializer>(
        key: &PublicKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(key)
    }

    pub(in crate::state) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PublicKey, D::Error> {
        super::parse(deserializer)
    }
}

pub(super) mod preshared {
    use netcon_overlay::PresharedKey;
    use serde::{Deserializer, Serializer};

    pub(in crate::state) fn serialize<S: Serializer>(
        key: &Option<PresharedKey>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => serializer.serialize_some(key.to_base64().as_str()),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::state) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PresharedKey>, D::Error> {
        super::parse(deserializer).map(Some)
    }
}

pub(super) mod prefixes {
    use netcon_overlay::IpPrefix;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::state) fn serialize<S: Serializer>(
        prefixes: &[IpPrefix],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(prefixes.iter().map(ToString::to_string))
    }

    pub(in crate::state) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<IpPrefix>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|text| text.parse().map_err(Error::custom))
            .collect()
    }
}
