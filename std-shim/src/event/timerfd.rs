//! Timers: a descriptor that becomes readable when a time has come.
//!
//! Built on [`linipc_core::event::timerfd`], which has the pitfalls.
//!
//! ```
//! use std::time::Duration;
//! use linipc::event::timerfd::{First, TimerFd};
//!
//! let tick = Duration::from_millis(1);
//! let timer = TimerFd::new()?;
//! timer.start(First::After(tick), Some(tick))?;
//! assert!(timer.wait()? >= 1);
//! assert!(timer.wait()? >= 1);
//! timer.stop()?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use linipc_core::event::poll::PollFlags;
use linipc_core::event::timerfd::{self as core, Flags};

pub use linipc_core::event::timerfd::{Clock, ClockId, First, Remaining, Timespec, clock_gettime};

use super::{descriptor, when_ready};
use crate::Deadline;

/// A timer.
#[derive(Debug)]
pub struct TimerFd(OwnedFd);

descriptor!(TimerFd);

impl TimerFd {
    /// A timer on the clock of [`Instant`](std::time::Instant), stopped.
    ///
    /// # Errors
    ///
    /// Those of timerfd_create(2).
    pub fn new() -> io::Result<Self> {
        Self::with_clock(Clock::Monotonic)
    }

    /// A timer on this clock, stopped.
    ///
    /// # Errors
    ///
    /// `PERM`: an alarm clock, and no `CAP_WAKE_ALARM`. Those of timerfd_create(2).
    pub fn with_clock(clock: Clock) -> io::Result<Self> {
        Ok(Self(core::create(clock, Flags::NONBLOCK)?))
    }

    /// Starts the timer, or starts it anew; comes again and again if there is an `interval`.
    ///
    /// # Errors
    ///
    /// - `INVAL`: a malformed time.
    /// - `CANCELED`: as for [`TimerFd::wait`]; the timer is started.
    pub fn start(&self, first: First, interval: Option<Duration>) -> io::Result<()> {
        Ok(core::start(self, first, interval)?)
    }

    /// Stops the timer, and forgets what was not waited for.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn stop(&self) -> io::Result<()> {
        Ok(core::stop(self)?)
    }

    /// How long until the timer is due.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn remaining(&self) -> io::Result<Remaining> {
        Ok(core::remaining(self)?)
    }

    /// Waits until the timer is due, for ever if it is stopped; gives how often it was since the
    /// last time.
    ///
    /// # Errors
    ///
    /// `CANCELED`: [`First::AtUnlessSet`], and the clock was set. The timer goes on.
    #[inline]
    pub fn wait(&self) -> io::Result<u64> {
        self.wait_deadline(Deadline::NEVER)
    }

    /// How often the timer was due since the last time.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): it was not. `CANCELED`: as for [`TimerFd::wait`].
    #[inline]
    pub fn try_wait(&self) -> io::Result<u64> {
        Ok(core::read(self)?)
    }

    /// Waits until the timer is due, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`). `CANCELED`: as for [`TimerFd::wait`].
    #[inline]
    pub fn wait_deadline(&self, deadline: impl Into<Deadline>) -> io::Result<u64> {
        when_ready(self.as_fd(), PollFlags::IN, deadline.into(), || {
            core::read(self)
        })
    }
}
