//! Spin locks between processes.

#[path = "support/locks.rs"]
mod locks;
mod support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::spin::SpinLock;
use linipc_core::pshared::{AttachError, Error};
use locks::{
    Random, holder, killed_at_every_step, memories, memory, patient, patiently, scribbled, sleeper,
    soon, this_process as me, word,
};
use support::{Peer, SLOWNESS, count, eventually, peer, until_asleep};

fn make(memory: &Region) -> &SpinLock {
    SpinLock::init(memory.bytes()).unwrap()
}

#[test]
fn locked_is_locked_for_others() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        for guard in [SpinLock::lock, SpinLock::try_lock] {
            let guard = guard(lock, me()).unwrap();
            assert!(std::ptr::eq(guard.lock(), lock));
            peer(|| {
                assert_eq!(lock.try_lock(me()).unwrap_err(), Error::Busy);
                let late = lock.lock_deadline(me(), soon());
                assert_eq!(late.unwrap_err(), Error::TimedOut);
            })
            .join();
            drop(guard);
            peer(|| drop(lock.lock_deadline(me(), soon()).unwrap())).join();
        }
    });
}

#[test]
fn all_who_sleep_are_woken() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let guard = lock.lock(me()).unwrap();
        let gives_up = sleeper(|| {
            let late = lock.lock_deadline(me(), soon());
            assert_eq!(late.unwrap_err(), Error::TimedOut);
        });
        let sleepers = [0, 1, 2].map(|i| {
            sleeper(move || {
                drop(match i {
                    0 => lock.lock_deadline(me(), patiently()).unwrap(),
                    _ => lock.lock(me()).unwrap(),
                })
            })
        });
        gives_up.join();
        drop(guard);
        for sleeper in sleepers {
            sleeper.join();
        }
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        support::catch_signals();
        let guard = lock.lock(me()).unwrap();
        let waiting = peer(|| {
            drop(lock.lock(me()).unwrap());
            assert!(support::caught() > 0);
        });
        support::interrupt(&waiting);
        until_asleep(waiting.pid());
        drop(guard);
        waiting.join();
    });
}

#[test]
fn a_dead_owner_is_told_to_all() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let owner = holder(|| lock.lock(me()).unwrap());
        let sleepers = [0, 1, 2]
            .map(|_| sleeper(|| assert_eq!(lock.lock(me()).unwrap_err(), Error::PeerDead)));
        owner.kill();
        for sleeper in sleepers {
            sleeper.join();
        }
        assert_eq!(lock.try_lock(me()).unwrap_err(), Error::PeerDead);
        assert_eq!(lock.lock(me()).unwrap_err(), Error::PeerDead);

        // Who comes later finds it too, and nobody else.
        holder(|| make(&memory).lock(me()).unwrap()).kill();
        assert_eq!(lock.try_lock(me()).unwrap_err(), Error::Busy);
        let late = lock.lock_deadline(me(), patiently());
        assert_eq!(late.unwrap_err(), Error::PeerDead);

        // Who dies waiting is not missed.
        let guard = make(&memory).lock(me()).unwrap();
        sleeper(|| drop(lock.lock(me()))).kill();
        let sleeper = sleeper(|| drop(lock.lock(me()).unwrap()));
        drop(guard);
        sleeper.join();
    });
}

#[test]
fn memory_for_one_and_memory_that_is_none() {
    let memory = memory();
    let bytes = memory.bytes();
    let short = bytes.slice(0, 15).unwrap();
    let odd = bytes.slice(4, 40).unwrap();
    let read_only = Region::anonymous(4096, Access::READ).unwrap();
    for call in [SpinLock::init, SpinLock::attach] {
        let error = |bytes| call(bytes).err();
        assert_eq!(error(short), Some(AttachError::TooSmall { needed: 16 }));
        assert_eq!(error(odd), Some(AttachError::Unaligned { align: 8 }));
        assert_eq!(error(read_only.bytes()), Some(AttachError::ReadOnly));
    }
    assert_eq!(SpinLock::attach(bytes).err(), Some(AttachError::NotFound));
    let lock = make(&memory);
    assert!(std::ptr::eq(lock, SpinLock::attach(bytes).unwrap()));
    let magic = bytes.atomic_u32(0).unwrap();
    assert_eq!(magic.load(Relaxed), 0x6c70_0701);
    magic.fetch_add(1, Relaxed);
    let (found, expected) = (2, 1);
    assert_eq!(
        SpinLock::attach(bytes).err(),
        Some(AttachError::Version { found, expected })
    );
}

