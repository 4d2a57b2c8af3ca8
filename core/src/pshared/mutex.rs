//! A robust mutex: whoever holds it may be killed, and the next one learns that.
//!
//! Mirrors pthread_mutex_lock(3), pthread_mutexattr_setrobust(3) and futex(2). There are two protocols: our
//! own, in which unlocking is a store, and that of glibc's `pthread_mutex_t`, for a mutex that C programs lock
//! too ([`pthread`](super::pthread)), and for one that [inherits priority](Mutex::inheriting). Who attaches
//! need not know which it is.
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::pshared::mutex::{Kind, LockError, Mutex};
//! use linipc_core::robust::Thread;
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! // SAFETY: Only this program has the memory.
//! let mutex = unsafe { Mutex::init(region.bytes(), Kind::Normal) }?;
//! let thread = Thread::current()?;
//! let guard = match mutex.lock(thread) {
//!     Ok(guard) => guard,
//!     // What the lock guards may be half changed: repair it here.
//!     Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
//!     Err(LockError::Failed(error)) => return Err(error.into()),
//! };
//! drop(guard);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Format
//!
//! ```text
//!  0     4      8      12     16    20        24        32     40
//!  +-----+------+------+------+-----+---------+---------+------+
//!  |lock |count |owner |users |kind | (link)  | previous| next |
//!  +-----+------+------+------+-----+---------+---------+------+
//!   shared, whoever has it                  |  of the owner's process only
//!
//!  lock   thread id of the owner | somebody sleeps << 31 | an owner died << 30
//!  count  how often the owner has it; kept for recursive mutexes, and always in C's protocol
//!  owner  the same id (C's), or 0; INT_MAX: inconsistent; INT_MAX - 1: not recoverable
//!  users  0, or 1: somebody may sleep; in C's protocol how many have it
//!  kind   0 normal, 1 recursive, 2 error-checking
//!         | 0x6c70008c: our protocol, which glibc refuses with EINVAL
//!         | 16 robust | 32 inherits priority | 128 shared: C's
//!         | 512 a C program said that it is normal
//! ```
//!
//! It is the place of each word in 64-bit glibc, on all machines. Lists of 32 bit have one link, at 20.
//!
//! # Links and strangers
//!
//! While a mutex is held it is in the robust list of its owner's thread, whose links are in the last 16
//! bytes (on 32 bit 20). Who else may write these can lead us to write anywhere, when we unlock. So [`Mutex::init`] and
//! [`Mutex::attach`] are `unsafe`: all who can write the memory must be trusted. For others there is
//! [`Split`]: what is before the links is at the end of a shared page, and behind it each process has a
//! page of its own for the links.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (U1) `unlock` stores or exchanges the lock word | (L1), (L2) the next owner exchanges it | what the mutex guards |
//! | the kernel sets `OWNER_DIED` | (L2) the next owner exchanges it | the same, as far as it came |
//!
//! Who unlocks by a store does not see the bit of those who sleep, and writes over it. It and they find
//! each other by the word `asleep` (C's `users`):
//!
//! | who goes to sleep | who unlocks while `asleep` is 0 |
//! |---|---|
//! | (S1) sets `asleep` | (U1) stores 0 in the lock word |
//! | (S2) heavy fence | (U2) light fence |
//! | (S3) sets the bit in the lock word, or finds it free | (U3) looks at `asleep`, and wakes one |
//! | (S4) looks whether `asleep` is still set, and sleeps | |
//!
//! If (S2) is before (U2), (U3) sees the word, or whoever has cleared it wakes one later; if not, (S3) sees
//! the lock free. While `asleep` is set, owners unlock as in C's protocol, by an exchange that shows the bit.
//! An owner that finds no bit clears `asleep` *before* that exchange, and wakes one after it in any case: one
//! whose bit was written over by a store that has not come to (U3) yet. Who was woken sets both again when it
//! sleeps, or has the lock, for it does not know whether others sleep; if it gives up, it wakes the next one.
//! (S4) is for one that set `asleep` before an owner cleared it, and the bit in the word of a later owner.
//!
//! Where the heavy fence is refused, who sleeps looks again every millisecond.
//!
//! # Pitfalls
//!
//! - A mutex belongs to a thread, and its guards cannot be sent to another one.
//! - Deadlocks are found only by error-checking and recursive mutexes, and by those that inherit priority.
//! - Locking one's normal mutex a second time waits for ever, as POSIX has it.
//! - A signal handler must not lock or unlock: it may interrupt a change of the thread's list.
//! - Of some owners the kernel does not tell: a thread other than the first that calls execve(2), one whose
//!   list leads through memory that is gone. Who waits asks for them every 50 ms; who only tries does not.
//! - If one is killed just when it gives the mutex to those who sleep, and another one is faster than they are,
//!   they may sleep until they look again, after 50 ms.

use core::fmt;
use core::mem;
use core::ptr;
use core::sync::atomic::AtomicUsize;

use rustix::io::Errno;

