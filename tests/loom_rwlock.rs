//! Models of the readers-writer lock, with two slots: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_rwlock`
#![cfg(loom)]

use std::sync::Arc;

use linipc_core::pshared::Error;
use linipc_core::pshared::rwlock::{LockError, ReadGuard, RwLock, WriteGuard};
use linipc_core::sync::{Fault, Process, kill_asking_writer, kill_reader, kill_writer, with};
use loom::cell::UnsafeCell;
use loom::thread::{self, JoinHandle};

/// What a lock guards: who changes it while another one is there fails the model.
struct Shared {
    lock: RwLock,
    guarded: UnsafeCell<u32>,
}

// SAFETY: The model finds out.
unsafe impl Send for Shared {}
// SAFETY: As for `Send`.
unsafe impl Sync for Shared {}

impl Shared {
    fn add(&self) {
        // SAFETY: The model fails if another one is there.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
    }

    fn value(&self) -> u32 {
        // SAFETY: As in `add`.
        self.guarded.with(|guarded| unsafe { *guarded })
    }

    fn reading(&self, process: u32) -> ReadGuard<'_> {
        self.lock.read(Process::new(process)).unwrap()
    }

    fn writing(&self, process: u32) -> WriteGuard<'_> {
        self.lock.write(Process::new(process)).unwrap()
    }

    fn read(&self, process: u32) -> u32 {
        let _guard = self.reading(process);
        self.value()
    }

    fn write(&self, process: u32) {
        let _guard = self.writing(process);
        self.add();
    }
}

type Body = fn(Arc<Shared>);

/// Runs a thread of a model for each of these, beside the first one.
fn model<const N: usize>(preemptions: Option<usize>, first: Body, others: [Body; N]) {
    model_with_end(preemptions, first, others, |_| {});
}

/// The same, and `end` when all are done.
fn model_with_end<const N: usize>(
    preemptions: Option<usize>,
    first: Body,
    others: [Body; N],
    end: Body,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        let shared = Arc::new(Shared {
            lock: RwLock::new(),
            guarded: UnsafeCell::new(0),
        });
        let others = others.map(|body| {
            let shared = shared.clone();
            thread::spawn(move || body(shared))
        });
        first(shared.clone());
        others.map(|other: JoinHandle<()>| other.join().unwrap());
        end(shared);
    });
}

/// How it went, where a writer may have died.
fn repair<'a>(result: Result<WriteGuard<'a>, LockError<'a>>) -> (WriteGuard<'a>, bool) {
    match result {
        Ok(guard) => (guard, false),
        Err(LockError::OwnerDied(guard)) => (guard.mark_consistent(), true),
        Err(failed) => panic!("{failed}"),
    }
}

#[test]
fn a_reader_and_a_writer_exclude_each_other() {
    model(
        Some(4),
        |shared| {
            let value = shared.read(1);
            assert!(value <= 1, "{value}");
        },
        [|shared| shared.write(2)],
    );
}

#[test]
fn two_readers_and_a_writer() {
    model_with_end(
        Some(3),
        |shared| shared.write(1),
        [
            |shared| assert!(shared.read(2) <= 1),
            |shared| assert!(shared.read(3) <= 1),
        ],
        |shared| assert_eq!(shared.read(1), 1),
    );
}

#[test]
fn two_writers_and_a_reader() {
    model_with_end(
        Some(3),
        |shared| shared.write(1),
        [
            |shared| shared.write(2),
            |shared| assert!(shared.read(3) <= 2),
        ],
        |shared| assert_eq!(shared.read(1), 2),
    );
}

#[test]
fn three_writers_none_of_whom_sleeps_for_ever() {
    model_with_end(
        Some(3),
        |shared| shared.write(1),
        [|shared| shared.write(2), |shared| shared.write(3)],
        |shared| assert_eq!(shared.read(1), 3),
    );
}

#[test]
fn who_finds_all_slots_taken_waits_for_one() {
    model(
        Some(1),
        |shared| drop(shared.read(1)),
        [
            |shared| drop(shared.read(2)),
            |shared| drop(shared.read(3)),
            |shared| drop(shared.read(4)),
        ],
    );
}

#[test]
fn who_only_tries_excludes_too() {
    model(
        Some(3),
        |shared| match shared.lock.try_write(Process::new(1)) {
            Ok(_guard) => shared.add(),
            Err(LockError::Failed(error)) => assert_eq!(error, Error::Busy),
            Err(failed) => panic!("{failed}"),
        },
        [
            |shared| shared.write(2),
            |shared| match shared.lock.try_read(Process::new(3)) {
                Ok(_guard) => assert!(shared.value() <= 2),
                Err(LockError::Failed(error)) => assert_eq!(error, Error::Busy),
                Err(failed) => panic!("{failed}"),
            },
        ],
    );
}

