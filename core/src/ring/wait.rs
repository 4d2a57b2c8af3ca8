//! How a call waits for the other side, and how the other side wakes it.
//!
//! Who publishes must not make a system call while nobody sleeps, and who goes to sleep must not
//! miss what is published meanwhile:
//!
//! | who goes to sleep | who publishes |
//! |---|---|
//! | (W1) sets a bit of the bell | (R1) publishes |
//! | (W2) heavy fence | (R2) light fence |
//! | (W3) looks once more, and sleeps if there is nothing | (R3) looks at the bell, and wakes if a bit is set |
//!
//! The two fences have an order. If (W2) is first, (R3) sees the bit; if (R2) is first, (W3) sees what
//! was published. So it is never that one sleeps and the other does not wake. Between (W3) and the
//! sleep the kernel compares the bell with what (W1) left: (R3) changes it before it wakes.
//!
//! The light fence is free: it only keeps the compiler from reordering. The heavy fence is
//! membarrier(2), which makes every thread of every registered process that runs at that moment execute a fence,
//! so that what stands before the light fence is visible, or what stands after it comes later. It costs
//! 1 to 2 µs, once a sleep. A process that the kernel does not register says so on its side
//! ([`Side::unreached`]); whoever waits for such a side, or is refused the heavy fence, looks again every
//! millisecond, because a wake may have been missed.

use core::time::Duration;

use rustix::io::Errno;

use super::end::Side;
use super::{Error, Peers};
use crate::event::eventfd;
use crate::fd::{AsFd, OwnedFd};
use crate::futex::{Clock, Deadline};
use crate::sync::{self, MILLISECOND, Ordering, heavy_fence, light_fence, sleep, spin, wake};

/// A bit of the bell: somebody sleeps on the word itself.
const ASLEEP: u32 = 1;
/// A bit of the bell: somebody waits for the eventfd.
const ARMED: u32 = 2;
/// The rest of the bell counts how often it was rung: else who sleeps after being rung could not tell
/// that, once another one has set the bit again.
const RING: u32 = 4;

/// How a call waits: chosen at each call, on the same ring.
///
/// ```
/// use core::time::Duration;
/// use linipc_core::ring::Wait;
///
/// let wait = Wait::SPIN_THEN_SLEEP.timeout(Duration::from_millis(20));
/// # let _ = wait;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// For how long to look again and again before sleeping, in nanoseconds.
    spin: u64,
    deadline: Option<Deadline>,
}

impl Wait {
    /// Never sleeps for the other side: answers fastest, and takes a CPU. Only with as many CPUs as
    /// spinning processes. (Who finds a turn of [`mpsc`](super::mpsc) or [`mpmc`](super::mpmc) taken for
    /// long naps for a millisecond.)
    pub const SPIN: Self = Self::new(Duration::MAX);

    /// Looks for a while, then sleeps: for those who do not know. The while is 100 µs, more than
    /// twice what it takes to wake a sleeper. Where that was in vain, most waits leave it out.
    pub const SPIN_THEN_SLEEP: Self = Self::new(Duration::from_micros(100));

    /// Sleeps at once.
    pub const SLEEP: Self = Self::new(Duration::ZERO);

    const fn new(spin: Duration) -> Self {
        let spin = spin.as_nanos();
        Self {
            spin: if spin < FOR_EVER as u128 {
                spin as u64
            } else {
                FOR_EVER
            },
            deadline: None,
        }
    }

    /// Spins for `spin` at most, then sleeps. What is shorter than the time it takes to wake a
    /// sleeper, and not zero, can keep both sides sleeping at every turn.
    pub const fn spin_for(spin: Duration) -> Self {
        Self::new(spin)
    }

    /// Waits no longer than until `deadline`: then the call fails with [`Error::TimedOut`].
    pub const fn until(self, deadline: Deadline) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }

    /// Waits no longer than `timeout` from now.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.until(Deadline::after(Clock::Monotonic, timeout))
    }
}

/// 584 years, for which [`Wait::SPIN`] spins.
const FOR_EVER: u64 = u64::MAX;

/// A sleeper looks after so long whether the peer is alive: twice in the promised 100 ms.
const LOOK_ASLEEP: u64 = 50 * MILLISECOND;
/// The same of one who spins.
const LOOK_AWAKE: u64 = 10 * MILLISECOND;
/// How long to sleep without a heavy fence, since then a wake may be missed.
const NAP: u64 = MILLISECOND;
/// After so many vain spins in a row, one wait in `1 << VAIN` tries again.
const VAIN: u32 = 8;
/// How often to look before the clock is asked.
const LOOKS: u32 = 64;

