//! A mutex in two pages: the words shared with anybody, the links of this process alone.

use core::mem;
use core::ptr;

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};
use static_assertions::const_assert_eq;

use super::super::{AttachError, Error, LOOK};
use super::{
    Attributes, Guard, How, INHERIT, Kind, LockError, Mutex, NATIVE, OWNER, OWNER_DIED, PTHREAD,
    WAITERS,
};
use crate::futex::Deadline;
use crate::map::{Access, huge_page_size};
use crate::shared::SharedBytes;
use crate::sync::{
    Ordering, Thread, Word, has_passed, is_thread, left, lock_pi, nap, sleep, try_lock_pi,
    unlock_pi, wake_one,
};

/// A mapping of a file with a mutex at its end, whose links are in a page that is this process's alone:
/// for peers that are not trusted.
///
/// ```
/// use linipc_core::memfd::{self, Flags};
/// use linipc_core::pshared::mutex::{Kind, Split};
/// use linipc_core::robust::Thread;
///
/// let memory = memfd::create(c"lock", Flags::ALLOW_SEALING)?;
/// rustix::fs::ftruncate(&memory, 4096)?;
/// let split = Split::map(&memory, 4096)?;
/// let mutex = split.init(Kind::Normal);
/// let guard = mutex.lock(Thread::current()?).expect("nobody else has it");
/// split.bytes().write(0, b"what it guards")?;
/// drop(guard);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// If a guard was forgotten, and its thread goes on, its list leads through the private page: then the mapping
/// stays when this is dropped.
///
/// # Invariants
///
/// `shared` bytes of the file are mapped from `start`, a multiple of the page's size, and behind them
/// one private page, which is empty in a child.
#[derive(Debug)]
pub struct Split {
    start: ptr::NonNull<u8>,
    shared: usize,
}

// SAFETY: It is the only owner of its mapping, which any thread may use and unmap.
unsafe impl Send for Split {}
// SAFETY: What it lends is `Sync`.
unsafe impl Sync for Split {}

// So the mutex is aligned.
const_assert_eq!(Split::SHARED % align_of::<Mutex>(), 0);

impl Split {
    /// How many bytes of a mutex are shared: all before its links, 24, or 20 on 32 bit. So programs of 32
    /// and of 64 bit look for it at different places, and share it with their like only.
    pub const SHARED: usize = match size_of::<usize>() {
        8 => mem::offset_of!(Mutex, _links),
        _ => mem::offset_of!(Mutex, _link),
    };

    /// How long a file is that has so many bytes before the mutex: whole pages.
    pub fn len(bytes: usize) -> Option<usize> {
        bytes
            .checked_add(Self::SHARED)?
            .checked_next_multiple_of(rustix::param::page_size())
    }

    /// Maps the first `len` bytes of a file: whole pages. A peer that can truncate the file can kill us
    /// with `SIGBUS`: seal it ([`memfd`](crate::memfd)).
    ///
    /// # Errors
    ///
    /// - `INVAL`: `len` is 0, or no multiple of the page's size; or the file is of huge pages.
    /// - `NOMEM`, `ACCESS`, `NODEV`, `AGAIN`: as of mmap(2).
    ///
    /// # References
    ///
    /// - [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html)
    pub fn map(file: impl AsFd, len: usize) -> Result<Self, Errno> {
        let page = rustix::param::page_size();
        // Of huge pages the kernel would map more than was asked for, over what is behind it.
        let is_huge = huge_page_size(&file)?.is_some();
        if len == 0 || len.checked_rem(page) != Some(0) || is_huge {
            return Err(Errno::INVAL);
        }
        let all = len.checked_add(page).ok_or(Errno::NOMEM)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: New memory, where the kernel finds room.
        let start =
            unsafe { mm::mmap_anonymous(ptr::null_mut(), all, protection, MapFlags::PRIVATE) }?;
        // INVARIANT: Unmapped when dropped, also if what follows fails.
        let split = Self {
            start: ptr::NonNull::new(start.cast()).ok_or(Errno::NOMEM)?,
            shared: len,
        };
        // SAFETY: The whole mapping is ours, and nobody uses it yet.
        unsafe { mm::madvise(start, all, Advice::LinuxWipeOnFork) }?;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: In place of the first `len` bytes of memory that is ours, and that nobody uses yet.
        unsafe { mm::mmap(start, len, protection, flags, file.as_fd(), 0) }?;
        // For `unlock_slowly`, which knows the mutex only.
        let _ = start.expose_provenance();
        Ok(split)
    }

