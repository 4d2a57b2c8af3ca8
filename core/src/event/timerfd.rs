//! Timers: a descriptor that becomes readable when a time has come.
//!
//! Mirrors timerfd_create(2) and `<sys/timerfd.h>`.
//!
//! ```
//! use core::time::Duration;
//! use linipc_core::event::timerfd::{self, Clock, First, Flags};
//!
//! let timer = timerfd::create(Clock::Monotonic, Flags::empty())?;
//! timerfd::start(&timer, First::After(Duration::from_millis(1)), None)?;
//! assert_eq!(timerfd::read(&timer)?, 1);
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - To the kernel a first time of 0 means "stop". [`start`] makes it one nanosecond, so that what
//!   was computed to be due is due; [`stop`] stops.
//! - A read gives how often the time has come since the last one, so a late reader misses nothing.
//! - [`Clock::Monotonic`] stands still while the machine is suspended, [`Clock::Boottime`] does
//!   not, and [`Clock::Realtime`] jumps when it is set: [`First::AtUnlessSet`] tells.

use core::time::Duration;

use rustix::io::Errno;

use crate::fd::{AsFd, OwnedFd};
use crate::sys::{call, own};

pub use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId as Clock, TimerfdFlags as Flags,
    TimerfdTimerFlags as TimerFlags, Timespec, clock_gettime, timerfd_gettime as gettime,
    timerfd_settime as settime,
};

/// When a timer is due for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// So long from now.
    After(Duration),
    /// `TFD_TIMER_ABSTIME`: at this time of the timer's clock; at once if it is past.
    #[doc(alias = "TFD_TIMER_ABSTIME")]
    At(Timespec),
    /// `TFD_TIMER_CANCEL_ON_SET`: as `At`, and [`read`] fails with `CANCELED` when somebody has set
    /// [`Clock::Realtime`] meanwhile. With other clocks the same as `At`.
    #[doc(alias = "TFD_TIMER_CANCEL_ON_SET")]
    AtUnlessSet(Timespec),
}

/// What is left of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// The time until it is due next; `None` if it is stopped, or has come for the last time.
    pub next: Option<Duration>,
    /// The time between, if it comes again and again.
    pub interval: Option<Duration>,
}

/// `int timerfd_create(int clockid, int flags)` with `TFD_CLOEXEC`: makes a timer, stopped.
///
/// # Errors
///
/// - `INVAL`: an unknown flag.
/// - `PERM`: an alarm clock, and no `CAP_WAKE_ALARM`.
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system.
/// - `NOMEM`: the kernel is out of memory.
///
/// # References
///
/// - [timerfd_create(2)](https://man7.org/linux/man-pages/man2/timerfd_create.2.html)
#[inline]
#[doc(alias = "timerfd_create")]
pub fn create(clock: Clock, flags: Flags) -> Result<OwnedFd, Errno> {
    let flags = (flags | Flags::CLOEXEC).bits();
    // SAFETY: The call takes no pointers.
    let fd = unsafe { call!(__NR_timerfd_create, clock as u32, flags) }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(fd) }
}

/// `int timerfd_settime(int fd, int flags, const struct itimerspec *new_value, NULL)`: starts a
/// timer, or starts it anew; expirations that were not read are forgotten.
///
/// An `interval` of 0 is the same as none: the timer comes once.
///
/// # Errors
///
/// - `INVAL`: not a timerfd; or a time that is negative or has more than 999,999,999 nanoseconds.
/// - `CANCELED`: [`First::AtUnlessSet`], and the clock was set since the timer was last started or
///   read. The timer is started.
///
/// # References
///
/// - [timerfd_settime(2)](https://man7.org/linux/man-pages/man2/timerfd_settime.2.html)
#[inline]
#[doc(alias = "timerfd_settime")]
pub fn start(fd: impl AsFd, first: First, interval: Option<Duration>) -> Result<(), Errno> {
    const ABSTIME: TimerFlags = TimerFlags::ABSTIME;
    let (flags, at) = match first {
        First::After(duration) => (TimerFlags::empty(), to_timespec(duration)),
        First::At(at) => (ABSTIME, at),
        First::AtUnlessSet(at) => (ABSTIME | TimerFlags::CANCEL_ON_SET, at),
    };
    let it_value = match at {
        ZERO => Timespec { tv_nsec: 1, ..ZERO },
        at => at,
    };
    let it_interval = interval.map_or(ZERO, to_timespec);
    let new = Itimerspec {
        it_interval,
        it_value,
    };
    settime(fd, flags, &new)?;
    Ok(())
}

/// `timerfd_settime` with 0: stops a timer. What was not read is forgotten.
///
/// # Errors
///
/// `INVAL`: not a timerfd.
///
/// # References
///
/// - [timerfd_settime(2)](https://man7.org/linux/man-pages/man2/timerfd_settime.2.html)
#[inline]
pub fn stop(fd: impl AsFd) -> Result<(), Errno> {
    let never = Itimerspec {
        it_interval: ZERO,
        it_value: ZERO,
    };
    settime(fd, TimerFlags::empty(), &never)?;
    Ok(())
}

/// `int timerfd_gettime(int fd, struct itimerspec *curr_value)`: how long until the timer is due.
///
/// # Errors
///
/// `INVAL`: not a timerfd.
///
/// # References
///
/// - [timerfd_gettime(2)](https://man7.org/linux/man-pages/man2/timerfd_gettime.2.html)
#[inline]
#[doc(alias = "timerfd_gettime")]
pub fn remaining(fd: impl AsFd) -> Result<Remaining, Errno> {
    let now = gettime(fd)?;
    let duration = |time: Timespec| Duration::try_from(time).ok().filter(|time| !time.is_zero());
    Ok(Remaining {
        next: duration(now.it_value),
        interval: duration(now.it_interval),
    })
}

/// `ssize_t read(int fd, void *buf, 8)`: waits until the timer is due; gives how often it was
/// since the last read, or since it was started.
///
/// A timer that is stopped is waited for too: somebody may start it.
///
/// # Errors
///
/// - `AGAIN`: it was not due, and [`Flags::NONBLOCK`].
/// - `CANCELED`: the clock was set; see [`First::AtUnlessSet`]. The timer goes on.
/// - `INTR`: a signal was caught while the call waited.
/// - `INVAL`: not a timerfd.
///
/// # References
///
/// - [timerfd_create(2)](https://man7.org/linux/man-pages/man2/timerfd_create.2.html)
#[inline]
pub fn read(fd: impl AsFd) -> Result<u64, Errno> {
    super::read_count(fd)
}

const ZERO: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A duration that the kernel cannot express is the longest that it can.
#[inline]
fn to_timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec {
        tv_sec: i64::MAX,
        tv_nsec: 0,
    })
}
