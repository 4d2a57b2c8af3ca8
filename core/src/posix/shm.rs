//! POSIX shared memory: files that live in memory, named for unrelated processes.
//!
//! Mirrors shm_open(3), shm_unlink(3) and ftruncate(2), with the names of the C library, so that C
//! programs open the same objects. An object is a descriptor, mapped with
//! [`Region::shared`](crate::map::Region::shared).
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::posix::{Mode, shm};
//!
//! # let name = &*format!("/linipc-doc-shm-{}", std::process::id());
//! let object = shm::create(name, Mode::RUSR | Mode::WUSR, |object| shm::resize(object, 4096))?;
//! let region = Region::shared(&object, 0, 4096, Access::READ | Access::WRITE)?;
//! region.bytes().write(0, b"for every process that knows the name")?;
//! shm::unlink(name)?;
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - A mapping cannot be sealed: who may write the object may also truncate it, and then touching
//!   what was cut off raises `SIGBUS`. If the peers are not trusted, use [`crate::memfd`].
//! - [`open`] with [`Create`] makes an object of length 0, which another process can find before
//!   it is resized. [`create`] makes none that is not complete.
//! - [`ftruncate`] gives a length but no memory: when `/dev/shm` is full, the first touch raises
//!   `SIGBUS`. [`resize`] makes that an error.
//! - Where `fs.protected_regular` is set, as systemd does, [`Create::Open`] of an object of another
//!   user is refused with `ACCESS`, whatever its mode; [`Create::No`] is not.
//!
//! # Limits
//!
//! All objects together have at most the size of `/dev/shm`: half of the memory, unless mounted
//! otherwise.

use rustix::fs::{self, FileType, OFlags};
use rustix::io::Errno;
use rustix::path;

use super::{Create, Mode, ObjectPath};
use crate::fd::{AsFd, OwnedFd};
use crate::io;
use crate::map::{self, Access};

pub use rustix::fs::ftruncate;

/// `int shm_open(const char *name, int oflag, mode_t mode)`: opens, finds or makes an object.
///
/// `access` is `READ`, `READ | WRITE`, or `WRITE`, and bounds what can be mapped: with `WRITE` alone,
/// nothing. A new object has length 0.
/// Symbolic links are not followed; the descriptor is close-on-exec.
///
/// # Errors
///
/// - `NOENT`: [`Create::No`], and there is none.
/// - `EXIST`: [`Create::Exclusive`], and there is one.
/// - `ACCESS`: the permissions of the object, or of the directory, do not permit it.
/// - `INVAL`: empty, `.`, `..`, an inner slash, or `access` is something else. What has the name is
///   not an object (`NXIO` for some of them).
/// - `NAMETOOLONG`: more than 255 bytes. `LOOP`: it is a symbolic link.
/// - `NOSPC`: no memory for a new object. `MFILE`, `NFILE`: no descriptor is free.
///
/// # References
///
/// - [shm_open(3)](https://man7.org/linux/man-pages/man3/shm_open.3.html)
#[inline]
#[doc(alias = "shm_open")]
pub fn open(name: impl path::Arg, access: Access, create: Create) -> Result<OwnedFd, Errno> {
    const READ_WRITE: Access = Access::READ.union(Access::WRITE);
    let how = match access {
        Access::READ => OFlags::RDONLY,
        Access::WRITE => OFlags::WRONLY,
        READ_WRITE => OFlags::RDWR,
        _ => return Err(Errno::INVAL),
    };
    let (flags, mode) = create.to_abi();
    // Without `NONBLOCK`, a FIFO that somebody put there would let the call wait for ever.
    let flags = flags | how | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let object = io::open(ObjectPath::new("", name)?.as_c_str(), flags, mode)?;
    match FileType::from_raw_mode(fs::fstat(&object)?.st_mode) {
        FileType::RegularFile => fs::fcntl_setfl(&object, OFlags::empty())?,
        _ => return Err(Errno::INVAL),
    }
    Ok(object)
}

/// Makes an object that nobody sees before `init` is done with it; it must not exist.
///
/// `init` is where the object gets its length and its first contents. It may be called a second
/// time, with another descriptor, if the first one cannot be given a name. If it fails, or the
/// process is killed, no object is left.
///
/// # Errors
///
/// Those of [`open`], and of `init`.
///
/// # References
///
/// - [open(2)](https://man7.org/linux/man-pages/man2/open.2.html), `O_TMPFILE`
#[inline]
pub fn create(
    name: impl path::Arg,
    mode: Mode,
    init: impl Fn(&OwnedFd) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    let (object, ()) = super::publish(&ObjectPath::new("", name)?, "shm.", mode, init)?;
    Ok(object)
}

/// `int ftruncate(int fd, off_t length)` after [`map::reserve`]: makes the object `len` bytes long,
/// with memory for all of them.
///
/// New bytes are 0. Shortening an object that somebody has mapped is how `SIGBUS` is made.
///
/// # Errors
///
/// - `NOSPC`: `/dev/shm` is full. The object is as it was.
/// - `INVAL`, `BADF`: not opened for writing. `FBIG`: longer than a file may be.
/// - `INTR`: a signal was caught. The object is as it was.
///
/// # References
///
/// - [ftruncate(2)](https://man7.org/linux/man-pages/man2/ftruncate.2.html)
#[inline]
#[doc(alias = "ftruncate")]
pub fn resize(object: impl AsFd, len: u64) -> Result<(), Errno> {
    if len > 0 {
        map::reserve(&object, len)?;
    }
    ftruncate(object, len)
}

/// `int fstat(int fd, struct stat *statbuf)`: the length of the object in bytes, as it is now.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [fstat(2)](https://man7.org/linux/man-pages/man2/fstat.2.html)
#[inline]
#[doc(alias = "fstat")]
pub fn len(object: impl AsFd) -> Result<u64, Errno> {
    Ok(fs::fstat(object)?.st_size as u64)
}

/// `int shm_unlink(const char *name)`: takes the name away; who has the object open or mapped
/// keeps it.
///
/// # Errors
///
/// - `NOENT`: there is none.
/// - `ACCESS`, `PERM`: it belongs to somebody else.
/// - `INVAL`, `NAMETOOLONG`: as for [`open`].
///
/// # References
///
/// - [shm_unlink(3)](https://man7.org/linux/man-pages/man3/shm_unlink.3.html)
#[inline]
#[doc(alias = "shm_unlink")]
pub fn unlink(name: impl path::Arg) -> Result<(), Errno> {
    fs::unlink(ObjectPath::new("", name)?.as_c_str())
}

/// The limits of `/dev/shm`, for all objects and semaphores together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes, 0 if there is no limit.
    pub bytes: u64,
    /// The bytes of them that are free.
    pub bytes_free: u64,
    /// The most objects, 0 if there is no limit.
    pub objects: u64,
    /// The objects of them that can still be made.
    pub objects_free: u64,
}

/// `int statvfs(const char *path, struct statvfs *buf)` of `/dev/shm`: how much room there is.
///
/// # Errors
///
/// `NOENT`: there is no `/dev/shm`.
///
/// # References
///
/// - [statvfs(3)](https://man7.org/linux/man-pages/man3/statvfs.3.html)
#[inline]
#[doc(alias = "statvfs")]
pub fn limits() -> Result<Limits, Errno> {
    let stat = fs::statvfs(super::DIR)?;
    Ok(Limits {
        bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        bytes_free: stat.f_bfree.saturating_mul(stat.f_frsize),
        objects: stat.f_files,
        objects_free: stat.f_ffree,
    })
}
