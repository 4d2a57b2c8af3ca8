//! One producer, one consumer: a stream of bytes, without message boundaries.
//!
//! A ring of [`items`] of one byte, under the names of a stream: that page says what it promises, how it
//! works, and which orderings it needs. What is written in one call may be read in several, and
//! the other way round. The end of the stream is [`Error::Closed`], after all was read.
//!
//! ```
//! use core::time::Duration;
//! use linipc_core::ring::{self, Error, Wait, bytes};
//!
//! let fd = bytes::create_memfd(c"example", 4096)?;
//! let mut producer = bytes::Producer::attach(ring::map(&fd)?)?;
//! let mut consumer = bytes::Consumer::attach(ring::map(&fd)?)?;
//! let wait = Wait::SPIN_THEN_SLEEP.timeout(Duration::from_secs(1));
//!
//! producer.write_all(b"hello, ", wait)?;
//! producer.write_all(b"world", wait)?;
//! drop(producer);
//!
//! let mut buf = [0; 5];
//! assert_eq!(consumer.read(&mut buf, wait), Ok(5));
//! assert_eq!(consumer.read(&mut buf, wait), Ok(5));
//! assert_eq!(consumer.read(&mut buf, wait), Ok(2));
//! assert_eq!(consumer.read(&mut buf, wait), Err(Error::Closed));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use core::ffi::CStr;

use super::{AttachError, Counters, Error, Memory, Peers, Wait, items};
use crate::fd::OwnedFd;

/// Room for bytes, to fill in place.
pub type Claim<'p, M> = items::Claim<'p, u8, M>;
/// Bytes that are read in place.
pub type Peek<'c, M> = items::Peek<'c, u8, M>;

/// The bytes of memory that a stream with `capacity` bytes needs.
///
/// # Errors
///
/// Those of [`items::len`].
pub fn len(capacity: u64) -> Result<usize, AttachError> {
    items::len::<u8>(capacity)
}

/// Makes a stream in memory. Whoever attached to what was there before must be gone.
///
/// # Errors
///
/// Those of [`items::create`].
pub fn create(memory: impl Memory, capacity: u64) -> Result<(), AttachError> {
    items::create::<u8>(memory, capacity)
}

/// A memfd with a stream in it, sealed so that its length stays.
///
/// # Errors
///
/// Those of [`items::create_memfd`].
pub fn create_memfd(name: &CStr, capacity: u64) -> Result<OwnedFd, AttachError> {
    items::create_memfd::<u8>(name, capacity)
}

/// The side that writes. It leaves, and so ends the stream, when it is dropped.
#[derive(Debug)]
pub struct Producer<M: Memory>(items::Producer<u8, M>);

/// The side that reads. It leaves when it is dropped.
#[derive(Debug)]
pub struct Consumer<M: Memory>(items::Consumer<u8, M>);

impl<M: Memory> Producer<M> {
    /// Attaches to a stream, in place of a dead producer if there is one: it goes on behind what that one
    /// has written.
    ///
    /// # Errors
    ///
    /// Those of [`items::Producer::attach`].
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        items::Producer::attach(memory).map(Self)
    }

    /// The bytes that the stream was made with.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The bytes of room.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`]: the consumer's position is none.
    pub fn free(&mut self) -> Result<usize, Error> {
        self.0.free()
    }

    /// What has been written since the stream was made; each byte counts as a message.
    pub fn counters(&mut self) -> Counters {
        self.0.counters()
    }

    /// Who is on the other side.
    pub fn peers(&self) -> Peers {
        self.0.peers()
    }

    /// Waits until somebody is on the other side: a new one, if the last has left or died.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: nobody came until the deadline of `wait`.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    pub fn wait_peer(&mut self, wait: Wait) -> Result<(), Error> {
        self.0.wait_peer(wait)
    }

    /// Writes as many of the bytes as there is room for; gives their number, at least 1 if there
    /// are any.
    ///
    /// # Errors
    ///
    /// - [`Error::Full`]: there is no room now.
    /// - [`Error::Closed`]: there is no room, and the consumer has left.
    /// - [`Error::Corrupt`]: the consumer's position is none.
    #[inline]
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.try_push_slice(bytes)
    }

    /// Writes as many of the bytes as there is room for, and waits for room for 1 at least, as `wait` says.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: there was no room until the deadline of `wait`.
    /// - [`Error::Closed`], [`Error::PeerDead`]: there is no room, and nobody to make some.
    /// - [`Error::Corrupt`]: the consumer's position is none.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    #[inline]
    pub fn write(&mut self, bytes: &[u8], wait: Wait) -> Result<usize, Error> {
        self.0.push_slice(bytes, wait)
    }

    /// Writes all of the bytes, and waits for room as `wait` says, whose deadline is for all of them.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::write`]. What was written before stays written.
    pub fn write_all(&mut self, mut bytes: &[u8], wait: Wait) -> Result<(), Error> {
        while !bytes.is_empty() {
            let written = self.write(bytes, wait)?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Waits until there is room for so many bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::write`]; [`Error::TooLong`]: they are more than the capacity.
    pub fn wait(&mut self, bytes: usize, wait: Wait) -> Result<(), Error> {
        self.0.wait(bytes, wait)
    }

    /// Prepares for poll(2) and its kin: [`items::Producer::arm`].
    ///
    /// # Errors
    ///
    /// Its.
    pub fn arm(&mut self, bytes: usize) -> Result<bool, Error> {
        self.0.arm(bytes)
    }

    /// What to write to when the consumer has armed.
    pub fn set_event(&mut self, event: OwnedFd) {
        self.0.set_event(event);
    }

    /// Room for up to `n` bytes that lie side by side, to fill in place: fewer if there is not more
    /// room, or where the ring ends, and at least 1 if `n` is. Dropping the claim gives it up.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_write`].
    #[inline]
    pub fn try_claim(&mut self, n: usize) -> Result<Claim<'_, M>, Error> {
        self.0.try_claim(n)
    }
}

