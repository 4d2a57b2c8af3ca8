//! A barrier: each of a number of parties waits until all are there.
//!
//! Like pthread_barrier_wait(3), between processes. The parties are known by name: each [joins](Barrier::join)
//! before it waits, so that it is noticed if one is killed, and those who wait for it do not wait for ever.
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::pshared::Process;
//! use linipc_core::pshared::barrier::Barrier;
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! let barrier = Barrier::init(region.bytes(), 1)?;
//! let mut party = barrier.join(Process::current()?)?;
//! let is_leader = party.wait()?;
//! // One of the parties is it, each time.
//! assert!(is_leader);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Format
//!
//! ```text
//!  0       4         8       12        16
//!  +-------+---------+-------+---------+------------------------------+
//!  | magic | parties | state | (zero)  | 64 slots                     |   528 bytes
//!  +-------+---------+-------+---------+------------------------------+
//!
//!  state  generation << 20 | last one that was complete << 8 | how many are there << 1 | somebody may sleep
//!  slot   0, an identity, or that of a dead one until it is free: 4096 + the generation that is broken for it
//! ```
//!
//! # A generation
//!
//! Begins with nobody there, and ends in one step: when the last party comes, it is *complete*; when one
//! finds that a party is dead, it is *broken*. A party that wakes in a later generation knows how its own
//! has ended: no other one can have been complete since, as that needs this party.
//!
//! # When a party dies
//!
//! All who wait get [`Error::PeerDead`] within 100 ms, whether the dead one was there already or not. Its place is free,
//! and the barrier is as before the first party came: who goes on waits again, and waits for a successor, which
//! [joins](Barrier::join) in the dead one's place. A party that was still on its way when the generation was
//! broken does not learn of that: it is the first one of the next generation.
//!
//! Who finds its deadline passed, or leaves, takes itself out of the count: the others go on waiting. (In
//! Java and Python a timeout breaks the barrier for all. Here a party decides for itself only: one that wants
//! the others to know says so by other means.)
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (A1) each party exchanges the state | (A1) the last one exchanges it | what all did before they came, through whatever exchanges are between |
//! | (A1) the last one exchanges it | (W1) the others load it | the same |
//!
//! # Pitfalls
//!
//! - A process that has forked has not joined twice: the child's copy of a [`Party`] gives [`Error::Forked`].
//! - A process in another PID namespace counts as alive for ever, and so does a forgotten [`Party`] as long as
//!   its process lives.

use super::{AttachError, Error, InPlace, Kind, Magic, find, sleep_a_while};
use crate::futex::Deadline;
use crate::shared::SharedBytes;
use crate::sync::{
    AtomicU32, AtomicU64, Ordering, PARTIES, Process, SPINS, Word, array, const_fn, is_alive,
    layout, spin, wake,
};

/// Somebody may sleep.
const ASLEEP: u32 = 1;
/// One party that is there.
const ONE: u32 = 2;

/// How many generations are told apart.
const GENERATIONS: u32 = 1 << 12;

/// The highest number of parties.
pub const PARTIES_MAX: u32 = PARTIES as u32;

/// What the state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State(u32);

impl State {
    /// Before the first party comes.
    const NEW: Self = Self::of(0, GENERATIONS - 1);

    const fn of(generation: u32, complete: u32) -> Self {
        Self((generation % GENERATIONS) << 20 | (complete % GENERATIONS) << 8)
    }

    const fn generation(self) -> u32 {
        self.0 >> 20
    }

    /// The last generation that was complete.
    const fn complete(self) -> u32 {
        (self.0 >> 8) % GENERATIONS
    }

    /// How many parties are there.
    const fn count(self) -> u32 {
        (self.0 / ONE) % 128
    }

    /// All are there.
    const fn completed(self) -> Self {
        Self::of(self.generation() + 1, self.generation())
    }

    /// One is dead.
    const fn broken(self) -> Self {
        Self::of(self.generation() + 1, self.complete())
    }
}

/// What is in the place of a dead one, until the generation is broken. No identity is so small.
const fn dead(generation: u32) -> u64 {
    (GENERATIONS + generation) as u64
}

