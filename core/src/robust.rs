//! The robust list: which locks a thread holds, so that the kernel can give them back when it dies.
//!
//! Mirrors `get_robust_list(2)` and `set_robust_list(2)`. Each thread has one list, of which the kernel
//! knows the head. When the thread ends, however it does, the kernel goes through the list, and sets
//! [`OWNER_DIED`](crate::futex::OWNER_DIED) in each lock word that has the thread's id, and wakes one who
//! sleeps there. [`Thread`] is a thread's list as [`pshared::mutex`](crate::pshared::mutex) uses it:
//!
//! - The C library makes a list for each of its threads, and locks of C and ours are in it together:
//!   [`Thread::current`].
//! - Where there is no C library, or one that has made none yet (musl), the thread gives the memory
//!   for its head: [`Thread::register`].
//!
//! ```
//! use linipc_core::robust::{Head, Thread};
//!
//! // A new thread's list, where there is no C library. The memory is kept until the thread ends.
//! # let mine = std::thread::spawn(|| {
//! let head: &'static mut Head = Box::leak(Box::new(Head::new()));
//! let thread = Thread::current().or_else(|_| Thread::register(head))?;
//! assert!(thread.id() > 0);
//! # Ok::<(), linipc_core::robust::Error>(())
//! # });
//! # mine.join().unwrap()?;
//! # Ok::<(), linipc_core::robust::Error>(())
//! ```
//!
//! # Format
//!
//! ```text
//!              64 bit                                32 bit
//!  lock word   0                                     0
//!  previous    24   address of a `next`, or the head  -
//!  next        32   address of a `next`, or the head  20
//! ```
//!
//! The distance from `next` to the lock word is the same for all locks of a list, and is glibc's here.
//! musl's is another one. In a program that is linked with musl a thread is registered by us; if it
//! locks a robust `pthread_mutex_t` of musl for the first time after that, musl puts its own list in
//! place of ours, and the locks that the thread holds or takes are robust no more.
//!
//! # Pitfalls
//!
//! - The kernel goes through 2,048 locks at most (`ROBUST_LIST_LIMIT`).
//! - A child of fork(2) has no list until it, or its C library, registers one: a [`Thread`] that was
//!   made before is refused in it ([`Thread::is_forked`]).
//! - A signal handler must not lock what is robust: it may interrupt a change of the list.
//! - Thread ids are those of a PID namespace. Locks must not be shared with processes of another one.

use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::thread::futex;

use crate::pshared::Process;
use crate::sync::light_fence;
use crate::sys::abi::robust_list_head;
use crate::sys::call;

/// The distance from a lock's `next` to its word: `futex_offset`.
#[cfg(target_pointer_width = "64")]
const OFFSET: isize = -32;
#[cfg(target_pointer_width = "32")]
const OFFSET: isize = -20;

/// How much is added to `next` where the lock inherits priority.
const PI: usize = 1;

/// Why a thread's list cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The thread has no list: [`Thread::register`] one.
    None,
    /// The thread has one already, of the C library: [`Thread::current`].
    InUse,
    /// Whose list the thread has puts its locks in another way, such as musl.
    Offset {
        /// Its `futex_offset`.
        found: isize,
        /// Ours.
        expected: isize,
    },
    /// The kernel refused. `NOSYS`: it has no robust lists, or an emulator has none.
    System(Errno),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the thread has no robust list"),
            Self::InUse => f.write_str("the thread has a robust list already"),
            Self::Offset { found, expected } => write!(
                f,
                "the thread's robust list is for locks at {found}, and this one's are at {expected}"
            ),
            Self::System(errno) => errno.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// `struct robust_list_head`, and a word before it: who inserts a lock writes the previous one's
/// address before the `next` that follows, which may be the head's.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    previous: AtomicUsize,
    list: robust_list_head,
}

