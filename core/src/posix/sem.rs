//! POSIX semaphores, in the format of the C library: a counter that one process raises and another
//! waits for.
//!
//! Mirrors sem_overview(7): sem_open(3), sem_init(3), sem_wait(3), sem_post(3), sem_getvalue(3) and
//! sem_clockwait. [`Semaphore`] is a `sem_t` in memory that the caller gives: of any mapping
//! ([`Semaphore::init`], unnamed), or of a file in `/dev/shm` ([`open`], named). C programs that
//! are linked with the same C library can use the same semaphore at the same time.
//!
//! ```
//! use linipc_core::posix::{Create, Mode, sem};
//! use sem::{Format, Semaphore};
//!
//! # let name = &*format!("/linipc-doc-sem-{}", std::process::id());
//! let create = Create::Exclusive(Mode::RUSR | Mode::WUSR);
//! let region = sem::open(name, create, 1, Format::NATIVE)?;
//! let semaphore = Semaphore::attach(region.bytes(), Format::NATIVE)?;
//! semaphore.wait()?;
//! assert_eq!(semaphore.value(), 0);
//! semaphore.post()?;
//! sem::unlink(name, Format::NATIVE)?;
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Formats
//!
//! ```text
//!             bytes  0          4          8          12
//! Glibc64     32     value and waiters     private            one u64; value is its low half
//! Glibc32     16     value      private    (pad)      waiters value << 1 | somebody waits
//! Musl64, 32  32,16  value      waiters    private            somebody waits << 31 | value
//! ```
//!
//! glibc has had its two since 2.21. musl's is that of 1.2.4 and later: 1.2.3 and earlier put -1
//! where later ones set a bit. That value is `INVAL` here, but the two do not work together.
//!
//! # Pitfalls
//!
//! - Nobody owns a semaphore: when a process is killed between wait and post, nobody posts for it.
//!   Where that matters, use a lock that the kernel or the robust list gives back.
//! - A process that is killed while it waits stays counted as a waiter. The others go on; posts
//!   then make a needless system call.
//! - If a process is killed when it has added a unit, before it wakes one who sleeps, that one sleeps
//!   until the next post. Who waits for a [`pshared::semaphore`](crate::pshared::semaphore) looks every
//!   50 ms.
//! - Who may write the memory may write anything there: then calls fail with `INVAL` or
//!   `OVERFLOW`, take units that nobody posted, or wait for ever (give a deadline). They do not
//!   panic. A named semaphore is a file: who may write it may also truncate it, and the next touch
//!   raises `SIGBUS`.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{self, OFlags};
use rustix::io::Errno;
use rustix::path;

use super::{Create, Mode, ObjectPath};
use crate::fd::{AsFd, OwnedFd};
use crate::futex::{Deadline, Futex};
use crate::io;
use crate::map::{Access, Region};
use crate::shared::SharedBytes;

/// `SEM_VALUE_MAX`: the highest value.
#[doc(alias = "SEM_VALUE_MAX")]
pub const VALUE_MAX: u32 = i32::MAX as u32;

/// Which C library's `sem_t`, of a program with how many bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// glibc on 64-bit architectures.
    Glibc64,
    /// glibc on 32-bit architectures.
    Glibc32,
    /// musl 1.2.4 or later on 64-bit architectures.
    Musl64,
    /// musl 1.2.4 or later on 32-bit architectures.
    Musl32,
}

impl Format {
    /// glibc's on this architecture.
    pub const GLIBC: Self = if cfg!(target_pointer_width = "64") {
        Self::Glibc64
    } else {
        Self::Glibc32
    };

    /// musl's on this architecture.
    pub const MUSL: Self = if cfg!(target_pointer_width = "64") {
        Self::Musl64
    } else {
        Self::Musl32
    };

    /// What this program would be linked with: musl's on musl targets, else glibc's.
    pub const NATIVE: Self = if cfg!(target_env = "musl") {
        Self::MUSL
    } else {
        Self::GLIBC
    };

    /// `sizeof(sem_t)`: the bytes that a semaphore takes, at an address that is a multiple of
    /// [`Format::align`].
    #[inline]
    pub const fn size(self) -> usize {
        match self {
            Self::Glibc64 | Self::Musl64 => 32,
            Self::Glibc32 | Self::Musl32 => 16,
        }
    }

