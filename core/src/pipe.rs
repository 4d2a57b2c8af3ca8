//! Pipes: one-way streams of bytes, or of packets, between related processes.
//!
//! Mirrors pipe(7), pipe(2), splice(2), tee(2) and vmsplice(2). The calls that rustix has are
//! re-exported; [`pipe`] here differs from the C function in that its ends are close-on-exec.
//! Data moves with `read` and `write` of [`crate::io`].
//!
//! ```
//! use linipc_core::{io, pipe};
//!
//! let (reader, writer) = pipe::pipe()?;
//! io::write(&writer, b"hello")?;
//! assert_eq!(pipe::bytes_waiting(&reader)?, 5);
//! let mut buf = [0; 16];
//! assert_eq!(io::read(&reader, &mut buf)?, 5);
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - Writing when no reader is left raises `SIGPIPE`, which kills a process that did not ignore it
//!   (Rust's std does at start-up); only then is `PIPE` returned.
//! - A reader sees the end only when *every* copy of the writing end is closed, also those that a
//!   child inherited. Close-on-exec, the default here, is what keeps it from inheriting.
//! - Writes of up to [`PIPE_BUF`] bytes are atomic; longer ones of several writers can mix.
//! - The capacity counts pages, not bytes: small writes that cannot be merged take a page each.
//! - [`vmsplice`] lends pages and does not copy them: who reads later gets the bytes of that later
//!   moment, also if the memory was freed and is used for something else by then. It may be changed
//!   again when the bytes were *read*, not earlier. That the pipe is empty proves this only if no
//!   reader moves pages on with [`splice`] or [`tee`]; else have the reader say so. With
//!   [`SpliceFlags::GIFT`] it may never be changed.
//! - Given the reading end of a pipe, [`vmsplice`] *writes* to the memory. Given either, it heeds
//!   [`SpliceFlags::NONBLOCK`], but not `O_NONBLOCK`.

use rustix::io::Errno;

use crate::fd::{AsFd, OwnedFd};
use crate::sys::{call, own_pair};

pub use rustix::pipe::{
    IoSliceRaw, PIPE_BUF, PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, splice,
    tee, vmsplice,
};

/// `int pipe2(int pipefd[2], int flags)` with `O_CLOEXEC`: a new pipe, as reader and writer.
///
/// # Errors
///
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system.
/// - `NFILE` also when the user has more pages in pipes than `fs.pipe-user-pages-hard`.
///
/// # References
///
/// - [pipe(2)](https://man7.org/linux/man-pages/man2/pipe.2.html)
#[inline]
#[doc(alias = "pipe2")]
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    pipe_with(PipeFlags::CLOEXEC)
}

/// `int pipe2(int pipefd[2], int flags)`: a new pipe, with the flags as they are.
///
/// # Errors
///
/// Those of [`pipe()`]; `INVAL`: an unknown flag.
///
/// # References
///
/// - [pipe(2)](https://man7.org/linux/man-pages/man2/pipe.2.html)
#[inline]
pub fn pipe_with(flags: PipeFlags) -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut fds = [0_u32; 2];
    // SAFETY: The call writes two descriptors.
    unsafe { call!(__NR_pipe2, fds.as_mut_ptr(), flags.bits()) }?;
    // SAFETY: The call made them, and nobody else knows of them.
    unsafe { own_pair(fds) }
}

/// `int pipe2(int pipefd[2], int flags)` with `O_CLOEXEC | O_DIRECT`: a pipe of packets.
///
/// A write of up to [`PIPE_BUF`] bytes is one packet, a longer one is cut into several. A read
/// takes one packet, and what does not fit into its buffer is lost: read with [`PIPE_BUF`] bytes.
/// Packets of 0 bytes do not exist.
///
/// # Errors
///
/// Those of [`pipe()`].
///
/// # References
///
/// - [pipe(2)](https://man7.org/linux/man-pages/man2/pipe.2.html), `O_DIRECT`
#[inline]
#[doc(alias = "O_DIRECT")]
pub fn packet_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT)
}

/// `int ioctl(int fd, FIONREAD, int *argp)`: bytes that can be read now, from either end.
///
/// # Errors
///
/// `BADF`, `NOTTY`: not a pipe, nor anything else that can count.
///
/// # References
///
/// - [pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html), "I/O on pipes and FIFOs"
#[inline]
#[doc(alias = "FIONREAD")]
pub fn bytes_waiting(pipe: impl AsFd) -> Result<u64, Errno> {
    rustix::io::ioctl_fionread(pipe)
}
