//! A lock for what takes nanoseconds: who finds it taken looks again some times, and then sleeps.
//!
//! Mirrors pthread_spin_lock(3), but for the sleep. It costs one exchange to lock and one store to unlock.
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::pshared::Process;
//! use linipc_core::pshared::spin::SpinLock;
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! let lock = SpinLock::init(region.bytes())?;
//! let process = Process::current()?;
//! let guard = lock.lock(process)?;
//! region.bytes().write(64, b"both halves")?;
//! drop(guard);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Format
//!
//! ```text
//!  0       4      8                16
//!  +-------+------+----------------+
//!  | magic | bell | owner          |
//!  +-------+------+----------------+
//!
//!  magic  "lp", the kind, the version: 0x6c700701
//!  bell   somebody sleeps | how often it was rung << 1
//!  owner  0, or the identity of the process that has it, or 1: that process died
//! ```
//!
//! # Death
//!
//! It is not robust. Who is killed while it has the lock leaves what the lock guards half changed, and
//! the lock taken: whoever waits looks every 50 ms whether the owner is alive, and if it is not, it and
//! all who come later get [`Error::PeerDead`], until a lock is made anew by [`SpinLock::init`].
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (U1) `unlock` stores the owner | (L1), (L2) the next one exchanges it | what the lock guards |
//!
//! A sleeper and who unlocks find each other by a heavy and a light fence, as in the [`ring`](crate::ring).
//!
//! # Pitfalls
//!
//! - Locking it a second time in the same thread waits for ever.
//! - Where more threads want it than there are CPUs, its owner may not run while the others look: it is
//!   made for short waits, and a [`mutex`](super::mutex) for long ones.
//! - A process that executes another program (execve(2)) while it has the lock keeps it, and so does one
//!   whose thread ends with a forgotten guard.

use super::bell::{Bell, How, Waiting};
use super::{AttachError, Error, InPlace, Kind, Magic, find};
use crate::futex::Deadline;
use crate::shared::SharedBytes;
use crate::sync::{AtomicU64, Ordering, Process, const_fn, is_alive, layout};

const NOBODY: u64 = 0;
/// As owner: it died. No identity is so small.
const DEAD: u64 = 1;

/// A spin lock, as it is in memory.
#[derive(Debug)]
#[repr(C)]
#[doc(alias = "pthread_spinlock_t")]
pub struct SpinLock {
    magic: Magic,
    pub(crate) bell: Bell,
    pub(crate) owner: AtomicU64,
}

layout! {
    SpinLock: size 16, align 8;
    SpinLock { magic: 0, bell: 4, owner: 8 }
}

// SAFETY: It is `repr(C)`, and nothing but atomics without padding.
unsafe impl InPlace for SpinLock {}

impl SpinLock {
    const_fn! {
        /// A lock that is free, for a `static` or a field of what is shared.
        pub fn new() -> Self {
            Self {
                magic: Magic::new(Kind::Spin),
                bell: Bell::new(),
                owner: AtomicU64::new(NOBODY),
            }
        }
    }

    /// `int pthread_spin_init(pthread_spinlock_t *lock, int pshared)`: makes a free lock at the beginning
    /// of memory. Whoever used one there before must be gone.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
    /// for it.
    ///
    /// # References
    ///
    /// - [pthread_spin_init(3)](https://man7.org/linux/man-pages/man3/pthread_spin_init.3.html)
    #[doc(alias = "pthread_spin_init")]
    pub fn init(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let lock = find::<Self>(memory)?;
        lock.bell.clear();
        // Relaxed: the magic number publishes it.
        lock.owner.store(NOBODY, Ordering::Relaxed);
        lock.magic.write(Kind::Spin);
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
        lock.magic.check(Kind::Spin)?;
        Ok(lock)
    }

