// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command as people and scripts see it.

use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use netcon_api::Command;
use netcon_api::model::{AddPeer, Change, ChangeNetwork, ChangePeer};
use serde_json::Value;

use crate::fake::Supervisor;

const CONFIG: &str = "# NetworkName = home\n[Interface]\nPrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\
                      Address = 10.0.0.2/24\nPostUp = reboot\n";

/// Exit code, output, errors.
pub(crate) fn run(socket: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Process::new(env!("CARGO_BIN_EXE_netcon"))
        .args(arguments)
        .env_clear()
        .env("NETCON_SOCKET", socket)
        .env("NETCON_NO_START", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command need not read it.
    let _broken_pipe = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Output of a run that must succeed in silence.
pub(crate) fn ok(supervisor: &Supervisor, arguments: &[&str]) -> String {
    let (code, output, errors) = run(&supervisor.socket, arguments, "");
    assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    output
}

#[test]
fn tables_for_people() {
    let supervisor = Supervisor::start();
    assert_eq!(
        ok(&supervisor, &["network", "list"]),
        "NAME  ID                STATUS  ADDRESSES                 PEERS\n\
         demo  1122334455667788  OK      10.77.0.1/24, fd77::1/64      1\n"
    );
    assert_eq!(
        ok(&supervisor, &["peer", "list", "demo"]),
        "NAME    ADDRESSES     ENDPOINT        HANDSHAKE  RECEIVED     SENT\n\
         laptop  10.77.0.2/32  192.0.2.1:9993  never        1234 B  5000 kB\n"
    );
    let ps = ok(&supervisor, &["ps"]);
    assert!(
        ps.starts_with("ID  NETWORK   PID  SOCKETS  RECEIVED   SENT       UP"),
        "{ps}"
    );
    assert!(
        ps.contains(" 7  demo     4321        3     12 kB  34 MB")
            && ps.trim_end().ends_with("nginx?[2J -c a, b"),
        "{ps}"
    );
    let shown = ok(&supervisor, &["network", "show", "demo"]);
    assert!(
        shown.contains("10.77.0.1/24, fd77::1/64") && shown.contains("laptop"),
        "{shown}"
    );
    let status = ok(&supervisor, &["status"]);
    assert!(
        status.contains("1.2.3") && status.contains("9993") && status.contains("/state"),
        "{status}"
    );
}

#[test]
fn json_for_programs() {
    let supervisor = Supervisor::start();
    for arguments in [
        &["--json", "status"][..],
        &["status", "--json"],
        &["--json", "network", "list"],
        &["network", "show", "demo", "--json"],
        &["--json", "network", "create", "new"],
        &["--json", "network", "delete", "demo"],
        &["--json", "peer", "list", "demo"],
        &["--json", "peer", "add", "demo", "phone", "--export"],
        &["--json", "peer", "show", "demo", "laptop"],
        &["--json", "network", "export", "demo"],
        &["--json", "peer", "remove", "demo", "laptop"],
        &["--json", "ps"],
    ] {
        let output = ok(&supervisor, arguments);
        assert!(
            serde_json::from_str::<Value>(&output).is_ok(),
            "{arguments:?}: {output}"
        );
    }
}

#[test]
fn arguments_arrive() {
    let supervisor = Supervisor::start();
    ok(
        &supervisor,
        &[
            "network",
            "create",
            "new",
            "--address",
            "10.1.0.1/24",
            "--address",
            "fd01::1/64",
            "--mtu",
            "1400",
        ],
    );
    let asked = supervisor.fake.asked();
    let [Command::NetworkCreate { body: create }] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!((create.name.as_str(), create.mtu), ("new", Some(1400)));
    assert_eq!(create.addresses, ["10.1.0.1/24", "fd01::1/64"]);

    let key = "A/+BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let arguments = [
        "peer",
        "add",
        "demo",
        "phone",
        "--public-key",
        key,
        "--endpoint",
        "h:1",
        "--keepalive",
        "25",
    ];
    ok(&supervisor, &arguments);
    let expected = AddPeer {
        name: Some("phone".into()),
        public_key: Some(key.into()),
        endpoint: Some("h:1".into()),
        persistent_keepalive: Some(25),
        ..AddPeer::default()
    };
    assert_eq!(
        supervisor.fake.asked(),
        [Command::PeerAdd {
            network: "demo".into(),
            body: expected
        }]
    );

    ok(&supervisor, &["peer", "remove", "demo", key]);
    assert_eq!(
        supervisor.fake.asked(),
        [Command::PeerRemove {
            network: "demo".into(),
            peer: key.into()
        }]
    );
    // A name may be anything on the command line; it stays one part of the path.
    let (code, _output, _errors) =
        run(&supervisor.socket, &["network", "show", "a/../b?c#d %"], "");
    assert_eq!(code, 5);
    assert_eq!(
        supervisor.fake.asked().first(),
        Some(&Command::NetworkShow {
            network: "a/../b?c#d %".into()
        })
    );
}

#[test]
fn mistyped_names_are_recognised() {
    let supervisor = Supervisor::start();
    for (arguments, meant) in [
        (&["network", "show", "dmeo"][..], "Did you mean demo?"),
        (&["peer", "show", "dem", "laptop"], "Did you mean demo?"),
        (&["peer", "remove", "Demo", "laptop"], "Did you mean demo?"),
        (&["network", "export", "deom"], "Did you mean demo?"),
        (&["netwrok", "list"], "'network'"),
    ] {
        let (code, _, errors) = run(&supervisor.socket, arguments, "");
        assert!(matches!(code, 2 | 5), "{code}");
        assert!(errors.contains(meant), "{arguments:?}: {errors}");
    }
    let (_, _, errors) = run(&supervisor.socket, &["network", "show", "production"], "");
    assert!(!errors.contains("mean"), "{errors}");
}

#[test]
fn only_what_is_named_is_changed() {
    let supervisor = Supervisor::start();
    ok(
        &supervisor,
        &[
            "network",
            "set",
            "demo",
            "--name",
            "home",
            "--mtu",
            "default",
            "--raw-sockets",
            "off",
        ],
    );
    let body = ChangeNetwork {
        name: Some("home".into()),
        mtu: Change::Clear,
        raw_sockets: Some(false),
        ..ChangeNetwork::default()
    };
    let network = "demo".to_owned();
    assert_eq!(
        supervisor.fake.asked(),
        [Command::NetworkChange { network, body }]
    );
    let set = [
        "peer",
        "set",
        "demo",
        "laptop",
        "--endpoint",
        "none",
        "--keepalive",
        "7",
    ];
    ok(&supervisor, &set);
    let body = ChangePeer {
        endpoint: Change::Clear,
        persistent_keepalive: Change::Set(7),
        ..ChangePeer::default()
    };
    let (network, peer) = ("demo".to_owned(), "laptop".to_owned());
    assert_eq!(
        supervisor.fake.asked(),
        [Command::PeerChange {
            network,
            peer,
            body
        }]
    );
    for wrong in [
        &["network", "set", "demo"][..],
        &["network", "set", "demo", "--mtu", "many"],
        &["peer", "set", "demo", "laptop"],
        &["peer", "set", "demo", "laptop", "--keepalive", "-1"],
    ] {
        assert_eq!(run(&supervisor.socket, wrong, "").0, 2, "{wrong:?}");
    }
    assert!(supervisor.fake.asked().is_empty());
}

#[test]
fn networks_and_peers_are_written_for_other_tools() {
    let supervisor = Supervisor::start();
    let (code, config, errors) = run(&supervisor.socket, &["network", "export", "demo"], "");
    assert_eq!((code, config.as_str()), (0, "[Interface]\n"));
    assert!(errors.contains("private key"), "{errors}");
    assert_eq!(
        ok(&supervisor, &["peer", "list", "demo", "--dump"]),
        "(hidden)\tAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\t9993\toff\n\
         A/+BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\t(hidden)\t192.0.2.1:9993\t10.77.0.2/32\t0\t1234\t5000000\toff\n"
    );
    let peer = ok(&supervisor, &["peer", "show", "demo", "laptop"]);
    assert!(
        peer.contains("192.0.2.1:9993") && peer.contains("never"),
        "{peer}"
    );
}

#[test]
fn a_qr_code_is_of_the_configuration() {
    let supervisor = Supervisor::start();
    let arguments = [
        "peer",
        "add",
        "demo",
        "phone",
        "--qr",
        "--our-endpoint",
        "h:1",
    ];
    let (code, output, errors) = run(&supervisor.socket, &arguments, "");
    assert_eq!(code, 0, "{errors}");
    // 33 bytes need 25 by 25 modules; 4 of light on either side; two modules in each line.
    assert_eq!(output.lines().count(), 17, "{output}");
    assert!(
        output
            .lines()
            .all(|line| line.starts_with("\x1b[30;107m") && line.ends_with("\x1b[0m"))
    );
    assert!(errors.contains("phone"), "{errors}");
}

#[test]
fn an_exported_configuration_is_alone_on_stdout() {
    let supervisor = Supervisor::start();
    let arguments = [
        "peer",
        "add",
        "demo",
        "phone",
        "--export",
        "--our-endpoint",
        "server.example:9993",
    ];
    let (code, output, errors) = run(&supervisor.socket, &arguments, "");
    assert_eq!(
        (code, output.as_str()),
        (0, "[Interface]\nPrivateKey = secret\n")
    );
    assert!(
        errors.contains("phone") && !errors.contains("secret"),
        "{errors}"
    );
}

#[test]
fn imports_take_the_name_that_is_given_or_in_the_file_or_the_files() {
    let supervisor = Supervisor::start();
    let named = supervisor.folder.join("laptop.conf");
    let unnamed = supervisor.folder.join("office.conf");
    std::fs::write(&named, CONFIG).unwrap();
    std::fs::write(&unnamed, CONFIG.replace("# NetworkName = home\n", "")).unwrap();
    let (named, unnamed) = (named.to_str().unwrap(), unnamed.to_str().unwrap());
    for (arguments, input, name) in [
        (&["network", "import", named][..], "", "home"),
        (
            &["network", "import", named, "--name", "other"],
            "",
            "other",
        ),
        (&["network", "import", unnamed], "", "office"),
        (&["network", "import", "-"], CONFIG, "home"),
    ] {
        let (code, output, errors) = run(&supervisor.socket, arguments, input);
        assert_eq!(code, 0, "{errors}");
        assert!(output.contains(name), "{arguments:?}: {output}");
        assert!(
            errors.contains("PostUp") && !errors.contains("reboot"),
            "{errors}"
        );
    }
}

#[test]
fn failures_are_one_sentence_and_a_code() {
    let supervisor = Supervisor::start();
    let nowhere = supervisor.folder.join("nobody.sock");
    let broken = supervisor.folder.join("broken.conf");
    std::fs::write(&broken, "[Interface]\nPrivateKey = secret\n").unwrap();
    let binary = supervisor.folder.join("binary.conf");
    std::fs::write(&binary, b"\xff\xfe").unwrap();
    let (broken, binary) = (broken.to_str().unwrap(), binary.to_str().unwrap());
    let there = supervisor.socket.as_path();
    for (socket, arguments, expected, says) in [
        (nowhere.as_path(), &["status"][..], 3, "supervisor"),
        (there, &["network", "create", "demo"], 4, "exists already"),
        (there, &["network", "show", "x"], 5, "there are: demo"),
        (there, &["peer", "list", "x"], 5, "there are: demo"),
        (
            there,
            &["network", "import", "/nonexistent.conf"],
            6,
            "/nonexistent.conf",
        ),
        (there, &["network", "import", broken], 6, "line 2"),
        (there, &["network", "import", binary], 6, "binary.conf"),
        (there, &["peer", "add", "demo", "phone"], 2, "--export"),
    ] {
        let (code, output, errors) = run(socket, arguments, "");
        assert_eq!(
            (code, output.as_str()),
            (expected, ""),
            "{arguments:?}: {errors}"
        );
        assert!(
            errors.starts_with("netcon: ") && errors.contains(says),
            "{arguments:?}: {errors}"
        );
        assert_eq!(errors.matches('\n').count(), 1, "{errors}");
        assert!(
            !errors.contains("secret") && !errors.contains(".."),
            "{errors}"
        );
    }
    for arguments in [
        &[][..],
        &["fly"],
        &["network", "create"],
        &["peer", "add", "demo", "x", "--keepalive", "y"],
    ] {
        assert_eq!(run(there, arguments, "").0, 2, "{arguments:?}");
    }
    assert_eq!(run(&nowhere, &["--help"], "").0, 0);
}

/// A supervisor that answers every request with these bytes; ends with the process.
fn answering(folder: &Path, name: &str, answer: &'static str) -> std::path::PathBuf {
    let socket = folder.join(name);
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _its_content_does_not_matter = std::io::Read::read(&mut stream, &mut request);
            let _broken_pipe = stream.write_all(answer.as_bytes());
        }
    });
    socket
}

