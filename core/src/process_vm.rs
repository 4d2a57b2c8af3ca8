//! The memory of another process, read and written in place: one copy, and the other one need not
//! take part.
//!
//! Mirrors process_vm_readv(2). The other process is named by its id, its memory by addresses that
//! mean something there: it must have told them, or be stopped under a debugger. Bulk data moves
//! from address space to address space, without a file or a pipe in between.
//!
//! ```
//! use linipc_core::process_vm::{self, Pid};
//!
//! // The same in one process: what the address means is known to who owns the memory.
//! let words = *b"some words elsewhere";
//! let this = Pid::from_raw(std::process::id() as i32).unwrap();
//! let mut copy = [0; 10];
//! assert_eq!(process_vm::read(this, words.as_ptr() as usize, &mut copy)?, 10);
//! assert_eq!(&copy, b"some words");
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Why reading is safe and writing is not
//!
//! Reading changes only the caller's own buffers, which Rust lends. What it finds is whatever the
//! kernel finds there at that moment, as with a file: it may be torn while the other process
//! writes, and it is never a Rust value, only bytes. This holds also if the other process is this
//! one.
//!
//! Writing changes memory that some program believes in. If that is this process, it can change
//! what a reference promises not to change; if it is another, it can make that one do anything. So
//! the caller of [`write()`] and [`writev`] must know what is there.
//!
//! # Pitfalls
//!
//! - Whoever may attach a debugger may call this: the same user, and no set-user-id program, no
//!   process that asked not to be dumped, no stricter rule of Yama (`kernel.yama.ptrace_scope`).
//!   For a child of the same user that is true, unless Yama says 2 or 3.
//! - A process id is used again after its process was reaped. Hold a pidfd, and check *after* a
//!   transfer that its process still lives.
//! - A transfer that meets an unmapped page ends there, and is an error only if nothing was moved
//!   before it. So compare the length.
//!
//! # Limits
//!
//! [`IOV_MAX`] ranges on either side in one call.

use core::mem::offset_of;

use linux_raw_sys::general::{UIO_MAXIOV, iovec};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use static_assertions::const_assert_eq;

use crate::sys::call;

pub use rustix::process::Pid;

/// `UIO_MAXIOV`: the most ranges of one side in one call.
#[doc(alias = "UIO_MAXIOV")]
pub const IOV_MAX: usize = UIO_MAXIOV as usize;

/// `struct iovec` of the other process: a range of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
#[doc(alias = "iovec")]
pub struct Remote {
    /// The first byte's address, in the other process.
    pub address: usize,
    /// The length in bytes.
    pub len: usize,
}

const_assert_eq!(size_of::<Remote>(), size_of::<iovec>());
const_assert_eq!(offset_of!(Remote, address), offset_of!(iovec, iov_base));
const_assert_eq!(offset_of!(Remote, len), offset_of!(iovec, iov_len));

/// `ssize_t process_vm_readv(pid_t pid, const struct iovec *local_iov, unsigned long liovcnt,
/// const struct iovec *remote_iov, unsigned long riovcnt, unsigned long flags)`: copies the bytes
/// of `remote`, in order, into the buffers of `local`; gives how many.
///
/// Fewer than asked for if `local` is shorter than `remote` or the reverse, or if a page of
/// `remote` is not mapped or not readable: what precedes it is there.
///
/// # Errors
///
/// - `PERM`: the caller may not trace the process.
/// - `SRCH`: there is no such process, or it is dead and not reaped yet.
/// - `FAULT`: nothing could be copied, because the first page of `remote` is not accessible.
/// - `INVAL`: more than [`IOV_MAX`] ranges on a side, or their lengths overflow `isize`.
/// - `NOMEM`: no memory for a copy of the ranges. `NOSYS`: the kernel was built without
///   `CONFIG_CROSS_MEMORY_ATTACH`.
///
/// # References
///
/// - [process_vm_readv(2)](https://man7.org/linux/man-pages/man2/process_vm_readv.2.html)
#[inline]
#[doc(alias = "process_vm_readv")]
pub fn readv(pid: Pid, local: &mut [IoSliceMut<'_>], remote: &[Remote]) -> Result<usize, Errno> {
    // SAFETY: `IoSliceMut` has the layout of `iovec` and each is a borrowed buffer, which the call
    // writes; `Remote` is an `iovec`, and the call only reads the memory it names.
    unsafe {
        call!(
            __NR_process_vm_readv,
            pid.as_raw_nonzero().get(),
            local.as_mut_ptr(),
            local.len(),
            remote.as_ptr(),
            remote.len(),
            0_usize
        )
    }
}

/// `process_vm_readv` of one range into one buffer.
///
/// # Errors
///
/// Those of [`readv`].
#[inline]
pub fn read(pid: Pid, address: usize, buffer: &mut [u8]) -> Result<usize, Errno> {
    let len = buffer.len();
    let remote = [Remote { address, len }];
    readv(pid, &mut [IoSliceMut::new(buffer)], &remote)
}

/// `ssize_t process_vm_writev(pid_t pid, const struct iovec *local_iov, unsigned long liovcnt,
/// const struct iovec *remote_iov, unsigned long riovcnt, unsigned long flags)`: copies the bytes
/// of `local`, in order, to the ranges of `remote`; gives how many.
///
/// Fewer than asked for as with [`readv`]. Read-only pages of the other process are not written,
/// although a debugger could.
///
/// # Errors
///
/// Those of [`readv`].
///
/// # Safety
///
/// The program in process `pid`, which is still the one that the caller means, must expect that
/// these bytes change, now and to these values. If it is this process: as if the caller wrote them
/// through a raw pointer with leave to do so.
///
/// # References
///
/// - [process_vm_writev(2)](https://man7.org/linux/man-pages/man2/process_vm_readv.2.html)
#[inline]
#[doc(alias = "process_vm_writev")]
pub unsafe fn writev(pid: Pid, local: &[IoSlice<'_>], remote: &[Remote]) -> Result<usize, Errno> {
    // SAFETY: `IoSlice` has the layout of `iovec` and each is a borrowed buffer, which the call
    // reads; `Remote` is an `iovec`, and the caller promised that the memory it names may change.
    unsafe {
        call!(
            __NR_process_vm_writev,
            pid.as_raw_nonzero().get(),
            local.as_ptr(),
            local.len(),
            remote.as_ptr(),
            remote.len(),
            0_usize
        )
    }
}

/// `process_vm_writev` of one buffer to one range.
///
/// # Errors
///
/// Those of [`readv`].
///
/// # Safety
///
/// That of [`writev`].
#[inline]
pub unsafe fn write(pid: Pid, address: usize, buffer: &[u8]) -> Result<usize, Errno> {
    let len = buffer.len();
    let remote = [Remote { address, len }];
    // SAFETY: The caller's promise.
    unsafe { writev(pid, &[IoSlice::new(buffer)], &remote) }
}
