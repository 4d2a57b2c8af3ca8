//! Locks that live in shared memory, between processes of which any may be killed at any moment.
//!
//! Each is a structure of atomics that is its own format: it is made in place, in memory of any
//! mapping (`init`), in a `static`, or as a field of a `repr(C)` structure (`new`), and is found there
//! (`attach`) by any number of processes. None allocates. Each has a form that only tries, one that
//! waits, and one that waits until a [`Deadline`].
//!
//! | to | use | when the one who holds it is killed |
//! |---|---|---|
//! | guard data, and learn who broke it | [`mutex`] | the kernel says so at once: the next one gets it with `OwnerDied` |
//! | wait until data that a mutex guards have changed | [`condvar`] | nobody holds it; a notification is not lost by a death |
//! | say that something has happened | [`event`] | nobody holds it |
//! | initialise once | [`once`] | the next one does it, and is told |
//! | go on when all are there | [`barrier`] | within 100 ms: all who wait get [`Error::PeerDead`] |
//! | hand out units, or count what has happened | [`semaphore`] | its units are gone; nobody is held up by that |
//! | share a lock with C programs | [`pthread`] | the same |
//! | let many read what few change | [`rwlock`] | within 100 ms: a reader is forgotten; after a writer the next one gets it with `OwnerDied` |
//! | guard what takes nanoseconds | [`spin`] | within 100 ms: all who come get [`Error::PeerDead`] |
//!
//! Who takes one of the kernel's robust locks says which thread it is ([`robust`](crate::robust)); who
//! takes another one, which process ([`Process`]): that is written down, and those who wait look whether
//! it is alive.
//!
//! # Trust
//!
//! Who may write the memory may write anything there. Then a call fails, gives what is not free, or
//! waits for ever (give a deadline); it does not panic, and touches nothing outside. There is one
//! exception, the links of a [`mutex`], which are the reason for its placement in two pages.

use core::fmt;

use rustix::io::Errno;

use crate::futex::Deadline;
use crate::map::Access;
use crate::shared::SharedBytes;
use crate::sync::{AtomicU32, MILLISECOND, Ordering, Word, const_fn, left, sleep};

pub mod barrier;
mod bell;
pub mod condvar;
pub mod event;
pub mod mutex;
pub mod once;
mod process;
pub mod pthread;
pub mod rwlock;
pub mod semaphore;
pub mod spin;

pub use process::Process;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// It cannot be had at once (`EBUSY`).
    Busy,
    /// The deadline has passed (`ETIMEDOUT`).
    TimedOut,
    /// Its owner died, and who had it after that did not say that the data are consistent: nobody can
    /// have it any more (`ENOTRECOVERABLE`).
    NotRecoverable,
    /// The caller has it already (`EDEADLK`).
    Deadlock,
    /// As often as it can be counted (`EAGAIN`, `EOVERFLOW`).
    Overflow,
    /// A party died, which the others would have waited for.
    PeerDead,
    /// This process is a child of the one that made the token: make a new one after fork(2).
    Forked,
    /// The words are none that a peer that keeps to the rules would have written (`EINVAL`).
    Corrupt,
    /// The kernel refused.
    System(Errno),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::TIMEDOUT => Self::TimedOut,
            Errno::DEADLK => Self::Deadlock,
            errno => Self::System(errno),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("others have it"),
            Self::TimedOut => f.write_str("the deadline has passed"),
            Self::NotRecoverable => {
                f.write_str("its owner died, and the next one left it inconsistent")
            }
            Self::Deadlock => f.write_str("the caller has it already"),
            Self::Overflow => f.write_str("it cannot be counted any further"),
            Self::PeerDead => f.write_str("a party died"),
            Self::Forked => f.write_str("the token was made before a fork"),
            Self::Corrupt => f.write_str("no lock of this kind wrote this"),
            Self::System(errno) => errno.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// Why memory cannot be, or is not, a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachError {
    /// The memory is too short.
    TooSmall {
        /// The bytes that it needs.
        needed: usize,
    },
    /// The memory's address is not a multiple of this.
    Unaligned {
        /// The alignment.
        align: usize,
    },
    /// The memory is not mapped for reading and writing.
    ReadOnly,
    /// It cannot be made for so many units or parties.
    OutOfRange {
        /// The fewest.
        min: u32,
        /// The most.
        max: u32,
    },
    /// There is none of this kind in this memory, or not yet.
    NotFound,
    /// It was made by another version of this crate.
    Version {
        /// Its version.
        found: u32,
        /// This crate's.
        expected: u32,
    },
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { needed } => write!(f, "it needs {needed} bytes of memory"),
            Self::Unaligned { align } => {
                write!(f, "its address must be a multiple of {align}")
            }
            Self::ReadOnly => f.write_str("it needs memory that can be read and written"),
            Self::OutOfRange { min, max } => write!(f, "it must be for {min} to {max}"),
            Self::NotFound => f.write_str("there is none of this kind in this memory"),
            Self::Version { found, expected } => {
                write!(
                    f,
                    "it is of version {found}, and this is version {expected}"
                )
            }
        }
    }
}

