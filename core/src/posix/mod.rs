//! POSIX IPC: objects named like files, kept by the kernel until somebody unlinks them.
//!
//! Mirrors shm_overview(7), sem_overview(7) and mq_overview(7). The three mechanisms are [`shm`]
//! (memory), [`sem`] (semaphores, in the format of the C library) and [`mq`] (queues of messages
//! with priorities).
//!
//! A name is `/NAME`: one slash, then 1 to 255 bytes without a slash. Shared memory and semaphores
//! are files in `/dev/shm`, a semaphore's with a prefix (see [`sem::Format`]); queues are in a file
//! system of their own. Permissions are those of files, so the umask applies. An object that was
//! unlinked lives on until the last process has closed and unmapped it.
//!
//! # Pitfalls
//!
//! - Names are for every process that sees the same `/dev/shm` (a mount namespace), or the same
//!   IPC namespace for queues. Anybody may take a name first, in a directory that all can write:
//!   create with [`Create::Exclusive`] to know who made the object.
//! - A name that nobody unlinks stays until the machine is restarted.

use core::ffi::CStr;

use rustix::fs::{self, AtFlags, CWD, OFlags};
use rustix::io::Errno;
use rustix::path::{self, DecInt};
use rustix::time::ClockId;

use crate::fd::{AsFd, AsRawFd, OwnedFd};
use crate::io;
use crate::sys::clock_gettime;

pub mod mq;
pub mod sem;
pub mod shm;

pub use rustix::fs::Mode;

/// Whether an open call may, or must, make the object. The umask takes from the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// Open an existing object; `NOENT` if there is none.
    No,
    /// `O_CREAT`: open it, or make it with these permissions.
    #[doc(alias = "O_CREAT")]
    Open(Mode),
    /// `O_CREAT | O_EXCL`: make it with these permissions; `EXIST` if there is one already.
    #[doc(alias = "O_EXCL")]
    Exclusive(Mode),
}

impl Create {
    /// The flags and the mode of an open call.
    #[inline]
    pub(crate) fn to_abi(self) -> (OFlags, Mode) {
        match self {
            Self::No => (OFlags::empty(), Mode::empty()),
            Self::Open(mode) => (OFlags::CREATE, mode),
            Self::Exclusive(mode) => (OFlags::CREATE | OFlags::EXCL, mode),
        }
    }
}

/// Calls `f` with the name that the kernel knows a queue by: the user's without its slash.
///
/// # Errors
///
/// `INVAL`: the name does not begin with a slash, or has a null byte in it. `NAMETOOLONG`: longer
/// than any path.
#[inline]
pub(crate) fn with_queue_name<T>(
    name: impl path::Arg,
    f: impl FnOnce(&CStr) -> Result<T, Errno>,
) -> Result<T, Errno> {
    name.into_with_c_str(|name| match name.to_bytes_with_nul() {
        [b'/', rest @ ..] => {
            // SAFETY: The end of a C string that is not empty is one.
            f(unsafe { CStr::from_bytes_with_nul_unchecked(rest) })
        }
        _ => Err(Errno::INVAL),
    })
}

const DIR: &CStr = c"/dev/shm";
const NAME_MAX: usize = 255;
const PATH_MAX: usize = DIR.count_bytes() + 1 + NAME_MAX + 1;

/// The path of an object in `/dev/shm`.
///
/// # Invariants
///
/// The first null byte of `bytes` is at `len`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObjectPath {
    bytes: [u8; PATH_MAX],
    len: usize,
}