#[test]
fn another_version_and_a_broken_answer_have_codes_of_their_own() {
    let supervisor = Supervisor::start();
    let folder = &supervisor.folder;
    for (number, (answer, code, says)) in [
        (
            "HTTP/1.1 404 Not Found\r\nserver: netcon/9.8.7\r\nconnection: close\r\n\r\n{\"error\":{\"code\":\"unknown_path\",\"message\":\"There is no /x.\"}}",
            7,
            "is version 9.8.7",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nserver: netcon/9.8.7\r\nconnection: close\r\n\r\n{\"error\":{\"code\":\"not_found\",\"message\":\"There is no network x.\"}}",
            5,
            "There is no network x.",
        ),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", 7, "same release"),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello", 7, "same release"),
        ("SSH-2.0-OpenSSH_9.2\r\n", 7, "same release"),
        ("", 1, "did not answer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", 1, "did not answer"),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = answering(folder, &number.to_string(), answer);
        let (found, output, errors) = run(&socket, &["status"], "");
        assert_eq!((found, output.as_str()), (code, ""), "{answer:?}: {errors}");
        assert!(errors.contains(says), "{answer:?}: {errors}");
        assert_eq!(errors.matches('\n').count(), 1, "{errors}");
    }
}

#[test]
fn tables_keep_to_the_width_that_is_said() {
    let supervisor = Supervisor::start();
    let output = Process::new(env!("CARGO_BIN_EXE_netcon"))
        .args(["network", "list"])
        .env_clear()
        .env("NETCON_SOCKET", &supervisor.socket)
        .env("COLUMNS", "50")
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.lines().all(|line| line.chars().count() <= 50) && table.contains("fd77::1/64"),
        "{table}"
    );
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let supervisor = Supervisor::start();
    let start = |output: Stdio| {
        let child = Process::new(env!("CARGO_BIN_EXE_netcon"))
            .args(["network", "list"])
            .env_clear()
            .env("NETCON_SOCKET", &supervisor.socket)
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), errors)
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(start(writer.into()), (Some(0), String::new()));
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let (code, errors) = start(full.into());
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.starts_with("netcon: cannot write"), "{errors}");
}

