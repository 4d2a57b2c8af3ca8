//! Futexes: sleeping on a word of memory until somebody wakes the sleepers.
//!
//! Mirrors futex(2), futex(7) and `<linux/futex.h>`. A [`Futex`] is a 32-bit atomic together with
//! its scope, which is part of the type: [`Shared`] words are found by every process that maps the
//! memory, [`Private`] words only by the threads of one process, which is a little faster. A wake
//! of one scope never finds a sleeper of the other.
//!
//! ```
//! use core::sync::atomic::Ordering;
//! use linipc_core::futex::Futex;
//! use linipc_core::map::{Access, Region};
//! use linipc_core::Errno;
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! let word = region.bytes().atomic_u32(0)?;
//! let futex = Futex::shared(word);
//!
//! // Whoever waits: sleep only while the word has the value that was seen.
//! assert_eq!(futex.wait(1, None), Err(Errno::AGAIN));
//! // Whoever wakes: change the word first, then wake.
//! word.store(1, Ordering::Release);
//! assert_eq!(futex.wake(1)?, 0);
//! # Ok::<(), Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - A wait may return without a wake, so call it in a loop that looks at the word again.
//! - The kernel reads only the word. What the word guards is ordered by the atomic accesses around
//!   the call (release before the wake, acquire after the wait), not by the call.
//! - The word is aligned to 4 bytes, as every `AtomicU32` is; a private mapping of a file is not
//!   shared, whatever the scope says.
//! - The kernel would also take a word in a read-only shared mapping, to wait and to wake. Rust
//!   promises nothing for atomic accesses there, so [`SharedBytes`](crate::shared::SharedBytes)
//!   lends atomics of writable mappings only.
//! - A process that dies wakes nobody, unless the word is a robust lock.

use core::marker::PhantomData;
use core::num::NonZeroU32;
use core::sync::atomic::AtomicU32;
use core::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{Flags, Wait, WaitFlags, WaitvFlags};
use rustix::time::ClockId;

use crate::sys::clock_gettime;

pub use rustix::thread::futex::{OWNER_DIED, WAITERS};
pub use rustix::time::Timespec;

/// Every operation with its bare flags, for those that have no form here: `wake_op`, and the
/// priority-inheriting locks.
pub use rustix::thread::futex as raw;

/// Which processes a wake reaches: [`Shared`] or [`Private`].
pub trait Scope: sealed::Scope {}

/// Every process that maps the memory.
#[derive(Debug, Clone, Copy)]
pub enum Shared {}

/// The threads of this process (`FUTEX_PRIVATE_FLAG`).
#[derive(Debug, Clone, Copy)]
#[doc(alias = "FUTEX_PRIVATE_FLAG")]
pub enum Private {}

impl Scope for Shared {}
impl Scope for Private {}

mod sealed {
    use super::{Flags, WaitFlags};

    pub trait Scope {
        const FLAGS: Flags;
        const WAITV_FLAGS: WaitFlags;
    }

    impl Scope for super::Shared {
        const FLAGS: Flags = Flags::empty();
        const WAITV_FLAGS: WaitFlags = WaitFlags::SIZE_U32;
    }

    impl Scope for super::Private {
        const FLAGS: Flags = Flags::PRIVATE;
        const WAITV_FLAGS: WaitFlags = WaitFlags::SIZE_U32.union(WaitFlags::PRIVATE);
    }
}

/// The clock of a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`: never set, and stands still while the machine is suspended.
    Monotonic,
    /// `CLOCK_REALTIME`: the time of day. When it is set, the wait gets longer or shorter.
    Realtime,
}

impl Clock {
    #[inline]
    const fn id(self) -> ClockId {
        match self {
            Self::Monotonic => ClockId::Monotonic,
            Self::Realtime => ClockId::Realtime,
        }
    }
}

/// The moment at which a wait ends with `TIMEDOUT`. It is absolute, so a wait that is begun again
/// after a signal does not become longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The clock.
    pub clock: Clock,
    /// The time on that clock, not negative.
    pub at: Timespec,
}

impl Deadline {
    /// The moment that is `timeout` from now. What the clock cannot express is its last moment.
    #[inline]
    pub fn after(clock: Clock, timeout: Duration) -> Self {
        const LAST: Timespec = Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        };
        let at = Timespec::try_from(timeout)
            .ok()
            .and_then(|timeout| clock_gettime(clock.id()).checked_add(timeout))
            .unwrap_or(LAST);
        Self { clock, at }
    }
}