/// Which generation that is, if it is that.
fn of_dead(party: u64) -> Option<u32> {
    let generation = u32::try_from(party).ok()?.checked_sub(GENERATIONS)?;
    (generation < GENERATIONS).then_some(generation)
}

/// A barrier, as it is in memory.
#[derive(Debug)]
#[repr(C, align(8))]
#[doc(alias = "pthread_barrier_t")]
pub struct Barrier {
    magic: Magic,
    parties: AtomicU32,
    state: Word,
    _zero: AtomicU32,
    slots: [AtomicU64; PARTIES],
}

layout! {
    Barrier: size 528, align 8;
    Barrier { magic: 0, parties: 4, state: 8, _zero: 12, slots: 16 }
}

// SAFETY: It is `repr(C)`, and nothing but atomics without padding.
unsafe impl InPlace for Barrier {}

impl Barrier {
    const_fn! {
        /// A barrier that nobody has joined, for a `static` or a field of what is shared. For 1 to
        /// [`PARTIES_MAX`] parties; with another number all calls fail.
        pub fn new(parties: u32) -> Self {
            Self {
                magic: Magic::new(Kind::Barrier),
                parties: AtomicU32::new(parties),
                state: Word::new(State::NEW.0),
                _zero: AtomicU32::new(0),
                slots: array![AtomicU64::new(0); PARTIES],
            }
        }
    }

    /// `int pthread_barrier_init(pthread_barrier_t *, const pthread_barrierattr_t *, unsigned count)`:
    /// makes a barrier at the beginning of memory. Whoever used one there before must be gone.
    ///
    /// # Errors
    ///
    /// - [`AttachError::OutOfRange`]: not for 1 to [`PARTIES_MAX`] parties.
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
    ///   for it.
    ///
    /// # References
    ///
    /// - [pthread_barrier_init(3)](https://man7.org/linux/man-pages/man3/pthread_barrier_init.3p.html)
    #[doc(alias = "pthread_barrier_init")]
    pub fn init(memory: SharedBytes<'_>, parties: u32) -> Result<&Self, AttachError> {
        if !(1..=PARTIES_MAX).contains(&parties) {
            return Err(AttachError::OutOfRange {
                min: 1,
                max: PARTIES_MAX,
            });
        }
        let barrier = find::<Self>(memory)?;
        // Relaxed, all: the magic publishes them.
        for slot in &barrier.slots {
            slot.store(0, Ordering::Relaxed);
        }
        barrier.parties.store(parties, Ordering::Relaxed);
        barrier.state.store(State::NEW.0, Ordering::Relaxed);
        barrier._zero.store(0, Ordering::Relaxed);
        barrier.magic.write(Kind::Barrier);
        Ok(barrier)
    }

    /// The barrier at the beginning of memory.
    ///
    /// # Errors
    ///
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory for one.
    /// - [`AttachError::NotFound`], [`AttachError::Version`]: there is none, or one of another version.
    pub fn attach(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let barrier = find::<Self>(memory)?;
        barrier.magic.check(Kind::Barrier)?;
        Ok(barrier)
    }

    /// Becomes a party: in a place that is free, or in a dead one's. Those who wait beside a dead one
    /// learn of that first.
    ///
    /// # Errors
    ///
    /// - [`Error::Busy`]: as many as there are to be have joined, and are alive.
    /// - [`Error::Forked`]: the token is the parent's.
    /// - [`Error::Corrupt`]: not for 1 to [`PARTIES_MAX`] parties.
    pub fn join(&self, process: Process) -> Result<Party<'_>, Error> {
        if process.is_forked() {
            return Err(Error::Forked);
        }
        let slots = self.slots()?;
        for also_of_dead in [false, true] {
            for slot in slots {
                if also_of_dead {
                    self.clear_if_dead(slot);
                }
                let joined = slot.compare_exchange(
                    0,
                    process.identity(),
                    // Acquire: of who freed the place, by when the generation of a dead one was broken. What
                    // is exchanged next is exchanged after that in any case: loom cannot see it.
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if joined.is_ok() {
                    return Ok(Party {
                        barrier: self,
                        slot,
                        process,
                    });
                }
            }
        }
        Err(Error::Busy)
    }

