//! pthread_mutexattr_setpshared(3): mutexes, read-write locks, condition variables and barriers between
//! processes.
//!
//! An object's own attributes, where glibc has them, say whose it is: all that are private to a process
//! are passed on to the C library. So it is the C library that initialises them all, and then ours are
//! put over the words that it would use:
//!
//! | | glibc says that it is shared | ours is |
//! |---|---|---|
//! | `pthread_mutex_t` | the kind at 16: 128 | core's [`Mutex`], which is glibc's format |
//! | `pthread_cond_t` | the flags at 36: 1 (2: monotonic) | core's [`Condvar`], at 0 |
//! | `pthread_rwlock_t` | the word at 28; the preference at 48 | `RwLock` of this file, at 0 |
//! | `pthread_barrier_t` | the word at 12; the count at 8 | `Barrier` of this file, at 0 |
//!
//! Core's own read-write lock and barrier learn of deaths, and have no room in C's objects. Those here
//! are futexes, and wait for the dead as the C library's do.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::forget;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};

use linipc_core::Errno;
use linipc_core::futex::{Deadline, Futex};
use linipc_core::map::Access;
use linipc_core::pshared::condvar::{Condvar, Reason};
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex};
use linipc_core::pshared::{AttachError, Error};
use linipc_core::robust::Thread;
use linipc_core::shared::SharedBytes;

use crate::cancellation_point;
use crate::memory::deadline;
use crate::next::next;

/// Functions that give their error, for objects that are ours; all others are passed on, to the C library's
/// function of this version if it has several.
macro_rules! pthread {
    ($(
        $(#[$meta:meta])*
        fn $name:ident($($arg:ident: $type:ty),* $(,)?)
        for $ours:ident = $find:expr; $(@ $version:literal)? $body:block
    )*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($arg: $type),*) -> c_int {
            static CALLS: $crate::stats::Counter =
                $crate::stats::Counter::new($crate::c_name!($name));
            let Some($ours) = $find else {
                return next!($name $(@ $version)? ($($arg => $type),*) -> c_int);
            };
            CALLS.count();
            let body = || -> Result<c_int, Errno> { $body };
            match body() {
                Ok(value) => value,
                Err(errno) => errno.raw_os_error(),
            }
        }
    )*};
}

type MutexPtr = *mut libc::pthread_mutex_t;
type CondPtr = *mut libc::pthread_cond_t;
type RwLockPtr = *mut libc::pthread_rwlock_t;
type BarrierPtr = *mut libc::pthread_barrier_t;
type Time = *const libc::timespec;

