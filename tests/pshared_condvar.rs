//! Condition variables between processes.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::condvar::{Condvar, Reason};
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex, Split};
use linipc_core::pshared::semaphore::Semaphore;
use linipc_core::pshared::{AttachError, Error};
use linipc_core::robust::Thread;
use support::{Peer, catch_signals, caught, eventually, interrupt, peer, until_asleep};

/// A mutex, a condition variable, and a number of items.
struct Shared(Region);

impl Shared {
    fn new(kind: Kind) -> Self {
        let region = Region::anonymous(4096, Access::READ | Access::WRITE).unwrap();
        // SAFETY: Only the processes of a test have the memory.
        unsafe { Mutex::init(region.bytes(), kind) }.unwrap();
        Condvar::init(region.bytes().slice(64, 12).unwrap()).unwrap();
        Self(region)
    }

    fn inheriting() -> Self {
        let shared = Self::new(Kind::Normal);
        // SAFETY: As in `new`.
        unsafe { Mutex::init_inheriting(shared.0.bytes(), Kind::Normal) }.unwrap();
        shared
    }

    fn mutex(&self) -> &Mutex {
        // SAFETY: As in `new`.
        unsafe { Mutex::attach(self.0.bytes()) }.unwrap()
    }

    fn changed(&self) -> &Condvar {
        Condvar::attach(self.0.bytes().slice(64, 12).unwrap()).unwrap()
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        self.0.bytes().atomic_u32(at).unwrap()
    }

    fn items(&self) -> &AtomicU32 {
        self.word(128)
    }

    fn lock(&self) -> Guard<'_> {
        healthy(self.mutex().lock(me()))
    }

    fn add(&self, items: u32) -> Guard<'_> {
        let guard = self.lock();
        self.items().fetch_add(items, Ordering::Relaxed);
        guard
    }

    fn pop(&self) {
        let mut guard = self.lock();
        while self.items().load(Ordering::Relaxed) == 0 {
            guard = healthy(self.changed().wait(guard));
        }
        self.items().fetch_sub(1, Ordering::Relaxed);
    }

    /// A process that sleeps until there is an item for it.
    fn popping(&self) -> Peer {
        let popping = peer(|| self.pop());
        until_asleep(popping.pid());
        popping
    }
}

fn me() -> Thread {
    Thread::current().unwrap()
}

fn healthy<'a>(locked: Result<Guard<'a>, LockError<'a>>) -> Guard<'a> {
    match locked {
        Ok(guard) => guard,
        Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
        Err(failed) => panic!("{failed}"),
    }
}

fn soon() -> Deadline {
    Deadline::after(Clock::Monotonic, Duration::from_millis(20))
}

#[test]
fn a_lock_of_another_kind_is_unlocked_by_the_caller() {
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let (changed, items) = (shared.changed(), shared.items());
        let lock = Semaphore::init(shared.0.bytes().slice(256, 64).unwrap(), 1).unwrap();
        let popping = peer(|| {
            for _ in 0..500 {
                lock.wait().unwrap();
                while items.load(Ordering::Relaxed) == 0 {
                    let woken = changed.wait_unlocked(|| lock.post(), None);
                    assert_eq!(woken, Ok(Reason::Notified));
                    lock.wait().unwrap();
                }
                items.fetch_sub(1, Ordering::Relaxed);
                lock.post().unwrap();
            }
        });
        for _ in 0..500 {
            lock.wait().unwrap();
            items.fetch_add(1, Ordering::Relaxed);
            changed.notify_one();
            lock.post().unwrap();
        }
        popping.join();
        assert_eq!(items.load(Ordering::Relaxed), 0);
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
        for shared in [
            Shared::new(Kind::Normal),
            Shared::new(Kind::ErrorCheck),
            Shared::inheriting(),
        ] {
            let guard = shared.lock();
            let (guard, reason) = shared.changed().wait_deadline(guard, soon()).unwrap();
            assert_eq!(reason, Reason::TimedOut);
            let real = Deadline::after(Clock::Realtime, Duration::from_millis(120));
            let mut waited = shared.changed().wait_deadline(guard, real).unwrap();
            // It returns sooner, to look at the data.
            while waited.1 == Reason::Notified {
                waited = shared.changed().wait_deadline(waited.0, real).unwrap();
            }
            let (guard, _) = waited;
            peer(|| {
                let busy = shared.mutex().try_lock(me());
                assert!(matches!(busy, Err(LockError::Failed(Error::Busy))));
            })
            .join();
            drop(guard);
            drop(shared.lock());
        }
    });
}

