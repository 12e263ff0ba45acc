// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the closed sandbox refuses, and that everything the supervisor needs still works in it.
//!
//! Each case runs in a process of its own: this test binary again with that one test, told by the
//! environment which part to play. It ends with status 0 or says what went wrong.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "tests"
)]

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use netcon_supervisor::{clock, sandbox, sys};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn,
    recvmsg, sendmsg, socket,
};

const PART: &str = "NETCON_SANDBOX_TEST_PART";
/// The part of the program that a supervisor serves.
const SUPERVISED: &str = "supervised";
/// A system call that nothing in the supervised part makes by itself.
const TRAPPED: libc::c_long = libc::SYS_getpriority;
const WORDS: &[u8; 16] = b"memory of theirs";
const REPLY: i64 = 4711;

#[test]
fn starting_programs_is_refused() {
    play("starting_programs_is_refused", || {
        close();
        exec();
    });
}

#[test]
fn tracing_is_refused() {
    play("tracing_is_refused", || {
        close();
        ptrace();
    });
}

#[test]
fn other_sockets_are_refused() {
    play("other_sockets_are_refused", || {
        close();
        sockets();
    });
}

#[test]
fn other_calls_are_refused() {
    play("other_calls_are_refused", || {
        close();
        others();
    });
}

#[test]
fn every_thread_is_confined() {
    play("every_thread_is_confined", || {
        let before = thread_from_before();
        close();
        threads(before);
    });
}

#[test]
fn files_and_memory_work() {
    play("files_and_memory_work", || {
        close();
        files();
    });
}

#[test]
fn network_works() {
    play("network_works", || {
        close();
        network();
    });
}

#[test]
fn programs_are_served() {
    play("programs_are_served", || {
        if std::env::var(PART).is_ok_and(|part| part == SUPERVISED) {
            supervised();
        } else {
            serve();
        }
    });
}

/// Runs the test `name` again in a process of its own, and there what it tests.
fn play(name: &str, test: impl FnOnce()) {
    if std::env::var_os(PART).is_some() {
        return test();
    }
    let output = another(name, "supervisor").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    assert!(
        text(&output.stdout).contains("1 passed"),
        "{name} did not run"
    );
}

/// Both stages, as the supervisor closes them.
fn close() {
    sandbox::harden().unwrap();
    sandbox::confine().unwrap();
}

fn another(name: &str, part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(PART, part);
    command
}

/// A raw system call; all arguments are integers or pointers that live long enough.
fn raw(number: libc::c_long, args: [u64; 5]) -> Result<i64, Errno> {
    // SAFETY: callers pass null, small integers or pointers to live buffers of the right size.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    Errno::result(result)
}

fn refused(name: &str, number: libc::c_long, args: [u64; 5]) {
    assert_eq!(raw(number, args), Err(Errno::EPERM), "{name}");
}

fn int(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

fn exec() {
    assert_eq!(
        Command::new("/bin/true")
            .status()
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EPERM)
    );
    let path = c"/bin/true".as_ptr() as u64;
    refused("execve", libc::SYS_execve, [path, 0, 0, 0, 0]);
    refused(
        "execveat",
        libc::SYS_execveat,
        [int(libc::AT_FDCWD), path, 0, 0, 0],
    );
    refused("fork", libc::SYS_fork, [0; 5]);
    refused("vfork", libc::SYS_vfork, [0; 5]);
    refused("clone", libc::SYS_clone, [int(libc::SIGCHLD), 0, 0, 0, 0]);
    let thread_and_namespace = int(libc::CLONE_THREAD | libc::CLONE_NEWUSER);
    refused("clone", libc::SYS_clone, [thread_and_namespace, 0, 0, 0, 0]);
    assert_eq!(raw(libc::SYS_clone3, [0; 5]), Err(Errno::ENOSYS));
    refused(
        "unshare",
        libc::SYS_unshare,
        [int(libc::CLONE_NEWUSER), 0, 0, 0, 0],
    );
    refused("setns", libc::SYS_setns, [0; 5]);
}

fn ptrace() {
    let me = u64::from(std::process::id());
    refused("traceme", libc::SYS_ptrace, [0, 0, 0, 0, 0]);
    refused(
        "attach",
        libc::SYS_ptrace,
        [int(libc::PTRACE_ATTACH.cast_signed()), me, 0, 0, 0],
    );
    refused(
        "seize",
        libc::SYS_ptrace,
        [int(libc::PTRACE_SEIZE.cast_signed()), me, 0, 0, 0],
    );
    refused("kcmp", libc::SYS_kcmp, [me, me, 0, 0, 0]);
}

