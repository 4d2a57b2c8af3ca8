//! A turn: a lock over a few stores, which the next one takes over from a holder that is dead.
//!
//! ```text
//!  63                        24 23                 8 7           0
//!  +---------------------------+--------------------+-------------+
//!  | 0                         | generation of slot | slot + 1    |
//!  +---------------------------+--------------------+-------------+
//! ```
//!
//! A word that is 0 is nobody's turn. What the turn guards must be right after each of its holder's
//! stores, since the holder may die behind any of them.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (T1) `release` stores 0 | (T2) `acquire` exchanges it | what the turn guards |
//! | the holder's death | (T3) `is_gone` asks the kernel | the same |
//!
//! The generation is in the word, so that (T3) never takes the turn from another one who has come into
//! the same slot meanwhile.

use super::Error;
use super::end::Side;
use super::record::Holder;
use crate::sync::{AtomicU64, Ordering, SPINS, YIELDS, give_way, spin};

const NOBODY: u64 = 0;

/// Whose turn it is among those of a side.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Turn(AtomicU64);

const fn word(holder: Holder) -> u64 {
    (holder.generation as u64) << 8 | (holder.slot as u64 + 1)
}

impl Turn {
    /// Nobody's.
    #[allow(dead_code, reason = "mappings are formatted; models make theirs")]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(NOBODY))
    }

    /// Nobody's again.
    pub(crate) fn clear(&self) {
        // Relaxed: (M1) publishes it.
        self.0.store(NOBODY, Ordering::Relaxed);
    }

    /// Waits a little for the turn, which belongs to those of a side; it is ours until released. Says whether
    /// it was taken over from a dead one.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]: it is another one's who is alive.
    #[inline(always)]
    pub(crate) fn acquire(&self, me: Holder, side: &Side) -> Result<bool, Error> {
        if self.exchange(NOBODY, me) {
            Ok(false)
        } else {
            self.wait(me, side)
        }
    }

    #[inline(always)]
    fn exchange(&self, seen: u64, me: Holder) -> bool {
        // (T2) What the last holder did is visible. Relaxed on failure: nothing is done then.
        self.0
            .compare_exchange(seen, word(me), Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[cold]
    fn wait(&self, me: Holder, side: &Side) -> Result<bool, Error> {
        for look in 0..SPINS + YIELDS {
            if look < SPINS {
                spin();
            } else {
                // The holder may need this very CPU.
                give_way();
            }
            // Relaxed: (T2) follows.
            if self.0.load(Ordering::Relaxed) == NOBODY && self.exchange(NOBODY, me) {
                return Ok(false);
            }
        }
        // Relaxed: (T2) or (T3) follows.
        let seen = self.0.load(Ordering::Relaxed);
        let holder = Holder {
            slot: (seen as u8).wrapping_sub(1),
            generation: (seen >> 8) as u16,
        };
        // (T3) Who is gone does nothing more. A word that nobody writes has no holder either.
        let is_free = seen == NOBODY || side.is_gone(holder);
        if is_free && self.exchange(seen, me) {
            Ok(seen != NOBODY)
        } else {
            Err(Error::Busy)
        }
    }

    /// Gives the turn to the next one.
    #[inline(always)]
    pub(crate) fn release(&self) {
        // (T1)
        self.0.store(NOBODY, Ordering::Release);
    }
}
