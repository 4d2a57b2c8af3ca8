//! Pipes: std's own [`PipeReader`] and [`PipeWriter`], with what std leaves out.
//!
//! Built on [`linipc_core::pipe`], which has the pitfalls.
//!
//! ```
//! use std::io::{Read, Write};
//! use linipc::pipe::{PipeExt, PipeOptions};
//!
//! let (mut reader, mut writer) = PipeOptions::new().capacity(1 << 16).open()?;
//! writer.write_all(b"hello")?;
//! assert_eq!(reader.bytes_waiting()?, 5);
//! drop(writer);
//! let mut text = String::new();
//! reader.read_to_string(&mut text)?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::AsFd;

use linipc_core::Errno;
use linipc_core::io::{OFlags, fcntl_getfl, retry_on_intr};
use linipc_core::pipe as core;

pub use std::io::{PipeReader, PipeWriter, pipe};

use crate::error::Limit;

/// How to make a pipe. std's [`pipe`] is the same without options.
#[derive(Debug, Clone, Default)]
pub struct PipeOptions {
    packets: bool,
    nonblocking: bool,
    capacity: Option<usize>,
}

impl PipeOptions {
    /// A blocking stream of bytes with the kernel's capacity.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether each write of up to `PIPE_BUF` bytes stays one packet (`O_DIRECT`).
    pub fn packets(&mut self, packets: bool) -> &mut Self {
        self.packets = packets;
        self
    }

    /// Whether both ends fail with `WouldBlock` instead of waiting (`O_NONBLOCK`).
    pub fn nonblocking(&mut self, nonblocking: bool) -> &mut Self {
        self.nonblocking = nonblocking;
        self
    }

    /// The least capacity in bytes; the kernel rounds it up to a power of two of pages.
    pub fn capacity(&mut self, bytes: usize) -> &mut Self {
        self.capacity = Some(bytes);
        self
    }

    /// Makes the pipe, close-on-exec.
    ///
    /// # Errors
    ///
    /// Those of pipe(2), and those of [`PipeExt::set_capacity`].
    pub fn open(&self) -> io::Result<(PipeReader, PipeWriter)> {
        let mut flags = core::PipeFlags::CLOEXEC;
        flags.set(core::PipeFlags::DIRECT, self.packets);
        flags.set(core::PipeFlags::NONBLOCK, self.nonblocking);
        let (reader, writer) = core::pipe_with(flags)?;
        if let Some(bytes) = self.capacity {
            writer.set_capacity(bytes)?;
        }
        Ok((reader.into(), writer.into()))
    }
}

/// What can be asked of either end of a pipe, or of a FIFO.
pub trait PipeExt: AsFd {
    /// Bytes that can be read now.
    ///
    /// # Errors
    ///
    /// `NOTTY`: not a pipe, nor anything else that can count.
    #[inline]
    fn bytes_waiting(&self) -> io::Result<u64> {
        Ok(core::bytes_waiting(self)?)
    }

    /// The capacity in bytes.
    ///
    /// # Errors
    ///
    /// `BADF`: not a pipe.
    fn capacity(&self) -> io::Result<usize> {
        Ok(core::fcntl_getpipe_size(self)?)
    }

    /// Makes the capacity at least `bytes`; gives what it is now.
    ///
    /// # Errors
    ///
    /// - `PERM` with a [`Limit`]: more than `fs.pipe-max-size`, or than the user's pipes may have
    ///   together.
    /// - `BUSY`: less than what is waiting in the pipe.
    /// - `INVAL`: 0 bytes. `BADF`: not a pipe.
    fn set_capacity(&self, bytes: usize) -> io::Result<usize> {
        core::fcntl_setpipe_size(self, bytes).map_err(|error| match error {
            Errno::PERM => pipe_limit(bytes).map_or(error.into(), io::Error::from),
            error => error.into(),
        })
    }

    /// Whether reads and writes fail with `WouldBlock` instead of waiting. This is a property of
    /// the open end, shared with all its duplicates.
    ///
    /// # Errors
    ///
    /// None in practice.
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        crate::event::set_nonblocking(self, nonblocking)
    }
}