pthread! {
    /// pthread_mutex_init(3)
    fn pthread_mutex_init(
        mutex: MutexPtr,
        attributes: *const libc::pthread_mutexattr_t,
    ) for kind = robust(attributes); {
        let memory = memory(mutex.cast());
        let made = match kind {
            (kind, libc::PTHREAD_PRIO_INHERIT) => Mutex::init_inheriting(memory, kind),
            (kind, _) => Mutex::init_pthread(memory, kind),
        };
        made.map(|_| 0).map_err(attach_errno)
    }

    /// pthread_mutex_lock(3)
    fn pthread_mutex_lock(mutex: MutexPtr) for ours = shared_mutex(mutex); {
        or_wait(mutex, None, keep(ours.lock(thread()?)))
    }

    /// pthread_mutex_trylock(3)
    fn pthread_mutex_trylock(mutex: MutexPtr) for ours = shared_mutex(mutex); {
        match keep(ours.try_lock(thread()?)) {
            // POSIX has `EBUSY` also for the owner; the C library not, of this kind.
            Err(Errno::BUSY) if is_robust_errorcheck(mutex) && owns(ours)? => Err(Errno::DEADLK),
            done => done,
        }
    }

    /// pthread_mutex_timedlock(3)
    fn pthread_mutex_timedlock(mutex: MutexPtr, until: Time) for ours = shared_mutex(mutex); {
        let until = deadline(libc::CLOCK_REALTIME, until)?;
        or_wait(mutex, Some(until), lock_until(ours, until))
    }

    /// pthread_mutex_clocklock(3)
    fn pthread_mutex_clocklock(
        mutex: MutexPtr,
        clock: c_int,
        until: Time,
    ) for ours = shared_mutex(mutex); {
        let until = deadline(clock, until)?;
        or_wait(mutex, Some(until), lock_until(ours, until))
    }

    /// pthread_mutex_unlock(3)
    fn pthread_mutex_unlock(mutex: MutexPtr) for ours = shared_mutex(mutex); {
        match ours.resume(thread()?) {
            Ok(guard) => drop(guard),
            Err(LockError::OwnerDied(guard)) => drop(guard),
            // The C library does not ask whose it is, and that works.
            Err(LockError::Failed(Error::System(Errno::PERM))) if is_simple(mutex) => {
                return Ok(next!(pthread_mutex_unlock(mutex => MutexPtr) -> c_int));
            }
            Err(LockError::Failed(error)) => return Err(errno(error)),
        }
        Ok(0)
    }

    /// pthread_mutex_consistent(3)
    fn pthread_mutex_consistent(mutex: MutexPtr) for ours = shared_mutex(mutex); {
        match ours.resume(thread()?) {
            Ok(guard) => forget(guard),
            Err(LockError::OwnerDied(guard)) => {
                forget(guard.mark_consistent());
                return Ok(0);
            }
            Err(LockError::Failed(_)) => {}
        }
        Err(Errno::INVAL)
    }

    /// pthread_cond_wait(3)
    fn pthread_cond_wait(
        cond: CondPtr,
        mutex: MutexPtr,
    ) for ours = shared_cond(cond); @ c"GLIBC_2.3.2" {
        cancellation_point();
        match has_guard(mutex) {
            true => keep(ours.wait(guard(mutex)?)),
            false => wait_without_guard(ours, mutex, None),
        }
    }

    /// pthread_cond_wait(3)
    fn pthread_cond_timedwait(
        cond: CondPtr,
        mutex: MutexPtr,
        until: Time,
    ) for ours = shared_cond(cond); @ c"GLIBC_2.3.2" {
        wait_until(ours, mutex, clock(cond), until)
    }

    /// pthread_cond_wait(3)
    fn pthread_cond_clockwait(
        cond: CondPtr,
        mutex: MutexPtr,
        clock: c_int,
        until: Time,
    ) for ours = shared_cond(cond); {
        wait_until(ours, mutex, clock, until)
    }

    /// pthread_cond_signal(3)
    fn pthread_cond_signal(cond: CondPtr) for ours = shared_cond(cond); @ c"GLIBC_2.3.2" {
        ours.notify_one();
        Ok(0)
    }

    /// pthread_cond_broadcast(3)
    fn pthread_cond_broadcast(cond: CondPtr) for ours = shared_cond(cond); @ c"GLIBC_2.3.2" {
        ours.wake_all();
        Ok(0)
    }

    /// pthread_rwlock_rdlock(3)
    fn pthread_rwlock_rdlock(lock: RwLockPtr) for ours = shared_rwlock(lock); {
        ours.read(None)
    }

    /// pthread_rwlock_rdlock(3)
    fn pthread_rwlock_tryrdlock(lock: RwLockPtr) for ours = shared_rwlock(lock); {
        ours.try_read().map(|()| 0)
    }

    /// pthread_rwlock_timedrdlock(3)
    fn pthread_rwlock_timedrdlock(lock: RwLockPtr, until: Time) for ours = shared_rwlock(lock); {
        ours.read(Some(valid(libc::CLOCK_REALTIME, until)?))
    }

    /// pthread_rwlock_timedrdlock(3)
    fn pthread_rwlock_clockrdlock(
        lock: RwLockPtr,
        clock: c_int,
        until: Time,
    ) for ours = shared_rwlock(lock); {
        ours.read(Some(valid(clock, until)?))
    }

    /// pthread_rwlock_wrlock(3)
    fn pthread_rwlock_wrlock(lock: RwLockPtr) for ours = shared_rwlock(lock); {
        ours.write(None)
    }

    /// pthread_rwlock_wrlock(3)
    fn pthread_rwlock_trywrlock(lock: RwLockPtr) for ours = shared_rwlock(lock); {
        ours.try_write(thread()?.id()).map(|()| 0)
    }

    /// pthread_rwlock_timedwrlock(3)
    fn pthread_rwlock_timedwrlock(lock: RwLockPtr, until: Time) for ours = shared_rwlock(lock); {
        ours.write(Some(valid(libc::CLOCK_REALTIME, until)?))
    }

    /// pthread_rwlock_timedwrlock(3)
    fn pthread_rwlock_clockwrlock(
        lock: RwLockPtr,
        clock: c_int,
        until: Time,
    ) for ours = shared_rwlock(lock); {
        ours.write(Some(valid(clock, until)?))
    }

    /// pthread_rwlock_unlock(3)
    fn pthread_rwlock_unlock(lock: RwLockPtr) for ours = shared_rwlock(lock); {
        ours.unlock()
    }

    /// pthread_barrier_wait(3)
    fn pthread_barrier_wait(barrier: BarrierPtr) for ours = shared_barrier(barrier); {
        ours.wait()
    }

    /// pthread_barrier_destroy(3)
    fn pthread_barrier_destroy(barrier: BarrierPtr) for ours = shared_barrier(barrier); {
        ours.destroy()
    }
}

