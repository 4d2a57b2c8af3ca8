//! Models of the split mutex, whose words strangers write: what its claim gives the threads of a process.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_split`
#![cfg(loom)]

#[path = "support/models.rs"]
mod models;

use linipc_core::pshared::Error;
use linipc_core::pshared::condvar::Condvar;
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex, SplitModel};
use linipc_core::sync::{Fault, Thread, passed, with};
use models::{ALL, Guarded, SOME, join, model, spawn};

/// A mutex, and what it guards among threads of a process.
struct Shared {
    split: SplitModel,
    changed: Condvar,
    guarded: Guarded,
}

impl Shared {
    fn with(mutex: Mutex) -> Self {
        Self {
            split: SplitModel::new(mutex),
            changed: Condvar::new(),
            guarded: Guarded::default(),
        }
    }

    fn new() -> Self {
        // SAFETY: All threads of the model only lock, or write the lock word, whose links are not there.
        Self::with(unsafe { Mutex::new(Kind::Normal) })
    }

    /// One that lends its owner the priority of those who wait, and so does its claim.
    fn inheriting() -> Self {
        // SAFETY: As in `new`.
        Self::with(unsafe { Mutex::inheriting(Kind::Normal) })
    }

    fn lock(&self, thread: u32) -> Guard<'_> {
        self.split.here().lock(Thread(thread)).unwrap()
    }

    fn lock_and_add(&self, thread: u32) {
        let _guard = self.lock(thread);
        self.guarded.add();
    }

    /// Takes one of what is counted; waits for it.
    fn pop(&self, thread: u32) {
        let mut guard = self.lock(thread);
        while !self.take() {
            guard = self.changed.wait(guard).unwrap();
        }
    }

    fn take(&self) -> bool {
        self.guarded.change(|count| {
            let taken = *count > 0;
            *count -= u32::from(taken);
            taken
        })
    }
}

/// A split mutex as it is made, of both sorts.
const BOTH: [fn() -> Shared; 2] = [Shared::new, Shared::inheriting];

#[test]
fn threads_exclude_each_other_whatever_a_stranger_writes() {
    for new in BOTH {
        model(ALL, new, |shared| {
            let other = spawn(&shared, |shared| shared.lock_and_add(2));
            let stranger = spawn(&shared, |shared| shared.split.scribble());
            shared.lock_and_add(1);
            join([other, stranger]);
            assert_eq!(shared.guarded.value(), 2);
        });
    }
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_claim_they_would_not() {
    model(ALL, Shared::new, |shared| {
        let lock_and_add = |shared: &Shared, thread| {
            let _guard = shared.split.elsewhere().lock(Thread(thread)).unwrap();
            shared.guarded.add();
        };
        let other = spawn(&shared, move |shared| lock_and_add(shared, 2));
        let stranger = spawn(&shared, |shared| shared.split.scribble());
        lock_and_add(&shared, 1);
        join([other, stranger]);
    });
}

fn three_add() {
    model(SOME, Shared::new, |shared| {
        let here = spawn(&shared, |shared| shared.lock_and_add(2));
        let elsewhere = spawn(&shared, |shared| {
            let _guard = shared.split.elsewhere().lock(Thread(3)).unwrap();
            shared.guarded.add();
        });
        shared.lock_and_add(1);
        join([here, elsewhere]);
        assert_eq!(shared.guarded.value(), 3);
    });
}

#[test]
fn two_threads_and_another_process_exclude_each_other() {
    three_add();
}

fn three_threads_add(new: fn() -> Shared) {
    model(SOME, new, |shared| {
        let others = [2, 3].map(|thread| spawn(&shared, move |shared| shared.lock_and_add(thread)));
        shared.lock_and_add(1);
        join(others);
        assert_eq!(shared.guarded.value(), 3);
    });
}

#[test]
fn none_of_three_threads_sleeps_for_ever() {
    for new in BOTH {
        three_threads_add(new);
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_of_the_claim_who_sleeps_sleeps_for_ever() {
    with(Fault::NoWake, || three_threads_add(Shared::new));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_of_the_claim_who_inherits_sleeps_for_ever() {
    with(Fault::NoWake, || three_threads_add(Shared::inheriting));
}

#[test]
fn who_only_tries_or_comes_too_late_excludes_too() {
    model(ALL, Shared::new, |shared| {
        let other = spawn(&shared, |shared| shared.lock_and_add(2));
        let mutex = shared.split.here();
        for late in [false, true] {
            let locked = match late {
                false => mutex.try_lock(Thread(1)),
                true => mutex.lock_deadline(Thread(1), passed()),
            };
            match locked {
                Ok(_guard) => shared.guarded.add(),
                Err(LockError::Failed(Error::Busy | Error::TimedOut)) => {}
                other => panic!("{other:?}"),
            }
        }
        join([other]);
    });
}

#[test]
fn who_has_it_does_not_wait_for_itself() {
    model(ALL, Shared::new, |shared| {
        let _guard = shared.lock(1);
        let again = shared.split.here().lock(Thread(1));
        assert!(matches!(again, Err(LockError::Failed(Error::Deadlock))));
    });
}

/// Two threads of a process are moved from the condition variable to the mutex: who is woken there may have
/// to wait for the claim of the one in whose place it was woken.
fn two_are_moved() {
    model(SOME, Shared::new, |shared| {
        let popping = spawn(&shared, |shared| shared.pop(2));
        let notifying = spawn(&shared, |shared| {
            let guard = shared.lock(3);
            shared.guarded.change(|count| *count += 2);
            shared.changed.notify_all(&guard);
        });
        shared.pop(1);
        join([popping, notifying]);
        assert_eq!(shared.guarded.value(), 0);
    });
}

#[test]
fn who_is_moved_to_the_mutex_goes_on() {
    two_are_moved();
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_who_is_moved_sleeps_for_ever() {
    with(Fault::NoWake, two_are_moved);
}

/// One thread is moved, beside another process that is moved too.
#[test]
fn who_is_moved_beside_another_process_goes_on() {
    model(SOME, Shared::new, |shared| {
        let elsewhere = spawn(&shared, |shared| {
            let mut guard = shared.split.elsewhere().lock(Thread(2)).unwrap();
            while !shared.take() {
                guard = shared.changed.wait(guard).unwrap();
            }
        });
        let notifying = spawn(&shared, |shared| {
            let guard = shared.lock(3);
            shared.guarded.change(|count| *count += 2);
            shared.changed.notify_all(&guard);
        });
        shared.pop(1);
        join([elsewhere, notifying]);
    });
}
