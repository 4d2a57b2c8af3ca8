//! Events between processes.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::event::{Event, Reset};
use linipc_core::pshared::{AttachError, Error};
use support::{Peer, catch_signals, caught, eventually, interrupt, peer, until_asleep};

fn memory() -> Region {
    Region::anonymous(4096, Access::READ | Access::WRITE).unwrap()
}

fn make(memory: &Region, reset: Reset) -> &Event {
    Event::init(memory.bytes(), reset).unwrap()
}

fn word(memory: &Region, at: usize) -> &AtomicU32 {
    memory.bytes().atomic_u32(at).unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Clock::Monotonic, Duration::from_millis(20))
}

fn late() -> Deadline {
    Deadline::after(Clock::Monotonic, support::PATIENCE)
}

fn sleeper(event: &Event) -> Peer {
    let sleeper = peer(|| event.wait_deadline(late()).unwrap());
    until_asleep(sleeper.pid());
    sleeper
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
        let sleepers = [(); 3].map(|()| sleeper(event));
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
            let sleepers = [(); 3].map(|()| sleeper(event));
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
            word(&memory, 64).store(1, Ordering::Relaxed);
            event.wait().unwrap();
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || {
            word(&memory, 64).load(Ordering::Relaxed) == 1
        });
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
        word(&memory, 0).fetch_add(1, Ordering::Relaxed);
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
fn killed_waiters_hold_nobody_up() {
    const ROUNDS: usize = 300;
    isolated!(|| {
        let memory = memory();
        let event = make(&memory, Reset::Auto);
        let start = || {
            peer(|| {
                loop {
                    event.wait().unwrap();
                }
            })
        };
        let mut peers = [(); 3].map(|()| start());
        for round in 0..ROUNDS {
            event.set();
            for _ in 0..round * 37 % 2000 {
                std::hint::spin_loop();
            }
            std::mem::replace(&mut peers[round % 3], start()).kill();
            eventually("one of the others takes it", || !event.is_set());
        }
        peers.into_iter().for_each(Peer::kill);
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let memory = memory();
        let event = make(&memory, Reset::Auto);
        let stranger = peer(|| {
            let mut random = 1_u32;
            loop {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                word(&memory, 4).store(random.rotate_left(9), Ordering::Relaxed);
            }
        });
        for _ in 0..20_000 {
            let _ = (event.try_wait(), event.is_set(), event.reset());
            event.set();
            let now = Deadline::after(Clock::Monotonic, Duration::from_micros(20));
            let waited = event.wait_deadline(now);
            assert!(
                matches!(waited, Ok(()) | Err(Error::TimedOut)),
                "{waited:?}"
            );
        }
        stranger.kill();
        for garbage in 0..16_u32 {
            word(&memory, 4).store(garbage.wrapping_sub(8), Ordering::Relaxed);
            let _ = event.wait_deadline(soon());
            event.set();
            assert_eq!(event.wait_deadline(soon()), Ok(()));
        }
    });
}