/// pthread_cond_init(3): the C library's flags, and our words.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_cond_init(
    cond: CondPtr,
    attributes: *const libc::pthread_condattr_t,
) -> c_int {
    static CALLS: crate::stats::Counter = crate::stats::Counter::new(c"pthread_cond_init");
    let done = next!(pthread_cond_init @ c"GLIBC_2.3.2" (
        cond => CondPtr,
        attributes => *const libc::pthread_condattr_t,
    ) -> c_int);
    if done == 0 && is_shared_cond(cond) {
        CALLS.count();
        let made = Condvar::init(memory(cond.cast()));
        return made.map_or_else(|error| attach_errno(error).raw_os_error(), |_| 0);
    }
    done
}

/// A thread knows itself, until it is another process's.
fn thread() -> Result<Thread, Errno> {
    thread_local! {
        static THREAD: Cell<Option<Thread>> = const { Cell::new(None) };
    }
    match THREAD.get() {
        Some(thread) if !thread.is_forked() => Ok(thread),
        _ => {
            // Without a list of the C library there is no robust mutex.
            let thread = Thread::current().map_err(|_| Errno::NOTSUP)?;
            THREAD.set(Some(thread));
            Ok(thread)
        }
    }
}

/// As much of C's object as any of ours has, at least.
unsafe fn memory<'a>(start: *mut c_void) -> SharedBytes<'a> {
    const LEN: usize = size_of::<libc::pthread_mutex_t>();
    SharedBytes::from_raw(
        NonNull::new_unchecked(start.cast()),
        LEN,
        Access::READ | Access::WRITE,
    )
}

/// One of the 32-bit words of C's object.
unsafe fn word<'a, T>(object: *mut T, offset: usize) -> &'a AtomicU32 {
    &*object.byte_add(offset).cast()
}

fn attach_errno(_: AttachError) -> Errno {
    Errno::INVAL
}

fn errno(error: Error) -> Errno {
    match error {
        Error::Busy => Errno::BUSY,
        Error::TimedOut => Errno::TIMEDOUT,
        Error::NotRecoverable => Errno::NOTRECOVERABLE,
        Error::Deadlock => Errno::DEADLK,
        Error::Overflow => Errno::AGAIN,
        Error::PeerDead => Errno::OWNERDEAD,
        Error::System(errno) => errno,
        Error::Forked | Error::Corrupt => Errno::INVAL,
    }
}

