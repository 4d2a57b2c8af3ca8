//! A condition variable: waits until what a [`mutex`](super::mutex) guards has changed.
//!
//! Built on [`linipc_core::pshared::condvar`], which says how the dead are found.
//!
//! ```
//! use linipc::pshared::condvar::Condvar;
//! use linipc::pshared::mutex::Mutex;
//!
//! let items = Mutex::create(0_u32)?;
//! let changed = Condvar::create()?;
//! # std::thread::scope(|scope| {
//! # scope.spawn(|| {
//! // In another process, which got both descriptors, or in a thread:
//! let mut guard = items.lock()?;
//! guard.update(|items| *items += 1)?;
//! changed.notify_one()?;
//! # drop(guard);
//! # Ok::<(), std::io::Error>(())
//! # });
//!
//! let mut guard = changed.wait_while(items.lock()?, |items| *items == 0)?;
//! guard.update(|items| *items -= 1)?;
//! # drop(guard);
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Pitfalls
//!
//! - A wait may return without a notification: look at the value again, as [`Condvar::wait_while`] does.
//! - Change the value with the mutex locked, and notify after that. All who wait must use the same mutex.
//! - Who waits until a deadline may return later, since it waits for the mutex after that.
//! - If a wait fails, the mutex is not locked any more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use linipc_core::pshared::condvar as core;
use linipc_core::shared::SharedBytes;

use super::mutex::{Guard, Inconsistent, Locked, locked};
use super::owned::{At, Lock, Owned, handle, lock};
use crate::futex::Until;
use crate::posix::shm::{OpenOptions, SharedMemory};

pub use linipc_core::pshared::condvar::Reason;

pub use super::{AttachError, Error, LockError, Mismatch, Plain};

lock!(core::Condvar);

/// A condition variable.
#[derive(Debug)]
#[doc(alias = "pthread_cond_t")]
pub struct Condvar(Owned<At<core::Condvar>>);

handle!(Condvar, (), ((), ()));

/// What waiting until a deadline gives.
pub type Waited<'a, T> = Result<(Guard<'a, T>, Reason), LockError<Inconsistent<'a, T>>>;

impl Condvar {
    /// Unlocks the mutex, waits for a notification, and locks it again. It may return for no reason.
    ///
    /// # Errors
    ///
    /// - Those of [`Mutex::lock`](super::mutex::Mutex::lock), from locking again; among them
    ///   [`LockError::OwnerDied`].
    /// - `InvalidData` with [`AttachError::NotFound`]: somebody has spoiled it.
    #[inline]
    #[doc(alias = "pthread_cond_wait")]
    pub fn wait<'a, T: Plain>(&self, guard: Guard<'a, T>) -> Locked<'a, T> {
        let Guard { value, guard } = guard;
        locked(value, self.0.words()?.wait(guard))
    }

    /// As [`Condvar::wait`], but not beyond the deadline; whether that has passed.
    ///
    /// # Errors
    ///
    /// Those of [`Condvar::wait`]. That the deadline has passed is none.
    #[inline]
    #[doc(alias = "pthread_cond_clockwait")]
    pub fn wait_deadline<'a, T: Plain>(
        &self,
        guard: Guard<'a, T>,
        deadline: impl Into<Until>,
    ) -> Waited<'a, T> {
        let Some(deadline) = deadline.into().get() else {
            return Ok((self.wait(guard)?, Reason::Notified));
        };
        let Guard { value, guard } = guard;
        let mut reason = Reason::Notified;
        let waited = self.0.words()?.wait_deadline(guard, deadline);
        let guard = waited.map(|(guard, why)| {
            reason = why;
            guard
        });
        Ok((locked(value, guard)?, reason))
    }

    /// Waits for as long as the value is what `condition` says.
    ///
    /// # Errors
    ///
    /// Those of [`Condvar::wait`].
    pub fn wait_while<'a, T: Plain>(
        &self,
        mut guard: Guard<'a, T>,
        mut condition: impl FnMut(&T) -> bool,
    ) -> Locked<'a, T> {
        while condition(&guard.get()?) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`Condvar::wait_while`], but not beyond the deadline; [`Reason::TimedOut`] if the value is
    /// still so.
    ///
    /// # Errors
    ///
    /// Those of [`Condvar::wait_deadline`].
    pub fn wait_while_deadline<'a, T: Plain>(
        &self,
        mut guard: Guard<'a, T>,
        deadline: impl Into<Until>,
        mut condition: impl FnMut(&T) -> bool,
    ) -> Waited<'a, T> {
        let deadline = deadline.into();
        let mut reason = Reason::Notified;
        while condition(&guard.get()?) {
            if reason == Reason::TimedOut {
                return Ok((guard, reason));
            }
            (guard, reason) = self.wait_deadline(guard, deadline)?;
        }
        Ok((guard, Reason::Notified))
    }

    /// Lets at least one return that waits.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`AttachError::NotFound`]: somebody has spoiled it.
    #[inline]
    #[doc(alias = "pthread_cond_signal")]
    pub fn notify_one(&self) -> io::Result<()> {
        self.0.words()?.notify_one();
        Ok(())
    }

    /// Lets all return that wait with the mutex of this guard, each when it can have it.
    ///
    /// # Errors
    ///
    /// Those of [`Condvar::notify_one`].
    #[inline]
    #[doc(alias = "pthread_cond_broadcast")]
    pub fn notify_all<T: Plain>(&self, guard: &Guard<'_, T>) -> io::Result<()> {
        self.0.words()?.notify_all(&guard.guard);
        Ok(())
    }

    /// Lets all return that wait, by one who does not have the mutex: they are woken at the same time, to
    /// wait again for the mutex.
    ///
    /// # Errors
    ///
    /// Those of [`Condvar::notify_one`].
    #[inline]
    pub fn wake_all(&self) -> io::Result<()> {
        self.0.words()?.wake_all();
        Ok(())
    }
}