    /// The shared bytes before the mutex.
    #[inline]
    pub fn bytes(&self) -> SharedBytes<'_> {
        let len = self.shared - Self::SHARED;
        // SAFETY: They are mapped as long as `self` lives, and lent in this way only.
        unsafe { SharedBytes::from_raw(self.start, len, Access::READ | Access::WRITE) }
    }

    fn mutex(&self) -> &Mutex {
        let at = self.shared - Self::SHARED;
        // SAFETY: It is within the mapping.
        let mutex = unsafe { self.start.add(at) }.cast();
        // SAFETY: The mutex begins in the file and ends in the private page, and is aligned since pages
        // are (asserted above). All accesses to it are atomic, and nobody else reaches the links.
        unsafe { mutex.as_ref() }
    }

    fn claim(&self) -> &Claim {
        let at = self.shared - Self::SHARED + size_of::<Mutex>();
        // SAFETY: It is within the mapping.
        let claim = unsafe { self.start.add(at) }.cast();
        // SAFETY: It follows the links in the private page, is aligned, and any bytes are one.
        unsafe { claim.as_ref() }
    }

    fn with(&self, attributes: Attributes) -> SplitMutex<'_> {
        SplitMutex::new(self.mutex(), self.claim(), attributes.split())
    }

    /// Makes a free mutex there. Whoever used one there before must be gone.
    pub fn init(&self, kind: Kind) -> SplitMutex<'_> {
        self.format(Attributes::new(kind, NATIVE))
    }

    /// [`Split::init`] of one that C programs lock [too](Mutex::pthread).
    pub fn init_pthread(&self, kind: Kind) -> SplitMutex<'_> {
        self.format(Attributes::new(kind, PTHREAD))
    }

    /// [`Split::init`] of an [inheriting](Mutex::inheriting) mutex.
    pub fn init_inheriting(&self, kind: Kind) -> SplitMutex<'_> {
        self.format(Attributes::new(kind, PTHREAD | INHERIT))
    }

    fn format(&self, attributes: Attributes) -> SplitMutex<'_> {
        self.mutex().format(attributes);
        self.with(attributes)
    }

    /// The mutex that is there.
    ///
    /// # Errors
    ///
    /// [`AttachError::NotFound`]: as of [`Mutex::attach`].
    pub fn attach(&self) -> Result<SplitMutex<'_>, AttachError> {
        self.mutex()
            .checked()
            .map(|attributes| self.with(attributes))
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        // A forgotten guard has left it in the list of a thread that goes on, which will write there.
        if self.claim().is_taken() {
            return;
        }
        let all = self.shared + rustix::param::page_size();
        // SAFETY: The mapping is ours, and everything lent from it is gone.
        let _ = unsafe { mm::munmap(self.start.as_ptr().cast(), all) };
    }
}

/// The mutex of a [`Split`]. Whatever kind it has for C programs, who locks it a second time here gets
/// [`Error::Deadlock`].
#[derive(Debug, Clone, Copy)]
pub struct SplitMutex<'a> {
    mutex: &'a Mutex,
    claim: &'a Claim,
    attributes: Attributes,
}

impl<'a> SplitMutex<'a> {
    pub(super) fn new(mutex: &'a Mutex, claim: &'a Claim, attributes: Attributes) -> Self {
        Self {
            mutex,
            claim,
            attributes,
        }
    }

