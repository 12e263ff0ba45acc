// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The unix socket: hand-over, refusals, and clients that mean no good.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "tests"
)]

mod common;

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Fake, Folder, service};
use netcon_shim::handover::{
    Answer, Hello, Listener, Message, Outcome, PREAMBLE, Purpose, VERSION, refusal,
};
use netcon_supervisor::admission::{MOST_GUESTS, PATIENCE, Socket, SocketError};
use netcon_supervisor::clock;
use netcon_supervisor::control::service::NewNetwork;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

struct World {
    folder: Folder,
    fake: Arc<Fake>,
    http: Arc<AtomicUsize>,
    _socket: Socket,
}

impl World {
    /// A supervisor's socket with one network, "demo".
    fn new() -> Self {
        let folder = Folder::new();
        let (service, fake) = service(&folder);
        let demo = NewNetwork {
            name: "demo".parse().unwrap(),
            addresses: Vec::new(),
            mtu: None,
        };
        service.create(demo).unwrap();
        let socket = Socket::bind(&folder.path().join("s")).unwrap();
        let http = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&http);
        let answer = move |mut stream: UnixStream, _| {
            count.fetch_add(1, Ordering::SeqCst);
            // Nothing of the request was taken away.
            let mut first = [0];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"G");
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
        };
        socket.serve(service, answer).unwrap();
        Self {
            folder,
            fake,
            http,
            _socket: socket,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.path().join("s")).unwrap();
        stream.set_read_timeout(Some(4 * PATIENCE)).unwrap();
        stream
    }

    fn hello(&self, change: impl FnOnce(&mut Hello)) -> (UnixStream, Answer) {
        let mut stream = self.connect();
        stream.write_all(&PREAMBLE).unwrap();
        stream.write_all(&hello(change).encode()).unwrap();
        let Message::Answer(answer) = Message::read_from(&mut stream).unwrap() else {
            panic!()
        };
        (stream, answer)
    }

    fn hand_over(&self) -> Outcome {
        let (mut stream, answer) = self.hello(|_| {});
        assert!(matches!(answer, Answer::Accepted { .. }), "{answer:?}");
        send_listener(&stream, 1);
        let Message::Outcome(outcome) = Message::read_from(&mut stream).unwrap() else {
            panic!()
        };
        outcome
    }
}

fn hello(change: impl FnOnce(&mut Hello)) -> Message {
    let mut hello = Hello {
        version: VERSION,
        network: Some("demo".to_owned()),
        argv0: b"nginx".to_vec(),
        pid: 1,
        purpose: Purpose::New,
    };
    change(&mut hello);
    Message::Hello(hello)
}

