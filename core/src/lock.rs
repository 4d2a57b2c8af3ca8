//! File locks: advice that processes give each other about a file, dropped by the kernel when its
//! owner dies.
//!
//! Mirrors flock(2), fcntl_locking(2) and, for leases, `F_SETLEASE` of fcntl(2). There are three
//! kinds of lock. On a local file system the first does not see the other two, and those two see
//! each other.
//!
//! | | covers | belongs to | goes when |
//! |---|---|---|---|
//! | [`flock`] | the whole file | the open file description | its last descriptor is closed |
//! | [`Owner::Description`] (OFD) | a range of bytes | the open file description | its last descriptor is closed |
//! | [`Owner::Process`] (POSIX) | a range of bytes | the process | the process closes *any* descriptor of the file |
//!
//! Take [`Owner::Description`] unless a partner that cannot be changed takes another.
//!
//! ```
//! use linipc_core::Errno;
//! use linipc_core::lock::{self, Kind, Owner, Range};
//! use linipc_core::memfd;
//!
//! let file = memfd::create(c"example", memfd::Flags::empty())?;
//! lock::acquire(&file, Owner::Description, Range::new(0, 100), Kind::Exclusive)?;
//!
//! // To POSIX locks an OFD lock is always somebody else's, in this process too.
//! let refused = lock::try_acquire(&file, Owner::Process, Range::ALL, Kind::Shared);
//! assert_eq!(refused, Err(Errno::AGAIN));
//! let holder = lock::holder(&file, Owner::Process, Range::ALL, Kind::Shared)?;
//! assert_eq!(holder.map(|holder| holder.range), Some(Range::new(0, 100)));
//!
//! lock::release(&file, Owner::Description, Range::ALL)?;
//! # Ok::<(), Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - The locks are advice: who does not ask for them reads and writes regardless.
//! - Duplicates of a descriptor, from dup(2), fork(2) or a Unix socket, are one open file
//!   description. They do not exclude each other with [`flock`] or [`Owner::Description`], a lock
//!   lives until the last of them is closed, and unlocking one unlocks all. To be a rival, open
//!   the file anew; `/proc/self/fd/N` opens one that has no name.
//! - [`Owner::Process`] does not exclude threads, is not inherited over fork(2), and is lost when
//!   a library that also reads the file closes its own descriptor of it.
//! - [`flock`] does not convert between shared and exclusive in one step: it unlocks, then locks.
//!   Another may come between, and a try that fails has lost the old lock. The other two convert
//!   in one step, and a try that fails keeps the old lock.
//! - Two who hold a shared lock and both wait for the exclusive one wait for ever. Only
//!   [`Owner::Process`] is told, with `DEADLK`.
//! - On NFS and SMB [`flock`] is made of a range lock of the whole file, so it sees those too.
//! - A lock file that is removed while it is locked is another file for the next to come. Keep it,
//!   or compare the inode after locking.

use core::ffi::{c_int, c_short};

use linux_raw_sys::general as abi;
use rustix::fd::AsFd;
use rustix::io::Errno;
use static_assertions::const_assert_eq;

#[cfg(target_pointer_width = "64")]
use abi::{F_GETLK, F_SETLK, F_SETLKW};
#[cfg(target_pointer_width = "32")]
use abi::{F_GETLK64 as F_GETLK, F_SETLK64 as F_SETLK, F_SETLKW64 as F_SETLKW};

use crate::sys::call;

pub use rustix::fs::{FlockOperation, flock};
pub use rustix::process::{Pid, Signal};

/// Who may hold a lock together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `F_RDLCK`: any number of owners, as long as none has an exclusive one.
    Shared,
    /// `F_WRLCK`: one owner.
    Exclusive,
}

impl Kind {
    #[inline]
    const fn to_abi(self) -> c_int {
        match self {
            Self::Shared => abi::F_RDLCK as c_int,
            Self::Exclusive => abi::F_WRLCK as c_int,
        }
    }

    /// `None` for `F_UNLCK`.
    #[inline]
    const fn from_abi(kind: c_int) -> Option<Self> {
        const SHARED: c_int = Kind::Shared.to_abi();
        const EXCLUSIVE: c_int = Kind::Exclusive.to_abi();
        match kind {
            SHARED => Some(Self::Shared),
            EXCLUSIVE => Some(Self::Exclusive),
            _ => None,
        }
    }
}