/// What bash offers at the end of a command line, by the function that the script defines.
#[test]
fn shells_complete_subcommands_options_and_names() {
    let supervisor = Supervisor::start();
    let script = supervisor.folder.join("completions");
    std::fs::write(&script, ok(&supervisor, &["completions", "bash"])).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_netcon")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let offered = |line: &str| {
        let output = Process::new("bash")
            .args([
                "-c",
                r#"source "$1"
                IFS=' ' read -ra COMP_WORDS <<<"$2"; [[ $2 == *' ' ]] && COMP_WORDS+=("")
                COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
                function=$(complete -p netcon); function=${function##*-F }; function=${function%% *}
                "$function" netcon "${COMP_WORDS[COMP_CWORD]}" ""
                echo "${COMPREPLY[*]}""#,
                "bash",
            ])
            .arg(&script)
            .arg(line)
            .env_clear()
            .env("PATH", &path)
            .env("NETCON_SOCKET", &supervisor.socket)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(offered("netcon sta"), "status");
    assert_eq!(offered("netcon network show d"), "demo");
    assert_eq!(offered("netcon peer show demo "), "laptop --json --help");
    assert!(offered("netcon peer add --our").contains("--our-endpoint"));
    for shell in ["zsh", "fish"] {
        assert!(ok(&supervisor, &["completions", shell]).contains("netcon"));
    }
}
