//! Models of the spin lock: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_spin`
#![cfg(loom)]

use std::sync::Arc;

use linipc_core::pshared::Error;
use linipc_core::pshared::spin::SpinLock;
use linipc_core::sync::{Fault, Process, kill_holder, with};
use loom::cell::UnsafeCell;
use loom::thread;

/// What a lock guards: who touches it at the same time as another one fails the model.
struct Shared {
    lock: SpinLock,
    guarded: UnsafeCell<u32>,
}

// SAFETY: The model finds out.
unsafe impl Send for Shared {}
// SAFETY: As for `Send`.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            lock: SpinLock::new(),
            guarded: UnsafeCell::new(0),
        })
    }

    fn add(&self) {
        // SAFETY: The model fails if another one is there.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
    }

    fn lock_and_add(&self, process: u32) -> Result<(), Error> {
        let guard = self.lock.lock(Process::new(process))?;
        self.add();
        drop(guard);
        Ok(())
    }
}

fn model(preemptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(body);
}

/// Each of so many locks and adds, sleeping meanwhile.
fn each_adds_once(others: u32, preemptions: Option<usize>) {
    model(preemptions, move || {
        let shared = Shared::new();
        let others: Vec<_> = (0..others)
            .map(|other| {
                let shared = shared.clone();
                thread::spawn(move || shared.lock_and_add(other + 2).unwrap())
            })
            .collect();
        shared.lock_and_add(1).unwrap();
        let count = others.len() as u32 + 1;
        for other in others {
            other.join().unwrap();
        }
        let _guard = shared.lock.try_lock(Process::new(1)).unwrap();
        // SAFETY: As in `add`.
        assert_eq!(shared.guarded.with(|guarded| unsafe { *guarded }), count);
    });
}

#[test]
fn two_exclude_each_other() {
    each_adds_once(1, None);
}

#[test]
fn three_exclude_each_other_and_none_sleeps_for_ever() {
    each_adds_once(2, Some(3));
}

#[test]
fn who_only_tries_excludes_too() {
    model(None, || {
        let shared = Shared::new();
        let there = shared.clone();
        let other = thread::spawn(move || there.lock_and_add(2).unwrap());
        match shared.lock.try_lock(Process::new(1)) {
            Ok(_guard) => shared.add(),
            Err(error) => assert_eq!(error, Error::Busy),
        }
        other.join().unwrap();
    });
}

#[test]
fn nobody_waits_for_ever_for_a_dead_owner() {
    model(Some(2), || {
        let shared = Shared::new();
        let dying = {
            let shared = shared.clone();
            thread::spawn(move || match shared.lock.lock(Process::new(1)) {
                Ok(guard) => kill_holder(guard),
                Err(error) => panic!("{error}"),
            })
        };
        let waiting = {
            let shared = shared.clone();
            thread::spawn(move || shared.lock_and_add(2))
        };
        let seen = shared.lock_and_add(3);
        let others = waiting.join().unwrap();
        dying.join().unwrap();
        for result in [seen, others] {
            assert!(
                matches!(result, Ok(()) | Err(Error::PeerDead)),
                "{result:?}"
            );
        }
        assert_eq!(shared.lock_and_add(3), Err(Error::PeerDead));
        assert_eq!(
            shared.lock.try_lock(Process::new(3)).unwrap_err(),
            Error::PeerDead
        );
    });
}

#[test]
fn without_heavy_fences_nobody_sleeps_for_ever() {
    with(Fault::NoRegistration, || each_adds_once(1, None));
    with(Fault::HeavyFenceRefused, || each_adds_once(1, Some(3)));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_model_sees_that_the_light_fence_is_needed() {
    with(Fault::NoLightFence, || each_adds_once(1, None));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_model_sees_that_the_heavy_fence_is_needed() {
    with(Fault::NoHeavyFence, || each_adds_once(1, None));
}
