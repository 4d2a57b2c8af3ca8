//! Models of the robust mutex: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_mutex`
#![cfg(loom)]

use std::mem::forget;
// Not loom's, which cannot be dropped while a model fails.
use std::sync::Arc;

use linipc_core::pshared::Error;
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex};
use linipc_core::sync::{Fault, Thread, kill_owner, with};
use loom::cell::UnsafeCell;
use loom::thread;

/// What a mutex guards: who touches it at the same time as another one fails the model.
struct Shared {
    mutex: Mutex,
    guarded: UnsafeCell<u32>,
}

// SAFETY: The model finds out.
unsafe impl Send for Shared {}
// SAFETY: As for `Send`.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            // SAFETY: All threads of the model only lock.
            mutex: unsafe { Mutex::new(kind) },
            guarded: UnsafeCell::new(0),
        })
    }

    fn add(&self) {
        // SAFETY: The model fails if another one is there.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
    }

    fn value(&self) -> u32 {
        // SAFETY: As in `add`.
        self.guarded.with(|guarded| unsafe { *guarded })
    }

    /// Adds, and repairs before if an owner died: whether one did.
    fn lock_and_add(&self, thread: Thread) -> bool {
        let (guard, died) = self.lock(thread);
        self.add();
        drop(guard);
        died
    }

    fn lock(&self, thread: Thread) -> (Guard<'_>, bool) {
        match self.mutex.lock(thread) {
            Ok(guard) => (guard, false),
            Err(LockError::OwnerDied(guard)) => (guard.mark_consistent(), true),
            Err(failed) => panic!("{failed}"),
        }
    }

    /// Locks, adds, and dies.
    fn die(&self, thread: Thread) {
        let (guard, _) = self.lock(thread);
        self.add();
        forget(guard);
        kill_owner(&self.mutex, thread);
    }
}

fn model(preemptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(body);
}

#[test]
fn two_exclude_each_other() {
    two_add(None);
}

fn two_add(preemptions: Option<usize>) {
    model(preemptions, || {
        let shared = Shared::new(Kind::Normal);
        let other = shared.clone();
        let adding = thread::spawn(move || other.lock_and_add(Thread(2)));
        shared.lock_and_add(Thread(1));
        adding.join().unwrap();
        assert_eq!(shared.value(), 2);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_who_sleeps_sleeps_for_ever() {
    with(Fault::NoWake, three_add);
}

#[test]
fn three_exclude_each_other_and_none_sleeps_for_ever() {
    three_add();
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_light_fence_a_wake_up_is_lost() {
    with(Fault::NoLightFence, three_add);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_heavy_fence_a_wake_up_is_lost() {
    with(Fault::NoHeavyFence, three_add);
}

#[test]
fn who_may_miss_a_wake_up_naps() {
    with(Fault::HeavyFenceRefused, || two_add(Some(2)));
}

#[test]
fn who_is_not_reached_by_the_heavy_fence_makes_its_own() {
    with(Fault::NoRegistration, three_add);
}

fn three_add() {
    model(Some(3), || {
        let shared = Shared::new(Kind::Normal);
        let others = [2, 3].map(|id| {
            let other = shared.clone();
            thread::spawn(move || other.lock_and_add(Thread(id)))
        });
        shared.lock_and_add(Thread(1));
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(shared.value(), 3);
    });
}

#[test]
fn twice_in_a_row_is_two_turns() {
    model(Some(3), || {
        let shared = Shared::new(Kind::Normal);
        let other = shared.clone();
        let adding = thread::spawn(move || {
            other.lock_and_add(Thread(2));
            other.lock_and_add(Thread(2));
        });
        shared.lock_and_add(Thread(1));
        shared.lock_and_add(Thread(1));
        adding.join().unwrap();
        assert_eq!(shared.value(), 4);
    });
}

#[test]
fn the_next_one_learns_of_a_death() {
    model(Some(3), || {
        let shared = Shared::new(Kind::Normal);
        let other = shared.clone();
        let dying = thread::spawn(move || other.die(Thread(2)));
        let before = shared.lock_and_add(Thread(1));
        dying.join().unwrap();
        let after = shared.lock_and_add(Thread(1));
        assert!(before ^ after, "exactly one of them came next");
        assert_eq!(shared.value(), 3);
    });
}

#[test]
fn all_who_sleep_get_on_after_a_death() {
    model(Some(3), || {
        let shared = Shared::new(Kind::Normal);
        let others = [2, 3].map(|id| {
            let other = shared.clone();
            thread::spawn(move || other.lock_and_add(Thread(id)))
        });
        shared.die(Thread(1));
        let died = others.map(|other| other.join().unwrap());
        assert!(died.iter().filter(|died| **died).count() <= 1);
        assert_eq!(shared.value(), 3);
    });
}

#[test]
fn left_inconsistent_is_lost_for_all_who_wait() {
    model(Some(3), || {
        let shared = Shared::new(Kind::Normal);
        shared.die(Thread(1));
        let others = [2, 3].map(|id| {
            let other = shared.clone();
            thread::spawn(move || match other.mutex.lock(Thread(id)) {
                Err(LockError::OwnerDied(_)) => true,
                Err(LockError::Failed(Error::NotRecoverable)) => false,
                other => panic!("{other:?}"),
            })
        });
        let died = others.map(|other| other.join().unwrap());
        assert_eq!(died.iter().filter(|died| **died).count(), 1);
    });
}

#[test]
fn who_has_it_again_has_it_until_the_last_time() {
    model(Some(3), || {
        let shared = Shared::new(Kind::Recursive);
        let other = shared.clone();
        let adding = thread::spawn(move || {
            let (first, _) = other.lock(Thread(2));
            let (second, _) = other.lock(Thread(2));
            drop(first);
            other.add();
            drop(second);
        });
        shared.lock_and_add(Thread(1));
        adding.join().unwrap();
        assert_eq!(shared.value(), 2);
    });
}
