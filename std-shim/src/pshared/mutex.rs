//! A mutex that owns its data, and that survives whoever is killed while it has it.
//!
//! Built on [`linipc_core::pshared::mutex`], in the placement for peers that are not trusted
//! ([`Split`]): they can spoil the value and the lock, and nothing else.
//!
//! ```
//! use linipc::pshared::mutex::{LockError, Mutex};
//!
//! let mutex = Mutex::create(0_u64)?;
//! let elsewhere: Mutex<u64> = Mutex::attach(&mutex)?; // in another process, which got the descriptor
//!
//! let mut count = match elsewhere.lock() {
//!     Ok(guard) => guard,
//!     // Who had it was killed. The value is what it has last set.
//!     Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
//!     Err(LockError::Failed(error)) => return Err(error),
//! };
//! count.update(|count| *count += 1)?;
//! assert!(mutex.try_lock().is_err());
//! drop(count);
//! assert_eq!(mutex.lock()?.get()?, 1);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Format
//!
//! ```text
//!  0                                         24 bytes (on 32 bit 20) before the end of the last page
//!  +--------------------------------------------------+-----+-------+
//!  | value: as `shared::variable` of core has it      | ... | mutex |
//!  +--------------------------------------------------+-----+-------+
//! ```
//!
//! The value is kept twice. So also where its owner was killed it is one that somebody has set, and what is
//! to be repaired is only what takes several calls of [`Guard::set`].
//!
//! # Pitfalls
//!
//! - Who locks it a second time in the same thread gets [`Error::Deadlock`].
//! - `?` on the result of a lock gives the mutex up for all, if its owner died: see
//!   [`LockError::OwnerDied`].
//! - A guard that is forgotten keeps the mutex until its thread ends; the next one then learns that the owner
//!   died.
//! - Thread ids are those of a PID namespace: processes of different ones must not share it.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use linipc_core::Errno;
use linipc_core::pshared::mutex as core;
use linipc_core::shared::variable::Variable;

use super::owned::{Owned, Place, access, handle};
use super::{attach_error, io_error, mismatch, thread};
use crate::futex::Until;
use crate::posix::shm::{OpenOptions, SharedMemory};

pub use linipc_core::pshared::mutex::{Kind, Split};

pub use super::{AttachError, Error, LockError, Mismatch, Plain};

/// How to make a mutex.
#[derive(Debug, Clone, Copy)]
pub struct MutexOptions {
    kind: Kind,
    pthread: bool,
    inherits: bool,
}

impl Default for MutexOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MutexOptions {
    /// A normal mutex that lends nobody priority, and is not for C programs.
    pub const fn new() -> Self {
        Self {
            kind: Kind::Normal,
            pthread: false,
            inherits: false,
        }
    }

    /// What a C program finds that locks it a second time in the same thread. Who does that with a
    /// [`Mutex`] always gets [`Error::Deadlock`].
    pub const fn kind(&mut self, kind: Kind) -> &mut Self {
        self.kind = kind;
        self
    }

    /// Whether C programs of 64-bit glibc lock it too, as a `pthread_mutex_t` at the end of the file's last
    /// page.
    #[doc(alias = "pthread_mutex_t")]
    pub const fn pthread(&mut self, pthread: bool) -> &mut Self {
        self.pthread = pthread;
        self
    }

    /// Whether the owner has the priority of the highest one who waits (`PTHREAD_PRIO_INHERIT`). Then
    /// each wait is the kernel's, and C programs can lock it too.
    #[doc(alias = "pthread_mutexattr_setprotocol")]
    pub const fn inherit_priority(&mut self, inherits: bool) -> &mut Self {
        self.inherits = inherits;
        self
    }

    /// As [`Mutex::create`].
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::create`].
    pub fn create<T: Plain>(&self, initial: T) -> io::Result<Mutex<T>> {
        Ok(Mutex(Owned::create((*self, initial))?))
    }

    /// As [`Mutex::open_named`]. An existing mutex stays what it is.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::open_named`].
    pub fn open_named<T: Plain>(
        &self,
        name: impl AsRef<Path>,
        initial: T,
        options: &OpenOptions,
    ) -> io::Result<Mutex<T>> {
        let owned = Owned::open_named(name.as_ref(), (*self, initial), options)?;
        Ok(Mutex(owned))
    }
}

/// A mutex, and the value that it guards.
///
/// Threads share it by reference, or in an [`Arc`](std::sync::Arc); a child after fork(2) may use its copy.
#[derive(Debug)]
#[doc(alias = "pthread_mutex_t")]
pub struct Mutex<T>(Owned<Pages<T>>);

handle!(Mutex<T>, (initial: T), (MutexOptions::new(), initial));

