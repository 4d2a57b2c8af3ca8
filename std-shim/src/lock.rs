//! File locks: guards that own the file, and give it back.
//!
//! Built on [`linipc_core::lock`], which has the pitfalls. For the whole of a [`std::fs::File`],
//! std has [`File::lock`](std::fs::File::lock) and its kin, which are flock(2); [`Guard`] adds
//! ranges of bytes, deadlines and unlocking on drop. A [`Lease`] tells when others come.
//!
//! ```
//! use std::io::Write;
//! use std::time::Duration;
//! use linipc::lock::{Guard, Kind, Lock, Range};
//!
//! # let path = std::env::temp_dir().join(format!("linipc-lock-{}", std::process::id()));
//! let open = || std::fs::File::options().create(true).read(true).write(true).truncate(false).open(&path);
//!
//! // The whole file, with flock(2).
//! let mut guard = Guard::lock(open()?, Lock::File, Kind::Exclusive)?;
//! guard.write_all(b"nobody else is writing")?;
//! assert!(open()?.try_lock_shared().is_err());
//! let file = guard.unlock()?;
//!
//! // Some bytes of it, with an OFD lock. A lock that fails gives the file back.
//! let guard = Guard::try_lock(file, Range::new(0, 10), Kind::Shared)?;
//! let soon = Duration::from_millis(1);
//! let failed = Guard::lock_deadline(open()?, Range::ALL, Kind::Exclusive, soon).unwrap_err();
//! assert_eq!(failed.error.kind(), std::io::ErrorKind::TimedOut);
//! let other = Guard::try_lock(failed.file, Range::new(10, 0), Kind::Exclusive)?;
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Pitfalls
//!
//! - A child process after fork(2) has the guard or lease too, and dropping it there ends it for
//!   both. End such a child with `_exit` or exec, or let it [`Guard::persist`].
//! - A guard of `&File` leaves the file usable for a second guard, which the first one does not
//!   exclude, and whose drop unlocks what both have.

use std::error::Error;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::lock as core;

pub use linipc_core::lock::{
    Holder, Kind, Origin, Owner, Pid, Range, Signal, holder, lease, set_lease, set_lease_signal,
};

use crate::Deadline;

/// What to lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lock {
    /// The whole file with flock(2), as [`std::fs::File::lock`] and the program `flock` do.
    File,
    /// A range of bytes. [`Owner::Description`] is an OFD lock, and so is a bare [`Range`].
    ///
    /// **Beware of [`Owner::Process`]**: it does not exclude the threads of this process, and is
    /// lost without a word when the process closes *any* descriptor of the file, a library's too.
    /// It is here for partners that know nothing else, such as Python's `fcntl.lockf`; they see
    /// OFD locks as well.
    Record(Owner, Range),
}

impl From<Range> for Lock {
    fn from(range: Range) -> Self {
        Self::Record(Owner::Description, range)
    }
}

/// The error of a lock that could not be had, with the file, which this owner has not locked.
pub struct Failed<F> {
    /// The file.
    pub file: F,
    /// Why.
    pub error: io::Error,
}

impl<F> fmt::Debug for Failed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<F> fmt::Display for Failed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<F> Error for Failed<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl<F> From<Failed<F>> for io::Error {
    fn from(failed: Failed<F>) -> Self {
        failed.error
    }
}

/// A locked file: unlocked when dropped.
#[derive(Debug)]
#[must_use = "dropping the guard unlocks the file"]
pub struct Guard<F: AsFd> {
    file: F,
    lock: Lock,
}

impl<F: AsFd> Guard<F> {
    /// Locks the file; waits until it can.
    ///
    /// # Errors
    ///
    /// - `BADF`: a record lock of a file that is not open for reading (shared) or writing
    ///   (exclusive).
    /// - `DEADLK`: [`Owner::Process`], and waiting would never end.
    /// - `INVAL`, `OVERFLOW`: a range that leads out of all files. `NOLCK`: too many locks.
    #[inline]
    pub fn lock(file: F, lock: impl Into<Lock>, kind: Kind) -> Result<Self, Failed<F>> {
        Self::with(file, lock.into(), kind, Some(Deadline::NEVER))
    }

    /// Locks the file if that can be done now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if it cannot, and those of [`Guard::lock`].
    #[inline]
    pub fn try_lock(file: F, lock: impl Into<Lock>, kind: Kind) -> Result<Self, Failed<F>> {
        Self::with(file, lock.into(), kind, None)
    }

