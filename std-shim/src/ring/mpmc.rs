//! Many producers, many consumers: each message goes to one of the consumers.
//!
//! Built on [`linipc_core::ring::mpmc`], which has the life of a message. What a consumer that is
//! killed had taken and not released goes to another one.
//!
//! ```
//! use linipc::ring::mpmc::{self, Consumer, Producer};
//!
//! let memfd = mpmc::create(4096)?;
//! let mut producer = Producer::attach(&memfd)?;
//! let mut workers = [Consumer::attach(&memfd)?, Consumer::attach(&memfd)?]; // in other processes
//! producer.push(b"one job")?;
//! producer.push(b"another")?;
//! for worker in &mut workers {
//!     assert_eq!(worker.pop_vec()?.len(), 7);
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

use super::messages::{consume, create, handle, peers, set_event};
use super::*;

pub use super::mpsc::Producer;
pub use linipc_core::ring::mpmc::{Batch, Claim, Message, Messages, Peek};

create!(Mpmc);

handle! {
    /// One of those who read. It leaves when it is dropped; when all have, the ring is closed.
    mpmc::Consumer
}

consume!(mpmc);

impl<M: Memory> Consumer<M> {
    set_event!();

    /// Takes up to `most` messages at once, at least one; or those that were taken before and not
    /// released. They are released together.
    ///
    /// # Errors
    ///
    /// Those of [`Self::try_pop`].
    #[inline]
    pub fn try_batch(&mut self, most: usize) -> io::Result<Messages<'_, M>> {
        self.0.try_batch(most).map_err(pop_error)
    }
}
