//! Semaphores between processes.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::semaphore::{Semaphore, VALUE_MAX};
use linipc_core::pshared::{AttachError, Error};
use support::{Peer, catch_signals, caught, eventually, interrupt, peer, until_asleep};

fn memory() -> Region {
    Region::anonymous(4096, Access::READ | Access::WRITE).unwrap()
}

fn make(memory: &Region, value: u32) -> &Semaphore {
    Semaphore::init(memory.bytes(), value).unwrap()
}

/// A word of the memory, behind the semaphore unless it is one of its own.
fn word(memory: &Region, at: usize) -> &AtomicU32 {
    memory.bytes().atomic_u32(at).unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Clock::Monotonic, Duration::from_millis(20))
}

fn late() -> Deadline {
    Deadline::after(Clock::Monotonic, support::PATIENCE)
}

#[test]
fn units_are_taken_until_there_are_none() {
    isolated!(|| {
        let memory = memory();
        let semaphore = make(&memory, 2);
        peer(|| {
            let semaphore = Semaphore::attach(memory.bytes()).unwrap();
            semaphore.wait().unwrap();
            assert_eq!(semaphore.value(), 1);
            semaphore.try_wait().unwrap();
            assert_eq!(semaphore.try_wait(), Err(Error::Busy));
            assert_eq!(semaphore.wait_deadline(soon()), Err(Error::TimedOut));
            let real = Deadline::after(Clock::Realtime, Duration::from_millis(20));
            assert_eq!(semaphore.wait_deadline(real), Err(Error::TimedOut));
        })
        .join();
        assert_eq!(semaphore.value(), 0);
        semaphore.post().unwrap();
        // Also when it is too late to wait.
        let past = Deadline::after(Clock::Monotonic, Duration::ZERO);
        assert_eq!(semaphore.wait_deadline(past), Ok(()));
        assert_eq!(semaphore.wait_deadline(past), Err(Error::TimedOut));
    });
}

