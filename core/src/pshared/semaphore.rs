//! A semaphore: a counter that some raise and others wait for.
//!
//! Mirrors sem_overview(7): sem_wait(3), sem_post(3), sem_getvalue(3). The format is our own, the same on
//! all machines, and faster than the C library's. A C program has `sem_t`: for one that is shared with C,
//! or that has a name, use [`posix::sem`](crate::posix::sem).
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::pshared::Error;
//! use linipc_core::pshared::semaphore::Semaphore;
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! let semaphore = Semaphore::init(region.bytes(), 1)?;
//! semaphore.wait()?;
//! assert_eq!(semaphore.try_wait(), Err(Error::Busy));
//! semaphore.post()?;
//! assert_eq!(semaphore.value(), 1);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Format
//!
//! ```text
//!  0       4       8
//!  +-------+-------+
//!  | magic | value |   value: units | somebody may sleep << 31
//!  +-------+-------+
//! ```
//!
//! Who finds no unit sets the bit and sleeps while the word is just that. Who posts and sees the bit takes it
//! away, and wakes as many as there are new units. Who was woken does not know whether others sleep: it sets
//! the bit again, and wakes the next one if it left a unit.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (P1) `post` raises the word | (T1) a later one takes a unit | what was done before the post |
//!
//! # Pitfalls
//!
//! - Nobody owns a unit: when a process is killed between wait and post, nobody posts for it. Where that
//!   matters, use a [`mutex`](super::mutex).
//! - Who came later may be faster than who sleeps.
//! - If one that was just woken is killed, the others see its unit when they look again, after 50 ms at
//!   most.

use super::{AttachError, Error, InPlace, Kind, Magic, PAUSE, find, sleep_a_while};
use crate::futex::Deadline;
use crate::shared::SharedBytes;
use crate::sync::{Ordering, SPINS, Word, const_fn, layout, spin, wake_one, wake_some};

/// Somebody may sleep.
const ASLEEP: u32 = 1 << 31;

/// The units, and room for those that are one too many for a moment.
const VALUE: u32 = ASLEEP - 1;

/// How often who waits looks before it sleeps: for some 15 us, since units often take long to come.
const LOOKS: u32 = SPINS / 4;

/// The highest value.
pub const VALUE_MAX: u32 = VALUE / 2;

/// A semaphore, as it is in memory.
#[derive(Debug)]
#[repr(C)]
#[doc(alias = "sem_t")]
pub struct Semaphore {
    magic: Magic,
    value: Word,
}

layout! {
    Semaphore: size 8, align 4;
    Semaphore { magic: 0, value: 4 }
}

// SAFETY: It is `repr(C)`, and nothing but atomics without padding.
unsafe impl InPlace for Semaphore {}

impl Semaphore {
    const_fn! {
        /// A semaphore with so many units, for a `static` or a field of what is shared. Above
        /// [`VALUE_MAX`] it is that.
        pub fn new(value: u32) -> Self {
            Self {
                magic: Magic::new(Kind::Semaphore),
                value: Word::new(if value > VALUE_MAX { VALUE_MAX } else { value }),
            }
        }
    }

    /// `int sem_init(sem_t *sem, int pshared, unsigned int value)`: makes a semaphore with so many units at
    /// the beginning of memory. Whoever used one there before must be gone.
    ///
    /// # Errors
    ///
    /// - [`AttachError::OutOfRange`]: more than [`VALUE_MAX`].
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
    ///   for it.
    ///
    /// # References
    ///
    /// - [sem_init(3)](https://man7.org/linux/man-pages/man3/sem_init.3.html)
    #[doc(alias = "sem_init")]
    pub fn init(memory: SharedBytes<'_>, value: u32) -> Result<&Self, AttachError> {
        if value > VALUE_MAX {
            return Err(AttachError::OutOfRange {
                min: 0,
                max: VALUE_MAX,
            });
        }
        let semaphore = find::<Self>(memory)?;
        // Relaxed: the magic publishes it.
        semaphore.value.store(value, Ordering::Relaxed);
        semaphore.magic.write(Kind::Semaphore);
        Ok(semaphore)
    }

    /// The semaphore at the beginning of memory.
    ///
    /// # Errors
    ///
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory for one.
    /// - [`AttachError::NotFound`], [`AttachError::Version`]: there is none, or one of another version.
    pub fn attach(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let semaphore = find::<Self>(memory)?;
        semaphore.magic.check(Kind::Semaphore)?;
        Ok(semaphore)
    }

    /// `int sem_getvalue(sem_t *sem, int *sval)`: how many units there are; it may have changed already.
    ///
    /// # References
    ///
    /// - [sem_getvalue(3)](https://man7.org/linux/man-pages/man3/sem_getvalue.3.html)
    #[inline]
    #[doc(alias = "sem_getvalue")]
    pub fn value(&self) -> u32 {
        // Relaxed: the value alone orders nothing.
        (self.value.load(Ordering::Relaxed) & VALUE).min(VALUE_MAX)
    }

