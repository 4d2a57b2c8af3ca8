//! A lock that many readers have at once, or one writer alone, and of whom any may be killed.
//!
//! Mirrors pthread_rwlock_rdlock(3) and pthread_rwlock_wrlock(3), with upgrade and downgrade beyond.
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::pshared::Process;
//! use linipc_core::pshared::rwlock::{LockError, RwLock};
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! let lock = RwLock::init(region.bytes())?;
//! let process = Process::current()?;
//!
//! let guard = match lock.write(process) {
//!     Ok(guard) => guard,
//!     // What the lock guards may be half changed: repair it here.
//!     Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
//!     Err(LockError::Failed(error)) => return Err(error.into()),
//! };
//! region.bytes().write(3072, b"what it guards")?;
//! // From now on others may read too, and nobody has written in between.
//! let guard = guard.downgrade();
//! let second = lock.read(process).expect("no writer has come");
//! drop((guard, second));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Format
//!
//! ```text
//!  0       4          8        16     24     28      32        36        40      64
//!  +-------+----------+--------+------+------+-------+---------+---------+-------+---------------------+
//!  | magic | changing | writer | kept | used | freed | readers | writers | 0     | 32 slots of 64 bytes|
//!  +-------+----------+--------+------+------+-------+---------+---------+-------+---------------------+
//!
//!  magic     "lp", the kind, the version: 0x6c700101
//!  changing  1: the writer has it alone, and may be changing what it guards
//!  writer    0, or the identity of the process that has it or wants it alone,
//!            or 1: not recoverable
//!  slots     in the first 8 bytes of each: 0, or the identity of the process that reads
//!  kept      one slot more, of the writer that became a reader
//!  used      the slots that were ever taken, a bit each
//!  freed, readers, writers
//!            bells: those sleep there who wait for slots to be given back, and the readers and the
//!            writers who wait for the word of the writer
//! ```
//!
//! Each reader has a slot on a cache line of its own, so that readers on different CPUs do not wait for
//! each other's line. Where a reader looks first for a slot depends on where its stack is.
//!
//! # Who waits for whom
//!
//! - A writer takes the writer's word, and waits for the slots to be empty. Readers that come
//!   meanwhile wait for the word to be 0 again: so it gets the lock however many they are.
//! - Writers wait for the word one after the other. When one gives it back, readers and the next
//!   writer may both come first.
//! - A 33rd reader waits for a slot.
//! - One who reads can become the writer ([`ReadGuard::upgrade`]) if the word is free; else it fails at
//!   once, since the one who has the word waits for it.
//!
//! # Death
//!
//! In the words is the identity of the process, as in the [`ring`](crate::ring). Whoever waits asks the
//! kernel every 50 ms whether those for whom it waits are alive, and who only tries asks if it is in vain.
//!
//! - A dead reader's slot is cleared, by the writer who waits for it, or by a reader that finds all taken.
//! - A dead writer's word is taken over by the one who finds out, reader or writer. If the dead one
//!   had the lock already, and did not only wait, `changing` is 1: the next one has the lock alone, and
//!   gets [`LockError::OwnerDied`]. If it gives the lock back without [`Inconsistent::mark_consistent`], nobody
//!   can have it any more ([`Error::NotRecoverable`]).
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (X4) a writer stores the word | (X1) the next one exchanges it, (S3) a reader loads it | what it has written |
//! | (S4) a reader stores the slot | (X3) the writer loads it | that it has read |
//! | (S4) a reader stores the slot | (S1) the next one exchanges it | the same, to an (X3) that sees only the next one's (S4) |
//! | a writer's death | (X1) the next one exchanges the word | the same as (X4), as far as it came |
//!
//! A reader and a writer that come at the same time exclude each other by two fences, which have an order:
//!
//! | reader | writer |
//! |---|---|
//! | (S1) exchanges a slot | (X1) exchanges the word |
//! | (S2) fence | (X2) fence |
//! | (S3) looks at the word | (X3) looks at the slots |
//!
//! If (X2) is first, (S3) sees the word, and the reader gives the slot back. If (S2) is first, (X3) sees
//! the slot, also that it is one that is used: its bit was set before (S1), or seen. That is left to
//! no other process; only the waking of sleepers is, by a heavy and a light fence, as in the ring.
//!
//! # Pitfalls
//!
//! - Reading a second time in the same thread may wait for ever, if a writer has come in between.
//! - A thread that ends without giving its guard back keeps the lock as long as its process lives. A
//!   process that executes another program (execve(2)) does so too.
//! - A process of another PID namespace counts as alive.

