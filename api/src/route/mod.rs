// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From an HTTP request to a [`Command`]: the declaration of all operations ([`ROUTES`]) and how requests find theirs.

mod declare;
mod query;
mod table;

use std::fmt;

use schemars::{Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

pub use self::query::Nothing;
pub use self::table::{ALIASES, Command, Handler, ROUTES, dispatch};
use crate::command::{ApiError, Code};

/// Largest request body, bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Methods of HTTP that operations have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "as in RFC 9110 and RFC 5789")]
pub enum Method {
    GET,
    POST,
    PATCH,
    DELETE,
}

/// Makes a command of the parameters of the path, what stands after the question mark, and the body.
type Parse = fn(&[&str], &str, &[u8]) -> Result<Command, ApiError>;

/// One operation as it is declared.
pub struct Route {
    /// Name of the method of [`Handler`] and of the client; `operationId` in the OpenAPI document.
    pub name: &'static str,
    /// Its method; GET is also HEAD.
    pub method: Method,
    /// Template of its path; a part in braces is a parameter.
    pub path: &'static str,
    /// A title, and perhaps more after an empty line.
    pub documentation: &'static str,
    /// Whether it has a body.
    pub takes_body: bool,
    parse: Parse,
    /// What it takes and gives.
    pub(crate) describe: fn(&mut Schemas) -> Description,
}

/// Collects the schemas of types: those of requests as they are parsed, those of answers as they are written.
#[derive(Debug)]
pub(crate) struct Schemas {
    pub(crate) requests: SchemaGenerator,
    pub(crate) answers: SchemaGenerator,
}

/// Schemas of one operation.
pub(crate) struct Description {
    /// Parameters of the path, in their order.
    pub(crate) parts: Vec<(&'static str, Schema)>,
    /// An object whose properties are the parameters after the question mark.
    pub(crate) query: Option<Schema>,
    pub(crate) body: Option<Schema>,
    /// Media types of the answer, each with its schema.
    pub(crate) answers: Vec<(&'static str, Schema)>,
}

impl Method {
    /// As it is written in a request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GET => "GET",
            Self::POST => "POST",
            Self::PATCH => "PATCH",
            Self::DELETE => "DELETE",
        }
    }
}

impl Route {
    /// The parts of its template.
    fn template(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter(|part| !part.is_empty())
    }

    /// The values of its parameters, if the path is its.
    fn parameters<'a>(&self, parts: &'a [String]) -> Option<Vec<&'a str>> {
        let mut values = Vec::new();
        let mut parts = parts.iter();
        for expected in self.template() {
            let part = parts.next()?;
            if is_parameter(expected) {
                values.push(part.as_str());
            } else if part != expected {
                return None;
            }
        }
        parts.next().is_none().then_some(values)
    }

    /// Number of parameters: where several templates fit, the one with fewest is meant.
    fn looseness(&self) -> usize {
        self.template().filter(|part| is_parameter(part)).count()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.method.as_str(), self.path, self.name)
    }
}

fn is_parameter(part: &str) -> bool {
    part.starts_with('{')
}

/// Finds the command a request spells. `target` is a path, perhaps with a question mark and parameters.
///
/// # Errors
/// 404 for a path that does not exist, 405 for a method it has not, 400 for parameters or a body that are not what they
/// should be.
pub fn route(method: &str, target: &str, body: &[u8]) -> Result<Command, ApiError> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts = parts(path).ok_or_else(|| unknown(path))?;
    let found = matching(&parts);
    if found.is_empty() {
        return Err(unknown(path));
    }
    // HEAD is GET whose body the server leaves out (RFC 9110, section 9.3.2).
    let wanted = if method == "HEAD" { "GET" } else { method };
    for route in &found {
        if route.method.as_str() == wanted {
            let values = route.parameters(&parts).unwrap_or_default();
            return (route.parse)(&values, query, body);
        }
    }
    Err(ApiError::new(
        Code::Method,
        format!(
            "{} does not take {}; it takes {}.",
            shown(path),
            shown(method),
            listed(&found)
        ),
    ))
}

/// The methods of a path, as in an Allow header; None if there is no such path.
#[must_use]
pub fn methods(target: &str) -> Option<String> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let found = matching(&parts(path)?);
    (!found.is_empty()).then(|| listed(&found))
}

/// Whether an operation that could be meant has a body.
#[must_use]
pub fn takes_body(method: &str, target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    parts(path).is_some_and(|parts| {
        matching(&parts)
            .iter()
            .any(|route| route.takes_body && route.method.as_str() == method)
    })
}

/// The operations of a path: those of the template that fits most closely.
fn matching(parts: &[String]) -> Vec<&'static Route> {
    let fitting: Vec<&Route> = ROUTES
        .iter()
        .filter(|route| route.parameters(parts).is_some())
        .collect();
    let least = fitting.iter().map(|route| route.looseness()).min();
    fitting
        .into_iter()
        .filter(|route| Some(route.looseness()) == least)
        .collect()
}