/// Whom a record lock belongs to. Locks of one owner do not exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// An OFD lock: the open file description, with all its duplicated and inherited descriptors.
    #[doc(alias = "OFD")]
    Description,
    /// A POSIX lock: the process. **Closing any descriptor of the file drops it**, also one that
    /// a library opened and closed without your knowing.
    #[doc(alias = "POSIX")]
    Process,
}

/// `l_whence`: what the start of a [`Range`] is counted from, at the time of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// `SEEK_SET`: the start of the file.
    Start,
    /// `SEEK_CUR`: the position of the open file description.
    Current,
    /// `SEEK_END`: the end of the file.
    End,
}

/// A range of bytes, which need not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// What `start` is counted from.
    pub origin: Origin,
    /// `l_start`: the first byte. May be negative, but not lead before the start of the file.
    pub start: i64,
    /// `l_len`: how many bytes. 0 is to the end of the file, however much it grows. A negative
    /// length is that many bytes before `start`.
    pub len: i64,
}

impl Range {
    /// The whole file, however much it grows.
    pub const ALL: Self = Self::new(0, 0);

    /// `len` bytes from byte `start` of the file; 0 is to its end, however much it grows.
    #[inline]
    pub const fn new(start: i64, len: i64) -> Self {
        Self {
            origin: Origin::Start,
            start,
            len,
        }
    }

    /// The same bytes now, from [`Origin::Start`]: what to remember so as to unlock them later, when
    /// the position or the end of the file has moved.
    ///
    /// # Errors
    ///
    /// - `SPIPE`: [`Origin::Current`], and the file has no position.
    /// - `OVERFLOW`: the start is beyond the largest offset.
    #[inline]
    pub fn resolve(self, fd: impl AsFd) -> Result<Self, Errno> {
        let origin = match self.origin {
            Origin::Start => 0,
            Origin::Current => rustix::fs::tell(fd)?,
            Origin::End => rustix::fs::fstat(fd)?.st_size as u64,
        };
        let start = origin
            .try_into()
            .ok()
            .and_then(|origin: i64| origin.checked_add(self.start))
            .ok_or(Errno::OVERFLOW)?;
        Ok(Self::new(start, self.len))
    }

    /// `struct flock64`; its `l_pid` must be 0 for OFD locks.
    #[inline]
    const fn to_abi(self, kind: c_int) -> abi::flock64 {
        let whence = match self.origin {
            Origin::Start => abi::SEEK_SET,
            Origin::Current => abi::SEEK_CUR,
            Origin::End => abi::SEEK_END,
        };
        abi::flock64 {
            l_type: kind as c_short,
            l_whence: whence as c_short,
            l_start: self.start,
            l_len: self.len,
            l_pid: 0,
        }
    }
}

// The 64-bit calls take `struct flock`, which is `struct flock64` there.
#[cfg(target_pointer_width = "64")]
const_assert_eq!(size_of::<abi::flock>(), size_of::<abi::flock64>());
#[cfg(not(target_arch = "x86"))]
const_assert_eq!(size_of::<abi::flock64>(), 32);
#[cfg(target_arch = "x86")]
const_assert_eq!(size_of::<abi::flock64>(), 24);

/// `int fcntl(int fd, F_OFD_SETLKW or F_SETLKW, struct flock *lock)`: locks a range; waits until
/// no other owner's lock is in the way.
///
/// What the owner has in the range already is converted, in one step.
///
/// # Errors
///
/// - `BADF`: not open for reading ([`Kind::Shared`]) or for writing ([`Kind::Exclusive`]).
/// - `INTR`: a signal was caught while the call waited; nothing was locked.
/// - `DEADLK`: [`Owner::Process`], and waiting would never end.
/// - `INVAL`: the range leads before the start of the file, or the file has no locks.
/// - `OVERFLOW`: the range leads beyond the largest offset.
/// - `NOLCK`: too many locks, or the file server has none.
///
/// # References
///
/// - [fcntl_locking(2)](https://man7.org/linux/man-pages/man2/fcntl_locking.2.html)
#[inline]
#[doc(alias = "F_SETLKW")]
#[doc(alias = "F_OFD_SETLKW")]
pub fn acquire(fd: impl AsFd, owner: Owner, range: Range, kind: Kind) -> Result<(), Errno> {
    let cmd = match owner {
        Owner::Description => abi::F_OFD_SETLKW,
        Owner::Process => F_SETLKW,
    };
    set(fd, cmd, range, kind.to_abi())
}