/// What a handle remembers to wait and to wake by.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// How often in a row spinning was in vain, up to [`VAIN`].
    vain: u32,
    /// How many waits are not to spin.
    skip: u32,
    /// What to write to when the other side is armed.
    event: Option<OwnedFd>,
}

impl Waiter {
    pub(crate) fn new() -> Self {
        Self {
            vain: 0,
            skip: 0,
            event: None,
        }
    }

    /// Whether this wait may spin. Where spinning is in vain, because the other side is slow or needs
    /// this very CPU, fewer and fewer do; where it is not, all.
    fn may_spin(&mut self) -> bool {
        match self.skip.checked_sub(1) {
            Some(skip) => {
                self.skip = skip;
                false
            }
            None => true,
        }
    }

    /// Remembers whether spinning found something.
    fn spun(&mut self, found: bool) {
        self.vain = if found { 0 } else { (self.vain + 1).min(VAIN) };
        self.skip = (1 << self.vain) - 1;
    }

    /// What to write to when the other side waits for its eventfd.
    pub(crate) fn set_event(&mut self, event: OwnedFd) {
        self.event = Some(event);
    }

    /// Wakes the other side, if it sleeps. After (R1).
    #[inline(always)]
    pub(crate) fn ring(&self, there: &Side) {
        // (R2) If it comes before (W2), the sleeper's (W3) sees what was published; else (R3) sees
        // the bit.
        light_fence();
        // (R3) Relaxed: (R2) orders it.
        if there.bell.0.load(Ordering::Relaxed) % RING != 0 {
            self.wake(there);
        }
    }

    /// Wakes those who sleep on our own side. Who has armed there is left to the other side, which has
    /// their event.
    #[cold]
    pub(crate) fn ring_own(&self, here: &Side) {
        light_fence();
        // Relaxed, as in `wake`.
        let bits = here.bell.0.fetch_and(!ASLEEP, Ordering::Relaxed);
        here.bell.0.fetch_add(RING, Ordering::Relaxed);
        if bits & ASLEEP != 0 {
            wake(&here.bell.0);
        }
    }

    #[cold]
    fn wake(&self, there: &Side) {
        // Who has armed stays so until somebody who has its event comes.
        let whom = match self.event {
            Some(_) => ASLEEP | ARMED,
            None => ASLEEP,
        };
        // Relaxed: nothing is published by it; the sleeper looks at the ring again.
        let bits = there.bell.0.fetch_and(!whom, Ordering::Relaxed) & whom;
        there.bell.0.fetch_add(RING, Ordering::Relaxed);
        if bits & ASLEEP != 0 {
            wake(&there.bell.0);
        }
        if bits & ARMED == 0 {
            return;
        }
        if let Some(event) = &self.event {
            // A full counter has woken its reader already.
            let _ = eventfd::write(event.as_fd(), 1);
        }
    }
}

/// One end of a ring, as far as waiting knows it.
pub(crate) trait End {
    /// Whether it waits for messages, and not for room.
    const IS_CONSUMER: bool;

    /// Whether that for which the end waits is there: a message, or so many bytes of room. An error
    /// ends the wait too.
    fn is_ready(&mut self, need: usize) -> Result<bool, Error>;
    /// What the end waits by.
    fn waiter(&mut self) -> &mut Waiter;
    /// The side on which it sleeps.
    fn here(&self) -> &Side;
    /// The side for which it waits, and how many may be there.
    fn there(&self) -> (&Side, usize);
    /// Clears away what a dead one left in the way; whether the end is ready by that. Called where
    /// asking the kernel costs little beside the wait.
    fn look_for_dead(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
}

/// Tries, and waits in between, until it is done. Others of the same side may be faster each time.
#[inline]
pub(crate) fn until_done<E: End, T>(
    end: &mut E,
    need: usize,
    how: Wait,
    mut attempt: impl FnMut(&mut E) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut is_again = false;
    loop {
        let why_not = match attempt(end) {
            Err(error @ (Error::Full | Error::Empty | Error::Busy)) => error,
            done => return done,
        };
        if is_again {
            check_deadline(how)?;
        }
        is_again = true;
        match why_not {
            Error::Busy => sync::nap(),
            _ => wait(end, need, how)?,
        }
    }
}

/// What a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// That for which the end waits: a message, or so many bytes of room.
    Need(usize),
    /// Somebody on the other side. A consumer's wait also ends when there is a message, since who sent it may
    /// have left again.
    Peer,
}

impl For {
    /// Whether it is there.
    fn is_there<E: End>(self, end: &mut E) -> Result<bool, Error> {
        let Self::Need(need) = self else {
            let (there, limit) = end.there();
            let is_there = there.peers(limit) == Peers::Alive;
            return Ok(is_there || E::IS_CONSUMER && end.is_ready(0) == Ok(true));
        };
        end.is_ready(need)
    }
}

