//! A lock that many readers have at once, or one writer alone, and that owns its data.
//!
//! Built on [`linipc_core::pshared::rwlock`], which says who waits for whom, and how the dead are found.
//!
//! ```
//! use linipc::pshared::rwlock::{LockError, RwLock};
//!
//! let lock = RwLock::create([0_u8; 16])?;
//! let elsewhere: RwLock<[u8; 16]> = RwLock::attach(&lock)?; // in another process
//!
//! let mut guard = match lock.write() {
//!     Ok(guard) => guard,
//!     // A writer was killed. The value is what it has last set.
//!     Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
//!     Err(LockError::Failed(error)) => return Err(error),
//! };
//! guard.set(*b"what others read")?;
//! let guard = guard.downgrade(); // nobody has written in between
//! assert_eq!(elsewhere.read()?.get()?, guard.get()?);
//! assert!(elsewhere.try_write().is_err());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Pitfalls
//!
//! - Reading a second time in the same thread may wait for ever, if a writer has come in between.
//! - `?` on the result gives the lock up for all, if a writer died: see [`LockError::OwnerDied`]. Also who
//!   wanted to read gets that.
//! - A guard that is forgotten keeps the lock for as long as its process lives.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use linipc_core::pshared::rwlock as core;
use linipc_core::shared::SharedBytes;
use linipc_core::shared::variable::Variable;

use super::owned::{At, Lock, Owned, Value, access, handle, lock};
use super::{io_error, process};
use crate::futex::Until;
use crate::posix::shm::{OpenOptions, SharedMemory};

pub use super::{AttachError, Error, LockError, Mismatch, Plain};

lock!(core::RwLock);

/// A readers-writer lock, and the value that it guards.
#[derive(Debug)]
#[doc(alias = "pthread_rwlock_t")]
pub struct RwLock<T>(Owned<At<core::RwLock, Value<T>>>);

handle!(RwLock<T>, (initial: T), ((), initial));

/// What locking gives.
pub type Locked<'a, G, T> = Result<G, LockError<Inconsistent<'a, T>>>;

impl<T: Plain> RwLock<T> {
    /// Locks for reading; waits until it can.
    ///
    /// # Errors
    ///
    /// - [`LockError::OwnerDied`]: it is locked, and for writing: a writer was killed.
    /// - `Other` with [`Error::NotRecoverable`]: that was so, and who had it then did not mark it
    ///   consistent.
    /// - `InvalidData` with [`AttachError::NotFound`]: somebody has spoiled it.
    #[inline]
    #[doc(alias = "pthread_rwlock_rdlock")]
    pub fn read(&self) -> Locked<'_, ReadGuard<'_, T>, T> {
        let guard = self.0.words()?.read(process()?);
        self.reader(guard)
    }

    /// Locks for reading, if no writer has it or wants it.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): one does, or as many read as can; and those of [`RwLock::read`].
    #[inline]
    #[doc(alias = "pthread_rwlock_tryrdlock")]
    pub fn try_read(&self) -> Locked<'_, ReadGuard<'_, T>, T> {
        let guard = self.0.words()?.try_read(process()?);
        self.reader(guard)
    }

    /// Locks for reading; waits until it can, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`RwLock::read`].
    #[inline]
    #[doc(alias = "pthread_rwlock_clockrdlock")]
    pub fn read_deadline(&self, deadline: impl Into<Until>) -> Locked<'_, ReadGuard<'_, T>, T> {
        match deadline.into().get() {
            Some(deadline) => {
                let guard = self.0.words()?.read_deadline(process()?, deadline);
                self.reader(guard)
            }
            None => self.read(),
        }
    }

    /// Locks for writing; waits until it can.
    ///
    /// # Errors
    ///
    /// Those of [`RwLock::read`].
    #[inline]
    #[doc(alias = "pthread_rwlock_wrlock")]
    pub fn write(&self) -> Locked<'_, WriteGuard<'_, T>, T> {
        let guard = self.0.words()?.write(process()?);
        self.writer(guard)
    }

    /// Locks for writing, if nobody has it.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): somebody has it or wants to write; and those of [`RwLock::read`].
    #[inline]
    #[doc(alias = "pthread_rwlock_trywrlock")]
    pub fn try_write(&self) -> Locked<'_, WriteGuard<'_, T>, T> {
        let guard = self.0.words()?.try_write(process()?);
        self.writer(guard)
    }

    /// Locks for writing; waits until it can, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`RwLock::read`].
    #[inline]
    #[doc(alias = "pthread_rwlock_clockwrlock")]
    pub fn write_deadline(&self, deadline: impl Into<Until>) -> Locked<'_, WriteGuard<'_, T>, T> {
        match deadline.into().get() {
            Some(deadline) => {
                let guard = self.0.words()?.write_deadline(process()?, deadline);
                self.writer(guard)
            }
            None => self.write(),
        }
    }

