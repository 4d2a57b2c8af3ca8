//! System V shared memory: segments, found by key, that processes attach to their address space.
//!
//! Mirrors shmget(2), shmop(2), shmctl(2) and `<linux/shm.h>`.
//!
//! ```
//! use linipc_core::sysv::shm::{self, Attach, Memory};
//! use linipc_core::sysv::{Create, Key, Mode};
//!
//! let create = Create::Exclusive(Mode::RUSR | Mode::WUSR);
//! let segment = shm::get(Key::PRIVATE, 4096, create, Memory::USUAL)?;
//! let attachment = shm::attach(segment, None, Attach::empty())?;
//! shm::remove(segment)?; // It lives for as long as it is attached.
//! attachment.bytes().write(0, b"for all who attach")?;
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - [`remove`] lets a segment live until the last process detaches, without a key. A process that
//!   still has its id may attach it until then (other systems than Linux refuse).
//! - After fork(2) a child has all attachments; after execve(2) it has none.
//! - A segment has whole pages, but its size is what was asked for, and so is an attachment's.
//! - Nobody can resize a segment. So, unlike a mapped file, it cannot be truncated under a reader;
//!   but touching one made with [`Memory::no_reserve`] raises `SIGBUS` (huge pages) or wakes the
//!   out-of-memory killer when there is no page left for it.
//!
//! # Limits
//!
//! A segment has at most `kernel.shmmax` bytes, a namespace at most `kernel.shmmni` segments (4096
//! unless changed) with at most `kernel.shmall` pages together; see [`limits`].

use core::ffi::c_int;
use core::fmt;
use core::ptr::{self, NonNull};

use bitflags::bitflags;
use rustix::io::Errno;

use super::{Create, Key, Owner, Permissions, VERSION, Visibility};
use crate::map::Access;
use crate::shared::SharedBytes;
use crate::sys::{Arg, abi, call};

super::id! {
    /// `shmid`: a segment, in every process of the IPC namespace.
    #[doc(alias = "shmid")]
}

/// What the memory of a new segment is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// The size of its pages.
    pub pages: Pages,
    /// `SHM_NORESERVE`: do not make sure now that there is swap space, or huge pages, for all of it.
    #[doc(alias = "SHM_NORESERVE")]
    pub no_reserve: bool,
}

impl Memory {
    /// Usual pages, reserved.
    pub const USUAL: Self = Self {
        pages: Pages::Usual,
        no_reserve: false,
    };

    /// The flags for `shmget`.
    #[inline]
    const fn bits(self) -> Result<c_int, Errno> {
        let pages = match self.pages {
            Pages::Usual => 0,
            Pages::Huge => abi::SHM_HUGETLB,
            Pages::HugeOf { log2: log2 @ 1..64 } => {
                abi::SHM_HUGETLB | ((log2 as u32) << HUGE_SHIFT) as c_int
            }
            Pages::HugeOf { .. } => return Err(Errno::INVAL),
        };
        Ok(pages
            | if self.no_reserve {
                abi::SHM_NORESERVE
            } else {
                0
            })
    }
}

/// The size of a segment's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// The processor's usual ones.
    #[default]
    Usual,
    /// `SHM_HUGETLB`: huge pages of the system's default size.
    #[doc(alias = "SHM_HUGETLB")]
    Huge,
    /// `SHM_HUGETLB` with `SHM_HUGE_*`: huge pages of 2 to the power of `log2` bytes, so 21 means
    /// `SHM_HUGE_2MB` and 30 `SHM_HUGE_1GB`.
    #[doc(alias = "SHM_HUGE_2MB")]
    #[doc(alias = "SHM_HUGE_1GB")]
    HugeOf {
        /// The binary logarithm of the page size.
        log2: u8,
    },
}