use super::{AttachError, Error, InPlace, LOOK, NAP, PAUSE, find};
use crate::futex::Deadline;
use crate::shared::SharedBytes;
use crate::sync::{
    AtomicU32, Node, Ordering, SPINS, Thread, Word, const_fn, has_passed, heavy_fence, is_anybody,
    layout, left, lock_pi, overwrite, requeue, sleep, spin, try_lock_pi, unlock_pi, wake_one,
};

mod split;
mod stalled;

use self::split::Claim;
#[cfg(loom)]
pub use self::split::SplitModel;
pub use self::split::{Split, SplitMutex};

/// Somebody sleeps (`FUTEX_WAITERS`).
const WAITERS: u32 = 1 << 31;
/// An owner died (`FUTEX_OWNER_DIED`).
const OWNER_DIED: u32 = 1 << 30;
/// Whose it is (`FUTEX_TID_MASK`).
const OWNER: u32 = OWNER_DIED - 1;

/// As owner: it died, and who has the mutex now has not said that all is consistent.
const INCONSISTENT: u32 = i32::MAX as u32;
/// As owner: nobody can have it any more.
const NOT_RECOVERABLE: u32 = INCONSISTENT - 1;

/// Our own protocol: "lp", and in the lower 7 bits nothing that glibc knows.
const NATIVE: u32 = 0x6c70_008c;
/// C's: robust, and shared.
const PTHREAD: u32 = 16 | SHARED;
const SHARED: u32 = 128;
const INHERIT: u32 = 32;
/// glibc's, where a program says of a normal mutex that it is one.
const NORMAL: u32 = 512;
/// Of what is read once, and in no memory: a [`Split`]'s.
const SPLIT: u32 = 1 << 31;

/// What happens when the owner locks again: `pthread_mutexattr_settype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "pthread_mutexattr_settype")]
pub enum Kind {
    /// `PTHREAD_MUTEX_NORMAL`: it waits for itself.
    Normal = 0,
    /// `PTHREAD_MUTEX_RECURSIVE`: it has it once more, and unlocks as often.
    Recursive = 1,
    /// `PTHREAD_MUTEX_ERRORCHECK`: [`Error::Deadlock`].
    ErrorCheck = 2,
}

/// What a mutex is, as read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attributes(u32);

impl Attributes {
    const fn new(kind: Kind, protocol: u32) -> Self {
        Self(kind as u32 | protocol)
    }

    const PLAIN: Self = Self::new(Kind::Normal, NATIVE);
    const PLAIN_PTHREAD: Self = Self::new(Kind::Normal, PTHREAD);

    fn check(bits: u32) -> Option<Self> {
        let is_kind = |of: u32| of <= Kind::ErrorCheck as u32;
        let is_native = is_kind(bits.wrapping_sub(NATIVE));
        let is_pthread = is_kind((bits & !(INHERIT | NORMAL)).wrapping_sub(PTHREAD));
        (is_native || is_pthread).then_some(Self(bits))
    }

    /// Whether nobody learns of its owner's death.
    fn is_stalled(self) -> bool {
        (self.0 & !NORMAL).wrapping_sub(SHARED) <= Kind::ErrorCheck as u32
    }

    /// Whether neither C, nor the kernel, nor a count has a part in it.
    #[inline(always)]
    fn is_plain(self) -> bool {
        self.0 & !(Kind::ErrorCheck as u32) == Self::PLAIN.0
    }

    /// Whether neither the kernel nor a count has a part in it, but C has.
    fn is_plain_pthread(self) -> bool {
        self.0 & !(Kind::ErrorCheck as u32) == Self::PLAIN_PTHREAD.0
    }

    #[inline(always)]
    fn is_native(self) -> bool {
        self.0 & NATIVE == NATIVE
    }

    /// Those of a [`Split`]. Who has it, and how often, is not to be read from what others can write.
    fn split(self) -> Self {
        Self(SPLIT | self.0 & !3 | Kind::ErrorCheck as u32)
    }

    fn is_split(self) -> bool {
        self.0 & SPLIT != 0
    }

    fn inherits(self) -> bool {
        self.0 & INHERIT != 0
    }

    fn is(self, kind: Kind) -> bool {
        self.0 & 3 == kind as u32
    }
}

/// A mutex, as it is in memory.
#[derive(Debug)]
#[repr(C)]
#[doc(alias = "pthread_mutex_t")]
pub struct Mutex {
    pub(crate) lock: Word,
    count: AtomicU32,
    owner: AtomicU32,
    /// In our protocol, whether somebody may sleep: `asleep` above.
    users: AtomicU32,
    kind: AtomicU32,
    _link: AtomicU32,
    _links: [AtomicUsize; LINKS],
}

/// The last 16 bytes, as words of the machine: on 32 bit a mutex need only be aligned to 4, as [`Split`] has it.
const LINKS: usize = 16 / size_of::<usize>();

layout! {
    Mutex: size 40, align size_of::<usize>();
    Mutex { lock: 0, count: 4, owner: 8, users: 12, kind: 16, _link: 20, _links: 24 }
}

// SAFETY: It is `repr(C)`, and nothing but atomics without padding.
unsafe impl InPlace for Mutex {}

