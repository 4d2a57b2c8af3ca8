//! Condition variables between processes.

#[path = "support/locks.rs"]
mod locks;
mod support;

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::Region;
use linipc_core::pshared::condvar::{Condvar, Reason};
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex, Split};
use linipc_core::pshared::semaphore::Semaphore;
use linipc_core::pshared::{AttachError, Error};
use locks::{
    behind, healthy, holder, killed_at_every_step, killed_at_random, memories, memory, patiently,
    scribbled, sleeper, soon, this_thread as me, word,
};
use support::{Peer, SLOWNESS, catch_signals, caught, eventually, interrupt, peer};

/// A mutex, a condition variable, and a number of items.
#[derive(Clone, Copy)]
struct Shared<'a> {
    mutex: &'a Mutex,
    changed: &'a Condvar,
    items: &'a AtomicU32,
    memory: &'a Region,
}

impl<'a> Shared<'a> {
    fn new(memory: &'a Region, kind: Kind) -> Self {
        // SAFETY: Only the processes of a test have the memory.
        let mutex = unsafe { Mutex::init(memory.bytes(), kind) };
        Self::with(memory, mutex.unwrap())
    }

    fn inheriting(memory: &'a Region) -> Self {
        // SAFETY: As in `new`.
        let mutex = unsafe { Mutex::init_inheriting(memory.bytes(), Kind::Normal) };
        Self::with(memory, mutex.unwrap())
    }

    fn with(memory: &'a Region, mutex: &'a Mutex) -> Self {
        let items = word(memory, 128);
        items.store(0, Relaxed);
        Self {
            mutex,
            changed: Condvar::init(memory.bytes().slice(64, 12).unwrap()).unwrap(),
            items,
            memory,
        }
    }

    fn word(&self, at: usize) -> &'a AtomicU32 {
        word(self.memory, at)
    }

    fn lock(&self) -> Guard<'a> {
        healthy(self.mutex.lock_deadline(me(), patiently()))
    }

    fn add(&self, items: u32) -> Guard<'a> {
        let guard = self.lock();
        self.items.fetch_add(items, Relaxed);
        guard
    }

    fn pop(&self) {
        let mut guard = self.lock();
        while self.items.load(Relaxed) == 0 {
            guard = healthy(self.changed.wait(guard));
        }
        self.items.fetch_sub(1, Relaxed);
    }

    /// A process that sleeps until there is an item for it.
    fn popping(&self) -> Peer {
        sleeper(|| self.pop())
    }
}

#[test]
fn a_lock_of_another_kind_is_unlocked_by_the_caller() {
    isolated!(|| {
        let memory = memory();
        let Shared { changed, items, .. } = Shared::new(&memory, Kind::Normal);
        let lock = Semaphore::init(memory.bytes().slice(256, 64).unwrap(), 1).unwrap();
        let popping = peer(|| {
            for _ in 0..500 {
                lock.wait().unwrap();
                while items.load(Relaxed) == 0 {
                    let woken = changed.wait_unlocked(|| lock.post(), None);
                    assert_eq!(woken, Ok(Reason::Notified));
                    lock.wait().unwrap();
                }
                items.fetch_sub(1, Relaxed);
                lock.post().unwrap();
            }
        });
        for _ in 0..500 {
            lock.wait().unwrap();
            items.fetch_add(1, Relaxed);
            changed.notify_one();
            lock.post().unwrap();
        }
        popping.join();
        assert_eq!(items.load(Relaxed), 0);
        let mut waited = changed.wait_unlocked(|| Err(Error::Busy), None);
        assert_eq!(waited, Err(Error::Busy), "and not for ever");
        let deadline = soon();
        while waited != Ok(Reason::TimedOut) {
            waited = changed.wait_unlocked(|| Ok(()), Some(deadline));
        }
    });
}