    /// The alignment that the memory of a semaphore must have.
    #[inline]
    pub const fn align(self) -> usize {
        match self {
            Self::Glibc64 => 8,
            _ => 4,
        }
    }

    /// What stands before the name of a named semaphore.
    #[inline]
    const fn prefix(self) -> &'static str {
        match self {
            Self::Glibc64 | Self::Glibc32 => "sem.",
            Self::Musl64 | Self::Musl32 => "",
        }
    }

    /// The bytes of a new semaphore.
    #[inline]
    fn image(self, sharing: Sharing, value: u32) -> Result<[u8; 32], Errno> {
        if value > VALUE_MAX {
            return Err(Errno::INVAL);
        }
        let flag = self.flag(sharing);
        let words = match self {
            Self::Glibc64 if cfg!(target_endian = "big") => [0, value, flag],
            Self::Glibc64 => [value, 0, flag],
            Self::Glibc32 => [value << 1, flag, 0],
            Self::Musl64 | Self::Musl32 => [value, 0, flag],
        };
        let mut image = [0; 32];
        for (to, from) in image
            .iter_mut()
            .zip(words.iter().flat_map(|w| w.to_ne_bytes()))
        {
            *to = from;
        }
        Ok(image)
    }

    /// The word that says whether the semaphore is private: the two libraries use the same bit
    /// (`FUTEX_PRIVATE_FLAG`) in opposite senses.
    #[inline]
    const fn flag(self, sharing: Sharing) -> u32 {
        match (self, sharing) {
            (Self::Glibc64 | Self::Glibc32, Sharing::Shared) => 128,
            (Self::Glibc64 | Self::Glibc32, Sharing::Private) => 0,
            (Self::Musl64 | Self::Musl32, Sharing::Shared) => 0,
            (Self::Musl64 | Self::Musl32, Sharing::Private) => 128,
        }
    }
}

/// `pshared`: who uses an unnamed semaphore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All processes that map it.
    Shared,
    /// The threads of one process. Others that map it are never woken.
    Private,
}

/// `sem_t`: a semaphore in memory that others may use at the same time.
#[derive(Debug, Clone, Copy)]
#[doc(alias = "sem_t")]
pub struct Semaphore<'a> {
    words: Words<'a>,
    private: &'a AtomicU32,
    format: Format,
}

#[derive(Debug, Clone, Copy)]
enum Words<'a> {
    /// `low` is the half of `data` that has the value: what waiters sleep on. Only the kernel
    /// reads it.
    Glibc64 {
        data: &'a AtomicU64,
        low: &'a AtomicU32,
    },
    Glibc32 {
        value: &'a AtomicU32,
        waiters: &'a AtomicU32,
    },
    Musl {
        value: &'a AtomicU32,
        waiters: &'a AtomicU32,
    },
}

impl<'a> Semaphore<'a> {
    /// `int sem_init(sem_t *sem, int pshared, unsigned int value)`: makes an unnamed semaphore at
    /// the beginning of `memory`.
    ///
    /// Nobody may be using what is there. It needs no destruction.
    ///
    /// # Errors
    ///
    /// - `INVAL`: `value` is above [`VALUE_MAX`], or the address is not aligned.
    /// - `FAULT`: `memory` is too short, or cannot be read and written.
    ///
    /// # References
    ///
    /// - [sem_init(3)](https://man7.org/linux/man-pages/man3/sem_init.3.html)
    #[inline]
    #[doc(alias = "sem_init")]
    pub fn init(
        memory: SharedBytes<'a>,
        format: Format,
        sharing: Sharing,
        value: u32,
    ) -> Result<Self, Errno> {
        let semaphore = Self::attach(memory, format)?;
        let image = format.image(sharing, value)?;
        let (image, _) = image.split_at(format.size());
        memory.write(0, image)?;
        Ok(semaphore)
    }