/// A word to sleep on, and who can be woken there.
#[derive(Debug)]
pub struct Futex<'a, S = Shared> {
    word: &'a AtomicU32,
    scope: PhantomData<S>,
}

impl<S> Clone for Futex<'_, S> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Futex<'_, S> {}

impl<'a> Futex<'a, Shared> {
    /// A word in memory that several processes map.
    #[inline]
    pub const fn shared(word: &'a AtomicU32) -> Self {
        Self::new(word)
    }
}

impl<'a> Futex<'a, Private> {
    /// A word that only threads of this process sleep on.
    #[inline]
    pub const fn private(word: &'a AtomicU32) -> Self {
        Self::new(word)
    }
}

impl<'a, S: Scope> Futex<'a, S> {
    /// Matches every waiter and every waker.
    const ANY: NonZeroU32 = NonZeroU32::MAX;

    /// The word with the scope that the type says.
    #[inline]
    pub const fn new(word: &'a AtomicU32) -> Self {
        Self {
            word,
            scope: PhantomData,
        }
    }

    /// The word.
    #[inline]
    pub const fn word(self) -> &'a AtomicU32 {
        self.word
    }

    /// `long syscall(SYS_futex, uint32_t *uaddr, FUTEX_WAIT_BITSET, uint32_t val, const struct
    /// timespec *timeout, NULL, uint32_t val3)` with all bits: sleeps if the word is `expected`.
    ///
    /// To compare and to fall asleep is one step: no wake that follows a change of the word is
    /// lost. The result `Ok` may have no wake behind it.
    ///
    /// # Errors
    ///
    /// - `AGAIN`: the word is not `expected`.
    /// - `TIMEDOUT`: the deadline has passed.
    /// - `INTR`: a signal was caught. Without a deadline the kernel restarts the wait after
    ///   handlers with `SA_RESTART`; with one it never does.
    /// - `INVAL`: the deadline is negative, or has more than 999,999,999 nanoseconds.
    ///
    /// # References
    ///
    /// - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html)
    #[inline]
    #[doc(alias = "FUTEX_WAIT")]
    pub fn wait(self, expected: u32, deadline: Option<Deadline>) -> Result<(), Errno> {
        self.wait_bitset(expected, deadline, Self::ANY)
    }

    /// `FUTEX_WAIT_BITSET`: [`Futex::wait`], but only wakes that have one of `bits` count.
    ///
    /// # Errors
    ///
    /// Those of [`Futex::wait`].
    ///
    /// # References
    ///
    /// - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html), `FUTEX_WAIT_BITSET`
    #[inline]
    #[doc(alias = "FUTEX_WAIT_BITSET")]
    pub fn wait_bitset(
        self,
        expected: u32,
        deadline: Option<Deadline>,
        bits: NonZeroU32,
    ) -> Result<(), Errno> {
        let clock = match deadline {
            Some(Deadline {
                clock: Clock::Realtime,
                ..
            }) => Flags::CLOCK_REALTIME,
            _ => Flags::empty(),
        };
        let at = deadline.as_ref().map(|deadline| &deadline.at);
        raw::wait_bitset(self.word, S::FLAGS | clock, expected, at, bits)
    }

    /// `long syscall(SYS_futex, uint32_t *uaddr, FUTEX_WAKE, uint32_t val)`: wakes at most `count`
    /// sleepers (`u32::MAX` for all); gives how many.
    ///
    /// # Errors
    ///
    /// `FAULT`: the word is not mapped any more. `INVAL`: a priority-inheriting lock is there.
    ///
    /// # References
    ///
    /// - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html)
    #[inline]
    #[doc(alias = "FUTEX_WAKE")]
    pub fn wake(self, count: u32) -> Result<usize, Errno> {
        // The kernel wakes one when asked for none.
        if count == 0 {
            return Ok(0);
        }
        raw::wake(self.word, S::FLAGS, to_int(count))
    }

    /// `FUTEX_WAKE_BITSET`: [`Futex::wake`], but only those who wait for one of `bits`, or with
    /// [`Futex::wait`].
    ///
    /// # Errors
    ///
    /// Those of [`Futex::wake`].
    ///
    /// # References
    ///
    /// - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html), `FUTEX_WAKE_BITSET`
    #[inline]
    #[doc(alias = "FUTEX_WAKE_BITSET")]
    pub fn wake_bitset(self, count: u32, bits: NonZeroU32) -> Result<usize, Errno> {
        if count == 0 {
            return Ok(0);
        }
        raw::wake_bitset(self.word, S::FLAGS, to_int(count), bits)
    }

    /// `FUTEX_CMP_REQUEUE`: if the word is `expected`, wakes at most `wake` sleepers and lets at
    /// most `requeue` others sleep on at `to`; gives how many were woken or moved.
    ///
    /// The moved are from then on woken through `to`, though their calls name the old word. The
    /// older `FUTEX_REQUEUE`, without `expected`, loses wakes, and is only in [`raw`].
    ///
    /// # Errors
    ///
    /// - `AGAIN`: the word is not `expected`. Nobody was woken or moved.
    /// - `FAULT`: a word is not mapped any more. `INVAL`: a priority-inheriting lock is there.
    ///
    /// # References
    ///
    /// - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html), `FUTEX_CMP_REQUEUE`
    #[inline]
    #[doc(alias = "FUTEX_CMP_REQUEUE")]
    pub fn requeue(
        self,
        expected: u32,
        wake: u32,
        requeue: u32,
        to: Futex<'_, S>,
    ) -> Result<usize, Errno> {
        let (wake, requeue) = (to_int(wake), to_int(requeue));
        raw::cmp_requeue(self.word, S::FLAGS, wake, requeue, to.word, expected)
    }
}

