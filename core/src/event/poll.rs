//! Waiting for a few descriptors at a time.
//!
//! Mirrors poll(2), ppoll(2). The call is rustix's.
//!
//! ```
//! use linipc_core::event::poll::{PollFd, PollFlags, Timespec, poll};
//! use linipc_core::io;
//!
//! let (reader, writer) = linipc_core::pipe::pipe()?;
//! let mut fds = [
//!     PollFd::new(&reader, PollFlags::IN),
//!     PollFd::new(&writer, PollFlags::OUT),
//! ];
//! let at_once = Timespec::default();
//! assert_eq!(poll(&mut fds, Some(&at_once))?, 1);
//! assert_eq!(fds[1].revents(), PollFlags::OUT);
//! io::write(&writer, b"x")?;
//! assert_eq!(poll(&mut fds, None)?, 2);
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! [`poll`] gives how many of the list are ready, 0 when the timeout has passed; `None` waits for
//! ever. Its errors are `INTR` (a signal was caught; never restarted by the kernel), `INVAL` (a
//! malformed timeout, or a list longer than `RLIMIT_NOFILE`) and `NOMEM`.
//!
//! # Pitfalls
//!
//! - `HUP` and `ERR` come unasked, and do not go away: whoever ignores them spins.
//! - A descriptor that is ready may not be any more when it is read, if others read it too. Make it
//!   non-blocking.
//! - Regular files are always ready.
//! - The timeout is the time from the call on: compute it anew after `INTR`.
//! - The list is gone through at every call; for hundreds of descriptors use [`super::epoll`].

pub use rustix::event::{PollFd, PollFlags, Timespec, poll};