    fn slots(&self) -> Result<&[AtomicU64], Error> {
        // Relaxed: it does not change.
        let parties = self.parties.load(Ordering::Relaxed) as usize;
        match self.slots.get(..parties) {
            None | Some([]) => Err(Error::Corrupt),
            Some(slots) => Ok(slots),
        }
    }

    /// If a party is dead, breaks the generation, if somebody is there, and then frees the place: so that
    /// nobody who takes it is counted beside the dead one.
    ///
    /// Others may do the same, each as far as it comes. So the place first says for which generation that is
    /// done, and no other one is broken for it.
    fn clear_if_dead(&self, slot: &AtomicU64) {
        // Acquire: of `join`; and of who has named a generation, so that the state is not of one before. In no
        // model do two look after one dead: loom cannot see it.
        let mut party = slot.load(Ordering::Acquire);
        if party == 0 || of_dead(party).is_none() && is_alive(party) {
            return;
        }
        loop {
            // Acquire: it is of after the death, so the dead one is in the count, if it came. loom cannot see
            // it, since `is_alive` orders it too.
            let state = State(self.state.load(Ordering::Acquire));
            let next = match of_dead(party) {
                Some(generation) if generation == state.generation() => {
                    if state.count() != 0 {
                        // Release and Acquire: as (A1), though nobody relies on what was done before a
                        // generation that is broken: loom cannot see it. Relaxed on failure: it is loaded again.
                        let broken = self.state.compare_exchange(
                            state.0,
                            state.broken().0,
                            Ordering::AcqRel,
                            Ordering::Relaxed,
                        );
                        if broken.is_err() {
                            continue;
                        }
                        self.wake(state.0);
                    }
                    0
                }
                // It was complete, with the dead one.
                Some(generation) if generation == state.complete() => dead(state.generation()),
                // It was broken, be it for another one.
                Some(_) => 0,
                None => dead(state.generation()),
            };
            // Release: whoever takes the place comes after the generation was broken; as in `join`,
            // loom cannot see it. Acquire on failure: as the load above.
            match slot.compare_exchange(party, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if next == 0 => return,
                Ok(_) => party = next,
                Err(now) if of_dead(now).is_some() => party = now,
                // Another one has freed it.
                Err(_) => return,
            }
        }
    }

    #[inline]
    fn wake(&self, seen: u32) {
        if seen & ASLEEP != 0 {
            wake(&self.state);
        }
    }

    /// The party of a process dies, in a model.
    #[cfg(loom)]
    pub fn kill(&self, process: Process) {
        for slot in &self.slots {
            let dead = crate::sync::DEAD;
            let _ = slot.compare_exchange(
                process.identity(),
                dead,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
        crate::sync::look_again(&self.state);
    }
}

/// One of the parties of a barrier. When it is dropped, it leaves, and its place is free: those who wait
/// then wait for a successor.
#[derive(Debug)]
#[must_use = "it leaves when this is dropped"]
pub struct Party<'a> {
    barrier: &'a Barrier,
    slot: &'a AtomicU64,
    process: Process,
}

impl Party<'_> {
    /// `int pthread_barrier_wait(pthread_barrier_t *barrier)`: waits until all parties are there. Gives
    /// whether this is the one, of all, that was the last (`PTHREAD_BARRIER_SERIAL_THREAD`).
    ///
    /// What each party did before is visible to all after.
    ///
    /// # Errors
    ///
    /// - [`Error::PeerDead`]: a party died, so not all will come. All who wait get this.
    /// - [`Error::Forked`]: this is the copy of the parent's.
    /// - [`Error::Corrupt`]: not a state that a barrier comes to.
    /// - [`Error::System`]: the kernel does not let it sleep.
    ///
    /// # References
    ///
    /// - [pthread_barrier_wait(3)](https://man7.org/linux/man-pages/man3/pthread_barrier_wait.3p.html)
    #[doc(alias = "pthread_barrier_wait")]
    pub fn wait(&mut self) -> Result<bool, Error> {
        self.arrive(None)
    }

