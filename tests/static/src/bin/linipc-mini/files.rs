//! What is found by a path: FIFOs and locks.

use core::ffi::CStr;

use linipc_core::Errno;
use linipc_core::fd::{BorrowedFd, IntoRawFd};
use linipc_core::fifo::{self, Mode};
use linipc_core::io::{self, FdFlags, OFlags};
use linipc_core::lock::{self, FlockOperation};
use linipc_static::Args;
use linipc_static::number::{parse_as, parse_base};
use linipc_static::report::Failure;

use crate::options::Options;

/// Makes FIFOs, with mode 0666 without the umask, or with the mode that is given as octal digits.
pub fn mkfifo(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"m:")?;
    let (args, mut mode) = (options.args, 0o666);
    if args.is_empty() {
        return Err(Failure::Usage);
    }
    if let Some(digits) = options.value {
        let bits = parse_base(digits, 8).filter(|bits| *bits <= 0o777);
        mode = bits.ok_or(Failure::Usage)?;
        rustix::process::umask(Mode::empty());
    }
    let mode = Mode::from_raw_mode(mode as u32);
    let mut done = Ok(());
    for index in 0..args.len() {
        let name = args.get(index).ok_or(Failure::Usage)?;
        // The others are made all the same.
        done = fifo::create(name, mode).and(done);
    }
    Ok(done?)
}

/// util-linux's exit codes.
const LOCKED: u8 = 1;
const WRONG_DATA: u8 = 65;
const NO_INPUT: u8 = 66;
const UNAVAILABLE: u8 = 69;
const SYSTEM: u8 = 71;

/// Locks a file and executes a command, which has the lock for as long as it, or whoever inherits its
/// descriptors, runs; or locks a descriptor that was inherited.
pub fn flock(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"sxeun")?;
    let args = options.args;
    let kind = match (options.has(b'u'), options.has(b's'), options.has(b'n')) {
        (true, _, false) => FlockOperation::Unlock,
        (true, _, true) => FlockOperation::NonBlockingUnlock,
        (false, true, false) => FlockOperation::LockShared,
        (false, true, true) => FlockOperation::NonBlockingLockShared,
        (false, false, false) => FlockOperation::LockExclusive,
        (false, false, true) => FlockOperation::NonBlockingLockExclusive,
    };
    let file = args.get(0).ok_or(Failure::Usage)?;
    if args.len() == 1 {
        let number: u32 = parse_as(file.to_bytes()).ok_or(Failure::Usage)?;
        // Nobody has a larger one open; of -1 `borrow_raw` would panic.
        let number = number.min(i32::MAX as u32) as i32;
        // SAFETY: If whoever started us left nothing open there, the call fails.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        return lock(fd, kind);
    }
    let is_shell = args.bytes(1) == Some(b"-c");
    if is_shell && args.len() != 3 {
        return Err(Failure::Usage);
    }
    let fd = open(file).map_err(|errno| Failure::Code(NO_INPUT, errno))?;
    lock(&fd, kind)?;
    // The command inherits it.
    io::fcntl_setfd(&fd, FdFlags::empty())?;
    let _ = fd.into_raw_fd();
    let errno = match is_shell {
        true => args.skip(2).execute_in_shell(),
        false => args.skip(1).execute(),
    };
    Err(Failure::Code(UNAVAILABLE, errno))
}

fn open(file: &CStr) -> Result<linipc_core::fd::OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(0o666);
    let flags = OFlags::RDONLY | OFlags::NOCTTY;
    match io::open(file, flags | OFlags::CREATE, mode) {
        // A directory is not made.
        Err(Errno::ISDIR) => io::open(file, flags, mode),
        done => done,
    }
}

fn lock(fd: impl linipc_core::fd::AsFd, kind: FlockOperation) -> Result<(), Failure> {
    match lock::flock(fd, kind) {
        Err(Errno::AGAIN) => Err(Failure::Silent(LOCKED)),
        Err(errno @ (Errno::NOLCK | Errno::NOMEM)) => Err(Failure::Code(SYSTEM, errno)),
        done => done.map_err(|errno| Failure::Code(WRONG_DATA, errno)),
    }
}
