//! FIFOs: pipes with a name in the file system.
//!
//! Mirrors fifo(7), mkfifo(3) and open(2). The name outlives the processes, the bytes do not: when
//! the last end is closed, what was not read is gone. An open end is a pipe like any other, with
//! all of [`crate::pipe`].
//!
//! ```
//! use linipc_core::fifo::{self, End, Flags, Mode};
//! use linipc_core::io;
//!
//! # let path = std::env::temp_dir().join(format!("linipc-core-fifo-{}", std::process::id()));
//! # let path = path.to_str().unwrap();
//! fifo::create(path, Mode::RUSR | Mode::WUSR)?;
//! let reader = fifo::open(path, End::Reader, Flags::NONBLOCK)?;
//! let writer = fifo::open(path, End::Writer, Flags::empty())?;
//! io::write(&writer, b"hello")?;
//! assert_eq!(io::read(&reader, &mut [0; 16])?, 5);
//! fifo::unlink(path)?;
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # How opening waits
//!
//! | | blocking | [`Flags::NONBLOCK`] |
//! |---|---|---|
//! | [`End::Reader`] | until a writer opens | at once; reads give 0 until a writer opens |
//! | [`End::Writer`] | until a reader opens | at once if a reader is there, else `NXIO` |
//! | [`End::Both`] | at once | at once |
//!
//! The other end may be closed again by the time that a blocking open returns. There is no
//! deadline; [`has_writer`] lets a reader ask.
//!
//! # Pitfalls
//!
//! - Two processes that open two FIFOs in opposite orders wait for each other for ever.
//! - A reader gets 0, the end, when the last writer closes, even if another one will come. A
//!   reader that wants to stay opens [`End::Both`], and so is itself a writer that never closes.
//! - [`Flags::NONBLOCK`] stays: the reads and writes do not wait either, until it is cleared.
//! - All readers share one stream; each byte goes to one of them.
//! - In a directory that others can write to (`/tmp`), the name may be theirs. Create exclusively,
//!   and see `fs.protected_fifos` in proc(5).

use bitflags::bitflags;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, FileType, OFlags, fstat, mknodat, statat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::pipe::{SpliceFlags, tee};
use rustix::time::Timespec;

use crate::fd::{AsFd, OwnedFd};
use crate::io;

pub use rustix::fs::{CWD, Mode};

/// Which end to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `O_RDONLY`
    Reader,
    /// `O_WRONLY`
    Writer,
    /// `O_RDWR`: both ends in one descriptor, which Linux permits and POSIX leaves open.
    Both,
}

bitflags! {
    /// How to open an end.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// `O_NONBLOCK`: do not wait for the other end, nor later when reading and writing.
        const NONBLOCK = 1;
        /// `O_NOFOLLOW`: refuse a path that is a symbolic link, such as `/dev/fd/3`.
        const NOFOLLOW = 2;
    }
}

/// `int mkfifo(const char *pathname, mode_t mode)`: makes a FIFO.
///
/// The process's umask takes bits away from `mode`.
///
/// # Errors
///
/// - `EXIST`: there is a file of this name, FIFO or not.
/// - `NOENT`, `NOTDIR`: the directory does not exist.
/// - `ACCESS`, `ROFS`, `NOSPC`, `DQUOT`: nothing can be made in it.
/// - `PERM`, `OPNOTSUPP`: the file system has no FIFOs.
///
/// # References
///
/// - [mkfifo(3)](https://man7.org/linux/man-pages/man3/mkfifo.3.html)
#[inline]
#[doc(alias = "mkfifo")]
pub fn create(path: impl Arg, mode: Mode) -> Result<(), Errno> {
    create_at(CWD, path, mode)
}

/// `int mkfifoat(int dirfd, const char *pathname, mode_t mode)`: makes a FIFO in a directory.
///
/// # Errors
///
/// Those of [`create`]; `NOTDIR`: `dir` is not a directory.
///
/// # References
///
/// - [mkfifoat(3)](https://man7.org/linux/man-pages/man3/mkfifoat.3.html)
#[inline]
#[doc(alias = "mkfifoat")]
pub fn create_at(dir: impl AsFd, path: impl Arg, mode: Mode) -> Result<(), Errno> {
    mknodat(dir, path, FileType::Fifo, mode, 0)
}