impl<M: Memory> Consumer<M> {
    /// Attaches to a stream, in place of a dead consumer if there is one: it goes on behind what that one
    /// has read.
    ///
    /// # Errors
    ///
    /// Those of [`items::Consumer::attach`].
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        items::Consumer::attach(memory).map(Self)
    }

    /// The bytes that the stream was made with.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The bytes that are waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`]: the producer's position is none.
    #[allow(clippy::len_without_is_empty, reason = "it asks the other side")]
    pub fn len(&mut self) -> Result<usize, Error> {
        self.0.len()
    }

    /// What has been read since the stream was made; each byte counts as a message.
    pub fn counters(&mut self) -> Counters {
        self.0.counters()
    }

    /// Who is on the other side.
    pub fn peers(&self) -> Peers {
        self.0.peers()
    }

    /// Waits until somebody is on the other side (a new one, if the last has left or died), or there is
    /// something to read, of one that has left again.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: nobody came until the deadline of `wait`.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    pub fn wait_peer(&mut self, wait: Wait) -> Result<(), Error> {
        self.0.wait_peer(wait)
    }

    /// Reads as many bytes as there are and `buf` holds; gives their number, at least 1 if `buf`
    /// holds any.
    ///
    /// # Errors
    ///
    /// - [`Error::Empty`]: there are none now.
    /// - [`Error::Closed`]: the end of the stream.
    /// - [`Error::Corrupt`]: the producer's position is none.
    #[inline]
    pub fn try_read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        self.0.try_pop_slice(buf)
    }

    /// Reads as many bytes as there are and `buf` holds, and waits for 1 at least, as `wait` says.
    ///
    /// # Errors
    ///
    /// - [`Error::Closed`], [`Error::Corrupt`]: as of [`Consumer::try_read`].
    /// - [`Error::TimedOut`]: there was none until the deadline of `wait`.
    /// - [`Error::PeerDead`]: the producer has died, and all that it wrote was read.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    #[inline]
    pub fn read(&mut self, buf: &mut [u8], wait: Wait) -> Result<usize, Error> {
        self.0.pop_slice(buf, wait)
    }

    /// Waits until there is a byte.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::read`].
    pub fn wait(&mut self, wait: Wait) -> Result<(), Error> {
        self.0.wait(wait)
    }

    /// Prepares for poll(2) and its kin: [`items::Consumer::arm`].
    ///
    /// # Errors
    ///
    /// Its.
    pub fn arm(&mut self) -> Result<bool, Error> {
        self.0.arm()
    }

    /// What to write to when the producer has armed.
    pub fn set_event(&mut self, event: OwnedFd) {
        self.0.set_event(event);
    }

    /// Up to `n` bytes that lie side by side, to read in place: fewer if there are not more, or where
    /// the ring ends, and at least 1 if `n` is. They stay until they are released.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_read`].
    #[inline]
    pub fn try_peek(&mut self, n: usize) -> Result<Peek<'_, M>, Error> {
        self.0.try_peek(n)
    }
}