/// `int shmget(key_t key, size_t size, int shmflg)`: finds or makes a segment, filled with zeros.
///
/// One that exists must have at least `size` bytes; 0 finds any. `memory` matters only to a new one.
///
/// # Errors
///
/// - `INVAL`: a new one would have 0 bytes or more than `kernel.shmmax`, the one that exists has
///   fewer than `size`, or there are no huge pages of that size.
/// - `ACCESS`: the segment's permissions do not let the caller use it.
/// - `EXIST`: [`Create::Exclusive`], and there is one.
/// - `NOENT`: [`Create::No`] or [`Create::Granting`], and there is none.
/// - `NOSPC`: the namespace has `kernel.shmmni` segments already, or would have more than
///   `kernel.shmall` pages.
/// - `NOMEM`: not enough memory and swap space, or not enough huge pages are free.
/// - `PERM`: huge pages, and the caller neither has `CAP_IPC_LOCK` nor is in the group
///   `vm.hugetlb_shm_group`.
///
/// # References
///
/// - [shmget(2)](https://man7.org/linux/man-pages/man2/shmget.2.html)
#[inline]
#[doc(alias = "shmget")]
pub fn get(key: Key, size: usize, create: Create, memory: Memory) -> Result<Id, Errno> {
    let flags = create.flags(key)? | memory.bits()?;
    // SAFETY: The call takes no pointers.
    let id = unsafe { call!(__NR_shmget, key.number(), size, flags) }?;
    Ok(Id(id as c_int))
}

bitflags! {
    /// How to attach.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Attach: c_int {
        /// `SHM_RDONLY`: only to read.
        const RDONLY = abi::SHM_RDONLY;
        /// `SHM_RND`: round the address down to a multiple of `SHMLBA`.
        ///
        /// That is four pages on arm, and a page on the other architectures of this crate. (The C
        /// library's macro says four pages on aarch64, too; the kernel takes any page.)
        const RND = abi::SHM_RND;
        /// `SHM_EXEC`: also to execute; needs execute permission on the segment.
        const EXEC = abi::SHM_EXEC;
    }
}

impl Attach {
    #[inline]
    const fn access(self) -> Access {
        let mut access = Access::READ;
        if !self.contains(Self::RDONLY) {
            access = access.union(Access::WRITE);
        }
        if self.contains(Self::EXEC) {
            access = access.union(Access::EXEC);
        }
        access
    }
}

/// `void *shmat(int shmid, const void *shmaddr, int shmflg)`: attaches a segment, at an address of
/// the kernel's choice or at `address`.
///
/// Nothing that is mapped already is replaced: see [`attach_over`].
///
/// # Errors
///
/// - `ACCESS`: no read permission, no write permission without [`Attach::RDONLY`], or no execute
///   permission with [`Attach::EXEC`].
/// - `INVAL`: there is no such segment. Or `address` is not a multiple of `SHMLBA` without
///   [`Attach::RND`], is rounded down to 0, or something is mapped where the segment would be.
/// - `IDRM`: it was removed. `NOMEM`: no memory, or no room in the address space.
/// - `PERM`: `address` is below `vm.mmap_min_addr`.
///
/// # References
///
/// - [shmop(2)](https://man7.org/linux/man-pages/man2/shmop.2.html)
#[inline]
#[doc(alias = "shmat")]
pub fn attach(id: Id, address: Option<NonNull<u8>>, flags: Attach) -> Result<Attachment, Errno> {
    /// At least `SHMLBA` on every architecture.
    const FIRST: usize = 0x1_0000;

    let address = address.map_or(ptr::null_mut(), NonNull::as_ptr);
    // What is rounded down to 0 the kernel maps there, over all that is in the way.
    if !address.is_null() && address.addr() < FIRST && flags.contains(Attach::RND) {
        return Err(Errno::INVAL);
    }
    // SAFETY: Without `SHM_REMAP`, and with an address that is not rounded down to 0, the kernel
    // refuses to map over anything.
    unsafe { shmat(id, address, flags, 0) }
}

/// `shmat` with `SHM_REMAP`: attaches a segment at `address`, in place of what is mapped there.
///
/// # Safety
///
/// What is mapped in the segment's pages from `address`, rounded down with [`Attach::RND`], must be
/// the caller's to give up: nothing may use or unmap it any more.
///
/// # Errors
///
/// Those of [`attach`], but for what is mapped.
///
/// # References
///
/// - [shmop(2)](https://man7.org/linux/man-pages/man2/shmop.2.html), `SHM_REMAP`
#[inline]
#[doc(alias = "SHM_REMAP")]
pub unsafe fn attach_over(
    id: Id,
    address: NonNull<u8>,
    flags: Attach,
) -> Result<Attachment, Errno> {
    // SAFETY: The caller gives up what is mapped there.
    unsafe { shmat(id, address.as_ptr(), flags, abi::SHM_REMAP) }
}

