//! Mappings: memory that several processes have, from any descriptor or none.
//!
//! Mirrors mmap(2), mprotect(2), madvise(2), mlock(2), msync(2), mremap(2) and fallocate(2). A
//! [`Region`] owns a mapping and knows its length; it is unmapped when dropped. What it holds is
//! reached through [`Region::bytes`], which copies, or through the unsafe
//! [`Region::as_slice`] when the peers are trusted.
//!
//! ```
//! use linipc_core::map::{self, Access, Region};
//! use linipc_core::memfd;
//!
//! let fd = memfd::create(c"example", memfd::Flags::empty())?;
//! map::reserve(&fd, 4096)?;
//! let region = Region::shared(&fd, 0, 4096, Access::READ | Access::WRITE)?;
//! region.bytes().write(0, b"for every process that maps it")?;
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - Touching a mapping beyond the end of its file raises `SIGBUS`, and so does touching a page for
//!   which a full file system has no room. [`reserve`] makes the second an error at creation; for
//!   the first, seal the file against shrinking ([`crate::memfd`]) or trust who can truncate it.
//! - A file of huge pages (hugetlbfs, `MFD_HUGETLB`) has no page to give when the pool is empty, and
//!   a hole that was punched into it is refilled from there: `SIGBUS` again, which no seal prevents.
//! - After fork(2) a child has all mappings; after execve(2) it has none.

use core::ffi::c_void;
use core::fmt;
use core::ops::Range;
use core::ptr::{self, NonNull};

use bitflags::bitflags;
use linux_raw_sys::general::{HUGETLBFS_MAGIC, MAP_ANONYMOUS};
use rustix::fd::AsFd;
use rustix::fs::{FallocateFlags, fstatfs};
use rustix::io::Errno;
use rustix::mm;

use crate::shared::SharedBytes;

pub use rustix::mm::{Advice, MapFlags, MlockFlags, MsyncFlags};

bitflags! {
    /// What may be done with mapped memory.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Access: u32 {
        /// `PROT_READ`
        const READ = 1;
        /// `PROT_WRITE`
        const WRITE = 2;
        /// `PROT_EXEC`
        const EXEC = 4;
    }
}

impl Access {
    /// The same bits as `PROT_*`.
    #[inline]
    const fn prot(self) -> mm::ProtFlags {
        mm::ProtFlags::from_bits_retain(self.bits())
    }
}

/// A mapping: unmapped when dropped.
///
/// # Invariants
///
/// `len` bytes at `start`, at most `isize::MAX`, are mapped in this process, with at least the
/// permissions `access` in every page, and nothing else unmaps or moves them. No page of the mapping
/// lies behind them.
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    access: Access,
}

// SAFETY: A mapping belongs to the process, not to a thread.
unsafe impl Send for Region {}
// SAFETY: `&Region` gives `SharedBytes`, which is `Sync`, and calls that are thread-safe.
unsafe impl Sync for Region {}

impl Region {
    /// `void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)` with
    /// `MAP_SHARED`: maps `len` bytes of `fd` from `offset`, so that all who map them share them.
    ///
    /// # Errors
    ///
    /// - `INVAL`: `len` is 0, `offset` is not a multiple of the page size, or one of them is not a
    ///   multiple of the file's huge pages.
    /// - `ACCESS`: `fd` was not opened for reading, or not for writing and [`Access::WRITE`].
    /// - `PERM`: a seal, or the file system, forbids it.
    /// - `NODEV`: what `fd` is cannot be mapped.
    /// - `NOMEM`: no room in the address space. `AGAIN`: locked, and over the limit of locked
    ///   memory.
    ///
    /// # References
    ///
    /// - [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html)
    #[inline]
    #[doc(alias = "mmap")]
    pub fn shared(fd: impl AsFd, offset: u64, len: usize, access: Access) -> Result<Self, Errno> {
        Self::shared_with(fd, offset, len, access, MapFlags::empty())
    }

