//! What the algorithms in shared memory are made of, and the only file that knows loom.
//!
//! Under `cfg(loom)` every name here is one of a model: atomics whose every permitted value is tried,
//! memory on the heap instead of a mapping, a futex without a kernel, and processes that are dead
//! if their identity says so. The algorithms do not know which.

#[cfg(loom)]
pub(crate) use model::*;
#[cfg(loom)]
pub use model::{
    Fault, Heap, Left, Process, Thread, kill_asking_writer, kill_holder, kill_inheriting_owner,
    kill_owner, kill_reader, kill_writer, passed, with,
};
#[cfg(not(loom))]
pub(crate) use real::*;

/// Times are in nanoseconds here, of which 64 bits hold 584 years.
pub(crate) const MILLISECOND: u64 = 1_000_000;

#[cfg(not(loom))]
mod real {
    use core::ptr::NonNull;
    use core::sync::atomic::compiler_fence;

    use rustix::io::Errno;
    use rustix::thread::{MembarrierCommand, futex, membarrier};
    use rustix::time::ClockId;

    use crate::futex::{Clock, Deadline, Futex, Timespec};
    use crate::map::Access;
    use crate::ring::{AttachError, DATA, Header, Memory, SLACK};
    use crate::sys::clock_gettime;
    use crate::sys::copy::{copy_in, copy_out, prefetch_read, prefetch_write};

    pub(crate) use core::hint::spin_loop as spin;
    pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    pub(crate) use crate::ring::identity::is_alive;

    /// A word that processes sleep on.
    pub(crate) type Word = AtomicU32;

    /// How many may be attached on one side of a ring.
    pub(crate) const ENDS: usize = 32;

    /// How often who waits for a turn looks at it without leaving the CPU, and then with.
    pub(crate) const SPINS: u32 = 100;
    pub(crate) const YIELDS: u32 = 16;

    /// Lets another process have this CPU.
    pub(crate) fn give_way() {
        rustix::thread::sched_yield();
    }