use core::fmt;
use core::mem::forget;
use core::ptr;
use core::sync::atomic::compiler_fence;

use super::bell::{Bell, How, Waiting};
use super::{AttachError, Error, InPlace, Kind, Magic, find};
use crate::futex::Deadline;
use crate::ring::end::Line;
use crate::shared::SharedBytes;
use crate::sync::{
    AtomicU32, AtomicU64, Ordering, Process, READERS, array, const_fn, fence_after_exchange,
    is_alive, layout, spread,
};

const NOBODY: u64 = 0;
/// As writer: nobody can have the lock any more. No identity is so small.
const NOT_RECOVERABLE: u64 = 1;

/// The writer may be changing what the lock guards.
const CHANGING: u32 = 1;

/// A readers-writer lock, as it is in memory.
#[derive(Debug)]
#[repr(C)]
#[doc(alias = "pthread_rwlock_t")]
pub struct RwLock {
    magic: Magic,
    changing: AtomicU32,
    pub(crate) writer: AtomicU64,
    kept: AtomicU64,
    used: AtomicU32,
    pub(crate) freed: Bell,
    pub(crate) readers: Bell,
    pub(crate) writers: Bell,
    slots: [Line<AtomicU64>; READERS],
}

layout! {
    RwLock: size 2112, align 64;
    RwLock { magic: 0, changing: 4, writer: 8, kept: 16, used: 24, freed: 28, readers: 32, writers: 36, slots: 64 }
}

// SAFETY: It is `repr(C)`, and nothing but atomics, and padding of which any bytes are valid.
unsafe impl InPlace for RwLock {}

/// Why the lock was not simply given.
#[derive(Debug)]
pub enum LockError<'a> {
    /// The caller has it alone, also one who wanted to read: a writer died, and what the lock guards
    /// may be half changed (`EOWNERDEAD`).
    OwnerDied(Inconsistent<'a>),
    /// The caller does not have it.
    Failed(Error),
}

impl From<Error> for LockError<'_> {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for LockError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(_) => f.write_str("a writer that had the lock died"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for LockError<'_> {}

/// Why a reader did not become the writer.
#[derive(Debug)]
pub struct UpgradeError<'a> {
    /// It still reads.
    pub guard: ReadGuard<'a>,
    /// Why.
    pub error: Error,
}

impl fmt::Display for UpgradeError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl core::error::Error for UpgradeError<'_> {}

/// What became of the search for a slot.
enum Enter<'a> {
    Done(&'a AtomicU64),
    /// One has the word.
    Writer(u64),
    Full,
}

impl RwLock {
    const_fn! {
        /// A lock that is free, for a `static` or a field of what is shared.
        pub fn new() -> Self {
            Self {
                magic: Magic::new(Kind::RwLock),
                changing: AtomicU32::new(0),
                writer: AtomicU64::new(NOBODY),
                kept: AtomicU64::new(NOBODY),
                used: AtomicU32::new(0),
                freed: Bell::new(),
                readers: Bell::new(),
                writers: Bell::new(),
                slots: array![Line(AtomicU64::new(NOBODY)); READERS],
            }
        }
    }

    /// `int pthread_rwlock_init(pthread_rwlock_t *, const pthread_rwlockattr_t *)`: makes a free lock at
    /// the beginning of memory. Whoever used one there before must be gone.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
    /// for it.
    ///
    /// # References
    ///
    /// - [pthread_rwlock_init(3)](https://man7.org/linux/man-pages/man3/pthread_rwlock_init.3p.html)
    #[doc(alias = "pthread_rwlock_init")]
    pub fn init(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let lock = find::<Self>(memory)?;
        // Relaxed: the magic number publishes all of it.
        for slot in lock.all() {
            slot.store(NOBODY, Ordering::Relaxed);
        }
        lock.writer.store(NOBODY, Ordering::Relaxed);
        lock.changing.store(0, Ordering::Relaxed);
        lock.used.store(0, Ordering::Relaxed);
        for bell in [&lock.freed, &lock.readers, &lock.writers] {
            bell.clear();
        }
        lock.magic.write(Kind::RwLock);
        Ok(lock)
    }

