//! A turn: a lock over a few stores, which the next one takes over from a holder that is dead.
//!
//! ```text
//!  31      24 23                 8 7           0
//!  +---------+--------------------+-------------+
//!  | 0       | generation of slot | slot + 1    |   who it is; 0: nobody
//!  +---------+--------------------+-------------+
//! ```
//!
//! What the turn guards must be right after each of its holder's stores, since the holder may die
//! behind any of them. The generation is in the word, so that the turn is never taken from another one
//! who has come into the same slot meanwhile.
//!
//! # Alone
//!
//! Who enters a side on which nobody else is has all turns, and only says when it is in one: the
//! exchange that takes a turn would wait until all that was stored before is visible, which is what a
//! ring with one producer is fast without. Who enters later takes that privilege away, for good:
//!
//! | who is alone | who enters |
//! |---|---|
//! | (A1) says that it is busy | (B1) writes that nobody is alone |
//! | (A2) light fence | (B2) heavy fence |
//! | (A3) looks whether it is still alone, else takes turns like all | (B3) waits until nobody is busy, or whoever is has died |
//!
//! The two fences have an order (`wait.rs`). If (A2) is first, (B3) sees who is busy; if (B2) is first,
//! (A3) sees that it is not alone.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (T1) `release` stores 0 | (T2) `acquire` exchanges it | what the turn guards |
//! | (T1) `release` stores 0 as busy | (B3) loads it | the same |
//! | (T4) `leave` gives the privilege back | (T4) the next `enter` | the same |
//! | the holder's death | (T3) `is_gone` asks the kernel | the same |

use core::mem;

use super::Error;
use super::end::Side;
use super::record::Holder;
use crate::sync::{
    AtomicU32, Ordering, SPINS, YIELDS, give_way, heavy_fence, light_fence, nap, spin,
};

const NOBODY: u32 = 0;
/// Nobody is alone any more. No holder is so large.
const SHARED: u32 = 1 << 31;

/// Whose turn it is among those of a side.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) holder: AtomicU32,
    /// Who is alone, [`NOBODY`] or [`SHARED`].
    pub(crate) alone: AtomicU32,
    /// Who is, or was, alone, while it is in its turn. Written by that one only.
    pub(crate) busy: AtomicU32,
}

/// What one of a side knows of the turn.
#[derive(Debug)]
pub(crate) struct Ticket {
    me: u32,
    is_alone: bool,
    /// (B3) was done.
    is_settled: bool,
    /// It has not had a turn yet, and so may come after one who died in its turn.
    is_new: bool,
}

impl Ticket {
    /// Whether a turn costs no exchange, as far as it is known.
    #[inline(always)]
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone
    }
}

pub(crate) const fn word(holder: Holder) -> u32 {
    (holder.generation as u32) << 8 | (holder.slot as u32 + 1)
}

/// The one in a word. Who is in a word that nobody writes is gone.
const fn holder(word: u32) -> Holder {
    Holder {
        slot: (word as u8).wrapping_sub(1),
        generation: (word >> 8) as u16,
    }
}

impl Turn {
    /// Nobody's.
    #[allow(dead_code, reason = "mappings are formatted; models make theirs")]
    pub(crate) fn new() -> Self {
        Self {
            holder: AtomicU32::new(NOBODY),
            alone: AtomicU32::new(NOBODY),
            busy: AtomicU32::new(NOBODY),
        }
    }

    /// Nobody's again.
    pub(crate) fn clear(&self) {
        for word in [&self.holder, &self.alone, &self.busy] {
            // Relaxed: (M1) publishes it.
            word.store(NOBODY, Ordering::Relaxed);
        }
    }