impl core::error::Error for AttachError {}

/// A sleeper looks again after so long, twice in the promised 100 ms: it may be that somebody died who
/// was to wake it.
const LOOK: u64 = 50 * MILLISECOND;

/// How long to sleep without a heavy fence, since then a wake may be missed.
const NAP: u64 = MILLISECOND;

/// How long the pauses of who spins become: the longer, the more the owner gets done in the meantime,
/// since each look takes the cache line away from it.
const PAUSE: u32 = 16;

/// Sleeps while the word is `expected`, for a while at most, and not beyond the deadline. To be called
/// in a loop, for it ends for any reason. Whether nobody woke it, so that it is time to look for the dead.
fn sleep_a_while(word: &Word, expected: u32, deadline: Option<Deadline>) -> Result<bool, Error> {
    let at_most = left(deadline, LOOK);
    if at_most == 0 {
        return Err(Error::TimedOut);
    }
    match sleep(word, expected, at_most) {
        Ok(()) | Err(Errno::INTR) => Ok(false),
        Err(Errno::TIMEDOUT) => Ok(true),
        Err(error) => Err(Error::System(error)),
    }
}

/// A lock's words, as they are in memory.
///
/// # Safety
///
/// `repr(C)`, and nothing but atomics without padding: any bytes are valid, and may change at any time.
pub(crate) unsafe trait InPlace: Sized {}

/// The words in memory, whatever they are.
pub(crate) fn find<T: InPlace>(memory: SharedBytes<'_>) -> Result<&T, AttachError> {
    if !memory.access().contains(Access::READ | Access::WRITE) {
        return Err(AttachError::ReadOnly);
    }
    if memory.len() < size_of::<T>() {
        return Err(AttachError::TooSmall {
            needed: size_of::<T>(),
        });
    }
    let words = memory.as_ptr().cast::<T>();
    if !words.is_aligned() {
        return Err(AttachError::Unaligned {
            align: align_of::<T>(),
        });
    }
    // SAFETY: So many bytes are mapped for reading and writing as long as the view lives, they are
    // aligned, and any are valid (`InPlace`); all accesses to them are atomic (`SharedBytes`).
    Ok(unsafe { &*words })
}

/// The first word of a lock that has no format of others: what it is, and its version.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Magic(AtomicU32);

/// What lock the first word is of.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
#[allow(dead_code, reason = "each is named by its module")]
pub(crate) enum Kind {
    RwLock = 1,
    Condvar,
    Barrier,
    Once,
    Event,
    Semaphore,
    Spin,
}

impl Magic {
    const VERSION: u32 = 1;

    const fn word(kind: Kind) -> u32 {
        // "lp", the kind, and the version.
        0x6c70_0000 | (kind as u32) << 8 | Self::VERSION
    }

    const_fn! {
        /// That of a new lock.
        pub(crate) fn new(kind: Kind) -> Self {
            Self(AtomicU32::new(Self::word(kind)))
        }
    }

    /// Writes that of a new lock.
    pub(crate) fn write(&self, kind: Kind) {
        // Release: who attaches finds all words of the lock.
        self.0.store(Self::word(kind), Ordering::Release);
    }

    /// Writes that of a lock for which zeros are a new one, if they are there.
    pub(crate) fn write_over_zero(&self, kind: Kind) {
        // Release, Acquire: as in `write` and `check`. Whatever else is there is left to `check`.
        let _ = self
            .0
            .compare_exchange(0, Self::word(kind), Ordering::Release, Ordering::Relaxed);
    }

    /// Whether the lock is of this kind and version.
    pub(crate) fn check(&self, kind: Kind) -> Result<(), AttachError> {
        let expected = Self::word(kind);
        // Acquire: of `write`.
        let found = self.0.load(Ordering::Acquire);
        if found == expected {
            Ok(())
        } else if found & !0xff == expected & !0xff {
            Err(AttachError::Version {
                found: found & 0xff,
                expected: Self::VERSION,
            })
        } else {
            Err(AttachError::NotFound)
        }
    }
}
