//! Many producers, one consumer: messages of 0 bytes to half of the capacity.
//!
//! Built on [`linipc_core::ring::mpsc`], which has the life of a message. A producer that is killed
//! holds nobody up for ever: what it had claimed and not committed is skipped.
//!
//! The ring is closed while nobody is attached of those who were. Who starts the producers keeps one of
//! its own until all have attached, so that it is not closed between two.
//!
//! ```
//! use linipc::ring::mpsc::{self, Consumer, Producer};
//!
//! let memfd = mpsc::create(4096)?;
//! let mut consumer = Consumer::attach(&memfd)?;
//! let first = Producer::attach(&memfd)?;
//! std::thread::scope(|scope| {
//!     for n in 0..4_u64 {
//!         let memfd = &memfd; // or processes
//!         scope.spawn(move || Producer::attach(memfd)?.push_value(&n));
//!     }
//! });
//! drop(first);
//! let mut sum = 0;
//! for _ in 0..4 {
//!     sum += consumer.pop_value::<u64>()?;
//! }
//! assert_eq!(sum, 6);
//! # Ok::<(), std::io::Error>(())
//! ```

use super::messages::{consume, create, handle, peers, produce, set_event};
use super::*;

pub use linipc_core::ring::mpsc::{Batch, Claim, Message, Messages, Peek};

create!(Mpsc);

handle! {
    /// One of those who write. When all are dropped, the ring is closed.
    mpsc::Producer
}

handle! {
    /// The side that reads. It closes when it is dropped.
    mpsc::Consumer
}

produce!(mpsc);
consume!(mpsc);

impl<M: Memory> Producer<M> {
    /// Copies messages in, the first ones for which there is room, and publishes them at once; gives
    /// how many.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_push`], for the first message.
    #[inline]
    pub fn try_push_all(&mut self, messages: &[&[u8]]) -> io::Result<usize> {
        self.0.try_push_all(messages).map_err(io_error)
    }

    /// Claims `room` bytes for a batch: messages that are published together. Each takes its length, 8
    /// bytes, and up to 7 more.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_push`]; the most room is half of the capacity and 8 bytes.
    #[inline]
    pub fn try_batch(&mut self, room: usize) -> io::Result<Batch<'_, M>> {
        self.0.try_batch(room).map_err(io_error)
    }
}

impl<M: Memory> Consumer<M> {
    set_event!();

    /// Begins a batch: messages that are released together.
    #[inline]
    pub fn batch(&mut self) -> Messages<'_, M> {
        self.0.batch()
    }
}
