//! The two sides of a ring: who is attached, who is dead, and where each side sleeps.
//!
//! A handle enters a slot of its side with the identity of its process ([`super::identity`]).
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (E1) `leave` stores [`CLOSED`] | (E2) `peers`, `is_closed` load it | all that was done at the ring before |
//! | (E1), or the death of who was in a slot | (E3) the next `enter` takes the slot over | the same, and the generation that belongs to the slot |
//! | (E4) `enter` stores the generation | (E5) `is_gone` loads it | who has the slot now, and that claims of older ones are void |

use super::AttachError;
use super::identity::{is_this, pid_of};
use super::record::Holder;
use crate::sync::{AtomicU32, AtomicU64, ENDS, Ordering, Word, is_alive, layout, register};

/// Nobody has been in this slot yet.
const NOBODY: u64 = 0;
/// The last one in this slot left in order. No identity is so small.
const CLOSED: u64 = 1;

/// How often a slot may change while somebody tries to enter it.
const TRIES: u32 = 16;

/// What is known of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    /// Nobody has attached yet.
    None,
    /// Somebody is attached. Of a process in another PID namespace this is assumed.
    Alive,
    /// All who were attached have left in order.
    Closed,
    /// Nobody is attached any more, and of those who were, at least one did not leave: it died.
    Dead,
}

/// One side of a ring.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Side {
    /// Where this side sleeps: bits that are set by sleepers and cleared by who wakes them, and how
    /// often they were woken ([`super::wait`]). On a line of its own, which nobody writes while nobody sleeps.
    pub(crate) bell: Line<Word>,
    /// Identities, [`NOBODY`] or [`CLOSED`]. Written by who enters and leaves.
    pub(crate) slots: [AtomicU64; ENDS],
    /// How often each slot was entered, modulo 2¹⁶ in use.
    pub(crate) generations: [AtomicU32; ENDS],
    /// 1 if heavy fences did not reach all who have been here.
    unreached: AtomicU32,
}

layout! {
    Side: size 512, align 128;
    Side { bell: 0, slots: 64, generations: 320, unreached: 448 }
}

/// A value on a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Line<T>(pub(crate) T);

/// A slot that is ours until we leave it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) index: u8,
    pub(crate) generation: u16,
    identity: u64,
}

impl Slot {
    /// Whether this process entered it, and did not inherit the handle by fork(2).
    pub(crate) fn is_ours(self) -> bool {
        is_this(self.identity)
    }

    /// What claims and turns say of us.
    #[inline(always)]
    pub(crate) fn holder(self) -> Holder {
        Holder {
            slot: self.index,
            generation: self.generation,
        }
    }
}

impl Side {
    /// Nobody.
    #[allow(dead_code, reason = "mappings are formatted; models make theirs")]
    pub(crate) fn new() -> Self {
        Self {
            bell: Line(Word::new(0)),
            slots: core::array::from_fn(|_| AtomicU64::new(NOBODY)),
            generations: core::array::from_fn(|_| AtomicU32::new(0)),
            unreached: AtomicU32::new(0),
        }
    }

    /// Nobody again.
    pub(crate) fn clear(&self) {
        // Relaxed: (M1) publishes it.
        self.bell.0.store(0, Ordering::Relaxed);
        for slot in &self.slots {
            slot.store(NOBODY, Ordering::Relaxed);
        }
        self.unreached.store(0, Ordering::Relaxed);
    }

    /// Whether a wake from this side may be missed.
    pub(crate) fn is_unreached(&self) -> bool {
        // Relaxed: who sees it late sleeps longer, once.
        self.unreached.load(Ordering::Relaxed) != 0
    }

