//! Locks in shared memory, between processes of which any may be killed at any moment.
//!
//! Built on [`linipc_core::pshared`], which has the formats and the pitfalls. A handle owns the memory and
//! a mapping of it, and is used as std's: threads share it by reference.
//!
//! | lock | for | when the one who holds it is killed |
//! |---|---|---|
//! | [`mutex::Mutex`] | a value, one at a time | the next one gets it with [`LockError::OwnerDied`], at once |
//! | [`rwlock::RwLock`] | a value that many read | a reader is forgotten; after a writer the next one gets it with [`LockError::OwnerDied`], within 100 ms |
//! | [`spin::SpinLock`] | a value that is had for some nanoseconds | all who come get [`Error::PeerDead`], within 100 ms |
//! | [`condvar::Condvar`] | waiting until the value of a mutex has changed | nobody holds it |
//! | [`barrier::Barrier`] | going on when all are there | all who wait get [`Error::PeerDead`], within 100 ms |
//! | [`once::Once`] | what is initialised once | the next one does it, and is told |
//! | [`semaphore::Semaphore`] | units to hand out | its units are gone |
//! | [`event::Event`] | something that happens | nobody holds it |
//!
//! Parent and child, over a descriptor that the child inherits as its standard input:
//!
//! ```standalone_crate
#![doc = include_str!("../../examples/lock.rs")]
//! ```
//!
//! # Making and attaching
//!
//! | the memory | is made by | and attached to by | can it be cut off under us? |
//! |---|---|---|---|
//! | a memfd, inherited or sent over a Unix socket | `create` | `attach`, which checks the seals | no |
//! | a POSIX segment | `open_named` | `open`, by name | by who may write it |
//! | any other | core, or who writes the same format | `attach_memory` | by who may write it |
//!
//! Each lock is at the beginning of its memory, as core has it, and its value, if it has one, behind it from
//! the next cache line on, as [`linipc_core::shared::variable`] has it. A [`mutex`] is the other way round.
//!
//! The value is plain data, and goes in and out by copy: `get`, `set` and `update` of a guard. It is kept
//! twice, so who is killed while it sets it leaves the old one.
//!
//! # Waiting
//!
//! Calls that wait have three forms, as everywhere in this crate: plain, `try_…` and `…_deadline`, with a
//! time on the clock of [`Instant`](std::time::Instant) or, as a [`SystemTime`](std::time::SystemTime), on the
//! time of day. Signals do not end a wait.
//!
//! # Errors
//!
//! | kind | inner error | |
//! |---|---|---|
//! | `WouldBlock`, `TimedOut` | none, but the errno: `AGAIN`, `TIMEDOUT` | a try, a deadline |
//! | `Deadlock` | [`Error::Deadlock`] | the thread has it already |
//! | `ConnectionReset` | [`Error::PeerDead`] | a party died, without which it cannot go on |
//! | `Other` | [`Error::NotRecoverable`], [`Error::Overflow`], [`Error::Forked`] | the text says what happened |
//! | | none, but the errno: `OWNERDEAD` | [`LockError::OwnerDied`], if it was made an [`io::Error`] |
//! | `InvalidInput` | [`AttachError::OutOfRange`] | the text says what is possible |
//! | `InvalidData` | [`Error::Corrupt`], the other [`AttachError`]s, [`Mismatch`], [`MissingSeals`](crate::memfd::MissingSeals) | not what keeps to the rules |
//! | `PermissionDenied` | [`AttachError::ReadOnly`] | |
//! | `Unsupported` | [`robust::Error`] | the thread's robust list is not what a mutex needs |
//! | the kernel's | none, but the errno | |
//!
//! `error.downcast::<Error>()` gives the inner one. A failed try allocates nothing.
//!
//! # After fork(2)
//!
//! A child may use the handles that it has inherited. The copy of a guard guards nothing in it, and
//! dropping it does nothing; what the parent has is the parent's.
//!
//! # Locks in the same memory as other things
//!
//! Whoever lays out the memory uses core's locks, which are fields of it or are put anywhere in a
//! [`Region`](crate::map::Region): also those that C programs have ([`pthread`], and
//! [`posix::sem`](crate::posix::sem)), and mutexes without the second page, where all are trusted. [`thread()`]
//! and [`process()`] give the tokens that their calls want.

