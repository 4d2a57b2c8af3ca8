//! One producer, one consumer: a stream of bytes, as [`io::Read`] and [`io::Write`].
//!
//! Built on [`linipc_core::ring::bytes`]. What is written in one call may be read in several, and the
//! other way round. Reading gives 0 at the end, when the producer was dropped and all is read; if it was
//! killed instead, an error.
//!
//! ```
//! use std::io::{BufRead, BufReader, Write};
//! use linipc::ring::bytes::{self, Consumer, Producer};
//!
//! let memfd = bytes::create(4096)?;
//! let mut producer = Producer::attach(&memfd)?;
//! let consumer = Consumer::attach(&memfd)?; // in another process
//!
//! writeln!(producer, "one line,")?;
//! writeln!(producer, "another")?;
//! drop(producer);
//! let lines: Vec<String> = BufReader::new(consumer).lines().collect::<Result<_, _>>()?;
//! assert_eq!(lines, ["one line,", "another"]);
//! # Ok::<(), std::io::Error>(())
//! ```

use super::messages::{handle, peers, set_event};
use super::*;

pub use linipc_core::ring::bytes::{Claim, Peek};

/// Memory with a stream of `capacity` bytes in it that nobody can cut off: a memfd, for those who get
/// the descriptor.
///
/// # Errors
///
/// - `InvalidInput` with [`AttachError::Capacity`]: not a power of two up to 2 GiB (on 32 bit 1 GiB).
/// - `NOSPC`, `MFILE`: no memory, or no descriptor.
pub fn create(capacity: u64) -> io::Result<Memfd> {
    let memory = core::bytes::create_memfd(c"linipc-ring", capacity);
    memory.map(Memfd::from).map_err(attach_error)
}

/// A POSIX segment with a stream in it: as [`spsc::open_named`].
///
/// # Errors
///
/// Those of [`create`] and of [`OpenOptions::open`].
pub fn open_named(
    name: impl AsRef<Path>,
    capacity: u64,
    options: &OpenOptions,
) -> io::Result<SharedMemory> {
    named(
        name.as_ref(),
        core::bytes::len(capacity),
        options,
        |memory| core::bytes::create(memory, capacity),
    )
}

handle! {
    /// The side that writes. The stream ends when it is dropped.
    bytes::Producer
}

handle! {
    /// The side that reads. When it is dropped, writing fails as soon as there is no room.
    bytes::Consumer
}

impl<M: Memory> Producer<M> {
    peers!();
    set_event!();

    /// The bytes of room.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`Error::Corrupt`].
    pub fn free(&mut self) -> io::Result<usize> {
        self.0.free().map_err(io_error)
    }

    /// Writes as many of the bytes as there is room for; gives their number.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room, and those of [`Self::write_wait`].
    #[inline]
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes).map_err(io_error)
    }

    /// Writes as many of the bytes as there is room for; waits for room for one at least, but not beyond
    /// the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`Self::write_wait`].
    #[inline]
    pub fn write_deadline(
        &mut self,
        bytes: &[u8],
        deadline: impl Into<Deadline>,
    ) -> io::Result<usize> {
        self.write_wait(bytes, until(deadline))
    }

    /// Writes as many of the bytes as there is room for; waits for room for one at least, as `wait`
    /// says. [`io::Write::write`] waits for ever.
    ///
    /// # Errors
    ///
    /// - `TimedOut` if `wait` has a deadline.
    /// - `BrokenPipe` with [`Error::Closed`], `ConnectionReset` with [`Error::PeerDead`]: there is no
    ///   room, and nobody to make some.
    /// - `InvalidData` with [`Error::Corrupt`].
    #[inline]
    pub fn write_wait(&mut self, bytes: &[u8], wait: Wait) -> io::Result<usize> {
        retry(|| self.0.write(bytes, wait)).map_err(io_error)
    }

    /// Writes all of the bytes; waits for room, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`Self::write_wait`]. What was written before stays written.
    pub fn write_all_deadline(
        &mut self,
        bytes: &[u8],
        deadline: impl Into<Deadline>,
    ) -> io::Result<()> {
        self.write_all_wait(bytes, until(deadline))
    }

    /// Writes all of the bytes; waits for room as `wait` says, whose deadline is for all of them.
    ///
    /// # Errors
    ///
    /// Those of [`Self::write_wait`]. What was written before stays written.
    pub fn write_all_wait(&mut self, mut bytes: &[u8], wait: Wait) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write_wait(bytes, wait)?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Waits until there is room for so many bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Self::write_wait`]; `InvalidInput` with [`Error::TooLong`]: more than the capacity.
    pub fn wait(&mut self, bytes: usize, wait: Wait) -> io::Result<()> {
        retry(|| self.0.wait(bytes, wait)).map_err(io_error)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no room yet for so many bytes, so that the
    /// consumer will write to its event ([`Consumer::set_event`]) when there is more. It may not be
    /// enough, so arm again.
    ///
    /// # Errors
    ///
    /// Those of [`Self::wait`]; `NOSYS`, without membarrier(2).
    pub fn arm(&mut self, bytes: usize) -> io::Result<bool> {
        self.0.arm(bytes).map_err(io_error)
    }

    /// Room for up to `n` bytes that lie side by side, at least 1 if `n` is; to fill in place, then to
    /// commit. Dropping the claim gives it up.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_write`].
    #[inline]
    pub fn try_claim(&mut self, n: usize) -> io::Result<Claim<'_, M>> {
        self.0.try_claim(n).map_err(io_error)
    }
}