    /// [`Region::shared`] with more flags, such as `POPULATE`, `LOCKED` and `NORESERVE`.
    ///
    /// `MAP_FIXED`, `MAP_FIXED_NOREPLACE` and `MAP_ANONYMOUS` are refused: there is no address, and
    /// there is a descriptor.
    ///
    /// # Errors
    ///
    /// Those of [`Region::shared`]; `INVAL` for these flags.
    #[inline]
    pub fn shared_with(
        fd: impl AsFd,
        offset: u64,
        len: usize,
        access: Access,
        flags: MapFlags,
    ) -> Result<Self, Errno> {
        const REFUSED: MapFlags = MapFlags::FIXED
            .union(MapFlags::FIXED_NOREPLACE)
            .union(MapFlags::from_bits_retain(MAP_ANONYMOUS));
        // Of huge pages the kernel would round the length up by itself.
        let pages = huge_page_size(&fd)?.unwrap_or(1);
        // The 32-bit calls count the offset in pages, and rustix drops the rest.
        if flags.intersects(REFUSED) || len.checked_rem(pages) != Some(0) || offset % 4096 != 0 {
            return Err(Errno::INVAL);
        }
        let flags = flags | MapFlags::SHARED;
        check_len(len)?;
        // SAFETY: The address is the kernel's choice, so no existing mapping changes.
        let start = unsafe { mm::mmap(ptr::null_mut(), len, access.prot(), flags, fd, offset) }?;
        Self::new(start, len, access)
    }

    /// `mmap` with `MAP_SHARED | MAP_ANONYMOUS`: new memory, shared with children after fork(2).
    ///
    /// # Errors
    ///
    /// `INVAL`: `len` is 0. `NOMEM`: no memory, or no room in the address space.
    ///
    /// # References
    ///
    /// - [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html), `MAP_ANONYMOUS`
    #[inline]
    #[doc(alias = "MAP_ANONYMOUS")]
    pub fn anonymous(len: usize, access: Access) -> Result<Self, Errno> {
        let flags = MapFlags::SHARED;
        check_len(len)?;
        // SAFETY: The address is the kernel's choice, so no existing mapping changes.
        let start = unsafe { mm::mmap_anonymous(ptr::null_mut(), len, access.prot(), flags) }?;
        Self::new(start, len, access)
    }

    #[inline]
    fn new(start: *mut c_void, len: usize, access: Access) -> Result<Self, Errno> {
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        // INVARIANT: A successful mmap mapped `len` bytes at `start`, and only we know of it; the
        // callers checked the length.
        Ok(Self { start, len, access })
    }

