//! A mutex of C that is not robust: the C library's simplest, whose word says nothing of its owner.
//!
//! The lock word is 0, free; 1, locked; 2, locked, and somebody may sleep. The owner's word is written
//! only by the owner, which finds its own id there, and by nobody else's hand.

use rustix::io::Errno;

use super::{Attributes, Error, How, Kind, LOOK, Locked, Mutex};
use crate::sync::{Ordering, Thread, has_passed, left, sleep, wake_one};

const LOCKED: u32 = 1;
const ASLEEP: u32 = 2;

impl Mutex {
    pub(super) fn acquire_stalled(
        &self,
        thread: Thread,
        attributes: Attributes,
        how: How,
    ) -> Result<Locked, Error> {
        // Relaxed, all but the lock word: of this thread, as long as it is the owner.
        if self.owner.load(Ordering::Relaxed) == thread.id() {
            if attributes.is(Kind::Recursive) {
                let count = self.count.load(Ordering::Relaxed);
                let count = count.checked_add(1).ok_or(Error::Overflow)?;
                self.count.store(count, Ordering::Relaxed);
                return Ok(Locked::Consistent);
            }
            if attributes.is(Kind::ErrorCheck) && !matches!(how, How::Try) {
                return Err(Error::Deadlock);
            }
        }
        // (L1) Acquire: what the last owner did is visible. No model has such a mutex: loom cannot see it.
        if self
            .lock
            .compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            let deadline = how.deadline()?;
            // Who gets it like this does not know whether others sleep.
            // (L2) Acquire: as (L1), also in that loom cannot see it.
            while self.lock.swap(ASLEEP, Ordering::Acquire) != 0 {
                if deadline.is_some_and(has_passed) {
                    return Err(Error::TimedOut);
                }
                match sleep(&self.lock, ASLEEP, left(deadline, LOOK)) {
                    Ok(()) | Err(Errno::INTR | Errno::TIMEDOUT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.count.store(1, Ordering::Relaxed);
        self.owner.store(thread.id(), Ordering::Relaxed);
        let users = self.users.load(Ordering::Relaxed);
        self.users.store(users.wrapping_add(1), Ordering::Relaxed);
        Ok(Locked::Consistent)
    }

    pub(super) fn release_stalled(&self) {
        // Relaxed: of this thread, and (U1) publishes them.
        self.owner.store(0, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
        let users = self.users.load(Ordering::Relaxed);
        self.users.store(users.wrapping_sub(1), Ordering::Relaxed);
        // (U1) Release: what this owner did is visible to the next one. As (L1), loom cannot see it.
        if self.lock.swap(0, Ordering::Release) == ASLEEP {
            wake_one(&self.lock);
        }
    }
}