/// The kernel takes counts as `int`: a larger one would be negative, and mean one or an error.
#[inline]
const fn to_int(count: u32) -> u32 {
    const MAX: u32 = i32::MAX as u32;
    if count > MAX { MAX } else { count }
}

/// The most futexes that [`waitv`] takes (`FUTEX_WAITV_MAX`).
#[doc(alias = "FUTEX_WAITV_MAX")]
pub const WAITV_MAX: usize = 128;

/// `struct futex_waitv`: one of several futexes to sleep on, and its expected value.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
#[doc(alias = "futex_waitv")]
pub struct Waiter<'a> {
    abi: Wait,
    word: PhantomData<&'a AtomicU32>,
}

// SAFETY: The pointer within is a `&'a AtomicU32`, which may go to and be used by any thread.
unsafe impl Send for Waiter<'_> {}
// SAFETY: As for `Send`.
unsafe impl Sync for Waiter<'_> {}

impl<'a> Waiter<'a> {
    /// Waits at `futex` if its word is `expected`. Both scopes may be in one list.
    #[inline]
    pub fn new<S: Scope>(futex: Futex<'a, S>, expected: u32) -> Self {
        let mut abi = Wait::new();
        abi.val = u64::from(expected);
        abi.uaddr = futex.word.as_ptr().cast::<core::ffi::c_void>().into();
        abi.flags = S::WAITV_FLAGS;
        Self {
            abi,
            word: PhantomData,
        }
    }
}

/// `long syscall(SYS_futex_waitv, struct futex_waitv *waiters, unsigned int nr_futexes, unsigned
/// int flags, struct timespec *timeout, clockid_t clockid)`: sleeps on up to [`WAITV_MAX`] futexes;
/// gives the index of one that was woken.
///
/// Others may have been woken too: look at all words. Needs Linux 5.16.
///
/// # Errors
///
/// - `AGAIN`: a word does not have its expected value.
/// - `TIMEDOUT`: the deadline has passed.
/// - `INTR`: a signal was caught.
/// - `INVAL`: no waiter, more than [`WAITV_MAX`], or a malformed deadline.
/// - `NOSYS`: the kernel is older.
///
/// # References
///
/// - [futex_waitv(2)](https://docs.kernel.org/userspace-api/futex2.html)
#[inline]
#[doc(alias = "futex_waitv")]
pub fn waitv(waiters: &[Waiter<'_>], deadline: Option<Deadline>) -> Result<usize, Errno> {
    let len = waiters.len();
    // SAFETY: `Waiter` is transparent over `Wait`, and the slice is borrowed for the whole call.
    let waiters = unsafe { core::slice::from_raw_parts(waiters.as_ptr().cast::<Wait>(), len) };
    // The kernel looks at the clock only when there is a deadline.
    let clock = deadline.map_or(Clock::Monotonic, |deadline| deadline.clock);
    let at = deadline.as_ref().map(|deadline| &deadline.at);
    raw::waitv(waiters, WaitvFlags::empty(), at, clock.id())
}