fn sockets() {
    let refused = |family: i32, kind: i32, protocol: i32| {
        let args = [int(family), int(kind), int(protocol), 0, 0];
        assert_eq!(
            raw(libc::SYS_socket, args),
            Err(Errno::EPERM),
            "{family} {kind} {protocol}"
        );
        // The kernel looks at 32 bits only; so must the filter.
        let dirty = [args[0] | 1 << 32, args[1] | 1 << 32, args[2], 0, 0];
        assert_eq!(
            raw(libc::SYS_socket, dirty),
            Err(Errno::EPERM),
            "dirty {family}"
        );
    };
    for kind in [libc::SOCK_RAW, libc::SOCK_DGRAM] {
        refused(libc::AF_PACKET, kind, 0);
        refused(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC, 0x300);
    }
    for family in [libc::AF_INET, libc::AF_INET6] {
        refused(family, libc::SOCK_RAW, libc::IPPROTO_ICMP);
        refused(
            family,
            libc::SOCK_RAW | libc::SOCK_NONBLOCK,
            libc::IPPROTO_RAW,
        );
        refused(family, libc::SOCK_SEQPACKET, 0);
    }
    for family in [
        libc::AF_VSOCK,
        libc::AF_ALG,
        libc::AF_BLUETOOTH,
        libc::AF_XDP,
        libc::AF_KEY,
    ] {
        refused(family, libc::SOCK_STREAM, 0);
        refused(family, libc::SOCK_RAW, 0);
    }
    for protocol in [
        libc::NETLINK_NETFILTER,
        libc::NETLINK_AUDIT,
        libc::NETLINK_KOBJECT_UEVENT,
    ] {
        refused(libc::AF_NETLINK, libc::SOCK_RAW, protocol);
    }
}

fn others() {
    for (name, number) in [
        ("mount", libc::SYS_mount),
        ("bpf", libc::SYS_bpf),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("keyctl", libc::SYS_keyctl),
        ("setuid", libc::SYS_setuid),
        ("chroot", libc::SYS_chroot),
        ("pivot_root", libc::SYS_pivot_root),
        ("personality", libc::SYS_personality),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("modify_ldt", libc::SYS_modify_ldt),
        ("process_madvise", libc::SYS_process_madvise),
        ("a call of the future", 1000),
    ] {
        refused(name, number, [0; 5]);
    }
    refused(
        "dumpable again",
        libc::SYS_prctl,
        [int(libc::PR_SET_DUMPABLE), 1, 0, 0, 0],
    );
    refused("another filter", libc::SYS_seccomp, [1, 0, 0, 0, 0]);
    refused(
        "terminal injection",
        libc::SYS_ioctl,
        [0, libc::TIOCSTI, 0, 0, 0],
    );
    refused("kill", libc::SYS_kill, [1, int(libc::SIGTERM), 0, 0, 0]);
    let code = int(libc::PROT_WRITE | libc::PROT_EXEC);
    let private = int(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    refused(
        "writable code",
        libc::SYS_mmap,
        [0, 4096, code, private, u64::MAX],
    );
    let limit = [0_u64; 2];
    let new = limit.as_ptr() as u64;
    refused(
        "setting limits",
        libc::SYS_prlimit64,
        [0, u64::from(libc::RLIMIT_NOFILE), new, 0, 0],
    );
}

/// A thread that exists before the filter, and tries a refused call when told to.
fn thread_from_before() -> (
    std::sync::mpsc::Sender<()>,
    std::thread::JoinHandle<Result<i64, Errno>>,
) {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        told.recv().unwrap();
        raw(libc::SYS_ptrace, [0; 5])
    });
    (tell, thread)
}

fn threads(
    (tell, before): (
        std::sync::mpsc::Sender<()>,
        std::thread::JoinHandle<Result<i64, Errno>>,
    ),
) {
    tell.send(()).unwrap();
    assert_eq!(before.join().unwrap(), Err(Errno::EPERM));
    let threads: Vec<_> = (0..16)
        .map(|number| {
            std::thread::Builder::new()
                .name(format!("worker {number}"))
                .spawn(move || {
                    std::thread::park_timeout(Duration::from_millis(5));
                    (number, raw(libc::SYS_ptrace, [0; 5]))
                })
                .unwrap()
        })
        .collect();
    for (expected, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap(), (expected, Err(Errno::EPERM)));
    }
    // A panic that is caught unwinds and prints without new powers.
    assert!(std::thread::spawn(|| panic!("expected")).join().is_err());
    assert!(std::thread::available_parallelism().is_ok());
}

