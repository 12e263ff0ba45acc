// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Command lines and the search for programs.

use crate::args::{Args, Request, parse};
use crate::failure::Failure;
use crate::program::find;
use std::ffi::{OsStr, OsString};

fn parsed(arguments: &[&str], default: Option<&str>) -> Result<Request, Failure> {
    parse(
        arguments.iter().map(OsString::from).collect(),
        default.map(OsString::from),
    )
}

fn run(network: Option<&str>, command: &str, arguments: &[&str]) -> Request {
    Request::Run(Args {
        network: network.map(str::to_owned),
        start: true,
        command: command.into(),
        arguments: arguments.iter().map(OsString::from).collect(),
    })
}

#[test]
fn what_follows_the_program_is_the_programs() {
    let cases: &[(&[&str], Option<&str>, Request)] = &[
        (
            &["--net", "demo", "curl", "--net", "x", "--help"],
            None,
            run(Some("demo"), "curl", &["--net", "x", "--help"]),
        ),
        (
            &["--net=demo", "--", "-odd", "--"],
            None,
            run(Some("demo"), "-odd", &["--"]),
        ),
        (&["curl"], Some("home"), run(Some("home"), "curl", &[])),
        (&["curl"], Some(""), run(None, "curl", &[])),
        (
            &["--net", "a", "--net=b", "curl"],
            Some("home"),
            run(Some("b"), "curl", &[]),
        ),
        (&["-"], None, run(None, "-", &[])),
        (&["--", ""], None, run(None, "", &[])),
        (&["--net", "x", "--help", "curl"], None, Request::Help),
        (&["--version"], None, Request::Version),
        (
            &["--no-start", "x", "--no-start"],
            None,
            Request::Run(Args {
                network: None,
                start: false,
                command: "x".into(),
                arguments: vec!["--no-start".into()],
            }),
        ),
    ];
    for (arguments, default, expected) in cases {
        assert_eq!(
            &parsed(arguments, *default).unwrap(),
            expected,
            "{arguments:?}"
        );
    }
}

#[test]
fn bad_command_lines() {
    let long = "x".repeat(1000);
    for arguments in [
        &[][..],
        &["--"],
        &["--net"],
        &["--net", "demo"],
        &["--net=", "curl"],
        &["-x", "curl"],
        &["--net", &long, "a"],
    ] {
        let failure = parsed(arguments, None).unwrap_err();
        assert!(matches!(failure, Failure::Usage(_)), "{arguments:?}");
    }
}

#[test]
fn programs_are_found_as_execvp_finds_them() {
    let found = |command: &str, path: Option<&str>| find(OsStr::new(command), path.map(OsStr::new));
    assert!(found("sh", None).is_ok());
    assert!(found("sh", Some("/nonexistent:/bin")).is_ok());
    assert!(found("/bin/sh", Some("")).is_ok());
    assert!(matches!(
        found("sh", Some("/nonexistent")),
        Err(Failure::NotFound(_))
    ));
    assert!(matches!(found("", None), Err(Failure::NotFound(_))));
    assert!(matches!(
        found("/nonexistent/sh", None),
        Err(Failure::NotFound(_))
    ));
    assert!(matches!(found("/bin/sh/", None), Err(Failure::NotFound(_))));
    assert!(matches!(
        found("/usr", None),
        Err(Failure::NotExecutable(..))
    ));
    assert!(matches!(
        found("/etc/passwd", None),
        Err(Failure::NotExecutable(..))
    ));
    assert!(matches!(
        found("passwd", Some("/etc")),
        Err(Failure::NotExecutable(..))
    ));
}
