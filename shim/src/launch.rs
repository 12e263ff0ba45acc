// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Entering the network: the conversation with the supervisor, and the filter.
//!
//! The filter traps the calls with which its own listener would be handed over, so two threads do it. The helper is made
//! before the filter, which is installed for the main thread alone: it stays unfiltered, sends the listener and waits for the
//! outcome, while the main thread makes the probe call and later executes the program, which ends the helper. A failure
//! that the helper sees ends the process from there, because the main thread may be waiting in a call nobody answers.

use crate::args::Args;
use crate::failure::Failure;
use libc::sock_filter;
use netcon_shim::handover::{
    Answer, Hello, Listener, MAX_ARGV0, Message, OLDEST, Outcome, PREAMBLE, PROBE_COOKIE,
    PROBE_ERRNO, PROBE_FD, Purpose, VERSION, refusal,
};
use netcon_shim::{filter, runtime, start, sys};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Puts this process into the network that `args` name; returns the network's local name.
pub(crate) fn enter(args: &Args) -> Result<String, Failure> {
    let (supervisor, answer) = first_answer(args)?;
    match answer {
        Answer::Inside { network } => Ok(network),
        Answer::Refused { sentence, .. } => Err(Failure::Refused(sentence)),
        Answer::Accepted { network, .. } => {
            hand_over(supervisor)?;
            Ok(network)
        }
    }
}

/// How long the supervisor may take for one answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// SECCOMP_FILTER_FLAG_SPEC_ALLOW: before Linux 5.16 a filter turns on costly mitigations; the program shall run as it would.
const SPEC_ALLOW: u32 = 1 << 2;

/// Conversations that are begun before we believe that the supervisor ends them.
const ATTEMPTS: u32 = 3;