/// How far a call goes.
#[derive(Debug, Clone, Copy)]
enum How {
    Try,
    Wait(Option<Deadline>),
    /// Waits like one who has slept: others may sleep on the word, of whom nobody but this one knows.
    Requeued,
}

impl How {
    /// The bit for those others.
    #[inline(always)]
    fn others(self) -> u32 {
        match self {
            Self::Requeued => WAITERS,
            Self::Try | Self::Wait(_) => 0,
        }
    }

    /// How long to wait; [`Error::Busy`] if not at all.
    #[inline(always)]
    fn deadline(self) -> Result<Option<Deadline>, Error> {
        match self {
            Self::Try => Err(Error::Busy),
            Self::Wait(deadline) => Ok(deadline),
            Self::Requeued => Ok(None),
        }
    }
}

/// Why a mutex was not simply locked.
#[derive(Debug)]
pub enum LockError<'a> {
    /// It is locked, and its last owner died: what it guards may be half changed (`EOWNERDEAD`).
    OwnerDied(Inconsistent<'a>),
    /// It is not locked.
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
            Self::OwnerDied(_) => f.write_str("the owner of the mutex died"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for LockError<'_> {}

impl Mutex {
    const_fn! {
        /// A mutex that is free, for a `static` or a field of what is shared.
        ///
        /// # Safety
        ///
        /// As for [`Mutex::init`]; and it must not be moved or freed while it is locked, even if its
        /// guard was forgotten. A `static` is right.
        pub unsafe fn new(kind: Kind) -> Self {
            Self::with(Attributes::new(kind, NATIVE))
        }
    }

    const_fn! {
        /// [`Mutex::new`] that C programs find as a `pthread_mutex_t` of 64-bit glibc.
        ///
        /// # Safety
        ///
        /// As for [`Mutex::new`].
        pub unsafe fn pthread(kind: Kind) -> Self {
            Self::with(Attributes::new(kind, PTHREAD))
        }
    }

    const_fn! {
        /// [`Mutex::pthread`] that lends its owner the priority of those who wait
        /// (`PTHREAD_PRIO_INHERIT`): each wait is the kernel's.
        ///
        /// # Safety
        ///
        /// As for [`Mutex::new`].
        #[doc(alias = "pthread_mutexattr_setprotocol")]
        pub unsafe fn inheriting(kind: Kind) -> Self {
            Self::with(Attributes::new(kind, PTHREAD | INHERIT))
        }
    }

    const_fn! {
        fn with(attributes: Attributes) -> Self {
            Self {
                lock: Word::new(0),
                count: AtomicU32::new(0),
                owner: AtomicU32::new(0),
                users: AtomicU32::new(0),
                kind: AtomicU32::new(attributes.0),
                _link: AtomicU32::new(0),
                _links: [const { AtomicUsize::new(0) }; LINKS],
            }
        }
    }

    /// `int pthread_mutex_init(pthread_mutex_t *, const pthread_mutexattr_t *)`: makes a free mutex at
    /// the beginning of memory. Whoever used one there before must be gone.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
    /// for it.
    ///
    /// # Safety
    ///
    /// As long as anybody uses the mutex, all who can write its 40 bytes must be trusted to do that by
    /// locking only; and they stay mapped while this process has it, even if its guard was forgotten.
    ///
    /// # References
    ///
    /// - [pthread_mutex_init(3)](https://man7.org/linux/man-pages/man3/pthread_mutex_init.3p.html)
    #[doc(alias = "pthread_mutex_init")]
    pub unsafe fn init(memory: SharedBytes<'_>, kind: Kind) -> Result<&Self, AttachError> {
        find::<Self>(memory).map(|mutex| mutex.format(Attributes::new(kind, NATIVE)))
    }

    /// [`Mutex::init`] of one that C programs lock [too](Mutex::pthread).
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::init`].
    ///
    /// # Safety
    ///
    /// As for [`Mutex::init`].
    pub unsafe fn init_pthread(memory: SharedBytes<'_>, kind: Kind) -> Result<&Self, AttachError> {
        find::<Self>(memory).map(|mutex| mutex.format(Attributes::new(kind, PTHREAD)))
    }

    /// [`Mutex::init`] of an [inheriting](Mutex::inheriting) mutex.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::init`].
    ///
    /// # Safety
    ///
    /// As for [`Mutex::init`].
    pub unsafe fn init_inheriting(
        memory: SharedBytes<'_>,
        kind: Kind,
    ) -> Result<&Self, AttachError> {
        find::<Self>(memory).map(|mutex| mutex.format(Attributes::new(kind, PTHREAD | INHERIT)))
    }

    /// The mutex at the beginning of memory.
    ///
    /// # Errors
    ///
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory for one.
    /// - [`AttachError::NotFound`]: there is none, or one that is not robust or not process-shared.
    ///
    /// # Safety
    ///
    /// As for [`Mutex::init`].
    pub unsafe fn attach(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let mutex = find::<Self>(memory)?;
        mutex.checked()?;
        Ok(mutex)
    }

    /// As [`Mutex::attach`], but also one that is not robust (`PTHREAD_MUTEX_STALLED`, what C programs get
    /// if they ask for nothing else): who waits for it when its owner dies waits for ever. One that inherits
    /// priority without being robust is not found.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::attach`].
    ///
    /// # Safety
    ///
    /// As for [`Mutex::init`].
    #[doc(alias = "PTHREAD_MUTEX_STALLED")]
    pub unsafe fn attach_stalled(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
        let mutex = find::<Self>(memory)?;
        // Acquire: of whoever made it. In models nobody attaches: loom cannot see it.
        match Attributes(mutex.kind.load(Ordering::Acquire)).is_stalled() {
            true => Ok(mutex),
            false => mutex.checked().map(|_| mutex),
        }
    }

    fn format(&self, attributes: Attributes) -> &Self {
        for word in [&self.count, &self.owner, &self.users] {
            word.store(0, Ordering::Relaxed);
        }
        self.lock.store(0, Ordering::Relaxed);
        // Release: who attaches finds a free mutex. In models nobody attaches: loom cannot see it.
        self.kind.store(attributes.0, Ordering::Release);
        self
    }

    fn checked(&self) -> Result<Attributes, AttachError> {
        // Acquire: of `format`. In models nobody attaches: loom cannot see it.
        Attributes::check(self.kind.load(Ordering::Acquire)).ok_or(AttachError::NotFound)
    }

    /// `int pthread_mutex_lock(pthread_mutex_t *mutex)`: locks; waits until it can.
    ///
    /// # Errors
    ///
    /// - [`LockError::OwnerDied`]: it is locked, and its last owner died.
    /// - [`Error::NotRecoverable`]: that was so, and who had it then did not mark it consistent.
    /// - [`Error::Deadlock`]: the thread has it already.
    /// - [`Error::Overflow`]: a recursive mutex is locked 2³² - 1 times.
    /// - [`Error::Forked`]: the token is the parent's.
    /// - [`Error::Corrupt`]: not a mutex of this format any more.
    /// - [`Error::System`]: `NOMEM`, `SRCH`, `NOSYS` of a mutex that inherits priority.
    ///
    /// # References
    ///
    /// - [pthread_mutex_lock(3)](https://man7.org/linux/man-pages/man3/pthread_mutex_lock.3p.html)
    #[inline(always)]
    #[doc(alias = "pthread_mutex_lock")]
    pub fn lock(&self, thread: Thread) -> Result<Guard<'_>, LockError<'_>> {
        self.acquire(thread, self.attributes(), How::Wait(None))
    }

    /// `int pthread_mutex_trylock(pthread_mutex_t *mutex)`: locks, if nobody has it.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`]; [`Error::Busy`]: somebody has it.
    ///
    /// # References
    ///
    /// - [pthread_mutex_lock(3)](https://man7.org/linux/man-pages/man3/pthread_mutex_lock.3p.html)
    #[inline(always)]
    #[doc(alias = "pthread_mutex_trylock")]
    pub fn try_lock(&self, thread: Thread) -> Result<Guard<'_>, LockError<'_>> {
        self.acquire(thread, self.attributes(), How::Try)
    }

    /// `int pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clockid, const struct timespec
    /// *abstime)`: locks; waits until it can, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`]; [`Error::TimedOut`]: the deadline has passed. A mutex that is free is
    /// locked even then.
    ///
    /// # References
    ///
    /// - [pthread_mutex_timedlock(3)](https://man7.org/linux/man-pages/man3/pthread_mutex_timedlock.3p.html)
    #[inline]
    #[doc(alias = "pthread_mutex_timedlock")]
    #[doc(alias = "pthread_mutex_clocklock")]
    pub fn lock_deadline(
        &self,
        thread: Thread,
        deadline: Deadline,
    ) -> Result<Guard<'_>, LockError<'_>> {
        self.acquire(thread, self.attributes(), How::Wait(Some(deadline)))
    }

    /// The guard of what this thread has locked and forgotten ([`core::mem::forget`]): for callers who unlock
    /// elsewhere than they locked, such as C programs.
    ///
    /// # Errors
    ///
    /// - [`LockError::OwnerDied`]: it was locked like that, and not marked consistent yet.
    /// - [`Error::System`]: `PERM`: the thread does not have it.
    /// - [`Error::Forked`]: the token is the parent's.
    /// - [`Error::Corrupt`]: not a mutex of this format any more.
    ///
    /// # Safety
    ///
    /// As often as the thread has locked it, a guard was forgotten, and taken up by this at most once.
    pub unsafe fn resume(&self, thread: Thread) -> Result<Guard<'_>, LockError<'_>> {
        let attributes = self.attributes();
        if thread.is_forked() {
            return Err(Error::Forked.into());
        }
        if !attributes.is_stalled() {
            Attributes::check(attributes.0).ok_or(Error::Corrupt)?;
        }
        // Relaxed: of this thread, if it is the owner.
        let is_mine = match attributes.is_stalled() {
            true => self.owner.load(Ordering::Relaxed) == thread.id(),
            false => self.lock.load(Ordering::Relaxed) & OWNER == thread.id(),
        };
        if !is_mine {
            return Err(Error::System(Errno::PERM).into());
        }
        let guard = Guard {
            mutex: self,
            thread,
            attributes,
        };
        // Relaxed: as above.
        match self.owner.load(Ordering::Relaxed) {
            INCONSISTENT => Err(LockError::OwnerDied(Inconsistent(mem::ManuallyDrop::new(
                guard,
            )))),
            _ => Ok(guard),
        }
    }

    /// What it is, unchecked.
    #[inline(always)]
    fn attributes(&self) -> Attributes {
        // Relaxed: it does not change. No mutex in memory is a `Split`'s.
        Attributes(self.kind.load(Ordering::Relaxed) & !SPLIT)
    }

    #[inline(always)]
    fn node(&self, attributes: Attributes) -> Node {
        let word = ptr::from_ref(self).cast::<u8>();
        // SAFETY: The word is at the beginning of a mutex of this format. Its links are trusted, or
        // nobody else can reach them: the promise of `init` and `attach`, `Split`, or a `static`'s.
        unsafe { Node::of(word, attributes.inherits()) }
    }

    #[inline(always)]
    fn acquire(
        &self,
        thread: Thread,
        attributes: Attributes,
        how: How,
    ) -> Result<Guard<'_>, LockError<'_>> {
        let locked = self.acquire_word(thread, attributes, how);
        let guard = Guard {
            mutex: self,
            thread,
            attributes,
        };
        match locked {
            Ok(Locked::Consistent) => Ok(guard),
            Ok(Locked::OwnerDied) => Err(LockError::OwnerDied(Inconsistent(
                mem::ManuallyDrop::new(guard),
            ))),
            Err(error) => {
                mem::forget(guard);
                Err(error.into())
            }
        }
    }

    #[inline(always)]
    fn acquire_word(
        &self,
        thread: Thread,
        attributes: Attributes,
        how: How,
    ) -> Result<Locked, Error> {
        if thread.is_forked() {
            return Err(Error::Forked);
        }
        if !attributes.is_plain() {
            return self.acquire_slowly(thread, attributes, how);
        }
        self.acquire_with(thread, Attributes::PLAIN, attributes, how)
    }

    #[inline(never)]
    fn acquire_slowly(
        &self,
        thread: Thread,
        attributes: Attributes,
        how: How,
    ) -> Result<Locked, Error> {
        if attributes.is_plain_pthread() {
            return self.acquire_with(thread, Attributes::PLAIN_PTHREAD, attributes, how);
        }
        if attributes.is_stalled() {
            return self.acquire_stalled(thread, attributes, how);
        }
        Attributes::check(attributes.0 & !SPLIT).ok_or(Error::Corrupt)?;
        self.acquire_with(thread, attributes, attributes, how)
    }

    /// `place` says what is the same for all that take this path.
    #[inline(always)]
    fn acquire_with(
        &self,
        thread: Thread,
        place: Attributes,
        attributes: Attributes,
        how: How,
    ) -> Result<Locked, Error> {
        let node = self.node(place);
        thread.begin(node);
        // (L1) Acquire: what the last owner did is visible. Relaxed on failure: nothing is done then.
        let mine = thread.id() | how.others();
        let taken = self
            .lock
            .compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed);
        // Relaxed: the lock word orders it, and all that follows.
        match taken {
            Ok(_) if self.owner.load(Ordering::Relaxed) != NOT_RECOVERABLE => {
                self.finish(thread, node, place, how.others());
                Ok(Locked::Consistent)
            }
            Ok(_) => Err(self.give_up(thread, attributes)),
            Err(seen) => self.acquire_contended(seen, thread, attributes, how),
        }
    }

    /// The mutex is the thread's, and consistent: does what else belongs to that.
    #[inline(always)]
    fn finish(&self, thread: Thread, node: Node, place: Attributes, others: u32) {
        thread.insert(node);
        if !place.is_plain() {
            self.count.store(1, Ordering::Relaxed);
        }
        if place.is_native() {
            if others != 0 {
                self.set_asleep();
            }
        } else {
            self.owner.store(thread.id(), Ordering::Relaxed);
            let users = self.users.load(Ordering::Relaxed);
            self.users.store(users.wrapping_add(1), Ordering::Relaxed);
        }
        thread.end();
    }

    #[cold]
    #[inline(never)]
    fn acquire_contended(
        &self,
        seen: u32,
        thread: Thread,
        attributes: Attributes,
        how: How,
    ) -> Result<Locked, Error> {
        let mut others = how.others();
        let got = match self.contend(seen, thread, attributes, how, &mut others) {
            Ok(got) => got,
            Err(error) => {
                if others != 0 {
                    // It may have been woken in place of another one.
                    self.wake();
                }
                thread.end();
                return Err(error);
            }
        };
        // Relaxed: as in `acquire_with`.
        let owner = self.owner.load(Ordering::Relaxed);
        match got {
            Got::Again => {
                thread.end();
                match owner {
                    INCONSISTENT => Ok(Locked::OwnerDied),
                    _ => Ok(Locked::Consistent),
                }
            }
            _ if owner == NOT_RECOVERABLE => Err(self.give_up(thread, attributes)),
            Got::Free => {
                self.finish(thread, self.node(attributes), attributes, others);
                Ok(Locked::Consistent)
            }
            Got::OwnerDied => {
                thread.insert(self.node(attributes));
                if !attributes.is_plain() {
                    self.count.store(1, Ordering::Relaxed);
                }
                if attributes.is_native() {
                    self.set_asleep();
                }
                // For C the dead one stays counted as a user, in place of this one.
                self.owner.store(INCONSISTENT, Ordering::Relaxed);
                thread.end();
                Ok(Locked::OwnerDied)
            }
        }
    }

    /// Nobody can have it any more, so it is given back at once.
    #[cold]
    #[inline(never)]
    fn give_up(&self, thread: Thread, attributes: Attributes) -> Error {
        if attributes.is_native() {
            // The bit may be in the word without it, for one that has slept does not know whether others do.
            self.set_asleep();
        }
        self.release(thread, attributes);
        thread.end();
        Error::NotRecoverable
    }

    /// Gets what was not free.
    fn contend(
        &self,
        seen: u32,
        thread: Thread,
        attributes: Attributes,
        how: How,
        others: &mut u32,
    ) -> Result<Got, Error> {
        if seen & OWNER == thread.id() {
            if attributes.is(Kind::Recursive) {
                // Relaxed: of this thread, as long as it is the owner.
                let count = self.count.load(Ordering::Relaxed);
                let count = count.checked_add(1).ok_or(Error::Overflow)?;
                self.count.store(count, Ordering::Relaxed);
                return Ok(Got::Again);
            }
            match how {
                How::Try => return Err(Error::Busy),
                _ if attributes.is(Kind::ErrorCheck) => return Err(Error::Deadlock),
                _ => {}
            }
        }
        if attributes.inherits() {
            return self.contend_inheriting(how);
        }
        self.wait(seen, thread, attributes, how, others)
    }

    /// `others` becomes the bit of who has slept, and does not know whether others do.
    fn wait(
        &self,
        mut seen: u32,
        thread: Thread,
        attributes: Attributes,
        how: How,
        others: &mut u32,
    ) -> Result<Got, Error> {
        let mut spins = SPINS;
        let mut pause = 1;
        let mut tries = 10;
        loop {
            if seen & OWNER == 0 {
                let mine = thread.id() | seen & WAITERS | *others;
                // (L2) Acquire: as (L1).
                match self.lock.compare_exchange_weak(
                    seen,
                    mine,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) if seen & OWNER_DIED != 0 => return Ok(Got::OwnerDied),
                    Ok(_) => return Ok(Got::Free),
                    Err(now) => seen = now,
                }
                continue;
            }
            let deadline = how.deadline()?;
            if spins > 0 {
                spins -= 1;
                for _ in 0..pause {
                    spin();
                }
                pause = (2 * pause).min(PAUSE);
                seen = self.lock.load(Ordering::Relaxed);
                continue;
            }
            // Also where the word never is what the kernel compares it with.
            if deadline.is_some_and(has_passed) {
                return Err(Error::TimedOut);
            }
            let mut at_most = LOOK;
            if attributes.is_native() {
                // (S1)
                self.set_asleep();
                // (S2)
                if !heavy_fence() {
                    at_most = NAP;
                }
            }
            // (S3) Acquire: an owner's clearing of `asleep`, for (S4). The kernel compares again; who unlocks
            // by an exchange sees the bit in the very word that it exchanges.
            let now = match seen & WAITERS {
                0 => self.lock.compare_exchange(
                    seen,
                    seen | WAITERS,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ),
                // Who has set the bit looks too, so that models do without: loom cannot see it.
                _ => Ok(self.lock.load(Ordering::Acquire)),
            };
            if now != Ok(seen) {
                seen = now.unwrap_or_else(|now| now);
                continue;
            }
            // (S4) Relaxed: (S3) orders it.
            if attributes.is_native() && self.users.load(Ordering::Relaxed) == 0 {
                if tries > 0 {
                    tries -= 1;
                    // Others may rely on this one by now.
                    *others = WAITERS;
                    seen |= WAITERS;
                    continue;
                }
                // It is a stranger who clears it.
                at_most = NAP;
            }
            // A wake may have been for one who was killed before it could lock.
            match sleep(&self.lock, seen | WAITERS, left(deadline, at_most)) {
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::TIMEDOUT) if !deadline.is_some_and(has_passed) => self.look_for_owner(),
                Err(error) => return Err(error.into()),
            }
            *others = WAITERS;
            spins = SPINS;
            seen = self.lock.load(Ordering::Relaxed);
        }
    }

    /// Does what the kernel should have done, if the owner has ended: it did not if that thread has called
    /// execve(2), or had more locks than the kernel goes through, or one whose memory was gone.
    fn look_for_owner(&self) {
        // Relaxed, all: (L2) follows, and the kernel's answer is the edge to what the owner did.
        let seen = self.lock.load(Ordering::Relaxed);
        if seen & OWNER != 0 && !is_anybody(seen & OWNER) {
            // A thread is there until the kernel has gone through its list, so this is what it left.
            let died = seen & WAITERS | OWNER_DIED;
            let _ = self
                .lock
                .compare_exchange(seen, died, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The kernel makes the rest of the protocol, and it has the word.
    fn contend_inheriting(&self, how: How) -> Result<Got, Error> {
        match how {
            How::Try if !try_lock_pi(&self.lock)? => return Err(Error::Busy),
            How::Try => {}
            _ => lock_pi(&self.lock, how.deadline()?)?,
        }
        // (L2) Acquire: as (L1); the kernel keeps the bit of an owner that died. That call took the lock, and is
        // an edge itself in models: loom cannot see it.
        match self.lock.load(Ordering::Acquire) & OWNER_DIED {
            0 => Ok(Got::Free),
            _ => {
                // Relaxed: (L2) has seen what the dead one did.
                self.lock.fetch_and(!OWNER_DIED, Ordering::Relaxed);
                Ok(Got::OwnerDied)
            }
        }
    }

    /// Says that somebody may sleep.
    fn set_asleep(&self) {
        // Relaxed: of the owner, or as (S1), which (S2) orders.
        self.users.swap(1, Ordering::Relaxed);
    }

    /// Gives the word back, and wakes one who sleeps.
    #[inline(always)]
    fn release(&self, thread: Thread, attributes: Attributes) {
        if attributes.is_native() {
            // Relaxed: if it is being set just now, (U3) sees it.
            if self.users.load(Ordering::Relaxed) != 0 {
                return self.release_to_sleepers();
            }
            if self.release_to_nobody(thread) {
                self.wake();
            }
            return;
        }
        if attributes.inherits() {
            // (U1) Release: what this owner did is visible to the next one.
            let free =
                self.lock
                    .compare_exchange(thread.id(), 0, Ordering::Release, Ordering::Relaxed);
            if free.is_err() {
                // It fails only where somebody else has written the word.
                let _ = unlock_pi(&self.lock);
            }
            return;
        }
        // (U1) Release: what this owner did is visible to the next one.
        if self.lock.swap(0, Ordering::Release) & WAITERS != 0 {
            self.wake();
        }
    }

    /// The same, in our protocol, while nobody sleeps; whether somebody may sleep by now, who is to be woken.
    #[inline(always)]
    fn release_to_nobody(&self, thread: Thread) -> bool {
        // (U1) Release: what this owner did is visible to the next one.
        overwrite(&self.lock, 0);
        // (U2)
        thread.light_fence();
        // (U3) Relaxed: (U2) orders it.
        self.users.load(Ordering::Relaxed) != 0
    }

    /// The same, while somebody may sleep.
    #[cold]
    #[inline(never)]
    fn release_to_sleepers(&self) {
        // Relaxed, all: the exchanges publish it, and (S3) sees it there, or in the word of a later owner.
        let mine = self.lock.load(Ordering::Relaxed);
        if mine & WAITERS == 0 {
            self.users.swap(0, Ordering::Relaxed);
            // (U1) Release: as there, and that `asleep` is cleared.
            let free = self
                .lock
                .compare_exchange(mine, 0, Ordering::Release, Ordering::Relaxed);
            if free.is_ok() {
                return self.wake();
            }
            // The bit came. This is still the owner: later it could be taken for that of one who sleeps.
            self.set_asleep();
        }
        // (U1) Release: as there.
        self.lock.swap(0, Ordering::Release);
        self.wake();
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        wake_one(&self.lock);
    }

    /// Leaves it as `owner` says: to anybody, or to nobody any more.
    #[inline(always)]
    fn unlock(&self, thread: Thread, attributes: Attributes, owner: u32) {
        let node = self.node(attributes);
        thread.begin(node);
        // Relaxed: (U1) publishes them.
        if !attributes.is_native() || owner != 0 {
            self.owner.store(owner, Ordering::Relaxed);
        }
        if !attributes.is_plain() {
            self.count.store(0, Ordering::Relaxed);
        }
        if !attributes.is_native() {
            let users = self.users.load(Ordering::Relaxed);
            self.users.store(users.wrapping_sub(1), Ordering::Relaxed);
        }
        thread.remove(node);
        self.release(thread, attributes);
        thread.end();
    }

    /// [`Mutex::unlock`] of a plain one, while nobody sleeps.
    #[inline(always)]
    fn unlock_to_nobody(&self, thread: Thread) {
        let node = self.node(Attributes::PLAIN);
        thread.begin(node);
        thread.remove(node);
        if self.release_to_nobody(thread) {
            return self.wake_and_end(thread);
        }
        thread.end();
    }

    #[cold]
    #[inline(never)]
    fn wake_and_end(&self, thread: Thread) {
        wake_one(&self.lock);
        thread.end();
    }

    #[inline(never)]
    fn unlock_slowly(&self, thread: Thread, attributes: Attributes, owner: u32) {
        if attributes.is_plain_pthread() {
            return self.unlock(thread, Attributes::PLAIN_PTHREAD, owner);
        }
        if attributes.is(Kind::Recursive) {
            // Relaxed: of this thread.
            let count = self.count.load(Ordering::Relaxed);
            if count > 1 {
                self.count.store(count - 1, Ordering::Relaxed);
                return;
            }
        }
        if attributes.is_stalled() {
            self.release_stalled();
            return;
        }
        self.unlock(thread, attributes, owner);
        if attributes.is_split() {
            self.claim().release(thread, attributes);
        }
    }

    /// That of the mutex of a `Split`, for a guard with its bit.
    fn claim(&self) -> &Claim {
        let claim = ptr::from_ref(self).addr() + size_of::<Self>();
        // SAFETY: Only the guards of a `Split` have the bit, and its mutex a claim behind it, in a mapping
        // whose addresses it exposed.
        unsafe { &*ptr::with_exposed_provenance::<Claim>(claim) }
    }
}

/// What the owner has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locked {
    Consistent,
    OwnerDied,
}

/// How somebody has become the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    Free,
    OwnerDied,
    /// Once more.
    Again,
}

