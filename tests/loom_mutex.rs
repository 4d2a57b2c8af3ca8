//! Models of the robust mutex: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_mutex`
#![cfg(loom)]

#[path = "support/models.rs"]
mod models;

use std::mem::forget;

use linipc_core::pshared::Error;
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex};
use linipc_core::sync::{Fault, Thread, kill_inheriting_owner, kill_owner, with};
use models::{ALL, Guarded, join, model, spawn};

const SOME: Option<usize> = Some(3);

/// A mutex, and what it guards.
struct Shared {
    mutex: Mutex,
    guarded: Guarded,
    /// What the kernel does when its owner dies.
    kill_owner: fn(&Mutex, Thread),
}

impl Shared {
    fn of(mutex: Mutex) -> Self {
        Self {
            mutex,
            guarded: Guarded::default(),
            kill_owner,
        }
    }

    fn new(kind: Kind) -> Self {
        // SAFETY: All threads of the model only lock.
        Self::of(unsafe { Mutex::new(kind) })
    }

    fn normal() -> Self {
        Self::new(Kind::Normal)
    }

    /// One that C programs lock too.
    fn pthread() -> Self {
        // SAFETY: As in `new`.
        Self::of(unsafe { Mutex::pthread(Kind::Normal) })
    }

    /// One that lends its owner the priority of those who wait.
    fn inheriting() -> Self {
        // SAFETY: As in `new`.
        let mutex = unsafe { Mutex::inheriting(Kind::Normal) };
        Self {
            kill_owner: kill_inheriting_owner,
            ..Self::of(mutex)
        }
    }

    /// Adds, and repairs before if an owner died: whether one did.
    fn lock_and_add(&self, thread: u32) -> bool {
        let (guard, died) = self.lock(thread);
        self.guarded.add();
        drop(guard);
        died
    }

    fn lock(&self, thread: u32) -> (Guard<'_>, bool) {
        match self.mutex.lock(Thread(thread)) {
            Ok(guard) => (guard, false),
            Err(LockError::OwnerDied(guard)) => (guard.mark_consistent(), true),
            Err(failed) => panic!("{failed}"),
        }
    }

    /// Locks, adds, and dies.
    fn die(&self, thread: u32) {
        let (guard, _) = self.lock(thread);
        self.guarded.add();
        forget(guard);
        (self.kill_owner)(&self.mutex, Thread(thread));
    }
}

/// A mutex of each protocol.
const EACH: [fn() -> Shared; 3] = [Shared::normal, Shared::pthread, Shared::inheriting];

#[test]
fn two_exclude_each_other() {
    for new in EACH {
        two_add(ALL, new);
    }
}

fn two_add(preemptions: Option<usize>, new: fn() -> Shared) {
    model(preemptions, new, |shared| {
        let adding = spawn(&shared, |shared| shared.lock_and_add(2));
        shared.lock_and_add(1);
        adding.join().unwrap();
        assert_eq!(shared.guarded.value(), 2);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_who_sleeps_sleeps_for_ever() {
    with(Fault::NoWake, || three_add(Shared::normal));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_who_waits_for_c_sleeps_for_ever() {
    with(Fault::NoWake, || three_add(Shared::pthread));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_who_inherits_sleeps_for_ever() {
    with(Fault::NoWake, || three_add(Shared::inheriting));
}

#[test]
fn three_exclude_each_other_and_none_sleeps_for_ever() {
    for new in EACH {
        three_add(new);
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_light_fence_a_wake_up_is_lost() {
    with(Fault::NoLightFence, || three_add(Shared::normal));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_heavy_fence_a_wake_up_is_lost() {
    with(Fault::NoHeavyFence, || three_add(Shared::normal));
}

#[test]
fn who_may_miss_a_wake_up_naps() {
    with(Fault::HeavyFenceRefused, || two_add(SOME, Shared::normal));
}

#[test]
fn who_is_not_reached_by_the_heavy_fence_makes_its_own() {
    with(Fault::NoRegistration, || three_add(Shared::normal));
}

fn three_add(new: fn() -> Shared) {
    model(SOME, new, |shared| {
        let others = [2, 3].map(|thread| {
            spawn(&shared, move |shared| {
                shared.lock_and_add(thread);
            })
        });
        shared.lock_and_add(1);
        join(others);
        assert_eq!(shared.guarded.value(), 3);
    });
}

#[test]
fn twice_in_a_row_is_two_turns() {
    for new in EACH {
        model(SOME, new, |shared| {
            let adding = spawn(&shared, |shared| {
                shared.lock_and_add(2);
                shared.lock_and_add(2);
            });
            shared.lock_and_add(1);
            shared.lock_and_add(1);
            adding.join().unwrap();
            assert_eq!(shared.guarded.value(), 4);
        });
    }
}

#[test]
fn who_only_tries_excludes_too() {
    for new in EACH {
        model(ALL, new, |shared| {
            let adding = spawn(&shared, |shared| shared.lock_and_add(2));
            match shared.mutex.try_lock(Thread(1)) {
                Ok(_guard) => shared.guarded.add(),
                Err(LockError::Failed(Error::Busy)) => {}
                other => panic!("{other:?}"),
            }
            adding.join().unwrap();
        });
    }
}

#[test]
fn the_next_one_learns_of_a_death() {
    for new in EACH {
        model(SOME, new, |shared| {
            let dying = spawn(&shared, |shared| shared.die(2));
            let before = shared.lock_and_add(1);
            dying.join().unwrap();
            let after = shared.lock_and_add(1);
            assert!(before ^ after, "exactly one of them came next");
            assert_eq!(shared.guarded.value(), 3);
        });
    }
}

#[test]
fn all_who_sleep_get_on_after_a_death() {
    for new in EACH {
        model(SOME, new, |shared| {
            let others =
                [2, 3].map(|thread| spawn(&shared, move |shared| shared.lock_and_add(thread)));
            shared.die(1);
            let died = others.map(|other| other.join().unwrap());
            assert!(died.iter().filter(|died| **died).count() <= 1);
            assert_eq!(shared.guarded.value(), 3);
        });
    }
}

#[test]
fn left_inconsistent_is_lost_for_all_who_wait() {
    for new in EACH {
        model(SOME, new, |shared| {
            shared.die(1);
            let others = [2, 3].map(|thread| {
                spawn(&shared, move |shared| {
                    match shared.mutex.lock(Thread(thread)) {
                        Err(LockError::OwnerDied(_)) => true,
                        Err(LockError::Failed(Error::NotRecoverable)) => false,
                        other => panic!("{other:?}"),
                    }
                })
            });
            let died = others.map(|other| other.join().unwrap());
            assert_eq!(died.iter().filter(|died| **died).count(), 1);
        });
    }
}

#[test]
fn who_has_it_again_has_it_until_the_last_time() {
    let new = || Shared::new(Kind::Recursive);
    model(SOME, new, |shared| {
        let adding = spawn(&shared, |shared| {
            let (first, _) = shared.lock(2);
            let (second, _) = shared.lock(2);
            drop(first);
            shared.guarded.add();
            drop(second);
        });
        shared.lock_and_add(1);
        adding.join().unwrap();
        assert_eq!(shared.guarded.value(), 2);
    });
}