/// `int open(const char *pathname, int flags)`: opens one end, close-on-exec; see the table above.
///
/// What was opened is a FIFO, or an error. It is looked at after it was opened, which is harmless
/// to files; some devices act when they are opened.
///
/// # Errors
///
/// - `NXIO`: a writer without a reader, and [`Flags::NONBLOCK`]; also if the path names a socket.
/// - `INVAL`: not a FIFO.
/// - `NOENT`: nothing has this name. `ACCESS`: no permission. `ISDIR`: a directory.
/// - `LOOP`: a symbolic link, and [`Flags::NOFOLLOW`].
/// - `INTR`: a signal was caught while the call waited.
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system; the latter also
///   when the user has too many pages in pipes.
///
/// # References
///
/// - [fifo(7)](https://man7.org/linux/man-pages/man7/fifo.7.html),
///   [open(2)](https://man7.org/linux/man-pages/man2/open.2.html)
#[inline]
pub fn open(path: impl Arg, end: End, flags: Flags) -> Result<OwnedFd, Errno> {
    open_at(CWD, path, end, flags)
}

/// `int openat(int dirfd, const char *pathname, int flags)`: [`open`] in a directory.
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
pub fn open_at(dir: impl AsFd, path: impl Arg, end: End, flags: Flags) -> Result<OwnedFd, Errno> {
    let mut oflags = OFlags::NOCTTY
        | match end {
            End::Reader => OFlags::RDONLY,
            End::Writer => OFlags::WRONLY,
            End::Both => OFlags::RDWR,
        };
    oflags.set(OFlags::NONBLOCK, flags.contains(Flags::NONBLOCK));
    oflags.set(OFlags::NOFOLLOW, flags.contains(Flags::NOFOLLOW));
    let fd = io::open_at(dir, path, oflags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
        FileType::Fifo => Ok(fd),
        _ => Err(Errno::INVAL),
    }
}

/// `int fstatat(int dirfd, const char *pathname, struct stat *statbuf, int flags)`: the device and
/// the inode of the FIFO that has a name now, which tell it from others that had it or will.
///
/// # Errors
///
/// `INVAL`: not a FIFO. `NOENT`: nothing has this name. `ACCESS`: no permission to look.
///
/// # References
///
/// - [fstatat(2)](https://man7.org/linux/man-pages/man2/fstatat.2.html)
#[inline]
#[doc(alias = "fstatat")]
pub fn identity_at(dir: impl AsFd, path: impl Arg, flags: Flags) -> Result<(u64, u64), Errno> {
    let mut at = AtFlags::empty();
    at.set(AtFlags::SYMLINK_NOFOLLOW, flags.contains(Flags::NOFOLLOW));
    let stat = statat(dir, path, at)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => Ok((stat.st_dev, stat.st_ino)),
        _ => Err(Errno::INVAL),
    }
}

/// Whether a reader that did not wait has found a writer: one is there now, or has been.
///
/// poll(2) alone does not tell: it sees bytes, and that all writers have left, but not a writer
/// that is silent. tee(2) does: on an empty pipe it would wait only if there is a writer. Nothing
/// is taken from the FIFO.
///
/// # Errors
///
/// - `INVAL`, `BADF`: not the reading end of a FIFO.
/// - `MFILE`, `NFILE`: no descriptor is free for the pipe that tee(2) needs.
///
/// # References
///
/// - [tee(2)](https://man7.org/linux/man-pages/man2/tee.2.html)
#[inline]
pub fn has_writer(reader: impl AsFd) -> Result<bool, Errno> {
    let reader = reader.as_fd();
    let (_scratch, scratch) = crate::pipe::pipe()?;
    match tee(reader, scratch, 1, SpliceFlags::NONBLOCK) {
        Ok(0) => {}
        Ok(_) | Err(Errno::AGAIN) => return Ok(true),
        Err(error) => return Err(error),
    }
    let mut fds = [PollFd::from_borrowed_fd(reader, PollFlags::IN)];
    // At once, so that no signal can interrupt it.
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}

/// `int unlink(const char *pathname)`: removes the name. Ends that are open go on.
///
/// # Errors
///
/// `NOENT`: nothing has this name. `ACCESS`, `PERM`, `ROFS`: it cannot be removed. `ISDIR`: a
/// directory.
///
/// # References
///
/// - [unlink(2)](https://man7.org/linux/man-pages/man2/unlink.2.html)
#[inline]
pub fn unlink(path: impl Arg) -> Result<(), Errno> {
    unlink_at(CWD, path)
}

/// `int unlinkat(int dirfd, const char *pathname, 0)`: [`unlink`] in a directory.
///
/// # Errors
///
/// Those of [`unlink`]; `NOTDIR`: `dir` is not a directory.
///
/// # References
///
/// - [unlinkat(2)](https://man7.org/linux/man-pages/man2/unlinkat.2.html)
#[inline]
#[doc(alias = "unlinkat")]
pub fn unlink_at(dir: impl AsFd, path: impl Arg) -> Result<(), Errno> {
    unlinkat(dir, path, AtFlags::empty())
}
