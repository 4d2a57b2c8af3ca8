//! Something that is done once, by whichever process comes first: to initialise what is shared.
//!
//! Like pthread_once(3), between processes. The one that initialises may be killed: then the next one does
//! it, and is told.
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::pshared::Process;
//! use linipc_core::pshared::once::{Begin, Once};
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! let once = Once::init(region.bytes())?;
//! match once.begin(Process::current()?)? {
//!     Begin::Done => {}
//!     Begin::First(initialiser) => {
//!         if initialiser.has_died_before() {
//!             // What another one wrote may be half done: begin from nothing.
//!         }
//!         region.bytes().write(64, b"made once")?;
//!         initialiser.complete();
//!     }
//! }
//! assert!(once.is_done());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Format
//!
//! ```text
//!  0       4      8              16
//!  +-------+------+--------------+   bell   somebody may sleep | rings << 1
//!  | magic | bell | state        |   state  0 not begun, 1 done, or the identity of the process that
//!  +-------+------+--------------+          initialises, or that died when it did
//! ```
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (C1) `complete` stores 1 | (B1) `begin` and `is_done` load it | what was initialised |
//! | (D1) a guard that is dropped stores what it found | (B2) the next one exchanges it | what it did before it gave up |
//! | (C2) who is done exchanges the bell | (S1) who goes to sleep exchanges it | one of the two is later: the sleeper sees the state, or who is done sees the bit, in the very word that it exchanges |
//!
//! # Pitfalls
//!
//! - A process that begins again while it initialises waits for itself, also after a thread that ended with
//!   a forgotten [`Initialiser`].
//! - What died when it initialised is found by those who wait, within 100 ms, and by those who come. A
//!   process in another PID namespace counts as alive for ever.

use super::{AttachError, Error, InPlace, Kind, Magic, find, sleep_a_while};
use crate::futex::Deadline;
use crate::shared::SharedBytes;
use crate::sync::{
    AtomicU64, Ordering, Process, SPINS, Word, const_fn, is_alive, layout, spin, wake,
};

/// Somebody may sleep.
const ASLEEP: u32 = 1;
/// The rest of the bell counts how often it was rung.
const RING: u32 = 2;

/// Nobody has begun.
const NEW: u64 = 0;
/// It is done.
const DONE: u64 = 1;

/// What is done once, as it is in memory.
#[derive(Debug)]
#[repr(C, align(8))]
#[doc(alias = "pthread_once_t")]
pub struct Once {
    magic: Magic,
    bell: Word,
    state: AtomicU64,
}

layout! {
    Once: size 16, align 8;
    Once { magic: 0, bell: 4, state: 8 }
}

// SAFETY: It is `repr(C)`, and nothing but atomics without padding.
unsafe impl InPlace for Once {}

/// What a call of [`Once::begin`] found.
#[derive(Debug)]
#[must_use = "the first one initialises"]
pub enum Begin<'a> {
    /// It is done. What was done is visible.
    Done,
    /// The caller is the one to do it.
    First(Initialiser<'a>),
}

impl Once {
    const_fn! {
        /// One that is not done, for a `static` or a field of what is shared.
        pub fn new() -> Self {
            Self {
                magic: Magic::new(Kind::Once),
                bell: Word::new(0),
                state: AtomicU64::new(NEW),
            }
        }
    }

    /// Makes one that is not done at the beginning of memory. Whoever used one there before must be gone.
    ///
    /// Where nobody can be the first to call this, use memory of zeros, such as a new file: they are one
    /// that is not done, which [`Once::attach_or_init`] finds.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
    /// for it.
    pub fn init(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let once = find::<Self>(memory)?;
        // Relaxed: the magic publishes them.
        once.bell.store(0, Ordering::Relaxed);
        once.state.store(NEW, Ordering::Relaxed);
        once.magic.write(Kind::Once);
        Ok(once)
    }

    /// The one at the beginning of memory.
    ///
    /// # Errors
    ///
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory for one.
    /// - [`AttachError::NotFound`], [`AttachError::Version`]: there is none, or one of another version.
    pub fn attach(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let once = find::<Self>(memory)?;
        once.magic.check(Kind::Once)?;
        Ok(once)
    }

    /// The one at the beginning of memory, or a new one, if there are zeros: any number of processes may
    /// do this at the same time, with a new file of which nobody is the owner.
    ///
    /// # Errors
    ///
    /// Those of [`Once::attach`].
    pub fn attach_or_init(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let once = find::<Self>(memory)?;
        once.magic.write_over_zero(Kind::Once);
        once.magic.check(Kind::Once)?;
        Ok(once)
    }

