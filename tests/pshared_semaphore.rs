//! Semaphores between processes.

#[path = "support/locks.rs"]
mod locks;
mod support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::semaphore::{Semaphore, VALUE_MAX};
use linipc_core::pshared::{AttachError, Error};
use locks::{
    behind, killed_at_every_step, killed_at_random, memories, memory, patient, patiently,
    scribbled, sleeper, soon, word,
};
use support::{Peer, SLOWNESS, catch_signals, caught, eventually, interrupt, peer};

fn make(memory: &Region, value: u32) -> &Semaphore {
    Semaphore::init(memory.bytes(), value).unwrap()
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
        let sleepers = [(); 3].map(|()| sleeper(|| semaphore.wait_deadline(patiently()).unwrap()));
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
            word(&memory, 64).store(1, Relaxed);
            semaphore.wait().unwrap();
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || word(&memory, 64).load(Relaxed) == 1);
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
        word(&memory, 0).fetch_add(1, Relaxed);
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
                    count.store(count.load(Relaxed) + 1, Relaxed);
                    semaphore.post().unwrap();
                }
            })
        });
        peers.into_iter().for_each(Peer::join);
        assert_eq!(count.load(Relaxed), 3 * ROUNDS);
        assert_eq!(semaphore.value(), 1);
    });
}

#[test]
fn killed_at_any_moment_they_hold_nobody_up() {
    const LOCKS: usize = 10_usize.div_ceil(SLOWNESS);
    const ROUNDS: usize = 300 / SLOWNESS;
    isolated!(|| {
        let memory = memory();
        let semaphores: [_; LOCKS] = std::array::from_fn(|i| {
            let bytes = memory.bytes().slice(64 * i, 64).unwrap();
            (
                Semaphore::init(bytes, 0).unwrap(),
                word(&memory, 64 * i + 32),
            )
        });
        let mut posted = 0;
        killed_at_random::<3>(
            LOCKS,
            ROUNDS,
            |lock, _| {
                let (semaphore, taken) = semaphores[lock];
                loop {
                    semaphore.wait().unwrap();
                    taken.fetch_add(1, Relaxed);
                }
            },
            |round| {
                let count = round as u32 % 4;
                posted += count;
                for (semaphore, _) in semaphores {
                    match round % 3 {
                        0 => semaphore.post_many(count).unwrap(),
                        _ => (0..count).for_each(|_| semaphore.post().unwrap()),
                    }
                }
            },
            |_| {
                for (semaphore, _) in semaphores {
                    eventually("the others take what is left", || semaphore.value() == 0);
                }
                true
            },
        );
        for (semaphore, taken) in semaphores {
            // Who was killed may have taken one, and not counted it.
            let taken = taken.load(Relaxed);
            let lost = ROUNDS as u32 + 3;
            assert!(
                (posted - lost..=posted).contains(&taken),
                "{taken} of {posted}"
            );
            // Nobody sleeps any more, and it is known after one post.
            semaphore.post().unwrap();
            semaphore.try_wait().unwrap();
            assert_eq!(semaphore.value(), 0);
        }
    });
}

#[test]
fn killed_at_every_step_of_taking_and_giving_back() {
    isolated!(|| {
        let memories = memories();
        let mut lost = 0;
        killed_at_every_step(
            &memories,
            |memory| make(memory, 1),
            |semaphore, begin| {
                begin();
                semaphore.wait().unwrap();
                semaphore.post().unwrap();
            },
            |_, _| {},
            |semaphore, ()| {
                match semaphore.value() {
                    0 => {
                        lost += 1;
                        semaphore.post().unwrap();
                    }
                    value => assert_eq!(value, 1),
                }
                peer(|| semaphore.wait_deadline(patiently()).unwrap()).join();
                assert_eq!(semaphore.try_wait(), Err(Error::Busy));
            },
        );
        assert!(lost > 0, "nobody was killed with the unit");
    });
}

/// Kills who adds so many units at every step, beside two who sleep.
fn killed_at_every_step_beside_sleepers(units: u32, post: impl Fn(&Semaphore)) {
    let memories = memories();
    let mut posted = 0;
    killed_at_every_step(
        &memories,
        |memory| make(memory, 0),
        |semaphore, begin| {
            begin();
            post(semaphore);
        },
        |semaphore, _| [(); 2].map(|()| sleeper(|| semaphore.wait().unwrap())),
        |semaphore, sleepers| {
            eventually("what was posted is taken", || semaphore.value() == 0);
            for _ in &sleepers {
                semaphore.post().unwrap();
            }
            sleepers.into_iter().for_each(Peer::join);
            match semaphore.value() {
                0 => {}
                left => {
                    assert_eq!(left, units);
                    posted += 1;
                }
            }
        },
    );
    assert!(posted > 0, "nobody has posted");
}

#[test]
fn killed_at_every_step_of_a_post() {
    isolated!(|| killed_at_every_step_beside_sleepers(1, |semaphore| semaphore.post().unwrap()));
}

#[test]
fn killed_at_every_step_of_a_post_of_several() {
    isolated!(|| {
        killed_at_every_step_beside_sleepers(2, |semaphore| semaphore.post_many(2).unwrap());
    });
}

#[test]
fn killed_at_every_step_of_a_wait_the_next_one_gets_the_unit() {
    isolated!(|| {
        let memories = memories();
        let mut lost = 0;
        killed_at_every_step(
            &memories,
            |memory| make(memory, 0),
            |semaphore, begin| {
                begin();
                semaphore.wait().unwrap();
            },
            |semaphore, victim| {
                let next = || semaphore.wait().unwrap();
                behind(victim, next, || semaphore.post().unwrap())
            },
            |semaphore, [next, posting]| {
                posting.join();
                eventually("one of them takes it", || semaphore.value() == 0);
                semaphore.post().unwrap();
                next.join();
                match semaphore.value() {
                    0 => lost += 1,
                    value => assert_eq!(value, 1),
                }
            },
        );
        assert!(lost > 0, "nobody was killed with the unit");
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let memory = memory();
        let semaphore = make(&memory, 0);
        let mut random = locks::Random::new();
        scribbled(
            || word(&memory, 4).store(random.next() as u32, Relaxed),
            20_000,
            || {
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
            },
        );
        let mut garbage = [0, 1, VALUE_MAX, 1 << 31, u32::MAX].into_iter();
        patient(garbage.len(), || {
            word(&memory, 4).store(garbage.next().unwrap(), Relaxed);
            let _ = semaphore.wait_deadline(soon());
            let _ = semaphore.post();
        });
    });
}
