//! A semaphore: a counter that some raise and others wait for.
//!
//! Built on [`linipc_core::pshared::semaphore`]. For one that C programs have too, see
//! [`posix::sem`](crate::posix::sem).
//!
//! ```
//! use std::time::Duration;
//! use linipc::pshared::semaphore::Semaphore;
//!
//! let semaphore = Semaphore::create(1)?;
//! let elsewhere = Semaphore::attach(&semaphore)?; // in another process, which got the descriptor
//! elsewhere.wait()?;
//! assert!(semaphore.wait_deadline(Duration::from_millis(1)).is_err());
//! elsewhere.post()?;
//! assert_eq!(semaphore.value()?, 1);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use linipc_core::pshared::semaphore as core;
use linipc_core::shared::SharedBytes;

use super::io_error;
use super::owned::{At, Lock, Owned, handle, lock};
use crate::futex::Until;
use crate::posix::shm::{OpenOptions, SharedMemory};

pub use linipc_core::pshared::semaphore::VALUE_MAX;

pub use super::{AttachError, Error, Mismatch};

lock!(core::Semaphore, value: u32);

/// A semaphore. A new one has so many units, [`VALUE_MAX`] at most.
#[derive(Debug)]
#[doc(alias = "sem_t")]
pub struct Semaphore(Owned<At<core::Semaphore>>);

handle!(Semaphore, (value: u32), ((value,), ()));

impl Semaphore {
    /// Takes a unit; waits until there is one.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`AttachError::NotFound`]: somebody has spoiled it.
    #[inline]
    pub fn wait(&self) -> io::Result<()> {
        self.0.words()?.wait().map_err(io_error)
    }

    /// Takes a unit if there is one.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if there is none, and those of [`Semaphore::wait`].
    #[inline]
    pub fn try_wait(&self) -> io::Result<()> {
        self.0.words()?.try_wait().map_err(io_error)
    }

    /// Takes a unit; waits until there is one, but not beyond the deadline. One that is there is taken even
    /// if that has passed.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Semaphore::wait`].
    #[inline]
    pub fn wait_deadline(&self, deadline: impl Into<Until>) -> io::Result<()> {
        match deadline.into().get() {
            Some(deadline) => self.0.words()?.wait_deadline(deadline).map_err(io_error),
            None => self.wait(),
        }
    }

    /// Adds a unit, and wakes one who waits.
    ///
    /// # Errors
    ///
    /// `Other` with [`Error::Overflow`]: the value is [`VALUE_MAX`] already. Those of [`Semaphore::wait`].
    #[inline]
    pub fn post(&self) -> io::Result<()> {
        self.0.words()?.post().map_err(io_error)
    }

    /// Adds so many units at once, and wakes as many who wait.
    ///
    /// # Errors
    ///
    /// Those of [`Semaphore::post`]; then none is added.
    #[inline]
    pub fn post_many(&self, count: u32) -> io::Result<()> {
        self.0.words()?.post_many(count).map_err(io_error)
    }

    /// How many units there are, which may have changed already.
    ///
    /// # Errors
    ///
    /// Those of [`Semaphore::wait`].
    #[inline]
    pub fn value(&self) -> io::Result<u32> {
        Ok(self.0.words()?.value())
    }
}
