//! Signals as reads: a descriptor that gives the signals which a thread has blocked.
//!
//! Built on [`linipc_core::event::signalfd`], which has the pitfalls: make it before other threads
//! start.
//!
//! ```
//! use std::process::Command;
//! use linipc::event::signalfd::{Signal, SignalFd, SignalSet};
//!
//! let signals = SignalFd::block(SignalSet::EMPTY.with(Signal::CHILD))?;
//! let mut child = Command::new("true").spawn()?;
//! let info = signals.read()?;
//! assert_eq!((info.signal(), info.pid()), (Some(Signal::CHILD), child.id() as i32));
//! child.wait()?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use linipc_core::Errno;
use linipc_core::event::poll::PollFlags;
use linipc_core::event::signalfd::{self as core, Flags};

pub use linipc_core::event::signalfd::{
    Info, Signal, SignalSet, block, realtime, set_mask, unblock,
};

use super::{descriptor, when_ready};
use crate::Deadline;

/// A descriptor that gives signals.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

descriptor!(SignalFd);

impl SignalFd {
    /// Blocks these signals in the calling thread, and makes a descriptor that gives them.
    ///
    /// They stay blocked when the handle is dropped: to unblock a signal that is pending delivers
    /// it, which is for you to decide ([`unblock`]).
    ///
    /// # Errors
    ///
    /// Those of signalfd(2).
    pub fn block(set: SignalSet) -> io::Result<Self> {
        let fd = core::create(set, Flags::NONBLOCK)?;
        core::block(set)?;
        Ok(Self(fd))
    }

    /// Changes which signals the descriptor gives. Blocks these in the calling thread too, and
    /// unblocks none.
    ///
    /// # Errors
    ///
    /// `INVAL`: the handle was made from what is not a signalfd.
    pub fn set(&self, set: SignalSet) -> io::Result<()> {
        core::block(set)?;
        Ok(core::set(self, set)?)
    }

    /// Takes a signal; waits until there is one.
    ///
    /// # Errors
    ///
    /// `INVAL`: the handle was made from what is not a signalfd.
    #[inline]
    pub fn read(&self) -> io::Result<Info> {
        self.read_deadline(Deadline::NEVER)
    }

    /// Takes a signal if one is pending.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if none is.
    #[inline]
    pub fn try_read(&self) -> io::Result<Info> {
        Ok(self.read_one()?)
    }

    /// Takes a signal; waits until there is one, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`).
    #[inline]
    pub fn read_deadline(&self, deadline: impl Into<Deadline>) -> io::Result<Info> {
        when_ready(self.as_fd(), PollFlags::IN, deadline.into(), || {
            self.read_one()
        })
    }

    #[inline]
    fn read_one(&self) -> Result<Info, Errno> {
        let mut infos = [Info::default()];
        core::read(self, &mut infos)?;
        Ok(infos[0])
    }
}
