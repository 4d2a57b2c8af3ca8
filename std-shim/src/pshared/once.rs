//! Something that is done once, by whichever process comes first.
//!
//! Built on [`linipc_core::pshared::once`]. The one that does it may be killed: then the next one does it,
//! and is told.
//!
//! ```
//! use linipc::pshared::once::Once;
//!
//! let once = Once::create()?;
//! let elsewhere = Once::attach(&once)?; // in another process, which got the descriptor
//! # let mut calls = 0;
//! for once in [&once, &elsewhere] {
//!     once.call_once(|has_died_before| {
//!         // What one that died before has made may be half done.
//!         assert!(!has_died_before);
//! #       calls += 1;
//!     })?;
//! }
//! # assert_eq!(calls, 1);
//! assert!(elsewhere.is_done()?);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Pitfalls
//!
//! - A process that calls it again while it does it waits for itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use linipc_core::pshared::once as core;
use linipc_core::shared::SharedBytes;

use super::owned::{At, Lock, Owned, handle, lock};
use super::{io_error, process};
use crate::futex::Until;
use crate::posix::shm::{OpenOptions, SharedMemory};

pub use linipc_core::pshared::once::{Begin, Initialiser};

pub use super::{AttachError, Error, Mismatch};

lock!(core::Once);

/// What is done once. A new one is not done.
#[derive(Debug)]
#[doc(alias = "pthread_once_t")]
pub struct Once(Owned<At<core::Once>>);

handle!(Once, (), ((), ()));

impl Once {
    /// Calls `initialise`, if nobody has done that; waits as long as another one does it. `initialise` is
    /// told whether one that began before was killed. If it panics, the next one that comes does it.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`AttachError::NotFound`]: somebody has spoiled it.
    #[inline]
    #[doc(alias = "pthread_once")]
    pub fn call_once(&self, initialise: impl FnOnce(bool)) -> io::Result<()> {
        if let Begin::First(initialiser) = self.begin()? {
            initialise(initialiser.has_died_before());
            initialiser.complete();
        }
        Ok(())
    }

    /// Finds that it is done, or begins to do it; waits as long as another one does.
    ///
    /// # Errors
    ///
    /// Those of [`Once::call_once`].
    #[inline]
    pub fn begin(&self) -> io::Result<Begin<'_>> {
        self.0.words()?.begin(process()?).map_err(io_error)
    }

    /// The same, but does not wait.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): another one is doing it; and those of [`Once::call_once`].
    #[inline]
    pub fn try_begin(&self) -> io::Result<Begin<'_>> {
        self.0.words()?.try_begin(process()?).map_err(io_error)
    }

    /// The same, but does not wait beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Once::call_once`].
    #[inline]
    pub fn begin_deadline(&self, deadline: impl Into<Until>) -> io::Result<Begin<'_>> {
        match deadline.into().get() {
            Some(deadline) => {
                let begin = self.0.words()?.begin_deadline(process()?, deadline);
                begin.map_err(io_error)
            }
            None => self.begin(),
        }
    }

    /// Whether it is done. Then what was done is visible.
    ///
    /// # Errors
    ///
    /// Those of [`Once::call_once`].
    #[inline]
    pub fn is_done(&self) -> io::Result<bool> {
        Ok(self.0.words()?.is_done())
    }
}