/// `int fcntl(int fd, F_OFD_SETLK or F_SETLK, struct flock *lock)`: locks a range if no other
/// owner's lock is in the way now.
///
/// What the owner has in the range already is converted, in one step, or kept on failure.
///
/// # Errors
///
/// `AGAIN`: another owner's lock is in the way. Else those of [`acquire`] but `INTR` and `DEADLK`.
///
/// # References
///
/// - [fcntl_locking(2)](https://man7.org/linux/man-pages/man2/fcntl_locking.2.html)
#[inline]
#[doc(alias = "F_SETLK")]
#[doc(alias = "F_OFD_SETLK")]
pub fn try_acquire(fd: impl AsFd, owner: Owner, range: Range, kind: Kind) -> Result<(), Errno> {
    set(fd, set_now(owner), range, kind.to_abi())
}

/// `int fcntl(int fd, F_OFD_SETLK or F_SETLK, struct flock *lock)` with `F_UNLCK`: unlocks what
/// the owner has locked in a range.
///
/// The range may be a part of what was locked, or more. For [`Owner::Description`] this unlocks
/// for all duplicates of `fd`.
///
/// # Errors
///
/// `INVAL`, `OVERFLOW`: as for [`acquire`]. `NOLCK`: two locks were to be made out of one, and
/// there is no room.
///
/// # References
///
/// - [fcntl_locking(2)](https://man7.org/linux/man-pages/man2/fcntl_locking.2.html)
#[inline]
#[doc(alias = "F_UNLCK")]
pub fn release(fd: impl AsFd, owner: Owner, range: Range) -> Result<(), Errno> {
    set(fd, set_now(owner), range, UNLOCKED)
}

/// A lock that is in the way of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// What sort of lock it is.
    pub owner: Owner,
    /// The process. `None` for [`Owner::Description`], which may have many, and for a process
    /// that has no id in this PID namespace.
    pub pid: Option<Pid>,
    /// What it covers, from [`Origin::Start`].
    pub range: Range,
    /// Whether it is shared.
    pub kind: Kind,
}

/// `int fcntl(int fd, F_OFD_GETLK or F_GETLK, struct flock *lock)`: one of the locks that would be
/// in the way of this one; `None` if it could be had now.
///
/// Locks of `owner` itself are never in the way. The answer may be old when it arrives.
///
/// # Errors
///
/// `INVAL`, `OVERFLOW`: as for [`acquire`].
///
/// # References
///
/// - [fcntl_locking(2)](https://man7.org/linux/man-pages/man2/fcntl_locking.2.html)
#[inline]
#[doc(alias = "F_GETLK")]
#[doc(alias = "F_OFD_GETLK")]
pub fn holder(
    fd: impl AsFd,
    owner: Owner,
    range: Range,
    kind: Kind,
) -> Result<Option<Holder>, Errno> {
    let cmd = match owner {
        Owner::Description => abi::F_OFD_GETLK,
        Owner::Process => F_GETLK,
    };
    find(fd, cmd, range, kind.to_abi())
}

/// `int fcntl(int fd, F_OFD_GETLK, struct flock *lock)` with `F_UNLCK`: one of the locks that the
/// description itself has in this range, by [`Owner::Description`]; `None` if it has none there.
///
/// # Errors
///
/// - `INVAL`, `OVERFLOW`: as for [`acquire`]. `INVAL` also from kernels before Linux 6.6.
///
/// # References
///
/// - [fcntl_locking(2)](https://man7.org/linux/man-pages/man2/fcntl_locking.2.html)
#[inline]
pub fn held(fd: impl AsFd, range: Range) -> Result<Option<Holder>, Errno> {
    find(fd, abi::F_OFD_GETLK, range, UNLOCKED)
}