    /// Sleeps for a millisecond, in which others get on.
    pub(crate) fn nap() {
        let _ = rustix::thread::nanosleep(&rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        });
    }

    /// Sleeps while the word is `expected`, for so long at most.
    #[inline(always)]
    pub(crate) fn sleep(word: &Word, expected: u32, at_most: u64) -> Result<(), Errno> {
        let at_most = Timespec {
            tv_sec: (at_most / SECOND) as i64,
            tv_nsec: (at_most % SECOND) as _,
        };
        match futex::wait(word, futex::Flags::empty(), expected, Some(&at_most)) {
            Err(Errno::AGAIN) => Ok(()),
            done => done,
        }
    }

    /// Wakes all who sleep on the word, and says how many that were.
    #[inline(always)]
    pub(crate) fn wake(word: &Word) -> usize {
        // The memory is mapped, and no lock of the kernel's lives there.
        Futex::shared(word).wake(u32::MAX).unwrap_or(0)
    }

    /// Stores what publishes all that was done before, over what others may exchange at the same time.
    #[inline(always)]
    pub(crate) fn overwrite(word: &Word, value: u32) {
        word.store(value, Ordering::Release);
    }

    /// Wakes one who sleeps on the word.
    #[inline(always)]
    pub(crate) fn wake_one(word: &Word) {
        // The memory is mapped, and no lock of the kernel's lives there.
        let _ = Futex::shared(word).wake(1);
    }

    /// Wakes so many who sleep on the word, and says how many that were.
    pub(crate) fn wake_some(word: &Word, count: u32) -> usize {
        // The memory is mapped, and no lock of the kernel's lives there.
        Futex::shared(word).wake(count).unwrap_or(0)
    }

    /// If the word is `expected`, lets all who sleep on it sleep on at `to`.
    pub(crate) fn requeue(word: &Word, expected: u32, to: &Word) -> Result<(), Errno> {
        let to = Futex::shared(to);
        Futex::shared(word)
            .requeue(expected, 0, u32::MAX, to)
            .map(drop)
    }

    /// Locks a word of which the kernel is the one who knows who waits (`FUTEX_LOCK_PI2`).
    pub(crate) fn lock_pi(word: &Word, deadline: Option<Deadline>) -> Result<(), Errno> {
        loop {
            let at = deadline.as_ref().map(|deadline| &deadline.at);
            let done = match deadline.map(|deadline| deadline.clock) {
                Some(Clock::Monotonic) => futex::lock_pi2(word, futex::Flags::empty(), at),
                // The older call, whose clock is this one.
                _ => futex::lock_pi(word, futex::Flags::empty(), at),
            };
            match done {
                // The owner is just ending.
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
    }

    /// The same, if it is free, or its owner died.
    pub(crate) fn try_lock_pi(word: &Word) -> Result<bool, Errno> {
        match futex::trylock_pi(word, futex::Flags::empty()) {
            Err(Errno::AGAIN) => Ok(false),
            done => done,
        }
    }

    /// Gives it to the one with the highest priority who waits.
    pub(crate) fn unlock_pi(word: &Word) -> Result<(), Errno> {
        futex::unlock_pi(word, futex::Flags::empty())
    }

    pub(crate) use crate::pshared::Process;
    pub(crate) use crate::robust::{Node, Thread, is_anybody, is_thread};

    /// Defines a function that is `const` outside models.
    macro_rules! const_fn {
        ($(#[$attribute:meta])* $vis:vis unsafe fn $($rest:tt)*) => {
            $(#[$attribute])* $vis const unsafe fn $($rest)*
        };
        ($(#[$attribute:meta])* $vis:vis fn $($rest:tt)*) => {
            $(#[$attribute])* $vis const fn $($rest)*
        };
    }
    pub(crate) use const_fn;

    /// Lets [`heavy_fence`]s of all processes reach the threads of this one; whether they do.
    pub(crate) fn register() -> bool {
        membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
    }

    /// The fence of those who publish: free, because [`heavy_fence`] makes it a real one in time.
    #[inline(always)]
    pub(crate) fn light_fence() {
        compiler_fence(Ordering::SeqCst);
    }

    /// The fence of those who go to sleep: one in this thread, and one in every thread of every
    /// registered process that runs meanwhile. Whether it could be had.
    #[inline(always)]
    pub(crate) fn heavy_fence() -> bool {
        fence(Ordering::SeqCst);
        membarrier(MembarrierCommand::GlobalExpedited).is_ok()
    }

    /// The fence behind an exchange: where an exchange is one itself, it only holds the compiler.
    #[inline(always)]
    pub(crate) fn fence_after_exchange() {
        if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// How many read a lock at the same time.
    pub(crate) const READERS: usize = 32;

    /// A number below [`READERS`] that is another one for most threads: of where the stack is.
    #[inline(always)]
    pub(crate) fn spread() -> usize {
        let here = 0_u8;
        // Calls of a thread that are not far from each other are in the same 16 KiB mostly.
        let place = (&raw const here).addr() >> 14;
        // Fibonacci hashing: stacks are at regular distances.
        (place as u32).wrapping_mul(0x9e37_79b9) as usize >> 27
    }

    /// How many parties a barrier may have.
    pub(crate) const PARTIES: usize = 64;

    /// An array of values that are all made in the same way.
    macro_rules! array {
        ($value:expr; $len:expr) => {
            [const { $value }; $len]
        };
    }
    pub(crate) use array;

    /// The time since some moment in the past.
    pub(crate) fn now() -> u64 {
        now_by(Clock::Monotonic)
    }

    fn now_by(clock: Clock) -> u64 {
        nanoseconds(clock_gettime(match clock {
            Clock::Monotonic => ClockId::Monotonic,
            Clock::Realtime => ClockId::Realtime,
        }))
    }

    const SECOND: u64 = 1000 * super::MILLISECOND;

    fn nanoseconds(time: Timespec) -> u64 {
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        seconds
            .saturating_mul(SECOND)
            .saturating_add(time.tv_nsec as u64)
    }

    /// Whether a deadline has passed.
    pub(crate) fn has_passed(deadline: Deadline) -> bool {
        left(Some(deadline), u64::MAX) == 0
    }

    /// How long it is until the deadline, or `at_most`.
    pub(crate) fn left(deadline: Option<Deadline>, at_most: u64) -> u64 {
        let Some(deadline) = deadline else {
            return at_most;
        };
        let left = nanoseconds(deadline.at).saturating_sub(now_by(deadline.clock));
        left.min(at_most)
    }

    /// The header at the beginning of memory that can hold one.
    pub(crate) fn header_of(memory: &impl Memory) -> Result<NonNull<Header>, AttachError> {
        let bytes = memory.bytes();
        if !bytes.access().contains(Access::READ | Access::WRITE) {
            return Err(AttachError::ReadOnly);
        }
        let header = NonNull::new(bytes.as_ptr().cast::<Header>()).ok_or(AttachError::Unaligned)?;
        if !header.is_aligned() {
            return Err(AttachError::Unaligned);
        }
        if bytes.len() < DATA {
            return Err(AttachError::TooSmall { needed: DATA });
        }
        Ok(header)
    }

    /// The data of a ring, in memory that can hold so much.
    pub(crate) fn cells_of(memory: &impl Memory, capacity: u64) -> Result<Cells, AttachError> {
        let needed = crate::ring::len(capacity)?;
        let bytes = memory.bytes();
        if bytes.len() < needed {
            return Err(AttachError::TooSmall { needed });
        }
        let start = bytes.as_ptr().wrapping_add(DATA);
        let start = NonNull::new(start).ok_or(AttachError::Unaligned)?;
        const _: () = assert!(DATA % 64 == 0 && SLACK == 64);
        // INVARIANT: `len` counts the capacity, its half and the slack, and is a power of two's.
        Ok(Cells {
            start,
            mask: capacity - 8,
        })
    }

    /// The places of fields, which are a format between processes.
    macro_rules! layout {
        (
            $header:ident: size $size:literal, align $align:expr;
            $($type:ident { $($field:ident: $at:literal),* })*
        ) => {
            ::static_assertions::const_assert_eq!(size_of::<$header>(), $size);
            ::static_assertions::const_assert_eq!(align_of::<$header>(), $align);
            $($(::static_assertions::const_assert_eq!(::core::mem::offset_of!($type, $field), $at);)*)*
        };
    }
    pub(crate) use layout;

    /// The data of a ring, addressed by position: where in its endless stream a byte is.
    ///
    /// # Invariants
    ///
    /// For the life of the value, a [`Header`] lies before `start`, which is a multiple of 64, and as many
    /// bytes as [`crate::ring::len`] counts for the capacity from there on; all are mapped for reading and
    /// writing. `mask` is the capacity, a power of two, less 8.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Cells {
        start: NonNull<u8>,
        /// What is left of a position in the address of its word.
        mask: u64,
    }

    // SAFETY: All accesses are atomic, or copies that may race; see `crate::shared::SharedBytes`.
    unsafe impl Send for Cells {}
    // SAFETY: As for `Send`.
    unsafe impl Sync for Cells {}

    impl Cells {
        /// The header before the data.
        #[inline(always)]
        pub(crate) fn header(&self) -> &Header {
            let header = self.start.as_ptr().wrapping_sub(DATA).cast::<Header>();
            // SAFETY: It is mapped and aligned (the type's invariant), and reached by atomics only.
            unsafe { &*header }
        }

        /// The address of a position's word.
        #[inline(always)]
        pub(crate) fn at(&self, position: u64) -> *mut u8 {
            self.start
                .as_ptr()
                .wrapping_add((position & self.mask) as usize)
        }

        /// The word at a position.
        #[inline(always)]
        pub(crate) fn word(&self, position: u64) -> &AtomicU64 {
            let word = self.at(position);
            // SAFETY: The word is mapped (the type's invariant) and aligned, since `start` is and
            // the mask ends in three zeros; it is reached by atomic accesses and racing copies only.
            unsafe { AtomicU64::from_ptr(word.cast()) }
        }

        /// Asks for the cache line at a position, to read it soon.
        #[inline(always)]
        pub(crate) fn prefetch_read(&self, position: u64) {
            prefetch_read(self.at(position));
        }

        /// Asks for the cache line at a position, to write it soon.
        #[inline(always)]
        pub(crate) fn prefetch_write(&self, position: u64) {
            prefetch_write(self.at(position));
        }

        /// [`Cells::prefetch_write`] of the line at an offset. Beyond the data it is of no use, and does no
        /// harm.
        #[inline(always)]
        pub(crate) fn prefetch_write_offset(&self, offset: usize) {
            prefetch_write(self.start.as_ptr().wrapping_add(offset));
        }

        /// Copies `len` bytes to `offset` behind the record that begins at a position, past the end
        /// of the capacity if need be.
        ///
        /// # Safety
        ///
        /// `from` is valid for reads of `len` bytes; `offset + len` is at most half of the capacity
        /// and 8, or, if the position is 0, all of the capacity.
        #[inline(always)]
        pub(crate) unsafe fn write(
            &self,
            position: u64,
            offset: usize,
            from: *const u8,
            len: usize,
        ) {
            let to = self.at(position).wrapping_add(offset);
            if len == 8 && offset % 8 == 0 {
                // SAFETY: The caller's promise.
                let word = unsafe { from.cast::<u64>().read_unaligned() };
                // SAFETY: As below; `to` is aligned, since the position's word and the offset are.
                let to = unsafe { AtomicU64::from_ptr(to.cast()) };
                // Relaxed: the caller publishes it.
                return to.store(word, Ordering::Relaxed);
            }
            // SAFETY: A record begins 8 bytes before the end of the capacity or earlier, so what is
            // within half of the capacity and 8 from there is mapped (the type's invariant).
            unsafe { copy_in(from, to, len) }
        }

        /// Copies `len` bytes from `offset` behind the record that begins at a position.
        ///
        /// # Safety
        ///
        /// `to` is valid for writes of `len` bytes; the rest as of [`Cells::write`].
        #[inline(always)]
        pub(crate) unsafe fn read(&self, position: u64, offset: usize, to: *mut u8, len: usize) {
            let from = self.at(position).wrapping_add(offset);
            if len == 8 && offset % 8 == 0 {
                // SAFETY: As in `write`.
                let from = unsafe { AtomicU64::from_ptr(from.cast()) };
                // Relaxed: the caller has acquired it.
                let word = from.load(Ordering::Relaxed);
                // SAFETY: The caller's promise.
                return unsafe { to.cast::<u64>().write_unaligned(word) };
            }
            // SAFETY: As in `write`.
            unsafe { copy_out(from, to, len) }
        }
    }
}

#[cfg(loom)]
mod model {
    extern crate std;

    use self::std::collections::VecDeque;
    use self::std::sync::Arc;
    use self::std::vec::Vec;
    use core::cell::Cell;
    use core::mem;
    use core::ptr::NonNull;

    use loom::cell::UnsafeCell;
    use loom::sync::{Condvar, Mutex};
    use loom::thread::ThreadId;
    use rustix::io::Errno;

    use crate::futex::{Clock, Deadline, Timespec};
    use crate::map::Access;
    use crate::pshared::{mutex, rwlock, spin};
    use crate::ring::end::Side;
    use crate::ring::identity::pid_of;
    use crate::ring::record::{self, Holder, State};
    use crate::ring::turn::{self, Turn};
    use crate::ring::{AttachError, Header, Memory};
    use crate::shared::SharedBytes;

    pub(crate) use loom::hint::spin_loop as spin;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    pub(crate) const ENDS: usize = 2;

    pub(crate) const SPINS: u32 = 0;
    pub(crate) const YIELDS: u32 = 0;

    pub(crate) use loom::thread::yield_now as give_way;
    pub(crate) use loom::thread::yield_now as nap;

    /// The identity of the dead, whose process id is nobody's.
    pub(crate) const DEAD: u64 = 3;

    pub(crate) fn is_alive(identity: u64) -> bool {
        let is_alive = pid_of(identity) != 0;
        if !is_alive {
            // The kernel's order: who is known to be dead has done all that it did.
            fence(Ordering::Acquire);
        }
        is_alive
    }

    /// What can be taken out of a model, to see that it was needed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Fault {
        /// The light fence does nothing.
        NoLightFence,
        /// The heavy fence does nothing.
        NoHeavyFence,
        /// The fence behind an exchange does nothing.
        NoExchangeFence,
        /// The kernel refuses the heavy fence, which an algorithm learns.
        HeavyFenceRefused,
        /// The kernel registers nobody for heavy fences, which an algorithm learns too.
        NoRegistration,
        /// Nobody is woken.
        NoWake,
    }

    std::thread_local! {
        /// All threads of a model are one thread of the system.
        static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Runs models with a fault.
    pub fn with(fault: Fault, models: impl FnOnce()) {
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                FAULT.set(None);
            }
        }
        let _reset = Reset;
        FAULT.set(Some(fault));
        models();
    }

    fn has(fault: Fault) -> bool {
        FAULT.get() == Some(fault)
    }

    /// A futex: whoever sleeps looks at the value under the lock that whoever wakes takes.
    #[derive(Debug)]
    pub(crate) struct Word {
        value: AtomicU32,
        queue: Mutex<Queue>,
    }

    /// Who sleeps, the first one first.
    #[derive(Debug, Default)]
    struct Queue {
        sleepers: VecDeque<Arc<Condvar>>,
        /// Who waits to be given the word, which then is its own: see [`lock_pi`].
        heirs: VecDeque<(u32, Arc<Condvar>)>,
        /// Somebody has died, so no sleep is for ever: see [`die_beside`].
        has_died: bool,
        /// Somebody has died, and these have looked since: see [`look_again`].
        lookers: Option<Vec<ThreadId>>,
    }

    impl Queue {
        fn wake(&mut self, count: usize) -> usize {
            if has(Fault::NoWake) {
                return 0;
            }
            let count = self.sleepers.len().min(count);
            for sleeper in self.sleepers.drain(..count) {
                sleeper.notify_one();
            }
            count
        }
    }

    impl Queue {
        /// Makes the first one who waits the owner of the word, or nobody.
        fn inherit(&mut self, word: &Word, died: u32) {
            let heir = self.heirs.pop_front();
            let waiters = match self.heirs.is_empty() {
                true => 0,
                false => WAITERS,
            };
            let owner = heir.as_ref().map_or(0, |heir| heir.0);
            word.store(owner | waiters | died, Ordering::Release);
            if let Some((_, given)) = heir {
                if !has(Fault::NoWake) {
                    given.notify_one();
                }
            }
        }
    }

    impl Word {
        pub(crate) fn new(value: u32) -> Self {
            Self {
                value: AtomicU32::new(value),
                queue: Mutex::new(Queue::default()),
            }
        }

        /// Sleeps until it is woken.
        fn sleep(&self, expected: u32) {
            let mut queue = self.queue.lock().unwrap();
            let me = loom::thread::current().id();
            let looks = match &mut queue.lookers {
                Some(lookers) if !lookers.contains(&me) => {
                    lookers.push(me);
                    true
                }
                _ => queue.has_died,
            };
            if looks {
                drop(queue);
                loom::thread::yield_now();
            } else if self.load(Ordering::Relaxed) == expected {
                let woken = Arc::new(Condvar::new());
                queue.sleepers.push_back(woken.clone());
                drop(woken.wait(queue).unwrap());
            } else {
                drop(queue);
                // Else the caller might look at an older value again and again.
                loom::thread::yield_now();
            }
        }

        fn wake(&self, count: usize) -> usize {
            self.queue.lock().unwrap().wake(count)
        }
    }

    /// Somebody dies, whom those who sleep on the word look for from time to time.
    pub(crate) fn die_beside(word: &Word) {
        let mut queue = word.queue.lock().unwrap();
        queue.has_died = true;
        queue.wake(usize::MAX);
    }

    /// The same, but each looks for the dead once: those who sleep now, and those who go to sleep later.
    pub(crate) fn look_again(word: &Word) {
        let mut queue = word.queue.lock().unwrap();
        queue.lookers = Some(Vec::new());
        queue.wake(usize::MAX);
    }

    impl core::ops::Deref for Word {
        type Target = AtomicU32;

        fn deref(&self) -> &AtomicU32 {
            &self.value
        }
    }

    /// A nap ends by itself; another sleep when it is woken, also by a death, of which a real sleeper
    /// learns when its time is up. So it always says that it is.
    pub(crate) fn sleep(word: &Word, expected: u32, at_most: u64) -> Result<(), Errno> {
        if at_most <= NAP {
            loom::thread::yield_now();
        } else {
            word.sleep(expected);
        }
        Err(Errno::TIMEDOUT)
    }

    /// Loom does not see that an exchange which misses a store comes before it. Among exchanges it does, and
    /// tries all their orders.
    pub(crate) fn overwrite(word: &Word, value: u32) {
        word.swap(value, Ordering::Release);
    }

    pub(crate) fn wake_one(word: &Word) {
        word.wake(1);
    }

    pub(crate) fn wake_some(word: &Word, count: u32) -> usize {
        word.wake(count as usize)
    }

    pub(crate) fn requeue(word: &Word, expected: u32, to: &Word) -> Result<(), Errno> {
        let mut from = word.queue.lock().unwrap();
        if word.load(Ordering::Relaxed) != expected {
            return Err(Errno::AGAIN);
        }
        let mut to = to.queue.lock().unwrap();
        to.sleepers.append(&mut from.sleepers);
        Ok(())
    }

    const WAITERS: u32 = 1 << 31;
    const OWNER_DIED: u32 = 1 << 30;
    const OWNER: u32 = OWNER_DIED - 1;

    loom::thread_local! {
        /// Which thread this is, for the kernel's own locks.
        static ME: Cell<u32> = Cell::new(0);
    }

    /// If it is free, takes it for this thread. Else the bit says that somebody waits, if one is to: so the
    /// owner does not give it back without the kernel.
    fn take_pi(word: &Word, waits: bool) -> bool {
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let is_free = seen & OWNER == 0;
            let now = match is_free {
                true => ME.with(Cell::get) | seen & OWNER_DIED,
                false if waits => seen | WAITERS,
                false => return false,
            };
            // The kernel's exchanges are fences too.
            match word.compare_exchange(seen, now, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return is_free,
                Err(now) => seen = now,
            }
        }
    }

    /// `FUTEX_LOCK_PI`: who waits sleeps until the kernel has made it the owner.
    pub(crate) fn lock_pi(word: &Word, _: Option<Deadline>) -> Result<(), Errno> {
        let mut queue = word.queue.lock().unwrap();
        if !take_pi(word, true) {
            let given = Arc::new(Condvar::new());
            queue.heirs.push_back((ME.with(Cell::get), given.clone()));
            drop(given.wait(queue).unwrap());
        }
        Ok(())
    }

    pub(crate) fn try_lock_pi(word: &Word) -> Result<bool, Errno> {
        let _queue = word.queue.lock().unwrap();
        Ok(take_pi(word, false))
    }

    pub(crate) fn unlock_pi(word: &Word) -> Result<(), Errno> {
        word.queue.lock().unwrap().inherit(word, 0);
        Ok(())
    }

    macro_rules! const_fn {
        ($($function:tt)*) => { $($function)* };
    }
    pub(crate) use const_fn;

    /// A process of a model.
    #[derive(Debug, Clone, Copy)]
    pub struct Process(u64);

    impl Process {
        /// That with a process id, which is not 0.
        pub fn new(pid: u32) -> Self {
            Self(u64::from(pid) << 42)
        }

        pub(crate) fn is_forked(&self) -> bool {
            false
        }

        pub(crate) fn identity(&self) -> u64 {
            self.0
        }

        pub(crate) fn light_fence(&self) {
            light_fence();
            if has(Fault::NoRegistration) {
                fence(Ordering::SeqCst);
            }
        }
    }

    /// A thread of a model, whose list is in its head.
    #[derive(Debug, Clone, Copy)]
    pub struct Thread(pub u32);

    impl Thread {
        /// Only the thread itself asks for it, before each call of the kernel that wants it.
        pub(crate) fn id(&self) -> u32 {
            ME.with(|me| me.set(self.0));
            self.0
        }

        pub(crate) fn is_forked(&self) -> bool {
            false
        }

        pub(crate) fn light_fence(&self) {
            Process(0).light_fence();
        }

        pub(crate) fn begin(&self, _: Node) {}

        pub(crate) fn end(&self) {}

        pub(crate) fn insert(&self, _: Node) {}

        pub(crate) fn remove(&self, _: Node) {}
    }

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Node;

    impl Node {
        pub(crate) unsafe fn of(_: *const u8, _: bool) -> Self {
            Self
        }

        pub(crate) fn forget(&self) {}
    }

    pub(crate) fn is_thread(_: u32) -> bool {
        true
    }

    pub(crate) fn is_anybody(_: u32) -> bool {
        true
    }

    /// The owner of a mutex dies: what the kernel does then.
    pub fn kill_owner(mutex: &mutex::Mutex, owner: Thread) {
        let dead = |seen| (seen & OWNER == owner.id()).then_some(seen & WAITERS | OWNER_DIED);
        let word = &mutex.lock;
        match word.fetch_update(Ordering::AcqRel, Ordering::Acquire, dead) {
            Ok(seen) if seen & WAITERS != 0 => wake_one(word),
            // Between the exchange and the wake.
            Err(0) => wake_one(word),
            _ => {}
        }
    }

    /// The same of a mutex that inherits priority.
    pub fn kill_inheriting_owner(mutex: &mutex::Mutex, owner: Thread) {
        let word = &mutex.lock;
        let mut queue = word.queue.lock().unwrap();
        if word.load(Ordering::Relaxed) & OWNER == owner.id() {
            queue.inherit(word, OWNER_DIED);
        }
    }

    /// A reader dies.
    pub fn kill_reader(guard: rwlock::ReadGuard<'_>) {
        // The edge to `is_alive`.
        guard.slot.store(DEAD, Ordering::Release);
        die_beside(&guard.lock.freed.0);
        mem::forget(guard);
    }

    /// A writer dies.
    pub fn kill_writer(guard: rwlock::WriteGuard<'_>) {
        guard.lock.writer.store(DEAD, Ordering::Release);
        die_beside(&guard.lock.readers.0);
        die_beside(&guard.lock.writers.0);
        mem::forget(guard);
    }

    /// A writer dies before it has the lock, if it could come so far.
    pub fn kill_asking_writer(lock: &rwlock::RwLock) {
        let (from, to) = (0, DEAD);
        let _ = lock
            .writer
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        die_beside(&lock.readers.0);
        die_beside(&lock.writers.0);
    }

    /// The holder of a spin lock dies.
    pub fn kill_holder(guard: spin::Guard<'_>) {
        guard.lock.owner.store(DEAD, Ordering::Release);
        die_beside(&guard.lock.bell.0);
        mem::forget(guard);
    }

    /// Up to so long it is a nap.
    const NAP: u64 = 10 * super::MILLISECOND;

    pub(crate) fn wake(word: &Word) -> usize {
        word.wake(usize::MAX)
    }

    pub(crate) fn register() -> bool {
        !has(Fault::NoRegistration)
    }

    pub(crate) fn light_fence() {
        // Who is not registered is not reached.
        if !has(Fault::NoLightFence) && !has(Fault::NoRegistration) {
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) fn heavy_fence() -> bool {
        if has(Fault::HeavyFenceRefused) {
            return false;
        }
        if !has(Fault::NoHeavyFence) {
            fence(Ordering::SeqCst);
        }
        true
    }

    pub(crate) fn fence_after_exchange() {
        if !has(Fault::NoExchangeFence) {
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) const READERS: usize = 2;

    pub(crate) fn spread() -> usize {
        0
    }

    pub(crate) const PARTIES: usize = 3;

    macro_rules! array {
        ($value:expr; $len:expr) => {
            core::array::from_fn::<_, { $len }, _>(|_| $value)
        };
    }
    pub(crate) use array;

    pub(crate) fn now() -> u64 {
        0
    }

    /// A deadline that has passed. Others never pass.
    pub fn passed() -> Deadline {
        Deadline {
            clock: Clock::Realtime,
            at: Timespec::default(),
        }
    }

    pub(crate) fn has_passed(deadline: Deadline) -> bool {
        deadline.at == Timespec::default()
    }

    pub(crate) fn left(deadline: Option<Deadline>, at_most: u64) -> u64 {
        match deadline.is_some_and(has_passed) {
            true => 0,
            false => at_most,
        }
    }

    macro_rules! layout {
        ($($layout:tt)*) => {};
    }
    pub(crate) use layout;

    /// A ring's memory, on the heap.
    #[derive(Debug, Clone)]
    pub struct Heap(Arc<Parts>);

    #[derive(Debug)]
    struct Parts {
        header: Header,
        cells: Cells,
    }

    impl Heap {
        /// Memory for a ring with `capacity` bytes of data.
        pub fn new(capacity: u64) -> Self {
            Self::with_claims(capacity, 0)
        }

        /// The same for a ring whose messages nobody may read while they are written, or write while
        /// they are read: that fails the model. Without it a model cannot see a read that comes too
        /// late, since no value is read before it is written.
        pub fn exclusive(capacity: u64) -> Self {
            Self::with_claims(capacity, capacity / 4)
        }

        fn with_claims(capacity: u64, claims: u64) -> Self {
            let words = (0..capacity / 4).map(|_| AtomicU64::new(0)).collect();
            let claims = (0..claims).map(|_| UnsafeCell::new(())).collect();
            let cells = Cells {
                header: None,
                words: Arc::new(Words { words, claims }),
                mask: capacity - 8,
            };
            Self(Arc::new(Parts {
                header: Header::new(),
                cells,
            }))
        }

        /// The producer in a slot dies, in the thread that does what it did.
        pub fn kill_producer(&self, slot: usize) {
            let header = &self.0.header;
            kill(&header.producers, slot, &header.consumers);
        }

        /// The consumer in a slot dies, in the thread that does what it did.
        pub fn kill_consumer(&self, slot: usize) {
            let header = &self.0.header;
            kill(&header.consumers, slot, &header.producers);
        }

        /// The producer in a slot dies in its turn, where there is room for what it leaves.
        pub fn kill_producer_in_turn(&self, slot: usize, left: Left) {
            let header = &self.0.header;
            let holder = holder(&header.producers, slot);
            take_turn(&header.tail.turn, holder, &header.producers);
            let at = header.tail.position.load(Ordering::Relaxed);
            let left = match left {
                Left::Nothing => None,
                Left::Claim(len) => Some((State::Claimed(holder), len)),
                Left::Message => Some((State::Committed, 0)),
            };
            if let Some((state, len)) = left {
                let cells = &self.0.cells;
                let end = at + record::size(len);
                cells.word(end).store(0, Ordering::Relaxed);
                let word = record::encode(state, len);
                cells.word(at).store(word, Ordering::Release);
            }
            self.kill_producer(slot);
        }

        /// The consumer in a slot dies in its turn: before it takes the next message, or before it moves
        /// the cursor behind it.
        pub fn kill_consumer_in_turn(&self, slot: usize, has_taken: bool) {
            let header = &self.0.header;
            let holder = holder(&header.consumers, slot);
            take_turn(&header.head.turn, holder, &header.consumers);
            if has_taken {
                let head = header.head.position.load(Ordering::Relaxed);
                let second = header.head.second.load(Ordering::Relaxed);
                let at = if second > head { second } else { head };
                let word = self.0.cells.word(at);
                let message = record::decode(word.load(Ordering::Relaxed), u64::MAX);
                if let Some((State::Committed, len)) = message {
                    let taken = record::encode(State::Taken(holder), len);
                    word.store(taken, Ordering::Relaxed);
                }
            }
            self.kill_consumer(slot);
        }
    }

    /// What a producer leaves that dies in its turn.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Left {
        /// Nothing.
        Nothing,
        /// A claim for a message of so many bytes, which is not behind the tail yet.
        Claim(u64),
        /// An empty message, behind which the tail is not yet.
        Message,
    }

    /// As one who enters, or as the one who is alone.
    fn take_turn(turn: &Turn, holder: Holder, side: &Side) {
        let me = turn::word(holder);
        if turn.alone.load(Ordering::Relaxed) == me {
            turn.busy.store(me, Ordering::Relaxed);
            light_fence();
            if turn.alone.load(Ordering::Relaxed) == me {
                return;
            }
            turn.busy.store(0, Ordering::Release);
        }
        let mut ticket = turn.enter(holder, side).unwrap();
        while turn.acquire(&mut ticket, side).is_err() {
            give_way();
        }
    }

    fn holder(side: &Side, slot: usize) -> Holder {
        Holder {
            slot: slot as u8,
            generation: side.generations[slot].load(Ordering::Relaxed) as u16,
        }
    }

    fn kill(side: &Side, slot: usize, other: &Side) {
        // The edge to `is_alive`.
        side.slots[slot].store(DEAD, Ordering::Release);
        for bell in [&side.bell.0, &other.bell.0] {
            die_beside(bell);
        }
    }

    // SAFETY: No bytes of it are ever reached: `header_of` and `cells_of` know what the address is.
    unsafe impl Memory for Heap {
        fn bytes(&self) -> SharedBytes<'_> {
            let parts = NonNull::from(&*self.0).cast();
            // SAFETY: The parts live as long as `self`.
            unsafe { SharedBytes::from_raw(parts, size_of::<Parts>(), Access::empty()) }
        }
    }

    fn parts(memory: &impl Memory) -> &Parts {
        // SAFETY: All memory of a model is a `Heap`.
        unsafe { &*memory.bytes().as_ptr().cast::<Parts>() }
    }

    pub(crate) fn header_of(memory: &impl Memory) -> Result<NonNull<Header>, AttachError> {
        Ok(NonNull::from(&parts(memory).header))
    }

    pub(crate) fn cells_of(memory: &impl Memory, _: u64) -> Result<Cells, AttachError> {
        let parts = parts(memory);
        Ok(Cells {
            header: Some(NonNull::from(&parts.header)),
            words: parts.cells.words.clone(),
            mask: parts.cells.mask,
        })
    }

    /// Words on the heap, with the same addresses as in a mapping.
    #[derive(Debug, Clone)]
    pub(crate) struct Cells {
        header: Option<NonNull<Header>>,
        words: Arc<Words>,
        mask: u64,
    }

    // SAFETY: The header is shared by atomics, and lives in a `Heap` that the handle keeps.
    unsafe impl Send for Cells {}
    // SAFETY: As for `Send`.
    unsafe impl Sync for Cells {}

    #[derive(Debug)]
    struct Words {
        words: Vec<AtomicU64>,
        /// One a word, or none at all: who reads or writes a message has its words.
        claims: Vec<UnsafeCell<()>>,
    }

    // SAFETY: There is nothing in the cells.
    unsafe impl Send for Words {}
    // SAFETY: As for `Send`.
    unsafe impl Sync for Words {}

    impl Cells {
        pub(crate) fn header(&self) -> &Header {
            // SAFETY: `cells_of` took it from the heap that the handle keeps.
            unsafe { self.header.unwrap().as_ref() }
        }

        pub(crate) fn prefetch_read(&self, _: u64) {}

        pub(crate) fn prefetch_write(&self, _: u64) {}

        pub(crate) fn prefetch_write_offset(&self, _: usize) {}

        pub(crate) fn at(&self, _: u64) -> *mut u8 {
            unimplemented!("models copy")
        }

        /// Which word is at a position.
        fn index(&self, position: u64, offset: usize) -> usize {
            ((position & self.mask) as usize + offset) / 8
        }

        pub(crate) fn word(&self, position: u64) -> &AtomicU64 {
            &self.words.words[self.index(position, 0)]
        }

        pub(crate) unsafe fn write(
            &self,
            position: u64,
            offset: usize,
            from: *const u8,
            len: usize,
        ) {
            // SAFETY: The caller's promise.
            let bytes = unsafe { core::slice::from_raw_parts(from, len) };
            for (bytes, index) in bytes.chunks(8).zip(self.index(position, offset)..) {
                let mut value = [0; 8];
                value[..bytes.len()].copy_from_slice(bytes);
                if let Some(claim) = self.words.claims.get(index) {
                    claim.with_mut(|_| {});
                }
                self.words.words[index].store(u64::from_le_bytes(value), Ordering::Relaxed);
            }
        }

        pub(crate) unsafe fn read(&self, position: u64, offset: usize, to: *mut u8, len: usize) {
            for (at, index) in (0..len).step_by(8).zip(self.index(position, offset)..) {
                if let Some(claim) = self.words.claims.get(index) {
                    claim.with(|_| {});
                }
                let value = self.words.words[index]
                    .load(Ordering::Relaxed)
                    .to_le_bytes();
                let left = (len - at).min(8);
                // SAFETY: The caller's promise: `at + left` is at most `len`.
                unsafe { to.add(at).copy_from_nonoverlapping(value.as_ptr(), left) };
            }
        }
    }
}