    /// Locks the file; waits until it can, but not beyond the deadline.
    ///
    /// The kernel has no such call, so this one tries with pauses of up to 2 ms.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Guard::lock`].
    pub fn lock_deadline(
        file: F,
        lock: impl Into<Lock>,
        kind: Kind,
        deadline: impl Into<Deadline>,
    ) -> Result<Self, Failed<F>> {
        Self::with(file, lock.into(), kind, Some(deadline.into()))
    }

    /// A guard of what is locked already: by [`std::fs::File::lock`], say, or by the process that
    /// this descriptor comes from. Nothing is checked; a [`Range`] must be from [`Origin::Start`].
    pub fn assume_locked(file: F, lock: impl Into<Lock>) -> Self {
        let lock = lock.into();
        Self { file, lock }
    }

    /// Makes a shared lock exclusive or the other way round; waits until that can be done.
    ///
    /// A record lock changes in one step. [`Lock::File`] does not: it is unlocked first, and
    /// another may lock and change the file before this call returns. In both cases two who do
    /// this at once from shared to exclusive may wait for ever, hence the other two forms.
    ///
    /// # Errors
    ///
    /// Those of [`Guard::lock`]. The file comes back unlocked.
    pub fn convert(self, kind: Kind) -> Result<Self, Failed<F>> {
        self.convert_with(kind, Some(Deadline::NEVER))
    }

    /// As [`Guard::convert`], if it can be done now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if it cannot, and those of [`Guard::lock`]. The file comes back
    /// unlocked.
    pub fn try_convert(self, kind: Kind) -> Result<Self, Failed<F>> {
        self.convert_with(kind, None)
    }

    /// As [`Guard::convert`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Guard::lock`]. The file comes back unlocked.
    pub fn convert_deadline(
        self,
        kind: Kind,
        deadline: impl Into<Deadline>,
    ) -> Result<Self, Failed<F>> {
        self.convert_with(kind, Some(deadline.into()))
    }

    /// Unlocks the file and gives it back.
    ///
    /// # Errors
    ///
    /// None on a local file system.
    #[inline]
    pub fn unlock(self) -> Result<F, Failed<F>> {
        let released = self.release();
        let file = self.persist();
        match released {
            Ok(()) => Ok(file),
            Err(error) => Err(Failed {
                file,
                error: error.into(),
            }),
        }
    }

    /// Gives the file back locked, which it stays until it is closed.
    pub fn persist(self) -> F {
        let guard = ManuallyDrop::new(self);
        // SAFETY: `guard` is neither dropped nor used again, so the file is moved out of it.
        unsafe { ptr::read(&raw const guard.file) }
    }

    pub(crate) fn with(
        file: F,
        lock: Lock,
        kind: Kind,
        wait: Option<Deadline>,
    ) -> Result<Self, Failed<F>> {
        match resolve(&file, lock).and_then(|lock| acquire(&file, lock, kind, wait).and(Ok(lock))) {
            Ok(lock) => Ok(Self::assume_locked(file, lock)),
            Err(error) => Err(Failed { file, error }),
        }
    }

    fn convert_with(self, kind: Kind, wait: Option<Deadline>) -> Result<Self, Failed<F>> {
        match acquire(&self.file, self.lock, kind, wait) {
            Ok(()) => Ok(self),
            Err(error) => Err(Failed {
                file: self.unlock().unwrap_or_else(|failed| failed.file),
                error,
            }),
        }
    }

    #[inline]
    fn release(&self) -> Result<(), Errno> {
        match self.lock {
            Lock::File => core::flock(&self.file, core::FlockOperation::Unlock),
            Lock::Record(owner, range) => core::release(&self.file, owner, range),
        }
    }
}

impl<F: AsFd> Drop for Guard<F> {
    #[inline]
    fn drop(&mut self) {
        // If it fails, closing the file unlocks it.
        let _ = self.release();
    }
}

impl<F: AsFd> Deref for Guard<F> {
    type Target = F;

    #[inline]
    fn deref(&self) -> &F {
        &self.file
    }
}

impl<F: AsFd> DerefMut for Guard<F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut F {
        &mut self.file
    }
}

