//! Waiting for a few descriptors at a time.
//!
//! Built on [`linipc_core::event::poll`], which has the pitfalls.
//!
//! ```
//! use std::io::Write;
//! use std::time::Duration;
//! use linipc::event::poll::{PollFd, PollFlags, poll};
//!
//! let (reader, mut writer) = std::io::pipe()?;
//! let mut fds = [PollFd::new(&reader, PollFlags::IN)];
//! assert_eq!(poll(&mut fds, Duration::ZERO)?, 0);
//! writer.write_all(b"x")?;
//! assert_eq!(poll(&mut fds, Duration::from_secs(10))?, 1);
//! assert_eq!(fds[0].revents(), PollFlags::IN);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;

use linipc_core::Errno;
use linipc_core::event::poll as core;
use linipc_core::event::poll::Timespec;

pub use linipc_core::event::poll::{PollFd, PollFlags};

use crate::Deadline;

/// Waits until one of the descriptors is ready, but not beyond the deadline; gives how many are, 0
/// at the deadline. What is ready is then in each [`PollFd::revents`].
///
/// # Errors
///
/// `INVAL`: a longer list than `RLIMIT_NOFILE`.
#[inline]
pub fn poll(fds: &mut [PollFd<'_>], deadline: impl Into<Deadline>) -> io::Result<usize> {
    let deadline = deadline.into();
    loop {
        match core::poll(fds, timeout(deadline).as_ref()) {
            Err(Errno::INTR) => {}
            ready => return Ok(ready?),
        }
    }
}

/// The time that is left, as the kernel takes it; what it cannot express is for ever.
pub(super) fn timeout(deadline: Deadline) -> Option<Timespec> {
    Timespec::try_from(deadline.remaining()?).ok()
}
