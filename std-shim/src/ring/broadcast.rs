//! One producer, any number of consumers: each gets every message, or learns how many it missed.
//!
//! Built on [`linipc_core::ring::broadcast`], which has the life of a message. The producer never waits:
//! what a slow consumer has not read is overwritten, and its next call fails with [`Error::Missed`],
//! after which it goes on with one of the newest messages. A new consumer begins with what is
//! pushed from then on.
//!
//! ```
//! use linipc::ring::Error;
//! use linipc::ring::broadcast::{self, Consumer, Producer};
//!
//! let memfd = broadcast::create(1024)?;
//! let mut producer = Producer::attach(&memfd)?;
//! let mut consumers = [Consumer::attach(&memfd)?, Consumer::attach(&memfd)?]; // in other processes
//! producer.push(b"to all")?;
//! for consumer in &mut consumers {
//!     assert_eq!(consumer.pop_vec()?, b"to all");
//! }
//!
//! for number in 0..1000_u64 {
//!     producer.push_value(&number)?; // more than there is room for
//! }
//! let error = consumers[0].pop_value::<u64>().unwrap_err();
//! let Ok(Error::Missed { messages }) = error.downcast() else { panic!() };
//! assert_eq!(consumers[0].pop_value::<u64>()?, messages);
//! # Ok::<(), std::io::Error>(())
//! ```

use super::messages::{consume, create, handle, peers, set_event};
use super::*;

pub use linipc_core::ring::broadcast::{Batch, Claim, Peek};

create!(Broadcast);

handle! {
    /// The side that writes. It closes when it is dropped.
    broadcast::Producer
}

handle! {
    /// One of those who read. Nobody notices when it is dropped.
    ///
    /// Any call that takes a message may fail with [`Error::Missed`], of kind `Other`; and with
    /// `WouldBlock`, also if it is to wait, when the newest messages are overwritten faster than they are
    /// found.
    broadcast::Consumer
}

consume!(broadcast);

impl<M: Memory> Consumer<M> {
    /// Copies the next messages out, one behind the other: as many as there are and `buf` and `lens` hold,
    /// whose lengths are written to `lens`; gives how many, at least 1 if `lens` holds any.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_pop`], of the first message.
    pub fn try_pop_all(&mut self, buf: &mut [u8], lens: &mut [usize]) -> io::Result<usize> {
        self.0.try_pop_all(buf, lens).map_err(pop_error)
    }
}

impl<M: Memory> Producer<M> {
    set_event!();

    /// The length of the longest message: half of the capacity.
    #[inline]
    pub fn max_message(&self) -> usize {
        self.0.max_message()
    }

    /// Copies a message in.
    ///
    /// # Errors
    ///
    /// `InvalidInput` with [`Error::TooLong`]: above [`Self::max_message`].
    #[inline]
    pub fn push(&mut self, message: &[u8]) -> io::Result<()> {
        self.0.try_push(message).map_err(io_error)
    }

    /// Copies a plain value in as a message.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push`].
    #[inline]
    pub fn push_value<T: Plain>(&mut self, value: &T) -> io::Result<()> {
        self.0.try_push_value(value).map_err(io_error)
    }

    /// Room for a message of `len` bytes, to fill in place, then to commit. Dropping the claim gives
    /// it up.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push`].
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> io::Result<Claim<'_, M>> {
        self.0.try_claim(len).map_err(io_error)
    }

    /// Begins a batch: messages that are published together.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, M> {
        self.0.batch()
    }
}