#[test]
fn one_is_woken() {
    isolated!(|| {
        for shared in [Shared::new(Kind::Normal), Shared::inheriting()] {
            let sleepers = [(); 3].map(|()| shared.popping());
            for left in (0..3).rev() {
                drop(shared.add(1));
                shared.changed().notify_one();
                eventually("one takes it", || {
                    shared.items().load(Ordering::Relaxed) == 0
                });
                let _ = left;
            }
            sleepers.into_iter().for_each(Peer::join);
        }
    });
}

#[test]
fn all_are_moved_to_the_mutex() {
    isolated!(|| {
        for shared in [
            Shared::new(Kind::Normal),
            Shared::new(Kind::Recursive),
            Shared::inheriting(),
        ] {
            let sleepers = [(); 4].map(|()| shared.popping());
            let guard = shared.add(4);
            shared.changed().notify_all(&guard);
            drop(guard);
            sleepers.into_iter().for_each(Peer::join);
            assert_eq!(shared.items().load(Ordering::Relaxed), 0);
        }
    });
}

#[test]
fn those_who_are_moved_are_not_woken_before_the_mutex_is_free() {
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let sleepers = [(); 2].map(|()| shared.popping());
        let guard = shared.add(2);
        shared.changed().notify_all(&guard);
        // Nobody sleeps there any more, and nobody has gone on.
        let futex = linipc_core::futex::Futex::shared(shared.word(68));
        assert_eq!(futex.wake(u32::MAX), Ok(0));
        assert_eq!(shared.items().load(Ordering::Relaxed), 2);
        drop(guard);
        sleepers.into_iter().for_each(Peer::join);
    });
}

#[test]
fn all_are_woken_without_the_mutex() {
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let sleepers = [(); 3].map(|()| shared.popping());
        drop(shared.add(3));
        shared.changed().wake_all();
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
            let sleeper = peer(|| {
                let mut guard = healthy(mutex.lock(me()));
                while items.load(Ordering::Relaxed) == 0 {
                    guard = healthy(condvar.wait(guard));
                }
                drop(guard);
                drop(healthy(mutex.lock(me())));
            });
            until_asleep(sleeper.pid());
            sleeper
        });
        let guard = healthy(mutex.lock(me()));
        items.store(1, Ordering::Relaxed);
        condvar.notify_all(&guard);
        drop(guard);
        sleepers.into_iter().for_each(Peer::join);
        drop(healthy(mutex.try_lock(me())));
    });
}

#[test]
fn a_mutex_that_is_locked_twice_is_not_waited_with() {
    isolated!(|| {
        let shared = Shared::new(Kind::Recursive);
        let guard = shared.lock();
        let again = shared.lock();
        let waited = shared.changed().wait(again);
        assert!(matches!(waited, Err(LockError::Failed(Error::Deadlock))));
        drop(waited);
        let waited = shared.changed().wait_deadline(guard, soon());
        assert!(matches!(waited, Ok((_, Reason::TimedOut))));
    });
}

#[test]
fn a_guard_of_the_parent_is_refused() {
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let guard = shared.lock();
        let mut guard = Some(guard);
        peer(|| {
            let waited = shared.changed().wait(guard.take().unwrap());
            assert!(matches!(waited, Err(LockError::Failed(Error::Forked))));
        })
        .join();
        let busy = peer(|| {
            let busy = shared.mutex().try_lock(me());
            assert!(matches!(busy, Err(LockError::Failed(Error::Busy))));
        });
        busy.join();
        drop(guard);
    });
}

#[test]
fn a_waiter_learns_that_an_owner_died() {
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let sleeper = peer(|| {
            let mut waited = shared.changed().wait(shared.lock());
            while let Ok(guard) = waited {
                waited = shared.changed().wait(guard);
            }
            let Err(LockError::OwnerDied(guard)) = waited else {
                panic!("{waited:?}");
            };
            drop(guard.mark_consistent());
        });
        until_asleep(sleeper.pid());
        let owner = peer(|| {
            let guard = shared.lock();
            shared.changed().notify_all(&guard);
            shared.word(132).store(1, Ordering::Relaxed);
            std::thread::park();
        });
        eventually("it has notified", || {
            shared.word(132).load(Ordering::Relaxed) == 1
        });
        owner.kill();
        sleeper.join();
    });
}