impl Head {
    /// An empty list's, for [`Thread::register`].
    pub const fn new() -> Self {
        Self {
            previous: AtomicUsize::new(0),
            list: robust_list_head {
                list: AtomicUsize::new(0),
                futex_offset: AtomicUsize::new(OFFSET as usize),
                list_op_pending: AtomicUsize::new(0),
            },
        }
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}

/// A thread and its robust list.
///
/// # Invariants
///
/// `list` is the head that the kernel has for the thread that made the token, which is the only one
/// that has it, and lives as long as the thread.
#[derive(Debug, Clone, Copy)]
pub struct Thread {
    /// Not `Send`.
    list: *const robust_list_head,
    /// The thread's id, and in the upper half the mark of its process: so it is passed in registers.
    who: u64,
}

impl Thread {
    /// `long get_robust_list(0, struct robust_list_head **head_ptr, size_t *len_ptr)`: this thread
    /// with the list that its C library made for it.
    ///
    /// # Errors
    ///
    /// - [`Error::None`]: there is none.
    /// - [`Error::Offset`]: locks of another format are in it.
    /// - [`Error::System`]: `NOSYS`; `NOMEM`.
    ///
    /// # References
    ///
    /// - [get_robust_list(2)](https://man7.org/linux/man-pages/man2/get_robust_list.2.html)
    #[doc(alias = "get_robust_list")]
    pub fn current() -> Result<Self, Error> {
        let list = registered()?.ok_or(Error::None)?;
        // SAFETY: The kernel has this address as the head of this thread's list, which the C library
        // keeps as long as the thread is there.
        let offset = unsafe { &(*list).futex_offset };
        // Relaxed: of this thread, as all of the list is.
        let found = offset.load(Ordering::Relaxed) as isize;
        if found != OFFSET {
            return Err(Error::Offset {
                found,
                expected: OFFSET,
            });
        }
        Self::with(list)
    }

    /// `long set_robust_list(struct robust_list_head *head, size_t len)`: this thread, whose list
    /// begins with `head` from now on.
    ///
    /// # Errors
    ///
    /// - [`Error::InUse`]: the thread has a list.
    /// - [`Error::System`]: `NOSYS`; `NOMEM`.
    ///
    /// # References
    ///
    /// - [set_robust_list(2)](https://man7.org/linux/man-pages/man2/get_robust_list.2.html)
    #[doc(alias = "set_robust_list")]
    pub fn register(head: &'static mut Head) -> Result<Self, Error> {
        if registered()?.is_some() {
            return Err(Error::InUse);
        }
        let list = &head.list;
        // All of the head is reached from the list, also the word before it.
        let _ = ptr::from_ref(&*head).expose_provenance();
        list.list
            .store(ptr::from_ref(list).addr(), Ordering::Relaxed);
        let thread = Self::with(list)?;
        // SAFETY: The kernel reads the head, and the locks behind it, when this thread ends. The head
        // is never freed, and the locks are in mappings.
        unsafe {
            call!(
                __NR_set_robust_list,
                ptr::from_ref(list),
                size_of::<robust_list_head>()
            )
        }?;
        Ok(thread)
    }

    fn with(list: *const robust_list_head) -> Result<Self, Error> {
        let mark = Process::mark()?;
        let id = rustix::thread::gettid().as_raw_nonzero().get();
        // INVARIANT: `list` is of this thread, which the callers know.
        Ok(Self {
            list,
            who: u64::from(id.unsigned_abs()) | u64::from(mark) << 32,
        })
    }

    /// The thread's id, as gettid(2) gives it.
    #[inline(always)]
    pub fn id(&self) -> u32 {
        self.who as u32
    }

    /// Whether this is a child of the process that made the token, in which it is of no use.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        Process::is_forked_from((self.who >> 32) as u32)
    }

    /// [`Process::light_fence`] of the thread's process.
    #[inline(always)]
    pub(crate) fn light_fence(&self) {
        Process::light_fence_of((self.who >> 32) as u32);
    }

    #[inline(always)]
    fn list(&self) -> &robust_list_head {
        // SAFETY: It lives as long as this thread, which has the token (the type's invariant).
        unsafe { &*self.list }
    }

    /// Says that a lock is about to be taken or given back: if the thread ends now, the kernel looks
    /// at it too. To be called before its word is changed.
    #[inline(always)]
    pub(crate) fn begin(&self, node: Node) {
        self.list()
            .list_op_pending
            .store(node.link(), Ordering::Relaxed);
        // The kernel sees this thread's stores in the order of the program.
        light_fence();
    }

    /// Says that it is done.
    #[inline(always)]
    pub(crate) fn end(&self) {
        light_fence();
        self.list().list_op_pending.store(0, Ordering::Relaxed);
    }

    /// Puts a lock into the list that the thread has taken.
    #[inline(always)]
    pub(crate) fn insert(&self, node: Node) {
        let list = self.list();
        let first = list.list.load(Ordering::Relaxed);
        node.next().store(first, Ordering::Relaxed);
        #[cfg(target_pointer_width = "64")]
        {
            let head = list.list.as_ptr().expose_provenance();
            node.previous().store(head, Ordering::Relaxed);
            // SAFETY: It is the first lock of the list, or its head.
            let after = unsafe { Node::from_link(first) };
            after.previous().store(node.at, Ordering::Relaxed);
        }
        light_fence();
        list.list.store(node.link(), Ordering::Relaxed);
    }

