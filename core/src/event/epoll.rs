//! Waiting for many descriptors: the kernel keeps the list, and gives those that are ready.
//!
//! Mirrors epoll(7), epoll_create1(2), epoll_ctl(2) and epoll_wait(2). The calls are rustix's;
//! [`create`] differs in that the descriptor is close-on-exec.
//!
//! ```
//! use linipc_core::event::{epoll, eventfd};
//! use linipc_core::event::epoll::{Event, EventData, EventFlags};
//!
//! let event = eventfd::create(0, eventfd::Flags::NONBLOCK)?;
//! let epoll = epoll::create()?;
//! epoll::add(&epoll, &event, EventData::new_u64(7), EventFlags::IN)?;
//! eventfd::write(&event, 1)?;
//!
//! let mut ready = [epoll::NONE; 8];
//! assert_eq!(epoll::wait(&epoll, &mut ready, None)?, 1);
//! assert_eq!(ready[0].data.u64(), 7);
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! | flags | a ready descriptor is given |
//! |---|---|
//! | none | at every [`wait`], for as long as it is ready |
//! | [`ET`](EventFlags::ET) | once for each change: read or write until `AGAIN`, or it sleeps for ever |
//! | [`ONESHOT`](EventFlags::ONESHOT) | once, then not until [`modify`] |
//! | [`EXCLUSIVE`](EventFlags::EXCLUSIVE) | to one or a few of several epolls that wait, not to all; only [`add`] takes it, with few other flags |
//!
//! The errors of [`add`], [`modify`] and [`delete`]: `EXIST` (is in the list), `NOENT` (is not),
//! `PERM` (regular files and directories cannot be waited for), `INVAL` (the epoll itself; or not
//! an epoll; or flags that do not go together), `LOOP` (epolls that contain each other),
//! `NOSPC` (over `fs.epoll.max_user_watches`). Of [`wait`]: `INTR` (never restarted by the
//! kernel), `INVAL` (no room for events; or not an epoll).
//!
//! # Pitfalls
//!
//! - An entry belongs to the open file, not to the descriptor: closing the descriptor leaves it
//!   while a duplicate lives, also one in another process, and then nobody can remove it.
//!   [`delete`] before closing.
//! - The events given may be of an entry that was deleted since, if several threads wait.
//! - [`EventFlags::HUP`] and [`EventFlags::ERR`] come unasked.
//! - Timeouts are rounded up to milliseconds. For finer ones put a [`super::timerfd`] into the list.
//! - A [`super::signalfd`] in the list reports the signals of the process that added it.

use linux_raw_sys::general::EPOLL_CLOEXEC;
use rustix::io::Errno;

use crate::fd::OwnedFd;
use crate::sys::{call, own};

pub use rustix::event::Timespec;
pub use rustix::event::epoll::{Event, EventData, EventFlags, add, delete, modify, wait};

/// No event, to make room for some.
pub const NONE: Event = Event {
    flags: EventFlags::empty(),
    data: EventData::new_u64(0),
};

/// `int epoll_create1(int flags)` with `EPOLL_CLOEXEC`: makes an empty list.
///
/// # Errors
///
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system.
/// - `NOMEM`: the kernel is out of memory.
///
/// # References
///
/// - [epoll_create1(2)](https://man7.org/linux/man-pages/man2/epoll_create1.2.html)
#[inline]
#[doc(alias = "epoll_create1")]
pub fn create() -> Result<OwnedFd, Errno> {
    // SAFETY: The call takes no pointers.
    let fd = unsafe { call!(__NR_epoll_create1, EPOLL_CLOEXEC) }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(fd) }
}
