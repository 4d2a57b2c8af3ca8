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
//! ring with one producer is fast without. Who enters later ends that, for the rest of the ring's life:
//!
//! | who is alone | who enters |
//! |---|---|
//! | (A1) says that it is busy | (B1) writes that nobody is alone |
//! | (A2) light fence | (B2) heavy fence |
//! | (A3) looks whether it is still alone, else takes turns like all | (B3) waits until who was alone is not busy, or gone |
//!
//! The two fences have an order (`wait.rs`). If (A2) is first, (B3) sees who is busy; if (B2) is first,
//! (A3) sees that it is not alone any more, and from then on so does every later one. So once (B3) has
//! found it not busy, nobody is in its turn alone ever again, and (B3) says so to all who enter later.
//!
//! A light fence is one only for who is reached by heavy ones: others do not become alone. Who is refused
//! the heavy fence cannot end what somebody alive has, and does not enter. So where the kernel has no
//! membarrier(2), nobody is alone, and all enter.
//!
//! One who died alone may have died in its turn. Whoever was not alone with it has not had a turn yet;
//! so the first turn of everyone counts as one that was taken over from a dead one.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (T1) `release` stores 0 | (T2) `acquire` exchanges it | what the turn guards |
//! | (T1) `release` stores 0 as busy | (B3) loads it | the same |
//! | (T3) the holder's death, or that it has left | (T3) `is_gone` is told so | the same |
//! | (T4) `leave`, `enter` and (B3) write who is alone | (T4) `enter` exchanges it | what they knew: the same, and who is busy |
//!
//! (T3) is an edge of the kernel's, which says of a process that it has ended after all that it did; or
//! one of the side's, when a later one has entered the slot (`end.rs`). A holder that is newer
//! than what is visible of its slot is not gone.

use core::mem;

use rustix::io::Errno;

use super::Error;
use super::end::Side;
use super::record::Holder;
use crate::sync::{
    AtomicU32, Ordering, SPINS, YIELDS, give_way, heavy_fence, layout, light_fence, spin,
};

const NOBODY: u32 = 0;
/// With who was alone: it is not to be any more, and may still be in its turn. No holder is so large.
const ENDING: u32 = 1 << 30;
/// Nobody is alone any more.
const SHARED: u32 = 1 << 31;

/// How often who enters looks anew at what others have done meanwhile.
const TRIES: u32 = 16;

/// Whose turn it is among those of a side.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Turn {
    /// Who of those that share the side is in its turn.
    pub(crate) holder: AtomicU32,
    /// Who is alone, perhaps [`ENDING`]; [`NOBODY`] or [`SHARED`].
    pub(crate) alone: AtomicU32,
    /// Who is, or was, alone, while it is in its turn. Written by that one only.
    pub(crate) busy: AtomicU32,
}

layout! {
    Turn: size 12, align 4;
    Turn { holder: 0, alone: 4, busy: 8 }
}

/// What one of a side knows of the turn.
#[derive(Debug)]
pub(crate) struct Ticket {
    me: u32,
    mode: Mode,
    /// It has not had a turn yet, and so may come after one who died in its turn.
    is_new: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// All turns are ours, until (A3) says otherwise.
    Alone,
    /// (B3) is to be done.
    Entering,
    /// Turns are exchanged.
    Shared,
}

impl Ticket {
    /// Whether a turn costs no exchange, as far as it is known.
    #[inline(always)]
    pub(crate) fn is_alone(&self) -> bool {
        self.mode == Mode::Alone
    }
}

pub(crate) const fn word(holder: Holder) -> u32 {
    (holder.generation as u32) << 8 | (holder.slot as u32 + 1)
}

/// The one in a word. Who is in a word that nobody writes has no slot, and so is gone.
const fn holder(word: u32) -> Holder {
    Holder {
        slot: (word as u8).wrapping_sub(1),
        generation: (word >> 8) as u16,
    }
}

