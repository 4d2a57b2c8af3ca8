//! Models of the semaphore: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_semaphore`
#![cfg(loom)]

#[path = "support/models.rs"]
mod models;

use std::sync::Arc;

use linipc_core::pshared::Error;
use linipc_core::pshared::semaphore::Semaphore;
use linipc_core::sync::{Fault, with};
use models::{ALL, Guarded, SOME, join, spawn};

/// A semaphore, and what a unit stands for.
struct Shared {
    semaphore: Semaphore,
    guarded: Guarded,
}

impl Shared {
    fn add(&self) {
        self.guarded.add();
    }

    fn value(&self) -> u32 {
        self.guarded.value()
    }

    fn wait_and_add(&self) {
        self.semaphore.wait().unwrap();
        self.add();
        self.semaphore.post().unwrap();
    }
}

/// Runs `body` on a new semaphore with so many units.
fn model(
    units: u32,
    preemptions: Option<usize>,
    body: impl Fn(Arc<Shared>) + Sync + Send + 'static,
) {
    let new = move || Shared {
        semaphore: Semaphore::new(units),
        guarded: Guarded::default(),
    };
    models::model(preemptions, new, body);
}

#[test]
fn one_unit_excludes() {
    model(1, SOME, |shared| {
        let others = [(); 2].map(|()| spawn(&shared, Shared::wait_and_add));
        shared.wait_and_add();
        join(others);
        assert_eq!((shared.value(), shared.semaphore.value()), (3, 1));
    });
}

#[test]
fn what_was_done_before_a_post_is_visible_after_the_wait() {
    model(0, ALL, |shared| {
        let posting = spawn(&shared, |shared| {
            shared.add();
            shared.semaphore.post().unwrap();
        });
        shared.semaphore.wait().unwrap();
        assert_eq!(shared.value(), 1);
        posting.join().unwrap();
    });
}

#[test]
fn who_only_tries_sees_it_too() {
    model(0, ALL, |shared| {
        let posting = spawn(&shared, |shared| {
            shared.add();
            shared.semaphore.post().unwrap();
        });
        match shared.semaphore.try_wait() {
            Ok(()) => assert_eq!(shared.value(), 1),
            failed => assert_eq!(failed, Err(Error::Busy)),
        }
        posting.join().unwrap();
    });
}

fn a_sleeper_is_woken() {
    model(0, ALL, |shared| {
        let posting = spawn(&shared, |shared| shared.semaphore.post().unwrap());
        shared.semaphore.wait().unwrap();
        posting.join().unwrap();
        assert_eq!(shared.semaphore.value(), 0);
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
fn two_posts_wake_two() {
    model(0, SOME, |shared| {
        let waiting = [(); 2].map(|()| spawn(&shared, |shared| shared.semaphore.wait().unwrap()));
        let posting = spawn(&shared, |shared| shared.semaphore.post().unwrap());
        shared.semaphore.post().unwrap();
        join(waiting);
        posting.join().unwrap();
        assert_eq!(shared.semaphore.value(), 0);
    });
}

#[test]
fn one_post_of_two_units_wakes_two() {
    model(0, SOME, |shared| {
        let waiting = [(); 2].map(|()| spawn(&shared, |shared| shared.semaphore.wait().unwrap()));
        shared.semaphore.post_many(2).unwrap();
        join(waiting);
        assert_eq!(shared.semaphore.value(), 0);
    });
}

#[test]
fn a_unit_goes_from_one_to_the_next() {
    model(0, SOME, |shared| {
        let waiting = [(); 2].map(|()| spawn(&shared, Shared::wait_and_add));
        shared.semaphore.post().unwrap();
        join(waiting);
        assert_eq!((shared.value(), shared.semaphore.value()), (2, 1));
    });
}

#[test]
fn a_unit_that_is_snatched_leaves_nobody_asleep() {
    model(0, SOME, |shared| {
        let waiting = [(); 2].map(|()| spawn(&shared, |shared| shared.semaphore.wait().unwrap()));
        shared.semaphore.post().unwrap();
        let snatched = shared.semaphore.try_wait().is_ok();
        shared
            .semaphore
            .post_many(if snatched { 2 } else { 1 })
            .unwrap();
        join(waiting);
        assert_eq!(shared.semaphore.value(), 0);
    });
}

#[test]
fn who_takes_one_of_several_units_sees_what_was_done_before() {
    model(0, ALL, |shared| {
        let posting = spawn(&shared, |shared| {
            shared.add();
            shared.semaphore.post_many(2).unwrap();
        });
        shared.semaphore.wait().unwrap();
        assert_eq!(shared.value(), 1);
        posting.join().unwrap();
    });
}
