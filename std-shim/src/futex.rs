//! Futexes: sleeping on a word of memory until somebody wakes the sleepers.
//!
//! Built on [`linipc_core::futex`], which has the pitfalls. Its [`Futex`] wakes; the waits here
//! begin again after a signal and take a [`Deadline`], on the clock that
//! [`Instant`](std::time::Instant) has.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use std::time::Duration;
//! use linipc::futex::{self, Futex};
//!
//! let word = AtomicU32::new(0);
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         word.store(1, Ordering::Release);
//!         Futex::private(&word).wake(1).unwrap();
//!     });
//!     while word.load(Ordering::Acquire) == 0 {
//!         futex::wait_deadline(Futex::private(&word), 0, Duration::from_secs(10))?;
//!     }
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;

use linipc_core::Errno;
use linipc_core::futex as core;
use linipc_core::io::retry_on_intr;

pub use linipc_core::futex::{Clock, Futex, Private, Scope, Shared, WAITV_MAX, Waiter};

use crate::Deadline;

/// Sleeps if the word is `expected`; gives whether it was, so that it slept. The wake may be
/// nobody's: look at the word again.
///
/// # Errors
///
/// None in practice.
pub fn wait<S: Scope>(futex: Futex<'_, S>, expected: u32) -> io::Result<bool> {
    slept(retry_on_intr(|| futex.wait(expected, None)))
}

/// [`wait`], but not beyond the deadline.
///
/// # Errors
///
/// `TIMEDOUT` (`TimedOut`): the deadline has passed.
pub fn wait_deadline<S: Scope>(
    futex: Futex<'_, S>,
    expected: u32,
    deadline: impl Into<Deadline>,
) -> io::Result<bool> {
    let deadline = absolute(deadline.into());
    slept(retry_on_intr(|| futex.wait(expected, deadline)))
}

/// Sleeps on up to [`WAITV_MAX`] futexes; gives the index of one that was woken, or `None` if a
/// word does not have its expected value. Needs Linux 5.16.
///
/// # Errors
///
/// `INVAL`: no waiter, or too many. `NOSYS`: the kernel is older.
pub fn waitv(waiters: &[Waiter<'_>]) -> io::Result<Option<usize>> {
    waitv_deadline(waiters, Deadline::NEVER)
}

/// [`waitv`], but not beyond the deadline.
///
/// # Errors
///
/// `TIMEDOUT` (`TimedOut`): the deadline has passed; and those of [`waitv`].
pub fn waitv_deadline(
    waiters: &[Waiter<'_>],
    deadline: impl Into<Deadline>,
) -> io::Result<Option<usize>> {
    let deadline = absolute(deadline.into());
    match retry_on_intr(|| core::waitv(waiters, deadline)) {
        Err(Errno::AGAIN) => Ok(None),
        woken => Ok(Some(woken?)),
    }
}

fn slept(waited: Result<(), Errno>) -> io::Result<bool> {
    match waited {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Computed once for all retries, so that signals do not make the wait longer.
pub(crate) fn absolute(deadline: Deadline) -> Option<core::Deadline> {
    let left = deadline.remaining()?;
    Some(core::Deadline::after(Clock::Monotonic, left))
}