impl<T: Plain> Mutex<T> {
    /// Locks; waits until it can.
    ///
    /// # Errors
    ///
    /// - [`LockError::OwnerDied`]: it is locked, and its last owner was killed, or ended without unlocking.
    /// - `Other` with [`Error::NotRecoverable`]: that was so, and who had it then did not mark it
    ///   consistent.
    /// - `Deadlock` with [`Error::Deadlock`]: the thread has it already.
    /// - `InvalidData` with [`Error::Corrupt`] or [`AttachError::NotFound`]: somebody has spoiled it.
    /// - `Unsupported`: the thread's robust list is of another format ([`thread()`]).
    #[inline]
    pub fn lock(&self) -> Locked<'_, T> {
        self.guard(|mutex, thread| mutex.lock(thread))
    }

    /// Locks, if nobody has it.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): somebody has it; and those of [`Mutex::lock`].
    #[inline]
    pub fn try_lock(&self) -> Locked<'_, T> {
        self.guard(|mutex, thread| mutex.try_lock(thread))
    }

    /// Locks; waits until it can, but not beyond the deadline. A mutex that is free is locked even if that
    /// has passed.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Mutex::lock`].
    #[inline]
    pub fn lock_deadline(&self, deadline: impl Into<Until>) -> Locked<'_, T> {
        match deadline.into().get() {
            Some(deadline) => self.guard(|mutex, thread| mutex.lock_deadline(thread, deadline)),
            None => self.lock(),
        }
    }

    #[inline]
    fn guard<'a>(
        &'a self,
        lock: impl FnOnce(
            core::SplitMutex<'a>,
            super::Thread,
        ) -> Result<core::Guard<'a>, core::LockError<'a>>,
    ) -> Locked<'a, T> {
        let place = &self.0.place;
        let value = Variable::new(place.split.bytes()).map_err(io::Error::from)?;
        let mutex = place.split.attach().map_err(attach_error)?;
        locked(value, lock(mutex, thread()?))
    }
}

/// What core gives, together with the value.
#[inline]
pub(super) fn locked<'a, T>(
    value: Variable<'a, T>,
    guard: Result<core::Guard<'a>, core::LockError<'a>>,
) -> Locked<'a, T> {
    match guard {
        Ok(guard) => Ok(Guard { value, guard }),
        Err(core::LockError::OwnerDied(guard)) => {
            Err(LockError::OwnerDied(Inconsistent { value, guard }))
        }
        Err(core::LockError::Failed(error)) => Err(io_error(error).into()),
    }
}

/// What locking gives.
pub type Locked<'a, T> = Result<Guard<'a, T>, LockError<Inconsistent<'a, T>>>;

/// The mutex is locked, as long as this is there. It stays in its thread.
#[derive(Debug)]
#[must_use = "the mutex is unlocked when this is dropped"]
pub struct Guard<'a, T> {
    pub(super) value: Variable<'a, T>,
    pub(super) guard: core::Guard<'a>,
}

impl<T: Plain> Guard<'_, T> {
    access!(write);
}

/// The mutex is locked, and its last owner died. If it is unlocked like that, nobody can lock it any
/// more: whoever waits, and all who come, get [`Error::NotRecoverable`].
#[derive(Debug)]
#[must_use = "the mutex is lost when this is dropped"]
pub struct Inconsistent<'a, T> {
    value: Variable<'a, T>,
    guard: core::Inconsistent<'a>,
}

impl<'a, T: Plain> Inconsistent<'a, T> {
    access!(write);

    /// Says that the value is consistent, after it was repaired if need be.
    #[doc(alias = "pthread_mutex_consistent")]
    pub fn mark_consistent(self) -> Guard<'a, T> {
        Guard {
            value: self.value,
            guard: self.guard.mark_consistent(),
        }
    }
}

/// The pages of the file, and the one for the links.
#[derive(Debug)]
struct Pages<T> {
    split: Split,
    value: PhantomData<fn() -> T>,
}

impl<T: Plain> Place for Pages<T> {
    type Initial = (MutexOptions, T);

    fn len() -> Result<usize, Errno> {
        Split::len(Variable::<T>::LEN).ok_or(Errno::NOMEM)
    }

    fn map(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        Ok(Self {
            split: Split::map(file, len)?,
            value: PhantomData,
        })
    }

    fn init(&self, (options, initial): Self::Initial) -> io::Result<()> {
        Variable::new(self.split.bytes())?.format(initial)?;
        let _ = match options.kind {
            kind if options.inherits => self.split.init_inheriting(kind),
            kind if options.pthread => self.split.init_pthread(kind),
            kind => self.split.init(kind),
        };
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        let value = Variable::<T>::new(self.split.bytes())?;
        value.check()?.map_err(mismatch)?;
        self.split.attach().map_err(attach_error)?;
        Ok(())
    }
}