    /// The lock at the beginning of memory.
    ///
    /// # Errors
    ///
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory for one.
    /// - [`AttachError::NotFound`], [`AttachError::Version`]: there is none.
    pub fn attach(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let lock = find::<Self>(memory)?;
        lock.magic.check(Kind::RwLock)?;
        Ok(lock)
    }

    /// `int pthread_rwlock_rdlock(pthread_rwlock_t *rwlock)`: locks for reading; waits until it can.
    ///
    /// # Errors
    ///
    /// - [`LockError::OwnerDied`]: it is locked, and for writing: a writer died.
    /// - [`Error::NotRecoverable`]: that was so, and who had it then did not mark it consistent.
    /// - [`Error::Forked`]: the token is the parent's.
    /// - [`Error::System`]: the kernel does not let it sleep.
    ///
    /// # References
    ///
    /// - [pthread_rwlock_rdlock(3)](https://man7.org/linux/man-pages/man3/pthread_rwlock_rdlock.3p.html)
    #[inline]
    #[doc(alias = "pthread_rwlock_rdlock")]
    pub fn read(&self, process: Process) -> Result<ReadGuard<'_>, LockError<'_>> {
        self.acquire_shared(process, How::Wait(None))
    }

    /// `int pthread_rwlock_tryrdlock(pthread_rwlock_t *rwlock)`: locks for reading, if no writer has it or
    /// wants it.
    ///
    /// # Errors
    ///
    /// Those of [`RwLock::read`]; [`Error::Busy`]: a writer has it or wants it, or 32 read.
    ///
    /// # References
    ///
    /// - [pthread_rwlock_rdlock(3)](https://man7.org/linux/man-pages/man3/pthread_rwlock_rdlock.3p.html)
    #[inline]
    #[doc(alias = "pthread_rwlock_tryrdlock")]
    pub fn try_read(&self, process: Process) -> Result<ReadGuard<'_>, LockError<'_>> {
        self.acquire_shared(process, How::Try)
    }

    /// `int pthread_rwlock_clockrdlock(pthread_rwlock_t *rwlock, clockid_t clockid, const struct timespec
    /// *abstime)`: locks for reading; waits until it can, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`RwLock::read`]; [`Error::TimedOut`]: the deadline has passed. A lock that can be had is
    /// locked even then.
    ///
    /// # References
    ///
    /// - [pthread_rwlock_timedrdlock(3)](https://man7.org/linux/man-pages/man3/pthread_rwlock_timedrdlock.3p.html)
    #[inline]
    #[doc(alias = "pthread_rwlock_timedrdlock")]
    #[doc(alias = "pthread_rwlock_clockrdlock")]
    pub fn read_deadline(
        &self,
        process: Process,
        deadline: Deadline,
    ) -> Result<ReadGuard<'_>, LockError<'_>> {
        self.acquire_shared(process, How::Wait(Some(deadline)))
    }

    /// `int pthread_rwlock_wrlock(pthread_rwlock_t *rwlock)`: locks for writing; waits until it can.
    ///
    /// # Errors
    ///
    /// - [`LockError::OwnerDied`]: it is locked, and a writer died.
    /// - [`Error::NotRecoverable`]: that was so, and who had it then did not mark it consistent.
    /// - [`Error::Forked`]: the token is the parent's.
    /// - [`Error::System`]: the kernel does not let it sleep.
    ///
    /// # References
    ///
    /// - [pthread_rwlock_wrlock(3)](https://man7.org/linux/man-pages/man3/pthread_rwlock_trywrlock.3p.html)
    #[inline]
    #[doc(alias = "pthread_rwlock_wrlock")]
    pub fn write(&self, process: Process) -> Result<WriteGuard<'_>, LockError<'_>> {
        self.acquire_exclusive(process, How::Wait(None))
    }

