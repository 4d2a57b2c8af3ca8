//! A lock for what takes nanoseconds, which owns its data.
//!
//! Built on [`linipc_core::pshared::spin`]: who finds it taken looks again some times, and then sleeps. It is
//! not robust: when its owner is killed, nobody can have it any more.
//!
//! ```
//! use linipc::pshared::spin::SpinLock;
//!
//! let lock = SpinLock::create([0_u32; 2])?;
//! let elsewhere: SpinLock<[u32; 2]> = SpinLock::attach(&lock)?; // in another process
//! elsewhere.lock()?.update(|both| both[1] += 1)?;
//! assert_eq!(lock.lock()?.get()?, [0, 1]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Pitfalls
//!
//! - Who locks it a second time in the same thread waits for ever.
//! - A guard that is forgotten keeps it for as long as its process lives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use linipc_core::pshared::spin as core;
use linipc_core::shared::SharedBytes;
use linipc_core::shared::variable::Variable;

use super::owned::{At, Lock, Owned, Value, access, handle, lock};
use super::{io_error, process};
use crate::futex::Until;
use crate::posix::shm::{OpenOptions, SharedMemory};

pub use super::{AttachError, Error, Mismatch, Plain};

lock!(core::SpinLock);

/// A spin lock, and the value that it guards.
#[derive(Debug)]
#[doc(alias = "pthread_spinlock_t")]
pub struct SpinLock<T>(Owned<At<core::SpinLock, Value<T>>>);

handle!(SpinLock<T>, (initial: T), ((), initial));

impl<T: Plain> SpinLock<T> {
    /// Locks; waits until it can.
    ///
    /// # Errors
    ///
    /// - `ConnectionReset` with [`Error::PeerDead`]: its owner was killed.
    /// - `InvalidData` with [`AttachError::NotFound`]: somebody has spoiled it.
    #[inline]
    pub fn lock(&self) -> io::Result<Guard<'_, T>> {
        let guard = self.0.words()?.lock(process()?);
        self.guard(guard)
    }

    /// Locks, if nobody has it.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): somebody has it; and those of [`SpinLock::lock`].
    #[inline]
    pub fn try_lock(&self) -> io::Result<Guard<'_, T>> {
        let guard = self.0.words()?.try_lock(process()?);
        self.guard(guard)
    }

    /// Locks; waits until it can, but not beyond the deadline. A lock that is free is locked even if that
    /// has passed.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`SpinLock::lock`].
    #[inline]
    pub fn lock_deadline(&self, deadline: impl Into<Until>) -> io::Result<Guard<'_, T>> {
        match deadline.into().get() {
            Some(deadline) => {
                let guard = self.0.words()?.lock_deadline(process()?, deadline);
                self.guard(guard)
            }
            None => self.lock(),
        }
    }

    #[inline]
    fn guard<'a>(&'a self, guard: Result<core::Guard<'a>, Error>) -> io::Result<Guard<'a, T>> {
        Ok(Guard {
            _guard: guard.map_err(io_error)?,
            value: self.0.place.value()?,
        })
    }
}

/// The lock is taken, as long as this is there.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct Guard<'a, T> {
    value: Variable<'a, T>,
    _guard: core::Guard<'a>,
}

impl<T: Plain> Guard<'_, T> {
    access!(write);
}
