//! One producer, one consumer: plain values of one type, one by one or in slices. The fastest ring for
//! small ones.
//!
//! Built on [`linipc_core::ring::items`], which has the life of an item.
//!
//! ```
//! use linipc::ring::items::{self, Consumer, Producer};
//!
//! let memfd = items::create::<[f32; 3]>(256)?;
//! let mut producer = Producer::<[f32; 3]>::attach(&memfd)?;
//! let mut consumer = Consumer::<[f32; 3]>::attach(&memfd)?; // in another process
//!
//! producer.push(&[1.0, 2.0, 3.0])?;
//! assert_eq!(consumer.pop()?, [1.0, 2.0, 3.0]);
//!
//! let sent = producer.push_slice(&[[0.5; 3]; 300])?;
//! let mut got = [[0.0; 3]; 100];
//! assert_eq!((sent, consumer.pop_slice(&mut got)?), (256, 100));
//! # Ok::<(), std::io::Error>(())
//! ```

use super::messages::{handle, peers, set_event};
use super::*;

pub use linipc_core::ring::items::{Claim, Peek};

/// Memory with a ring for `capacity` items in it that nobody can cut off: a memfd, for those who get
/// the descriptor.
///
/// # Errors
///
/// - `InvalidInput` with [`AttachError::Capacity`]: not a power of two, or more than 2 GiB (on 32 bit 1 GiB).
/// - `NOSPC`, `MFILE`: no memory, or no descriptor.
pub fn create<T: Plain>(capacity: u64) -> io::Result<Memfd> {
    let memory = core::items::create_memfd::<T>(c"linipc-ring", capacity);
    memory.map(Memfd::from).map_err(attach_error)
}

/// A POSIX segment with a ring for `capacity` items in it: as [`spsc::open_named`].
///
/// # Errors
///
/// Those of [`create`] and of [`OpenOptions::open`].
pub fn open_named<T: Plain>(
    name: impl AsRef<Path>,
    capacity: u64,
    options: &OpenOptions,
) -> io::Result<SharedMemory> {
    let len = core::items::len::<T>(capacity);
    named(name.as_ref(), len, options, |memory| {
        core::items::create::<T>(memory, capacity)
    })
}

handle! {
    /// The side that writes. It closes when it is dropped.
    items::Producer<T>
}

handle! {
    /// The side that reads. It closes when it is dropped.
    items::Consumer<T>
}

impl<T: Plain, M: Memory> Producer<T, M> {
    peers!();
    set_event!();

    /// The items for which there is room.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`Error::Corrupt`].
    pub fn free(&mut self) -> io::Result<usize> {
        self.0.free().map_err(io_error)
    }

    /// Copies an item in; waits for room.
    ///
    /// # Errors
    ///
    /// - `BrokenPipe` with [`Error::Closed`], `ConnectionReset` with [`Error::PeerDead`]: there is no
    ///   room, and nobody to make some.
    /// - `InvalidData` with [`Error::Corrupt`].
    #[inline]
    pub fn push(&mut self, item: &T) -> io::Result<()> {
        self.push_wait(item, Wait::SPIN_THEN_SLEEP)
    }

    /// Copies an item in, if there is room.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if not, and those of [`Self::push`].
    #[inline]
    pub fn try_push(&mut self, item: &T) -> io::Result<()> {
        self.0.try_push(item).map_err(io_error)
    }

    /// Copies an item in; waits for room, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TimedOut`, and those of [`Self::push`].
    #[inline]
    pub fn push_deadline(&mut self, item: &T, deadline: impl Into<Deadline>) -> io::Result<()> {
        self.push_wait(item, until(deadline))
    }

    /// Copies an item in; waits for room as `wait` says.
    ///
    /// # Errors
    ///
    /// `TimedOut` if `wait` has a deadline, and those of [`Self::push`].
    #[inline]
    pub fn push_wait(&mut self, item: &T, wait: Wait) -> io::Result<()> {
        retry(|| self.0.push(item, wait)).map_err(io_error)
    }

    /// Copies as many items in as there is room for, and publishes them together; gives their number.
    /// Waits for room for one at least.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push`].
    #[inline]
    pub fn push_slice(&mut self, items: &[T]) -> io::Result<usize> {
        self.push_slice_wait(items, Wait::SPIN_THEN_SLEEP)
    }

    /// Copies as many items in as there is room for, if there is room for one at least.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_push`].
    #[inline]
    pub fn try_push_slice(&mut self, items: &[T]) -> io::Result<usize> {
        self.0.try_push_slice(items).map_err(io_error)
    }

    /// Copies as many items in as there is room for; waits for room for one at least, but not beyond
    /// the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push_deadline`].
    #[inline]
    pub fn push_slice_deadline(
        &mut self,
        items: &[T],
        deadline: impl Into<Deadline>,
    ) -> io::Result<usize> {
        self.push_slice_wait(items, until(deadline))
    }

    /// Copies as many items in as there is room for; waits for room for one at least, as `wait` says.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push_wait`].
    #[inline]
    pub fn push_slice_wait(&mut self, items: &[T], wait: Wait) -> io::Result<usize> {
        retry(|| self.0.push_slice(items, wait)).map_err(io_error)
    }