impl<M: Memory> io::Write for Producer<M> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_wait(bytes, Wait::SPIN_THEN_SLEEP)
    }

    /// Nothing is held back.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<M: Memory> Consumer<M> {
    peers!();
    set_event!();

    /// The bytes that are waiting.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`Error::Corrupt`].
    #[allow(clippy::len_without_is_empty, reason = "it asks the other side")]
    pub fn len(&mut self) -> io::Result<usize> {
        self.0.len().map_err(io_error)
    }

    /// Reads as many bytes as there are and `buf` holds; gives their number, 0 at the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there are none now, and those of [`Self::read_wait`].
    #[inline]
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        or_end(self.0.try_read(buf))
    }

    /// Reads as many bytes as there are and `buf` holds; waits for one at least, but not beyond the
    /// deadline. Gives their number, 0 at the end.
    ///
    /// # Errors
    ///
    /// Those of [`Self::read_wait`].
    #[inline]
    pub fn read_deadline(
        &mut self,
        buf: &mut [u8],
        deadline: impl Into<Deadline>,
    ) -> io::Result<usize> {
        self.read_wait(buf, until(deadline))
    }

    /// Reads as many bytes as there are and `buf` holds; waits for one at least, as `wait` says. Gives
    /// their number, 0 at the end. [`io::Read::read`] waits for ever.
    ///
    /// # Errors
    ///
    /// - `TimedOut` if `wait` has a deadline.
    /// - `ConnectionReset` with [`Error::PeerDead`]: the producer was killed, and all that it wrote is
    ///   read.
    /// - `InvalidData` with [`Error::Corrupt`].
    #[inline]
    pub fn read_wait(&mut self, buf: &mut [u8], wait: Wait) -> io::Result<usize> {
        or_end(retry(|| self.0.read(buf, wait)))
    }

    /// Waits until there is a byte, or the end.
    ///
    /// # Errors
    ///
    /// Those of [`Self::read_wait`].
    pub fn wait(&mut self, wait: Wait) -> io::Result<()> {
        match retry(|| self.0.wait(wait)) {
            Err(Error::Closed) => Ok(()),
            done => done.map_err(io_error),
        }
    }

    /// Prepares for poll(2) and its kin: `true` if there is no byte yet, nor the end, so that the
    /// producer will write to its event ([`Producer::set_event`]) when there is.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`Error::Corrupt`]; `NOSYS`, without membarrier(2).
    pub fn arm(&mut self) -> io::Result<bool> {
        match self.0.arm() {
            Err(Error::Closed) => Ok(false),
            done => done.map_err(io_error),
        }
    }

    /// Up to `n` bytes that lie side by side, at least 1 if `n` is; to read in place, then to release.
    /// Dropping the peek leaves them.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_read`]; `UnexpectedEof` with [`Error::Closed`]: the end.
    #[inline]
    pub fn try_peek(&mut self, n: usize) -> io::Result<Peek<'_, M>> {
        self.0.try_peek(n).map_err(pop_error)
    }
}

impl<M: Memory> io::Read for Consumer<M> {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_wait(buf, Wait::SPIN_THEN_SLEEP)
    }
}

/// What was read; nothing, if the ring is closed.
fn or_end(read: Result<usize, Error>) -> io::Result<usize> {
    match read {
        Err(Error::Closed) => Ok(0),
        done => done.map_err(io_error),
    }
}