    /// The semaphore that somebody made at the beginning of `memory`, in this format.
    ///
    /// # Errors
    ///
    /// - `FAULT`: `memory` is too short, or cannot be read and written.
    /// - `INVAL`: the address is not aligned.
    #[inline]
    pub fn attach(memory: SharedBytes<'a>, format: Format) -> Result<Self, Errno> {
        let memory = memory.slice(0, format.size())?;
        let (words, private) = match format {
            Format::Glibc64 => {
                let low = if cfg!(target_endian = "big") { 4 } else { 0 };
                let words = Words::Glibc64 {
                    data: memory.atomic_u64(0)?,
                    low: memory.atomic_u32(low)?,
                };
                (words, 8)
            }
            Format::Glibc32 => {
                let words = Words::Glibc32 {
                    value: memory.atomic_u32(0)?,
                    waiters: memory.atomic_u32(12)?,
                };
                (words, 4)
            }
            Format::Musl64 | Format::Musl32 => {
                let words = Words::Musl {
                    value: memory.atomic_u32(0)?,
                    waiters: memory.atomic_u32(4)?,
                };
                (words, 8)
            }
        };
        Ok(Self {
            words,
            private: memory.atomic_u32(private)?,
            format,
        })
    }

    /// `int sem_getvalue(sem_t *sem, int *sval)`: the value, which may have changed already.
    ///
    /// # References
    ///
    /// - [sem_getvalue(3)](https://man7.org/linux/man-pages/man3/sem_getvalue.3.html)
    #[inline]
    #[doc(alias = "sem_getvalue")]
    pub fn value(&self) -> u32 {
        // Relaxed: the value alone orders nothing.
        match self.words {
            Words::Glibc64 { data, .. } => data.load(Relaxed) as u32,
            Words::Glibc32 { value, .. } => value.load(Relaxed) >> 1,
            Words::Musl { value, .. } => value.load(Relaxed) & VALUE_MAX,
        }
    }

    /// How many are counted as waiting now: asleep, about to be, or killed in their sleep.
    #[inline]
    pub fn waiters(&self) -> u32 {
        // Relaxed: the number alone orders nothing.
        match self.words {
            Words::Glibc64 { data, .. } => (data.load(Relaxed) >> 32) as u32,
            Words::Glibc32 { waiters, .. } | Words::Musl { waiters, .. } => waiters.load(Relaxed),
        }
    }

    /// `int sem_trywait(sem_t *sem)`: takes a unit if there is one. What its poster did before is
    /// visible after.
    ///
    /// # Errors
    ///
    /// - `AGAIN`: the value is 0.
    /// - `INVAL`: not a semaphore of this format.
    ///
    /// # References
    ///
    /// - [sem_wait(3)](https://man7.org/linux/man-pages/man3/sem_wait.3.html)
    #[inline]
    #[doc(alias = "sem_trywait")]
    pub fn try_wait(&self) -> Result<(), Errno> {
        // In each format, Acquire: after the release of every post up to the one whose unit this
        // is. Relaxed: a value that is not taken orders nothing.
        match self.words {
            Words::Glibc64 { data, .. } => data
                .fetch_update(Acquire, Relaxed, |seen| (seen as u32 > 0).then(|| seen - 1))
                .map(drop)
                .map_err(|_| Errno::AGAIN),
            Words::Glibc32 { value, .. } => value
                .fetch_update(Acquire, Relaxed, |seen| (seen >> 1 > 0).then(|| seen - 2))
                .map(drop)
                .map_err(|_| Errno::AGAIN),
            Words::Musl { value, .. } => value
                .fetch_update(Acquire, Relaxed, |seen| {
                    (seen & VALUE_MAX > 0 && seen != OLD_MUSL).then(|| seen - 1)
                })
                .map(drop)
                .map_err(|seen| match seen {
                    OLD_MUSL => Errno::INVAL,
                    _ => Errno::AGAIN,
                }),
        }
    }

    /// `int sem_wait(sem_t *sem)`: takes a unit; waits until there is one.
    ///
    /// # Errors
    ///
    /// - `INTR`: a signal was caught while the call waited; nothing was taken.
    /// - `INVAL`: not a semaphore of this format.
    ///
    /// # References
    ///
    /// - [sem_wait(3)](https://man7.org/linux/man-pages/man3/sem_wait.3.html)
    #[inline]
    #[doc(alias = "sem_wait")]
    pub fn wait(&self) -> Result<(), Errno> {
        match self.try_wait() {
            Err(Errno::AGAIN) => self.sleep(None),
            done => done,
        }
    }

