//! Memory as a descriptor without a name, which can be sealed against change, or kept secret.
//!
//! Mirrors memfd_create(2), the seals of fcntl(2) and memfd_secret(2). The seals are rustix's own,
//! re-exported; [`create`] here differs from the C function in its defaults. Send the descriptor to
//! another process through a Unix socket, or let a child inherit it; map it with
//! [`crate::map::Region`].
//!
//! ```
//! use linipc_core::memfd::{self, Flags, SealFlags};
//! use linipc_core::{Errno, io, map};
//!
//! let fd = memfd::create(c"settings", Flags::empty())?;
//! map::reserve(&fd, 4096)?;
//! memfd::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)?;
//! io::pwrite(&fd, b"volume=7", 0)?;
//! // Nothing can be written from here on, by anybody.
//! memfd::fcntl_add_seals(&fd, SealFlags::WRITE | SealFlags::SEAL)?;
//! assert_eq!(io::pwrite(&fd, b"volume=9", 0), Err(Errno::PERM));
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Seals
//!
//! Seals belong to the memory, not to a descriptor, and are never taken off. `SHRINK` and `GROW`
//! forbid a new length; `WRITE` forbids every change; `FUTURE_WRITE` forbids it to all
//! but the writable mappings that exist already; `EXEC` (Linux 6.3) keeps the executable bits as
//! they are; `SEAL` forbids more seals. What a seal forbids fails with `PERM`.
//!
//! - Adding `WRITE` while any process has a writable shared mapping is `BUSY`.
//! - Adding any seal after `SEAL`, or through a descriptor that is not open for writing, is `PERM`.
//! - Asking for the seals of what cannot have any is `INVAL`: which is how to tell a file on disk.
//!
//! # Pitfalls
//!
//! - A descriptor from a stranger proves nothing until [`fcntl_get_seals`] does. Without `SHRINK`
//!   its owner can cut it off under a mapping, which raises `SIGBUS`.
//! - `SHRINK` and `GROW` do not keep the contents: punching a hole (fallocate(2)) still makes zeros
//!   of them. Only `WRITE` and `FUTURE_WRITE` forbid that.
//! - Before Linux 6.7, what is sealed with `WRITE` cannot be mapped shared, not even to read
//!   (`PERM`); with `FUTURE_WRITE` it can.
//! - `EXEC` on executable memory adds the other four seals against change too.
//! - All descriptors of one creation share the file position: use `pread` and `pwrite`.
//! - The name is only shown in `/proc`, after `memfd:`; it finds nothing and need not be unique.
//! - Huge pages come out of a pool (`vm.nr_hugepages`) that is empty unless somebody filled it:
//!   [`crate::map::reserve`] is then `NOSPC`, and a mapping `NOMEM`. Lengths are multiples of the
//!   page.

use linux_raw_sys::general::{MFD_HUGE_MASK, MFD_HUGE_SHIFT, O_CLOEXEC};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::path;
use static_assertions::const_assert_eq;

use crate::fd::OwnedFd;
use crate::sys::{call, own};

pub use rustix::fs::{MemfdFlags as Flags, SealFlags, fcntl_add_seals, fcntl_get_seals};

/// `int memfd_create(const char *name, unsigned int flags)`: new memory of length 0.
///
/// Always close-on-exec, and can be sealed. Not executable, and sealed to stay so, unless
/// [`Flags::EXEC`]. Kernels before Linux 6.3 know neither: there the memory only loses its
/// executable bits, which its owner can put back, and no `EXEC` seal tells otherwise.
/// [`memfd_create`] is the bare call.
///
/// # Errors
///
/// - `INVAL`: `name` is longer than 249 bytes, or has a null byte; or unknown flags.
/// - `NODEV`: there are no huge pages of this size.
/// - `ACCESS`: [`Flags::EXEC`], and `vm.memfd_noexec` is 2.
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system.
/// - `NOMEM`: no memory. `NOSYS`: the kernel was built without huge pages.
///
/// # References
///
/// - [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html)
#[inline]
pub fn create(name: impl path::Arg, flags: Flags) -> Result<OwnedFd, Errno> {
    let mut flags = flags | Flags::CLOEXEC | Flags::ALLOW_SEALING;
    flags.set(Flags::NOEXEC_SEAL, !flags.contains(Flags::EXEC));
    name.into_with_c_str(|name| match memfd_create(name, flags) {
        Err(Errno::INVAL) => {
            let old = memfd_create(name, flags - Flags::NOEXEC_SEAL - Flags::EXEC)?;
            if flags.contains(Flags::NOEXEC_SEAL) {
                fchmod(&old, Mode::from_raw_mode(0o666))?;
            }
            Ok(old)
        }
        done => done,
    })
}