use std::cell::Cell;
use std::fmt;
use std::io;

use linipc_core::Errno;
use linipc_core::robust::{self, Head};

pub use linipc_core::pshared::{AttachError, Error, Process, pthread};
pub use linipc_core::robust::Thread;
pub use linipc_core::shared::variable::{Mismatch, Plain};

pub mod barrier;
pub mod condvar;
pub mod event;
pub mod mutex;
pub mod once;
mod owned;
pub mod rwlock;
pub mod semaphore;
pub mod spin;

/// Why a lock was not simply given.
#[derive(Debug)]
pub enum LockError<I> {
    /// The caller has it, alone, and who had it before was killed: the value is what it has last set,
    /// which may not be all that it wanted to.
    ///
    /// If this is dropped before it is marked consistent (`?` drops it), the lock is lost: whoever waits, and
    /// all who come, get [`Error::NotRecoverable`], and have to make a new one.
    OwnerDied(I),
    /// The caller does not have it.
    Failed(io::Error),
}

impl<I> From<io::Error> for LockError<I> {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl<I> From<LockError<I>> for io::Error {
    /// The lock is lost if its owner died, as when the error is dropped.
    fn from(error: LockError<I>) -> Self {
        match error {
            LockError::OwnerDied(_) => Errno::OWNERDEAD.into(),
            LockError::Failed(error) => error,
        }
    }
}

impl<I> fmt::Display for LockError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(_) => f.write_str("who had the lock was killed"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<I: fmt::Debug> std::error::Error for LockError<I> {}

/// This thread with its robust list, for core's mutexes: found once, and again after fork(2). A thread
/// without a list, as there are in programs that are linked with musl, gets one.
///
/// # Errors
///
/// - `Unsupported` with [`robust::Error::Offset`]: locks of another format are in the thread's list.
/// - `NOSYS`: the kernel, or what emulates it, has no robust lists.
#[inline]
pub fn thread() -> io::Result<Thread> {
    thread_local! {
        static THREAD: Cell<Option<Thread>> = const { Cell::new(None) };
    }
    THREAD.with(|known| match known.get() {
        Some(thread) if !thread.is_forked() => Ok(thread),
        _ => {
            let thread = find_thread()?;
            known.set(Some(thread));
            Ok(thread)
        }
    })
}

#[cold]
fn find_thread() -> io::Result<Thread> {
    let found = match Thread::current() {
        // The kernel reads the head when the thread has ended, so it is never freed.
        Err(robust::Error::None) => Thread::register(Box::leak(Box::new(Head::new()))),
        found => found,
    };
    found.map_err(|error| match error {
        robust::Error::System(errno) => errno.into(),
        _ => io::Error::new(io::ErrorKind::Unsupported, error),
    })
}

/// This process, for core's other locks.
///
/// # Errors
///
/// `NOMEM`: no memory. `INVAL`: the kernel is older than 4.14.
#[inline]
pub fn process() -> io::Result<Process> {
    Ok(Process::current()?)
}

/// An error of a lock of core's as the [`io::Error`] that this crate's calls fail with.
pub fn io_error(error: Error) -> io::Error {
    use io::ErrorKind as Kind;
    let kind = match error {
        // As of every other call of the kernel's: without an allocation.
        Error::Busy => return Errno::AGAIN.into(),
        Error::TimedOut => return Errno::TIMEDOUT.into(),
        Error::System(errno) => return errno.into(),
        Error::Deadlock => Kind::Deadlock,
        Error::PeerDead => Kind::ConnectionReset,
        Error::Corrupt => Kind::InvalidData,
        Error::NotRecoverable | Error::Overflow | Error::Forked => Kind::Other,
    };
    io::Error::new(kind, error)
}

fn attach_error(error: AttachError) -> io::Error {
    use io::ErrorKind as Kind;
    let kind = match error {
        AttachError::ReadOnly => Kind::PermissionDenied,
        AttachError::Unaligned { .. } | AttachError::OutOfRange { .. } => Kind::InvalidInput,
        AttachError::TooSmall { .. } | AttachError::NotFound | AttachError::Version { .. } => {
            Kind::InvalidData
        }
    };
    io::Error::new(kind, error)
}

fn mismatch(error: Mismatch) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
