//! Processes as descriptors: to signal, to wait for, to take a descriptor from, never mistaken.
//!
//! Mirrors pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2) and waitid(2) with `P_PIDFD`.
//!
//! A process id is used again after its process was waited for; a pidfd stays with its process. It
//! becomes readable when the process has ended, for [`super::poll`] and [`super::epoll`].
//!
//! ```
//! use linipc_core::event::pidfd::{self, Flags, Pid};
//!
//! let me = Pid::from_raw(std::process::id() as i32).unwrap();
//! let pidfd = pidfd::open(me, Flags::empty())?;
//! assert_eq!(pidfd::pid(&pidfd)?, me);
//! assert!(!pidfd::has_ended(&pidfd)?);
//!
//! // What to write down, to find the same process later or to know that it is gone:
//! let identity = pidfd::identity(&pidfd)?;
//! pidfd::open_identity(identity)?;
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - [`open`] takes a bare process id, so open it while it cannot be another's: as the parent,
//!   before the child is waited for. A peer's comes from its socket (`SO_PEERPIDFD`), or as
//!   [`Identity`].
//! - Process ids belong to a PID namespace, and mean something else, or nothing, in another one.
//! - Only a parent can [`wait`], once; all others see that it has ended, not how.

use core::ffi::CStr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, waitid};

use crate::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use crate::io;
use crate::sys::{call, own};

pub use rustix::process::{
    Pid, PidfdFlags as Flags, Signal, WaitIdOptions, WaitIdStatus, pidfd_send_signal as send_signal,
};

/// `int syscall(SYS_pidfd_open, pid_t pid, unsigned int flags)`: opens a process, close-on-exec.
///
/// # Errors
///
/// - `SRCH`: there is none with this id.
/// - `INVAL`: an unknown flag; or the id of a thread that is not the first one of its process.
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system. `NOMEM`.
///
/// # References
///
/// - [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)
#[inline]
#[doc(alias = "pidfd_open")]
pub fn open(pid: Pid, flags: Flags) -> Result<OwnedFd, Errno> {
    let pid = pid.as_raw_nonzero().get();
    // SAFETY: The call takes no pointers.
    let fd = unsafe { call!(__NR_pidfd_open, pid, flags.bits()) }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(fd) }
}

/// `int waitid(P_PIDFD, id_t id, siginfo_t *infop, int options)`: waits for a child to change as
/// `options` say, and gives how; `None` if it has not, and `NOHANG`.
///
/// # Errors
///
/// - `CHILD`: not a child of this process, or waited for already.
/// - `INVAL`: `options` has none of `EXITED`, `STOPPED`, `CONTINUED`; or not a pidfd.
/// - `AGAIN`: it has not changed, and the descriptor was opened with [`Flags::NONBLOCK`].
/// - `INTR`: a signal was caught while the call waited.
///
/// # References
///
/// - [waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html)
#[inline]
#[doc(alias = "waitid")]
pub fn wait(pidfd: impl AsFd, options: WaitIdOptions) -> Result<Option<WaitIdStatus>, Errno> {
    waitid(WaitId::PidFd(pidfd.as_fd()), options)
}

/// Whether the process has ended, whether or not its parent has waited for it.
///
/// # Errors
///
/// None in practice.
#[inline]
pub fn has_ended(pidfd: impl AsFd) -> Result<bool, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    // At once, so that no signal can interrupt it.
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}

/// `int syscall(SYS_pidfd_getfd, int pidfd, int targetfd, unsigned int flags)`: duplicates
/// descriptor `number` of the process into this one, close-on-exec.
///
/// The two share their offset and flags.
///
/// # Errors
///
/// - `PERM`: no permission to trace the process (ptrace(2), `PTRACE_MODE_ATTACH_REALCREDS`).
/// - `BADF`: it has no such descriptor, or `pidfd` is none.
/// - `SRCH`: it has ended.
/// - `MFILE`, `NFILE`: no descriptor is free in this process, or in the system.
///
/// # References
///
/// - [pidfd_getfd(2)](https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html)
#[inline]
#[doc(alias = "pidfd_getfd")]
pub fn get_fd(pidfd: impl AsFd, number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: The call takes no pointers.
    let fd = unsafe { call!(__NR_pidfd_getfd, pidfd.as_fd(), number, 0_u32) }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(fd) }
}

