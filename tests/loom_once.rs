//! Models of what is done once: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_once`
#![cfg(loom)]

#[path = "support/models.rs"]
mod models;

use std::mem::forget;
use std::sync::Arc;

use linipc_core::pshared::Error;
use linipc_core::pshared::once::{Begin, Once};
use linipc_core::sync::{Fault, Process, with};
use models::{ALL, Guarded, SOME, spawn};

/// What is made once.
struct Shared {
    once: Once,
    made: Guarded,
}

impl Shared {
    fn make(&self) {
        self.made.add();
    }

    fn made(&self) -> u32 {
        self.made.value()
    }

    /// Makes it, or finds it made; whether one died before, if it made it.
    fn ensure(&self, process: u32) -> Option<bool> {
        match self.once.begin(Process::new(process)).unwrap() {
            Begin::Done => None,
            Begin::First(initialiser) => {
                let has_died = initialiser.has_died_before();
                self.make();
                initialiser.complete();
                Some(has_died)
            }
        }
    }

    /// Begins to make it, if it is the first one, and dies.
    fn die(&self, process: u32) -> bool {
        match self.once.try_begin(Process::new(process)) {
            Ok(Begin::First(initialiser)) => {
                self.make();
                forget(initialiser);
                self.once.kill();
                true
            }
            _ => false,
        }
    }
}

fn model(preemptions: Option<usize>, body: impl Fn(Arc<Shared>) + Sync + Send + 'static) {
    let new = || Shared {
        once: Once::new(),
        made: Guarded::default(),
    };
    models::model(preemptions, new, body);
}

fn two_come() {
    model(ALL, |shared| {
        let other = spawn(&shared, |shared| {
            shared.ensure(1);
        });
        shared.ensure(2);
        assert_eq!(shared.made(), 1);
        other.join().unwrap();
    });
}

#[test]
fn one_makes_it_and_the_other_finds_it() {
    two_come();
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_who_waits_sleeps_for_ever() {
    with(Fault::NoWake, two_come);
}

#[test]
fn of_three_one_makes_it() {
    model(SOME, |shared| {
        let others = [1, 2].map(|process| {
            spawn(&shared, move |shared| {
                shared.ensure(process);
                assert_eq!(shared.made(), 1);
            })
        });
        shared.ensure(3);
        assert_eq!(shared.made(), 1);
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn who_only_looks_finds_it_made() {
    model(ALL, |shared| {
        let other = spawn(&shared, |shared| shared.ensure(1));
        if shared.once.is_done() {
            assert_eq!(shared.made(), 1);
        }
        match shared.once.try_begin(Process::new(2)) {
            Ok(Begin::Done) => assert_eq!(shared.made(), 1),
            Ok(Begin::First(initialiser)) => {
                shared.make();
                initialiser.complete();
            }
            Err(error) => assert_eq!(error, Error::Busy),
        }
        other.join().unwrap();
        assert_eq!(shared.made(), 1);
    });
}

#[test]
fn what_is_given_up_is_done_by_the_next_one() {
    model(ALL, |shared| {
        let other = spawn(&shared, |shared| {
            match shared.once.try_begin(Process::new(1)) {
                Ok(Begin::First(initialiser)) => {
                    shared.make();
                    drop(initialiser);
                    true
                }
                _ => false,
            }
        });
        let made = shared.ensure(2);
        assert_eq!(made, Some(false));
        let given_up = other.join().unwrap();
        assert_eq!(shared.made(), 1 + u32::from(given_up));
    });
}

#[test]
fn the_next_one_takes_over_from_a_dead_one_and_knows() {
    model(ALL, |shared| {
        let dying = spawn(&shared, |shared| shared.die(1));
        let made = shared.ensure(2);
        let died = dying.join().unwrap();
        assert_eq!(made, Some(died));
        assert_eq!(shared.made(), 1 + u32::from(died));
    });
}

#[test]
fn one_of_two_takes_over_from_a_dead_one() {
    model(SOME, |shared| {
        let dying = spawn(&shared, |shared| shared.die(1));
        let other = spawn(&shared, |shared| shared.ensure(2));
        let made = shared.ensure(3);
        let died = dying.join().unwrap();
        let both = [made, other.join().unwrap()];
        assert!(
            matches!(both, [Some(known), None] | [None, Some(known)] if known == died),
            "{both:?}"
        );
        assert_eq!(shared.made(), 1 + u32::from(died));
    });
}