fn listed(routes: &[&Route]) -> String {
    let mut methods: Vec<Method> = routes.iter().map(|route| route.method).collect();
    methods.sort_unstable();
    let mut names = Vec::new();
    for method in methods {
        names.push(method.as_str());
        if method == Method::GET {
            names.push("HEAD");
        }
    }
    names.join(", ")
}

/// One parameter of a path.
fn part<T: std::str::FromStr>(text: Option<&&str>) -> Result<T, ApiError> {
    let text = text.copied().unwrap_or_default();
    text.parse().map_err(|_| {
        ApiError::new(
            Code::NotFound,
            format!("There is no {}: it would be named otherwise.", shown(text)),
        )
    })
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // serde would take the fields from a list, too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::new(
            Code::Invalid,
            "The request is not understood: its body must be a JSON object.",
        ));
    }
    serde_json::from_slice(body).map_err(|error| refused(&error))
}

/// The refusal of a request whose fields are wrong.
fn refused(error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    let code = if text.starts_with("unknown field") {
        Code::UnknownField
    } else {
        Code::Invalid
    };
    ApiError::new(
        code,
        format!("The request is not understood: {}.", shown(&text)),
    )
}

fn unknown(path: &str) -> ApiError {
    ApiError::new(
        Code::UnknownPath,
        format!(
            "There is no {}; /openapi.json lists what there is.",
            shown(path)
        ),
    )
}

/// Text of a request as it may stand in a message: of bounded length.
fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The parts of a path, decoded, with the first by its proper name; None if one of them is not text.
fn parts(path: &str) -> Option<Vec<String>> {
    let mut parts: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(decode)
        .collect::<Option<_>>()?;
    if let Some(first) = parts.first_mut()
        && let Some((_, name)) = ALIASES.iter().find(|(alias, _)| alias == first)
    {
        *first = (*name).to_owned();
    }
    Some(parts)
}

/// Puts values into a template, in their order.
fn fill(template: &str, values: &[&String]) -> String {
    let mut values = values.iter();
    let mut path = String::new();
    for part in template.split('/').filter(|part| !part.is_empty()) {
        path.push('/');
        if is_parameter(part) {
            path.push_str(&encode(values.next().map_or("", |value| value)));
        } else {
            path.push_str(part);
        }
    }
    path
}

/// Percent-decoding (RFC 3986 2.1); None if it is not UTF-8 or not complete.
pub(crate) fn decode(part: &str) -> Option<String> {
    let mut bytes = part.bytes();
    let mut out = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            out.push(u8::try_from(value).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes one part of a path.
#[must_use]
pub fn encode(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CreateNetwork;

    #[test]
    fn requests_become_commands() {
        let list = Command::NetworkList {};
        assert_eq!(route("GET", "/networks", b""), Ok(list.clone()));
        assert_eq!(route("HEAD", "/network/", b""), Ok(list));
        let create = CreateNetwork {
            name: "demo".into(),
            ..CreateNetwork::default()
        };
        assert_eq!(
            route("POST", "/networks", br#"{"name":"demo"}"#),
            Ok(Command::NetworkCreate { body: create })
        );
        let remove = Command::PeerRemove {
            network: "demo".into(),
            peer: "a/b+c=".into(),
        };
        let target = remove.request().unwrap().0;
        assert_eq!(target, "/networks/demo/peers/a%2Fb%2Bc%3D");
        assert_eq!(route("DELETE", &target, b""), Ok(remove));
    }

    #[test]
    fn wrong_requests_have_their_codes() {
        for (method, target, body, code) in [
            ("PUT", "/networks", "", Code::Method),
            ("GET", "/networks/import", "", Code::Method),
            ("GET", "/nothing", "", Code::UnknownPath),
            ("GET", "/networks/%ff", "", Code::UnknownPath),
            ("GET", "/networks/%", "", Code::UnknownPath),
            ("GET", "/networks/%+f", "", Code::UnknownPath),
            ("GET", "/containers/x", "", Code::NotFound),
            ("GET", "/networks?color=1", "", Code::UnknownField),
            (
                "POST",
                "/networks",
                r#"{"name":"demo","color":1}"#,
                Code::UnknownField,
            ),
            ("POST", "/networks", "{", Code::Invalid),
        ] {
            let error = route(method, target, body.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{method} {target}: {error}");
        }
        let color = route("POST", "/networks", br#"{"color":1}"#).unwrap_err();
        assert!(color.message.contains("color"), "{color}");
    }

    #[test]
    fn allowed_methods_are_those_of_the_closest_template() {
        assert_eq!(methods("/networks").as_deref(), Some("GET, HEAD, POST"));
        assert_eq!(methods("/network/import?x").as_deref(), Some("POST"));
        assert_eq!(methods("/nothing"), None);
        assert!(takes_body("POST", "/networks/import"));
        assert!(!takes_body("GET", "/networks"));
    }

    #[test]
    fn no_two_operations_are_spelled_alike() {
        for (index, one) in ROUTES.iter().enumerate() {
            assert!(one.path.starts_with('/'), "{one:?}");
            for other in &ROUTES[..index] {
                assert_ne!(one.name, other.name);
                assert!(
                    one.path != other.path || one.method != other.method,
                    "{one:?}"
                );
            }
        }
    }
}