    /// Takes one of the first `limit` slots, of nobody or of a dead one.
    pub(crate) fn enter(&self, limit: usize, me: u64) -> Result<Slot, AttachError> {
        if !register() {
            // Relaxed: who sees it late sleeps longer, once.
            self.unreached.store(1, Ordering::Relaxed);
        }
        let mut owner = 0;
        'slots: for (index, slot) in self.slots.iter().enumerate().take(limit) {
            // Relaxed: (E3) follows.
            let mut old = slot.load(Ordering::Relaxed);
            let mut tries = TRIES;
            loop {
                if old > CLOSED && is_alive(old) || tries == 0 {
                    owner = pid_of(old);
                    continue 'slots;
                }
                // (E3) Relaxed on failure: somebody else was faster, and is judged in turn.
                match slot.compare_exchange(old, me, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(faster) => (old, tries) = (faster, tries - 1),
                }
            }
            let Some(generation) = self.generations.get(index) else {
                continue;
            };
            // Relaxed: only the owner of the slot writes it, and (E3) orders the owners.
            let next = generation.load(Ordering::Relaxed).wrapping_add(1);
            // (E4)
            generation.store(next, Ordering::Release);
            return Ok(Slot {
                index: index as u8,
                generation: next as u16,
                identity: me,
            });
        }
        Err(AttachError::InUse { pid: owner })
    }

    /// Leaves a slot that [is ours](Slot::is_ours), if we were not taken for dead meanwhile.
    pub(crate) fn leave(&self, slot: Slot) -> bool {
        let Some(owner) = self.slots.get(usize::from(slot.index)) else {
            return false;
        };
        // (E1) Relaxed on failure: then nothing is ours to be published.
        owner
            .compare_exchange(slot.identity, CLOSED, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether somebody was here and everybody left in order. Asks the kernel nothing.
    pub(crate) fn is_closed(&self, limit: usize) -> bool {
        self.have_all_left(limit)
            && (limit == 1 || self.settled(limit, || self.have_all_left(limit)) == Some(true))
    }

    /// Who is here. Asks the kernel about each that did not leave.
    pub(crate) fn peers(&self, limit: usize) -> Peers {
        match self.look(limit) {
            Peers::Alive => Peers::Alive,
            found if limit == 1 => found,
            // While they come and go, somebody is here.
            _ => self
                .settled(limit, || self.look(limit))
                .unwrap_or(Peers::Alive),
        }
    }

    /// What two looks find in the same way, between which nobody entered: then there was a moment at
    /// which it was so. One look at several slots is none, since who leaves one may follow who enters
    /// another that was looked at before.
    fn settled<R: PartialEq>(&self, limit: usize, look: impl Fn() -> R) -> Option<R> {
        let entered = self.entered(limit);
        let found = look();
        (look() == found && self.entered(limit) == entered).then_some(found)
    }

    /// How often somebody has entered.
    fn entered(&self, limit: usize) -> u32 {
        let generations = self.generations.iter().take(limit);
        // (E5) It matters when a third one comes and goes between two looks: loom cannot see it.
        let generations = generations.map(|generation| generation.load(Ordering::Acquire));
        generations.fold(0, u32::wrapping_add)
    }

    fn have_all_left(&self, limit: usize) -> bool {
        let mut closed = false;
        for slot in self.slots.iter().take(limit) {
            // (E2)
            match slot.load(Ordering::Acquire) {
                NOBODY => {}
                CLOSED => closed = true,
                _ => return false,
            }
        }
        closed
    }

    fn look(&self, limit: usize) -> Peers {
        let mut peers = Peers::None;
        for slot in self.slots.iter().take(limit) {
            // (E2)
            match slot.load(Ordering::Acquire) {
                NOBODY => {}
                CLOSED if peers == Peers::None => peers = Peers::Closed,
                CLOSED => {}
                identity if is_alive(identity) => return Peers::Alive,
                _ => peers = Peers::Dead,
            }
        }
        peers
    }

    /// Whether the one who had this generation of a slot is dead, or has left.
    pub(crate) fn is_gone(&self, holder: Holder) -> bool {
        let index = usize::from(holder.slot);
        let (Some(slot), Some(now)) = (self.slots.get(index), self.generations.get(index)) else {
            return true;
        };
        // (E5) If the slot still is the holder's, the identity that is in it by (E3) is visible too.
        let now = now.load(Ordering::Acquire) as u16;
        match now.wrapping_sub(holder.generation) as i16 {
            0 => {
                // (E2)
                let identity = slot.load(Ordering::Acquire);
                identity <= CLOSED || !is_alive(identity)
            }
            // A later one has the slot; or the holder came so late that (E4) is not visible yet.
            later => later > 0,
        }
    }
}