    /// Comes to the turn of a side that `me` has entered.
    pub(crate) fn enter(&self, me: Holder, side: &Side) -> Ticket {
        let me = word(me);
        // Relaxed: (T4) or (T3) follows.
        let seen = self.alone.load(Ordering::Relaxed);
        let is_free = seen == NOBODY || seen != SHARED && side.is_gone(holder(seen));
        // Who is not reached by heavy fences takes turns. (T4) Relaxed on failure: another one came.
        let is_alone = is_free
            && !side.is_unreached()
            && self
                .alone
                .compare_exchange(seen, me, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if !is_alone {
            // (B1) Relaxed: (B2) orders it.
            self.alone.store(SHARED, Ordering::Relaxed);
            // (B2) Where there is none, a store takes less than a millisecond to be seen.
            if !heavy_fence() {
                nap();
            }
        }
        Ticket {
            me,
            is_alone,
            is_settled: false,
            is_new: true,
        }
    }

    /// Leaves, so that the next one can be alone.
    pub(crate) fn leave(&self, ticket: &Ticket) {
        if ticket.is_alone {
            // (T4) Relaxed on failure: somebody has come, and settles with (T1).
            let _ = self.alone.compare_exchange(
                ticket.me,
                NOBODY,
                Ordering::Release,
                Ordering::Relaxed,
            );
        }
    }

    /// Waits a little for the turn, which is ours until released. Says whether one who died in its turn
    /// may have left something half done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]: it is another one's who is alive.
    #[inline(always)]
    pub(crate) fn acquire(&self, ticket: &mut Ticket, side: &Side) -> Result<bool, Error> {
        if ticket.is_settled && self.take(ticket) {
            Ok(false)
        } else {
            self.wait(ticket, side)
        }
    }

    #[inline(always)]
    fn take(&self, ticket: &mut Ticket) -> bool {
        if !ticket.is_alone {
            return self.exchange(NOBODY, ticket.me);
        }
        // (A1) Relaxed: (A2) orders it.
        self.busy.store(ticket.me, Ordering::Relaxed);
        // (A2) If it comes before (B2), (B3) sees who is busy; else (A3) sees that somebody has come.
        light_fence();
        // (A3) Relaxed: (A2) orders it.
        if self.alone.load(Ordering::Relaxed) == ticket.me {
            return true;
        }
        ticket.is_alone = false;
        // (T1)
        self.busy.store(NOBODY, Ordering::Release);
        false
    }

    #[inline(always)]
    fn exchange(&self, seen: u32, me: u32) -> bool {
        // (T2) What the last holder did is visible. Relaxed on failure: nothing is done then.
        self.holder
            .compare_exchange(seen, me, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[cold]
    fn wait(&self, ticket: &mut Ticket, side: &Side) -> Result<bool, Error> {
        for look in 0..=SPINS + YIELDS {
            if look > SPINS {
                // The holder may need this very CPU.
                give_way();
            } else if look > 0 {
                spin();
            }
            // (B3) (T1)
            ticket.is_settled = ticket.is_settled || self.busy.load(Ordering::Acquire) == NOBODY;
            // Relaxed: (T2) follows.
            let is_free = self.holder.load(Ordering::Relaxed) == NOBODY;
            if ticket.is_settled && is_free && self.take(ticket) {
                return Ok(mem::take(&mut ticket.is_new));
            }
        }
        if !ticket.is_settled {
            // (B3) Relaxed: (T3) follows.
            let busy = self.busy.load(Ordering::Relaxed);
            ticket.is_settled = side.is_gone(holder(busy));
        }
        // Relaxed: (T2) or (T3) follows.
        let seen = self.holder.load(Ordering::Relaxed);
        // (T3) Who is gone does nothing more.
        let is_free = seen == NOBODY || side.is_gone(holder(seen));
        if !ticket.is_settled || !is_free {
            return Err(Error::Busy);
        }
        let is_ours = if seen == NOBODY {
            self.take(ticket)
        } else {
            // Where another one has had a turn, nobody is alone.
            ticket.is_alone = false;
            self.exchange(seen, ticket.me)
        };
        if !is_ours {
            return Err(Error::Busy);
        }
        Ok(mem::take(&mut ticket.is_new) || seen != NOBODY)
    }

    /// Gives the turn to the next one.
    #[inline(always)]
    pub(crate) fn release(&self, ticket: &Ticket) {
        let held = if ticket.is_alone {
            &self.busy
        } else {
            &self.holder
        };
        // (T1)
        held.store(NOBODY, Ordering::Release);
    }
}