/// The mutex is locked, as long as this is there.
#[derive(Debug)]
#[must_use = "the mutex is unlocked when this is dropped"]
pub struct Guard<'a> {
    mutex: &'a Mutex,
    thread: Thread,
    attributes: Attributes,
}

impl<'a> Guard<'a> {
    /// Unlocks while `wait` runs, and locks again. It says whether this thread may have been woken in
    /// place of others who were [moved](Guard::move_sleepers) to the lock word.
    pub(crate) fn suspend(self, wait: impl FnOnce() -> bool) -> Result<Guard<'a>, LockError<'a>> {
        let (mutex, thread, attributes) = (self.mutex, self.thread, self.attributes);
        if thread.is_forked() {
            return Err(Error::Forked.into());
        }
        // Relaxed: of this thread.
        if attributes.is(Kind::Recursive) && mutex.count.load(Ordering::Relaxed) > 1 {
            return Err(Error::Deadlock.into());
        }
        drop(self);
        let how = match wait() {
            true => How::Requeued,
            false => How::Wait(None),
        };
        if attributes.is_split() {
            return SplitMutex::new(mutex, mutex.claim(), attributes).acquire(thread, how);
        }
        mutex.acquire(thread, attributes, how)
    }

    /// Whether others can sleep on at the mutex who sleep elsewhere.
    pub(crate) fn can_move_sleepers(&self) -> bool {
        let attributes = self.attributes;
        !self.thread.is_forked() && !attributes.inherits() && !attributes.is_stalled()
    }