#[test]
fn all_learn_that_the_mutex_is_lost() {
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let sleepers = [(); 3].map(|()| {
            let sleeper = peer(|| {
                let mut lost = shared.changed().wait(healthy(shared.mutex().lock(me())));
                while let Ok(guard) = lost {
                    lost = shared.changed().wait(guard);
                }
                // Whoever is the first one to learn of the death does not repair it.
                assert!(
                    matches!(
                        lost,
                        Err(LockError::OwnerDied(_) | LockError::Failed(Error::NotRecoverable))
                    ),
                    "{lost:?}"
                );
            });
            until_asleep(sleeper.pid());
            sleeper
        });
        peer(|| std::mem::forget(shared.lock())).join();
        let lost = shared.mutex().lock(me());
        assert!(lost.is_err(), "{lost:?}");
        shared.changed().wake_all();
        drop(lost);
        sleepers.into_iter().for_each(Peer::join);
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let sleeper = peer(|| {
            catch_signals();
            shared.word(132).store(1, Ordering::Relaxed);
            shared.pop();
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || {
            shared.word(132).load(Ordering::Relaxed) == 1
        });
        interrupt(&sleeper);
        drop(shared.add(1));
        shared.changed().notify_one();
        sleeper.join();
    });
}

#[test]
fn memory_must_be_one() {
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let bytes = shared.0.bytes();
        assert!(matches!(Condvar::attach(bytes), Err(AttachError::NotFound)));
        assert!(matches!(
            Condvar::init(bytes.slice(64, 11).unwrap()),
            Err(AttachError::TooSmall { needed: 12 })
        ));
        assert!(matches!(
            Condvar::init(bytes.slice(66, 16).unwrap()),
            Err(AttachError::Unaligned { align: 4 })
        ));
        shared.word(64).fetch_add(1, Ordering::Relaxed);
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
        let shared = Shared::new(Kind::Normal);
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
                shared.changed().notify_all(&guard);
            } else {
                drop(guard);
                shared.changed().notify_one();
            }
        }
        popping.into_iter().for_each(Peer::join);
        assert_eq!(shared.items().load(Ordering::Relaxed), 0);
    });
}

#[test]
fn killed_waiters_hold_nobody_up() {
    const ROUNDS: usize = 300;
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let start = || {
            peer(|| {
                loop {
                    shared.pop();
                }
            })
        };
        let mut peers = [(); 3].map(|()| start());
        for round in 0..ROUNDS {
            let guard = shared.add(round as u32 % 3);
            if round % 2 == 0 {
                shared.changed().notify_all(&guard);
                drop(guard);
            } else {
                drop(guard);
                for _ in 0..round % 3 {
                    shared.changed().notify_one();
                }
            }
            for _ in 0..round * 37 % 3000 {
                std::hint::spin_loop();
            }
            std::mem::replace(&mut peers[round % 3], start()).kill();
            eventually("the others take what is left", || {
                shared.items().load(Ordering::Relaxed) == 0
            });
        }
        peers.into_iter().for_each(Peer::kill);
        // Nobody has the mutex, or only a dead one.
        drop(healthy(shared.mutex().try_lock(me())));
    });
}

#[test]
fn killed_notifiers_hold_nobody_up() {
    const ROUNDS: u64 = 200;
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let taken = shared.word(136);
        let popping = [(); 2].map(|()| {
            peer(|| {
                loop {
                    shared.pop();
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        for round in 0..ROUNDS {
            let pushing = peer(|| {
                loop {
                    let guard = shared.add(1);
                    shared.changed().notify_all(&guard);
                    drop(guard);
                    drop(shared.add(1));
                    shared.changed().notify_one();
                }
            });
            let before = taken.load(Ordering::Relaxed);
            eventually("items are taken", || {
                taken.load(Ordering::Relaxed) != before
            });
            std::thread::sleep(Duration::from_micros(round * 31 % 500));
            pushing.kill();
            eventually("what is left is taken", || {
                shared.items().load(Ordering::Relaxed) == 0
            });
        }
        popping.into_iter().for_each(Peer::kill);
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let shared = Shared::new(Kind::Normal);
        let stranger = peer(|| {
            let mut random = 1_u32;
            loop {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                shared
                    .word(68)
                    .store(random.rotate_left(9), Ordering::Relaxed);
                shared.word(72).store(random, Ordering::Relaxed);
            }
        });
        let mut guard = shared.lock();
        for _ in 0..10_000 {
            let now = Deadline::after(Clock::Monotonic, Duration::from_micros(20));
            guard = shared.changed().wait_deadline(guard, now).unwrap().0;
            shared.changed().notify_one();
            shared.changed().notify_all(&guard);
            shared.changed().wake_all();
        }
        stranger.kill();
        let (_guard, reason) = shared.changed().wait_deadline(guard, soon()).unwrap();
        assert_eq!(reason, Reason::TimedOut);
    });
}
