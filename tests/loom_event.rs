//! Models of the event: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_event`
#![cfg(loom)]

#[path = "support/models.rs"]
mod models;

use std::sync::Arc;

use linipc_core::pshared::Error;
use linipc_core::pshared::event::{Event, Reset};
use linipc_core::sync::{Fault, with};
use loom::thread;
use models::{ALL, Guarded, SOME, join, spawn};

/// An event, and what it tells of.
struct Shared {
    event: Event,
    told: Guarded,
}

impl Shared {
    fn tell(&self) {
        self.told.add();
        self.event.set();
    }

    fn told(&self) -> u32 {
        self.told.value()
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
    let new = move || Shared {
        event: Event::new(reset),
        told: Guarded::default(),
    };
    models::model(preemptions, new, body);
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
                while !look(&shared.event) {
                    thread::yield_now();
                }
                assert_eq!(shared.told(), 1);
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
        join(waiting);
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
        join(waiting);
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
        join(waiting);
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
fn who_sleeps_goes_on_also_if_it_is_reset_before_it_looks() {
    model(Reset::Manual, SOME, |shared| {
        let waiting = spawn(&shared, Shared::wait);
        while !shared.event.is_waited_for() {
            thread::yield_now();
        }
        shared.event.set();
        assert!(shared.event.reset());
        join([waiting]);
    });
}