#[test]
fn a_wait_has_a_deadline_and_has_the_mutex_again() {
    isolated!(|| {
        let memories = memories();
        for shared in [
            Shared::new(&memories[0], Kind::Normal),
            Shared::new(&memories[1], Kind::ErrorCheck),
            Shared::inheriting(&memories[2]),
        ] {
            let guard = shared.lock();
            let (guard, reason) = shared.changed.wait_deadline(guard, soon()).unwrap();
            assert_eq!(reason, Reason::TimedOut);
            let real = Deadline::after(Clock::Realtime, Duration::from_millis(120));
            let mut waited = shared.changed.wait_deadline(guard, real).unwrap();
            // It returns sooner, to look at the data.
            while waited.1 == Reason::Notified {
                waited = shared.changed.wait_deadline(waited.0, real).unwrap();
            }
            let (guard, _) = waited;
            peer(|| {
                let busy = shared.mutex.try_lock(me());
                assert!(matches!(busy, Err(LockError::Failed(Error::Busy))));
            })
            .join();
            drop(guard);
            drop(shared.lock());
        }
    });
}

#[test]
fn who_notifies_in_vain_does_so_once() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let waited = shared.changed.wait_deadline(shared.lock(), soon()).unwrap();
        assert_eq!(shared.word(68).load(Relaxed) & 1, 1, "it has slept");
        shared.changed.notify_one();
        assert_eq!(shared.word(68).load(Relaxed) & 1, 0, "nobody sleeps");
        drop(waited);
    });
}

#[test]
fn one_is_woken() {
    isolated!(|| {
        let memories = memories();
        for shared in [
            Shared::new(&memories[0], Kind::Normal),
            Shared::inheriting(&memories[1]),
        ] {
            let sleepers = [(); 3].map(|()| shared.popping());
            for _ in &sleepers {
                drop(shared.add(1));
                shared.changed.notify_one();
                eventually("one takes it", || shared.items.load(Relaxed) == 0);
            }
            sleepers.into_iter().for_each(Peer::join);
        }
    });
}

#[test]
fn all_are_moved_to_the_mutex() {
    isolated!(|| {
        let memories = memories();
        for shared in [
            Shared::new(&memories[0], Kind::Normal),
            Shared::new(&memories[1], Kind::Recursive),
            Shared::inheriting(&memories[2]),
        ] {
            let sleepers = [(); 4].map(|()| shared.popping());
            let guard = shared.add(4);
            shared.changed.notify_all(&guard);
            drop(guard);
            sleepers.into_iter().for_each(Peer::join);
            assert_eq!(shared.items.load(Relaxed), 0);
        }
    });
}

#[test]
fn those_who_are_moved_are_not_woken_before_the_mutex_is_free() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let sleepers = [(); 2].map(|()| shared.popping());
        let guard = shared.add(2);
        shared.changed.notify_all(&guard);
        // Nobody sleeps there any more, and nobody has gone on.
        let futex = linipc_core::futex::Futex::shared(shared.word(68));
        assert_eq!(futex.wake(u32::MAX), Ok(0));
        assert_eq!(shared.items.load(Relaxed), 2);
        drop(guard);
        sleepers.into_iter().for_each(Peer::join);
    });
}

#[test]
fn those_who_cannot_be_moved_are_not_counted_as_moved() {
    isolated!(|| {
        let memories = memories();
        let shared = Shared::new(&memories[0], Kind::Normal);
        let inheriting = Shared::inheriting(&memories[1]);
        for (shared, moves) in [(shared, 1), (inheriting, 0)] {
            let waiting = shared.popping();
            shared.changed.notify_all(&shared.add(1));
            waiting.join();
            assert_eq!(shared.word(64 + 8).load(Relaxed), moves);
        }
    });
}

#[test]
fn all_are_woken_without_the_mutex() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let sleepers = [(); 3].map(|()| shared.popping());
        drop(shared.add(3));
        shared.changed.wake_all();
        sleepers.into_iter().for_each(Peer::join);
    });
}