#[test]
fn who_sleeps_is_woken() {
    isolated!(|| {
        let memory = memory();
        let semaphore = make(&memory, 0);
        let sleepers = [(); 3].map(|()| {
            let sleeper = peer(|| semaphore.wait_deadline(late()).unwrap());
            until_asleep(sleeper.pid());
            sleeper
        });
        semaphore.post_many(0).unwrap();
        semaphore.post().unwrap();
        semaphore.post_many(2).unwrap();
        sleepers.into_iter().for_each(Peer::join);
        assert_eq!(semaphore.value(), 0);
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let memory = memory();
        let semaphore = make(&memory, 0);
        let sleeper = peer(|| {
            catch_signals();
            word(&memory, 64).store(1, Ordering::Relaxed);
            semaphore.wait().unwrap();
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || {
            word(&memory, 64).load(Ordering::Relaxed) == 1
        });
        interrupt(&sleeper);
        semaphore.post().unwrap();
        sleeper.join();
    });
}

#[test]
fn the_value_has_an_end() {
    isolated!(|| {
        let memory = memory();
        let semaphore = make(&memory, VALUE_MAX);
        assert_eq!(semaphore.value(), VALUE_MAX);
        assert_eq!(semaphore.post(), Err(Error::Overflow));
        semaphore.wait().unwrap();
        assert_eq!(semaphore.post_many(2), Err(Error::Overflow));
        assert_eq!(semaphore.value(), VALUE_MAX - 1);
        semaphore.post_many(0).unwrap();
        semaphore.post().unwrap();
        assert_eq!(Semaphore::new(u32::MAX).value(), VALUE_MAX);
    });
}

#[test]
fn memory_must_be_one() {
    isolated!(|| {
        let memory = memory();
        let bytes = memory.bytes();
        assert!(matches!(
            Semaphore::attach(bytes),
            Err(AttachError::NotFound)
        ));
        let max = AttachError::OutOfRange {
            min: 0,
            max: VALUE_MAX,
        };
        assert_eq!(Semaphore::init(bytes, VALUE_MAX + 1).err(), Some(max));
        make(&memory, 7);
        assert_eq!(Semaphore::attach(bytes).unwrap().value(), 7);
        let short = bytes.slice(0, 7).unwrap();
        assert!(matches!(
            Semaphore::init(short, 0),
            Err(AttachError::TooSmall { needed: 8 })
        ));
        let odd = bytes.slice(2, 16).unwrap();
        assert!(matches!(
            Semaphore::attach(odd),
            Err(AttachError::Unaligned { align: 4 })
        ));
        let fixed = Region::anonymous(4096, Access::READ).unwrap();
        assert!(matches!(
            Semaphore::init(fixed.bytes(), 0),
            Err(AttachError::ReadOnly)
        ));
        word(&memory, 0).fetch_add(1, Ordering::Relaxed);
        assert!(matches!(
            Semaphore::attach(bytes),
            Err(AttachError::Version {
                found: 2,
                expected: 1
            })
        ));
    });
}

#[test]
fn units_are_counted_exactly() {
    const ROUNDS: u32 = 20_000;
    isolated!(|| {
        let memory = memory();
        let semaphore = make(&memory, 1);
        let count = word(&memory, 64);
        let peers = [(); 3].map(|()| {
            peer(|| {
                for _ in 0..ROUNDS {
                    semaphore.wait().unwrap();
                    // Not one step: a second one here would be seen.
                    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    semaphore.post().unwrap();
                }
            })
        });
        peers.into_iter().for_each(Peer::join);
        assert_eq!(count.load(Ordering::Relaxed), 3 * ROUNDS);
        assert_eq!(semaphore.value(), 1);
    });
}

#[test]
fn killed_waiters_hold_nobody_up() {
    const ROUNDS: u32 = 300;
    isolated!(|| {
        let memory = memory();
        let semaphore = make(&memory, 0);
        let taken = word(&memory, 64);
        let start = || {
            peer(|| {
                loop {
                    semaphore.wait().unwrap();
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let mut peers = [(); 3].map(|()| start());
        let mut posted = 0;
        for round in 0..ROUNDS {
            let victim = &mut peers[round as usize % 3];
            // The one that is woken may be just this one.
            for _ in 0..round % 4 {
                semaphore.post().unwrap();
                posted += 1;
            }
            for _ in 0..round * 37 % 2000 {
                std::hint::spin_loop();
            }
            std::mem::replace(victim, start()).kill();
            eventually("the others take what is left", || semaphore.value() == 0);
        }
        eventually("the last one is counted", || {
            // Who was killed may have taken one, and not counted it.
            (posted - ROUNDS..=posted).contains(&taken.load(Ordering::Relaxed))
        });
        peers.into_iter().for_each(Peer::kill);
        // Nobody sleeps any more, and it is known after one post.
        semaphore.post().unwrap();
        assert_eq!(word(&memory, 4).load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let memory = memory();
        let semaphore = make(&memory, 0);
        let stranger = peer(|| {
            let mut random = 1_u32;
            loop {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                word(&memory, 4).store(random, Ordering::Relaxed);
            }
        });
        for _ in 0..20_000 {
            let _ = semaphore.try_wait();
            let now = Deadline::after(Clock::Monotonic, Duration::from_micros(20));
            let waited = semaphore.wait_deadline(now);
            assert!(
                matches!(waited, Ok(()) | Err(Error::TimedOut)),
                "{waited:?}"
            );
            let posted = semaphore.post_many(u32::MAX >> 1);
            assert!(
                matches!(posted, Ok(()) | Err(Error::Overflow)),
                "{posted:?}"
            );
        }
        stranger.kill();
        for garbage in [0, 1, VALUE_MAX, 1 << 31, u32::MAX] {
            word(&memory, 4).store(garbage, Ordering::Relaxed);
            let _ = semaphore.wait_deadline(soon());
            let _ = semaphore.post();
        }
    });
}