    /// `int pthread_rwlock_trywrlock(pthread_rwlock_t *rwlock)`: locks for writing, if nobody has it.
    ///
    /// # Errors
    ///
    /// Those of [`RwLock::write`]; [`Error::Busy`]: somebody has it, or is just asking for it.
    ///
    /// # References
    ///
    /// - [pthread_rwlock_wrlock(3)](https://man7.org/linux/man-pages/man3/pthread_rwlock_trywrlock.3p.html)
    #[inline]
    #[doc(alias = "pthread_rwlock_trywrlock")]
    pub fn try_write(&self, process: Process) -> Result<WriteGuard<'_>, LockError<'_>> {
        self.acquire_exclusive(process, How::Try)
    }

    /// `int pthread_rwlock_clockwrlock(pthread_rwlock_t *rwlock, clockid_t clockid, const struct timespec
    /// *abstime)`: locks for writing; waits until it can, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`RwLock::write`]; [`Error::TimedOut`]: the deadline has passed. A lock that is free is
    /// locked even then.
    ///
    /// # References
    ///
    /// - [pthread_rwlock_timedwrlock(3)](https://man7.org/linux/man-pages/man3/pthread_rwlock_timedwrlock.3p.html)
    #[inline]
    #[doc(alias = "pthread_rwlock_timedwrlock")]
    #[doc(alias = "pthread_rwlock_clockwrlock")]
    pub fn write_deadline(
        &self,
        process: Process,
        deadline: Deadline,
    ) -> Result<WriteGuard<'_>, LockError<'_>> {
        self.acquire_exclusive(process, How::Wait(Some(deadline)))
    }

    // Reading.

    #[inline(always)]
    fn acquire_shared(&self, process: Process, how: How) -> Result<ReadGuard<'_>, LockError<'_>> {
        if process.is_forked() {
            return Err(Error::Forked.into());
        }
        let at = spread();
        if let (true, Some(slot)) = (self.is_used(at), self.slots.get(at)) {
            if let Enter::Done(slot) = self.enter(&slot.0, process) {
                return Ok(self.reading(slot, process));
            }
        }
        self.contend_shared(process, how)
    }

    #[inline(always)]
    fn reading<'a>(&'a self, slot: &'a AtomicU64, process: Process) -> ReadGuard<'a> {
        ReadGuard {
            lock: self,
            slot,
            process,
        }
    }

    /// Whether a writer looks at the slot.
    #[inline(always)]
    fn is_used(&self, at: usize) -> bool {
        // Relaxed: (S2) orders it.
        self.used.load(Ordering::Relaxed) >> at & 1 != 0
    }

    /// Takes a slot that is free, if no writer is there.
    #[inline(always)]
    fn enter<'a>(&'a self, slot: &'a AtomicU64, process: Process) -> Enter<'a> {
        // (S1) Acquire: who waits for us alone, by (X3), has waited for the one before us too. Relaxed on
        // failure: nothing is done then.
        let taken = slot.compare_exchange(
            NOBODY,
            process.identity(),
            // A real fence at (S2) acquires too: loom cannot see that this does.
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        if taken.is_err() {
            return Enter::Full;
        }
        // (S2)
        fence_after_exchange();
        // (S3) Acquire: what the last writer did is visible.
        match self.writer.load(Ordering::Acquire) {
            NOBODY => Enter::Done(slot),
            writer => {
                self.leave(slot, process);
                Enter::Writer(writer)
            }
        }
    }

    /// Gives a slot back.
    #[inline(always)]
    fn leave(&self, slot: &AtomicU64, process: Process) {
        // (S4) Release: what was read before is read before the next writer changes it.
        slot.store(NOBODY, Ordering::Release);
        process.light_fence();
        if self.freed.is_armed() {
            self.freed.wake();
        }
    }

    /// Takes any slot.
    fn enter_any(&self, process: Process) -> Enter<'_> {
        // Relaxed: only to leave the slots alone.
        match self.writer.load(Ordering::Relaxed) {
            NOBODY => {}
            writer => return Enter::Writer(writer),
        }
        let first = spread();
        for at in (first..READERS).chain(0..first) {
            let Some(slot) = self.slots.get(at) else {
                continue;
            };
            if !self.is_used(at) {
                // Relaxed: (S2) orders it. It is never taken back.
                self.used.fetch_or(1 << at, Ordering::Relaxed);
            }
            match self.enter(&slot.0, process) {
                Enter::Full => {}
                found => return found,
            }
        }
        Enter::Full
    }

