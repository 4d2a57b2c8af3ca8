//! Which process this is, as one number that can be exchanged atomically.
//!
//! ```text
//!  63              42 41                      28 27                    0
//!  +-----------------+--------------------------+-----------------------+
//!  | process id      | inodes of the PID and    | start time, in ticks  |
//!  | (at most 2^22)  | time namespace, 14 bits  | of 1/100 s, low 28    |
//!  +-----------------+--------------------------+-----------------------+
//! ```
//!
//! With its start time a process that is gone is not mistaken for another one that has its id now,
//! unless that one was started in the same tick modulo 31 days. A peer of another PID or time namespace,
//! whose numbers mean nothing here, counts as alive.

use core::ffi::CStr;

use rustix::io::Errno;
use rustix::process::getpid;

use crate::event::pidfd::{self, Flags, Pid};

const START_BITS: u32 = 28;
const NAMESPACE_BITS: u32 = 14;

/// The bits of a number that are kept.
const fn low(number: u64, bits: u32) -> u64 {
    number & ((1 << bits) - 1)
}

/// The identity of this process: 22 bits of process id, 14 of the PID namespace's inode, 28 of the
/// start time. Without `/proc` only the process id is known.
pub(crate) fn me() -> Result<u64, Errno> {
    let pid = getpid();
    let start = pidfd::open(pid, Flags::empty()).and_then(pidfd::identity);
    let start = start.map_or(0, |identity| identity.start_time);
    let pid = pid.as_raw_nonzero().get().unsigned_abs();
    Ok((u64::from(pid) << (START_BITS + NAMESPACE_BITS))
        | (namespace() << START_BITS)
        | low(start, START_BITS))
}

/// This process's PID namespace, and the time namespace, in which start times are told.
fn namespace() -> u64 {
    low(
        inode(c"/proc/self/ns/pid").wrapping_add(inode(c"/proc/self/ns/time").wrapping_mul(31)),
        NAMESPACE_BITS,
    )
}

#[allow(clippy::unnecessary_cast, reason = "32 bits on some architectures")]
fn inode(path: &CStr) -> u64 {
    rustix::fs::stat(path).map_or(0, |stat| stat.st_ino as u64)
}

/// Whether an identity is this process's.
pub(crate) fn is_this(identity: u64) -> bool {
    let pid = getpid().as_raw_nonzero().get().unsigned_abs();
    pid_of(identity) == pid && low(identity >> START_BITS, NAMESPACE_BITS) == namespace()
}

/// The process id in an identity.
pub(crate) fn pid_of(identity: u64) -> u32 {
    (identity >> (START_BITS + NAMESPACE_BITS)) as u32
}

/// Whether the process is alive, or cannot be known not to be.
pub(crate) fn is_alive(identity: u64) -> bool {
    let start = low(identity, START_BITS);
    if low(identity >> START_BITS, NAMESPACE_BITS) != namespace() {
        return true;
    }
    let pid = i32::try_from(pid_of(identity)).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return false };
    let pidfd = match pidfd::open(pid, Flags::empty()) {
        Ok(pidfd) => pidfd,
        Err(error) => return error != Errno::SRCH,
    };
    if pidfd::has_ended(&pidfd) == Ok(true) {
        return false;
    }
    match pidfd::identity(&pidfd) {
        Ok(now) => start == 0 || low(now.start_time, START_BITS) == start,
        Err(error) => error != Errno::SRCH,
    }
}
