//! Notification: waiting for events, many at a time, as descriptors.
//!
//! Built on [`linipc_core::event`]. The handles own their descriptor, and convert from and to
//! [`OwnedFd`](std::os::fd::OwnedFd) to be sent or stored.
//!
//! ```
//! use std::time::Duration;
//! use linipc::event::eventfd::EventFd;
//! use linipc::event::poll::{PollFd, PollFlags, poll};
//! use linipc::event::timerfd::{First, TimerFd};
//!
//! // Whichever comes first: a wake-up, or a time.
//! let (wake, timer) = (EventFd::new(0)?, TimerFd::new()?);
//! timer.start(First::After(Duration::from_secs(60)), None)?;
//! std::thread::scope(|scope| {
//!     scope.spawn(|| wake.add(1));
//!     let mut fds = [PollFd::new(&wake, PollFlags::IN), PollFd::new(&timer, PollFlags::IN)];
//!     poll(&mut fds, Duration::from_secs(120))?;
//!     assert_eq!(fds[0].revents(), PollFlags::IN);
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Which to use
//!
//! | to wait for | use |
//! |---|---|
//! | "look again", from a thread or a process | [`EventFd::new`](eventfd::EventFd::new) |
//! | permits, one taker each | [`EventFd::semaphore`](eventfd::EventFd::semaphore) |
//! | a signal | [`SignalFd`](signalfd::SignalFd) |
//! | a time, once or again and again | [`TimerFd`](timerfd::TimerFd) |
//! | the end of a process, child or not | [`PidFd`](pidfd::PidFd) |
//! | a few of these, or of sockets, pipes, FIFOs, POSIX queues | [`poll()`](poll::poll()) |
//! | many of them | [`Epoll`](epoll::Epoll) |
//! | a word of shared memory | [`crate::futex`], which no descriptor stands for |
//!
//! # Non-blocking inside
//!
//! What a handle makes is non-blocking in the kernel, and the handle waits with poll(2); so its
//! descriptor can be put into an event loop as it is. A descriptor that comes from elsewhere is
//! used as it is: if it is blocking, the try and deadline forms can wait, too. Make it non-blocking
//! with [`set_nonblocking`] before.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use linipc_core::Errno;
use linipc_core::event::poll::{PollFd, PollFlags};
use linipc_core::io::ioctl_fionbio;

use crate::Deadline;

pub mod epoll;
pub mod eventfd;
pub mod pidfd;
pub mod poll;
pub mod signalfd;
pub mod timerfd;

/// The conversions of a handle that is a descriptor and nothing else.
macro_rules! descriptor {
    ($handle:ident) => {
        impl std::os::fd::AsFd for $handle {
            #[inline]
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(&self.0)
            }
        }

        impl std::os::fd::AsRawFd for $handle {
            #[inline]
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&self.0)
            }
        }

        impl From<$handle> for std::os::fd::OwnedFd {
            fn from(handle: $handle) -> Self {
                handle.0
            }
        }

        impl From<std::os::fd::OwnedFd> for $handle {
            /// Nothing is checked before it is used.
            fn from(fd: std::os::fd::OwnedFd) -> Self {
                Self(fd)
            }
        }
    };
}
use descriptor;

/// Whether reads, writes and the like of a descriptor fail with `WouldBlock` instead of waiting. This
/// is a property of the open file, shared with all duplicates of the descriptor.
///
/// # Errors
///
/// None in practice.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    Ok(ioctl_fionbio(fd, nonblocking)?)
}

/// Makes `attempt` until it does not fail with `AGAIN`; before each new one waits for `events`.
#[inline]
fn when_ready<T>(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<T, Errno>,
) -> io::Result<T> {
    loop {
        match attempt() {
            Err(Errno::AGAIN) => wait_ready(fd, events, deadline)?,
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Waits until `fd` is ready for `events`; `TIMEDOUT` at the deadline.
fn wait_ready(fd: impl AsFd, events: PollFlags, deadline: Deadline) -> io::Result<()> {
    let mut fds = [PollFd::new(&fd, events)];
    match poll::poll(&mut fds, deadline)? {
        0 => Err(Errno::TIMEDOUT.into()),
        _ => Ok(()),
    }
}