    /// [`Party::wait`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`Party::wait`]; [`Error::TimedOut`]: the deadline has passed. This party is not counted
    /// any more, until it waits again; the others go on waiting.
    pub fn wait_deadline(&mut self, deadline: Deadline) -> Result<bool, Error> {
        self.arrive(Some(deadline))
    }

    fn arrive(&mut self, deadline: Option<Deadline>) -> Result<bool, Error> {
        let Some(generation) = self.come()? else {
            return Ok(true);
        };
        match self.wait_for_end(generation, deadline) {
            Ok(()) => self.outcome(generation),
            Err(why) => self.withdraw(generation, why),
        }
    }

    /// Is there from now on. Gives the generation to wait for, or nothing if this was the last party.
    fn come(&mut self) -> Result<Option<u32>, Error> {
        if self.process.is_forked() {
            return Err(Error::Forked);
        }
        let parties = self.barrier.slots()?.len() as u32;
        // Relaxed: the exchange looks again.
        let mut seen = State(self.barrier.state.load(Ordering::Relaxed));
        loop {
            if seen.count() >= parties {
                return Err(Error::Corrupt);
            }
            let is_last = seen.count() + 1 == parties;
            let now = match is_last {
                true => seen.completed(),
                false => State(seen.0 + ONE),
            };
            // (A1) Release and Acquire: the last one sees what all did, and (W1) sees it by that.
            match self.barrier.state.compare_exchange(
                seen.0,
                now.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) if is_last => {
                    self.barrier.wake(seen.0);
                    return Ok(None);
                }
                Ok(_) => return Ok(Some(seen.generation())),
                Err(now) => seen = State(now),
            }
        }
    }

    /// Comes and dies, in a model.
    #[cfg(loom)]
    pub fn die(mut self) {
        self.come().unwrap();
        self.barrier.kill(self.process);
    }

    /// How a generation has ended.
    fn outcome(&self, generation: u32) -> Result<bool, Error> {
        // (W1) Acquire: what all did before is visible.
        let now = State(self.barrier.state.load(Ordering::Acquire));
        match now.complete() == generation {
            true => Ok(false),
            false => Err(Error::PeerDead),
        }
    }

    fn wait_for_end(&self, generation: u32, deadline: Option<Deadline>) -> Result<(), Error> {
        let state = &self.barrier.state;
        let mut spins = SPINS;
        // Relaxed, here and below: (W1) comes after it.
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            if State(seen).generation() != generation {
                return Ok(());
            }
            if spins > 0 {
                spins -= 1;
                spin();
                seen = state.load(Ordering::Relaxed);
                continue;
            }
            // Relaxed: the kernel compares again, and who ends the generation sees the bit in the very word
            // that it exchanges.
            seen = state.fetch_or(ASLEEP, Ordering::Relaxed) | ASLEEP;
            if State(seen).generation() != generation {
                continue;
            }
            if sleep_a_while(state, seen, deadline)? {
                for slot in self.barrier.slots()? {
                    self.barrier.clear_if_dead(slot);
                }
            }
            seen = state.load(Ordering::Relaxed);
        }
    }

    /// Takes this party out of the count, if its generation has not ended.
    fn withdraw(&self, generation: u32, why: Error) -> Result<bool, Error> {
        // Relaxed: the exchange looks again.
        let mut seen = State(self.barrier.state.load(Ordering::Relaxed));
        while seen.generation() == generation && seen.count() > 0 {
            // Relaxed: what others did before they came goes on through exchanges of any kind.
            match self.barrier.state.compare_exchange(
                seen.0,
                seen.0 - ONE,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Err(why),
                Err(now) => seen = State(now),
            }
        }
        self.outcome(generation)
    }
}

impl Drop for Party<'_> {
    fn drop(&mut self) {
        if !self.process.is_forked() {
            let _ = self.slot.compare_exchange(
                self.process.identity(),
                0,
                // Release: of `join`; as there, loom cannot see it.
                Ordering::Release,
                Ordering::Relaxed,
            );
        }
    }
}