    /// `int sem_clockwait(sem_t *sem, clockid_t clockid, const struct timespec *abs_timeout)`:
    /// takes a unit; waits until there is one, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// - `TIMEDOUT`: the deadline has passed. A unit that is there is taken even then.
    /// - `INTR`: a signal was caught while the call waited; nothing was taken.
    /// - `INVAL`: the nanoseconds are not from 0 to 999,999,999, or not a semaphore of this format.
    ///
    /// # References
    ///
    /// - [sem_timedwait(3)](https://man7.org/linux/man-pages/man3/sem_timedwait.3.html)
    #[inline]
    #[doc(alias = "sem_timedwait")]
    #[doc(alias = "sem_clockwait")]
    pub fn wait_deadline(&self, deadline: Deadline) -> Result<(), Errno> {
        if !(0..1_000_000_000).contains(&deadline.at.tv_nsec) {
            return Err(Errno::INVAL);
        }
        match self.try_wait() {
            // The kernel would call it invalid.
            Err(Errno::AGAIN) if deadline.at.tv_sec < 0 => Err(Errno::TIMEDOUT),
            Err(Errno::AGAIN) => self.sleep(Some(deadline)),
            done => done,
        }
    }

    /// `int sem_post(sem_t *sem)`: adds a unit, and wakes one who waits.
    ///
    /// May be called in a signal handler. The semaphore's memory is not touched after the unit is
    /// there, so who takes it may unmap it.
    ///
    /// # Errors
    ///
    /// - `OVERFLOW`: the value is [`VALUE_MAX`] already.
    /// - `INVAL`: not a semaphore of this format.
    ///
    /// # References
    ///
    /// - [sem_post(3)](https://man7.org/linux/man-pages/man3/sem_post.3.html)
    #[inline]
    #[doc(alias = "sem_post")]
    pub fn post(&self) -> Result<(), Errno> {
        let sharing = self.sharing()?;
        // In each format, Release: what was done before is visible to who takes the unit. Relaxed:
        // a value that is not changed orders nothing.
        let (word, wake) = match self.words {
            Words::Glibc64 { data, low } => {
                let add = |seen| ((seen as u32) < VALUE_MAX).then(|| seen + 1);
                match data.fetch_update(Release, Relaxed, add) {
                    Ok(seen) => (low, u32::from(seen >> 32 > 0)),
                    Err(_) => return Err(Errno::OVERFLOW),
                }
            }
            Words::Glibc32 { value, .. } => {
                let add = |seen| (seen >> 1 < VALUE_MAX).then(|| seen + 2);
                match value.fetch_update(Release, Relaxed, add) {
                    Ok(seen) => (value, seen & 1),
                    Err(_) => return Err(Errno::OVERFLOW),
                }
            }
            Words::Musl { value, waiters } => {
                let mut alone = false;
                let add = |seen| {
                    // Relaxed: a number that is out of date costs needless wakes at most. The bit
                    // is cleared only by who then wakes all.
                    alone = waiters.load(Relaxed) <= 1;
                    let keep = if alone { VALUE_MAX } else { u32::MAX };
                    (seen & VALUE_MAX < VALUE_MAX).then(|| (seen + 1) & keep)
                };
                match value.fetch_update(Release, Relaxed, add) {
                    Ok(seen) if seen & MUSL_WAITERS == 0 => (value, 0),
                    Ok(_) => (value, if alone { u32::MAX } else { 1 }),
                    Err(OLD_MUSL) => return Err(Errno::INVAL),
                    Err(_) => return Err(Errno::OVERFLOW),
                }
            }
        };
        sharing.wake(word, wake);
        Ok(())
    }

    #[inline]
    fn sleep(&self, deadline: Option<Deadline>) -> Result<(), Errno> {
        let sharing = self.sharing()?;
        match self.words {
            Words::Glibc64 { data, low } => sleep_glibc64(data, low, sharing, deadline),
            Words::Glibc32 { value, waiters } => sleep_glibc32(value, waiters, sharing, deadline),
            Words::Musl { value, waiters } => loop {
                // Relaxed: see `post`.
                waiters.fetch_add(1, Relaxed);
                // Relaxed, also if it fails: the kernel compares again before it sleeps.
                let _ = value.compare_exchange(0, MUSL_WAITERS, Relaxed, Relaxed);
                let woken = sharing.wait(value, MUSL_WAITERS, deadline);
                // Relaxed: see `post`.
                waiters.fetch_sub(1, Relaxed);
                woken?;
                match self.try_wait() {
                    Err(Errno::AGAIN) => {}
                    done => return done,
                }
            },
        }
    }

