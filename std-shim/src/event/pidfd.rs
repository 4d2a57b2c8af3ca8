//! Processes as descriptors: to signal, to wait for, to take a descriptor from, never mistaken.
//!
//! Built on [`linipc_core::event::pidfd`], which has the pitfalls.
//!
//! ```
//! use std::process::Command;
//! use std::time::Duration;
//! use linipc::event::pidfd::{PidFd, Signal};
//!
//! let child = Command::new("sleep").arg("1000").spawn()?;
//! let process = PidFd::try_from(&child)?;
//! assert!(!process.has_ended()?);
//! process.send_signal(Signal::TERM)?;
//! let status = process.wait_deadline(Duration::from_secs(60))?;
//! assert!(!status.success());
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use linipc_core::Errno;
use linipc_core::event::pidfd::{self as core, Flags, WaitIdOptions, WaitIdStatus};
use linipc_core::event::poll::PollFlags;

pub use linipc_core::event::pidfd::{Identity, Pid, Signal};

use super::{descriptor, wait_ready, when_ready};
use crate::Deadline;

/// A process.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

descriptor!(PidFd);

impl PidFd {
    /// The process that has this id now.
    ///
    /// # Errors
    ///
    /// `SRCH`: there is none. `INVAL`, `NOENT`: the id is a thread's. Those of pidfd_open(2).
    pub fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self(core::open(pid, Flags::empty())?))
    }

    /// The process that has this identity.
    ///
    /// # Errors
    ///
    /// `SRCH`: it is gone, whoever has its id now.
    pub fn open_identity(identity: Identity) -> io::Result<Self> {
        Ok(Self(core::open_identity(identity)?))
    }

    /// Its id.
    ///
    /// # Errors
    ///
    /// `SRCH`: it has ended and was waited for, or has no id in this PID namespace.
    pub fn pid(&self) -> io::Result<Pid> {
        Ok(core::pid(self)?)
    }

    /// Its id and when it was started: what to write down, to find it later.
    ///
    /// # Errors
    ///
    /// Those of [`PidFd::pid`]; `ACCESS`, `NOENT`: `/proc` does not show it.
    pub fn identity(&self) -> io::Result<Identity> {
        Ok(core::identity(self)?)
    }

    /// Whether it has ended, whether or not its parent has waited for it.
    ///
    /// # Errors
    ///
    /// None in practice.
    #[inline]
    pub fn has_ended(&self) -> io::Result<bool> {
        Ok(core::has_ended(self)?)
    }

    /// Waits for the end of any process, but not beyond the deadline. A child is still to be waited
    /// for after this.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`).
    pub fn wait_ended(&self, deadline: impl Into<Deadline>) -> io::Result<()> {
        wait_ready(self, PollFlags::IN, deadline.into())
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// `SRCH`: it has ended and was waited for. `PERM`: no permission.
    #[inline]
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        Ok(core::send_signal(self, signal)?)
    }

    /// Waits for the end of a child. It is then gone: [`Child::wait`] fails after this.
    ///
    /// # Errors
    ///
    /// `CHILD`: it is not a child of this process, or was waited for already.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        self.wait_deadline(Deadline::NEVER)
    }

    /// How a child has ended; `None` if it has not.
    ///
    /// # Errors
    ///
    /// Those of [`PidFd::wait`].
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        Ok(core::wait(self, options)?.map(|status| exit_status(&status)))
    }

    /// Waits for the end of a child, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`PidFd::wait`].
    pub fn wait_deadline(&self, deadline: impl Into<Deadline>) -> io::Result<ExitStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        when_ready(self.as_fd(), PollFlags::IN, deadline.into(), || {
            let status = core::wait(self, options)?.ok_or(Errno::AGAIN)?;
            Ok(exit_status(&status))
        })
    }

    /// Duplicates descriptor `number` of the process into this one.
    ///
    /// # Errors
    ///
    /// - `PERM`: no permission to trace it. `SRCH`: it has ended.
    /// - `BADF`: it has no such descriptor.
    pub fn get_fd(&self, number: RawFd) -> io::Result<OwnedFd> {
        Ok(core::get_fd(self, number)?)
    }
}

impl TryFrom<&Child> for PidFd {
    type Error = io::Error;

    /// The child, which must not have been waited for.
    ///
    /// # Errors
    ///
    /// `SRCH`, `CHILD`: it was, so that its id is nobody's or another's. Those of pidfd_open(2).
    fn try_from(child: &Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = Self::open(pid.ok_or(Errno::SRCH)?)?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        core::wait(&process, look)?;
        Ok(process)
    }
}

/// The status in the form of wait(2).
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    const DUMPED: i32 = 0x80;
    let signal = status.terminating_signal().unwrap_or(0);
    let dumped = if status.dumped() { DUMPED } else { 0 };
    ExitStatus::from_raw(status.exit_status().unwrap_or(0) << 8 | signal | dumped)
}
