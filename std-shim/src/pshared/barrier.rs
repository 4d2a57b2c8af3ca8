//! A barrier: each of a number of parties waits until all are there.
//!
//! Built on [`linipc_core::pshared::barrier`], which says what happens when a party dies.
//!
//! ```
//! use linipc::pshared::barrier::Barrier;
//!
//! let barrier = Barrier::create(2)?;
//! # std::thread::scope(|scope| {
//! // In another process, which got the descriptor, or in a thread:
//! let there = scope.spawn(|| barrier.join()?.wait());
//! let mut party = barrier.join()?;
//! let is_leader = party.wait()?;
//! assert_ne!(there.join().unwrap()?, is_leader); // one of them is it
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use linipc_core::pshared::barrier as core;
use linipc_core::shared::SharedBytes;

use super::owned::{At, Lock, Owned, handle, lock};
use super::{io_error, process};
use crate::futex::Until;
use crate::posix::shm::{OpenOptions, SharedMemory};

pub use linipc_core::pshared::barrier::PARTIES_MAX;

pub use super::{AttachError, Error, Mismatch};

lock!(core::Barrier, parties: u32);

/// A barrier, for 1 to [`PARTIES_MAX`] parties.
#[derive(Debug)]
#[doc(alias = "pthread_barrier_t")]
pub struct Barrier(Owned<At<core::Barrier>>);

handle!(Barrier, (parties: u32), ((parties,), ()));

impl Barrier {
    /// Becomes a party: in a place that is free, or in that of one who is dead.
    ///
    /// # Errors
    ///
    /// - `AGAIN` (`WouldBlock`): as many as there are to be have joined, and are alive.
    /// - `InvalidData` with [`Error::Corrupt`] or [`AttachError::NotFound`]: somebody has spoiled it.
    pub fn join(&self) -> io::Result<Party<'_>> {
        let barrier = self.0.words()?;
        barrier.join(process()?).map(Party).map_err(io_error)
    }
}

/// One of the parties. When it is dropped, it leaves, and those who wait then wait for a successor.
///
/// The copy of a child after fork(2) is none: the child joins itself.
#[derive(Debug)]
#[must_use = "it leaves when this is dropped"]
pub struct Party<'a>(core::Party<'a>);

impl Party<'_> {
    /// Waits until all parties are there; gives whether this one was the last, as one of them is.
    ///
    /// # Errors
    ///
    /// - `ConnectionReset` with [`Error::PeerDead`]: a party died, so not all will come. All who wait get
    ///   this, and who waits again waits for a successor.
    /// - `InvalidData` with [`Error::Corrupt`]: somebody has spoiled it.
    /// - `Other` with [`Error::Forked`]: this is the copy of the parent's.
    #[doc(alias = "pthread_barrier_wait")]
    pub fn wait(&mut self) -> io::Result<bool> {
        self.0.wait().map_err(io_error)
    }

    /// As [`Party::wait`], but not beyond the deadline. The others go on waiting.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Party::wait`].
    pub fn wait_deadline(&mut self, deadline: impl Into<Until>) -> io::Result<bool> {
        match deadline.into().get() {
            Some(deadline) => self.0.wait_deadline(deadline).map_err(io_error),
            None => self.wait(),
        }
    }
}
