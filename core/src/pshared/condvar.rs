//! A condition variable: waits until what a [`mutex`](super::mutex) guards has changed.
//!
//! Mirrors pthread_cond_wait(3), pthread_cond_signal(3) and pthread_cond_broadcast(3). The format is our
//! own: no death of a process harms it.
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::pshared::condvar::Condvar;
//! use linipc_core::pshared::mutex::{Kind, LockError, Mutex};
//! use linipc_core::robust::Thread;
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! // SAFETY: Only this program has the memory.
//! let mutex = unsafe { Mutex::init(region.bytes(), Kind::Normal) }?;
//! let changed = Condvar::init(region.bytes().slice(64, 12)?)?;
//! let items = region.bytes().atomic_u32(128)?;
//! # items.store(1, core::sync::atomic::Ordering::Relaxed);
//!
//! let mut guard = mutex.lock(Thread::current()?).map_err(|_| "nobody died")?;
//! while items.load(core::sync::atomic::Ordering::Relaxed) == 0 {
//!     guard = match changed.wait(guard) {
//!         Ok(guard) => guard,
//!         // What the mutex guards may be half changed: repair it here.
//!         Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
//!         Err(LockError::Failed(error)) => return Err(error.into()),
//!     };
//! }
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Format
//!
//! ```text
//!  0       4          8          12
//!  +-------+----------+----------+
//!  | magic | sequence | requeues |   sequence: somebody may sleep | notifications << 1
//!  +-------+----------+----------+   requeues: how often sleepers were moved to a mutex
//! ```
//!
//! Who waits reads the sequence, unlocks the mutex, and sleeps while the sequence is what it read. Each
//! notification changes it. [`Condvar::notify_all`] moves the sleepers to the mutex (`FUTEX_CMP_REQUEUE`),
//! so that each is woken when it can have it, and not all at once to wait again.
//!
//! # Ordering
//!
//! | earlier | later | why |
//! |---|---|---|
//! | `wait` reads the sequence, then unlocks | a notifier locks, changes the data, then changes the sequence | the mutex: so the one who waits finds another sequence than it read |
//! | `notify_all` counts the requeue, then changes the sequence (N1) | `wait` finds the sequence changed (W1), then reads that count | Release and Acquire, and the kernel's wake: who was moved, and woken in place of others, knows that |
//!
//! What the mutex guards is published by the mutex.
//!
//! # Deaths
//!
//! Who waits does not have the mutex, and nobody waits for it. It returns after 50 ms even if nobody notified
//! it, and then the caller looks at the data. So nothing is lost for longer than that: neither a notification
//! whose one woken waiter is killed before it did anything, nor a change whose author is killed before it
//! notifies.
//!
//! # Pitfalls
//!
//! - After a wait the mutex is locked without a deadline, as POSIX has it: a stranger that can write its words
//!   can make that last for ever.
//! - A wait may return without a notification, and does so after 50 ms: call it in a loop that looks at the
//!   data.
//! - Change the data with the mutex locked, and notify after that. All who wait must use the same mutex, and
//!   [`Condvar::notify_all`] takes its guard: with another one they return 50 ms late.
//! - Who waits until a deadline may return later, since it waits for the mutex after that.

use super::mutex::{Guard, LockError};
use super::{AttachError, Error, InPlace, Kind, Magic, find, sleep_a_while};
use crate::futex::Deadline;
use crate::shared::SharedBytes;
use crate::sync::{
    AtomicU32, Ordering, SPINS, Word, const_fn, give_way, has_passed, layout, spin, wake, wake_some,
};

/// Somebody may sleep.
const ASLEEP: u32 = 1;
/// The rest of the sequence counts notifications.
const STEP: u32 = 2;

/// A condition variable, as it is in memory.
#[derive(Debug)]
#[repr(C)]
#[doc(alias = "pthread_cond_t")]
pub struct Condvar {
    magic: Magic,
    sequence: Word,
    requeues: AtomicU32,
}

layout! {
    Condvar: size 12, align 4;
    Condvar { magic: 0, sequence: 4, requeues: 8 }
}

// SAFETY: It is `repr(C)`, and nothing but atomics without padding.
unsafe impl InPlace for Condvar {}

/// Why a wait with a deadline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// By a notification, or for no reason.
    Notified,
    /// The deadline has passed (`ETIMEDOUT`).
    TimedOut,
}

impl Condvar {
    const_fn! {
        /// A condition variable for which nobody waits, for a `static` or a field of what is shared.
        pub fn new() -> Self {
            Self {
                magic: Magic::new(Kind::Condvar),
                sequence: Word::new(0),
                requeues: AtomicU32::new(0),
            }
        }
    }

