//! Models of the event: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_event`
#![cfg(loom)]

// Not loom's, which cannot be dropped while a model fails.
use std::sync::Arc;

use linipc_core::pshared::Error;
use linipc_core::pshared::event::{Event, Reset};
use linipc_core::sync::{Fault, with};
use loom::cell::UnsafeCell;
use loom::thread;

/// How often a thread is interrupted where it need not be, in models that are too large for all.
const SOME: Option<usize> = Some(2);
const ALL: Option<usize> = None;

/// What an event tells of: who touches it at the same time as another one fails the model.
struct Shared {
    event: Event,
    told: UnsafeCell<u32>,
}

// SAFETY: The model finds out.
unsafe impl Send for Shared {}
// SAFETY: As for `Send`.
unsafe impl Sync for Shared {}

impl Shared {
    fn tell(&self) {
        // SAFETY: The model fails if another one is there.
        self.told.with_mut(|told| unsafe { *told += 1 });
        self.event.set();
    }

    fn told(&self) -> u32 {
        // SAFETY: As in `tell`.
        self.told.with(|told| unsafe { *told })
    }

    fn wait(&self) {
        self.event.wait().unwrap();
    }
}

fn model(
    reset: Reset,
    preemptions: Option<usize>,
    body: impl Fn(Arc<Shared>) + Sync + Send + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        body(Arc::new(Shared {
            event: Event::new(reset),
            told: UnsafeCell::new(0),
        }));
    });
}

fn spawn(shared: &Arc<Shared>, body: impl Fn(&Shared) + 'static) -> thread::JoinHandle<()> {
    let shared = shared.clone();
    thread::spawn(move || body(&shared))
}

fn a_sleeper_is_woken(reset: Reset) {
    model(reset, ALL, move |shared| {
        let telling = spawn(&shared, Shared::tell);
        shared.wait();
        assert_eq!(shared.told(), 1);
        telling.join().unwrap();
        assert_eq!(shared.event.is_set(), reset == Reset::Manual);
    });
}

#[test]
fn who_sleeps_is_woken() {
    a_sleeper_is_woken(Reset::Auto);
    a_sleeper_is_woken(Reset::Manual);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_who_sleeps_sleeps_for_ever() {
    with(Fault::NoWake, || a_sleeper_is_woken(Reset::Auto));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_wake_of_all_who_sleeps_sleeps_for_ever() {
    with(Fault::NoWake, || a_sleeper_is_woken(Reset::Manual));
}

#[test]
fn all_ways_to_see_it_see_what_was_done_before() {
    for reset in [Reset::Auto, Reset::Manual] {
        for look in [
            |event: &Event| event.is_set(),
            |event: &Event| event.reset(),
            |event: &Event| event.try_wait() != Err(Error::Busy),
        ] {
            model(reset, ALL, move |shared| {
                let telling = spawn(&shared, Shared::tell);
                if look(&shared.event) {
                    assert_eq!(shared.told(), 1);
                }
                telling.join().unwrap();
            });
        }
    }
}

#[test]
fn a_second_set_tells_too() {
    for reset in [Reset::Auto, Reset::Manual] {
        model(reset, ALL, move |shared| {
            shared.event.set();
            let telling = spawn(&shared, Shared::tell);
            let both = spawn(&shared, |shared| {
                // It is that of the second one if it is set once more than reset.
                if shared.event.reset() && shared.event.reset() {
                    shared.told();
                }
            });
            telling.join().unwrap();
            both.join().unwrap();
            assert_eq!(shared.told(), 1);
        });
    }
}

#[test]
fn each_set_of_an_automatic_one_ends_one_wait() {
    model(Reset::Auto, SOME, |shared| {
        let waiting = [(); 2].map(|()| spawn(&shared, Shared::wait));
        shared.event.set();
        // The first one is taken before, so they are two.
        while shared.event.is_set() {
            thread::yield_now();
        }
        shared.event.set();
        for other in waiting {
            other.join().unwrap();
        }
        assert!(!shared.event.is_set());
    });
}

#[test]
fn one_goes_on_and_lets_the_next_one_go_on() {
    model(Reset::Auto, SOME, |shared| {
        let waiting = [(); 2].map(|()| {
            spawn(&shared, |shared| {
                shared.wait();
                shared.tell();
            })
        });
        shared.event.set();
        for other in waiting {
            other.join().unwrap();
        }
        assert_eq!(shared.told(), 2);
        assert!(shared.event.reset());
    });
}

#[test]
fn a_set_by_hand_ends_all_waits() {
    model(Reset::Manual, SOME, |shared| {
        let waiting = [(); 2].map(|()| {
            spawn(&shared, |shared| {
                shared.wait();
                assert_eq!(shared.told(), 1);
            })
        });
        shared.tell();
        for other in waiting {
            other.join().unwrap();
        }
        assert!(shared.event.is_set());
    });
}

#[test]
fn a_reset_right_behind_the_set_holds_nobody_back() {
    model(Reset::Manual, ALL, |shared| {
        let waiting = spawn(&shared, |shared| {
            shared.wait();
            assert_eq!(shared.told(), 1);
        });
        shared.tell();
        // Who began to wait after it would wait for the next one.
        let was_early = shared.event.reset();
        assert!(was_early);
        shared.event.set();
        waiting.join().unwrap();
    });
}

#[test]
fn who_tries_or_asks_sees_what_was_done_before_the_set() {
    for reset in [Reset::Auto, Reset::Manual] {
        model(reset, ALL, |shared| {
            let telling = spawn(&shared, Shared::tell);
            if shared.event.is_set() {
                assert_eq!(shared.told(), 1);
            }
            telling.join().unwrap();
        });
        model(reset, ALL, |shared| {
            let telling = spawn(&shared, Shared::tell);
            if shared.event.try_wait().is_ok() {
                assert_eq!(shared.told(), 1);
            }
            telling.join().unwrap();
        });
    }
}