#[test]
fn a_child_has_no_use_for_its_parents_token_or_guard() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let process = me();
        let mut guard = Some(lock.lock(process).unwrap());
        peer(|| {
            assert_eq!(lock.lock(process).unwrap_err(), Error::Forked);
            assert_eq!(lock.try_lock(process).unwrap_err(), Error::Forked);
            // It unlocks nothing.
            drop(guard.take());
            assert_eq!(lock.try_lock(me()).unwrap_err(), Error::Busy);
        })
        .join();
        drop(guard);
        peer(|| drop(lock.try_lock(me()).unwrap())).join();
    });
}

#[test]
fn threads_and_processes_take_turns_also_without_membarrier() {
    isolated!(|| {
        static LOCK: SpinLock = SpinLock::new();
        let memory = memory();
        let lock = make(&memory);
        let count = memory.bytes().atomic_u32(64).unwrap();
        let work = |lock: &SpinLock, turns: u32| {
            for turn in 0..turns {
                let _guard = lock.lock(me()).unwrap();
                count.store(count.load(Relaxed) + 1, Relaxed);
                if turn % 64 == 0 {
                    // Others fall asleep.
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        };
        let peers = [0, 1, 2].map(|i| {
            peer(move || {
                if i > 0 {
                    support::refuse_membarrier();
                }
                work(lock, 5_000);
            })
        });
        for peer in peers {
            peer.join();
        }
        assert_eq!(count.load(Relaxed), 15_000);
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| work(&LOCK, 5_000));
            }
        });
        assert_eq!(count.load(Relaxed), 30_000);
    });
}

#[test]
fn killed_at_every_step_of_locking_and_unlocking() {
    isolated!(|| {
        let memories = memories();
        let mut deaths = 0;
        killed_at_every_step(
            &memories,
            |memory| {
                let words = [64, 128].map(|at| word(memory, at));
                words.iter().for_each(|word| word.store(0, Relaxed));
                (make(memory), words)
            },
            |(lock, [before, after]), begin| {
                let process = me();
                drop(lock.lock(process).unwrap());
                begin();
                let guard = lock.lock(process).unwrap();
                before.store(before.load(Relaxed) + 1, Relaxed);
                after.store(after.load(Relaxed) + 1, Relaxed);
                drop(guard);
            },
            |_, _| {},
            |(lock, [before, after]), ()| match lock.lock_deadline(me(), patiently()) {
                Ok(_guard) => assert_eq!(before.load(Relaxed), after.load(Relaxed)),
                Err(error) => {
                    assert_eq!(error, Error::PeerDead);
                    deaths += 1;
                }
            },
        );
        assert!(deaths > 5, "{deaths}");
    });
}

#[test]
fn killed_at_every_step_of_unlocking_beside_a_sleeper() {
    isolated!(|| {
        let memories = memories();
        let mut ends = [0, 0];
        killed_at_every_step(
            &memories,
            |memory| (make(memory), word(memory, 64)),
            |(lock, _), begin| {
                let guard = lock.lock(me()).unwrap();
                begin();
                drop(guard);
            },
            |(lock, told), _| {
                told.store(0, Relaxed);
                sleeper(|| match lock.lock_deadline(me(), patiently()) {
                    Ok(_guard) => {}
                    Err(error) => {
                        assert_eq!(error, Error::PeerDead);
                        told.store(1, Relaxed);
                    }
                })
            },
            |(lock, told), sleeper| {
                sleeper.join();
                let told = told.load(Relaxed) == 1;
                ends[usize::from(told)] += 1;
                assert_eq!(lock.try_lock(me()).is_err(), told);
            },
        );
        assert!(ends[0] > 0 && ends[1] > 0, "{ends:?}");
    });
}

