//! Opening, reading, writing and the flags of descriptors; most as rustix has them.
//!
//! Mirrors open(2), read(2), write(2), readv(2), dup(2), close(2) and fcntl(2).
//!
//! ```
//! use linipc_core::io;
//!
//! let (reader, writer) = linipc_core::pipe::pipe()?;
//! io::write(&writer, b"ping")?;
//! let mut buf = [0; 4];
//! assert_eq!(io::retry_on_intr(|| io::read(&reader, &mut buf))?, 4);
//! # Ok::<(), linipc_core::Errno>(())
//! ```

use linux_raw_sys::general::F_DUPFD_CLOEXEC;
use rustix::io::Errno;
use rustix::path::Arg;

use crate::fd::{AsFd, OwnedFd, RawFd};
use crate::sys::{call, own};

pub use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl};
pub use rustix::io::{
    DupFlags, FdFlags, IoSlice, IoSliceMut, ReadWriteFlags, fcntl_getfd, fcntl_setfd,
    ioctl_fionbio, pread, preadv, pwrite, pwritev, read, readv, retry_on_intr, write, writev,
};

/// `int open(const char *pathname, int flags, mode_t mode)` with `O_CLOEXEC`: opens a file, or makes it
/// with [`OFlags::CREATE`]; the umask takes from the mode.
///
/// ```
/// use linipc_core::io::{self, Mode, OFlags};
///
/// let zeros = io::open(c"/dev/zero", OFlags::RDONLY, Mode::empty())?;
/// assert_eq!(io::read(&zeros, &mut [1; 4])?, 4);
/// # Ok::<(), linipc_core::Errno>(())
/// ```
///
/// # Errors
///
/// - `NOENT`: nothing has this name. `NOTDIR`: a part of the path is no directory.
/// - `EXIST`: [`OFlags::CREATE`] and [`OFlags::EXCL`], and there is one.
/// - `ACCESS`, `PERM`, `ROFS`, `TXTBSY`: not permitted. `ISDIR`: a directory, to write or to create.
/// - `LOOP`: too many symbolic links, or one, and [`OFlags::NOFOLLOW`].
/// - `NXIO`: a socket; or a FIFO without a reader, and [`OFlags::NONBLOCK`].
/// - `NAMETOOLONG`: the path has more than 4095 bytes, or a part of it more than 255.
/// - `INVAL`: flags that do not go together, or not with this file; or a null byte within the path.
/// - `OPNOTSUPP`: [`OFlags::TMPFILE`], which this file system does not have.
/// - `INTR`: a signal was caught while the call waited.
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system. `NOSPC`, `NOMEM`.
///
/// # References
///
/// - [open(2)](https://man7.org/linux/man-pages/man2/open.2.html)
#[inline]
pub fn open(path: impl Arg, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    open_at(CWD, path, flags, mode)
}

/// `int openat(int dirfd, const char *pathname, int flags, mode_t mode)` with `O_CLOEXEC`: [`open`] in a
/// directory.
///
/// # Errors
///
/// Those of [`open`]; `NOTDIR`: `dir` is not a directory.
///
/// # References
///
/// - [openat(2)](https://man7.org/linux/man-pages/man2/openat.2.html)
#[inline]
#[doc(alias = "openat")]
pub fn open_at(
    dir: impl AsFd,
    path: impl Arg,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = (flags | OFlags::CLOEXEC | OFlags::LARGEFILE).bits();
    path.into_with_c_str(|path| {
        // SAFETY: The call reads the null-terminated path, which is borrowed until it returns.
        let fd = unsafe { call!(__NR_openat, dir.as_fd(), path.as_ptr(), flags, mode.bits()) }?;
        // SAFETY: The call made this descriptor, and nobody else knows of it.
        unsafe { own(fd) }
    })
}

/// `int dup(int oldfd)`: another descriptor of the same open file, which is *not* close-on-exec.
///
/// # Errors
///
/// `MFILE`: no descriptor is free in the process.
///
/// # References
///
/// - [dup(2)](https://man7.org/linux/man-pages/man2/dup.2.html)
#[inline]
pub fn dup(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    // SAFETY: The call takes no pointers.
    let new = unsafe { call!(__NR_dup, fd.as_fd()) }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(new) }
}

/// `int fcntl(int fd, F_DUPFD_CLOEXEC, int min)`: another descriptor of the same open file, the first
/// that is free from `min` on, close-on-exec.
///
/// # Errors
///
/// `MFILE`: no descriptor is free in the process. `INVAL`: `min` is none that it may have.
///
/// # References
///
/// - [F_DUPFD_CLOEXEC(2const)](https://man7.org/linux/man-pages/man2/F_DUPFD.2const.html)
#[inline]
#[doc(alias = "F_DUPFD_CLOEXEC")]
pub fn fcntl_dupfd_cloexec(fd: impl AsFd, min: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: The call takes no pointers.
    let new = unsafe { call!(__NR_fcntl, fd.as_fd(), F_DUPFD_CLOEXEC, min) }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(new) }
}

/// `int dup2(int oldfd, int newfd)`: closes what `new` is, and makes it a descriptor of the same open file
/// as `fd`, which is *not* close-on-exec.
///
/// # Errors
///
/// `BUSY`: another thread is opening this very descriptor. `INTR`: a signal was caught.
///
/// # References
///
/// - [dup(2)](https://man7.org/linux/man-pages/man2/dup.2.html)
#[inline]
pub fn dup2(fd: impl AsFd, new: &mut OwnedFd) -> Result<(), Errno> {
    match dup3(fd, new, DupFlags::empty()) {
        // They are one already. `BADF` would be the error of one that is closed.
        Err(Errno::INVAL) => Ok(()),
        done => done,
    }
}

/// `int dup3(int oldfd, int newfd, int flags)`: [`dup2`] that can make it close-on-exec.
///
/// # Errors
///
/// Those of [`dup2`]; `INVAL`: they are the same descriptor.
///
/// # References
///
/// - [dup(2)](https://man7.org/linux/man-pages/man2/dup.2.html)
#[inline]
pub fn dup3(fd: impl AsFd, new: &mut OwnedFd, flags: DupFlags) -> Result<(), Errno> {
    // SAFETY: The call takes no pointers. Whoever owns `new` owns a descriptor of that number afterwards.
    unsafe { call!(__NR_dup3, fd.as_fd(), new.as_fd(), flags.bits()) }?;
    Ok(())
}
