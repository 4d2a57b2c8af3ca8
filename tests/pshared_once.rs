//! What is done once, between processes.

mod support;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::once::{Begin, Initialiser, Once};
use linipc_core::pshared::{AttachError, Error, Process};
use support::{Peer, catch_signals, caught, eventually, interrupt, peer, until_asleep};

fn memory() -> Region {
    Region::anonymous(4096, Access::READ | Access::WRITE).unwrap()
}

fn make(memory: &Region) -> &Once {
    Once::init(memory.bytes()).unwrap()
}

fn word(memory: &Region, at: usize) -> &AtomicU32 {
    memory.bytes().atomic_u32(at).unwrap()
}

fn state(memory: &Region) -> &AtomicU64 {
    memory.bytes().atomic_u64(8).unwrap()
}

fn me() -> Process {
    Process::current().unwrap()
}

fn first<'a>(begin: Result<Begin<'a>, Error>) -> Initialiser<'a> {
    match begin {
        Ok(Begin::First(initialiser)) => initialiser,
        other => panic!("{other:?}"),
    }
}

fn soon() -> Deadline {
    Deadline::after(Clock::Monotonic, Duration::from_millis(20))
}

#[test]
fn it_is_done_once() {
    isolated!(|| {
        let memory = memory();
        let once = make(&memory);
        assert!(!once.is_done());
        let initialiser = first(once.begin(me()));
        assert!(!initialiser.has_died_before());
        peer(|| {
            let once = Once::attach(memory.bytes()).unwrap();
            assert!(matches!(once.try_begin(me()), Err(Error::Busy)));
            let waited = once.begin_deadline(me(), soon());
            assert!(matches!(waited, Err(Error::TimedOut)), "{waited:?}");
        })
        .join();
        initialiser.complete();
        peer(|| {
            assert!(once.is_done());
            assert!(matches!(once.begin(me()), Ok(Begin::Done)));
            assert!(matches!(once.try_begin(me()), Ok(Begin::Done)));
        })
        .join();
        assert!(matches!(once.begin_deadline(me(), soon()), Ok(Begin::Done)));
    });
}

#[test]
fn who_sleeps_is_woken_when_it_is_done_or_given_up() {
    isolated!(|| {
        for gives_up in [false, true] {
            let memory = memory();
            let once = make(&memory);
            let initialiser = first(once.begin(me()));
            let sleepers = [(); 3].map(|()| {
                let sleeper = peer(|| match once.begin(me()).unwrap() {
                    Begin::Done => {}
                    Begin::First(initialiser) => {
                        assert!(gives_up && !initialiser.has_died_before());
                        word(&memory, 64).fetch_add(1, Ordering::Relaxed);
                        initialiser.complete();
                    }
                });
                until_asleep(sleeper.pid());
                sleeper
            });
            match gives_up {
                true => drop(initialiser),
                false => initialiser.complete(),
            }
            sleepers.into_iter().for_each(Peer::join);
            assert!(once.is_done());
            assert_eq!(
                word(&memory, 64).load(Ordering::Relaxed),
                u32::from(gives_up)
            );
        }
    });
}

#[test]
fn the_next_one_takes_over_from_a_dead_one() {
    isolated!(|| {
        let memory = memory();
        let once = make(&memory);
        let dying = peer(|| {
            let _initialiser = first(once.begin(me()));
            std::thread::park();
        });
        eventually("it has begun", || {
            state(&memory).load(Ordering::Relaxed) > 1
        });
        let sleeper = peer(|| {
            let initialiser = first(once.begin(me()));
            assert!(initialiser.has_died_before());
            // It gives up, and the next one is told too.
            drop(initialiser);
        });
        until_asleep(sleeper.pid());
        dying.kill();
        sleeper.join();
        let initialiser = first(once.try_begin(me()));
        assert!(initialiser.has_died_before());
        initialiser.complete();
        assert!(once.is_done());
    });
}

