// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The OpenAPI 3.1 document, written from the declaration of the operations.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{Schema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::answer::JSON;
use crate::command::{Code, ErrorBody};
use crate::route::{Description, Method, ROUTES, Route, Schemas};

const INTRODUCTION: &str = "The control API of one user's netcon-supervisor, on its unix socket and on loopback. The user \
himself needs no credentials; anybody else needs the token. Unknown fields and parameters are refused by name. `/network` \
is another name of `/networks`, and GET is also HEAD.";

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut schemas = schemas();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        let description = (route.describe)(&mut schemas);
        paths.entry(route.path).or_default().insert(
            route.method.as_str().to_ascii_lowercase(),
            operation(route, description),
        );
    }
    let error = schemas.answers.subschema_for::<ErrorBody>();
    let mut components = schemas.requests.take_definitions(true);
    components.extend(schemas.answers.take_definitions(true));
    let refusals: Map<String, Value> = statuses()
        .iter()
        .map(|(status, codes)| (status.to_string(), refusal(codes, &error)))
        .collect();
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "netcon",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        },
        "servers": [{"url": "http://localhost:9993"}],
        "security": [{}, {"bearer": []}, {"zerotier": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": refusals,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "zerotier": {"type": "apiKey", "in": "header", "name": "X-ZT1-Auth"},
            },
        },
    })
}

/// Collectors whose references point into the document.
pub(crate) fn schemas() -> Schemas {
    let settings = || {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings
    };
    Schemas {
        requests: settings().for_deserialize().into_generator(),
        answers: settings().for_serialize().into_generator(),
    }
}

fn operation(route: &Route, description: Description) -> Value {
    let (title, more) = sections(route.documentation);
    let mut operation = Map::new();
    operation.insert("operationId".into(), json!(route.name));
    operation.insert("summary".into(), json!(title));
    if !more.is_empty() {
        operation.insert("description".into(), json!(more));
    }
    let parameters = parameters(&description);
    if !parameters.is_empty() {
        operation.insert("parameters".into(), json!(parameters));
    }
    if let Some(body) = &description.body {
        operation.insert(
            "requestBody".into(),
            json!({"required": true, "content": {JSON: {"schema": body}}}),
        );
    }
    let content: Map<String, Value> = description
        .answers
        .iter()
        .map(|(media, schema)| ((*media).to_owned(), json!({"schema": schema})))
        .collect();
    let mut responses = Map::new();
    responses.insert(
        "200".into(),
        json!({"description": "Done.", "content": content}),
    );
    for status in refusals_of(route, &description) {
        responses.insert(
            status.to_string(),
            json!({"$ref": format!("#/components/responses/{status}")}),
        );
    }
    operation.insert("responses".into(), Value::Object(responses));
    Value::Object(operation)
}

/// Title and the rest of a comment.
pub(crate) fn sections(documentation: &str) -> (String, String) {
    let line = |text: &str| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.join(" ").trim().to_owned()
    };
    let (title, more) = documentation
        .split_once("\n\n")
        .unwrap_or((documentation, ""));
    (line(title), line(more))
}

/// A parameter of the path or after the question mark, as OpenAPI has it.
pub(crate) fn parameters(description: &Description) -> Vec<Value> {
    let mut parameters: Vec<Value> = description
        .parts
        .iter()
        .map(|(name, schema)| json!({"name": name, "in": "path", "required": true, "schema": schema}))
        .collect();
    let query = description.query.as_ref().map(Schema::as_value);
    let required: BTreeSet<&str> = query
        .and_then(|query| query["required"].as_array())
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = query.and_then(|query| query["properties"].as_object());
    for (name, schema) in properties.into_iter().flatten() {
        parameters.push(json!({
            "name": name,
            "in": "query",
            "required": required.contains(name.as_str()),
            "description": schema["description"],
            "schema": schema,
        }));
    }
    parameters
}

/// Statuses of refusals that an operation can have.
fn refusals_of(route: &Route, description: &Description) -> BTreeSet<u16> {
    let mut codes = vec![
        Code::Invalid,
        Code::Malformed,
        Code::Unauthorized,
        Code::Forbidden,
        Code::TooSlow,
        Code::TooLarge,
        Code::HeadTooLarge,
        Code::Failed,
        Code::Busy,
    ];
    if !description.parts.is_empty() {
        codes.push(Code::NotFound);
    }
    if route.takes_body {
        codes.push(Code::MediaType);
    }
    if route.method != Method::GET {
        codes.push(Code::Conflict);
    }
    codes.into_iter().map(Code::status).collect()
}

/// The codes of each status.
fn statuses() -> BTreeMap<u16, Vec<Code>> {
    let mut statuses: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for &code in Code::ALL {
        statuses.entry(code.status()).or_default().push(code);
    }
    statuses
}

fn refusal(codes: &[Code], error: &Schema) -> Value {
    let meanings: Vec<String> = codes
        .iter()
        .map(|code| format!("`{code}`: {}", code.meaning()))
        .collect();
    json!({"description": meanings.join(" "), "content": {JSON: {"schema": error}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_described() {
        let document = document();
        for route in ROUTES {
            let method = route.method.as_str().to_ascii_lowercase();
            let operation = &document["paths"][route.path][&method];
            assert_eq!(operation["operationId"], route.name);
            assert_eq!(operation["requestBody"].is_object(), route.takes_body);
            assert!(operation["responses"]["200"]["content"].is_object());
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|value| walk(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        walk(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn no_type_is_both_asked_for_and_answered() {
        // One name of a schema can stand for one form only.
        let mut schemas = schemas();
        for route in ROUTES {
            (route.describe)(&mut schemas);
        }
        let requests = schemas.requests.take_definitions(true);
        let answers = schemas.answers.take_definitions(true);
        for (name, schema) in &requests {
            assert!(
                answers.get(name).is_none_or(|other| other == schema),
                "{name}"
            );
        }
    }

    #[test]
    fn unknown_fields_are_not_in_the_schemas_of_requests() {
        let document = document();
        for name in ["CreateNetwork", "AddPeer", "ImportNetwork"] {
            let schema = &document["components"]["schemas"][name];
            assert_eq!(schema["additionalProperties"], false, "{name}: {schema}");
        }
    }
}