/// An owner's death is the lock's end, so each round has new locks, and new processes.
#[test]
fn killed_at_any_moment_nobody_waits_for_ever() {
    isolated!(|| {
        const ROUNDS: usize = 125 / SLOWNESS;
        let memories = memories();
        let mut random = Random::new();
        let mut deaths = 0;
        for _ in 0..ROUNDS {
            let scenes: Vec<_> = memories
                .iter()
                .map(|memory| {
                    let lock = make(memory);
                    let [before, after] = [64, 128].map(|at| word(memory, at));
                    before.store(0, Relaxed);
                    after.store(0, Relaxed);
                    let work = |pause: Option<Duration>| {
                        let process = me();
                        loop {
                            pause.into_iter().for_each(std::thread::sleep);
                            match lock.lock(process) {
                                Ok(_guard) => {
                                    assert_eq!(before.load(Relaxed), after.load(Relaxed));
                                    before.store(before.load(Relaxed) + 1, Relaxed);
                                    std::hint::spin_loop();
                                    after.store(after.load(Relaxed) + 1, Relaxed);
                                }
                                Err(error) => {
                                    assert_eq!(error, Error::PeerDead);
                                    break;
                                }
                            }
                        }
                    };
                    // The one that is killed has it more often than the others.
                    let pause = Some(Duration::from_micros(50));
                    let [one, two, victim] = [pause, pause, None].map(|pause| peer(|| work(pause)));
                    eventually("somebody gets on", || after.load(Relaxed) > 0);
                    for _ in 0..random.below(5_000) {
                        std::hint::spin_loop();
                    }
                    victim.kill();
                    (lock, before, after, [one, two])
                })
                .collect();
            for (lock, before, after, others) in scenes {
                match lock.lock_deadline(me(), patiently()) {
                    Ok(guard) => {
                        assert_eq!(before.load(Relaxed), after.load(Relaxed));
                        drop(guard);
                        let seen = after.load(Relaxed);
                        eventually("the others go on", || after.load(Relaxed) != seen);
                        others.into_iter().for_each(Peer::kill);
                    }
                    Err(error) => {
                        assert_eq!(error, Error::PeerDead);
                        deaths += 1;
                        others.into_iter().for_each(Peer::join);
                    }
                }
            }
        }
        assert!(deaths > 0, "no kill has hit an owner");
        count(&format!(
            "{} kills at random, {deaths} of owners",
            ROUNDS * memories.len()
        ));
    });
}

#[test]
fn garbage_does_no_harm() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let owner = memory.bytes().atomic_u64(8).unwrap();
        let guard = lock.lock(me()).unwrap();
        let identity = owner.load(Relaxed);
        drop(guard);
        let call = || {
            let soon = Deadline::after(Clock::Monotonic, Duration::from_millis(1));
            drop(lock.lock_deadline(me(), soon));
            drop(lock.try_lock(me()));
        };
        for garbage in [
            1,
            2,
            3,
            identity,
            identity ^ 1,
            identity ^ (1 << 63),
            u64::MAX,
        ] {
            for bell in [0, 1, 2, u32::MAX - 1, u32::MAX] {
                owner.store(garbage, Relaxed);
                word(&memory, 4).store(bell, Relaxed);
                patient(1, call);
            }
        }
        let mut random = Random::new();
        scribbled(
            || {
                let at = 8 * random.below(2) as usize;
                let garbage = [0, random.next() << 16 ^ random.next()][random.below(2) as usize];
                memory
                    .bytes()
                    .atomic_u64(at)
                    .unwrap()
                    .store(garbage, Relaxed);
            },
            300,
            call,
        );
    });
}