    /// `int sem_trywait(sem_t *sem)`: takes a unit, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]: there is none.
    ///
    /// # References
    ///
    /// - [sem_wait(3)](https://man7.org/linux/man-pages/man3/sem_wait.3.html)
    #[inline]
    #[doc(alias = "sem_trywait")]
    pub fn try_wait(&self) -> Result<(), Error> {
        // Relaxed: the exchange looks again.
        match self.take(self.value.load(Ordering::Relaxed), 0) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Busy),
        }
    }

    /// `int sem_wait(sem_t *sem)`: takes a unit; waits until there is one.
    ///
    /// # Errors
    ///
    /// [`Error::System`]: the kernel does not let it sleep.
    ///
    /// # References
    ///
    /// - [sem_wait(3)](https://man7.org/linux/man-pages/man3/sem_wait.3.html)
    #[inline]
    #[doc(alias = "sem_wait")]
    pub fn wait(&self) -> Result<(), Error> {
        match self.try_wait() {
            Ok(()) => Ok(()),
            Err(_) => self.wait_for_unit(None),
        }
    }

    /// `int sem_clockwait(sem_t *sem, clockid_t clockid, const struct timespec *abstime)`: takes a unit;
    /// waits until there is one, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: the deadline has passed. A unit that is there is taken even then.
    /// - [`Error::System`]: the kernel does not let it sleep.
    ///
    /// # References
    ///
    /// - [sem_timedwait(3)](https://man7.org/linux/man-pages/man3/sem_timedwait.3p.html)
    #[inline]
    #[doc(alias = "sem_timedwait")]
    #[doc(alias = "sem_clockwait")]
    pub fn wait_deadline(&self, deadline: Deadline) -> Result<(), Error> {
        match self.try_wait() {
            Ok(()) => Ok(()),
            Err(_) => self.wait_for_unit(Some(deadline)),
        }
    }

    /// `int sem_post(sem_t *sem)`: adds a unit, and wakes one who sleeps.
    ///
    /// # Errors
    ///
    /// [`Error::Overflow`]: the value is [`VALUE_MAX`].
    ///
    /// # References
    ///
    /// - [sem_post(3)](https://man7.org/linux/man-pages/man3/sem_post.3.html)
    #[inline]
    #[doc(alias = "sem_post")]
    pub fn post(&self) -> Result<(), Error> {
        // (P1) Release: what was done before is visible to whom takes the unit.
        let seen = self.value.fetch_add(1, Ordering::Release);
        if seen >= VALUE_MAX {
            return self.finish_post(seen);
        }
        Ok(())
    }

    /// There are too many, or somebody may sleep.
    #[cold]
    #[inline(never)]
    fn finish_post(&self, seen: u32) -> Result<(), Error> {
        let is_too_many = seen & VALUE >= VALUE_MAX;
        if is_too_many {
            // Relaxed: it publishes nothing.
            let less = |now: u32| (now & VALUE != 0).then(|| now - 1);
            let _ = self
                .value
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        if seen & ASLEEP != 0 {
            // Relaxed: before the wake, for those whom it leaves asleep are told of by the one who is woken.
            self.value.fetch_and(!ASLEEP, Ordering::Relaxed);
            wake_one(&self.value);
        }
        match is_too_many {
            true => Err(Error::Overflow),
            false => Ok(()),
        }
    }

    /// Adds so many units at once, and wakes as many who sleep.
    ///
    /// # Errors
    ///
    /// [`Error::Overflow`]: the value would be above [`VALUE_MAX`]. Nothing is added.
    pub fn post_many(&self, count: u32) -> Result<(), Error> {
        // It would take the bit away and wake nobody.
        if count == 0 {
            return Ok(());
        }
        // Relaxed: the exchange looks again.
        let mut seen = self.value.load(Ordering::Relaxed);
        loop {
            let value = seen & VALUE;
            if count > VALUE_MAX.saturating_sub(value) {
                return Err(Error::Overflow);
            }
            // (P1) Release: as in `post`.
            match self.value.compare_exchange_weak(
                seen,
                value + count,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & ASLEEP != 0 {
            wake_some(&self.value, count);
        }
        Ok(())
    }

    /// Takes a unit, and sets the bit if `others` is it. Gives how many are left; or the word, without a
    /// unit.
    #[inline(always)]
    fn take(&self, mut seen: u32, others: u32) -> Result<u32, u32> {
        while seen & VALUE != 0 {
            // (T1) Acquire: what the poster did before is visible. Relaxed on failure: nothing is taken.
            match self.value.compare_exchange_weak(
                seen,
                (seen - 1) | others,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok((seen - 1) & VALUE),
                Err(now) => seen = now,
            }
        }
        Err(seen)
    }

    #[cold]
    fn wait_for_unit(&self, deadline: Option<Deadline>) -> Result<(), Error> {
        // Who has slept does not know whether others do.
        let mut others = 0;
        let mut spins = LOOKS;
        let mut pause = 1;
        // Relaxed, here and below: the exchanges look again.
        let mut seen = self.value.load(Ordering::Relaxed);
        loop {
            match self.take(seen, others) {
                Ok(left) => {
                    if others != 0 && left != 0 {
                        // Who posted these saw no bit.
                        wake_one(&self.value);
                    }
                    return Ok(());
                }
                Err(now) => seen = now,
            }
            if spins > 0 {
                spins -= 1;
                for _ in 0..pause {
                    spin();
                }
                pause = (2 * pause).min(PAUSE);
                seen = self.value.load(Ordering::Relaxed);
                continue;
            }
            // Relaxed: the kernel compares again, and (P1) sees the bit in the very word that it exchanges.
            // It is set also by one whose deadline has passed, which may have been woken in place of
            // another one.
            if seen & ASLEEP == 0 {
                if let Err(now) = self.value.compare_exchange_weak(
                    seen,
                    ASLEEP,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    seen = now;
                    continue;
                }
            }
            sleep_a_while(&self.value, ASLEEP, deadline)?;
            others = ASLEEP;
            spins = LOOKS;
            seen = self.value.load(Ordering::Relaxed);
        }
    }
}
