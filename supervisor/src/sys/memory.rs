// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory of a supervised program, copied once and bounded (process_vm_readv(2)).
//!
//! Both calls may block for ever on pages served by userfaultfd or FUSE: never hold a lock of a network meanwhile.

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};

/// Fills `into` from `address`. EFAULT unless every byte could be read.
pub fn read(tid: u32, address: u64, into: &mut [u8]) -> Result<(), Errno> {
    if into.is_empty() {
        return Ok(());
    }
    let (pid, base) = target(tid, address)?;
    let len = into.len();
    let done = process_vm_readv(
        pid,
        &mut [IoSliceMut::new(into)],
        &[RemoteIoVec { base, len }],
    )?;
    if done == len {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// Copies `from` to `address`. EFAULT unless every byte could be written.
pub fn write(tid: u32, address: u64, from: &[u8]) -> Result<(), Errno> {
    if from.is_empty() {
        return Ok(());
    }
    let (pid, base) = target(tid, address)?;
    let done = process_vm_writev(
        pid,
        &[IoSlice::new(from)],
        &[RemoteIoVec {
            base,
            len: from.len(),
        }],
    )?;
    if done == from.len() {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

fn target(tid: u32, address: u64) -> Result<(Pid, usize), Errno> {
    let pid = i32::try_from(tid).map_err(|_| Errno::ESRCH)?;
    let base = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    Ok((Pid::from_raw(pid), base))
}