fn files() {
    let folder = std::env::temp_dir().join(format!("netcon-sandbox-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let state = netcon_supervisor::state::StateDir::open(&folder.join("state")).unwrap();
    assert!(state.load().unwrap().networks.is_empty());
    drop(state);
    fs::write(folder.join("a"), "text").unwrap();
    fs::rename(folder.join("a"), folder.join("b")).unwrap();
    assert_eq!(fs::read_to_string(folder.join("b")).unwrap(), "text");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    let link = fs::read_link("/proc/self/fd/0").unwrap();
    assert!(!link.as_os_str().is_empty());
    fs::remove_dir_all(&folder).unwrap();
    let memory =
        nix::sys::memfd::memfd_create(c"state", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut memory = fs::File::from(memory);
    memory
        .write_all(&sys::random::bytes::<64>().unwrap())
        .unwrap();
    memory.set_len(10).unwrap();
    assert_eq!(memory.metadata().unwrap().len(), 10);
    let large = vec![1_u8; 64 << 20];
    assert_eq!(
        large.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
        64 << 20
    );
    assert!(clock::now() <= clock::now() && clock::unix() > Duration::ZERO);
}

fn network() {
    // Stream sockets, blocking and with deadlines.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    let here = server.local_addr().unwrap();
    let me = nix::unistd::geteuid().as_raw();
    assert_eq!(sys::inet_diag::owner(peer, here).unwrap(), Some(me));
    client.write_all(b"hello").unwrap();
    assert_eq!(sys::ioctl::input_queue(server.as_fd()).unwrap_or(5), 5);
    assert_eq!(sys::ioctl::output_queue(client.as_fd()).unwrap(), 0);
    let mut five = [0; 5];
    server.read_exact(&mut five).unwrap();
    server
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    assert!(server.read(&mut five).is_err());
    server.set_nonblocking(true).unwrap();
    // Names, as for endpoints of peers.
    use std::net::ToSocketAddrs;
    assert!(("localhost", 1).to_socket_addrs().unwrap().count() > 0);
    // Batches of datagrams with segmentation offload.
    let receiver = netcon_supervisor::ports::bind_udp(20_000).unwrap();
    let sender = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(
        Ipv4Addr::LOCALHOST,
        receiver.port,
    ));
    let batch = [ControlMessage::UdpGsoSegments(&2)];
    match sendmsg(
        sender.as_raw_fd(),
        &[IoSlice::new(b"aabbcc")],
        &batch,
        MsgFlags::empty(),
        Some(&to),
    ) {
        Ok(count) => assert_eq!(count, 6),
        // Kernels without offload say so in ways of their own; the filter says EPERM.
        Err(errno) => assert_ne!(errno, Errno::EPERM),
    }
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    plain.send_to(b"dd", ("127.0.0.1", receiver.port)).unwrap();
    receiver.socket.set_nonblocking(false).unwrap();
    let mut space = [0; 64];
    let mut control = nix::cmsg_space!(libc::timespec);
    let mut parts = [IoSliceMut::new(&mut space)];
    let got = recvmsg::<()>(
        receiver.socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    );
    assert_eq!(got.unwrap().bytes, 2);
    events(&plain);
    unix();
}

fn events(readable: &UdpSocket) {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    epoll
        .add(
            readable,
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 7),
        )
        .unwrap();
    let event = nix::sys::eventfd::EventFd::new().unwrap();
    epoll
        .add(&event, EpollEvent::new(EpollFlags::EPOLLIN, 8))
        .unwrap();
    event.write(1).unwrap();
    let mut events = [EpollEvent::empty(); 4];
    assert_eq!(epoll.wait(&mut events, EpollTimeout::ZERO).unwrap(), 1);
    assert_eq!(events[0].data(), 8);
    let timer = nix::sys::timerfd::TimerFd::new(
        nix::sys::timerfd::ClockId::CLOCK_MONOTONIC,
        nix::sys::timerfd::TimerFlags::TFD_CLOEXEC,
    )
    .unwrap();
    timer
        .set(
            nix::sys::timerfd::Expiration::OneShot(nix::sys::time::TimeSpec::from_duration(
                Duration::from_millis(1),
            )),
            nix::sys::timerfd::TimerSetTimeFlags::empty(),
        )
        .unwrap();
    timer.wait().unwrap();
}

fn unix() {
    let folder = std::env::temp_dir().join(format!("netcon-sandbox-unix-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let path = folder.join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let credentials =
        nix::sys::socket::getsockopt(&server, nix::sys::socket::sockopt::PeerCredentials).unwrap();
    assert_eq!(credentials.pid().cast_unsigned(), std::process::id());
    let (a, _b) = UnixStream::pair().unwrap();
    give(&client, a.as_raw_fd());
    assert!(take(&server).as_raw_fd() >= 0);
    // The runtime of the API.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let client = tokio::spawn(tokio::net::TcpStream::connect(address));
        listener.accept().await.unwrap();
        client.await.unwrap().is_ok()
    });
    assert!(answer);
}

/// The supervisor's part: a notification of a program is received, looked at and answered inside.
fn serve() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut program = another("programs_are_served", SUPERVISED)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let listener = take(&ours);
    close();
    let call = sys::notify::receive(listener.as_fd()).unwrap();
    assert_eq!(i64::from(call.number), TRAPPED);
    assert!(sys::notify::is_valid(listener.as_fd(), call.id));
    let mut words = [0; 16];
    sys::memory::read(call.tid, call.args[0], &mut words).unwrap();
    assert_eq!(&words, WORDS);
    sys::memory::write(call.tid, call.args[0], b"MEMORY OF OURS!!").unwrap();
    // Its standard input is a socket: found, duplicated, compared.
    let inode = sys::task::socket_inode(call.tid, 0).unwrap().unwrap();
    sys::task::duplicate(call.tid, 0, inode).unwrap();
    assert!(sys::task::state(call.tid).is_some());
    assert!(
        fs::read_dir(format!("/proc/{}/task", call.tid))
            .unwrap()
            .count()
            > 0
    );
    sys::notify::answer(listener.as_fd(), call.id, Ok(REPLY)).unwrap();
    // The second call gets a descriptor.
    let call = sys::notify::receive(listener.as_fd()).unwrap();
    let (a, _b) = UnixStream::pair().unwrap();
    sys::notify::inject(listener.as_fd(), call.id, a.as_fd(), true).unwrap();
    let mut said = String::new();
    program
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    // Waiting for a child is not among what the supervisor needs.
    assert!(program.wait().is_err());
    assert!(said.contains("1 passed"), "{said}");
}