#[test]
fn it_works_with_a_split_mutex() {
    isolated!(|| {
        use linipc_core::memfd::{self, Flags};
        let file = memfd::create(c"lock", Flags::empty()).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let split = Split::map(&file, 4096).unwrap();
        let mutex = split.init(Kind::Normal);
        let condvar = Condvar::init(split.bytes()).unwrap();
        let items = split.bytes().atomic_u32(64).unwrap();
        let sleepers = [(); 3].map(|()| {
            sleeper(|| {
                let mut guard = healthy(mutex.lock(me()));
                while items.load(Relaxed) == 0 {
                    guard = healthy(condvar.wait(guard));
                }
                drop(guard);
                drop(healthy(mutex.lock(me())));
            })
        });
        let guard = healthy(mutex.lock(me()));
        items.store(1, Relaxed);
        condvar.notify_all(&guard);
        drop(guard);
        sleepers.into_iter().for_each(Peer::join);
        drop(healthy(mutex.try_lock(me())));
    });
}

#[test]
fn a_mutex_that_is_locked_twice_is_not_waited_with() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Recursive);
        let guard = shared.lock();
        let again = shared.lock();
        let waited = shared.changed.wait(again);
        assert!(matches!(waited, Err(LockError::Failed(Error::Deadlock))));
        drop(waited);
        let waited = shared.changed.wait_deadline(guard, soon());
        assert!(matches!(waited, Ok((_, Reason::TimedOut))));
    });
}

#[test]
fn a_guard_of_the_parent_is_refused() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let guard = shared.lock();
        let mut guard = Some(guard);
        peer(|| {
            let waited = shared.changed.wait(guard.take().unwrap());
            assert!(matches!(waited, Err(LockError::Failed(Error::Forked))));
        })
        .join();
        let busy = peer(|| {
            let busy = shared.mutex.try_lock(me());
            assert!(matches!(busy, Err(LockError::Failed(Error::Busy))));
        });
        busy.join();
        drop(guard);
    });
}

#[test]
fn a_waiter_learns_that_an_owner_died() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let sleeper = sleeper(|| {
            let mut waited = shared.changed.wait(shared.lock());
            while let Ok(guard) = waited {
                waited = shared.changed.wait(guard);
            }
            let Err(LockError::OwnerDied(guard)) = waited else {
                panic!("{waited:?}");
            };
            drop(guard.mark_consistent());
        });
        let owner = holder(|| {
            let guard = shared.lock();
            shared.changed.notify_all(&guard);
            guard
        });
        owner.kill();
        sleeper.join();
    });
}

#[test]
fn all_learn_that_the_mutex_is_lost() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let sleepers = [(); 3].map(|()| {
            sleeper(|| {
                let mut lost = shared.changed.wait(healthy(shared.mutex.lock(me())));
                while let Ok(guard) = lost {
                    lost = shared.changed.wait(guard);
                }
                // Whoever is the first one to learn of the death does not repair it.
                assert!(
                    matches!(
                        lost,
                        Err(LockError::OwnerDied(_) | LockError::Failed(Error::NotRecoverable))
                    ),
                    "{lost:?}"
                );
            })
        });
        peer(|| std::mem::forget(shared.lock())).join();
        let lost = shared.mutex.lock(me());
        assert!(lost.is_err(), "{lost:?}");
        shared.changed.wake_all();
        drop(lost);
        sleepers.into_iter().for_each(Peer::join);
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let sleeper = peer(|| {
            catch_signals();
            shared.word(132).store(1, Relaxed);
            shared.pop();
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || shared.word(132).load(Relaxed) == 1);
        interrupt(&sleeper);
        drop(shared.add(1));
        shared.changed.notify_one();
        sleeper.join();
    });
}

#[test]
fn memory_must_be_one() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let bytes = shared.memory.bytes();
        assert!(matches!(Condvar::attach(bytes), Err(AttachError::NotFound)));
        assert!(matches!(
            Condvar::init(bytes.slice(64, 11).unwrap()),
            Err(AttachError::TooSmall { needed: 12 })
        ));
        assert!(matches!(
            Condvar::init(bytes.slice(66, 16).unwrap()),
            Err(AttachError::Unaligned { align: 4 })
        ));
        shared.word(64).fetch_add(1, Relaxed);
        assert!(matches!(
            Condvar::attach(bytes.slice(64, 12).unwrap()),
            Err(AttachError::Version {
                found: 2,
                expected: 1
            })
        ));
    });
}