/// The kind and protocol of a robust mutex, if the attributes want one that core has.
unsafe fn robust(attributes: *const libc::pthread_mutexattr_t) -> Option<(Kind, c_int)> {
    unsafe extern "C" {
        fn pthread_mutexattr_gettype(
            attributes: *const libc::pthread_mutexattr_t,
            kind: *mut c_int,
        ) -> c_int;
    }
    if attributes.is_null() {
        return None;
    }
    let (mut is_robust, mut kind, mut protocol) = (0, 0, 0);
    libc::pthread_mutexattr_getrobust(attributes, &mut is_robust);
    pthread_mutexattr_gettype(attributes, &mut kind);
    libc::pthread_mutexattr_getprotocol(attributes, &mut protocol);
    let kind = match kind {
        libc::PTHREAD_MUTEX_NORMAL => Kind::Normal,
        libc::PTHREAD_MUTEX_RECURSIVE => Kind::Recursive,
        libc::PTHREAD_MUTEX_ERRORCHECK => Kind::ErrorCheck,
        _ => return None,
    };
    (is_robust == libc::PTHREAD_MUTEX_ROBUST && protocol != libc::PTHREAD_PRIO_PROTECT)
        .then_some((kind, protocol))
}

/// A mutex that is shared between processes, or robust, and that core has: not an adaptive one, not one
/// with a priority ceiling, nor one that inherits priority without being robust.
unsafe fn shared_mutex<'a>(mutex: MutexPtr) -> Option<&'a Mutex> {
    const SHARED: u32 = 128;
    // Relaxed: it was written before anybody used the mutex.
    if word(mutex, 16).load(Relaxed) & SHARED == 0 {
        return None;
    }
    Mutex::attach_stalled(memory(mutex.cast())).ok()
}

/// The type of a mutex, without what else is in its kind.
const KIND: u32 = 3;

const ROBUST: u32 = 16;

/// Normal, and not robust.
unsafe fn is_simple(mutex: MutexPtr) -> bool {
    // Relaxed: as in `shared_mutex`.
    word(mutex, 16).load(Relaxed) & (KIND | ROBUST) == 0
}

unsafe fn is_robust_errorcheck(mutex: MutexPtr) -> bool {
    const ERRORCHECK: u32 = libc::PTHREAD_MUTEX_ERRORCHECK as u32;
    // Relaxed: as in `shared_mutex`.
    word(mutex, 16).load(Relaxed) & (KIND | ROBUST) == ERRORCHECK | ROBUST
}

/// A normal mutex has its owner wait for itself. Of one that inherits priority core finds that out.
unsafe fn or_wait(
    mutex: MutexPtr,
    until: Option<Deadline>,
    locked: Result<c_int, Errno>,
) -> Result<c_int, Errno> {
    // Relaxed: as in `shared_mutex`.
    if locked != Err(Errno::DEADLK) || word(mutex, 16).load(Relaxed) & KIND != 0 {
        return locked;
    }
    loop {
        sleep(&AtomicU32::new(0), 0, until)?;
    }
}

unsafe fn owns(mutex: &Mutex) -> Result<bool, Errno> {
    // The guard is not used, so it is as forgotten as before.
    match mutex.resume(thread()?) {
        Err(LockError::Failed(_)) => Ok(false),
        guard => {
            forget(guard);
            Ok(true)
        }
    }
}

/// Until the thread unlocks it.
fn keep(locked: Result<Guard<'_>, LockError<'_>>) -> Result<c_int, Errno> {
    match locked {
        Ok(guard) => {
            forget(guard);
            Ok(0)
        }
        Err(LockError::OwnerDied(guard)) => {
            forget(guard);
            Ok(libc::EOWNERDEAD)
        }
        Err(LockError::Failed(error)) => Err(errno(error)),
    }
}

fn is_valid(deadline: Deadline) -> bool {
    (0..1_000_000_000).contains(&deadline.at.tv_nsec)
}

/// A deadline that is looked at before anything else is.
unsafe fn valid(clock: c_int, until: Time) -> Result<Deadline, Errno> {
    Some(deadline(clock, until)?)
        .filter(|until| is_valid(*until))
        .ok_or(Errno::INVAL)
}

