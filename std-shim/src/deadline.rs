//! Until when a call may wait, and the waiting of calls for which the kernel has no deadline.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use linipc_core::Errno;

/// Until when a call may wait: made from a [`Duration`] (from now) or an [`Instant`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use linipc::Deadline;
///
/// let soon: Deadline = Duration::from_millis(10).into();
/// let then: Deadline = (Instant::now() + Duration::from_secs(1)).into();
/// assert!(soon.remaining() < then.remaining());
/// assert_eq!(Deadline::NEVER.remaining(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline: wait for ever.
    pub const NEVER: Self = Self(None);

    /// The time that is left, zero if it has passed; `None` for [`Deadline::NEVER`].
    #[inline]
    pub fn remaining(self) -> Option<Duration> {
        self.0
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Tries again and again, with pauses from 50 µs that grow to 2 ms, for as long as `attempt`
    /// fails with `busy`. For calls to which the kernel gives no deadline of their own.
    pub(crate) fn poll<T>(
        self,
        busy: Errno,
        mut attempt: impl FnMut() -> Result<T, Errno>,
    ) -> io::Result<T> {
        let mut pause = Duration::from_micros(50);
        loop {
            match attempt() {
                Err(Errno::INTR) => continue,
                Err(error) if error == busy => {}
                done => return Ok(done?),
            }
            match self.remaining() {
                Some(Duration::ZERO) => return Err(Errno::TIMEDOUT.into()),
                Some(left) => thread::sleep(pause.min(left)),
                None => thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

impl From<Instant> for Deadline {
    #[inline]
    fn from(at: Instant) -> Self {
        Self(Some(at))
    }
}

impl From<Duration> for Deadline {
    /// A duration that no clock can count to is [`Deadline::NEVER`].
    #[inline]
    fn from(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }
}
