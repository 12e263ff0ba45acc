// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What stands after the question mark of a request's target, as a structure (application/x-www-form-urlencoded).

use schemars::JsonSchema;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};
use serde_json::Value;

use super::{decode, encode, refused};
use crate::command::{ApiError, Code};

/// The parameters of an operation that has none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Parses `a=1&b=two`; an empty part is skipped.
pub(super) fn read<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let pairs = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = |part: &str| decode(&part.replace('+', " "));
            Some((text(name)?, Text(text(value)?)))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| {
            ApiError::new(
                Code::Invalid,
                "The parameters after the question mark are not percent-encoded text.",
            )
        })?;
    let pairs = pairs.into_iter();
    T::deserialize(MapDeserializer::<_, serde_json::Error>::new(pairs))
        .map_err(|error| refused(&error))
}

/// The same backwards, with the question mark; empty if nothing is set.
pub(super) fn write<T: Serialize>(query: &T) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    if let Value::Object(fields) = serde_json::to_value(query)? {
        for (name, value) in fields {
            let value = match value {
                Value::Null => continue,
                Value::String(value) => value,
                other
                @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    other.to_string()
                }
            };
            text.push(if text.is_empty() { '?' } else { '&' });
            text.push_str(&format!("{}={}", encode(&name), encode(&value)));
        }
    }
    Ok(text)
}

/// A value that becomes whatever its field wants.
struct Text(String);

impl<'de> IntoDeserializer<'de, serde_json::Error> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Text {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0.as_str() {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => visitor.visit_string(self.0),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0.parse() {
            Ok(number) => visitor.visit_u64(number),
            Err(_) => visitor.visit_string(self.0),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0
            .into_deserializer()
            .deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Query {
        #[serde(default)]
        most: Option<u16>,
        #[serde(default)]
        with_names: bool,
        #[serde(default)]
        addr: Option<String>,
        #[serde(default)]
        how: How,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum How {
        #[default]
        Json,
        WgDump,
    }

    #[test]
    fn parameters_become_fields_and_back() {
        let query: Query = read("most=7&withNames=true&addr=10.0.0.1%2F24+x&how=wg-dump&").unwrap();
        let expected = Query {
            most: Some(7),
            with_names: true,
            addr: Some("10.0.0.1/24 x".into()),
            how: How::WgDump,
        };
        assert_eq!(query, expected);
        let text = write(&query).unwrap();
        assert_eq!(read::<Query>(&text[1..]).unwrap(), expected);
        assert_eq!(read::<Query>("").unwrap(), Query::default());
        assert_eq!(write(&Nothing {}).unwrap(), "");
    }

    #[test]
    fn wrong_parameters_are_named() {
        for (query, code, word) in [
            ("color=1", Code::UnknownField, "color"),
            ("most=many", Code::Invalid, "many"),
            ("most=70000", Code::Invalid, "70000"),
            ("most=1&most=2", Code::Invalid, "most"),
            ("how=xml", Code::Invalid, "xml"),
            ("addr=%ff", Code::Invalid, "percent"),
        ] {
            let error = read::<Query>(query).unwrap_err();
            assert_eq!(error.code, code, "{query}");
            assert!(error.message.contains(word), "{query}: {error}");
        }
    }
}