fn send_listener(stream: &UnixStream, count: usize) {
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let files = vec![file.as_raw_fd(); count];
    let rights = [ControlMessage::ScmRights(&files)];
    let message = Message::Listener(Listener { flags: 40 }).encode();
    let parts = [IoSlice::new(&message)];
    sendmsg::<()>(stream.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
}

/// Whether the other end closes without another word.
fn is_dropped(stream: &mut UnixStream) -> bool {
    let mut rest = Vec::new();
    matches!(stream.read_to_end(&mut rest), Ok(0) | Err(_))
}

#[test]
fn a_container_is_handed_over() {
    let world = World::new();
    assert_eq!(world.hand_over(), Outcome::Ready);
    let seen = world.fake.seen();
    let (admission, flags) = &seen.containers[0];
    assert_eq!((admission.network.as_str(), *flags), ("demo", 40));
    // The kernel's word counts, not the shim's.
    assert_eq!(admission.peer.pid, std::process::id());
    assert_eq!(admission.argv0, b"nginx");
}

#[test]
fn a_failed_probe_is_a_sentence() {
    let world = World::new();
    world.fake.seen().failure = Some("Yama forbids it.".to_owned());
    let Outcome::Failed { sentence } = world.hand_over() else {
        panic!()
    };
    assert_eq!(sentence, "Yama forbids it.");
    assert_eq!(
        world.hand_over(),
        Outcome::Ready,
        "the process may try again"
    );
}

#[test]
fn refusals_come_before_anything_happens() {
    let world = World::new();
    let refused = |change: fn(&mut Hello), expected| match world.hello(change).1 {
        Answer::Refused { code, sentence } if code == expected => sentence,
        other => panic!("{other:?}"),
    };
    let sentence = refused(|hello| hello.version = 999, refusal::VERSION);
    assert!(sentence.contains("999"), "{sentence}");
    let sentence = refused(
        |hello| hello.network = Some("nope".into()),
        refusal::UNKNOWN_NETWORK,
    );
    assert!(sentence.contains("demo"), "{sentence}");
    refused(
        |hello| hello.purpose = Purpose::Reattach { container: 1 },
        refusal::OTHER,
    );
    assert!(world.fake.seen().containers.is_empty());
}

#[test]
fn a_shim_inside_a_container_is_told_so() {
    let world = World::new();
    world
        .fake
        .seen()
        .inside
        .insert(std::process::id(), "demo".to_owned());
    let (_, answer) = world.hello(|hello| hello.network = None);
    assert_eq!(
        answer,
        Answer::Inside {
            network: "demo".to_owned()
        }
    );
}

#[test]
fn http_is_passed_on_whole() {
    let world = World::new();
    let mut stream = world.connect();
    stream.write_all(b"G").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"));
    assert_eq!(world.http.load(Ordering::SeqCst), 1);
}

#[test]
fn supervised_programs_may_not_use_the_api() {
    let world = World::new();
    world
        .fake
        .seen()
        .inside
        .insert(std::process::id(), "demo".to_owned());
    let mut stream = world.connect();
    stream
        .write_all(b"DELETE /networks/demo HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("network demo"), "{answer}");
    assert_eq!(world.http.load(Ordering::SeqCst), 0);
}

#[test]
fn a_connection_of_a_process_that_has_ended_is_nobodys() {
    let world = World::new();
    let address = UnixAddr::new(&world.folder.path().join("s")).unwrap();
    for request in [&b"GET /networks HTTP/1.1\r\nhost: x\r\n\r\n"[..], &PREAMBLE] {
        let socket = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        let number = socket.as_raw_fd();
        let mut maker = Command::new("/bin/true");
        // SAFETY: between fork and exec only connect(2) is called, on memory that was there before.
        unsafe {
            maker.pre_exec(move || Ok(connect(number, &address)?));
        }
        assert!(maker.status().unwrap().success());
        let mut stream = UnixStream::from(socket);
        stream.set_read_timeout(Some(4 * PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        if request == PREAMBLE {
            stream.write_all(&hello(|_| {}).encode()).unwrap();
            let Message::Answer(Answer::Refused { code, .. }) =
                Message::read_from(&mut stream).unwrap()
            else {
                panic!()
            };
            assert_eq!(code, refusal::IDENTITY);
        } else {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        }
    }
    assert_eq!(world.http.load(Ordering::SeqCst), 0);
    assert!(world.fake.seen().containers.is_empty());
}

#[test]
fn garbage_is_dropped() {
    let world = World::new();
    for garbage in [
        &b"N"[..],
        b"NETCON\0\x01",
        b"NETCON\0\x01\0\0\0\0",
        b"NETCON\0\x01\xff\xff\xff\xff",
        b"NETCON\0\x01\x02\0\0\0\xff\xff",
        b"NETCON\0\x01\x01\0\0\0\x06",
    ] {
        let mut stream = world.connect();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(is_dropped(&mut stream), "{garbage:?}");
    }
    // Another framing is another version, and hears so in the form that never changes.
    let mut stream = world.connect();
    stream.write_all(b"NETCON\0\x02").unwrap();
    let Message::Answer(Answer::Refused { code, .. }) = Message::read_from(&mut stream).unwrap()
    else {
        panic!()
    };
    assert_eq!(code, refusal::VERSION);
    assert_eq!(world.hand_over(), Outcome::Ready);
}

#[test]
fn a_hand_over_needs_exactly_one_descriptor() {
    let world = World::new();
    for count in [0, 2, 100] {
        let (mut stream, _) = world.hello(|_| {});
        send_listener(&stream, count);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(is_dropped(&mut stream), "{count}");
    }
    assert!(world.fake.seen().containers.is_empty());
    assert_eq!(world.hand_over(), Outcome::Ready);
}

#[test]
fn one_process_hands_one_container_over_at_a_time() {
    let world = World::new();
    let (first, answer) = world.hello(|_| {});
    assert!(matches!(answer, Answer::Accepted { .. }));
    let (_, answer) = world.hello(|_| {});
    assert!(
        matches!(
            answer,
            Answer::Refused {
                code: refusal::LIMIT,
                ..
            }
        ),
        "{answer:?}"
    );
    drop(first);
    // Its end is noticed at once, but by another thread.
    let again = (0..200).any(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        matches!(world.hello(|_| {}).1, Answer::Accepted { .. })
    });
    assert!(again);
}

#[test]
fn slow_clients_are_dropped_and_hold_up_nobody() {
    let world = World::new();
    let started = clock::now();
    let mut silent = world.connect();
    let mut crowd: Vec<UnixStream> = (0..3 * MOST_GUESTS).map(|_| world.connect()).collect();
    assert_eq!(world.hand_over(), Outcome::Ready);
    assert!(
        started.elapsed() < PATIENCE,
        "others waited {:?}",
        started.elapsed()
    );
    // The crowd has thrown the first one out; the last of it runs into the deadline, however it dribbles.
    assert!(is_dropped(&mut silent));
    assert!(started.elapsed() < PATIENCE);
    let mut last = crowd.pop().unwrap();
    last.write_all(&PREAMBLE).unwrap();
    last.write_all(&100_u32.to_le_bytes()).unwrap();
    let mut writer = last.try_clone().unwrap();
    let dribble = std::thread::spawn(move || {
        while writer.write_all(b"x").is_ok() && started.elapsed() < 3 * PATIENCE {
            std::thread::park_timeout(Duration::from_millis(200));
        }
    });
    assert!(is_dropped(&mut last));
    assert!(started.elapsed() < 2 * PATIENCE, "{:?}", started.elapsed());
    dribble.join().unwrap();
}

#[test]
fn the_socket_is_ours_alone_and_goes_with_us() {
    let folder = Folder::new();
    let path = folder.path().join("s");
    let socket = Socket::bind(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Socket::bind(&path), Err(SocketError::Live { .. })));
    drop(socket);
    assert!(!path.exists());
    // A dead supervisor's socket is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(Socket::bind(&path).unwrap());
    // Somebody else's live one is not, nor is anything else.
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(Socket::bind(&path), Err(SocketError::Live { .. })));
    drop(other);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(
        Socket::bind(&path),
        Err(SocketError::NotSocket { .. })
    ));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