/// Asks the supervisor. One that ends, or is restarted, in this moment hangs up before its answer: nothing has happened
/// then, and the next one is asked.
fn first_answer(args: &Args) -> Result<(UnixStream, Answer), Failure> {
    let mut attempt = 1;
    let mut version = VERSION;
    loop {
        let mut supervisor = connect(args.start && start::is_allowed())?;
        match ask(&mut supervisor, args, version) {
            // A supervisor from before an upgrade.
            Ok(Answer::Refused { code, .. }) if code == refusal::VERSION && version > OLDEST => {
                version -= 1;
            }
            Ok(answer) => return Ok((supervisor, answer)),
            Err(Failure::Lost(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(failure) => return Err(failure),
        }
    }
}

/// Connects to the supervisor; starts one if none runs and `start` allows it.
fn connect(start: bool) -> Result<UnixStream, Failure> {
    let path = runtime::socket_path(false).map_err(Failure::Runtime)?;
    let supervisor = match sys::connect(&path) {
        Ok(supervisor) => supervisor,
        Err(error) if !start::is_absence(&error) => return Err(Failure::Connect(path, error)),
        Err(_) if !start => return Err(Failure::NoSupervisor(path)),
        Err(_) => {
            runtime::socket_path(true).map_err(Failure::Runtime)?;
            if let Some(log) = start::ensure(&path).map_err(Failure::Start)? {
                let line = format!("netcon-shim: {}\n", start::told(&log));
                // The program runs, whether it can be told or not.
                let _ = io::stderr().write_all(line.as_bytes());
            }
            sys::connect(&path).map_err(|error| Failure::Connect(path.clone(), error))?
        }
    };
    match sys::peer_uid(&supervisor) {
        Ok(uid) if uid == sys::effective_uid() => Ok(supervisor),
        Ok(uid) => Err(Failure::ForeignSupervisor(path, uid)),
        Err(error) => Err(Failure::Connect(path, error)),
    }
}

fn ask(supervisor: &mut UnixStream, args: &Args, version: u16) -> Result<Answer, Failure> {
    let argv0 = args.command.as_bytes();
    let hello = Message::Hello(Hello {
        version,
        network: args.network.clone(),
        argv0: argv0.get(..MAX_ARGV0).unwrap_or(argv0).to_vec(),
        pid: std::process::id(),
        purpose: Purpose::New,
    });
    let bytes = [&PREAMBLE[..], &hello.encode()].concat();
    supervisor
        .set_read_timeout(Some(PATIENCE))
        .map_err(Failure::Lost)?;
    supervisor.write_all(&bytes).map_err(lost)?;
    match Message::read_from(supervisor).map_err(lost)? {
        Message::Answer(answer) => Ok(answer),
        Message::Hello(_) | Message::Listener(_) | Message::Outcome(_) => Err(Failure::Strange),
    }
}

fn hand_over(supervisor: UnixStream) -> Result<(), Failure> {
    if !sys::is_dumpable() {
        return Err(Failure::NotDumpable);
    }
    let program = filter::program().map_err(Failure::Build)?;
    let signal = sys::ThreadSignal::save();
    let (give, take) = sync_channel(1);
    let (told, tell) = sync_channel(1);
    let helper = thread::Builder::new()
        .stack_size(HELPER_STACK)
        .spawn(move || {
            if let Err(failure) = accompany(supervisor, &take, &told) {
                std::process::exit(failure.report());
            }
        })
        .map_err(Failure::Resource)?;
    if !sys::has_sys_admin() {
        sys::set_no_new_privs().map_err(Failure::Install)?;
    }
    let (listener, flags) = install(&program).map_err(Failure::Install)?;
    // From here on this thread is filtered: it may use futexes, but no socket.
    let sent = give.send((listener, Listener { flags })).is_ok() && tell.recv().is_ok();
    let errno = if sent {
        sys::probe(PROBE_FD, &PROBE_COOKIE)
    } else {
        0
    };
    // A helper that has failed has ended the process.
    let ready = helper.join().is_ok();
    signal.restore();
    if ready && errno == PROBE_ERRNO {
        Ok(())
    } else {
        Err(Failure::Probe(errno))
    }
}

/// Bytes of the helper's stack.
const HELPER_STACK: usize = 64 * 1024;

/// The helper: sends the listener, says so, and waits for the outcome. Closes the listener before saying so, and the
/// connection at its end.
fn accompany(
    mut supervisor: UnixStream,
    take: &Receiver<(OwnedFd, Listener)>,
    told: &SyncSender<()>,
) -> Result<(), Failure> {
    let Ok((listener, message)) = take.recv() else {
        // The main thread could not install the filter, and tells why.
        return Ok(());
    };
    let bytes = Message::Listener(message).encode();
    sys::send_with_fd(&supervisor, &bytes, listener.as_fd()).map_err(lost)?;
    drop(listener);
    if told.send(()).is_err() {
        return Ok(());
    }
    match Message::read_from(&mut supervisor).map_err(lost)? {
        Message::Outcome(Outcome::Ready) => Ok(()),
        Message::Outcome(Outcome::Failed { sentence }) => Err(Failure::Refused(sentence)),
        Message::Hello(_) | Message::Answer(_) | Message::Listener(_) => Err(Failure::Strange),
    }
}

/// Installs the filter with as many of the wished flags as the kernel knows.
fn install(program: &[sock_filter]) -> io::Result<(OwnedFd, u32)> {
    let wished = Listener::WAIT_KILLABLE_RECV | SPEC_ALLOW;
    match sys::install(program, wished) {
        Ok(listener) => Ok((listener, wished)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            sys::install(program, SPEC_ALLOW).map(|listener| (listener, SPEC_ALLOW))
        }
        Err(error) => Err(error),
    }
}

fn lost(error: io::Error) -> Failure {
    let kind = error.kind();
    if kind == io::ErrorKind::WouldBlock || kind == io::ErrorKind::TimedOut {
        Failure::Silent
    } else if kind == io::ErrorKind::InvalidData {
        Failure::Strange
    } else if kind == io::ErrorKind::UnexpectedEof {
        Failure::Lost(io::Error::from_raw_os_error(libc::ECONNRESET))
    } else {
        Failure::Lost(error)
    }
}