impl PipeExt for PipeReader {}
impl PipeExt for PipeWriter {}
impl PipeExt for std::os::fd::OwnedFd {}
impl PipeExt for std::fs::File {}

/// Which limit refused `bytes`.
fn pipe_limit(bytes: usize) -> Option<Limit> {
    let sysctl = |name| std::fs::read_to_string(name).ok()?.trim().parse().ok();
    let max: u64 = sysctl("/proc/sys/fs/pipe-max-size")?;
    if bytes as u64 > max {
        return Some(Limit {
            errno: Errno::PERM,
            what: "bytes in a pipe",
            value: max,
            setting: "fs.pipe-max-size",
        });
    }
    Some(Limit {
        errno: Errno::PERM,
        what: "pages in all pipes of a user",
        value: sysctl("/proc/sys/fs/pipe-user-pages-soft")?,
        setting: "fs.pipe-user-pages-soft",
    })
}

/// `splice(2)`: moves up to `len` bytes between a pipe and any other descriptor without copying
/// them through this process; gives how many, 0 at the end of `from`.
///
/// # Errors
///
/// - `INVAL`: neither is a pipe, or the other one cannot be spliced (opened for appending, say).
/// - `AGAIN`: it would have to wait, and one of them is non-blocking.
///
/// # References
///
/// - [splice(2)](https://man7.org/linux/man-pages/man2/splice.2.html)
#[inline]
pub fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    let flags = core::SpliceFlags::MOVE;
    Ok(retry_on_intr(|| {
        core::splice(&from, None, &to, None, len, flags)
    })?)
}

/// `tee(2)`: copies up to `len` bytes from one pipe to another without taking them out; gives how
/// many, 0 if the writing ends of `from` are closed and it is empty.
///
/// # Errors
///
/// `INVAL`: not both are pipes, or both are the same one. `AGAIN`: as for [`splice`].
///
/// # References
///
/// - [tee(2)](https://man7.org/linux/man-pages/man2/tee.2.html)
#[inline]
pub fn tee(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    Ok(retry_on_intr(|| {
        core::tee(&from, &to, len, core::SpliceFlags::empty())
    })?)
}

/// `vmsplice(2)`: puts bytes that never change into a pipe without copying them; gives how many,
/// at most what the pipe has room for. Waits for room, as a write does.
///
/// # Errors
///
/// - `BADF`: not a pipe, or its reading end.
/// - `AGAIN` (`WouldBlock`): the pipe is full, and non-blocking. `PIPE`: no reader is left.
///
/// # References
///
/// - [vmsplice(2)](https://man7.org/linux/man-pages/man2/vmsplice.2.html)
pub fn vmsplice(pipe: impl AsFd, bytes: &'static [u8]) -> io::Result<usize> {
    // SAFETY: Bytes that are borrowed for ever are never changed or freed.
    unsafe { vmsplice_unchecked(pipe, bytes) }
}

/// As [`vmsplice`], for bytes that may be changed or freed some time.
///
/// # Safety
///
/// Until the bytes have been copied out of the pipe, and out of every pipe and socket to which a
/// reader moved them on with splice(2) or tee(2), all that is in this memory goes to the readers: it
/// must not be freed or given to another use, and be changed only by who means the readers to see
/// that. Whether they are done, only they can say; if none moves pages on, also
/// [`PipeExt::bytes_waiting`].
///
/// # Errors
///
/// Those of [`vmsplice`].
pub unsafe fn vmsplice_unchecked(pipe: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    // Of a reading end, the call would write to `bytes`.
    let open = fcntl_getfl(&pipe)?;
    if open & OFlags::RWMODE == OFlags::RDONLY {
        return Err(Errno::BADF.into());
    }
    let mut flags = core::SpliceFlags::empty();
    flags.set(core::SpliceFlags::NONBLOCK, open.contains(OFlags::NONBLOCK));
    let slices = [core::IoSliceRaw::from_slice(bytes)];
    Ok(retry_on_intr(|| {
        // SAFETY: The call reads only, `GIFT` is not set, and the caller answers for the time after.
        unsafe { core::vmsplice(&pipe, &slices, flags) }
    })?)
}
