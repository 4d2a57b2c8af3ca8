//! Event counters: a number in the kernel that one side adds to and the other takes.
//!
//! Mirrors eventfd(2) and `<sys/eventfd.h>`.
//!
//! ```
//! use linipc_core::event::eventfd::{self, Flags};
//!
//! let event = eventfd::create(0, Flags::NONBLOCK)?;
//! eventfd::write(&event, 2)?;
//! eventfd::write(&event, 3)?;
//! assert_eq!(eventfd::read(&event)?, 5);
//! assert_eq!(eventfd::read(&event), Err(linipc_core::Errno::AGAIN));
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - The counter says how often, not what: put the what into shared memory, before the write.
//! - With several readers each wake reaches one of them, and without [`Flags::SEMAPHORE`] that one
//!   takes all that has been added.
//! - Any holder can fill the counter, so that writers wait: make it non-blocking if the peer is
//!   not trusted, and take `AGAIN` of a write for success; the reader has a wake-up waiting.

use rustix::io::Errno;

use crate::fd::{AsFd, OwnedFd};
use crate::sys::{call, own};

pub use rustix::event::EventfdFlags as Flags;

/// The most that a counter holds.
pub const MAX: u64 = u64::MAX - 1;

/// `int eventfd(unsigned int initval, int flags)` with `EFD_CLOEXEC`: makes a counter.
///
/// # Errors
///
/// - `INVAL`: an unknown flag.
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system.
/// - `NOMEM`: the kernel is out of memory.
///
/// # References
///
/// - [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html)
#[inline]
#[doc(alias = "eventfd")]
pub fn create(initial: u32, flags: Flags) -> Result<OwnedFd, Errno> {
    let flags = (flags | Flags::CLOEXEC).bits();
    // SAFETY: The call takes no pointers.
    let fd = unsafe { call!(__NR_eventfd2, initial, flags) }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(fd) }
}

/// `int eventfd_read(int fd, eventfd_t *value)`: takes the counter, which becomes 0; with
/// [`Flags::SEMAPHORE`] takes 1. Waits while it is 0.
///
/// # Errors
///
/// - `AGAIN`: it is 0, and [`Flags::NONBLOCK`].
/// - `INTR`: a signal was caught while the call waited; nothing was taken.
/// - `INVAL`: not an eventfd.
///
/// # References
///
/// - [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html)
#[inline]
#[doc(alias = "eventfd_read")]
pub fn read(fd: impl AsFd) -> Result<u64, Errno> {
    super::read_count(fd)
}

/// `int eventfd_write(int fd, eventfd_t value)`: adds to the counter. Waits while the sum would be
/// above [`MAX`].
///
/// # Errors
///
/// - `AGAIN`: the sum would be above [`MAX`], and [`Flags::NONBLOCK`]. Nothing was added.
/// - `INVAL`: `value` is above [`MAX`].
/// - `INTR`: a signal was caught while the call waited; nothing was added.
///
/// # References
///
/// - [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html)
#[inline]
#[doc(alias = "eventfd_write")]
pub fn write(fd: impl AsFd, value: u64) -> Result<(), Errno> {
    rustix::io::write(fd, &value.to_ne_bytes())?;
    Ok(())
}
