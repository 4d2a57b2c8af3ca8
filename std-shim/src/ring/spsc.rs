//! One producer, one consumer: messages of 0 bytes to half of the capacity.
//!
//! Built on [`linipc_core::ring::spsc`], which has the life of a message.
//!
//! ```
//! use linipc::ring::spsc::{self, Consumer, Producer};
//!
//! let memfd = spsc::create(4096)?;
//! let mut producer = Producer::attach(&memfd)?;
//! let mut consumer = Consumer::attach(&memfd)?; // in another process
//!
//! producer.push(b"hello")?;
//! assert_eq!(consumer.pop_vec()?, b"hello");
//!
//! // In place.
//! let mut claim = producer.try_claim(5)?;
//! claim.write(0, b"world")?;
//! claim.commit();
//!
//! // Several at once.
//! let mut batch = producer.batch();
//! batch.try_push(b"one")?;
//! batch.try_push(b"two")?;
//! batch.commit();
//! let mut batch = consumer.batch();
//! let mut lengths = Vec::new();
//! while let Ok(message) = batch.try_next() {
//!     lengths.push(message.len());
//! }
//! batch.release();
//! assert_eq!(lengths, [5, 3, 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::messages::{consume, create, handle, peers, produce, set_event};
use super::*;

pub use linipc_core::ring::spsc::{Batch, Claim, Message, Messages, Peek};

create!(Spsc);

handle! {
    /// The side that writes. It closes when it is dropped.
    spsc::Producer
}

handle! {
    /// The side that reads. It closes when it is dropped.
    spsc::Consumer
}

produce!(spsc);
consume!(spsc);

impl<M: Memory> Producer<M> {
    /// Begins a batch: messages that are published together.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, M> {
        self.0.batch()
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