fn lock_until(mutex: &Mutex, until: Deadline) -> Result<c_int, Errno> {
    if is_valid(until) {
        return keep(mutex.lock_deadline(thread()?, until));
    }
    // It is not looked at where it is not needed.
    match keep(mutex.try_lock(thread()?)) {
        Err(Errno::BUSY) => Err(Errno::INVAL),
        done => done,
    }
}

unsafe fn is_shared_cond(cond: CondPtr) -> bool {
    // Relaxed: it was written before anybody used the condition variable.
    word(cond, 36).load(Relaxed) & 1 != 0
}

unsafe fn shared_cond<'a>(cond: CondPtr) -> Option<&'a Condvar> {
    match is_shared_cond(cond) {
        true => Condvar::attach(memory(cond.cast())).ok(),
        false => None,
    }
}

/// What pthread_condattr_setclock(3) said.
unsafe fn clock(cond: CondPtr) -> c_int {
    // Relaxed: as in `is_shared_cond`.
    match word(cond, 36).load(Relaxed) & 2 {
        0 => libc::CLOCK_REALTIME,
        _ => libc::CLOCK_MONOTONIC,
    }
}

/// That of a mutex of ours which the thread has locked.
unsafe fn guard<'a>(mutex: MutexPtr) -> Result<Guard<'a>, Errno> {
    let mutex = shared_mutex(mutex).ok_or(Errno::INVAL)?;
    match mutex.resume(thread()?) {
        Ok(guard) => Ok(guard),
        // It would be lost if it were unlocked.
        Err(LockError::OwnerDied(guard)) => {
            forget(guard);
            Err(Errno::NOTRECOVERABLE)
        }
        Err(LockError::Failed(error)) => Err(errno(error)),
    }
}

unsafe fn wait_until(
    cond: &Condvar,
    mutex: MutexPtr,
    clock: c_int,
    until: Time,
) -> Result<c_int, Errno> {
    let until = valid(clock, until)?;
    cancellation_point();
    if !has_guard(mutex) {
        return wait_without_guard(cond, mutex, Some(until));
    }
    match cond.wait_deadline(guard(mutex)?, until) {
        Ok((guard, Reason::Notified)) => keep(Ok(guard)),
        Ok((guard, Reason::TimedOut)) => keep(Ok(guard)).and(Err(Errno::TIMEDOUT)),
        Err(error) => keep(Err(error)),
    }
}

/// Whether it is a mutex of ours, and unlocked by one unlock.
unsafe fn has_guard(mutex: MutexPtr) -> bool {
    const RECURSIVE: u32 = libc::PTHREAD_MUTEX_RECURSIVE as u32;
    // Relaxed, both: as in `shared_mutex`, and a count of the thread's own.
    let is_recursive = word(mutex, 16).load(Relaxed) & KIND == RECURSIVE;
    let is_locked_again = is_recursive && word(mutex, 4).load(Relaxed) > 1;
    !is_locked_again && shared_mutex(mutex).is_some()
}

/// With any other: that of one which is locked several times is unlocked once, as the C library does.
unsafe fn wait_without_guard(
    cond: &Condvar,
    mutex: MutexPtr,
    until: Option<Deadline>,
) -> Result<c_int, Errno> {
    let unlock = || match pthread_mutex_unlock(mutex) {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(error)),
    };
    let reason = cond.wait_unlocked(unlock, until)?;
    match (pthread_mutex_lock(mutex), reason) {
        (0, Reason::TimedOut) => Err(Errno::TIMEDOUT),
        (error, _) => Ok(error),
    }
}

/// Sleeps on a word that was `seen`, but not beyond the deadline; may end for any other reason.
fn sleep(word: &AtomicU32, seen: u32, until: Option<Deadline>) -> Result<(), Errno> {
    if until.is_some_and(|until| until.at.tv_sec < 0) {
        return Err(Errno::TIMEDOUT);
    }
    match Futex::shared(word).wait(seen, until) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        done => done,
    }
}

fn wake(word: &AtomicU32) {
    // The word's memory may be gone, and whoever slept there woken by that.
    let _ = Futex::shared(word).wake(u32::MAX);
}