    /// What the C library would take the semaphore for: only futex calls of the same scope meet.
    #[inline]
    fn sharing(&self) -> Result<Sharing, Errno> {
        // Relaxed: it is written before anybody uses the semaphore.
        let flag = self.private.load(Relaxed);
        [Sharing::Shared, Sharing::Private]
            .into_iter()
            .find(|sharing| flag == self.format.flag(*sharing))
            .ok_or(Errno::INVAL)
    }
}

impl Sharing {
    /// Sleeps while `word` is `value`; may return early.
    #[inline]
    fn wait(self, word: &AtomicU32, value: u32, deadline: Option<Deadline>) -> Result<(), Errno> {
        let woken = match self {
            Self::Shared => Futex::shared(word).wait(value, deadline),
            Self::Private => Futex::private(word).wait(value, deadline),
        };
        match woken {
            Err(Errno::AGAIN) => Ok(()),
            done => done,
        }
    }

    #[inline]
    fn wake(self, word: &AtomicU32, count: u32) {
        // It cannot fail on a word that was just changed; if it did, the unit is there.
        let _ = match self {
            Self::Shared => Futex::shared(word).wake(count),
            Self::Private => Futex::private(word).wake(count),
        };
    }
}

/// The bit in musl's value that says that somebody sleeps.
const MUSL_WAITERS: u32 = 1 << 31;
/// What musl up to 1.2.3 has as value when somebody sleeps.
const OLD_MUSL: u32 = u32::MAX;

fn sleep_glibc64(
    data: &AtomicU64,
    low: &AtomicU32,
    sharing: Sharing,
    deadline: Option<Deadline>,
) -> Result<(), Errno> {
    const WAITER: u64 = 1 << 32;
    // Takes the unit and leaves in one step; the upper half is a peer's to get wrong.
    let take = |seen: u64| (seen as u32 > 0).then(|| seen.wrapping_sub(WAITER + 1));
    // Relaxed: a post sees the waiter in the very word that it changes, or the waiter its unit.
    data.fetch_add(WAITER, Relaxed);
    // Acquire and Relaxed: as in `try_wait`.
    while data.fetch_update(Acquire, Relaxed, take).is_err() {
        if let Err(error) = sharing.wait(low, 0, deadline) {
            // Relaxed: who leaves without a unit orders nothing.
            data.fetch_sub(WAITER, Relaxed);
            return Err(error);
        }
    }
    Ok(())
}

/// The bit in the value says that `waiters` may not be 0. It is set by who is about to sleep and
/// cleared by who believes to be the last waiter; one who erred in that sets it again.
fn sleep_glibc32(
    value: &AtomicU32,
    waiters: &AtomicU32,
    sharing: Sharing,
    deadline: Option<Deadline>,
) -> Result<(), Errno> {
    let take = |seen: u32| (seen >> 1 > 0).then(|| seen - 2);
    // Acquire: after the release of a waiter that left, so that its clearing of the bit is seen.
    waiters.fetch_add(1, Acquire);
    let result = loop {
        // Release: who clears the bit after this then sees that we are counted.
        value.fetch_or(1, Release);
        // Acquire and Relaxed: as in `try_wait`.
        if value.fetch_update(Acquire, Relaxed, take).is_ok() {
            break Ok(());
        }
        if let Err(error) = sharing.wait(value, 1, deadline) {
            break Err(error);
        }
    };
    // Relaxed: a guess.
    let alone = waiters.load(Relaxed) == 1;
    if alone {
        // Acquire: after the release with which another waiter set the bit, so that the next
        // subtraction finds it counted.
        value.fetch_and(!1, Acquire);
    }
    // Release: a waiter that comes after this sees the bit cleared.
    let were = waiters.fetch_sub(1, Release);
    if alone && were > 1 {
        // Relaxed: it only makes posts wake again; those that came between are made up for here.
        let units = value.fetch_or(1, Relaxed) >> 1;
        sharing.wake(value, units);
    }
    result
}