#[test]
fn items_are_counted_exactly() {
    const ITEMS: u32 = 6000;
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let popping = [(); 3].map(|()| {
            peer(|| {
                for _ in 0..ITEMS / 3 {
                    shared.pop();
                }
            })
        });
        for item in 0..ITEMS {
            let guard = shared.add(1);
            if item % 7 == 0 {
                shared.changed.notify_all(&guard);
            } else {
                drop(guard);
                shared.changed.notify_one();
            }
        }
        popping.into_iter().for_each(Peer::join);
        assert_eq!(shared.items.load(Relaxed), 0);
    });
}

#[test]
fn killed_at_any_moment_waiters_hold_nobody_up() {
    const LOCKS: usize = 10_usize.div_ceil(SLOWNESS);
    const ROUNDS: usize = 200 / SLOWNESS;
    isolated!(|| {
        let memories = memories();
        let all: [_; LOCKS] = std::array::from_fn(|i| Shared::new(&memories[i], Kind::Normal));
        killed_at_random::<3>(
            LOCKS,
            ROUNDS,
            |lock, _| {
                loop {
                    all[lock].pop();
                }
            },
            |round| {
                for shared in &all {
                    let guard = shared.add(round as u32 % 3);
                    if round % 2 == 0 {
                        shared.changed.notify_all(&guard);
                        drop(guard);
                    } else {
                        drop(guard);
                        (0..round % 3).for_each(|_| shared.changed.notify_one());
                    }
                }
            },
            |_| {
                for shared in &all {
                    eventually("the others take what is left", || {
                        shared.items.load(Relaxed) == 0
                    });
                }
                true
            },
        );
        // Nobody has the mutex, or only a dead one.
        for shared in all {
            drop(healthy(shared.mutex.try_lock(me())));
        }
    });
}

