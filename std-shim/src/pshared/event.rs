//! An event: something has happened, and whoever waits for that goes on.
//!
//! Built on [`linipc_core::pshared::event`]. For one with a descriptor to poll, see
//! [`eventfd`](crate::event::eventfd).
//!
//! ```
//! use std::time::Duration;
//! use linipc::pshared::event::{Event, Reset};
//!
//! let ready = Event::create(Reset::Manual)?;
//! let elsewhere = Event::attach(&ready)?; // in another process, which got the descriptor
//! assert!(elsewhere.wait_deadline(Duration::from_millis(1)).is_err());
//! ready.set()?;
//! elsewhere.wait()?;
//! elsewhere.wait()?; // until somebody resets it
//! assert!(ready.reset()?);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use linipc_core::pshared::event as core;
use linipc_core::shared::SharedBytes;

use super::io_error;
use super::owned::{At, Lock, Owned, handle, lock};
use crate::futex::Until;
use crate::posix::shm::{OpenOptions, SharedMemory};

pub use linipc_core::pshared::event::Reset;

pub use super::{AttachError, Error, Mismatch};

lock!(core::Event, reset: Reset);

/// An event. A new one is not set.
#[derive(Debug)]
#[doc(alias = "CreateEvent")]
pub struct Event(Owned<At<core::Event>>);

handle!(Event, (reset: Reset), ((reset,), ()));

impl Event {
    /// Sets it, and wakes one who waits, or all if it is reset by hand.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`AttachError::NotFound`]: somebody has spoiled it.
    #[inline]
    #[doc(alias = "SetEvent")]
    pub fn set(&self) -> io::Result<()> {
        self.0.words()?.set();
        Ok(())
    }

    /// Takes back that it is set; whether it was.
    ///
    /// # Errors
    ///
    /// Those of [`Event::set`].
    #[inline]
    #[doc(alias = "ResetEvent")]
    pub fn reset(&self) -> io::Result<bool> {
        Ok(self.0.words()?.reset())
    }

    /// Whether it is set, which may have changed already.
    ///
    /// # Errors
    ///
    /// Those of [`Event::set`].
    #[inline]
    pub fn is_set(&self) -> io::Result<bool> {
        Ok(self.0.words()?.is_set())
    }

    /// Waits until it is set, and resets it if it does that by itself.
    ///
    /// # Errors
    ///
    /// Those of [`Event::set`].
    #[inline]
    pub fn wait(&self) -> io::Result<()> {
        self.0.words()?.wait().map_err(io_error)
    }

    /// As [`Event::wait`], if it is set.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if it is not, and those of [`Event::set`].
    #[inline]
    pub fn try_wait(&self) -> io::Result<()> {
        self.0.words()?.try_wait().map_err(io_error)
    }

    /// As [`Event::wait`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Event::set`].
    #[inline]
    pub fn wait_deadline(&self, deadline: impl Into<Until>) -> io::Result<()> {
        match deadline.into().get() {
            Some(deadline) => self.0.words()?.wait_deadline(deadline).map_err(io_error),
            None => self.wait(),
        }
    }
}
