//! An event: something has happened, and whoever waits for that goes on.
//!
//! Linux has no call of this kind between processes without a descriptor (with one: eventfd(2)); Windows
//! has it as `CreateEvent`. It is set, and reset: by hand, or by the one whose wait it ends ([`Reset`]).
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::pshared::Error;
//! use linipc_core::pshared::event::{Event, Reset};
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! let ready = Event::init(region.bytes(), Reset::Manual)?;
//! assert_eq!(ready.try_wait(), Err(Error::Busy));
//! ready.set();
//! ready.wait()?;
//! // It stays set, until somebody resets it.
//! ready.wait()?;
//! assert!(ready.reset());
//! assert!(!ready.is_set());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Format
//!
//! ```text
//!  0       4       8
//!  +-------+-------+
//!  | magic | state |   state: is set | somebody may sleep << 1 | reset by hand << 2 | sets << 3
//!  +-------+-------+
//! ```
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (S1) `set` exchanges the state | (W1) a wait ends, (W2) takes it; (R1) `reset`; (I1) `is_set` | what was done before the set |
//!
//! # Pitfalls
//!
//! - Events are not counted: two sets of an event that nobody has taken in between are one. Where each
//!   counts, use a [`semaphore`](super::semaphore).
//! - If one that was just woken is killed, the others see the event when they look again, after 50 ms
//!   at most. One that has taken it and is killed has taken it.

use super::{AttachError, Error, InPlace, Kind, Magic, find, sleep_a_while};
use crate::futex::Deadline;
use crate::shared::SharedBytes;
use crate::sync::{Ordering, SPINS, Word, const_fn, layout, spin, wake, wake_one};

/// It is set.
const SET: u32 = 1;
/// Somebody may sleep.
const ASLEEP: u32 = 2;
/// It is reset by hand.
const MANUAL: u32 = 4;
/// The rest counts how often it was set, so that who waits learns of it after a reset.
const COUNT: u32 = 8;

/// Who resets an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The wait that it ends: each set ends one wait, now or later.
    Auto,
    /// [`Event::reset`]: a set ends all waits that are going on, and all that begin before the reset.
    Manual,
}

impl Reset {
    const fn bits(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Manual => MANUAL,
        }
    }
}

/// An event, as it is in memory.
#[derive(Debug)]
#[repr(C)]
#[doc(alias = "CreateEvent")]
pub struct Event {
    magic: Magic,
    state: Word,
}

layout! {
    Event: size 8, align 4;
    Event { magic: 0, state: 4 }
}

// SAFETY: It is `repr(C)`, and nothing but atomics without padding.
unsafe impl InPlace for Event {}

impl Event {
    const_fn! {
        /// An event that is not set, for a `static` or a field of what is shared.
        pub fn new(reset: Reset) -> Self {
            Self {
                magic: Magic::new(Kind::Event),
                state: Word::new(reset.bits()),
            }
        }
    }

    /// Makes an event that is not set at the beginning of memory. Whoever used one there before must be
    /// gone.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
    /// for it.
    pub fn init(memory: SharedBytes<'_>, reset: Reset) -> Result<&Self, AttachError> {
        let event = find::<Self>(memory)?;
        // Relaxed: the magic publishes it.
        event.state.store(reset.bits(), Ordering::Relaxed);
        event.magic.write(Kind::Event);
        Ok(event)
    }

    /// The event at the beginning of memory.
    ///
    /// # Errors
    ///
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory for one.
    /// - [`AttachError::NotFound`], [`AttachError::Version`]: there is none, or one of another version.
    pub fn attach(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let event = find::<Self>(memory)?;
        event.magic.check(Kind::Event)?;
        Ok(event)
    }