/// # Safety
///
/// With `remap`, as for [`attach_over`].
#[inline]
unsafe fn shmat(
    id: Id,
    address: *mut u8,
    flags: Attach,
    remap: c_int,
) -> Result<Attachment, Errno> {
    // `from_bits_retain` can put `SHM_REMAP` into the flags; that must not get past `attach`.
    let bits = Attach::from_bits_truncate(flags.bits()).bits() | remap;
    // SAFETY: The call maps memory where nothing is, or where the caller gives up what is.
    let start = unsafe { call!(__NR_shmat, id.0, address, bits) }?;
    let Some(start) = NonNull::new(ptr::with_exposed_provenance_mut(start)) else {
        // A privileged process may have it at address 0, where Rust has nothing.
        // SAFETY: This is the attachment that was just made.
        let _ = unsafe { call!(__NR_shmdt, 0_usize) };
        return Err(Errno::INVAL);
    };
    let mut attachment = Attachment {
        start,
        len: 0,
        access: flags.access(),
    };
    // INVARIANT: An attached segment is not destroyed, removed or not, so until we detach, this id
    // can be no other segment's; and its size never changes.
    attachment.len = stat(id)?.size;
    // More than pointer offsets reach; only a 32-bit process can have that.
    isize::try_from(attachment.len).map_or(Err(Errno::NOMEM), |_| Ok(attachment))
}

/// An attached segment: detached (`shmdt`) when dropped.
///
/// # Invariants
///
/// `len` bytes at `start` are one attachment of this process, with the permissions `access` in
/// every page, which nothing else detaches, unmaps or moves.
#[doc(alias = "shmdt")]
pub struct Attachment {
    start: NonNull<u8>,
    len: usize,
    access: Access,
}

// SAFETY: An attachment belongs to the process, not to a thread.
unsafe impl Send for Attachment {}
// SAFETY: `&Attachment` gives `SharedBytes`, which is `Sync`, and plain numbers.
unsafe impl Sync for Attachment {}

impl Attachment {
    /// The size of the segment in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the size is 0, which it never is.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first byte's address. Another process may have the segment at another one.
    #[inline]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The bytes, to copy in and out.
    #[inline]
    pub const fn bytes(&self) -> SharedBytes<'_> {
        // SAFETY: The type's invariant, for as long as `self` is borrowed; no method lends a
        // reference to the bytes.
        unsafe { SharedBytes::from_raw(self.start, self.len, self.access) }
    }

    /// Leaves the segment attached, until [`detach`] is called with its start.
    #[inline]
    pub const fn into_raw(self) -> NonNull<u8> {
        let start = self.start;
        core::mem::forget(self);
        start
    }
}

/// `int shmdt(const void *shmaddr)`: detaches what [`Attachment::into_raw`] gave up.
///
/// # Errors
///
/// - `INVAL`: no segment is attached there.
///
/// # Safety
///
/// The attachment is the caller's, and nothing uses its memory any more.
///
/// # References
///
/// - [shmop(2)](https://man7.org/linux/man-pages/man2/shmop.2.html)
#[inline]
#[doc(alias = "shmdt")]
pub unsafe fn detach(start: NonNull<u8>) -> Result<(), Errno> {
    // SAFETY: The caller's promise.
    unsafe { call!(__NR_shmdt, start.as_ptr()) }?;
    Ok(())
}

