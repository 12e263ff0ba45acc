// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What still works in the sandbox.

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use netcon_supervisor::{clock, sys};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, recvmsg, sendmsg,
    socket,
};

use crate::process::{give, take};

pub(crate) fn files() {
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

pub(crate) fn network() {
    // Stream sockets, blocking and with deadlines.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    let here = server.local_addr().unwrap();
    let me = nix::unistd::geteuid().as_raw();
    let owner = sys::inet_diag::InetDiag::default()
        .owner(peer, here)
        .unwrap();
    assert_eq!(owner.map(|owner| owner.uid), Some(me));
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
    let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, receiver.port));
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