    /// `int pthread_cond_init(pthread_cond_t *, const pthread_condattr_t *)`: makes one at the beginning
    /// of memory. Whoever used one there before must be gone.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
    /// for it.
    ///
    /// # References
    ///
    /// - [pthread_cond_init(3)](https://man7.org/linux/man-pages/man3/pthread_cond_init.3.html)
    #[doc(alias = "pthread_cond_init")]
    pub fn init(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let condvar = find::<Self>(memory)?;
        // Relaxed: the magic publishes them.
        condvar.sequence.store(0, Ordering::Relaxed);
        condvar.requeues.store(0, Ordering::Relaxed);
        condvar.magic.write(Kind::Condvar);
        Ok(condvar)
    }

    /// The condition variable at the beginning of memory.
    ///
    /// # Errors
    ///
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory for one.
    /// - [`AttachError::NotFound`], [`AttachError::Version`]: there is none, or one of another version.
    pub fn attach(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let condvar = find::<Self>(memory)?;
        condvar.magic.check(Kind::Condvar)?;
        Ok(condvar)
    }

    /// `int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)`: unlocks the mutex, waits for
    /// a notification, and locks it again. It may return for no reason.
    ///
    /// # Errors
    ///
    /// - [`LockError::OwnerDied`]: the mutex is locked again, and its last owner died.
    /// - [`Error::NotRecoverable`], [`Error::Corrupt`], [`Error::System`]: the mutex could not be locked
    ///   again, for a reason of [`Mutex::lock`](super::mutex::Mutex::lock). The guard is gone.
    /// - [`Error::Deadlock`]: a recursive mutex is locked more than once. It was not waited for, and is
    ///   locked once less.
    /// - [`Error::Forked`]: the guard is the copy of the parent's.
    ///
    /// # References
    ///
    /// - [pthread_cond_wait(3)](https://man7.org/linux/man-pages/man3/pthread_cond_wait.3p.html)
    #[doc(alias = "pthread_cond_wait")]
    pub fn wait<'a>(&self, guard: Guard<'a>) -> Result<Guard<'a>, LockError<'a>> {
        self.wait_for_change(guard, None).map(|(guard, _)| guard)
    }

    /// `int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock, const
    /// struct timespec *abstime)`: unlocks the mutex, waits for a notification, but not beyond the
    /// deadline, and locks it again, however long that takes. It may return for no reason.
    ///
    /// # Errors
    ///
    /// Those of [`Condvar::wait`]. That the deadline has passed is none.
    ///
    /// # References
    ///
    /// - [pthread_cond_timedwait(3)](https://man7.org/linux/man-pages/man3/pthread_cond_timedwait.3p.html)
    #[doc(alias = "pthread_cond_timedwait")]
    #[doc(alias = "pthread_cond_clockwait")]
    pub fn wait_deadline<'a>(
        &self,
        guard: Guard<'a>,
        deadline: Deadline,
    ) -> Result<(Guard<'a>, Reason), LockError<'a>> {
        self.wait_for_change(guard, Some(deadline))
    }

    /// The same with a lock that is no [`Mutex`](super::mutex::Mutex): `unlock` unlocks it, and the caller locks
    /// it again. Then nobody may use [`notify_all`](Condvar::notify_all): it moves who waits here to its mutex,
    /// where he takes a wake and does not lock, so that it is lost for one who sleeps there to lock. Ours look
    /// again after 50 ms; one of the C library can sleep on.
    ///
    /// # Errors
    ///
    /// Those of `unlock`. Nothing was waited for.
    pub fn wait_unlocked<E>(
        &self,
        unlock: impl FnOnce() -> Result<(), E>,
        deadline: Option<Deadline>,
    ) -> Result<Reason, E> {
        // Relaxed: the caller has the lock, so who changes what it guards after this changes the sequence
        // after this.
        let sequence = self.sequence.load(Ordering::Relaxed) & !ASLEEP;
        unlock()?;
        Ok(self.sleep(sequence, deadline))
    }

    /// `int pthread_cond_signal(pthread_cond_t *cond)`: lets at least one return that waits.
    ///
    /// # References
    ///
    /// - [pthread_cond_signal(3)](https://man7.org/linux/man-pages/man3/pthread_cond_signal.3p.html)
    #[inline]
    #[doc(alias = "pthread_cond_signal")]
    pub fn notify_one(&self) {
        // Relaxed: the mutex orders it behind what `wait` read.
        if self.sequence.fetch_add(STEP, Ordering::Relaxed) & ASLEEP != 0 {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        if wake_some(&self.sequence, 1) == 0 {
            // The bit is of one who is gone, and goes too, so that nobody makes the call again in vain: of
            // that loom cannot see anything. Who came meanwhile sleeps with it.
            self.wake_all();
        }
    }

    /// `int pthread_cond_broadcast(pthread_cond_t *cond)` by the owner of the mutex: lets all return that
    /// wait, one after the other.
    ///
    /// # References
    ///
    /// - [pthread_cond_broadcast(3)](https://man7.org/linux/man-pages/man3/pthread_cond_broadcast.3p.html)
    #[doc(alias = "pthread_cond_broadcast")]
    pub fn notify_all(&self, guard: &Guard<'_>) {
        // Those who wait must not believe that they were moved.
        if !guard.can_move_sleepers() {
            return self.wake_all();
        }
        let (seen, now) = self.change(|| {
            // Relaxed: (N1) publishes it.
            self.requeues.fetch_add(1, Ordering::Relaxed);
        });
        if seen & ASLEEP != 0 && !guard.move_sleepers(&self.sequence, now) {
            wake(&self.sequence);
        }
    }

    /// `int pthread_cond_broadcast(pthread_cond_t *cond)` by one who does not have the mutex: lets all
    /// return that wait. They are woken at the same time, and wait again, for the mutex.
    #[doc(alias = "pthread_cond_broadcast")]
    pub fn wake_all(&self) {
        let (seen, _) = self.change(|| {});
        if seen & ASLEEP != 0 {
            wake(&self.sequence);
        }
    }

    /// Changes the sequence and takes the bit away, and does something before if it is there; what the
    /// sequence was, and is.
    fn change(&self, before: impl Fn()) -> (u32, u32) {
        let mut seen = self.sequence.load(Ordering::Relaxed);
        loop {
            if seen & ASLEEP != 0 {
                before();
            }
            let now = (seen & !ASLEEP).wrapping_add(STEP);
            match self.sequence.compare_exchange_weak(
                seen,
                now,
                // (N1) Release: who finds it changed finds the requeue counted. Whoever needs that was
                // woken by the kernel, which orders it too: loom cannot see it.
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return (seen, now),
                Err(other) => seen = other,
            }
        }
    }

    fn wait_for_change<'a>(
        &self,
        guard: Guard<'a>,
        deadline: Option<Deadline>,
    ) -> Result<(Guard<'a>, Reason), LockError<'a>> {
        // Relaxed, both: the mutex is locked, so who changes what it guards after this changes the
        // sequence after this.
        let sequence = self.sequence.load(Ordering::Relaxed) & !ASLEEP;
        let requeues = self.requeues.load(Ordering::Relaxed);
        let mut reason = Reason::Notified;
        let guard = guard.suspend(|| {
            reason = self.sleep(sequence, deadline);
            // Relaxed: (W1) orders it.
            self.requeues.load(Ordering::Relaxed) != requeues
        })?;
        Ok((guard, reason))
    }

    /// Sleeps until the sequence is another one.
    fn sleep(&self, sequence: u32, deadline: Option<Deadline>) -> Reason {
        let mut spins = SPINS;
        loop {
            // (W1) Acquire: of (N1); loom cannot see it, as there.
            let mut seen = self.sequence.load(Ordering::Acquire);
            if seen == sequence && spins == 0 {
                match self.sequence.compare_exchange(
                    seen,
                    sequence | ASLEEP,
                    // The kernel compares again, and who notifies sees the bit in the word that it changes.
                    Ordering::Relaxed,
                    // As (W1); loom cannot see it.
                    Ordering::Acquire,
                ) {
                    Ok(_) => seen = sequence | ASLEEP,
                    Err(now) => seen = now,
                }
            }
            if seen & !ASLEEP != sequence {
                return Reason::Notified;
            }
            if spins > 0 {
                spins -= 1;
                spin();
                continue;
            }
            match sleep_a_while(&self.sequence, sequence | ASLEEP, deadline) {
                Ok(false) => {}
                // Whoever was to notify it may be dead.
                Ok(true) if !deadline.is_some_and(has_passed) => return Reason::Notified,
                Ok(true) => return Reason::TimedOut,
                Err(Error::TimedOut) => return Reason::TimedOut,
                // Not let to sleep by the kernel, it returns for no reason.
                Err(_) => {
                    give_way();
                    return Reason::Notified;
                }
            }
        }
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}