    /// Waits for a slot, or for the writer.
    #[cold]
    fn contend_shared(&self, process: Process, how: How) -> Result<ReadGuard<'_>, LockError<'_>> {
        let mut waiting = Waiting::new(how);
        loop {
            let writer = match self.enter_any(process) {
                Enter::Done(slot) => return Ok(self.reading(slot, process)),
                Enter::Writer(NOT_RECOVERABLE) => return Err(Error::NotRecoverable.into()),
                Enter::Writer(writer) => writer,
                Enter::Full => {
                    if waiting.wait(&self.freed, || self.has_room())? {
                        self.forget_dead(process);
                    }
                    continue;
                }
            };
            let is_other = || self.writer.load(Ordering::Relaxed) != writer;
            let is_time = waiting.wait(&self.readers, is_other)?;
            if is_time && is_dead(writer, process) && self.take(writer, process) {
                // Relaxed: of the owner of the word. (X1) has acquired what the last one left.
                if self.changing.load(Ordering::Relaxed) != 0 {
                    return Err(self.inconsistent(process));
                }
                // It has only waited.
                self.release(NOBODY, process);
            }
        }
    }

    /// Whether a reader that found all slots taken should look again.
    fn has_room(&self) -> bool {
        // Relaxed: (S1) and (S3) follow.
        let is_free = |slot: &Line<AtomicU64>| slot.0.load(Ordering::Relaxed) == NOBODY;
        self.writer.load(Ordering::Relaxed) != NOBODY || self.slots.iter().any(is_free)
    }

    // Writing.

    #[inline(always)]
    fn acquire_exclusive(
        &self,
        process: Process,
        how: How,
    ) -> Result<WriteGuard<'_>, LockError<'_>> {
        if process.is_forked() {
            return Err(Error::Forked.into());
        }
        let has_word = self.take(NOBODY, process);
        if has_word && self.is_drained(None) {
            self.begin();
            return Ok(self.writing(process));
        }
        self.contend_exclusive(process, has_word, how)
    }