    /// Lets those who sleep on a word, if that is `expected`, sleep on until the mutex is free, one after
    /// the other; whether it could be done. Only if they [can](Guard::can_move_sleepers).
    pub(crate) fn move_sleepers(&self, word: &Word, expected: u32) -> bool {
        // Relaxed: (U1) of this thread sees it.
        self.mutex.lock.fetch_or(WAITERS, Ordering::Relaxed);
        if self.attributes.is_native() {
            self.mutex.set_asleep();
        }
        requeue(word, expected, &self.mutex.lock).is_ok()
    }
}

impl Drop for Guard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // The copy of a guard in a child of fork(2) guards nothing.
        if self.thread.is_forked() {
            return;
        }
        // Relaxed: if it is being set just now, (U3) sees it.
        if self.attributes.is_plain() && self.mutex.users.load(Ordering::Relaxed) == 0 {
            self.mutex.unlock_to_nobody(self.thread);
        } else {
            self.mutex.unlock_slowly(self.thread, self.attributes, 0);
        }
    }
}

/// The mutex is locked, and its last owner died. If it is unlocked like that, nobody can lock it any
/// more: whoever waits, and all who come, get [`Error::NotRecoverable`].
#[derive(Debug)]
#[must_use = "the mutex is lost when this is dropped"]
pub struct Inconsistent<'a>(mem::ManuallyDrop<Guard<'a>>);

