// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two executing processes of one worker: one on the kernel's sockets, one on a virtual network.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::message::{Order, Outcome};
use super::step::Step;

/// A process that has said nothing for so long hangs, milliseconds.
const HANGS: u16 = 20_000;
/// Ports that a sequence has for itself.
const PORTS: u16 = 4;
/// Where they begin, below those that kernels choose from.
const FIRST_PORT: u16 = 10_000;
const LAST_PORT: u16 = 32_000;

/// One executing process, started again after it ended or hung.
#[derive(Debug)]
struct Executor {
    /// Program and arguments.
    command: Vec<String>,
    running: Option<(Child, ChildStdin, ChildStdout)>,
}

impl Executor {
    fn ask(&mut self, order: &Order) -> io::Result<Vec<Outcome>> {
        let answer = self.exchange(order);
        if answer.is_err() {
            self.end();
        }
        answer
    }

    fn exchange(&mut self, order: &Order) -> io::Result<Vec<Outcome>> {
        if self.running.is_none() {
            let mut child = Command::new(&self.command[0])
                .args(&self.command[1..])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let pipes = child.stdin.take().zip(child.stdout.take());
            let (stdin, stdout) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
            self.running = Some((child, stdin, stdout));
        }
        let Some((_, stdin, stdout)) = &mut self.running else {
            return Err(io::Error::other("not started"));
        };
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        stdin.write_all(&line)?;
        let mut answer = Vec::new();
        while answer.last() != Some(&b'\n') {
            let mut ready = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::from(HANGS))? == 0 {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            let mut block = [0; 1 << 16];
            let count = stdout.read(&mut block)?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            answer.extend_from_slice(&block[..count]);
        }
        Ok(serde_json::from_slice(&answer)?)
    }

    fn end(&mut self) {
        if let Some((mut child, stdin, stdout)) = self.running.take() {
            drop((stdin, stdout));
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.end();
    }
}

/// Both processes.
#[derive(Debug)]
pub struct Pair {
    native: Executor,
    supervised: Executor,
    port: u16,
}

impl Pair {
    /// Two processes, started when they are first needed.
    #[must_use]
    pub fn new(native: Vec<String>, supervised: Vec<String>) -> Self {
        let executor = |command| Executor {
            command,
            running: None,
        };
        Self {
            native: executor(native),
            supervised: executor(supervised),
            port: FIRST_PORT,
        }
    }

    /// What the steps give natively.
    ///
    /// # Errors
    ///
    /// When the process cannot be started, ends or hangs.
    pub fn native(&mut self, steps: &[Step]) -> io::Result<Vec<Outcome>> {
        let order = self.order(steps, Vec::new(), 0);
        self.native.ask(&order)
    }

    /// What they give on a virtual network, whose sockets have so many milliseconds to look as they did natively.
    ///
    /// # Errors
    ///
    /// As [`Self::native`].
    pub fn supervised(
        &mut self,
        steps: &[Step],
        native: &[Outcome],
        patience: u64,
    ) -> io::Result<Vec<Outcome>> {
        let expected = native.iter().map(|outcome| outcome.looks.clone()).collect();
        let order = self.order(steps, expected, patience);
        self.supervised.ask(&order)
    }

    fn order(&mut self, steps: &[Step], expected: Vec<Vec<String>>, patience: u64) -> Order {
        self.port += PORTS;
        if self.port >= LAST_PORT {
            self.port = FIRST_PORT;
        }
        Order {
            steps: steps.to_vec(),
            expected,
            patience,
            port: self.port,
        }
    }
}
