//! Models of the condition variable: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_condvar`
#![cfg(loom)]

#[path = "support/models.rs"]
mod models;

use std::mem::forget;
use std::sync::Arc;

use linipc_core::pshared::condvar::Condvar;
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex};
use linipc_core::sync::{Fault, Thread, kill_owner, with};
use models::{ALL, Guarded, SOME, join, spawn};

/// A number of items, and who waits for one.
struct Shared {
    mutex: Mutex,
    changed: Condvar,
    items: Guarded,
}

impl Shared {
    fn lock(&self, thread: u32) -> Guard<'_> {
        healthy(self.mutex.lock(Thread(thread)))
    }

    fn add(&self, items: u32) {
        self.items.change(|all| *all += items);
    }

    /// Takes an item, if there is one.
    fn take(&self) -> bool {
        self.items.change(|items| {
            let taken = *items > 0;
            *items -= u32::from(taken);
            taken
        })
    }

    /// Waits for an item.
    fn pop(&self, thread: u32) {
        let mut guard = self.lock(thread);
        while !self.take() {
            guard = healthy(self.changed.wait(guard));
        }
    }
}

/// Goes on also if an owner died.
fn healthy<'a>(locked: Result<Guard<'a>, LockError<'a>>) -> Guard<'a> {
    match locked {
        Ok(guard) => guard,
        Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
        Err(failed) => panic!("{failed}"),
    }
}

fn model(preemptions: Option<usize>, body: impl Fn(Arc<Shared>) + Sync + Send + 'static) {
    let protocol = match preemptions {
        // That with fewer steps.
        ALL => Mutex::pthread,
        _ => Mutex::new,
    };
    model_with(protocol, preemptions, body);
}

fn model_with(
    protocol: unsafe fn(Kind) -> Mutex,
    preemptions: Option<usize>,
    body: impl Fn(Arc<Shared>) + Sync + Send + 'static,
) {
    let new = move || Shared {
        // SAFETY: All threads of the model only lock.
        mutex: unsafe { protocol(Kind::Normal) },
        changed: Condvar::new(),
        items: Guarded::default(),
    };
    models::model(preemptions, new, body);
}

fn a_sleeper_is_woken() {
    model(ALL, |shared| {
        let pushing = spawn(&shared, |shared| {
            let guard = shared.lock(2);
            shared.add(1);
            drop(guard);
            shared.changed.notify_one();
        });
        shared.pop(1);
        pushing.join().unwrap();
    });
}

#[test]
fn who_sleeps_is_woken() {
    a_sleeper_is_woken();
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_who_sleeps_sleeps_for_ever() {
    with(Fault::NoWake, a_sleeper_is_woken);
}

#[test]
fn who_sleeps_is_woken_by_a_notification_with_the_mutex() {
    model(ALL, |shared| {
        let popping = spawn(&shared, |shared| shared.pop(1));
        let guard = shared.lock(2);
        shared.add(1);
        shared.changed.notify_one();
        drop(guard);
        popping.join().unwrap();
    });
}

#[test]
fn one_who_sleeps_is_moved_to_the_mutex() {
    model(ALL, |shared| {
        let popping = spawn(&shared, |shared| shared.pop(1));
        let guard = shared.lock(2);
        shared.add(1);
        shared.changed.notify_all(&guard);
        drop(guard);
        popping.join().unwrap();
    });
}

fn two_sleepers_are_moved_to_the_mutex(protocol: unsafe fn(Kind) -> Mutex) {
    model_with(protocol, SOME, |shared| {
        let popping = spawn(&shared, |shared| shared.pop(1));
        let pushing = spawn(&shared, |shared| {
            let guard = shared.lock(3);
            shared.add(2);
            shared.changed.notify_all(&guard);
            drop(guard);
        });
        shared.pop(2);
        join([popping, pushing]);
    });
}

#[test]
fn all_who_sleep_are_moved_to_the_mutex() {
    two_sleepers_are_moved_to_the_mutex(Mutex::new);
}

#[test]
fn all_who_sleep_are_moved_to_a_mutex_of_c() {
    two_sleepers_are_moved_to_the_mutex(Mutex::pthread);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_those_who_are_moved_sleep_for_ever() {
    with(Fault::NoWake, || {
        two_sleepers_are_moved_to_the_mutex(Mutex::new)
    });
}

#[test]
fn all_who_sleep_are_woken_without_the_mutex() {
    model(SOME, |shared| {
        let popping = [1, 2].map(|thread| spawn(&shared, move |shared| shared.pop(thread)));
        let guard = shared.lock(3);
        shared.add(2);
        drop(guard);
        shared.changed.wake_all();
        join(popping);
    });
}

#[test]
fn two_notifications_wake_two() {
    model(SOME, |shared| {
        let popping = [1, 2].map(|thread| spawn(&shared, move |shared| shared.pop(thread)));
        for _ in 0..2 {
            let guard = shared.lock(3);
            shared.add(1);
            drop(guard);
            shared.changed.notify_one();
        }
        join(popping);
    });
}

#[test]
fn a_notification_beside_one_of_all_is_not_lost() {
    model(SOME, |shared| {
        let popping = spawn(&shared, |shared| shared.pop(1));
        let pushing = spawn(&shared, |shared| {
            // There may be nothing for anybody.
            shared.changed.notify_one();
        });
        let guard = shared.lock(3);
        shared.add(1);
        shared.changed.notify_all(&guard);
        drop(guard);
        join([popping, pushing]);
    });
}

#[test]
fn one_who_was_moved_gets_the_mutex_of_an_owner_that_died() {
    model(SOME, |shared| {
        let popping = spawn(&shared, |shared| shared.pop(1));
        let guard = shared.lock(2);
        shared.add(1);
        shared.changed.notify_all(&guard);
        forget(guard);
        kill_owner(&shared.mutex, Thread(2));
        popping.join().unwrap();
    });
}
