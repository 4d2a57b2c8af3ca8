//! Event counters: a number in the kernel that one side adds to and the other takes.
//!
//! Built on [`linipc_core::event::eventfd`], which has the pitfalls.
//!
//! ```
//! use linipc::event::eventfd::EventFd;
//!
//! let event = EventFd::new(0)?;
//! event.add(2)?;
//! event.add(3)?;
//! assert_eq!(event.take()?, 5);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use linipc_core::event::eventfd::{self as core, Flags};
use linipc_core::event::poll::PollFlags;

pub use linipc_core::event::eventfd::MAX;

use super::{descriptor, when_ready};
use crate::Deadline;

/// An event counter.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

descriptor!(EventFd);

impl EventFd {
    /// A counter of which a take gives all.
    ///
    /// # Errors
    ///
    /// Those of eventfd(2).
    pub fn new(initial: u32) -> io::Result<Self> {
        Ok(Self(core::create(initial, Flags::NONBLOCK)?))
    }

    /// A counter of which a take gives 1: so many takes succeed as were added.
    ///
    /// # Errors
    ///
    /// Those of eventfd(2).
    pub fn semaphore(initial: u32) -> io::Result<Self> {
        let flags = Flags::NONBLOCK | Flags::SEMAPHORE;
        Ok(Self(core::create(initial, flags)?))
    }

    /// Another handle of the same counter.
    ///
    /// # Errors
    ///
    /// `MFILE`, `NFILE`: no descriptor is free.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Adds to the counter; waits while the sum would be above [`MAX`].
    ///
    /// # Errors
    ///
    /// `INVAL`: `count` is above [`MAX`].
    #[inline]
    pub fn add(&self, count: u64) -> io::Result<()> {
        self.add_deadline(count, Deadline::NEVER)
    }

    /// Adds to the counter, if the sum is not above [`MAX`].
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if it would be; nothing was added. `INVAL`: `count` is above [`MAX`].
    #[inline]
    pub fn try_add(&self, count: u64) -> io::Result<()> {
        Ok(core::write(self, count)?)
    }

    /// Adds to the counter; waits while the sum would be above [`MAX`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`EventFd::add`].
    #[inline]
    pub fn add_deadline(&self, count: u64, deadline: impl Into<Deadline>) -> io::Result<()> {
        when_ready(self.as_fd(), PollFlags::OUT, deadline.into(), || {
            core::write(self, count)
        })
    }

    /// Takes the counter, or 1 of a semaphore; waits while it is 0.
    ///
    /// # Errors
    ///
    /// `INVAL`: the handle was made from what is not an eventfd.
    #[inline]
    pub fn take(&self) -> io::Result<u64> {
        self.take_deadline(Deadline::NEVER)
    }

    /// Takes the counter, or 1 of a semaphore, if it is not 0.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if it is.
    #[inline]
    pub fn try_take(&self) -> io::Result<u64> {
        Ok(core::read(self)?)
    }

    /// Takes the counter, or 1 of a semaphore; waits while it is 0, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`).
    #[inline]
    pub fn take_deadline(&self, deadline: impl Into<Deadline>) -> io::Result<u64> {
        when_ready(self.as_fd(), PollFlags::IN, deadline.into(), || {
            core::read(self)
        })
    }
}