/// Waits until somebody is on the other side.
#[inline]
pub(crate) fn wait_peer(end: &mut impl End, how: Wait) -> Result<(), Error> {
    wait_for(end, For::Peer, how)
}

/// Prepares for a wait for the eventfd: `true` if there is nothing yet, so that it will be written.
pub(crate) fn arm(end: &mut impl End, need: usize) -> Result<bool, Error> {
    // (W1), (W2), (W3), with a poll in place of the sleep.
    end.here().bell.0.fetch_or(ARMED, Ordering::Relaxed);
    if !heavy_fence() || end.there().0.is_unreached() {
        return Err(Error::System(Errno::NOSYS));
    }
    Ok(!end.is_ready(need)?)
}

/// Waits until the end is ready. It is asked at least once.
#[inline]
pub(crate) fn wait(end: &mut impl End, need: usize, how: Wait) -> Result<(), Error> {
    wait_for(end, For::Need(need), how)
}

#[cold]
fn wait_for(end: &mut impl End, what: For, how: Wait) -> Result<(), Error> {
    if what.is_there(end)? {
        return Ok(());
    }
    let spins = how.spin == FOR_EVER || end.waiter().may_spin();
    if spins && how.spin > 0 {
        let found = spin_until_there(end, what, how)?;
        end.waiter().spun(found);
        if found {
            return Ok(());
        }
    }
    sleep_until_there(end, what, how)
}

/// Looks some times, without asking the clock.
fn look(end: &mut impl End, what: For) -> Result<bool, Error> {
    for _ in 0..LOOKS {
        spin();
        if what.is_there(end)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks until it is there, or the budget is used up: then `false`.
fn spin_until_there(end: &mut impl End, what: For, how: Wait) -> Result<bool, Error> {
    // Short waits are not made longer by asking the clock.
    if look(end, what)? {
        return Ok(true);
    }
    let begun = sync::now();
    let mut looked = begun;
    loop {
        if look(end, what)? {
            return Ok(true);
        }
        check_deadline(how)?;
        let now = sync::now();
        if now >= begun.saturating_add(how.spin) {
            return Ok(false);
        }
        if now >= looked.saturating_add(LOOK_AWAKE) {
            looked = now;
            if is_last_of_the_dead(end, what)? {
                return Ok(true);
            }
        }
    }
}

#[inline(always)]
fn sleep_until_there(end: &mut impl End, what: For, how: Wait) -> Result<(), Error> {
    let mut looked = None;
    loop {
        // (W1) Relaxed: (W2) orders it.
        let bell = end.here().bell.0.fetch_or(ASLEEP, Ordering::Relaxed) | ASLEEP;
        // (W2) If it comes before (R2), the other side's (R3) sees the bit; else (W3) sees what it
        // published.
        let misses = !heavy_fence() || end.there().0.is_unreached();
        // (W3)
        if what.is_there(end)? {
            return Ok(());
        }
        check_deadline(how)?;
        let slice = if misses { NAP } else { LOOK_ASLEEP };
        let woken = sleep(&end.here().bell.0, bell, sync::left(how.deadline, slice));
        if what.is_there(end)? {
            return Ok(());
        }
        match woken {
            Ok(()) | Err(Errno::TIMEDOUT) => {}
            Err(error) => return Err(Error::System(error)),
        }
        // Also of those whom others wake all the time, for nothing.
        let now = sync::now();
        let since = *looked.get_or_insert(now);
        if woken.is_err() || now >= since.saturating_add(LOOK_ASLEEP) {
            looked = Some(now);
            if is_last_of_the_dead(end, what)? {
                return Ok(());
            }
        }
    }
}

/// Whether dead ones left what the end waits for; [`Error::PeerDead`] if nobody of the other side is
/// alive, and nothing was left.
fn is_last_of_the_dead(end: &mut impl End, what: For) -> Result<bool, Error> {
    // Who waits for a new peer does so beside the dead.
    if what == For::Peer {
        return Ok(false);
    }
    let (there, limit) = end.there();
    let is_dead = there.peers(limit) == Peers::Dead;
    // What they published before they died is seen now, and what they left in the way.
    if end.look_for_dead()? || is_dead && what.is_there(end)? {
        return Ok(true);
    }
    match is_dead {
        true => Err(Error::PeerDead),
        false => Ok(false),
    }
}

fn check_deadline(how: Wait) -> Result<(), Error> {
    match how.deadline {
        Some(deadline) if sync::has_passed(deadline) => Err(Error::TimedOut),
        _ => Ok(()),
    }
}