/// `int memfd_create(const char *name, unsigned int flags)`, with the flags as they are.
///
/// # Errors
///
/// Those of [`create`]; `INVAL` also for flags that the kernel does not know.
///
/// # References
///
/// - [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html)
#[inline]
pub fn memfd_create(name: impl path::Arg, flags: Flags) -> Result<OwnedFd, Errno> {
    name.into_with_c_str(|name| {
        // SAFETY: The call reads the null-terminated name, which is borrowed until it returns.
        let fd = unsafe { call!(__NR_memfd_create, name.as_ptr(), flags.bits()) }?;
        // SAFETY: The call made this descriptor, and nobody else knows of it.
        unsafe { own(fd) }
    })
}

/// The size of huge pages. Which there are depends on the machine: `/sys/kernel/mm/hugepages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "MFD_HUGETLB")]
pub struct HugePages {
    /// The binary logarithm of the size, 0 for the default.
    log2: u32,
}

impl HugePages {
    /// The system's default size (`Hugepagesize` in `/proc/meminfo`).
    pub const DEFAULT: Self = Self { log2: 0 };
    /// 64 KiB.
    pub const KIB_64: Self = Self { log2: 16 };
    /// 2 MiB.
    pub const MIB_2: Self = Self { log2: 21 };
    /// 1 GiB.
    pub const GIB_1: Self = Self { log2: 30 };

    /// Pages of this many bytes; `None` if that is not a power of two above 1.
    #[inline]
    pub const fn of(bytes: u64) -> Option<Self> {
        match bytes.is_power_of_two() && bytes > 1 {
            true => Some(Self {
                log2: bytes.trailing_zeros(),
            }),
            false => None,
        }
    }

    /// The flags for [`create`]: `MFD_HUGETLB` and the size.
    #[inline]
    pub const fn flags(self) -> Flags {
        let size = (self.log2 & MFD_HUGE_MASK) << MFD_HUGE_SHIFT;
        Flags::from_bits_retain(Flags::HUGETLB.bits() | size)
    }
}

const_assert_eq!(
    HugePages::GIB_1.flags().bits(),
    Flags::HUGETLB.union(Flags::HUGE_1GB).bits()
);

/// `int memfd_secret(unsigned int flags)`: new memory of length 0 that not even the kernel can
/// read by accident, close-on-exec.
///
/// Give it a length once with ftruncate(2), then map it. It cannot be read, written, reserved or
/// sealed. It is always locked (`RLIMIT_MEMLOCK` counts it when it is mapped), other processes see
/// it only through the descriptor, and ptrace(2) and process_vm_readv(2) do not see it at all.
///
/// # Errors
///
/// - `NOSYS`: Linux before 5.14, or an architecture without it, or it is not enabled
///   (`secretmem.enable=1` on the kernel's command line; the default since Linux 6.5).
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system. `NOMEM`: no memory.
///
/// # References
///
/// - [memfd_secret(2)](https://man7.org/linux/man-pages/man2/memfd_secret.2.html)
#[inline]
#[doc(alias = "memfd_secret")]
pub fn secret() -> Result<OwnedFd, Errno> {
    // SAFETY: The call takes no pointers.
    let fd = unsafe { call!(__NR_memfd_secret, O_CLOEXEC) }?;
    // SAFETY: The kernel just made this descriptor, and nobody else has it.
    unsafe { own(fd) }
}