    /// `int pthread_spin_lock(pthread_spinlock_t *lock)`: locks; waits until it can.
    ///
    /// # Errors
    ///
    /// - [`Error::PeerDead`]: its owner died.
    /// - [`Error::Forked`]: the token is the parent's.
    /// - [`Error::System`]: the kernel does not let it sleep.
    ///
    /// # References
    ///
    /// - [pthread_spin_lock(3)](https://man7.org/linux/man-pages/man3/pthread_spin_lock.3.html)
    #[inline]
    #[doc(alias = "pthread_spin_lock")]
    pub fn lock(&self, process: Process) -> Result<Guard<'_>, Error> {
        self.acquire(process, How::Wait(None))
    }

    /// `int pthread_spin_trylock(pthread_spinlock_t *lock)`: locks, if nobody has it.
    ///
    /// # Errors
    ///
    /// Those of [`SpinLock::lock`], but [`Error::PeerDead`] only after one who waited has found that;
    /// [`Error::Busy`]: somebody has it.
    ///
    /// # References
    ///
    /// - [pthread_spin_lock(3)](https://man7.org/linux/man-pages/man3/pthread_spin_lock.3.html)
    #[inline]
    #[doc(alias = "pthread_spin_trylock")]
    pub fn try_lock(&self, process: Process) -> Result<Guard<'_>, Error> {
        self.acquire(process, How::Try)
    }

    /// Locks; waits until it can, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`SpinLock::lock`]; [`Error::TimedOut`]: the deadline has passed. A lock that is free is
    /// locked even then.
    #[inline]
    pub fn lock_deadline(&self, process: Process, deadline: Deadline) -> Result<Guard<'_>, Error> {
        self.acquire(process, How::Wait(Some(deadline)))
    }

    #[inline(always)]
    fn acquire(&self, process: Process, how: How) -> Result<Guard<'_>, Error> {
        if process.is_forked() {
            return Err(Error::Forked);
        }
        // (L1)
        if !self.take(process) {
            self.contend(process, how)?;
        }
        Ok(Guard {
            lock: self,
            process,
        })
    }

    #[inline(always)]
    fn take(&self, process: Process) -> bool {
        // Acquire: what the last owner did is visible. Relaxed on failure: nothing is done then.
        self.owner
            .compare_exchange(
                NOBODY,
                process.identity(),
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Gets what was not free.
    #[cold]
    fn contend(&self, process: Process, how: How) -> Result<(), Error> {
        let mut waiting = Waiting::new(how);
        let done = loop {
            // Relaxed: (L2) follows.
            let seen = self.owner.load(Ordering::Relaxed);
            if seen == DEAD {
                break Err(Error::PeerDead);
            }
            // (L2)
            if seen == NOBODY && self.take(process) {
                break Ok(());
            }
            if let How::Try = how {
                break Err(Error::Busy);
            }
            let is_other = || {
                // Others may have been faster, and be done.
                let now = self.owner.load(Ordering::Relaxed);
                now != seen || now == NOBODY
            };
            match waiting.wait(&self.bell, is_other) {
                Ok(true) if seen != NOBODY && !is_alive(seen) => {
                    // Relaxed: nobody shall rely on what the dead one did.
                    let _ = self.owner.compare_exchange(
                        seen,
                        DEAD,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        if waiting.has_slept {
            // Others may sleep, of whom `unlock` has woken one only.
            match done {
                Ok(()) => self.bell.arm(),
                Err(_) => self.bell.wake_one(),
            }
        }
        done
    }

    #[inline(always)]
    fn unlock(&self, process: Process) {
        // (U1) Release: what this owner did is visible to the next one.
        self.owner.store(NOBODY, Ordering::Release);
        process.light_fence();
        if self.bell.is_armed() {
            self.bell.wake_one();
        }
    }
}

impl Default for SpinLock {
    fn default() -> Self {
        Self::new()
    }
}

/// The lock is taken, as long as this is there.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct Guard<'a> {
    pub(crate) lock: &'a SpinLock,
    process: Process,
}

impl<'a> Guard<'a> {
    /// The lock.
    #[inline]
    pub fn lock(&self) -> &'a SpinLock {
        self.lock
    }
}

impl Drop for Guard<'_> {
    /// `int pthread_spin_unlock(pthread_spinlock_t *lock)`
    #[inline]
    fn drop(&mut self) {
        // The copy of a guard in a child of fork(2) guards nothing.
        if !self.process.is_forked() {
            self.lock.unlock(self.process);
        }
    }
}
