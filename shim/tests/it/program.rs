// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the program gets from the shim: exactly what the shim got, and one variable.

use crate::support::{Script, Supervisor, shim_path, stdout, write_program};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

fn supervisor() -> Supervisor {
    Supervisor::start(Script::Serve)
}

#[test]
fn the_exit_status_is_the_programs() {
    let supervisor = supervisor();
    for status in [0, 1, 7, 125, 255] {
        let output = supervisor.run(&["sh", "-c", &format!("exit {status}")]);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGPIPE, libc::SIGSEGV] {
        let output = supervisor.run(&["sh", "-c", &format!("ulimit -c 0; kill -{signal} $$")]);
        assert_eq!(output.status.signal(), Some(signal));
    }
}

#[test]
fn its_arguments_are_as_typed() {
    let supervisor = supervisor();
    let output = supervisor.run(&[
        "--net",
        "demo",
        "cat",
        "/proc/self/cmdline",
        "--",
        "-",
        "--net",
    ]);
    assert!(stdout(&output).starts_with("cat\0/proc/self/cmdline\0--\0-\0--net\0"));
    let seen = supervisor.seen.lock().unwrap();
    assert_eq!(seen.hellos[0].argv0, b"cat");
    assert_eq!(seen.hellos[0].network.as_deref(), Some("demo"));
}

#[test]
fn its_environment_gains_the_network() {
    let supervisor = supervisor();
    let output = supervisor
        .shim(&["env"])
        .env("odd", "a=b\nc")
        .env("NETCON_NET", "home")
        .output()
        .unwrap();
    let mut expected = format!(
        "NETCON_NET=home\nNETCON_NO_START=1\nNETCON_SOCKET={}\nPATH=/usr/bin:/bin\n",
        supervisor.socket.display()
    );
    expected.push_str("odd=a=b\nc\n");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&stdout(&output)), sorted(&expected));
    assert!(stdout(&supervisor.run(&["env"])).contains("NETCON_NET=only\n"));
}

/// Output of `command` under the shim and without it, both started by a shell after `prepare`.
fn both(supervisor: &Supervisor, prepare: &str, command: &str) -> (String, String) {
    let run = |prefix: &str| {
        let script = format!("{prepare}; exec {prefix} {command}");
        let output = Command::new("sh")
            .args(["-c", &script])
            .env("NETCON_SOCKET", &supervisor.socket)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        stdout(&output)
    };
    (run(shim_path().to_str().unwrap()), run(""))
}

#[test]
fn signals_limits_and_attributes_are_inherited() {
    let supervisor = supervisor();
    let fields = "'^(Sig|Shd|Umask|Uid|Gid|Groups|Threads)'";
    for prepare in [
        "true",
        "trap '' PIPE",
        "trap '' PIPE INT HUP",
        "umask 0137",
        "ulimit -n 77",
    ] {
        let (with, without) = both(
            &supervisor,
            prepare,
            &format!("grep -E {fields} /proc/self/status"),
        );
        assert_eq!(with, without, "{prepare}");
        assert!(with.contains("SigIgn"));
        let (with, without) = both(&supervisor, prepare, "cat /proc/self/limits");
        assert_eq!(with, without);
    }
    let (with, without) = both(&supervisor, "true", "nice -n 3 nice");
    assert_eq!(with, without);
}

#[test]
fn no_descriptor_is_added() {
    let supervisor = supervisor();
    let (with, without) = both(&supervisor, "true", "ls /proc/self/fd");
    assert_eq!(with, without);
    let (with, without) = both(
        &supervisor,
        "exec 0<&-; exec 2>&-; exec 7</dev/null",
        "ls /proc/self/fd",
    );
    assert_eq!(with, without);
    let (with, without) = both(
        &supervisor,
        "exec 0<&-",
        "readlink /proc/self/fd/0 /proc/self/fd/1",
    );
    assert_eq!(with.lines().count(), without.lines().count());
}

#[test]
fn the_process_is_the_shims() {
    let supervisor = supervisor();
    let child = supervisor
        .shim(&["sh", "-c", "echo $$"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output).trim(), id.to_string());
    assert_eq!(supervisor.seen.lock().unwrap().hellos[0].pid, id);
}

#[test]
fn a_file_without_a_format_is_the_shells() {
    let supervisor = supervisor();
    let path = supervisor.folder.join("plain");
    write_program(&path, b"echo \"$0 $1\"\nexit 3\n", 0o755);
    let output = supervisor.run(&[path.to_str().unwrap(), "x"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(stdout(&output), format!("{} x\n", path.display()));
}

#[test]
fn a_static_program_is_trapped_too() {
    let supervisor = supervisor();
    let Ok(busybox) = Command::new("busybox").output() else {
        return;
    };
    assert!(busybox.status.success());
    let output = supervisor.run(&["busybox", "nc", "127.0.0.1", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Address family not supported"));
    let seen = supervisor.seen.lock().unwrap();
    assert!(
        seen.calls
            .iter()
            .any(|call| call.number == libc::SYS_socket && call.arguments[0] == 2)
    );
}

#[test]
fn inside_of_its_network_it_is_a_plain_exec() {
    let supervisor = Supervisor::start(Script::SayInside);
    let output = supervisor
        .shim(&[
            "sh",
            "-c",
            "echo $NETCON_NET; grep Seccomp: /proc/self/status",
        ])
        .output()
        .unwrap();
    assert!(stdout(&output).starts_with("only\nSeccomp:\t"));
    assert!(supervisor.seen.lock().unwrap().flags.is_empty());
}