/// A program under a notify filter, its standard input a socket to the supervisor.
fn supervised() {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let number = u32::try_from(TRAPPED).unwrap();
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_USER_NOTIF,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    nix::sys::prctl::set_no_new_privs().unwrap();
    let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let listener = raw(
        libc::SYS_seccomp,
        [mode, flags, &raw const filter as u64, 0, 0],
    )
    .unwrap();
    // SAFETY: the kernel has just made this descriptor for us.
    let listener = unsafe { OwnedFd::from_raw_fd(i32::try_from(listener).unwrap()) };
    // SAFETY: standard input is open for the life of the process and used by nobody else here.
    let supervisor = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    give(&supervisor, listener.as_raw_fd());
    drop(listener);
    let mut words = *WORDS;
    assert_eq!(
        raw(TRAPPED, [words.as_mut_ptr() as u64, 0, 0, 0, 0]),
        Ok(REPLY)
    );
    assert_eq!(&words, b"MEMORY OF OURS!!");
    let injected = raw(TRAPPED, [0; 5]).unwrap();
    assert!(
        fs::read_link(format!("/proc/self/fd/{injected}"))
            .unwrap()
            .to_string_lossy()
            .starts_with("socket:")
    );
    drop(supervisor);
}

fn give(through: &UnixStream, fd: i32) {
    let rights = [ControlMessage::ScmRights(&[fd])];
    sendmsg::<()>(
        through.as_raw_fd(),
        &[IoSlice::new(b"f")],
        &rights,
        MsgFlags::empty(),
        None,
    )
    .unwrap();
}

fn take(from: &UnixStream) -> OwnedFd {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut control = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(
        from.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    let rights = message.cmsgs().unwrap().find_map(|control| match control {
        ControlMessageOwned::ScmRights(rights) => rights.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just given us this descriptor.
    unsafe { OwnedFd::from_raw_fd(rights.expect("a descriptor")) }
}
