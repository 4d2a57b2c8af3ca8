//! This process, as the locks write it down.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use crate::ring::identity;
use crate::sync;

/// The identity by which others find out whether this process is still alive: made once, and given to
/// each call that makes it the holder of something.
///
/// It is a number of process id and start time, as in the [`ring`](crate::ring), so that a later process
/// with the same id is not mistaken for it. A process of another PID namespace counts as alive: nobody
/// there learns of its death.
///
/// ```
/// use linipc_core::pshared::Process;
///
/// let process = Process::current()?;
/// assert!(!process.is_forked());
/// # Ok::<(), linipc_core::Errno>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Process {
    identity: u64,
    page: &'static Page,
}

/// A page that knows this process, and that is all zeros in its children until they ask.
#[derive(Debug)]
struct Page {
    /// Of the process that has the page, or 0.
    identity: AtomicU64,
    /// [`Process::mark`], or 0.
    mark: AtomicU32,
    /// Whether heavy fences do not reach this process.
    is_unreached: AtomicBool,
}

static PAGE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

/// The highest mark of this process and of those from which it was forked, whose memory it has.
static MARKS: AtomicU32 = AtomicU32::new(0);

impl Process {
    /// This process. The first call makes some system calls, further ones none.
    ///
    /// # Errors
    ///
    /// - `NOMEM`: no memory for a page.
    /// - `INVAL`: the kernel cannot tell a child of fork(2) from its parent (before Linux 4.14).
    pub fn current() -> Result<Self, Errno> {
        let page = page()?;
        // Acquire: of the store below. All threads of a process store the same.
        let mut identity = page.identity.load(Ordering::Acquire);
        if identity == 0 {
            identity = identity::me()?;
            page.mark();
            // Release: who finds the identity finds whether heavy fences reach this process.
            page.identity.store(identity, Ordering::Release);
        }
        Ok(Self { identity, page })
    }

    /// Whether this is a child of the process that made the token, in which it is of no use.
    #[inline]
    pub fn is_forked(&self) -> bool {
        // Relaxed: of this process, as no other one has this page.
        self.page.identity.load(Ordering::Relaxed) != self.identity
    }

    /// A number that no process has from which this one was forked: by it the tokens that this one has
    /// from them are told from its own.
    ///
    /// # Errors
    ///
    /// As of [`Process::current`].
    pub(crate) fn mark() -> Result<u32, Errno> {
        page().map(Page::mark)
    }

    /// The page of the process that made a mark, and of its children. Who has a mark knows that there is one.
    #[inline(always)]
    fn page_of(_mark: u32) -> &'static Page {
        // Relaxed: it was set when the mark was made.
        let page = PAGE.load(Ordering::Relaxed);
        // SAFETY: There is a mark, so there was a page when it was made, and it is mapped for good.
        unsafe { &*page }
    }

    /// Whether a mark is of another process: of one of the parents of this one.
    #[inline(always)]
    pub(crate) fn is_forked_from(mark: u32) -> bool {
        // Relaxed: as in `is_forked`.
        Self::page_of(mark).mark.load(Ordering::Relaxed) != mark
    }

    /// [`Process::light_fence`] of the process that made a mark.
    #[inline(always)]
    pub(crate) fn light_fence_of(mark: u32) {
        Self::page_of(mark).light_fence();
    }

    /// What is written down: neither 0 nor another small number.
    #[inline(always)]
    #[allow(dead_code, reason = "models have their own")]
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    /// [`sync::light_fence`], which is a real one where heavy fences do not reach this process. So who
    /// sleeps must only nap where its own heavy fence is refused.
    #[inline(always)]
    #[allow(dead_code, reason = "models have their own")]
    pub(crate) fn light_fence(&self) {
        self.page.light_fence();
    }
}

impl Page {
    /// [`Process::mark`], made at the first call.
    fn mark(&self) -> u32 {
        // Acquire: of the exchange below.
        let mark = self.mark.load(Ordering::Acquire);
        if mark != 0 {
            return mark;
        }
        // Relaxed: the exchange publishes it.
        self.is_unreached
            .store(!sync::register(), Ordering::Relaxed);
        // Relaxed: a child has the parent's tokens from a thread that had made them, so after this increment,
        // and the number was copied with them (fork(2)): what it adds is above theirs.
        let new = MARKS.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // Release: who finds the mark finds whether heavy fences reach this process. Acquire: of this very
        // store, by another thread.
        match self
            .mark
            .compare_exchange(0, new, Ordering::Release, Ordering::Acquire)
        {
            Ok(_) => new,
            Err(mark) => mark,
        }
    }

    #[inline(always)]
    fn light_fence(&self) {
        sync::light_fence();
        // Relaxed: of this process.
        if self.is_unreached.load(Ordering::Relaxed) {
            fence(Ordering::SeqCst);
        }
    }
}

/// The page, which is mapped for good.
fn page() -> Result<&'static Page, Errno> {
    const SIZE: usize = 4096;
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: New memory, where the kernel finds room.
        let new =
            unsafe { mm::mmap_anonymous(ptr::null_mut(), SIZE, protection, MapFlags::PRIVATE) }?;
        // SAFETY: The memory is ours, and not written yet.
        let wiped = unsafe { mm::madvise(new, SIZE, Advice::LinuxWipeOnFork) };
        let new = new.cast::<Page>();
        let raced = wiped.is_err()
            // Release and Acquire: whoever finds the page finds it mapped.
            || PAGE
                .compare_exchange(page, new, Ordering::AcqRel, Ordering::Acquire)
                .is_err();
        if raced {
            // SAFETY: Nobody else knows the page.
            unsafe { mm::munmap(new.cast(), SIZE) }?;
            wiped?;
        }
        page = PAGE.load(Ordering::Acquire);
    }
    // SAFETY: The page is mapped for good, and zeros are valid.
    Ok(unsafe { &*page })
}
