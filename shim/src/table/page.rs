// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/trapped-calls.md` is written from the table and cannot differ from it: the test compares, and writes the page when
//! `NETCON_WRITE_DOCS` is set.

use super::*;
use std::fmt::Write;

const HEAD: &str = "<!-- SPDX-License-Identifier: Apache-2.0 OR MIT -->
# Trapped calls

Every system call that a supervised program cannot make as it likes, and why. What is not listed is the kernel's alone and
costs nothing. Written from the table in `shim/src/table/`; a test fails when the two differ:

    NETCON_WRITE_DOCS=1 cargo test -p netcon-shim --lib page

A filter sees argument registers, never memory. Arguments that the kernel takes as `int` are compared by their low 32 bits.
";

const FOREIGN_HEAD: &str = "
## i386 (`int $0x80`)

A 64-bit process can enter this interface at any time. Nothing of it reaches the supervisor.
";

const TAIL: &str = "
## x32

Every number of the x32 interface is refused with ENOSYS.
";

#[test]
fn page_is_the_table() {
    let page = format!(
        "{HEAD}\n## x86_64\n\n{}{FOREIGN_HEAD}\n{}{TAIL}",
        rows(NATIVE),
        rows(FOREIGN)
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/trapped-calls.md");
    if std::env::var_os("NETCON_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == page,
        "{path} is not what the table says; NETCON_WRITE_DOCS=1 writes it"
    );
}

fn rows(table: &[Row]) -> String {
    let mut text =
        String::from("| number | call | what happens | when | why |\n|---|---|---|---|---|\n");
    for row in table {
        let (what, condition) = match row.rule {
            Rule::Trap(_, condition) => ("supervisor answers".to_owned(), condition),
            Rule::Refuse { errno: 0, when } => ("success without effect".to_owned(), when),
            Rule::Refuse {
                errno: ENOSYS,
                when,
            } => ("ENOSYS".to_owned(), when),
            Rule::Refuse { errno, when } => (format!("errno {errno}"), when),
        };
        let Row {
            number, name, why, ..
        } = row;
        let when = when(condition);
        writeln!(text, "| {number} | `{name}` | {what} | {when} | {why} |").unwrap();
    }
    text
}

fn when(condition: When) -> String {
    match condition {
        When::Always => "always".to_owned(),
        When::ServedFamily => {
            "AF_INET, AF_INET6, AF_NETLINK; AF_UNIX is the kernel's, any other family EAFNOSUPPORT"
                .to_owned()
        }
        When::OptionNotIn { level, options } => {
            format!("except options {} of level {level}", list(options))
        }
        When::AddressOrFlags {
            address,
            flags,
            mask,
        } => format!("argument {address} is not null, or argument {flags} has a bit of {mask:#x}"),
        When::InRanges { argument, ranges } => {
            let ranges: Vec<String> = ranges
                .iter()
                .map(|(first, last)| {
                    if first == last {
                        format!("{first:#x}")
                    } else {
                        format!("{first:#x} to {last:#x}")
                    }
                })
                .collect();
            format!("argument {argument} is {}", ranges.join(" or "))
        }
        When::FirstTwo { first, second } => {
            format!("argument 0 is {first} and argument 1 is {second}")
        }
    }
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(", ")
}