    /// Sets it, and wakes one who sleeps, or all if it is reset by hand.
    #[doc(alias = "SetEvent")]
    pub fn set(&self) {
        // Relaxed: the exchange looks again.
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let count = if seen & SET == 0 { COUNT } else { 0 };
            let set = (seen & !ASLEEP | SET).wrapping_add(count);
            // (S1) Release: what was done before is visible to whose wait it ends. Also if it is set
            // already.
            match self
                .state
                .compare_exchange_weak(seen, set, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & ASLEEP != 0 {
            match seen & MANUAL {
                0 => wake_one(&self.state),
                _ => drop(wake(&self.state)),
            }
        }
    }

    /// Resets it; whether it was set.
    #[doc(alias = "ResetEvent")]
    pub fn reset(&self) -> bool {
        // (R1) Acquire: what was done before a set that is undone is visible, for nobody else is told.
        self.state.fetch_and(!SET, Ordering::Acquire) & SET != 0
    }

    /// Whether it is set; it may have changed already.
    pub fn is_set(&self) -> bool {
        // (I1) Acquire: what was done before the set is visible.
        self.state.load(Ordering::Acquire) & SET != 0
    }

    /// Goes on if it is set. Then it is reset, unless that is done by hand.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]: it is not set.
    pub fn try_wait(&self) -> Result<(), Error> {
        // (W1) Acquire: what was done before the set is visible.
        match self.take(self.state.load(Ordering::Acquire), 0) {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Busy),
        }
    }

    /// Waits until it is set. Then it is reset, unless that is done by hand.
    ///
    /// # Errors
    ///
    /// [`Error::System`]: the kernel does not let it sleep.
    #[doc(alias = "WaitForSingleObject")]
    pub fn wait(&self) -> Result<(), Error> {
        self.wait_for_set(None)
    }

    /// Waits until it is set, but not beyond the deadline. Then it is reset, unless that is done by hand.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: the deadline has passed. An event that is set ends the wait even then.
    /// - [`Error::System`]: the kernel does not let it sleep.
    pub fn wait_deadline(&self, deadline: Deadline) -> Result<(), Error> {
        self.wait_for_set(Some(deadline))
    }

    /// Whether one has been about to sleep since it was set, in a model.
    #[cfg(loom)]
    pub fn is_waited_for(&self) -> bool {
        self.state.load(Ordering::Relaxed) & ASLEEP != 0
    }

    /// Goes on if it is set; else gives the state. Whoever takes it sets the bit if `others` is it.
    fn take(&self, mut seen: u32, others: u32) -> Result<(), u32> {
        while seen & SET != 0 {
            if seen & MANUAL != 0 {
                return Ok(());
            }
            // (W2) Acquire: as (W1). Relaxed on failure: it is taken by an exchange only.
            match self.state.compare_exchange_weak(
                seen,
                seen & !SET | others,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
        Err(seen)
    }

    fn wait_for_set(&self, deadline: Option<Deadline>) -> Result<(), Error> {
        // Who has slept does not know whether others do.
        let mut others = 0;
        let mut spins = SPINS;
        // (W1) Acquire, here and below: what was done before the set is visible, also if it is reset again.
        let mut seen = self.state.load(Ordering::Acquire);
        let begun = seen / COUNT;
        loop {
            match self.take(seen, others) {
                Ok(()) => return Ok(()),
                Err(now) => seen = now,
            }
            if seen & MANUAL != 0 && seen / COUNT != begun {
                return Ok(());
            }
            if spins > 0 {
                spins -= 1;
                spin();
                // (W1) Acquire. Models do not spin: loom cannot see it.
                seen = self.state.load(Ordering::Acquire);
                continue;
            }
            // Relaxed: the kernel compares again, and (S1) sees the bit in the very word that it exchanges.
            // It is set also by one whose deadline has passed, which may have been woken in place of
            // another one. Acquire on failure, as (W1).
            if seen & ASLEEP == 0 {
                if let Err(now) = self.state.compare_exchange_weak(
                    seen,
                    seen | ASLEEP,
                    Ordering::Relaxed,
                    Ordering::Acquire,
                ) {
                    seen = now;
                    continue;
                }
            }
            sleep_a_while(&self.state, seen | ASLEEP, deadline)?;
            others = ASLEEP;
            spins = SPINS;
            seen = self.state.load(Ordering::Acquire);
        }
    }
}
