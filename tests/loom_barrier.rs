//! Models of the barrier: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_barrier`
#![cfg(loom)]

#[path = "support/models.rs"]
mod models;

use std::sync::Arc;

use linipc_core::pshared::Error;
use linipc_core::pshared::barrier::{Barrier, Party};
use linipc_core::sync::{Fault, Process, passed, with};
use loom::thread;
use models::{ALL, Guarded, SOME, spawn};

/// What each party does before it waits, at which nobody may look before all are there.
struct Shared {
    barrier: Barrier,
    done: [Guarded; 3],
}

impl Shared {
    fn join(&self, process: u32) -> Party<'_> {
        self.barrier.join(Process::new(process)).unwrap()
    }

    fn work(&self, party: usize) {
        self.done[party].add();
    }

    fn done(&self, party: usize) -> u32 {
        self.done[party].value()
    }
}

fn model(
    parties: u32,
    preemptions: Option<usize>,
    body: impl Fn(Arc<Shared>) + Sync + Send + 'static,
) {
    let new = move || Shared {
        barrier: Barrier::new(parties),
        done: Default::default(),
    };
    models::model(preemptions, new, body);
}

fn two_wait() {
    model(2, ALL, |shared| {
        let other = spawn(&shared, |shared| {
            let mut party = shared.join(1);
            shared.work(0);
            let is_leader = party.wait().unwrap();
            assert_eq!((shared.done(0), shared.done(1)), (1, 1));
            is_leader
        });
        let mut party = shared.join(2);
        shared.work(1);
        let is_leader = party.wait().unwrap();
        assert_eq!((shared.done(0), shared.done(1)), (1, 1));
        assert_ne!(is_leader, other.join().unwrap());
    });
}

#[test]
fn each_sees_what_the_other_did() {
    two_wait();
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_who_waits_sleeps_for_ever() {
    with(Fault::NoWake, two_wait);
}

#[test]
fn a_generation_follows_another() {
    model(2, SOME, |shared| {
        let other = spawn(&shared, |shared| {
            let mut party = shared.join(1);
            for generation in 1..=2 {
                shared.work(0);
                party.wait().unwrap();
                assert_eq!((shared.done(0), shared.done(1)), (generation, generation));
                party.wait().unwrap();
            }
        });
        let mut party = shared.join(2);
        for generation in 1..=2 {
            shared.work(1);
            party.wait().unwrap();
            assert_eq!((shared.done(0), shared.done(1)), (generation, generation));
            party.wait().unwrap();
        }
        other.join().unwrap();
    });
}

#[test]
fn of_three_one_is_the_leader() {
    model(3, SOME, |shared| {
        let others = [0, 1].map(|at| {
            spawn(&shared, move |shared| {
                let mut party = shared.join(1 + at as u32);
                shared.work(at);
                let is_leader = party.wait().unwrap();
                assert_eq!([0, 1, 2].map(|at| shared.done(at)), [1; 3]);
                u32::from(is_leader)
            })
        });
        let mut party = shared.join(3);
        shared.work(2);
        let mut leaders = u32::from(party.wait().unwrap());
        assert_eq!([0, 1, 2].map(|at| shared.done(at)), [1; 3]);
        for other in others {
            leaders += other.join().unwrap();
        }
        assert_eq!(leaders, 1);
    });
}

#[test]
fn who_waits_for_a_dead_one_is_told_and_waits_for_its_successor() {
    model(2, SOME, |shared| {
        std::mem::forget(shared.join(1));
        let dying = spawn(&shared, |shared| shared.barrier.kill(Process::new(1)));
        let mut party = shared.join(2);
        assert_eq!(party.wait(), Err(Error::PeerDead));
        dying.join().unwrap();
        let other = spawn(&shared, |shared| {
            shared.join(3).wait().unwrap();
        });
        party.wait().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn one_who_dies_when_it_was_there_was_there() {
    model(2, SOME, |shared| {
        let dying = spawn(&shared, |shared| {
            let party = shared.join(1);
            shared.work(0);
            party.die();
        });
        let mut party = shared.join(2);
        party.wait().unwrap();
        assert_eq!(shared.done(0), 1);
        dying.join().unwrap();
    });
}

#[test]
fn a_successor_is_not_counted_beside_the_dead_one() {
    model(3, Some(1), |shared| {
        // SAFETY: All threads end before the body does.
        let shared: &'static Shared = unsafe { &*Arc::as_ptr(&shared) };
        let until_complete = |party: &mut Party<'_>| {
            while let Err(error) = party.wait() {
                assert_eq!(error, Error::PeerDead);
            }
            assert_eq!(shared.done(0), 1);
        };
        let dead = shared.join(1);
        let (mut party, mut third) = (shared.join(2), shared.join(3));
        dead.die();
        let third = thread::spawn(move || until_complete(&mut third));
        let mut successor = shared.join(4);
        let successor = thread::spawn(move || until_complete(&mut successor));
        shared.work(0);
        until_complete(&mut party);
        third.join().unwrap();
        successor.join().unwrap();
    });
}

#[test]
fn who_comes_too_early_is_not_counted_and_loses_nothing_of_others() {
    model(3, Some(1), |shared| {
        let others = [0, 1].map(|at| {
            spawn(&shared, move |shared| {
                let mut party = shared.join(1 + at as u32);
                shared.work(at);
                if at == 1 && party.wait_deadline(passed()) == Err(Error::TimedOut) {
                    // This one was there, and is there again.
                    party.wait().unwrap();
                } else if at == 0 {
                    party.wait().unwrap();
                }
                assert_eq!([0, 1, 2].map(|at| shared.done(at)), [1; 3]);
            })
        });
        let mut party = shared.join(3);
        shared.work(2);
        party.wait().unwrap();
        assert_eq!([0, 1, 2].map(|at| shared.done(at)), [1; 3]);
        for other in others {
            other.join().unwrap();
        }
    });
}
