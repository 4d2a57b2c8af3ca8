//! Which process this is, as one number that can be exchanged atomically.
//!
//! ```text
//!  63              42 41                      28 27                    0
//!  +-----------------+--------------------------+-----------------------+
//!  | process id      | inode of the PID         | start time, in ticks  |
//!  | (at most 2^22)  | namespace, low 14 bits   | of 1/100 s, low 28    |
//!  +-----------------+--------------------------+-----------------------+
//! ```
//!
//! With its start time a process that is gone is not mistaken for another one that has its id now,
//! unless that one was started in the same tick modulo 31 days. A peer of another PID namespace, whose
//! id means nothing here, counts as alive.

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

/// This process's PID namespace.
#[allow(clippy::unnecessary_cast, reason = "32 bits on some architectures")]
fn namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/pid").map_or(0, |stat| low(stat.st_ino as u64, NAMESPACE_BITS))
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