impl<'a> Inconsistent<'a> {
    /// `int pthread_mutex_consistent(pthread_mutex_t *mutex)`: says that what the mutex guards is
    /// consistent again.
    ///
    /// # References
    ///
    /// - [pthread_mutex_consistent(3)](https://man7.org/linux/man-pages/man3/pthread_mutex_consistent.3.html)
    #[doc(alias = "pthread_mutex_consistent")]
    pub fn mark_consistent(self) -> Guard<'a> {
        // SAFETY: `self` is forgotten, so the guard is taken once.
        let guard = unsafe { ptr::read(&*self.0) };
        mem::forget(self);
        let owner = match guard.attributes.is_native() {
            true => 0,
            false => guard.thread.id(),
        };
        // Relaxed: of this thread.
        guard.mutex.owner.store(owner, Ordering::Relaxed);
        guard
    }
}

impl Drop for Inconsistent<'_> {
    fn drop(&mut self) {
        let Guard {
            mutex,
            thread,
            attributes,
        } = *self.0;
        if thread.is_forked() {
            return;
        }
        // Relaxed: of this thread, which may have another guard that was marked.
        let owner = match mutex.owner.load(Ordering::Relaxed) {
            INCONSISTENT => NOT_RECOVERABLE,
            _ => 0,
        };
        mutex.unlock_slowly(thread, attributes, owner);
    }
}
