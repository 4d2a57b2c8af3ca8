//! What a program says, and how it ends.

use linipc_core::fd::BorrowedFd;
use linipc_core::io::{self, IoSlice};
use linipc_core::socket::cmsg;
use linipc_core::{Errno, pshared, ring};

use crate::Args;
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
    /// The kernel refused, and the exit code tells what.
    Code(u8, Errno),
    /// There is nothing to say, or it has been said: the exit code tells the rest.
    Silent(u8),
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

/// Runs `main`, if the standard descriptors are open: else what is opened first would take the place of one.
pub fn checked(args: Args, main: fn(Args) -> u8) -> u8 {
    for number in 0..3 {
        // SAFETY: If nothing is open there, the call fails.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        if io::fcntl_getfd(fd).is_err() {
            complain(b"no descriptor 0, 1 or 2", b"", b"");
            return FAILED;
        }
    }
    main(args)
}

/// Says why it failed, if it did; gives the exit code.
pub fn ended(name: &[u8], usage: &[u8], done: Result<(), Failure>) -> u8 {
    match done {
        Ok(()) => 0,
        Err(Failure::Usage) => wrong(usage),
        Err(Failure::Silent(code)) => code,
        Err(Failure::Because(reason)) => {
            complain(name, b": ", reason.as_bytes());
            FAILED
        }
        Err(Failure::Errno(errno)) => refused(name, errno),
        Err(Failure::Code(code, errno)) => {
            refused(name, errno);
            code
        }
    }
}

/// Says how the program is called; gives the exit code of those who call it otherwise.
pub fn wrong(usage: &[u8]) -> u8 {
    complain(b"usage: ", usage, b"");
    USAGE
}

/// Says what the kernel refused; gives the exit code.
pub fn refused(name: &[u8], errno: Errno) -> u8 {
    let mut number = [0; 20];
    let number = decimal(errno.raw_os_error().unsigned_abs().into(), &mut number);
    complain(name, b": error ", number);
    FAILED
}

/// What a program says of a message that it could not receive.
pub fn errno(error: cmsg::Error) -> Errno {
    match error {
        cmsg::Error::Errno(errno) => errno,
        cmsg::Error::Truncated => Errno::MSGSIZE,
        cmsg::Error::Refused => Errno::MFILE,
    }
}

/// A line on standard error, in one piece.
pub fn complain(first: &[u8], second: &[u8], third: &[u8]) {
    // SAFETY: If nothing is open there, the call fails: `checked` says that to nobody.
    let stderr = unsafe { BorrowedFd::borrow_raw(2) };
    // `map` would be a loop, and copies.
    let line = [
        IoSlice::new(first),
        IoSlice::new(second),
        IoSlice::new(third),
        IoSlice::new(b"\n"),
    ];
    let _ = io::writev(stderr, &line);
}

/// Standard input.
pub fn stdin() -> BorrowedFd<'static> {
    // SAFETY: It is open (`checked`; `init` opens it), and the programs do not close it.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Standard output.
pub fn stdout() -> BorrowedFd<'static> {
    // SAFETY: As of `stdin`.
    unsafe { BorrowedFd::borrow_raw(1) }
}

/// Writes to standard output.
///
/// # Errors
///
/// Those of write(2).
pub fn print(text: &[u8]) -> Result<(), Errno> {
    write_all(stdout(), text)
}

/// Writes all bytes.
///
/// # Errors
///
/// Those of write(2).
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = io::write(fd, bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