#[test]
fn one_of_two_readers_can_become_the_writer() {
    fn raise(shared: &Shared, process: u32) {
        let guard = shared.reading(process);
        let before = shared.value();
        match guard.upgrade() {
            Ok(_guard) => {
                assert_eq!(shared.value(), before);
                shared.add();
            }
            Err(failed) => {
                assert_eq!(failed.error, Error::Busy);
                assert_eq!(shared.value(), before);
            }
        }
    }
    model_with_end(
        Some(3),
        |shared| raise(&shared, 1),
        [|shared| raise(&shared, 2)],
        |shared| assert!((1..=2).contains(&shared.read(1))),
    );
}

#[test]
fn a_reader_that_becomes_the_writer_excludes_a_writer() {
    model(
        Some(2),
        |shared| {
            let guard = shared.reading(1);
            let before = shared.value();
            match guard.upgrade() {
                Ok(_guard) => {
                    assert_eq!(shared.value(), before);
                    shared.add();
                }
                Err(failed) => assert_eq!(failed.error, Error::Busy),
            }
        },
        [|shared| shared.write(2), |shared| drop(shared.read(3))],
    );
}

#[test]
fn a_writer_that_becomes_a_reader_lets_no_writer_in_between() {
    model(
        Some(2),
        |shared| {
            let guard = shared.writing(1);
            shared.add();
            let written = shared.value();
            let guard = guard.downgrade();
            assert_eq!(shared.value(), written);
            drop(guard);
        },
        [|shared| shared.write(2), |shared| drop(shared.read(3))],
    );
}

#[test]
fn nobody_waits_for_ever_for_a_dead_reader() {
    model(
        Some(2),
        |shared| shared.write(1),
        [
            |shared| {
                let guard = shared.reading(2);
                shared.value();
                kill_reader(guard);
            },
            |shared| drop(shared.read(3)),
        ],
    );
}

#[test]
fn dead_readers_leave_room() {
    model(
        Some(3),
        |shared| drop(shared.read(1)),
        [|shared| {
            let guards = [2, 3].map(|process| shared.reading(process));
            guards.map(kill_reader);
        }],
    );
}

#[test]
fn the_next_one_learns_that_a_writer_died() {
    model_with_end(
        Some(2),
        |shared| {
            let (guard, _) = repair(shared.lock.write(Process::new(1)));
            shared.add();
            drop(guard);
        },
        [
            |shared| {
                let (guard, _) = repair(shared.lock.write(Process::new(2)));
                shared.add();
                kill_writer(guard);
            },
            |shared| match shared.lock.read(Process::new(3)) {
                Ok(_guard) => drop(shared.value()),
                Err(LockError::OwnerDied(guard)) => {
                    let guard = guard.mark_consistent();
                    shared.add();
                    let _guard = guard.downgrade();
                }
                Err(failed) => panic!("{failed}"),
            },
        ],
        |shared| {
            let (_guard, _) = repair(shared.lock.write(Process::new(1)));
            assert!(shared.value() >= 2);
        },
    );
}

#[test]
fn whoever_waits_learns_that_it_cannot_be_had_any_more() {
    fn lose(shared: &Shared, process: u32) {
        match shared.lock.write(Process::new(process)) {
            Ok(guard) => drop(guard),
            Err(LockError::OwnerDied(guard)) => drop(guard),
            Err(LockError::Failed(error)) => assert_eq!(error, Error::NotRecoverable),
        }
    }
    model_with_end(
        Some(2),
        |shared| lose(&shared, 1),
        [
            |shared| match shared.lock.write(Process::new(2)) {
                Ok(guard) => kill_writer(guard),
                Err(failed) => panic!("{failed}"),
            },
            |shared| match shared.lock.read(Process::new(3)) {
                Ok(guard) => drop(guard),
                Err(LockError::OwnerDied(guard)) => drop(guard),
                Err(LockError::Failed(error)) => assert_eq!(error, Error::NotRecoverable),
            },
        ],
        |shared| {
            lose(&shared, 1);
            match shared.lock.try_read(Process::new(1)) {
                Err(LockError::Failed(error)) => assert_eq!(error, Error::NotRecoverable),
                other => panic!("{other:?}"),
            }
        },
    );
}

#[test]
fn who_dies_before_it_has_the_lock_has_changed_nothing() {
    model(
        Some(2),
        |shared| drop(shared.read(1)),
        [
            |shared| kill_asking_writer(&shared.lock),
            |shared| shared.write(2),
        ],
    );
    model(
        Some(3),
        |shared| {
            let guard = shared.reading(1);
            match guard.upgrade() {
                Ok(_guard) => shared.add(),
                Err(failed) => panic!("{failed}"),
            }
        },
        [|shared| kill_asking_writer(&shared.lock)],
    );
}

fn sleepers() {
    a_reader_and_a_writer_exclude_each_other();
}

#[test]
fn without_heavy_fences_nobody_sleeps_for_ever() {
    with(Fault::NoRegistration, sleepers);
    with(Fault::HeavyFenceRefused, sleepers);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_model_sees_that_the_fence_behind_the_exchange_is_needed() {
    with(Fault::NoExchangeFence, two_readers_and_a_writer);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_model_sees_that_the_light_fence_is_needed() {
    with(Fault::NoLightFence, sleepers);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_model_sees_that_the_heavy_fence_is_needed() {
    with(Fault::NoHeavyFence, sleepers);
}
