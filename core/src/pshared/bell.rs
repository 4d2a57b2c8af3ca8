//! Where those sleep who wait for a lock, and how they are woken.
//!
//! As in the [`ring`](crate::ring), who gives something back makes no system call and no real fence while
//! nobody sleeps:
//!
//! | who goes to sleep | who gives something back |
//! |---|---|
//! | (W1) sets a bit of the bell | (R1) gives it back |
//! | (W2) heavy fence | (R2) light fence |
//! | (W3) looks once more, and sleeps if it is not there | (R3) looks at the bell, and wakes if the bit is set |
//!
//! The two fences have an order. If (W2) is first, (R3) sees the bit; if (R2) is first, (W3) sees what
//! was given back. Between (W3) and the sleep the kernel compares the bell with what (W1) left: (R3)
//! changes it before it wakes. Where the heavy fence is refused, who sleeps looks again every millisecond.
//! Who is killed between (R1) and (R3) wakes nobody: who sleeps looks again every 50 ms.

use rustix::io::Errno;

use super::{Error, LOOK, NAP, PAUSE};
use crate::futex::Deadline;
use crate::sync::{
    self, Ordering, SPINS, Word, const_fn, heavy_fence, sleep, spin, wake, wake_one,
};

/// Somebody sleeps.
const ASLEEP: u32 = 1;
/// The rest counts how often the bell was rung: else who sleeps after that could not tell it, once another
/// one has set the bit again.
const RING: u32 = 2;

/// Where somebody sleeps, or nobody.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Bell(pub(crate) Word);

impl Bell {
    const_fn! {
        /// That of nobody.
        pub(crate) fn new() -> Self {
            Self(Word::new(0))
        }
    }

    /// Nobody sleeps.
    pub(crate) fn clear(&self) {
        // Relaxed: the magic number publishes it.
        self.0.store(0, Ordering::Relaxed);
    }

    /// (R3) Whether somebody sleeps, who is to be woken. Behind (R2), the light fence of the process.
    #[inline(always)]
    pub(crate) fn is_armed(&self) -> bool {
        // Relaxed: (R2) orders it.
        self.0.load(Ordering::Relaxed) & ASLEEP != 0
    }

    /// Says that somebody may sleep.
    pub(crate) fn arm(&self) {
        // Relaxed: of the one who will ring, or as (W1).
        self.0.fetch_or(ASLEEP, Ordering::Relaxed);
    }

    fn ring(&self) {
        // Relaxed: nothing is published by it; who sleeps looks again.
        self.0.fetch_and(!ASLEEP, Ordering::Relaxed);
        self.0.fetch_add(RING, Ordering::Relaxed);
    }

    /// Wakes all.
    #[cold]
    pub(crate) fn wake(&self) {
        self.ring();
        wake(&self.0);
    }

    /// Wakes one, who must [`arm`](Bell::arm) the bell for the others once it has what it waited for, and
    /// wake the next one if it gives up.
    #[cold]
    pub(crate) fn wake_one(&self) {
        self.ring();
        wake_one(&self.0);
    }
}

/// How far a call goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    Try,
    Wait(Option<Deadline>),
}

/// One wait, for whatever it takes.
#[derive(Debug)]
pub(crate) struct Waiting {
    how: How,
    /// How often to look before sleeping.
    spins: u32,
    /// How long not to look the next time.
    pause: u32,
    /// When the living were last counted.
    looked: Option<u64>,
    pub(crate) has_slept: bool,
}

impl Waiting {
    pub(crate) fn new(how: How) -> Self {
        Self {
            how,
            spins: SPINS,
            pause: 1,
            looked: None,
            has_slept: false,
        }
    }

    /// Waits a little, or until the bell is rung, unless it is ready. Whether it is time to look for the
    /// dead.
    ///
    /// # Errors
    ///
    /// - [`Error::Busy`]: who only tries has looked for them.
    /// - [`Error::TimedOut`]: the deadline has passed.
    /// - [`Error::System`]: the kernel does not let it sleep.
    pub(crate) fn wait(&mut self, bell: &Bell, is_ready: impl Fn() -> bool) -> Result<bool, Error> {
        let How::Wait(deadline) = self.how else {
            return match self.looked.replace(0) {
                Some(_) => Err(Error::Busy),
                None => Ok(true),
            };
        };
        if self.spins > 0 {
            self.spins -= 1;
            for _ in 0..self.pause {
                spin();
            }
            self.pause = (2 * self.pause).min(PAUSE);
            return Ok(false);
        }
        let left = sync::left(deadline, LOOK);
        if left == 0 {
            return Err(Error::TimedOut);
        }
        // (W1) Relaxed: (W2) orders it.
        let seen = bell.0.fetch_or(ASLEEP, Ordering::Relaxed) | ASLEEP;
        // (W2)
        let misses = !heavy_fence();
        // (W3)
        if is_ready() {
            return Ok(false);
        }
        self.has_slept = true;
        let slice = if misses { NAP } else { LOOK };
        let woken = sleep(&bell.0, seen, left.min(slice));
        if is_ready() {
            // Others are at it: short waits are likely.
            (self.spins, self.pause) = (SPINS, 1);
            return Ok(false);
        }
        match woken {
            Ok(()) | Err(Errno::TIMEDOUT | Errno::INTR) => {}
            Err(error) => return Err(Error::System(error)),
        }
        // Also if others wake us all the time, for nothing.
        let now = sync::now();
        let since = *self.looked.get_or_insert(now);
        let is_time = woken == Err(Errno::TIMEDOUT) || now >= since.saturating_add(LOOK);
        if is_time {
            self.looked = Some(now);
        }
        Ok(is_time)
    }
}