/// `sem_t *sem_open(const char *name, int oflag, mode_t mode, unsigned int value)`: opens, finds or
/// makes a named semaphore; gives its memory, for [`Semaphore::attach`].
///
/// `value` is that of a new semaphore, which nobody sees before it is complete. The mode should
/// give whoever may use it both read and write permission.
///
/// # Errors
///
/// - `NOENT`: [`Create::No`], and there is none. `EXIST`: [`Create::Exclusive`], and there is one.
/// - `INVAL`: `value` is above [`VALUE_MAX`] and it was to be made; empty, `.`, `..`, or an inner
///   slash; or the file has not the size of a semaphore of this format.
/// - `ACCESS`: the permissions of the semaphore, or of the directory, do not permit it.
/// - `NAMETOOLONG`: more than 251 bytes for glibc, 255 for musl. `LOOP`: it is a symbolic link.
/// - `NOSPC`: `/dev/shm` is full. `MFILE`, `NFILE`: no descriptor is free. `NOMEM`: no memory.
/// - `AGAIN`: others made and unlinked it all the time.
///
/// # References
///
/// - [sem_open(3)](https://man7.org/linux/man-pages/man3/sem_open.3.html)
#[inline]
#[doc(alias = "sem_open")]
pub fn open(
    name: impl path::Arg,
    create: Create,
    value: u32,
    format: Format,
) -> Result<Region, Errno> {
    open_with_file(name, create, value, format).map(|(_, region)| region)
}

/// [`open`] that gives the file too: its device and inode numbers say whether two names, or two calls,
/// mean the same semaphore. It is mapped already, and may be closed.
///
/// # Errors
///
/// Those of [`open`].
///
/// # References
///
/// - [sem_open(3)](https://man7.org/linux/man-pages/man3/sem_open.3.html)
pub fn open_with_file(
    name: impl path::Arg,
    create: Create,
    value: u32,
    format: Format,
) -> Result<(OwnedFd, Region), Errno> {
    const TRIES: usize = 100;
    let path = ObjectPath::new(format.prefix(), name)?;
    let mode = match create {
        Create::No => return open_existing(&path, format),
        Create::Exclusive(mode) => return make(&path, mode, value, format),
        Create::Open(mode) => mode,
    };
    for _ in 0..TRIES {
        match open_existing(&path, format) {
            Err(Errno::NOENT) => {}
            done => return done,
        }
        match make(&path, mode, value, format) {
            Err(Errno::EXIST) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

fn open_existing(path: &ObjectPath, format: Format) -> Result<(OwnedFd, Region), Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW;
    let file = io::open(path.as_c_str(), flags, Mode::empty())?;
    if fs::fstat(&file)?.st_size as u64 != format.size() as u64 {
        return Err(Errno::INVAL);
    }
    let region = map(&file, format)?;
    Ok((file, region))
}

fn make(
    path: &ObjectPath,
    mode: Mode,
    value: u32,
    format: Format,
) -> Result<(OwnedFd, Region), Errno> {
    let image = format.image(Sharing::Shared, value)?;
    let (image, _) = image.split_at(format.size());
    super::publish(path, "sem.", mode, |file| {
        match rustix::io::write(file, image)? {
            written if written == image.len() => map(file, format),
            _ => Err(Errno::NOSPC),
        }
    })
}

#[inline]
fn map(file: impl AsFd, format: Format) -> Result<Region, Errno> {
    Region::shared(file, 0, format.size(), Access::READ | Access::WRITE)
}

/// `int sem_unlink(const char *name)`: takes the name away; who has the semaphore open keeps it.
///
/// # Errors
///
/// - `NOENT`: there is none.
/// - `ACCESS`, `PERM`: it belongs to somebody else.
/// - `INVAL`, `NAMETOOLONG`: as for [`open`].
///
/// # References
///
/// - [sem_unlink(3)](https://man7.org/linux/man-pages/man3/sem_unlink.3.html)
#[inline]
#[doc(alias = "sem_unlink")]
pub fn unlink(name: impl path::Arg, format: Format) -> Result<(), Errno> {
    fs::unlink(ObjectPath::new(format.prefix(), name)?.as_c_str())
}
