//! Events between processes.

#[path = "support/locks.rs"]
mod locks;
mod support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::Region;
use linipc_core::pshared::event::{Event, Reset};
use linipc_core::pshared::{AttachError, Error};
use locks::{
    behind, killed_at_every_step, killed_at_random, memories, memory, patient, patiently,
    scribbled, sleeper, soon, word,
};
use support::{Peer, SLOWNESS, catch_signals, caught, eventually, interrupt, peer};

fn make(memory: &Region, reset: Reset) -> &Event {
    Event::init(memory.bytes(), reset).unwrap()
}

fn waiting(event: &Event) -> Peer {
    sleeper(|| event.wait_deadline(patiently()).unwrap())
}

#[test]
fn it_is_set_until_it_is_reset() {
    isolated!(|| {
        for reset in [Reset::Auto, Reset::Manual] {
            let memory = memory();
            let event = make(&memory, reset);
            peer(|| {
                let event = Event::attach(memory.bytes()).unwrap();
                assert_eq!(event.try_wait(), Err(Error::Busy));
                assert_eq!(event.wait_deadline(soon()), Err(Error::TimedOut));
                assert!(!event.reset());
                event.set();
                event.set();
            })
            .join();
            assert!(event.is_set());
            let past = Deadline::after(Clock::Realtime, Duration::ZERO);
            assert_eq!(event.wait_deadline(past), Ok(()));
            // The two sets were one.
            let again = event.try_wait();
            match reset {
                Reset::Auto => assert_eq!(again, Err(Error::Busy)),
                Reset::Manual => assert_eq!(again, Ok(())),
            }
            assert_eq!(event.reset(), reset == Reset::Manual);
            assert_eq!(event.wait_deadline(past), Err(Error::TimedOut));
        }
    });
}

#[test]
fn an_automatic_one_wakes_one() {
    isolated!(|| {
        let memory = memory();
        let event = make(&memory, Reset::Auto);
        let sleepers = [(); 3].map(|()| waiting(event));
        for _ in &sleepers {
            event.set();
            eventually("one takes it", || !event.is_set());
        }
        sleepers.into_iter().for_each(Peer::join);
        assert!(!event.is_set());
    });
}