/// The process's id, as `/proc/thread-self/fdinfo` tells it.
///
/// # Errors
///
/// - `SRCH`: the process has ended and was waited for, or has no id in this PID namespace.
/// - `INVAL`: not a pidfd.
/// - `NOENT`: `/proc` is not mounted.
///
/// # References
///
/// - [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html),
///   [proc_pid_fdinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html)
#[inline]
pub fn pid(pidfd: impl AsFd) -> Result<Pid, Errno> {
    pid_of(pidfd.as_fd())
}

fn pid_of(pidfd: BorrowedFd<'_>) -> Result<Pid, Errno> {
    let mut path = *b"/proc/thread-self/fdinfo///////////\0";
    let at = path.len() - 1;
    // `Pid:`, and then the id.
    let id = number(&mut path, at, pidfd.as_raw_fd(), b'P', 1)?;
    // In a PID namespace that does not have it, it is 0.
    i32::try_from(id)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)
}

/// One process for all time since the machine was started: its id, and when it was started.
///
/// Two plain numbers, to be written into shared memory. They belong to a PID namespace and to a time
/// namespace: who reads them must be in the same two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The process id.
    pub pid: Pid,
    /// Clock ticks (1/100 s) from the start of the machine to the start of the process: field 22 of
    /// `/proc/PID/stat`. Two processes of one id in one tick would be mistaken, if all ids could be
    /// used in that time.
    pub start_time: u64,
}

/// The identity of a process that has not been waited for.
///
/// # Errors
///
/// Those of [`pid`]; `SRCH` also if it was waited for meanwhile. `ACCESS`, `NOENT`: `/proc` does
/// not show it (`hidepid`).
///
/// # References
///
/// - [proc_pid_stat(5)](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html)
#[inline]
pub fn identity(pidfd: impl AsFd) -> Result<Identity, Errno> {
    identity_of(pidfd.as_fd())
}

fn identity_of(pidfd: BorrowedFd<'_>) -> Result<Identity, Errno> {
    let pid = pid_of(pidfd)?;
    let mut path = *b"/proc////////////stat\0";
    let at = path.len() - b"/stat\0".len();
    // Field 22. Field 2 is a name in parentheses, which may contain any, but not so many words.
    let start_time = number(&mut path, at, pid.as_raw_nonzero().get(), b')', 22 - 2)?;
    // It still has its id, so that what was read in between is about it.
    pid_of(pidfd)?;
    Ok(Identity { pid, start_time })
}

/// Opens the process with this identity, if it has not been waited for.
///
/// # Errors
///
/// - `SRCH`: it is gone, whoever has its id now.
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system.
/// - and those of [`identity`].
#[inline]
pub fn open_identity(wanted: Identity) -> Result<OwnedFd, Errno> {
    let pidfd = open(wanted.pid, Flags::empty())?;
    if identity(&pidfd)? == wanted {
        Ok(pidfd)
    } else {
        Err(Errno::SRCH)
    }
}

/// A number in a file of `/proc`: so many words behind the one in which the last `mark` is. In the path, `name`
/// goes in place of slashes before `at`, which are one more than its digits can be.
fn number(path: &mut [u8], at: usize, name: i32, mark: u8, word: usize) -> Result<u64, Errno> {
    let mut name = name.unsigned_abs();
    for place in path.get_mut(..at).unwrap_or_default().iter_mut().rev() {
        *place = b'0' + (name % 10) as u8;
        name /= 10;
        if name == 0 {
            break;
        }
    }
    // SAFETY: The callers' paths end with the only null byte.
    let path = unsafe { CStr::from_bytes_with_nul_unchecked(path) };
    let file = io::open(path, OFlags::RDONLY, Mode::empty())?;
    let mut text = [0; 1024];
    // These files give all that fits at the first read.
    let len = rustix::io::read(&file, &mut text)?;
    let (mut words, mut number) = (usize::MAX, 0_u64);
    for byte in text.get(..len).unwrap_or_default() {
        if *byte == mark {
            words = word;
        } else if *byte <= b' ' {
            if words == 0 {
                return Ok(number);
            }
            words -= 1;
        } else if words == 0 {
            match byte {
                b'0'..=b'9' => {
                    number = number.wrapping_mul(10).wrapping_add((byte - b'0').into());
                }
                // The id of one that has ended is -1.
                b'-' => return Err(Errno::SRCH),
                _ => break,
            }
        }
    }
    Err(Errno::INVAL)
}