/// A read-write lock, in the memory of C's: all zeros when it is free.
///
/// Who finds it taken counts itself, looks at the number of changes, tries again, and sleeps until that is
/// another number. Who changes the lock so that others could have it changes the number, and then looks
/// whether somebody waits. All four accesses are in one order: either the count is seen, or the number.
#[repr(C)]
struct RwLock {
    /// Readers, or `WRITER`.
    state: AtomicU32,
    changes: AtomicU32,
    waiting: AtomicU32,
    /// How many of these want to write.
    writers_waiting: AtomicU32,
    _unused: [u32; 2],
    /// The thread that writes.
    writer: AtomicU32,
    shared: AtomicU32,
    _glibc: [u32; 4],
    preference: AtomicU32,
}

const _: () = assert!(std::mem::offset_of!(RwLock, preference) == 48);
const _: () = assert!(size_of::<RwLock>() <= size_of::<libc::pthread_rwlock_t>());

unsafe fn shared_rwlock<'a>(lock: RwLockPtr) -> Option<&'a RwLock> {
    let lock = &*lock.cast::<RwLock>();
    // Relaxed: it was written before anybody used the lock.
    (lock.shared.load(Relaxed) != 0).then_some(lock)
}

impl RwLock {
    const WRITER: u32 = 1 << 31;
    /// `PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP`
    const PREFER_WRITER: u32 = 2;

    fn try_read(&self) -> Result<(), Errno> {
        // Relaxed: who waits looks again after it has counted itself.
        if self.preference.load(Relaxed) == Self::PREFER_WRITER
            && self.writers_waiting.load(Relaxed) > 0
        {
            return Err(Errno::BUSY);
        }
        let more = |state| (state < Self::WRITER - 1).then(|| state + 1);
        // Acquire: what the last writer did is visible.
        match self.state.fetch_update(Acquire, Relaxed, more) {
            Ok(_) => Ok(()),
            Err(Self::WRITER) => Err(Errno::BUSY),
            Err(_) => Err(Errno::AGAIN),
        }
    }

    fn try_write(&self, thread: u32) -> Result<(), Errno> {
        // Acquire: what the last writer did is visible, and readers are done.
        match self
            .state
            .compare_exchange(0, Self::WRITER, Acquire, Relaxed)
        {
            Ok(_) => {
                // Relaxed: of interest to this thread only.
                self.writer.store(thread, Relaxed);
                Ok(())
            }
            Err(_) => Err(Errno::BUSY),
        }
    }

    fn is_writer(&self, thread: u32) -> bool {
        // Relaxed: this thread's own writing.
        self.writer.load(Relaxed) == thread
    }

    fn read(&self, until: Option<Deadline>) -> Result<c_int, Errno> {
        if self.is_writer(thread()?.id()) {
            return Err(Errno::DEADLK);
        }
        self.wait(|| self.try_read(), until)
    }

    fn write(&self, until: Option<Deadline>) -> Result<c_int, Errno> {
        let thread = thread()?.id();
        if self.is_writer(thread) {
            return Err(Errno::DEADLK);
        }
        if self.try_write(thread).is_ok() {
            return Ok(0);
        }
        // Relaxed: a reader that does not see it comes first.
        self.writers_waiting.fetch_add(1, Relaxed);
        let done = self.wait(|| self.try_write(thread), until);
        // Relaxed: readers look again after this one's `change`, or after its `unlock`.
        self.writers_waiting.fetch_sub(1, Relaxed);
        if done.is_err() {
            // Readers may have waited for this one.
            self.change();
        }
        done
    }

    fn wait(
        &self,
        take: impl Fn() -> Result<(), Errno>,
        until: Option<Deadline>,
    ) -> Result<c_int, Errno> {
        loop {
            match take() {
                Err(Errno::BUSY) => {}
                done => return done.map(|()| 0),
            }
            // SeqCst, both: see `RwLock`.
            self.waiting.fetch_add(1, SeqCst);
            let seen = self.changes.load(SeqCst);
            let taken = take();
            let slept = match taken {
                Err(Errno::BUSY) => sleep(&self.changes, seen, until),
                _ => Ok(()),
            };
            // Relaxed: a number that is too high costs a wake.
            self.waiting.fetch_sub(1, Relaxed);
            match taken {
                Err(Errno::BUSY) => slept?,
                done => return done.map(|()| 0),
            }
        }
    }