/// Whether somebody who may be in its turn is, or was, alone.
fn is_another_ones(alone: u32, side: &Side) -> bool {
    match alone {
        NOBODY | SHARED => false,
        who => !side.is_gone(holder(who)),
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

    /// Whether who enters the side now would be refused. Nothing is changed.
    pub(crate) fn is_barred(&self, side: &Side) -> bool {
        // Relaxed: `enter` decides. That the fence is refused, loom cannot see here, since `enter` is too.
        is_another_ones(self.alone.load(Ordering::Relaxed), side) && !heavy_fence()
    }

    /// Comes to the turn of a side that `me` has entered.
    ///
    /// # Errors
    ///
    /// - `NOSYS`: somebody is alone, or was a moment ago, and the kernel refuses the fence that would end it.
    /// - `AGAIN`: others come and go all the time.
    pub(crate) fn enter(&self, me: Holder, side: &Side) -> Result<Ticket, Errno> {
        let me = word(me);
        // Relaxed: (T4) follows.
        let mut seen = self.alone.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            // (T3)
            let (next, mode) = if is_another_ones(seen, side) {
                (seen | ENDING, Mode::Entering)
            } else if seen >= ENDING || side.is_unreached() {
                (SHARED, Mode::Shared)
            } else {
                (me, Mode::Alone)
            };
            // (B1) (T4) Relaxed on failure: the next one follows. Who is alone has the first slot, so
            // that (E3) makes these edges too, and who comes third comes behind one of two slots:
            // loom cannot see them.
            let written = self.exchange_alone(seen, next, Ordering::AcqRel);
            if let Err(now) = written {
                seen = now;
                continue;
            }
            // (B2) If it comes before (A2), (A3) sees that nobody is alone; else (B3) sees who is busy.
            if mode == Mode::Entering && !heavy_fence() {
                return Err(Errno::NOSYS);
            }
            return Ok(Ticket {
                me,
                mode,
                is_new: true,
            });
        }
        // Only who does not keep to the rules goes on changing it.
        Err(Errno::AGAIN)
    }

    fn exchange_alone(&self, seen: u32, next: u32, order: Ordering) -> Result<u32, u32> {
        // Relaxed on failure: the callers do nothing then.
        self.alone
            .compare_exchange(seen, next, order, Ordering::Relaxed)
    }

    /// Leaves, so that the next one can be alone.
    pub(crate) fn leave(&self, ticket: &Ticket) {
        if ticket.is_alone() {
            // (T4) On failure somebody has come, and settles with (T1). As in `enter`, loom cannot see it.
            let _ = self.exchange_alone(ticket.me, NOBODY, Ordering::Release);
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
        if !ticket.is_new && self.take(ticket) {
            Ok(false)
        } else {
            self.wait(ticket, side)
        }
    }

    #[inline(always)]
    fn take(&self, ticket: &mut Ticket) -> bool {
        match ticket.mode {
            Mode::Alone => {
                // (A1) Relaxed: (A2) orders it.
                self.busy.store(ticket.me, Ordering::Relaxed);
                // (A2) If it comes before (B2), (B3) sees who is busy; else (A3) sees who has come.
                light_fence();
                // (A3) Relaxed: (A2) orders it.
                self.alone.load(Ordering::Relaxed) == ticket.me || self.retreat(ticket)
            }
            Mode::Entering => false,
            Mode::Shared => self.exchange(NOBODY, ticket.me),
        }
    }

    /// (A3) From now on we take turns like all. There is none yet: `false`.
    #[cold]
    fn retreat(&self, ticket: &mut Ticket) -> bool {
        ticket.mode = Mode::Shared;
        // (T1) also for the turns before this one, since (B3) may read no other 0. loom cannot see it, since it
        // lets a later store of a thread publish what an earlier one did.
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

    /// (B3)
    fn settle(&self, ticket: &mut Ticket, is_over: impl FnOnce(u32) -> bool) {
        // (T1)
        if ticket.mode == Mode::Entering && is_over(self.busy.load(Ordering::Acquire)) {
            ticket.mode = Mode::Shared;
            // (T4) Who enters later needs not do (B3). Release: loom cannot see it, as in `enter`.
            self.alone.store(SHARED, Ordering::Release);
        }
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
            self.settle(ticket, |busy| busy == NOBODY);
            // Relaxed: (T2) follows.
            let is_free = ticket.is_alone() || self.holder.load(Ordering::Relaxed) == NOBODY;
            if is_free && self.take(ticket) {
                return Ok(mem::take(&mut ticket.is_new));
            }
        }
        // (T3) Who is gone does nothing more.
        self.settle(ticket, |busy| side.is_gone(holder(busy)));
        // Relaxed: (T2) or (T3) follows.
        let seen = self.holder.load(Ordering::Relaxed);
        let is_ours = ticket.mode == Mode::Shared
            && (seen == NOBODY || side.is_gone(holder(seen)))
            && self.exchange(seen, ticket.me);
        match is_ours {
            true => Ok(mem::take(&mut ticket.is_new) || seen != NOBODY),
            false => Err(Error::Busy),
        }
    }

    /// Gives the turn to the next one.
    #[inline(always)]
    pub(crate) fn release(&self, ticket: &Ticket) {
        let held = match ticket.mode {
            Mode::Alone => &self.busy,
            _ => &self.holder,
        };
        // (T1)
        held.store(NOBODY, Ordering::Release);
    }
}