impl Drop for Attachment {
    #[inline]
    fn drop(&mut self) {
        // The only error is that nothing is attached there.
        // SAFETY: The attachment is ours (the type's invariant), and no view outlives it.
        let _ = unsafe { call!(__NR_shmdt, self.start.as_ptr()) };
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

/// `struct shmid_ds`: what the kernel knows about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "shmid_ds")]
pub struct Stat {
    /// Owner and permissions.
    pub permissions: Permissions,
    /// Size in bytes.
    pub size: usize,
    /// How many times it is attached now, by all processes.
    pub attachments: usize,
    /// `SHM_DEST`: it was removed, and is destroyed when the last process detaches.
    pub removed: bool,
    /// `SHM_LOCKED`: it is not swapped out.
    pub locked: bool,
    /// When it was last attached, in seconds since the epoch.
    pub last_attach: Option<i64>,
    /// When it was last detached.
    pub last_detach: Option<i64>,
    /// When it was made or last changed by [`set`].
    pub last_change: Option<i64>,
    /// Process that made it.
    pub creator: i32,
    /// Process that last attached or detached it, 0 if none.
    pub last_user: i32,
}

impl From<abi::shmid64_ds> for Stat {
    #[inline]
    fn from(ds: abi::shmid64_ds) -> Self {
        Self {
            permissions: ds.shm_perm.into(),
            size: ds.shm_segsz,
            attachments: ds.shm_nattch as usize,
            removed: ds.shm_perm.mode & abi::SHM_DEST != 0,
            locked: ds.shm_perm.mode & abi::SHM_LOCKED != 0,
            last_attach: ds.shm_atime.seconds(),
            last_detach: ds.shm_dtime.seconds(),
            last_change: ds.shm_ctime.seconds(),
            creator: ds.shm_cpid,
            last_user: ds.shm_lpid,
        }
    }
}

/// `int shmctl(int shmid, int cmd, struct shmid_ds *buf)` with `IPC_STAT`: asks about a segment.
///
/// # Errors
///
/// - `ACCESS`: no read permission.
/// - `INVAL`: there is no such segment. `IDRM`: it was removed.
///
/// # References
///
/// - [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html)
#[inline]
#[doc(alias = "shmctl")]
pub fn stat(id: Id) -> Result<Stat, Errno> {
    let mut ds = abi::shmid64_ds::default();
    // SAFETY: `IPC_STAT` writes one `shmid64_ds`.
    unsafe { ctl(id.0, abi::IPC_STAT, &raw mut ds) }?;
    Ok(ds.into())
}

/// `shmctl` with `IPC_SET`: changes the owner and the permissions.
///
/// # Errors
///
/// - `PERM`: the caller is neither owner nor creator nor privileged.
/// - `INVAL`: there is no such segment, or a user or group id that does not exist here.
///
/// # References
///
/// - [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html)
#[inline]
pub fn set(id: Id, owner: Owner) -> Result<(), Errno> {
    let ds = abi::shmid64_ds {
        shm_perm: owner.to_abi(),
        ..abi::shmid64_ds::default()
    };
    // SAFETY: `IPC_SET` reads one `shmid64_ds`.
    unsafe { ctl(id.0, abi::IPC_SET, &raw const ds) }?;
    Ok(())
}

/// `shmctl` with `IPC_RMID`: removes the segment, as soon as nobody has it attached.
///
/// Until then [`Stat::removed`] says so, its key is [`Key::PRIVATE`], and its old key is free.
///
/// # Errors
///
/// - `PERM`: the caller is neither owner nor creator nor privileged.
/// - `INVAL`: there is no such segment. `IDRM`: it was removed.
///
/// # References
///
/// - [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html)
#[inline]
#[doc(alias = "IPC_RMID")]
pub fn remove(id: Id) -> Result<(), Errno> {
    // SAFETY: `IPC_RMID` ignores the pointer.
    unsafe { ctl(id.0, abi::IPC_RMID, 0_usize) }?;
    Ok(())
}

/// `shmctl` with `SHM_LOCK`: keeps the segment in memory, from when each page is first touched.
///
/// # Errors
///
/// - `PERM`: the caller is neither owner nor creator nor privileged, or `RLIMIT_MEMLOCK` is 0.
/// - `NOMEM`: the user would have locked more than `RLIMIT_MEMLOCK`.
/// - `INVAL`: there is no such segment. `IDRM`: it was removed.
///
/// # References
///
/// - [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html)
#[inline]
#[doc(alias = "SHM_LOCK")]
pub fn lock(id: Id) -> Result<(), Errno> {
    // SAFETY: `SHM_LOCK` ignores the pointer.
    unsafe { ctl(id.0, abi::SHM_LOCK, 0_usize) }?;
    Ok(())
}

/// `shmctl` with `SHM_UNLOCK`: lets the segment be swapped out again.
///
/// # Errors
///
/// Those of [`lock`] but `NOMEM`.
///
/// # References
///
/// - [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html)
#[inline]
#[doc(alias = "SHM_UNLOCK")]
pub fn unlock(id: Id) -> Result<(), Errno> {
    // SAFETY: `SHM_UNLOCK` ignores the pointer.
    unsafe { ctl(id.0, abi::SHM_UNLOCK, 0_usize) }?;
    Ok(())
}

/// `shmctl` with `SHM_STAT` or `SHM_STAT_ANY`: the segment at an index of the kernel's table.
///
/// All segments are at the indices from 0 to [`Usage::highest_index`]; there are gaps.
///
/// # Errors
///
/// - `INVAL`: nothing is at this index.
/// - `ACCESS`: [`Visibility::Readable`], and there is no read permission.
///
/// # References
///
/// - [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html)
#[inline]
#[doc(alias = "SHM_STAT")]
#[doc(alias = "SHM_STAT_ANY")]
pub fn stat_index(index: usize, visibility: Visibility) -> Result<(Id, Stat), Errno> {
    let index = c_int::try_from(index).map_err(|_| Errno::INVAL)?;
    let cmd = match visibility {
        Visibility::Readable => abi::SHM_STAT,
        Visibility::Any => abi::SHM_STAT_ANY,
    };
    let mut ds = abi::shmid64_ds::default();
    // SAFETY: `SHM_STAT` and `SHM_STAT_ANY` write one `shmid64_ds`.
    let id = unsafe { ctl(index, cmd, &raw mut ds) }?;
    Ok((Id(id as c_int), ds.into()))
}

/// The limits of the IPC namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "shminfo")]
pub struct Limits {
    /// `kernel.shmmax`: the most bytes of a new segment. The fewest are 1.
    pub segment_bytes: usize,
    /// `kernel.shmmni`: the most segments.
    pub segments: usize,
    /// `kernel.shmall`: the most pages of all segments together.
    pub pages: usize,
}

/// `shmctl` with `IPC_INFO`: the limits of the IPC namespace.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html)
#[inline]
#[doc(alias = "IPC_INFO")]
pub fn limits() -> Result<Limits, Errno> {
    let mut info = abi::shminfo64::default();
    // SAFETY: `IPC_INFO` writes one `shminfo64`.
    unsafe { ctl(0, abi::IPC_INFO, &raw mut info) }?;
    Ok(Limits {
        segment_bytes: info.shmmax as usize,
        segments: info.shmmni as usize,
        pages: info.shmall as usize,
    })
}

/// What all segments of the IPC namespace use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "shm_info")]
pub struct Usage {
    /// The highest index that [`stat_index`] can find something at (0 also if there is no segment).
    pub highest_index: usize,
    /// Segments.
    pub segments: usize,
    /// Pages of all of them.
    pub pages: usize,
    /// Pages that are in memory.
    pub resident_pages: usize,
    /// Pages that are swapped out.
    pub swapped_pages: usize,
}

/// `shmctl` with `SHM_INFO`: what all segments use together, and where to stop enumerating.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html)
#[inline]
#[doc(alias = "SHM_INFO")]
pub fn usage() -> Result<Usage, Errno> {
    let mut info = abi::shm_info::default();
    // SAFETY: `SHM_INFO` writes one `shm_info`.
    let highest_index = unsafe { ctl(0, abi::SHM_INFO, &raw mut info) }?;
    Ok(Usage {
        highest_index,
        segments: info.used_ids as usize,
        pages: info.shm_tot as usize,
        resident_pages: info.shm_rss as usize,
        swapped_pages: info.shm_swp as usize,
    })
}

const HUGE_SHIFT: u32 = linux_raw_sys::general::HUGETLB_FLAG_ENCODE_SHIFT;

/// `shmctl`, whose `arg` is what `cmd` takes.
///
/// # Safety
///
/// As for [`call!`]: a pointer is valid for what `cmd` reads or writes.
#[inline(always)]
unsafe fn ctl(id: c_int, cmd: c_int, arg: impl Arg) -> Result<usize, Errno> {
    // SAFETY: The caller's promise.
    unsafe { call!(__NR_shmctl, id, cmd | VERSION, arg) }
}
