//! What a program says, and how it ends.

use linipc_core::fd::{AsFd, BorrowedFd};
use linipc_core::io::{self, IoSlice};
use linipc_core::{Errno, pshared, ring};

use crate::number::decimal;

/// As `sysexits.h`, and util-linux, have it: wrong arguments.
pub const USAGE: u8 = 64;
/// What was to be done failed.
pub const FAILED: u8 = 2;

/// Why a program did not do what it was asked.
#[derive(Debug, Clone, Copy)]
pub enum Failure {
    /// The arguments are wrong.
    Usage,
    /// The kernel refused.
    Errno(Errno),
    /// For this reason.
    Because(&'static str),
    /// There is nothing to say: the exit code tells it.
    Silent(u8),
    /// The kernel refused, and the exit code tells what.
    Code(u8, Errno),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<ring::Error> for Failure {
    fn from(error: ring::Error) -> Self {
        match error {
            ring::Error::PeerDead => Self::Because("the other side has died"),
            ring::Error::Closed => Self::Because("the other side has left"),
            ring::Error::System(errno) => Self::Errno(errno),
            _ => Self::Because("the ring is corrupt"),
        }
    }
}

impl From<ring::AttachError> for Failure {
    fn from(error: ring::AttachError) -> Self {
        match error {
            ring::AttachError::System(errno) => Self::Errno(errno),
            ring::AttachError::InUse { .. } => Self::Because("somebody is attached already"),
            _ => Self::Because("this is not such a ring"),
        }
    }
}

impl From<pshared::Error> for Failure {
    fn from(error: pshared::Error) -> Self {
        match error {
            pshared::Error::System(errno) => Self::Errno(errno),
            pshared::Error::NotRecoverable => Self::Because("the mutex is not recoverable"),
            _ => Self::Because("the mutex is corrupt"),
        }
    }
}

/// Says why it failed, if it did; gives the exit code.
pub fn ended(name: &[u8], usage: &[u8], done: Result<(), Failure>) -> u8 {
    let mut number = [0; 20];
    let (code, errno) = match done {
        Ok(()) => return 0,
        Err(Failure::Usage) => {
            complain([b"usage: ", usage, b""]);
            return USAGE;
        }
        Err(Failure::Silent(code)) => return code,
        Err(Failure::Because(reason)) => {
            complain([name, b": ", reason.as_bytes()]);
            return FAILED;
        }
        Err(Failure::Errno(errno)) => (FAILED, errno),
        Err(Failure::Code(code, errno)) => (code, errno),
    };
    let number = decimal(errno.raw_os_error().unsigned_abs().into(), &mut number);
    complain([name, b": ", error_name(number)]);
    code
}

/// The names of the errors that these programs may meet, with their numbers, which are those of all
/// architectures here.
const NAMES: &[u8] = b"1EPERM 2ENOENT 4EINTR 5EIO 6ENXIO 7E2BIG 8ENOEXEC 9EBADF 11EAGAIN 12ENOMEM 13EACCES 16EBUSY \
17EEXIST 20ENOTDIR 21EISDIR 22EINVAL 23ENFILE 24EMFILE 26ETXTBSY 27EFBIG 28ENOSPC 30EROFS 32EPIPE 34ERANGE \
36ENAMETOOLONG 38ENOSYS 40ELOOP 42ENOMSG 43EIDRM 90EMSGSIZE 95EOPNOTSUPP 98EADDRINUSE 104ECONNRESET \
110ETIMEDOUT 111ECONNREFUSED";

/// The name of an error, or its number if the name is not known.
fn error_name(number: &[u8]) -> &[u8] {
    NAMES
        .split(|byte| *byte == b' ')
        .find_map(|name| {
            name.strip_prefix(number)
                .filter(|name| name.first() == Some(&b'E'))
        })
        .unwrap_or(number)
}

/// A line on standard error, in one piece.
fn complain([first, second, third]: [&[u8]; 3]) {
    // SAFETY: If nothing is open there, the call fails, and there is nobody to tell.
    let stderr = unsafe { BorrowedFd::borrow_raw(2) };
    let line = [first, second, third, b"\n"].map(IoSlice::new);
    let _ = io::writev(stderr, &line);
}

/// Standard input.
pub fn stdin() -> BorrowedFd<'static> {
    // SAFETY: If nothing is open there, reading fails.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Writes to standard output.
///
/// # Errors
///
/// Those of write(2).
pub fn print(text: &[u8]) -> Result<(), Errno> {
    // SAFETY: If nothing is open there, writing fails.
    write_all(unsafe { BorrowedFd::borrow_raw(1) }, text)
}

/// Writes all bytes.
///
/// # Errors
///
/// Those of write(2).
pub fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = io::write(&fd, bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