#[test]
fn killed_at_any_moment_notifiers_hold_nobody_up() {
    const LOCKS: usize = 10_usize.div_ceil(SLOWNESS);
    const ROUNDS: usize = 100 / SLOWNESS;
    isolated!(|| {
        let memories = memories();
        let all: [_; LOCKS] = std::array::from_fn(|i| Shared::new(&memories[i], Kind::Normal));
        let popping: Vec<Peer> = (0..2 * LOCKS)
            .map(|i| {
                peer(move || {
                    let shared = all[i / 2];
                    let taken = shared.word(136);
                    loop {
                        shared.pop();
                        taken.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        killed_at_random::<1>(
            LOCKS,
            ROUNDS,
            |lock, seed| {
                let shared = all[lock];
                for turn in seed.. {
                    let guard = shared.add(1);
                    match turn % 3 {
                        0 => {
                            shared.changed.notify_all(&guard);
                            drop(guard);
                        }
                        1 => {
                            drop(guard);
                            shared.changed.notify_one();
                        }
                        _ => {
                            drop(guard);
                            shared.changed.wake_all();
                        }
                    }
                    // Those who pop are as fast.
                    while shared.items.load(Relaxed) > 100 {
                        std::thread::yield_now();
                    }
                }
            },
            |_| {
                let seen = all.map(|shared| shared.word(136).load(Relaxed));
                for (shared, seen) in all.iter().zip(seen) {
                    eventually("items are taken", || shared.word(136).load(Relaxed) != seen);
                }
            },
            |_| true,
        );
        for shared in all {
            eventually("what is left is taken", || shared.items.load(Relaxed) == 0);
        }
        popping.into_iter().for_each(Peer::kill);
    });
}

/// Kills who adds two items and notifies at every step, beside two who wait for one each.
fn killed_at_every_step_beside_two(notify: impl Fn(Shared<'_>, Guard<'_>)) {
    let memories = memories();
    let mut added = 0;
    killed_at_every_step(
        &memories,
        |memory| Shared::new(memory, Kind::Normal),
        |shared, begin| {
            drop(shared.lock());
            begin();
            notify(shared, shared.add(2));
        },
        |shared, _| [(); 2].map(|()| shared.popping()),
        |shared, waiting| {
            drop(healthy(shared.mutex.lock_deadline(me(), patiently())));
            // Also if nobody was notified.
            eventually("what is there is taken", || shared.items.load(Relaxed) == 0);
            let guard = shared.add(2);
            shared.changed.notify_all(&guard);
            drop(guard);
            waiting.into_iter().for_each(Peer::join);
            match shared.items.load(Relaxed) {
                0 => {}
                left => {
                    assert_eq!(left, 2);
                    added += 1;
                }
            }
            drop(shared.mutex.try_lock(me()).unwrap());
        },
    );
    assert!(added > 0, "nobody was killed when it had added something");
}

#[test]
fn killed_at_every_step_of_a_notification() {
    isolated!(|| {
        killed_at_every_step_beside_two(|shared, guard| {
            drop(guard);
            shared.changed.notify_one();
            shared.changed.notify_one();
        });
    });
}

#[test]
fn killed_at_every_step_of_a_notification_of_all() {
    isolated!(|| {
        killed_at_every_step_beside_two(|shared, guard| {
            shared.changed.notify_all(&guard);
            drop(guard);
        });
    });
}

#[test]
fn killed_at_every_step_of_a_wake_of_all() {
    isolated!(|| {
        killed_at_every_step_beside_two(|shared, guard| {
            drop(guard);
            shared.changed.wake_all();
        });
    });
}

/// Kills who waits at every step. The next one, which waits behind it, gets one of the items.
fn killed_at_every_step_of_a_wait(notify: impl Fn(Shared<'_>)) {
    let memories = memories();
    let mut left = [0; 3];
    killed_at_every_step(
        &memories,
        |memory| Shared::new(memory, Kind::Normal),
        |shared, begin| {
            drop(shared.lock());
            begin();
            shared.pop();
        },
        |shared, victim| behind(victim, || shared.pop(), || notify(shared)),
        |shared, [next, notifying]| {
            notifying.join();
            next.join();
            left[shared.items.load(Relaxed) as usize] += 1;
            peer(|| drop(healthy(shared.mutex.try_lock(me())))).join();
        },
    );
    assert!(left[0] > 0 && left[1] > 0, "{left:?}");
}

#[test]
fn killed_at_every_step_of_a_wait_that_one_is_notified_of() {
    isolated!(|| {
        killed_at_every_step_of_a_wait(|shared| {
            drop(shared.add(2));
            shared.changed.notify_one();
            shared.changed.notify_one();
        });
    });
}

#[test]
fn killed_at_every_step_of_a_wait_in_which_all_are_moved_to_the_mutex() {
    isolated!(|| {
        killed_at_every_step_of_a_wait(|shared| {
            let guard = shared.add(2);
            shared.changed.notify_all(&guard);
            drop(guard);
        });
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let memory = memory();
        let shared = Shared::new(&memory, Kind::Normal);
        let mut random = locks::Random::new();
        let mut guard = Some(shared.lock());
        scribbled(
            || {
                shared.word(68).store(random.next() as u32, Relaxed);
                shared.word(72).store(random.next() as u32, Relaxed);
            },
            10_000,
            || {
                let now = Deadline::after(Clock::Monotonic, Duration::from_micros(20));
                let waited = shared.changed.wait_deadline(guard.take().unwrap(), now);
                shared.changed.notify_one();
                let (there, _) = waited.unwrap();
                shared.changed.notify_all(&there);
                shared.changed.wake_all();
                guard = Some(there);
            },
        );
        let waited = shared.changed.wait_deadline(guard.unwrap(), soon());
        assert_eq!(waited.unwrap().1, Reason::TimedOut);
    });
}
