//! Futexes: sleeping on a word of memory until somebody wakes the sleepers.
//!
//! Built on [`linipc_core::futex`], which has the pitfalls. The waits begin again after a signal,
//! and take a deadline on the clock of what it is made from: see [`Until`].
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
//!         futex::wake(Futex::private(&word), 1)
//!     });
//!     while word.load(Ordering::Acquire) == 0 {
//!         futex::wait_deadline(Futex::private(&word), 0, Duration::from_secs(10))?;
//!     }
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::num::NonZeroU32;
use std::time::{Duration, Instant, SystemTime};

use linipc_core::Errno;
use linipc_core::futex as core;
use linipc_core::io::retry_on_intr;

pub use linipc_core::futex::{Clock, Futex, Private, Scope, Shared, WAITV_MAX, Waiter};

use crate::Deadline;

/// Until when a wait may last, and by which clock.
///
/// A [`SystemTime`] is on the time of day, and the wait gets longer or shorter when that is set. A
/// [`Duration`], an [`Instant`] and a [`Deadline`] are on the clock of `Instant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until(Option<core::Deadline>);

impl Until {
    /// As core has it; `None` is never.
    #[inline]
    pub(crate) fn get(self) -> Option<core::Deadline> {
        self.0
    }
}

impl From<Deadline> for Until {
    #[inline]
    fn from(deadline: Deadline) -> Self {
        Self(absolute(deadline))
    }
}

impl From<Duration> for Until {
    #[inline]
    fn from(timeout: Duration) -> Self {
        Deadline::from(timeout).into()
    }
}

impl From<Instant> for Until {
    #[inline]
    fn from(at: Instant) -> Self {
        Deadline::from(at).into()
    }
}

impl From<SystemTime> for Until {
    /// A time before 1970 is 1970; one that the kernel cannot express is never.
    #[inline]
    fn from(at: SystemTime) -> Self {
        let since = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let at = core::Timespec::try_from(since).ok();
        let clock = Clock::Realtime;
        Self(at.map(|at| core::Deadline { clock, at }))
    }
}

/// Sleeps if the word is `expected`; gives whether it was, so that it slept. The wake may be
/// nobody's: look at the word again.
///
/// # Errors
///
/// None in practice.
#[inline]
pub fn wait<S: Scope>(futex: Futex<'_, S>, expected: u32) -> io::Result<bool> {
    wait_bitset(futex, expected, NonZeroU32::MAX)
}

/// [`wait`], but not beyond the deadline.
///
/// # Errors
///
/// `TIMEDOUT` (`TimedOut`): the deadline has passed.
#[inline]
pub fn wait_deadline<S: Scope>(
    futex: Futex<'_, S>,
    expected: u32,
    deadline: impl Into<Until>,
) -> io::Result<bool> {
    wait_bitset_deadline(futex, expected, NonZeroU32::MAX, deadline)
}

/// [`wait`], but only wakes that have one of `bits` count.
///
/// # Errors
///
/// None in practice.
#[inline]
pub fn wait_bitset<S: Scope>(
    futex: Futex<'_, S>,
    expected: u32,
    bits: NonZeroU32,
) -> io::Result<bool> {
    wait_bitset_deadline(futex, expected, bits, Deadline::NEVER)
}

/// [`wait_bitset`], but not beyond the deadline.
///
/// # Errors
///
/// `TIMEDOUT` (`TimedOut`): the deadline has passed.
#[inline]
pub fn wait_bitset_deadline<S: Scope>(
    futex: Futex<'_, S>,
    expected: u32,
    bits: NonZeroU32,
    deadline: impl Into<Until>,
) -> io::Result<bool> {
    let Until(deadline) = deadline.into();
    let slept = if_expected(retry_on_intr(|| {
        futex.wait_bitset(expected, deadline, bits)
    }))?;
    Ok(slept.is_some())
}

/// Wakes at most `count` sleepers (`u32::MAX` for all); gives how many.
///
/// # Errors
///
/// None in practice.
#[inline]
pub fn wake<S: Scope>(futex: Futex<'_, S>, count: u32) -> io::Result<usize> {
    Ok(futex.wake(count)?)
}

/// [`wake`], but only those who wait for one of `bits`, or for any.
///
/// # Errors
///
/// None in practice.
#[inline]
pub fn wake_bitset<S: Scope>(
    futex: Futex<'_, S>,
    count: u32,
    bits: NonZeroU32,
) -> io::Result<usize> {
    Ok(futex.wake_bitset(count, bits)?)
}

/// If the word of `from` is `expected`, wakes at most `wake` sleepers and lets at most `move_on`
/// others sleep on at `to`; gives how many were woken or moved, or `None` if the word differs.
///
/// # Errors
///
/// None in practice.
#[inline]
pub fn requeue<S: Scope>(
    from: Futex<'_, S>,
    expected: u32,
    wake: u32,
    move_on: u32,
    to: Futex<'_, S>,
) -> io::Result<Option<usize>> {
    if_expected(from.requeue(expected, wake, move_on, to))
}

/// Sleeps on up to [`WAITV_MAX`] futexes; gives the index of one that was woken, or `None` if a
/// word does not have its expected value. Needs Linux 5.16.
///
/// # Errors
///
/// `INVAL`: no waiter, or too many. `NOSYS`: the kernel is older.
#[inline]
pub fn waitv(waiters: &[Waiter<'_>]) -> io::Result<Option<usize>> {
    waitv_deadline(waiters, Deadline::NEVER)
}

/// [`waitv`], but not beyond the deadline.
///
/// # Errors
///
/// `TIMEDOUT` (`TimedOut`): the deadline has passed; and those of [`waitv`].
#[inline]
pub fn waitv_deadline(
    waiters: &[Waiter<'_>],
    deadline: impl Into<Until>,
) -> io::Result<Option<usize>> {
    let Until(deadline) = deadline.into();
    if_expected(retry_on_intr(|| core::waitv(waiters, deadline)))
}

/// `None` if a word did not have its expected value.
#[inline]
fn if_expected<T>(done: Result<T, Errno>) -> io::Result<Option<T>> {
    match done {
        Err(Errno::AGAIN) => Ok(None),
        done => Ok(Some(done?)),
    }
}

/// Computed once for all retries, so that signals do not make the wait longer.
#[inline]
pub(crate) fn absolute(deadline: Deadline) -> Option<core::Deadline> {
    let left = deadline.remaining()?;
    Some(core::Deadline::after(Clock::Monotonic, left))
}