#[inline]
fn find(fd: impl AsFd, cmd: u32, range: Range, kind: c_int) -> Result<Option<Holder>, Errno> {
    let mut lock = range.to_abi(kind);
    // SAFETY: The call reads and writes one `flock64`, or `flock`, which is the same.
    unsafe { call!(__NR_fcntl, fd.as_fd(), cmd, &raw mut lock) }?;
    Ok(Kind::from_abi(lock.l_type.into()).map(|kind| Holder {
        owner: match lock.l_pid {
            -1 => Owner::Description,
            _ => Owner::Process,
        },
        pid: Some(lock.l_pid)
            .filter(|pid| *pid > 0)
            .and_then(Pid::from_raw),
        range: Range::new(lock.l_start, lock.l_len),
        kind,
    }))
}

const UNLOCKED: c_int = abi::F_UNLCK as c_int;

#[inline]
const fn set_now(owner: Owner) -> u32 {
    match owner {
        Owner::Description => abi::F_OFD_SETLK,
        Owner::Process => F_SETLK,
    }
}

#[inline]
fn set(fd: impl AsFd, cmd: u32, range: Range, kind: c_int) -> Result<(), Errno> {
    let lock = range.to_abi(kind);
    // SAFETY: The call reads one `flock64`, or `flock`, which is the same.
    unsafe { call!(__NR_fcntl, fd.as_fd(), cmd, &raw const lock) }?;
    Ok(())
}

/// `int fcntl(int fd, F_SETLEASE, int kind)`: takes, changes or gives up a lease.
///
/// A lease tells its holder when another wants to open the file (to write, of a
/// [`Kind::Shared`] one; at all, of a [`Kind::Exclusive`] one) or truncate it. The other waits in
/// its open(2), unless that is non-blocking, and this process gets a signal: `SIGIO`, which kills
/// who does not handle it. Choose another with [`set_lease_signal`], block it, and read it from a
/// signalfd, which names the descriptor. Then make the file consistent and give the lease up, or
/// make it shared; who takes longer than `fs.lease-break-time` (45 s) loses it. It belongs to the
/// open file description, as [`flock`] does.
///
/// # Errors
///
/// - `AGAIN`: the file is open elsewhere (exclusive), or open for writing (shared).
/// - `ACCESS`: the file belongs to another user, and no `CAP_LEASE`.
/// - `INVAL`: not a regular file, its file system has no leases, or a shared lease of a
///   descriptor that can write.
///
/// # References
///
/// - [F_SETLEASE(2const)](https://man7.org/linux/man-pages/man2/F_SETLEASE.2const.html)
#[inline]
#[doc(alias = "F_SETLEASE")]
pub fn set_lease(fd: impl AsFd, lease: Option<Kind>) -> Result<(), Errno> {
    let kind = lease.map_or(UNLOCKED, Kind::to_abi);
    // SAFETY: The call takes no pointers.
    unsafe { call!(__NR_fcntl, fd.as_fd(), abi::F_SETLEASE, kind) }?;
    Ok(())
}

/// `int fcntl(int fd, F_GETLEASE)`: the lease that `fd` has.
///
/// While another waits for it to be broken: what it must become.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [F_SETLEASE(2const)](https://man7.org/linux/man-pages/man2/F_SETLEASE.2const.html)
#[inline]
#[doc(alias = "F_GETLEASE")]
pub fn lease(fd: impl AsFd) -> Result<Option<Kind>, Errno> {
    // SAFETY: The call takes no pointers.
    let kind = unsafe { call!(__NR_fcntl, fd.as_fd(), abi::F_GETLEASE, 0_usize) }?;
    Ok(Kind::from_abi(kind as c_int))
}

/// `int fcntl(int fd, F_SETSIG, int sig)`: the signal that says that the lease of `fd` is to be
/// broken; `None` for `SIGIO`, which does not name the descriptor.
///
/// # Errors
///
/// `INVAL`: no such signal.
///
/// # References
///
/// - [F_GETSIG(2const)](https://man7.org/linux/man-pages/man2/F_GETSIG.2const.html)
#[inline]
#[doc(alias = "F_SETSIG")]
pub fn set_lease_signal(fd: impl AsFd, signal: Option<Signal>) -> Result<(), Errno> {
    let signal = signal.map_or(0, Signal::as_raw);
    // SAFETY: The call takes no pointers.
    unsafe { call!(__NR_fcntl, fd.as_fd(), abi::F_SETSIG, signal) }?;
    Ok(())
}