    #[inline(always)]
    fn writing(&self, process: Process) -> WriteGuard<'_> {
        WriteGuard {
            lock: self,
            process,
        }
    }

    #[cold]
    fn inconsistent(&self, process: Process) -> LockError<'_> {
        LockError::OwnerDied(Inconsistent {
            lock: self,
            process,
        })
    }

    /// Takes the writer's word from nobody, or from a dead one.
    #[inline(always)]
    fn take(&self, from: u64, process: Process) -> bool {
        // (X1) Acquire: what the last writer did is visible. Relaxed on failure: nothing is done then.
        let taken = self.writer.compare_exchange(
            from,
            process.identity(),
            // A real fence at (X2) acquires too: loom cannot see that this does.
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        // (X2)
        fence_after_exchange();
        taken.is_ok()
    }

    /// Whether nobody reads, but the one in the slot that is our own. With the word.
    #[inline(always)]
    fn is_drained(&self, own: Option<&AtomicU64>) -> bool {
        let is_empty = |slot: &AtomicU64| {
            // (X3) Acquire: it has read.
            own.is_some_and(|own| ptr::eq(own, slot)) || slot.load(Ordering::Acquire) == NOBODY
        };
        // Relaxed: (X2) orders it.
        let mut used = self.used.load(Ordering::Relaxed);
        while used != 0 {
            let slot = self.slots.get(used.trailing_zeros() as usize);
            if !slot.is_none_or(|slot| is_empty(&slot.0)) {
                return false;
            }
            used &= used - 1;
        }
        is_empty(&self.kept)
    }

    /// Says that what the lock guards may be changed from now on.
    #[inline(always)]
    fn begin(&self) {
        // Relaxed: who takes over from us knows that we are dead, and have done all that we did.
        self.changing.store(CHANGING, Ordering::Relaxed);
        // It comes before all changes, in a process that may be killed behind it: loom cannot see that.
        compiler_fence(Ordering::SeqCst);
    }

    #[cold]
    fn contend_exclusive(
        &self,
        process: Process,
        has_word: bool,
        how: How,
    ) -> Result<WriteGuard<'_>, LockError<'_>> {
        if !has_word {
            self.wait_for_word(process, how)?;
        }
        match self.drain(process, None, how)? {
            false => Ok(self.writing(process)),
            true => Err(self.inconsistent(process)),
        }
    }

    fn wait_for_word(&self, process: Process, how: How) -> Result<(), Error> {
        let mut waiting = Waiting::new(how);
        let done = loop {
            // Relaxed: (X1) follows.
            let seen = self.writer.load(Ordering::Relaxed);
            if seen == NOT_RECOVERABLE {
                break Err(Error::NotRecoverable);
            }
            if seen == NOBODY && self.take(seen, process) {
                break Ok(());
            }
            // Others may have been faster, and be done.
            let is_other = || {
                let now = self.writer.load(Ordering::Relaxed);
                now != seen || now == NOBODY
            };
            match waiting.wait(&self.writers, is_other) {
                Ok(true) if is_dead(seen, process) && self.take(seen, process) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        if waiting.has_slept {
            // Other writers may sleep, of whom `release` has woken one only.
            match done {
                Ok(()) => self.writers.arm(),
                Err(_) => self.writers.wake_one(),
            }
        }
        done
    }

    /// Waits with the word until nobody reads, but the one in the slot that is our own; whether a writer
    /// died that may have changed what the lock guards. If it fails, the word is given back.
    fn drain(&self, process: Process, own: Option<&AtomicU64>, how: How) -> Result<bool, Error> {
        // Relaxed, as in `contend_shared`.
        if self.changing.load(Ordering::Relaxed) != 0 {
            // It has waited until nobody read, and since then nobody does.
            return Ok(true);
        }
        let mut waiting = Waiting::new(how);
        while !self.is_drained(own) {
            match waiting.wait(&self.freed, || self.is_drained(own)) {
                Ok(true) => self.forget_dead(process),
                Ok(false) => {}
                Err(error) => {
                    self.release(NOBODY, process);
                    return Err(error);
                }
            }
        }
        self.begin();
        Ok(false)
    }

    /// Clears the slots of readers that are dead.
    fn forget_dead(&self, process: Process) {
        for slot in self.all() {
            // Relaxed: (S5) follows.
            let reader = slot.load(Ordering::Relaxed);
            if is_dead(reader, process) {
                // (S5) Relaxed: what the dead one has read does not matter, and those before it are
                // published by the release sequence of their (S4).
                let _ = slot.compare_exchange(reader, NOBODY, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &AtomicU64> {
        self.slots
            .iter()
            .map(|slot| &slot.0)
            .chain(core::iter::once(&self.kept))
    }

    /// Gives the word back, and wakes who sleeps.
    #[inline(always)]
    fn release(&self, to: u64, process: Process) {
        // (X4) Release: what this writer did is visible to the next one.
        self.writer.store(to, Ordering::Release);
        process.light_fence();
        if self.readers.is_armed() || self.writers.is_armed() {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if self.writers.is_armed() {
            self.writers.wake_one();
        }
        if self.readers.is_armed() {
            self.readers.wake();
        }
    }

    #[inline(always)]
    fn unlock(&self, process: Process) {
        // Release: it comes after all changes, of a process that may be killed before it: loom cannot see
        // that.
        self.changing.store(0, Ordering::Release);
        self.release(NOBODY, process);
    }
}

impl Default for RwLock {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether it was another process, which is dead.
fn is_dead(identity: u64, process: Process) -> bool {
    match identity {
        NOBODY | NOT_RECOVERABLE => false,
        identity => identity != process.identity() && !is_alive(identity),
    }
}

/// The lock is had for reading, as long as this is there.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct ReadGuard<'a> {
    pub(crate) lock: &'a RwLock,
    pub(crate) slot: &'a AtomicU64,
    process: Process,
}

impl<'a> ReadGuard<'a> {
    /// The lock.
    #[inline]
    pub fn rwlock(&self) -> &'a RwLock {
        self.lock
    }

    /// Becomes the writer; waits until nobody else reads. Nobody writes in between.
    ///
    /// # Errors
    ///
    /// - [`Error::Busy`]: another one has the word of the writer, and waits for this reader: give the
    ///   lock back.
    /// - [`Error::Forked`]: the guard is the parent's.
    /// - [`Error::System`]: the kernel does not let it sleep.
    pub fn upgrade(self) -> Result<WriteGuard<'a>, UpgradeError<'a>> {
        self.raise(How::Wait(None))
    }

    /// Becomes the writer, if nobody else reads.
    ///
    /// # Errors
    ///
    /// Those of [`ReadGuard::upgrade`]; [`Error::Busy`]: others read.
    pub fn try_upgrade(self) -> Result<WriteGuard<'a>, UpgradeError<'a>> {
        self.raise(How::Try)
    }

    /// Becomes the writer; waits until nobody else reads, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`ReadGuard::upgrade`]; [`Error::TimedOut`]: the deadline has passed.
    pub fn upgrade_deadline(self, deadline: Deadline) -> Result<WriteGuard<'a>, UpgradeError<'a>> {
        self.raise(How::Wait(Some(deadline)))
    }

    fn raise(self, how: How) -> Result<WriteGuard<'a>, UpgradeError<'a>> {
        match self.try_raise(how) {
            Ok(()) => {
                let guard = self.lock.writing(self.process);
                forget(self);
                Ok(guard)
            }
            Err(error) => Err(UpgradeError { guard: self, error }),
        }
    }

    fn try_raise(&self, how: How) -> Result<(), Error> {
        let (lock, process) = (self.lock, self.process);
        if process.is_forked() {
            return Err(Error::Forked);
        }
        if !lock.take(NOBODY, process) {
            // Relaxed: (X1) follows. It has not changed anything, as we read.
            let seen = lock.writer.load(Ordering::Relaxed);
            if !(is_dead(seen, process) && lock.take(seen, process)) {
                return Err(Error::Busy);
            }
        }
        lock.drain(process, Some(self.slot), how)?;
        // Relaxed: (X4) publishes what was read.
        self.slot.store(NOBODY, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for ReadGuard<'_> {
    /// `int pthread_rwlock_unlock(pthread_rwlock_t *rwlock)`
    #[inline]
    fn drop(&mut self) {
        // The copy of a guard in a child of fork(2) guards nothing.
        if !self.process.is_forked() {
            self.lock.leave(self.slot, self.process);
        }
    }
}

/// The lock is had for writing, as long as this is there.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct WriteGuard<'a> {
    pub(crate) lock: &'a RwLock,
    process: Process,
}

impl<'a> WriteGuard<'a> {
    /// The lock.
    #[inline]
    pub fn rwlock(&self) -> &'a RwLock {
        self.lock
    }

    /// Becomes a reader, at once. Nobody writes in between.
    pub fn downgrade(self) -> ReadGuard<'a> {
        let (lock, process) = (self.lock, self.process);
        forget(self);
        if !process.is_forked() {
            // Relaxed: (X4) publishes it. The slot is free, since only the owner of the word takes it, and
            // has seen it empty.
            lock.kept.store(process.identity(), Ordering::Relaxed);
            lock.unlock(process);
        }
        lock.reading(&lock.kept, process)
    }
}

impl Drop for WriteGuard<'_> {
    /// `int pthread_rwlock_unlock(pthread_rwlock_t *rwlock)`
    #[inline]
    fn drop(&mut self) {
        // The copy of a guard in a child of fork(2) guards nothing.
        if !self.process.is_forked() {
            self.lock.unlock(self.process);
        }
    }
}

/// The lock is had alone, and the last writer died. If it is given back like that, nobody can have it
/// any more: whoever waits, and all who come, get [`Error::NotRecoverable`].
#[derive(Debug)]
#[must_use = "the lock is lost when this is dropped"]
pub struct Inconsistent<'a> {
    lock: &'a RwLock,
    process: Process,
}

impl<'a> Inconsistent<'a> {
    /// Says that what the lock guards is consistent again. Who wanted to read can
    /// [downgrade](WriteGuard::downgrade) then.
    ///
    /// # References
    ///
    /// - [pthread_mutex_consistent(3)](https://man7.org/linux/man-pages/man3/pthread_mutex_consistent.3.html),
    ///   which the C library has for mutexes only
    pub fn mark_consistent(self) -> WriteGuard<'a> {
        let guard = self.lock.writing(self.process);
        forget(self);
        guard
    }
}

impl Drop for Inconsistent<'_> {
    fn drop(&mut self) {
        // The copy of a guard in a child of fork(2) guards nothing.
        if !self.process.is_forked() {
            self.lock.release(NOT_RECOVERABLE, self.process);
        }
    }
}