#[test]
fn one_that_is_reset_by_hand_wakes_all() {
    isolated!(|| {
        let memory = memory();
        let event = make(&memory, Reset::Manual);
        for _ in 0..20 {
            let sleepers = [(); 3].map(|()| waiting(event));
            event.set();
            // Those who slept go on even so.
            event.reset();
            sleepers.into_iter().for_each(Peer::join);
        }
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let memory = memory();
        let event = make(&memory, Reset::Auto);
        let sleeper = peer(|| {
            catch_signals();
            word(&memory, 64).store(1, Relaxed);
            event.wait().unwrap();
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || word(&memory, 64).load(Relaxed) == 1);
        interrupt(&sleeper);
        event.set();
        sleeper.join();
    });
}

#[test]
fn memory_must_be_one() {
    isolated!(|| {
        let memory = memory();
        let bytes = memory.bytes();
        assert!(matches!(Event::attach(bytes), Err(AttachError::NotFound)));
        make(&memory, Reset::Auto).set();
        assert!(Event::attach(bytes).unwrap().is_set());
        assert!(matches!(
            Event::attach(bytes.slice(0, 7).unwrap()),
            Err(AttachError::TooSmall { needed: 8 })
        ));
        assert!(matches!(
            Event::init(bytes.slice(2, 16).unwrap(), Reset::Auto),
            Err(AttachError::Unaligned { align: 4 })
        ));
        word(&memory, 0).fetch_add(1, Relaxed);
        assert!(matches!(
            Event::attach(bytes),
            Err(AttachError::Version {
                found: 2,
                expected: 1
            })
        ));
    });
}

#[test]
fn killed_at_any_moment_they_hold_nobody_up() {
    const LOCKS: usize = 10_usize.div_ceil(SLOWNESS);
    const ROUNDS: usize = 300 / SLOWNESS;
    isolated!(|| {
        let memory = memory();
        // Every other one is reset by hand.
        let events: [_; LOCKS] = std::array::from_fn(|i| {
            let bytes = memory.bytes().slice(64 * i, 64).unwrap();
            let reset = [Reset::Auto, Reset::Manual][i % 2];
            let event = Event::init(bytes, reset).unwrap();
            (event, reset, word(&memory, 64 * i + 32))
        });
        killed_at_random::<3>(
            LOCKS,
            ROUNDS,
            |lock, seed| {
                let (event, reset, ended) = events[lock];
                for turn in seed.. {
                    event.wait().unwrap();
                    ended.fetch_add(1, Relaxed);
                    if reset == Reset::Manual {
                        event.reset();
                    } else if turn % 4 == 0 {
                        // This one tells another one.
                        event.set();
                    }
                }
            },
            |_| events.iter().for_each(|(event, ..)| event.set()),
            |_| {
                for (event, ..) in events {
                    eventually("one of the others takes it", || !event.is_set());
                }
                // Not all who took it were killed before they had counted it.
                events
                    .iter()
                    .all(|(.., ended)| ended.load(Relaxed) > ROUNDS as u32 / 4)
            },
        );
        for (event, ..) in events {
            event.set();
            event.try_wait().unwrap();
        }
    });
}

#[test]
fn killed_at_every_step_of_a_set_a_wait_and_a_reset() {
    isolated!(|| {
        for reset in [Reset::Auto, Reset::Manual] {
            let memories = memories();
            let mut was_set = 0;
            killed_at_every_step(
                &memories,
                |memory| make(memory, reset),
                |event, begin| {
                    begin();
                    event.set();
                    event.wait().unwrap();
                    event.set();
                    assert!(event.reset());
                },
                |_, _| {},
                |event, ()| {
                    was_set += u32::from(event.is_set());
                    event.set();
                    peer(|| event.wait_deadline(patiently()).unwrap()).join();
                    assert_eq!(event.reset(), reset == Reset::Manual);
                    assert_eq!(event.try_wait(), Err(Error::Busy));
                },
            );
            assert!(was_set > 0, "nobody was killed when it was set");
        }
    });
}

#[test]
fn killed_at_every_step_of_a_set_that_wakes_one() {
    isolated!(|| {
        let memories = memories();
        let mut both = 0;
        killed_at_every_step(
            &memories,
            |memory| make(memory, Reset::Auto),
            |event, begin| {
                begin();
                event.set();
            },
            |event, _| [(); 2].map(|()| waiting(event)),
            |event, sleepers| {
                // Each set ends one wait, also that of the dead one, if it came so far.
                for _ in &sleepers {
                    eventually("one takes it", || !event.is_set());
                    event.set();
                }
                sleepers.into_iter().for_each(Peer::join);
                both += u32::from(event.is_set());
            },
        );
        assert!(both > 0, "nobody was killed behind a set");
    });
}

#[test]
fn killed_at_every_step_of_a_set_that_wakes_all() {
    isolated!(|| {
        let memories = memories();
        let mut was_set = 0;
        killed_at_every_step(
            &memories,
            |memory| make(memory, Reset::Manual),
            |event, begin| {
                begin();
                event.set();
            },
            |event, _| [(); 2].map(|()| waiting(event)),
            |event, sleepers| {
                match event.is_set() {
                    true => was_set += 1,
                    false => event.set(),
                }
                sleepers.into_iter().for_each(Peer::join);
            },
        );
        assert!(was_set > 0, "nobody was killed behind a set");
    });
}

#[test]
fn killed_at_every_step_of_a_wait_the_next_one_goes_on() {
    isolated!(|| {
        let memories = memories();
        let mut lost = 0;
        killed_at_every_step(
            &memories,
            |memory| make(memory, Reset::Auto),
            |event, begin| {
                begin();
                event.wait().unwrap();
            },
            |event, victim| {
                let next = || event.wait().unwrap();
                behind(victim, next, || event.set())
            },
            |event, [next, setting]| {
                setting.join();
                eventually("one of them takes it", || !event.is_set());
                event.set();
                next.join();
                lost += u32::from(!event.is_set());
            },
        );
        assert!(lost > 0, "nobody was killed when it had taken it");
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let memory = memory();
        let event = make(&memory, Reset::Auto);
        let mut random = locks::Random::new();
        scribbled(
            || word(&memory, 4).store(random.next() as u32, Relaxed),
            20_000,
            || {
                let _ = (event.try_wait(), event.is_set(), event.reset());
                event.set();
                let now = Deadline::after(Clock::Monotonic, Duration::from_micros(20));
                let waited = event.wait_deadline(now);
                assert!(
                    matches!(waited, Ok(()) | Err(Error::TimedOut)),
                    "{waited:?}"
                );
            },
        );
        let mut garbage = 0_u32;
        patient(16, || {
            word(&memory, 4).store(garbage.wrapping_sub(8), Relaxed);
            garbage += 1;
            let _ = event.wait_deadline(soon());
            event.set();
            assert_eq!(event.wait_deadline(soon()), Ok(()));
        });
    });
}