impl ObjectPath {
    /// The path of the object `prefix` + `name`; leading slashes of `name` do not count.
    ///
    /// # Errors
    ///
    /// - `INVAL`: nothing is left of the name, it has an inner slash or a null byte, or the object
    ///   would be called `.` or `..`.
    /// - `NAMETOOLONG`: longer than 255 bytes with the prefix.
    #[inline]
    #[allow(
        clippy::manual_contains,
        reason = "it compares words, which is longer than a name"
    )]
    pub(crate) fn new(prefix: &str, name: impl path::Arg) -> Result<Self, Errno> {
        name.into_with_c_str(|name| {
            let mut name = name.to_bytes();
            while let [b'/', rest @ ..] = name {
                name = rest;
            }
            if name.is_empty() || name.iter().any(|byte| *byte == b'/') {
                return Err(Errno::INVAL);
            }
            Self::from_parts(prefix.as_bytes(), name)
        })
    }

    /// A path that nobody else chose so far, for the file before it gets its name.
    fn temporary(prefix: &str) -> Result<Self, Errno> {
        let mut seed = clock_gettime(ClockId::Monotonic).tv_nsec as u64
            ^ u64::from(rustix::process::getpid().as_raw_pid().unsigned_abs()) << 30;
        let mut name = [0; 6];
        for byte in &mut name {
            *byte = b'a' + (seed % 26) as u8;
            seed /= 26;
        }
        Self::from_parts(prefix.as_bytes(), &name)
    }

    fn from_parts(prefix: &[u8], name: &[u8]) -> Result<Self, Errno> {
        if prefix.is_empty() && (name == b"." || name == b"..") {
            return Err(Errno::INVAL);
        }
        if prefix.len() + name.len() > NAME_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let mut bytes = [0; PATH_MAX];
        let mut len = 0;
        for part in [DIR.to_bytes(), b"/", prefix, name] {
            for byte in part {
                if let Some(place) = bytes.get_mut(len) {
                    *place = *byte;
                }
                len += 1;
            }
        }
        // INVARIANT: The parts, of which none has a null byte, are shorter than `bytes`, whose rest is null.
        Ok(Self { bytes, len })
    }

    #[inline]
    pub(crate) fn as_c_str(&self) -> &CStr {
        let path = self.bytes.get(..=self.len).unwrap_or(b"\0");
        // SAFETY: It ends with the first null byte (the type's invariant).
        unsafe { CStr::from_bytes_with_nul_unchecked(path) }
    }
}

/// Makes the file at `path`, which must not exist, and gives it that name only when `init` is done
/// with it: nobody ever sees it half-made.
///
/// The file has no name until then, so a process that is killed leaves nothing. Where that cannot
/// be done (`/dev/shm` without `O_TMPFILE`, no `/proc`), it is a temporary file, as the C library
/// makes one, which only a kill at the wrong moment leaves behind.
///
/// # Errors
///
/// - `EXIST`: there is one already.
/// - `ACCESS`: the directory does not let the caller make files. `NOSPC`: the file system is full.
/// - Those of `init`.
pub(crate) fn publish<T>(
    path: &ObjectPath,
    prefix: &str,
    mode: Mode,
    init: impl Fn(&OwnedFd) -> Result<T, Errno>,
) -> Result<(OwnedFd, T), Errno> {
    if let Ok(file) = io::open(DIR, OFlags::RDWR | OFlags::TMPFILE, mode) {
        let made = init(&file)?;
        match link_unnamed(&file, path) {
            Ok(()) => return Ok((file, made)),
            Err(Errno::EXIST) => return Err(Errno::EXIST),
            Err(_) => {}
        }
    }
    let (temporary, file) = temporary_file(prefix, mode)?;
    let made = init(&file)?;
    fs::link(temporary.0.as_c_str(), path.as_c_str())?;
    Ok((file, made))
}

/// The name of a temporary file, which goes when this is dropped, also if `init` panics.
struct Temporary(ObjectPath);

impl Drop for Temporary {
    fn drop(&mut self) {
        // If this fails, somebody else removed it.
        let _ = fs::unlink(self.0.as_c_str());
    }
}

/// Gives the nameless `file` the name `path`, in the way that needs no privilege.
fn link_unnamed(file: impl AsFd, path: &ObjectPath) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let descriptors = io::open(c"/proc/thread-self/fd", flags, Mode::empty())?;
    let number = DecInt::new(file.as_fd().as_raw_fd());
    fs::linkat(
        descriptors,
        number.as_c_str(),
        CWD,
        path.as_c_str(),
        AtFlags::SYMLINK_FOLLOW,
    )
}

fn temporary_file(prefix: &str, mode: Mode) -> Result<(Temporary, OwnedFd), Errno> {
    const TRIES: usize = 50;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    for _ in 0..TRIES {
        let path = ObjectPath::temporary(prefix)?;
        match io::open(path.as_c_str(), flags, mode) {
            Err(Errno::EXIST) => {}
            made => return made.map(|file| (Temporary(path), file)),
        }
    }
    Err(Errno::AGAIN)
}