    /// Whether it is done. Then what was done is visible.
    #[inline]
    pub fn is_done(&self) -> bool {
        // (B1) Acquire: what was initialised is visible.
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Finds that it is done, or begins to do it; waits as long as another one does.
    ///
    /// # Errors
    ///
    /// - [`Error::Forked`]: the token is the parent's.
    /// - [`Error::System`]: the kernel does not let it sleep.
    #[inline]
    #[doc(alias = "pthread_once")]
    pub fn begin(&self, process: Process) -> Result<Begin<'_>, Error> {
        match self.is_done() {
            true => Ok(Begin::Done),
            false => self.begin_or_wait(process, How::Wait(None)),
        }
    }

    /// The same, but does not wait.
    ///
    /// # Errors
    ///
    /// - [`Error::Busy`]: another one is doing it.
    /// - [`Error::Forked`]: the token is the parent's.
    #[inline]
    pub fn try_begin(&self, process: Process) -> Result<Begin<'_>, Error> {
        match self.is_done() {
            true => Ok(Begin::Done),
            false => self.begin_or_wait(process, How::Try),
        }
    }

    /// The same, but does not wait beyond the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`Once::begin`]; [`Error::TimedOut`]: the deadline has passed.
    #[inline]
    pub fn begin_deadline(&self, process: Process, deadline: Deadline) -> Result<Begin<'_>, Error> {
        match self.is_done() {
            true => Ok(Begin::Done),
            false => self.begin_or_wait(process, How::Wait(Some(deadline))),
        }
    }

    #[cold]
    fn begin_or_wait(&self, process: Process, how: How) -> Result<Begin<'_>, Error> {
        if process.is_forked() {
            return Err(Error::Forked);
        }
        let mut spins = match how {
            How::Try => 0,
            How::Wait(_) => SPINS,
        };
        // (B1) Acquire: what was initialised is visible.
        let mut seen = self.state.load(Ordering::Acquire);
        loop {
            if seen == DONE {
                return Ok(Begin::Done);
            }
            if seen == NEW || spins == 0 && !is_alive(seen) {
                // (B2) Acquire: what was done before it was given up is visible; what a dead one did, it did
                // before it was known to be dead. Acquire on failure, as (B1).
                match self.state.compare_exchange(
                    seen,
                    process.identity(),
                    Ordering::Acquire,
                    Ordering::Acquire,
                ) {
                    Ok(_) => {
                        return Ok(Begin::First(Initialiser {
                            once: self,
                            process,
                            found: seen,
                        }));
                    }
                    Err(now) => seen = now,
                }
                continue;
            }
            if spins > 0 {
                spins -= 1;
                spin();
                // (B1) Acquire. Models do not spin: loom cannot see it.
                seen = self.state.load(Ordering::Acquire);
                continue;
            }
            let How::Wait(deadline) = how else {
                return Err(Error::Busy);
            };
            // (S1) Acquire: of (C2).
            let bell = self.bell.fetch_or(ASLEEP, Ordering::Acquire) | ASLEEP;
            // Relaxed: it is only compared, and (S1) is before it.
            let now = self.state.load(Ordering::Relaxed);
            if now == seen {
                sleep_a_while(&self.bell, bell, deadline)?;
            }
            // (B1) Acquire.
            seen = self.state.load(Ordering::Acquire);
        }
    }

    /// The state is another one: wakes those who wait for that.
    fn ring(&self) {
        // Relaxed: the exchange looks again.
        let mut seen = self.bell.load(Ordering::Relaxed);
        loop {
            let now = (seen & !ASLEEP).wrapping_add(RING);
            // (C2) Release: if (S1) is later, it sees the state; else this one sees the bit.
            match self
                .bell
                .compare_exchange_weak(seen, now, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(other) => seen = other,
            }
        }
        if seen & ASLEEP != 0 {
            wake(&self.bell);
        }
    }

    /// The process that initialises dies, in a model.
    #[cfg(loom)]
    pub fn kill(&self) {
        self.state.store(crate::sync::DEAD, Ordering::Release);
        crate::sync::look_again(&self.bell);
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

/// How far a call goes.
#[derive(Debug, Clone, Copy)]
enum How {
    Try,
    Wait(Option<Deadline>),
}

/// The right to do what is done once. If it is dropped, the next one that comes does it.
#[derive(Debug)]
#[must_use = "it is done by `complete` only"]
pub struct Initialiser<'a> {
    once: &'a Once,
    process: Process,
    /// What the state was before.
    found: u64,
}

impl Initialiser<'_> {
    /// Whether one that began before died: what it did may be half done.
    #[inline]
    pub fn has_died_before(&self) -> bool {
        self.found != NEW
    }

    /// Says that it is done.
    ///
    /// In a child of the process that began, this does nothing.
    pub fn complete(self) {
        // (C1) Release: what was done is visible to who finds it done.
        self.end(DONE);
        core::mem::forget(self);
    }

    fn end(&self, state: u64) {
        if !self.process.is_forked() {
            self.once.state.store(state, Ordering::Release);
            self.once.ring();
        }
    }
}

impl Drop for Initialiser<'_> {
    fn drop(&mut self) {
        // (D1) Release: of (B2). If one died before, the next one is to know it too.
        self.end(self.found);
    }
}