#[test]
fn a_child_neither_completes_nor_gives_up() {
    isolated!(|| {
        let memory = memory();
        let once = make(&memory);
        let process = me();
        let mut initialiser = Some(first(once.begin(process)));
        peer(|| initialiser.take().unwrap().complete()).join();
        peer(|| drop(initialiser.take())).join();
        peer(|| {
            assert!(matches!(once.begin(process), Err(Error::Forked)));
            assert!(matches!(once.try_begin(me()), Err(Error::Busy)));
        })
        .join();
        initialiser.unwrap().complete();
        assert!(once.is_done());
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let memory = memory();
        let once = make(&memory);
        let initialiser = first(once.begin(me()));
        let sleeper = peer(|| {
            catch_signals();
            word(&memory, 64).store(1, Ordering::Relaxed);
            assert!(matches!(once.begin(me()), Ok(Begin::Done)));
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || {
            word(&memory, 64).load(Ordering::Relaxed) == 1
        });
        interrupt(&sleeper);
        initialiser.complete();
        sleeper.join();
    });
}

#[test]
fn memory_must_be_one_or_zeros() {
    isolated!(|| {
        let memory = memory();
        let bytes = memory.bytes();
        assert!(matches!(Once::attach(bytes), Err(AttachError::NotFound)));
        let peers = [(); 3].map(|()| {
            peer(|| {
                let once = Once::attach_or_init(bytes).unwrap();
                if let Begin::First(initialiser) = once.begin(me()).unwrap() {
                    word(&memory, 64).fetch_add(1, Ordering::Relaxed);
                    initialiser.complete();
                }
            })
        });
        peers.into_iter().for_each(Peer::join);
        assert!(Once::attach(bytes).unwrap().is_done());
        assert_eq!(word(&memory, 64).load(Ordering::Relaxed), 1);
        assert!(matches!(
            Once::init(bytes.slice(0, 15).unwrap()),
            Err(AttachError::TooSmall { needed: 16 })
        ));
        assert!(matches!(
            Once::attach_or_init(bytes.slice(4, 16).unwrap()),
            Err(AttachError::Unaligned { align: 8 })
        ));
        word(&memory, 0).fetch_add(1, Ordering::Relaxed);
        assert!(matches!(
            Once::attach_or_init(bytes),
            Err(AttachError::Version {
                found: 2,
                expected: 1
            })
        ));
        word(&memory, 0).store(7, Ordering::Relaxed);
        assert!(matches!(
            Once::attach_or_init(bytes),
            Err(AttachError::NotFound)
        ));
    });
}

/// Each of many initialisers is killed at some moment, and the next one goes on, until one is done.
#[test]
fn killed_initialisers_hold_nobody_up() {
    const ROUNDS: u64 = 60;
    isolated!(|| {
        let memory = memory();
        let at_work = memory.bytes().atomic_u64(64).unwrap();
        let (begun, done) = (word(&memory, 80), word(&memory, 84));
        for round in 0..ROUNDS {
            let once = make(&memory);
            begun.store(0, Ordering::Relaxed);
            done.store(0, Ordering::Relaxed);
            at_work.store(0, Ordering::Relaxed);
            let start = || {
                peer(|| {
                    let Begin::First(initialiser) = once.begin(me()).unwrap() else {
                        assert_eq!(done.load(Ordering::Relaxed), 1);
                        return;
                    };
                    let before = at_work.swap(u64::from(std::process::id()), Ordering::Relaxed);
                    // Whoever was at work is dead.
                    assert!(before == 0 || initialiser.has_died_before());
                    let first = begun.fetch_add(1, Ordering::Relaxed) == 0;
                    assert!(first || initialiser.has_died_before());
                    for _ in 0..round * 97 % 3000 {
                        std::hint::spin_loop();
                    }
                    done.store(1, Ordering::Relaxed);
                    initialiser.complete();
                })
            };
            let victims = [(); 3].map(|()| start());
            let survivor = start();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_micros(round * 53 % 900) {
                std::hint::spin_loop();
            }
            victims.into_iter().for_each(Peer::kill);
            survivor.join();
            assert!(once.is_done());
        }
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let memory = memory();
        let once = make(&memory);
        let process = me();
        let stranger = peer(|| {
            let mut random = 1_u32;
            loop {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                word(&memory, 4).store(random.rotate_left(9), Ordering::Relaxed);
                let garbage = match random >> 30 {
                    0 => 0,
                    1 => 1,
                    _ => u64::from(random) << (random >> 25 & 31),
                };
                state(&memory).store(garbage, Ordering::Relaxed);
            }
        });
        for _ in 0..3000 {
            let now = Deadline::after(Clock::Monotonic, Duration::from_micros(20));
            match once.begin_deadline(process, now) {
                Ok(Begin::First(initialiser)) => initialiser.complete(),
                Ok(Begin::Done) | Err(Error::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
        stranger.kill();
    });
}