    fn change(&self) {
        // SeqCst, both: see `RwLock`; it also publishes the change before.
        self.changes.fetch_add(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            wake(&self.changes);
        }
    }

    fn unlock(&self) -> Result<c_int, Errno> {
        // Relaxed: if it is `WRITER`, it is this thread's.
        if self.state.load(Relaxed) == Self::WRITER {
            // Relaxed: as in `try_write`.
            self.writer.store(0, Relaxed);
            // Release: what was written is visible to the next ones.
            self.state.store(0, Release);
            self.change();
            return Ok(0);
        }
        let less = |state: u32| state.checked_sub(1);
        // Release: what was read is not read after the next writer has it.
        match self.state.fetch_update(Release, Relaxed, less) {
            Ok(1) => self.change(),
            Ok(_) => {}
            Err(_) => return Err(Errno::PERM),
        }
        Ok(0)
    }
}

/// A barrier, in the memory of C's, with C's count.
#[repr(C)]
struct Barrier {
    /// How many have arrived, and in the upper half, in which round: changed together, so that who
    /// arrives is in just the round in which it is counted.
    round: AtomicU64,
    count: AtomicU32,
    shared: AtomicU32,
    /// Who is still in `wait`, and in the highest bit that somebody waits for them to leave.
    inside: AtomicU32,
}

const _: () = assert!(size_of::<Barrier>() <= size_of::<libc::pthread_barrier_t>());

unsafe fn shared_barrier<'a>(barrier: BarrierPtr) -> Option<&'a Barrier> {
    let barrier = &*barrier.cast::<Barrier>();
    // Relaxed: it was written before anybody used the barrier.
    (barrier.shared.load(Relaxed) != 0).then_some(barrier)
}

impl Barrier {
    const LEAVE: u32 = 1 << 31;

    /// The upper half of `round`, for the kernel.
    fn number(&self) -> &AtomicU32 {
        // SAFETY: It is a part of the same memory, aligned, and all accesses are atomic.
        unsafe { &*self.round.as_ptr().cast::<AtomicU32>().add(1) }
    }

    fn wait(&self) -> Result<c_int, Errno> {
        // Relaxed, both: the exchange orders them.
        self.inside.fetch_add(1, Relaxed);
        let count = self.count.load(Relaxed);
        let arrive = |round: u64| match (round as u32).wrapping_add(1) < count {
            true => round + 1,
            false => ((round >> 32) + 1) << 32,
        };
        // Release and Acquire: what each has done before is visible to the last one, and by the next
        // round's number to all. It never fails.
        let round = self
            .round
            .fetch_update(AcqRel, Relaxed, |round| Some(arrive(round)));
        let round = round.unwrap_or_else(|round| round);
        let number = (round >> 32) as u32;
        let is_last = arrive(round) >> 32 != round >> 32;
        if is_last {
            wake(self.number());
        }
        // Acquire: as above.
        while (self.round.load(Acquire) >> 32) as u32 == number {
            sleep(self.number(), number, None)?;
        }
        // Release: `destroy` comes after all accesses to the words.
        if self.inside.fetch_sub(1, Release) == Self::LEAVE | 1 {
            wake(&self.inside);
        }
        Ok(match is_last {
            true => libc::PTHREAD_BARRIER_SERIAL_THREAD,
            false => 0,
        })
    }

    /// Its memory may be used for anything after this, so those who were let go must have left.
    fn destroy(&self) -> Result<c_int, Errno> {
        // Acquire: of their release.
        let mut inside = self.inside.fetch_or(Self::LEAVE, Acquire) | Self::LEAVE;
        while inside != Self::LEAVE {
            sleep(&self.inside, inside, None)?;
            // Acquire: as above.
            inside = self.inside.load(Acquire);
        }
        Ok(0)
    }
}
