// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/api.md` is written from the declaration of the operations and cannot differ from it: the test compares, and writes
//! the page when `NETCON_WRITE_DOCS` is set.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::command::Code;
use crate::openapi::{document, parameters, schemas, sections};
use crate::route::{ALIASES, ROUTES};

const HEAD: &str = "<!-- SPDX-License-Identifier: Apache-2.0 OR MIT -->
# The control API

HTTP/1.1 and JSON, on the supervisor's unix socket and on loopback (`http://localhost:9993`). Written from the declaration in
`api/src/route/table.rs`; a test fails when the two differ:

    NETCON_WRITE_DOCS=1 cargo test -p netcon-api --lib page

The same in OpenAPI 3.1 is served at `/openapi.json`.
";

#[test]
fn page_is_the_declaration() {
    let document = document();
    let types = document["components"]["schemas"].as_object().unwrap();
    let page = format!(
        "{HEAD}\n## Operations\n\n{}\n{}{}\n## Refusals\n\nThe body of a refusal is `{{\"error\": {{\"code\": …, \"message\": …}}}}`. Codes are stable, messages are for people.\n\n{}\n## Fields\n\nWhat is marked with * must be there.\n{}",
        operations(),
        aliases(),
        remarks(),
        codes(),
        fields(types)
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");
    if std::env::var_os("NETCON_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == page,
        "{path} is not what the declaration says; NETCON_WRITE_DOCS=1 writes it"
    );
}

fn operations() -> String {
    let mut text =
        String::from("| method | path | what it does | takes | answers |\n|---|---|---|---|---|\n");
    for route in ROUTES {
        let described = (route.describe)(&mut schemas());
        let mut takes: Vec<String> = parameters(&described)
            .iter()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| format!("`?{}=`", parameter["name"].as_str().unwrap()))
            .collect();
        takes.extend(described.body.as_ref().map(|body| kind(body.as_value())));
        let answers: Vec<String> = described
            .answers
            .iter()
            .map(|(media, schema)| match *media {
                crate::answer::JSON => kind(schema.as_value()),
                media => format!("`{media}`"),
            })
            .collect();
        let method = route.method.as_str();
        let title = sections(route.documentation).0;
        let (takes, answers) = (takes.join(", "), answers.join(" or "));
        writeln!(
            text,
            "| {method} | `{}` | {title} | {takes} | {answers} |",
            route.path
        )
        .unwrap();
    }
    text
}

fn remarks() -> String {
    let mut text = String::new();
    for route in ROUTES {
        let more = sections(route.documentation).1;
        if !more.is_empty() {
            writeln!(text, "- `{} {}`: {more}", route.method.as_str(), route.path).unwrap();
        }
    }
    text
}

fn aliases() -> String {
    ALIASES
        .iter()
        .fold(String::new(), |mut text, (alias, name)| {
            writeln!(text, "- `/{alias}` is another name of `/{name}`.").unwrap();
            text
        })
}

fn codes() -> String {
    let mut text = String::from("| code | status | meaning |\n|---|---|---|\n");
    for code in Code::ALL {
        writeln!(
            text,
            "| `{code}` | {} | {} |",
            code.status(),
            code.meaning()
        )
        .unwrap();
    }
    text
}

fn fields(types: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, schema) in types {
        let about = line(&schema["description"]);
        write!(text, "\n### {name}\n\n{about}\n").unwrap();
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if let Some(properties) = schema["properties"].as_object() {
            text.push_str("\n| field | type | meaning |\n|---|---|---|\n");
            for (field, schema) in properties {
                let mark = if required.contains(&field.as_str()) {
                    "*"
                } else {
                    ""
                };
                let (kind, about) = (kind(schema), line(&schema["description"]));
                writeln!(text, "| `{field}`{mark} | {kind} | {about} |").unwrap();
            }
        } else if !values(schema).is_empty() {
            writeln!(text, "\nOne of {}.", values(schema).join(", ")).unwrap();
        }
    }
    text
}

/// The values of an enumeration, with what they mean.
fn values(schema: &Value) -> Vec<String> {
    let alternatives = schema["oneOf"].as_array().into_iter().flatten();
    let constants = alternatives.filter_map(|one| {
        let about = line(&one["description"]);
        Some(format!(
            "`{}` ({})",
            one["const"].as_str()?,
            about.trim_end_matches('.')
        ))
    });
    let plain = schema["enum"].as_array().into_iter().flatten();
    let plain = plain.filter_map(|value| Some(format!("`{}`", value.as_str()?)));
    constants.chain(plain).collect()
}

/// A type in a few words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_ascii_lowercase());
    }
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    let alternatives: Vec<String> = alternatives.map(kind).collect();
    if !alternatives.is_empty() {
        return alternatives.join(" or ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            match (names.as_slice(), &schema["items"]) {
                (["array", other], items) => format!("list of {} or {other}", kind(items)),
                (names, _) => names.join(" or "),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "anything".to_owned(),
    }
}

fn line(text: &Value) -> String {
    let lines: Vec<&str> = text.as_str().unwrap_or_default().lines().collect();
    lines.join(" ").replace('|', "\\|")
}