    /// Waits until there is room for so many items.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push_wait`]; `InvalidInput` with [`Error::TooLong`]: more than the capacity.
    pub fn wait(&mut self, items: usize, wait: Wait) -> io::Result<()> {
        retry(|| self.0.wait(items, wait)).map_err(io_error)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no room yet for so many items, so that the
    /// consumer will write to its event ([`Consumer::set_event`]) when there is more. It may not be
    /// enough, so arm again.
    ///
    /// # Errors
    ///
    /// Those of [`Self::wait`]; `NOSYS`, without membarrier(2).
    pub fn arm(&mut self, items: usize) -> io::Result<bool> {
        self.0.arm(items).map_err(io_error)
    }

    /// Room for up to `n` items that lie side by side, at least 1 if `n` is; to fill in place, then to
    /// commit. Dropping the claim gives it up.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_push`].
    #[inline]
    pub fn try_claim(&mut self, n: usize) -> io::Result<Claim<'_, T, M>> {
        self.0.try_claim(n).map_err(io_error)
    }
}

#[allow(
    clippy::len_without_is_empty,
    reason = "it asks the other side, and may fail"
)]
impl<T: Plain, M: Memory> Consumer<T, M> {
    peers!();
    set_event!();

    /// How many items there are.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`Error::Corrupt`].
    pub fn len(&mut self) -> io::Result<usize> {
        self.0.len().map_err(pop_error)
    }

    /// The next item; waits for it.
    ///
    /// # Errors
    ///
    /// - `UnexpectedEof` with [`Error::Closed`]: the producer has left, and all is read.
    /// - `ConnectionReset` with [`Error::PeerDead`]: it has died, and all is read.
    /// - `InvalidData` with [`Error::Corrupt`].
    #[inline]
    pub fn pop(&mut self) -> io::Result<T> {
        self.pop_wait(Wait::SPIN_THEN_SLEEP)
    }

    /// The next item, if there is one.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if not, and those of [`Self::pop`].
    #[inline]
    pub fn try_pop(&mut self) -> io::Result<T> {
        self.0.try_pop().map_err(pop_error)
    }

    /// The next item; waits for it, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TimedOut`, and those of [`Self::pop`].
    #[inline]
    pub fn pop_deadline(&mut self, deadline: impl Into<Deadline>) -> io::Result<T> {
        self.pop_wait(until(deadline))
    }

    /// The next item; waits for it as `wait` says.
    ///
    /// # Errors
    ///
    /// `TimedOut` if `wait` has a deadline, and those of [`Self::pop`].
    #[inline]
    pub fn pop_wait(&mut self, wait: Wait) -> io::Result<T> {
        retry(|| self.0.pop(wait)).map_err(pop_error)
    }

    /// Copies as many items out as there are and `to` holds, and gives their number. Waits for one at
    /// least.
    ///
    /// # Errors
    ///
    /// Those of [`Self::pop`].
    #[inline]
    pub fn pop_slice(&mut self, to: &mut [T]) -> io::Result<usize> {
        self.pop_slice_wait(to, Wait::SPIN_THEN_SLEEP)
    }

    /// Copies as many items out as there are and `to` holds, if there is one at least.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_pop`].
    #[inline]
    pub fn try_pop_slice(&mut self, to: &mut [T]) -> io::Result<usize> {
        self.0.try_pop_slice(to).map_err(pop_error)
    }

    /// Copies as many items out as there are and `to` holds; waits for one at least, but not beyond
    /// the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`Self::pop_deadline`].
    #[inline]
    pub fn pop_slice_deadline(
        &mut self,
        to: &mut [T],
        deadline: impl Into<Deadline>,
    ) -> io::Result<usize> {
        self.pop_slice_wait(to, until(deadline))
    }

    /// Copies as many items out as there are and `to` holds; waits for one at least, as `wait` says.
    ///
    /// # Errors
    ///
    /// Those of [`Self::pop_wait`].
    #[inline]
    pub fn pop_slice_wait(&mut self, to: &mut [T], wait: Wait) -> io::Result<usize> {
        retry(|| self.0.pop_slice(to, wait)).map_err(pop_error)
    }

    /// Waits until there is an item.
    ///
    /// # Errors
    ///
    /// Those of [`Self::pop_wait`].
    pub fn wait(&mut self, wait: Wait) -> io::Result<()> {
        retry(|| self.0.wait(wait)).map_err(pop_error)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no item yet, so that the producer will
    /// write to its event ([`Producer::set_event`]) when there is.
    ///
    /// # Errors
    ///
    /// Those of [`Self::pop`]; `NOSYS`, without membarrier(2).
    pub fn arm(&mut self) -> io::Result<bool> {
        self.0.arm().map_err(pop_error)
    }

    /// Up to `n` items that lie side by side, at least 1 if `n` is; to read in place, then to release.
    /// Dropping the peek leaves them.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_pop`].
    #[inline]
    pub fn try_peek(&mut self, n: usize) -> io::Result<Peek<'_, T, M>> {
        self.0.try_peek(n).map_err(pop_error)
    }
}