    /// The length in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is 0, which it never is.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first byte's address.
    #[inline]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The bytes, to copy in and out.
    #[inline]
    pub const fn bytes(&self) -> SharedBytes<'_> {
        // SAFETY: The type's invariant, for as long as `self` is borrowed; `as_slice` and
        // `as_mut_slice` leave it to their callers that no reference coexists with a write.
        unsafe { SharedBytes::from_raw(self.start, self.len, self.access) }
    }

    /// The bytes in place.
    ///
    /// # Safety
    ///
    /// While the slice is borrowed, nobody in any process may write to the region, no other process
    /// may truncate the file under it, and the region must permit reading.
    #[inline]
    pub const unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: The type's invariant, and the caller's promise.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes in place, to write.
    ///
    /// # Safety
    ///
    /// While the slice is borrowed, nobody else in any process may read or write the region, no
    /// other process may truncate the file under it, and the region must permit reading and
    /// writing.
    #[inline]
    pub const unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: The type's invariant, and the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// `int mprotect(void *addr, size_t len, int prot)`: changes what may be done with the region.
    ///
    /// # Errors
    ///
    /// - `ACCESS`: the descriptor it was mapped from does not permit it. `PERM`: a seal forbids it.
    /// - `NOMEM`: too many mappings.
    ///
    /// # References
    ///
    /// - [mprotect(2)](https://man7.org/linux/man-pages/man2/mprotect.2.html)
    #[inline]
    #[doc(alias = "mprotect")]
    pub fn protect(&mut self, access: Access) -> Result<(), Errno> {
        let flags = mm::MprotectFlags::from_bits_retain(access.bits());
        // SAFETY: The mapping is ours (the type's invariant), and `&mut` says that no view of it
        // is left that relies on the old permissions.
        let done = unsafe { mm::mprotect(self.start.as_ptr().cast(), self.len, flags) };
        // INVARIANT: The kernel changed every page, or after an error perhaps some.
        self.access = match done {
            Ok(()) => access,
            Err(_) => self.access & access,
        };
        done
    }

    /// `int madvise(void *addr, size_t length, int advice)`: says how `range` will be used.
    ///
    /// Only advice that leaves the contents alone is taken, in a child after fork(2) too.
    ///
    /// # Errors
    ///
    /// - `INVAL`: the start of `range` is not a multiple of the page size, the advice is not one
    ///   for this mapping, or it would change the contents (`DONTNEED`, `DONTFORK` and their kin).
    /// - `FAULT`: `range` reaches outside the region.
    ///
    /// # References
    ///
    /// - [madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html)
    #[inline]
    #[doc(alias = "madvise")]
    pub fn advise(&self, range: Range<usize>, advice: Advice) -> Result<(), Errno> {
        if !matches!(
            advice,
            Advice::Normal
                | Advice::Sequential
                | Advice::Random
                | Advice::WillNeed
                | Advice::LinuxHugepage
                | Advice::LinuxNoHugepage
                | Advice::LinuxDontDump
                | Advice::LinuxDoDump
                | Advice::LinuxCold
                | Advice::LinuxPageOut
                | Advice::LinuxPopulateRead
                | Advice::LinuxPopulateWrite
        ) {
            return Err(Errno::INVAL);
        }
        let (start, len) = self.part(range)?;
        // SAFETY: The range is part of our mapping, and this advice leaves its contents alone.
        unsafe { mm::madvise(start, len, advice) }
    }

    /// `int mlock2(const void *addr, size_t len, unsigned int flags)`: keeps `range` in memory.
    ///
    /// # Errors
    ///
    /// - `NOMEM`: over the limit of locked memory (`RLIMIT_MEMLOCK`). `PERM`: the limit is 0.
    /// - `AGAIN`: some pages could not be locked. `FAULT`: `range` reaches outside the region.
    ///
    /// # References
    ///
    /// - [mlock(2)](https://man7.org/linux/man-pages/man2/mlock.2.html)
    #[inline]
    #[doc(alias = "mlock")]
    pub fn lock(&self, range: Range<usize>, flags: MlockFlags) -> Result<(), Errno> {
        let (start, len) = self.part(range)?;
        // SAFETY: The range is part of our mapping; locking changes neither contents nor access.
        unsafe { mm::mlock_with(start, len, flags) }
    }

    /// `int munlock(const void *addr, size_t len)`: lets `range` be swapped out again.
    ///
    /// # Errors
    ///
    /// `FAULT`: `range` reaches outside the region.
    ///
    /// # References
    ///
    /// - [mlock(2)](https://man7.org/linux/man-pages/man2/mlock.2.html)
    #[inline]
    #[doc(alias = "munlock")]
    pub fn unlock(&self, range: Range<usize>) -> Result<(), Errno> {
        let (start, len) = self.part(range)?;
        // SAFETY: The range is part of our mapping; unlocking changes neither contents nor access.
        unsafe { mm::munlock(start, len) }
    }

    /// `int msync(void *addr, size_t length, int flags)`: writes `range` back to its file.
    ///
    /// Processes that map the same file see each other's writes without this.
    ///
    /// # Errors
    ///
    /// - `INVAL`: the start of `range` is not a multiple of the page size, or both or neither of
    ///   `SYNC` and `ASYNC`.
    /// - `IO`: writing failed. `BUSY`: `INVALIDATE` of a locked page.
    /// - `FAULT`: `range` reaches outside the region.
    ///
    /// # References
    ///
    /// - [msync(2)](https://man7.org/linux/man-pages/man2/msync.2.html)
    #[inline]
    #[doc(alias = "msync")]
    pub fn sync(&self, range: Range<usize>, flags: MsyncFlags) -> Result<(), Errno> {
        let (start, len) = self.part(range)?;
        // SAFETY: The range is part of our mapping; `INVALIDATE` too only makes it agree with the
        // file.
        unsafe { mm::msync(start, len, flags) }
    }

    /// `void *mremap(void *old_address, size_t old_size, size_t new_size, MREMAP_MAYMOVE)`: makes
    /// the region longer or shorter; it may move.
    ///
    /// The file under it must be as long already: see [`reserve`].
    ///
    /// # Errors
    ///
    /// - `INVAL`: `len` is 0.
    /// - `NOMEM`: no room in the address space. `AGAIN`: over the limit of locked memory.
    ///
    /// # References
    ///
    /// - [mremap(2)](https://man7.org/linux/man-pages/man2/mremap.2.html)
    #[inline]
    #[doc(alias = "mremap")]
    pub fn resize(&mut self, len: usize) -> Result<(), Errno> {
        let old = self.start.as_ptr().cast();
        check_len(len)?;
        // SAFETY: The mapping is ours (the type's invariant), and `&mut` says that no view of it
        // is left that relies on its address or length.
        let start = unsafe { mm::mremap(old, self.len, len, mm::MremapFlags::MAYMOVE) }?;
        self.start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        // INVARIANT: The kernel mapped `len` bytes at `start` and unmapped the rest.
        self.len = len;
        Ok(())
    }

    /// The address and length of `range`, if it lies within the region.
    #[inline]
    fn part(&self, range: Range<usize>) -> Result<(*mut c_void, usize), Errno> {
        let len = range.end.checked_sub(range.start).ok_or(Errno::FAULT)?;
        let part = self.bytes().slice(range.start, len)?;
        Ok((part.as_ptr().cast(), len))
    }
}