    /// [`Mutex::lock`].
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`].
    pub fn lock(self, thread: Thread) -> Result<Guard<'a>, LockError<'a>> {
        self.acquire(thread, How::Wait(None))
    }

    /// [`Mutex::try_lock`].
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::try_lock`].
    pub fn try_lock(self, thread: Thread) -> Result<Guard<'a>, LockError<'a>> {
        self.acquire(thread, How::Try)
    }

    /// [`Mutex::lock_deadline`].
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock_deadline`].
    pub fn lock_deadline(
        self,
        thread: Thread,
        deadline: Deadline,
    ) -> Result<Guard<'a>, LockError<'a>> {
        self.acquire(thread, How::Wait(Some(deadline)))
    }

    pub(super) fn acquire(self, thread: Thread, how: How) -> Result<Guard<'a>, LockError<'a>> {
        if thread.is_forked() {
            return Err(Error::Forked.into());
        }
        let claim = |how| match self.attributes.inherits() {
            true => self.claim.acquire_inheriting(thread, how),
            false => self.claim.acquire(thread, how),
        };
        let claimed = match how {
            How::Requeued => match claim(How::Try) {
                // It was woken in place of one who sleeps on the word, perhaps the one that has the claim.
                Err(Error::Busy) => {
                    wake_one(&self.mutex.lock);
                    claim(how)
                }
                claimed => claimed,
            },
            how => claim(how),
        }?;
        if claimed {
            // Its thread has ended, and the kernel has gone through its list.
            self.mutex.node(self.attributes).forget();
        }
        let locked = self.mutex.acquire(thread, self.attributes, how);
        if matches!(locked, Err(LockError::Failed(_))) {
            self.claim.release(thread, self.attributes);
        }
        locked
    }
}

/// Which thread of this process has the mutex or waits for it, and so the links: others cannot write
/// that.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Claim(Word);

impl Claim {
    /// Gets it; whether it was one's who has ended.
    fn acquire(&self, thread: Thread, how: How) -> Result<bool, Error> {
        let (mut seen, mut others) = (0, 0);
        // Who sleeps asks after that.
        let mut is_time = !matches!(how, How::Wait(None));
        loop {
            if seen & OWNER == 0 || is_time && !is_thread(seen & OWNER) {
                let mine = thread.id() | seen & WAITERS | others;
                // Acquire: what the last one did to the links is visible. Relaxed on failure: nothing
                // is done then.
                match self
                    .0
                    .compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed)
                {
                    Ok(_) => return Ok(seen & OWNER != 0),
                    Err(now) => seen = now,
                }
                continue;
            }
            let deadline = how.deadline()?;
            if seen & OWNER == thread.id() {
                return Err(Error::Deadlock);
            }
            if deadline.is_some_and(has_passed) {
                return Err(Error::TimedOut);
            }
            // Relaxed: `release` exchanges the very word.
            seen = self.0.fetch_or(WAITERS, Ordering::Relaxed) | WAITERS;
            if seen & OWNER != 0 {
                // However it ends, all is looked at again.
                is_time = sleep(&self.0, seen, left(deadline, LOOK)) == Err(Errno::TIMEDOUT);
                others = WAITERS;
                seen = self.0.load(Ordering::Relaxed);
            }
        }
    }

    /// The same of a mutex that inherits priority: so does the claim, whose word the kernel has too.
    fn acquire_inheriting(&self, thread: Thread, how: How) -> Result<bool, Error> {
        loop {
            // Acquire: as in `acquire`.
            let (free, mine) = (0, thread.id());
            let taken = self
                .0
                .compare_exchange(free, mine, Ordering::Acquire, Ordering::Relaxed);
            let Err(seen) = taken else { return Ok(false) };
            let deadline = match how {
                How::Try => None,
                _ if seen & OWNER == mine => return Err(Error::Deadlock),
                _ => how.deadline()?,
            };
            if deadline.is_some_and(has_passed) {
                return Err(Error::TimedOut);
            }
            let is_left = !is_thread(seen & OWNER);
            let locked = match how {
                How::Try => try_lock_pi(&self.0),
                _ => lock_pi(&self.0, deadline).map(|()| true),
            };
            match locked {
                // Acquire: as above; loom cannot see it. The kernel sets the bit for who has waited for one
                // that ended.
                Ok(true) => {
                    return Ok(self.0.fetch_and(!OWNER_DIED, Ordering::Acquire) & OWNER_DIED != 0);
                }
                // Nobody waits for who has ended, or ever will: the word is left to whoever comes.
                Err(Errno::SRCH) if is_left => {
                    // The kernel has set the bit in vain.
                    let left = seen | WAITERS;
                    // Acquire: as above; loom cannot see it.
                    let taken =
                        self.0
                            .compare_exchange(left, mine, Ordering::Acquire, Ordering::Relaxed);
                    if taken.is_ok() {
                        return Ok(true);
                    }
                }
                Err(Errno::SRCH) => {}
                Ok(false) => return Err(Error::Busy),
                // It goes from one who has ended to one who waits, and has not woken yet.
                Err(Errno::INVAL) => match how {
                    How::Try => return Err(Error::Busy),
                    _ => nap(),
                },
                Err(Errno::DEADLK) if matches!(how, How::Try) => return Err(Error::Busy),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a thread that has not ended has it.
    fn is_taken(&self) -> bool {
        // Acquire: as in `acquire`; loom cannot see it, as there.
        let owner = self.0.load(Ordering::Acquire) & OWNER;
        owner != 0 && is_thread(owner)
    }

    pub(super) fn release(&self, thread: Thread, attributes: Attributes) {
        if attributes.inherits() {
            let (mine, free) = (thread.id(), 0);
            // Release: as below.
            let freed = self
                .0
                .compare_exchange(mine, free, Ordering::Release, Ordering::Relaxed);
            if freed.is_err() {
                // Nobody else writes the word.
                let _ = unlock_pi(&self.0);
            }
            return;
        }
        // Release: the next one sees the links as they are.
        if self.0.swap(0, Ordering::Release) & WAITERS != 0 {
            wake_one(&self.0);
        }
    }
}

/// A mutex with a claim, in a model: a [`Split`] without a mapping.
#[cfg(loom)]
#[derive(Debug)]
#[repr(C)]
pub struct SplitModel {
    mutex: Mutex,
    claim: Claim,
}

#[cfg(loom)]
impl SplitModel {
    /// One with a mutex that is free.
    pub fn new(mutex: Mutex) -> Self {
        Self {
            mutex,
            claim: Claim(Word::new(0)),
        }
    }

    /// What threads of this process lock. It is not moved after that.
    pub fn here(&self) -> SplitMutex<'_> {
        const _: () = assert!(mem::offset_of!(SplitModel, claim) == size_of::<Mutex>());
        // For `unlock_slowly`, as in `Split::map`.
        let _ = ptr::from_ref(self).expose_provenance();
        let attributes = self.mutex.attributes().split();
        SplitMutex::new(&self.mutex, &self.claim, attributes)
    }

    /// What another process locks, which has a claim of its own.
    pub fn elsewhere(&self) -> &Mutex {
        &self.mutex
    }

    /// A stranger writes that nobody has it.
    pub fn scribble(&self) {
        self.mutex.lock.store(0, Ordering::Relaxed);
    }
}
