// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A supervisor that speaks the hand-over, answers the probe, refuses sockets and lets everything else proceed.

pub(crate) mod sys;

use netcon_shim::handover::{
    Answer, Hello, Listener, Message, Outcome, PREAMBLE, PROBE_COOKIE, PROBE_ERRNO, PROBE_FD,
    VERSION, refusal,
};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the supervisor does with a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Serve,
    SayInside,
    Refuse,
    SpeakHttp,
    LeaveAfterHello,
    LeaveAfterAnswer,
    LeaveAfterListener,
    FailAfterListener,
    FailAfterProbe,
}

/// What it saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) hellos: Vec<Hello>,
    pub(crate) flags: Vec<u32>,
    pub(crate) calls: Vec<sys::Call>,
}

pub(crate) struct Supervisor {
    pub(crate) folder: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl Supervisor {
    pub(crate) fn start(script: Script) -> Self {
        let folder = folder();
        let socket = folder.join("s.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = shared.clone();
                thread::spawn(move || serve(stream.unwrap(), script, &seen));
            }
        });
        Self {
            folder,
            socket,
            seen,
        }
    }

    /// The shim with these arguments, in an environment of three variables.
    pub(crate) fn shim(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(shim_path());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("NETCON_NO_START", "1")
            .env("NETCON_SOCKET", &self.socket);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.shim(arguments).output().unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The shim under test; NETCON_SHIM_UNDER_TEST names another build of it.
pub(crate) fn shim_path() -> PathBuf {
    std::env::var_os("NETCON_SHIM_UNDER_TEST")
        .map_or_else(|| env!("CARGO_BIN_EXE_netcon-shim").into(), PathBuf::from)
}

pub(crate) fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("netcon-shim-{}-{count}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    path
}

pub(crate) fn is_root() -> bool {
    netcon_shim::sys::effective_uid() == 0
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Asserts a failure of the shim's own: this status, and one sentence that holds all of `words`.
pub(crate) fn assert_fails(output: &Output, status: i32, words: &[&str]) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(
        text.starts_with("netcon-shim: ") && text.matches('\n').count() == 1,
        "{text}"
    );
    for word in words {
        assert!(text.contains(word), "{word:?} in {text}");
    }
    assert!(output.stdout.is_empty());
}

/// Writes an executable file.
pub(crate) fn write_program(path: &Path, content: &[u8], mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn serve(mut stream: UnixStream, script: Script, seen: &Mutex<Seen>) {
    let mut preamble = [0; PREAMBLE.len()];
    stream.read_exact(&mut preamble).unwrap();
    assert_eq!(preamble, PREAMBLE);
    let Message::Hello(hello) = Message::read_from(&mut stream).unwrap() else {
        panic!("no hello")
    };
    assert_eq!(hello.version, VERSION);
    let network = hello.network.clone().unwrap_or_else(|| "only".to_owned());
    seen.lock().unwrap().hellos.push(hello);
    let answer = match script {
        Script::LeaveAfterHello => return,
        Script::SpeakHttp => {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            return;
        }
        Script::Refuse => {
            let sentence = "no network demo; there are: home, lab".to_owned();
            Answer::Refused {
                code: refusal::UNKNOWN_NETWORK,
                sentence,
            }
        }
        Script::SayInside => Answer::Inside { network },
        Script::Serve
        | Script::LeaveAfterAnswer
        | Script::LeaveAfterListener
        | Script::FailAfterListener
        | Script::FailAfterProbe => Answer::Accepted {
            container: 1,
            network,
        },
    };
    stream.write_all(&Message::Answer(answer).encode()).unwrap();
    if matches!(
        script,
        Script::SayInside | Script::Refuse | Script::LeaveAfterAnswer
    ) {
        return;
    }
    let Some((flags, listener)) = receive_listener(&stream) else {
        return;
    };
    seen.lock().unwrap().flags.push(flags);
    if script == Script::LeaveAfterListener {
        return;
    }
    let fail = |mut stream: &UnixStream| {
        let sentence = "the memory of programs cannot be read; see netcon doctor".to_owned();
        stream
            .write_all(&Message::Outcome(Outcome::Failed { sentence }).encode())
            .unwrap();
    };
    if script == Script::FailAfterListener {
        return fail(&stream);
    }
    let probe = sys::receive(&listener).unwrap();
    assert_eq!(
        (probe.number, sys::low(probe.arguments[0])),
        (libc::SYS_getsockname, PROBE_FD)
    );
    assert_eq!(
        sys::read_memory(probe.tid, probe.arguments[1]).unwrap(),
        PROBE_COOKIE
    );
    sys::answer(&listener, probe.id, PROBE_ERRNO);
    if script == Script::FailAfterProbe {
        return fail(&stream);
    }
    stream
        .write_all(&Message::Outcome(Outcome::Ready).encode())
        .unwrap();
    drop(stream);
    while let Some(call) = sys::receive(&listener) {
        match call.number {
            libc::SYS_socket => sys::answer(&listener, call.id, libc::EAFNOSUPPORT),
            libc::SYS_socketpair => sys::answer(&listener, call.id, libc::EOPNOTSUPP),
            libc::SYS_pidfd_getfd => sys::answer(&listener, call.id, libc::EPERM),
            _ => sys::proceed(&listener, call.id),
        }
        seen.lock().unwrap().calls.push(call);
    }
}

fn receive_listener(stream: &UnixStream) -> Option<(u32, OwnedFd)> {
    let mut buffer = vec![0; 64];
    let (length, fd) = sys::receive_with_fd(stream, &mut buffer)?;
    match Message::decode(&buffer[..length]).unwrap() {
        Some((Message::Listener(Listener { flags }), _)) => Some((flags, fd)),
        other => panic!("{other:?}"),
    }
}