impl<F: AsFd> AsFd for Guard<F> {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A file with a lease, which is given up when dropped: until then its owner is told when another
/// wants to open the file (only to write, of a [`Kind::Shared`] one), and the other waits.
///
/// ```
/// use linipc::lock::{Kind, Lease, Signal};
///
/// # let path = std::env::temp_dir().join(format!("linipc-lease-{}", std::process::id()));
/// # std::fs::write(&path, "")?;
/// // Blocked, and read from an `event::signalfd`, whose `Info` names the descriptor.
/// let lease = Lease::take(std::fs::File::open(&path)?, Kind::Exclusive, Signal::USR1)?;
/// assert_eq!(lease.kind()?, Some(Kind::Exclusive));
/// let file = lease.give_up()?;
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping the lease gives it up"]
pub struct Lease<F: AsFd> {
    file: F,
}

impl<F: AsFd> Lease<F> {
    /// Takes a lease. `signal` says that it is to be given up, or made shared: make the file
    /// consistent then, and do so within `fs.lease-break-time` (45 s), or the kernel does. Block or
    /// handle the signal first: most kill the process.
    ///
    /// # Errors
    ///
    /// - `AGAIN` (`WouldBlock`): the file is open elsewhere (exclusive), or for writing (shared).
    /// - `ACCESS`: it belongs to another user, and no `CAP_LEASE`.
    /// - `INVAL`: not a regular file, its file system has no leases, or no such signal.
    pub fn take(file: F, kind: Kind, signal: Signal) -> Result<Self, Failed<F>> {
        match core::set_lease_signal(&file, Some(signal))
            .and_then(|()| core::set_lease(&file, Some(kind)))
        {
            Ok(()) => Ok(Self { file }),
            Err(error) => Err(Failed {
                file,
                error: error.into(),
            }),
        }
    }

    /// What it is; while another waits, what it must become, which `None` says is to give it up.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn kind(&self) -> io::Result<Option<Kind>> {
        Ok(core::lease(&self.file)?)
    }

    /// Makes it shared, for those who wait to read, or exclusive.
    ///
    /// # Errors
    ///
    /// Those of [`Lease::take`]. `INVAL` also: shared, and the file is open for writing.
    pub fn change(&self, kind: Kind) -> io::Result<()> {
        Ok(core::set_lease(&self.file, Some(kind))?)
    }

    /// Gives the lease up, and the file back.
    ///
    /// # Errors
    ///
    /// `AGAIN`: the kernel took it away before.
    pub fn give_up(self) -> Result<F, Failed<F>> {
        match core::set_lease(&self.file, None) {
            Ok(()) => Ok(self.persist()),
            Err(error) => Err(Failed {
                file: self.persist(),
                error: error.into(),
            }),
        }
    }

    /// Gives the file back with the lease, which it has until it is closed.
    pub fn persist(self) -> F {
        let lease = ManuallyDrop::new(self);
        // SAFETY: `lease` is neither dropped nor used again, so the file is moved out of it.
        unsafe { ptr::read(&raw const lease.file) }
    }
}

impl<F: AsFd> Drop for Lease<F> {
    #[inline]
    fn drop(&mut self) {
        // It may be gone already, which is what was wanted.
        let _ = core::set_lease(&self.file, None);
    }
}

impl<F: AsFd> Deref for Lease<F> {
    type Target = F;

    #[inline]
    fn deref(&self) -> &F {
        &self.file
    }
}

impl<F: AsFd> DerefMut for Lease<F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut F {
        &mut self.file
    }
}

impl<F: AsFd> AsFd for Lease<F> {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The same lock, whose range is from the start of the file.
fn resolve(file: impl AsFd, lock: Lock) -> io::Result<Lock> {
    Ok(match lock {
        Lock::File => lock,
        Lock::Record(owner, range) => Lock::Record(owner, range.resolve(file)?),
    })
}

/// Locks, or converts what is locked; waits until the deadline, if there is one.
fn acquire(file: impl AsFd, lock: Lock, kind: Kind, wait: Option<Deadline>) -> io::Result<()> {
    use core::FlockOperation::{
        LockExclusive, LockShared, NonBlockingLockExclusive, NonBlockingLockShared,
    };
    let blocking = || match (lock, kind) {
        (Lock::File, Kind::Shared) => core::flock(&file, LockShared),
        (Lock::File, Kind::Exclusive) => core::flock(&file, LockExclusive),
        (Lock::Record(owner, range), kind) => core::acquire(&file, owner, range, kind),
    };
    let now = || match (lock, kind) {
        (Lock::File, Kind::Shared) => core::flock(&file, NonBlockingLockShared),
        (Lock::File, Kind::Exclusive) => core::flock(&file, NonBlockingLockExclusive),
        (Lock::Record(owner, range), kind) => core::try_acquire(&file, owner, range, kind),
    };
    match wait {
        None => Ok(retry_on_intr(now)?),
        Some(Deadline::NEVER) => Ok(retry_on_intr(blocking)?),
        Some(deadline) => deadline.poll(Errno::AGAIN, now),
    }
}
