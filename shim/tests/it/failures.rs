// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every failure of the shim: one sentence, and 125, 126 or 127.

use crate::support::sys::without_seccomp;
use crate::support::{
    Script, Supervisor, assert_fails, folder, is_root, shim_path, stdout, write_program,
};
use std::process::{Command, Stdio};

#[test]
fn bad_usage() {
    let supervisor = Supervisor::start(Script::Serve);
    assert_fails(&supervisor.run(&[]), 125, &["no program", "usage"]);
    assert_fails(&supervisor.run(&["--net"]), 125, &["--net"]);
    assert_fails(&supervisor.run(&["--frob", "true"]), 125, &["--frob"]);
}

#[test]
fn help_and_version() {
    let supervisor = Supervisor::start(Script::Serve);
    for (option, word) in [("--help", "Usage:"), ("--version", "netcon-shim 0.")] {
        let output = supervisor.run(&[option]);
        assert!(output.status.success());
        assert!(stdout(&output).contains(word));
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = supervisor
            .shim(&[option])
            .stdout(Stdio::from(full))
            .output()
            .unwrap();
        assert_fails(&output, 125, &["standard output"]);
    }
}

#[test]
fn programs_that_are_not_there() {
    let supervisor = Supervisor::start(Script::Serve);
    assert_fails(
        &supervisor.run(&["no-such-program"]),
        127,
        &["no-such-program", "no such program"],
    );
    assert_fails(
        &supervisor.run(&["/no/such/program"]),
        127,
        &["/no/such/program"],
    );
    let script = supervisor.folder.join("script");
    write_program(&script, b"#!/no/such/interpreter -x\n", 0o755);
    assert_fails(
        &supervisor.run(&[script.to_str().unwrap()]),
        127,
        &["interpreter"],
    );
    assert!(
        supervisor.seen.lock().unwrap().hellos.is_empty(),
        "told before the supervisor was asked"
    );
}

#[test]
fn programs_that_cannot_be_executed() {
    let supervisor = Supervisor::start(Script::Serve);
    assert_fails(
        &supervisor.run(&["/etc/passwd"]),
        126,
        &["/etc/passwd", "permission denied"],
    );
    assert_fails(&supervisor.run(&["/usr"]), 126, &["/usr"]);
}

#[test]
fn a_binary_without_its_interpreter() {
    let supervisor = Supervisor::start(Script::Serve);
    // ELF header with one program header, PT_INTERP at offset 120: found out by execve itself, under the filter.
    let interpreter = b"/no/such/ld.so\0";
    let mut binary = vec![0; 120];
    binary[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    binary[32] = 64;
    binary[54] = 56;
    binary[56] = 1;
    binary[64] = 3;
    binary[72] = 120;
    binary[96] = u8::try_from(interpreter.len()).unwrap();
    binary.extend_from_slice(interpreter);
    let path = supervisor.folder.join("binary");
    write_program(&path, &binary, 0o755);
    assert_fails(
        &supervisor.run(&[path.to_str().unwrap()]),
        127,
        &["binary", "interpreter"],
    );
    assert_eq!(supervisor.seen.lock().unwrap().flags.len(), 1);
}

#[test]
fn a_program_that_cannot_be_read() {
    if is_root() {
        return;
    }
    let supervisor = Supervisor::start(Script::Serve);
    let path = supervisor.folder.join("secret");
    std::fs::copy("/bin/true", &path).unwrap();
    write_program(&path, &std::fs::read("/bin/true").unwrap(), 0o311);
    assert_fails(
        &supervisor.run(&[path.to_str().unwrap()]),
        126,
        &["not read", "chmod a+r"],
    );
    let script = supervisor.folder.join("script");
    write_program(
        &script,
        format!("#! {} -x\n", path.display()).as_bytes(),
        0o755,
    );
    assert_fails(
        &supervisor.run(&[script.to_str().unwrap()]),
        126,
        &["secret", "not read"],
    );
}

#[test]
fn no_supervisor() {
    let folder = folder();
    let socket = folder.join("none.sock");
    let run = || {
        Command::new(shim_path())
            .arg("true")
            .env("NETCON_SOCKET", &socket)
            .env("NETCON_NO_START", "1")
            .output()
            .unwrap()
    };
    assert_fails(
        &run(),
        125,
        &[socket.to_str().unwrap(), "netcon-supervisor"],
    );
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_fails(
        &run(),
        125,
        &[socket.to_str().unwrap(), "netcon-supervisor"],
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_untrusted_folder() {
    let folder = folder();
    write_program(&folder.join("netcon"), b"", 0o600);
    let mut command = Command::new(shim_path());
    command
        .arg("true")
        .env_remove("NETCON_SOCKET")
        .env("NETCON_NO_START", "1")
        .env("XDG_RUNTIME_DIR", &folder);
    assert_fails(&command.output().unwrap(), 125, &["is not a directory"]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_a_supervisor_can_do() {
    let cases: &[(Script, &[&str])] = &[
        (Script::Refuse, &["no network demo", "home, lab"]),
        (Script::SpeakHttp, &["version 1", "one release"]),
        (Script::LeaveAfterHello, &["supervisor", "try again"]),
        (Script::LeaveAfterAnswer, &["supervisor", "try again"]),
        (Script::LeaveAfterListener, &["supervisor", "try again"]),
        (Script::FailAfterListener, &["netcon doctor"]),
        (Script::FailAfterProbe, &["netcon doctor"]),
    ];
    for (script, words) in cases {
        let supervisor = Supervisor::start(*script);
        for _ in 0..10 {
            assert_fails(&supervisor.run(&["--net", "demo", "true"]), 125, words);
        }
    }
}

#[test]
fn kernels_and_containers_without_seccomp() {
    let supervisor = Supervisor::start(Script::Serve);
    let cases: [(i32, &[&str]); 4] = [
        (
            libc::EINVAL,
            &["no seccomp user notification", "Linux 5.14"],
        ),
        (
            libc::ENOSYS,
            &["no seccomp user notification", "Linux 5.14"],
        ),
        (libc::EPERM, &["forbidden", "profile"]),
        (libc::EBUSY, &["already runs under", "outside"]),
    ];
    for (errno, words) in cases {
        let mut command = supervisor.shim(&["true"]);
        without_seccomp(&mut command, u16::try_from(errno).unwrap());
        assert_fails(&command.output().unwrap(), 125, words);
    }
}

#[test]
fn a_second_listener() {
    let outer = Supervisor::start(Script::Serve);
    let inner = Supervisor::start(Script::Serve);
    let shim = shim_path();
    let script = format!(
        "NETCON_SOCKET={} exec {} true",
        inner.socket.display(),
        shim.display()
    );
    assert_fails(
        &outer.run(&["sh", "-c", &script]),
        125,
        &["already runs under", "outside"],
    );
}