    /// Takes a lock out of the list that the thread is about to give back.
    #[inline(always)]
    pub(crate) fn remove(&self, node: Node) {
        #[cfg(target_pointer_width = "64")]
        {
            let next = node.next().load(Ordering::Relaxed);
            let previous = node.previous().load(Ordering::Relaxed);
            // SAFETY: Both are locks of the list that are beside this one, or its head.
            let (before, after) = (unsafe { Node::from_link(previous) }, unsafe {
                Node::from_link(next)
            });
            after.previous().store(previous, Ordering::Relaxed);
            before.next().store(next, Ordering::Relaxed);
            // The kernel must not find the 0 from a lock that is still in the list.
            light_fence();
            node.next().store(0, Ordering::Relaxed);
        }
        #[cfg(target_pointer_width = "32")]
        {
            let mut at = &self.list().list;
            let head = ptr::from_ref(&self.list().list).addr();
            loop {
                let next = at.load(Ordering::Relaxed);
                if next & !PI == node.at {
                    at.store(node.next().load(Ordering::Relaxed), Ordering::Relaxed);
                    // As on 64 bit.
                    light_fence();
                    node.next().store(0, Ordering::Relaxed);
                    return;
                }
                if next == head || next == 0 {
                    return;
                }
                // SAFETY: It is the next lock of the list.
                at = unsafe { Node::from_link(next) }.next();
            }
        }
    }
}

/// The head that the kernel has for this thread.
fn registered() -> Result<Option<*const robust_list_head>, Error> {
    let mut list: usize = 0;
    let mut len: usize = 0;
    let (list_ptr, len_ptr) = (ptr::from_mut(&mut list), ptr::from_mut(&mut len));
    // SAFETY: The kernel writes an address and a length, to variables of their size.
    unsafe { call!(__NR_get_robust_list, 0_usize, list_ptr, len_ptr) }?;
    match ptr::with_exposed_provenance::<robust_list_head>(list) {
        list if list.is_null() => Ok(None),
        _ if len != size_of::<robust_list_head>() => Err(Error::System(Errno::INVAL)),
        list => Ok(Some(list)),
    }
}

/// Whether this process has such a thread, which has not ended, or it cannot be known.
pub(crate) fn is_thread(id: u32) -> bool {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: No signal is sent, and there are no pointers.
    let sent = unsafe { call!(__NR_tgkill, process, id, 0_u32) };
    sent != Err(Errno::SRCH) && !has_ended(id)
}

/// Whether a thread has ended, and the kernel has gone through its list. The first thread of a process keeps
/// its id until the others have ended too, and then gets signals as if it were there; but nobody may wait
/// for it to give back a lock that inherits priority.
fn has_ended(id: u32) -> bool {
    let word = AtomicU32::new(id);
    futex::trylock_pi(&word, futex::Flags::PRIVATE) == Err(Errno::SRCH)
}

/// Whether there is such a thread in any process, or it cannot be known.
pub(crate) fn is_anybody(id: u32) -> bool {
    // SAFETY: No signal is sent, and there are no pointers.
    let sent = unsafe { call!(__NR_tkill, id, 0_u32) };
    sent != Err(Errno::SRCH)
}

/// A lock's place in a list: the address of its `next`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    at: usize,
    tag: usize,
}

impl Node {
    /// That of a lock with its word at this address.
    ///
    /// # Safety
    ///
    /// Around the word must be the bytes of a lock of this format, that stay mapped for reading and
    /// writing while it is in a list, and whose links nobody changes but those who put locks into the
    /// list.
    #[inline(always)]
    pub(crate) unsafe fn of(word: *const u8, is_pi: bool) -> Self {
        Self {
            at: word.wrapping_offset(-OFFSET).expose_provenance(),
            tag: if is_pi { PI } else { 0 },
        }
    }

    /// That of which a link is the address.
    ///
    /// # Safety
    ///
    /// It is a link of a list, and what it leads to is mapped for reading and writing.
    #[inline(always)]
    unsafe fn from_link(link: usize) -> Self {
        Self {
            at: link & !PI,
            tag: link & PI,
        }
    }

    #[inline(always)]
    fn link(self) -> usize {
        self.at | self.tag
    }

    /// Takes it out of the list of a thread that has ended.
    pub(crate) fn forget(&self) {
        self.next().store(0, Ordering::Relaxed);
    }

    #[inline(always)]
    fn next<'a>(self) -> &'a AtomicUsize {
        // SAFETY: The word is mapped and aligned as all links are (the constructors' promise).
        unsafe { &*ptr::with_exposed_provenance(self.at) }
    }

    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    fn previous<'a>(self) -> &'a AtomicUsize {
        let at = self.at.wrapping_sub(size_of::<usize>());
        // SAFETY: As for `next`: it stands before it, also in a head.
        unsafe { &*ptr::with_exposed_provenance(at) }
    }
}