impl Drop for Region {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: The mapping is ours (the type's invariant), and no view outlives the region. The
        // only error, a mapping count over the limit, leaves it mapped, which is safe.
        let _ = unsafe { mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

/// The size of its pages, if a file is of huge ones.
#[inline]
pub(crate) fn huge_page_size(fd: impl AsFd) -> Result<Option<usize>, Errno> {
    let fs = fstatfs(fd)?;
    // A word of 32 bits is negative with this number.
    let is_huge = fs.f_type as u32 == HUGETLBFS_MAGIC;
    Ok(is_huge.then_some(fs.f_bsize as usize))
}

/// The most that a pointer offset can reach.
#[inline]
fn check_len(len: usize) -> Result<(), Errno> {
    isize::try_from(len).map_or(Err(Errno::NOMEM), |_| Ok(()))
}

/// `int fallocate(int fd, int mode, off_t offset, off_t len)`: makes the file at least `len` bytes
/// long and gives it all its memory now.
///
/// Without this a file in a full file system can be extended and mapped, and the first touch
/// raises `SIGBUS`. Never shortens the file.
///
/// # Errors
///
/// - `NOSPC`: the file system is full, or its quota is. Nothing is left half-made: pages that were
///   reserved before the failure are freed again by tmpfs.
/// - `FBIG`: longer than a file may be. `PERM`: a seal forbids it.
/// - `NODEV`, `OPNOTSUPP`: not a file of a file system that can reserve. `INVAL`: `len` is 0.
/// - `INTR`: a signal was caught.
///
/// # References
///
/// - [fallocate(2)](https://man7.org/linux/man-pages/man2/fallocate.2.html)
#[inline]
#[doc(alias = "fallocate")]
pub fn reserve(fd: impl AsFd, len: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, len)
}