    #[inline]
    fn reader<'a>(
        &'a self,
        guard: Result<core::ReadGuard<'a>, core::LockError<'a>>,
    ) -> Locked<'a, ReadGuard<'a, T>, T> {
        let guard = self.locked(guard)?;
        let value = self.value()?;
        Ok(ReadGuard { value, guard })
    }

    #[inline]
    fn writer<'a>(
        &'a self,
        guard: Result<core::WriteGuard<'a>, core::LockError<'a>>,
    ) -> Locked<'a, WriteGuard<'a, T>, T> {
        let guard = self.locked(guard)?;
        let value = self.value()?;
        Ok(WriteGuard { value, guard })
    }

    #[inline]
    fn locked<'a, G>(&'a self, guard: Result<G, core::LockError<'a>>) -> Locked<'a, G, T> {
        guard.map_err(|error| match error {
            core::LockError::OwnerDied(guard) => match self.value() {
                Ok(value) => LockError::OwnerDied(Inconsistent { value, guard }),
                Err(error) => error.into(),
            },
            core::LockError::Failed(error) => io_error(error).into(),
        })
    }

    #[inline]
    fn value(&self) -> io::Result<Variable<'_, T>> {
        Ok(self.0.place.value()?)
    }
}

/// The lock is had for reading, as long as this is there.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct ReadGuard<'a, T> {
    value: Variable<'a, T>,
    guard: core::ReadGuard<'a>,
}

impl<'a, T: Plain> ReadGuard<'a, T> {
    access!(read);

    /// Becomes the writer; waits until nobody else reads. Nobody writes in between.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): another one wants to write, and waits for this reader: give the lock
    /// back. With the error comes the guard.
    pub fn upgrade(self) -> Result<WriteGuard<'a, T>, UpgradeError<'a, T>> {
        self.become_writer(core::ReadGuard::upgrade)
    }

    /// Becomes the writer, if nobody else reads.
    ///
    /// # Errors
    ///
    /// Those of [`ReadGuard::upgrade`], also if others read.
    pub fn try_upgrade(self) -> Result<WriteGuard<'a, T>, UpgradeError<'a, T>> {
        self.become_writer(core::ReadGuard::try_upgrade)
    }

    /// Becomes the writer; waits until nobody else reads, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`ReadGuard::upgrade`].
    pub fn upgrade_deadline(
        self,
        deadline: impl Into<Until>,
    ) -> Result<WriteGuard<'a, T>, UpgradeError<'a, T>> {
        match deadline.into().get() {
            Some(deadline) => self.become_writer(|guard| guard.upgrade_deadline(deadline)),
            None => self.upgrade(),
        }
    }

    fn become_writer(
        self,
        upgrade: impl FnOnce(
            core::ReadGuard<'a>,
        ) -> Result<core::WriteGuard<'a>, core::UpgradeError<'a>>,
    ) -> Result<WriteGuard<'a, T>, UpgradeError<'a, T>> {
        let value = self.value;
        match upgrade(self.guard) {
            Ok(guard) => Ok(WriteGuard { value, guard }),
            Err(core::UpgradeError { guard, error }) => Err(UpgradeError {
                guard: ReadGuard { value, guard },
                error: io_error(error),
            }),
        }
    }
}

/// Why a reader did not become the writer.
#[derive(Debug)]
pub struct UpgradeError<'a, T> {
    /// It still reads.
    pub guard: ReadGuard<'a, T>,
    /// Why.
    pub error: io::Error,
}

impl<T> fmt::Display for UpgradeError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> std::error::Error for UpgradeError<'_, T> {}

impl<T> From<UpgradeError<'_, T>> for io::Error {
    /// The lock is given back.
    fn from(error: UpgradeError<'_, T>) -> Self {
        error.error
    }
}

/// The lock is had for writing, as long as this is there.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct WriteGuard<'a, T> {
    value: Variable<'a, T>,
    guard: core::WriteGuard<'a>,
}

impl<'a, T: Plain> WriteGuard<'a, T> {
    access!(write);

    /// Becomes a reader, at once. Nobody writes in between.
    pub fn downgrade(self) -> ReadGuard<'a, T> {
        ReadGuard {
            value: self.value,
            guard: self.guard.downgrade(),
        }
    }
}

/// The lock is had alone, and the last writer died. If it is given back like that, nobody can have it any
/// more: whoever waits, and all who come, get [`Error::NotRecoverable`].
#[derive(Debug)]
#[must_use = "the lock is lost when this is dropped"]
pub struct Inconsistent<'a, T> {
    value: Variable<'a, T>,
    guard: core::Inconsistent<'a>,
}

impl<'a, T: Plain> Inconsistent<'a, T> {
    access!(write);

    /// Says that the value is consistent, after it was repaired if need be. Who wanted to read can
    /// [downgrade](WriteGuard::downgrade) then.
    pub fn mark_consistent(self) -> WriteGuard<'a, T> {
        WriteGuard {
            value: self.value,
            guard: self.guard.mark_consistent(),
        }
    }
}
