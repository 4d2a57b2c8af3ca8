//! Barriers between processes.

#[allow(dead_code, reason = "it stops where it wants to")]
#[path = "support/step.rs"]
mod step;
mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::barrier::{Barrier, PARTIES_MAX};
use linipc_core::pshared::{AttachError, Error, Process};
use step::Stage;
use support::{Peer, catch_signals, caught, eventually, interrupt, peer, until_asleep};

fn memory() -> Region {
    Region::anonymous(4096, Access::READ | Access::WRITE).unwrap()
}

fn make(memory: &Region, parties: u32) -> &Barrier {
    Barrier::init(memory.bytes(), parties).unwrap()
}

fn word(memory: &Region, at: usize) -> &AtomicU32 {
    memory.bytes().atomic_u32(at).unwrap()
}

fn me() -> Process {
    Process::current().unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Clock::Monotonic, Duration::from_millis(20))
}

#[test]
fn all_go_on_together_and_one_is_the_leader() {
    const ROUNDS: u32 = 2000;
    const PARTIES: u32 = 4;
    isolated!(|| {
        let memory = memory();
        make(&memory, PARTIES);
        let count = |party: u32| word(&memory, 1024 + 4 * party as usize);
        let leaders = word(&memory, 2048);
        let peers: Vec<Peer> = (0..PARTIES)
            .map(|at| {
                peer(|| {
                    let barrier = Barrier::attach(memory.bytes()).unwrap();
                    let mut party = barrier.join(me()).unwrap();
                    for round in 1..=ROUNDS {
                        count(at).store(round, Ordering::Relaxed);
                        if party.wait().unwrap() {
                            leaders.fetch_add(1, Ordering::Relaxed);
                        }
                        for other in 0..PARTIES {
                            let other = count(other).load(Ordering::Relaxed);
                            assert!(other == round || other == round + 1, "{round}: {other}");
                        }
                    }
                })
            })
            .collect();
        peers.into_iter().for_each(Peer::join);
        assert_eq!(leaders.load(Ordering::Relaxed), ROUNDS);
    });
}

#[test]
fn there_are_as_many_parties_as_it_is_for() {
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, 2);
        let one = barrier.join(me()).unwrap();
        let mut two = barrier.join(me()).unwrap();
        assert!(matches!(barrier.join(me()), Err(Error::Busy)));
        drop(one);
        let successor = peer(|| {
            let mut party = barrier.join(me()).unwrap();
            party.wait().unwrap();
        });
        two.wait().unwrap();
        successor.join();
        for parties in [0, PARTIES_MAX + 1, u32::MAX] {
            let error = Barrier::init(memory.bytes(), parties).err();
            let range = AttachError::OutOfRange {
                min: 1,
                max: PARTIES_MAX,
            };
            assert_eq!(error, Some(range));
            assert_eq!(Barrier::new(parties).join(me()).err(), Some(Error::Corrupt));
        }
        let barrier = make(&memory, PARTIES_MAX);
        let all: Vec<_> = (0..PARTIES_MAX)
            .map(|_| barrier.join(me()).unwrap())
            .collect();
        assert!(matches!(barrier.join(me()), Err(Error::Busy)));
        drop(all);
    });
}

#[test]
fn who_finds_the_deadline_passed_is_not_counted() {
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, 3);
        let mut party = barrier.join(me()).unwrap();
        let waiting = peer(|| {
            barrier.join(me()).unwrap().wait().unwrap();
        });
        until_asleep(waiting.pid());
        for _ in 0..3 {
            assert_eq!(party.wait_deadline(soon()), Err(Error::TimedOut));
        }
        let last = peer(|| {
            barrier.join(me()).unwrap().wait().unwrap();
        });
        until_asleep(last.pid());
        // Two are there, and not five.
        let past = Deadline::after(Clock::Realtime, Duration::ZERO);
        assert_eq!(party.wait_deadline(past), Ok(true));
        waiting.join();
        last.join();
    });
}

#[test]
fn all_who_wait_learn_that_one_died_and_go_on_with_a_successor() {
    isolated!(|| {
        for was_there in [false, true] {
            let memory = memory();
            let barrier = make(&memory, 4);
            let told = word(&memory, 2048);
            let dying = peer(|| {
                let mut party = barrier.join(me()).unwrap();
                told.fetch_add(1, Ordering::Relaxed);
                if was_there {
                    let _ = party.wait();
                }
                std::thread::park();
            });
            eventually("it has joined", || told.load(Ordering::Relaxed) == 1);
            let waiting = [(); 2].map(|()| {
                let waiting = peer(|| {
                    let mut party = barrier.join(me()).unwrap();
                    assert_eq!(party.wait(), Err(Error::PeerDead));
                    told.fetch_add(1, Ordering::Relaxed);
                    party.wait().unwrap();
                });
                until_asleep(waiting.pid());
                waiting
            });
            until_asleep(dying.pid());
            dying.kill();
            eventually("both are told", || told.load(Ordering::Relaxed) == 3);
            let successor = peer(|| {
                barrier.join(me()).unwrap().wait().unwrap();
            });
            let mut party = barrier.join(me()).unwrap();
            party.wait().unwrap();
            successor.join();
            waiting.into_iter().for_each(Peer::join);
        }
    });
}

#[test]
fn one_death_breaks_one_generation() {
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, 2);
        let mut party = barrier.join(me()).unwrap();
        let dying = peer(|| {
            let _ = barrier.join(me()).unwrap().wait();
        });
        until_asleep(dying.pid());
        dying.kill();
        let stage = Stage::new();
        let successor = peer(|| {
            let process = me();
            stage.begin();
            let _party = barrier.join(process).unwrap();
            stage.end();
        });
        stage.expect_begin(&successor);
        let generation = || word(&memory, 8).load(Ordering::Relaxed) >> 20;
        while generation() == 0 {
            assert!(
                !stage.steps(&successor, 1),
                "it breaks the dead one's generation"
            );
        }
        // It stops right there, and this one does the rest: the death was of before it came.
        let deadline = Deadline::after(Clock::Monotonic, Duration::from_millis(200));
        assert_eq!(party.wait_deadline(deadline), Err(Error::TimedOut));
        assert_eq!(generation(), 1);
        barrier.join(me()).map(drop).unwrap();
        assert!(stage.steps(&successor, usize::MAX));
        successor.kill();
    });
}

/// A death after the last one has come leaves a place for the next generation to find.
#[test]
fn who_dies_when_all_were_there_is_found_by_the_next_generation() {
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, 2);
        let mut party = barrier.join(me()).unwrap();
        let dying = peer(|| {
            let mut party = barrier.join(me()).unwrap();
            party.wait().unwrap();
            std::thread::park();
        });
        party.wait().unwrap();
        until_asleep(dying.pid());
        dying.kill();
        assert_eq!(party.wait(), Err(Error::PeerDead));
        let mut successor = barrier.join(me()).unwrap();
        assert_eq!(successor.wait_deadline(soon()), Err(Error::TimedOut));
    });
}

#[test]
fn a_successor_comes_before_anybody_has_noticed() {
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, 2);
        let dying = peer(|| {
            let mut party = barrier.join(me()).unwrap();
            let _ = party.wait();
        });
        until_asleep(dying.pid());
        dying.kill();
        let mut party = barrier.join(me()).unwrap();
        // In the place that was free. The next one takes the dead one's, whose coming does not count.
        let mut successor = barrier.join(me()).unwrap();
        assert_eq!(successor.wait_deadline(soon()), Err(Error::TimedOut));
        assert_eq!(party.wait_deadline(soon()), Err(Error::TimedOut));
    });
}

#[test]
fn the_copy_of_a_party_in_a_child_is_none() {
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, 1);
        let process = me();
        let mut party = Some(barrier.join(process).unwrap());
        peer(|| {
            assert_eq!(party.as_mut().unwrap().wait(), Err(Error::Forked));
            assert!(matches!(barrier.join(process), Err(Error::Forked)));
            drop(party.take());
            assert!(matches!(barrier.join(me()), Err(Error::Busy)));
        })
        .join();
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, 2);
        let waiting = peer(|| {
            let mut party = barrier.join(me()).unwrap();
            catch_signals();
            word(&memory, 2048).store(1, Ordering::Relaxed);
            party.wait().unwrap();
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || {
            word(&memory, 2048).load(Ordering::Relaxed) == 1
        });
        interrupt(&waiting);
        barrier.join(me()).unwrap().wait().unwrap();
        waiting.join();
    });
}

#[test]
fn memory_must_be_one() {
    isolated!(|| {
        let memory = memory();
        let bytes = memory.bytes();
        assert!(matches!(Barrier::attach(bytes), Err(AttachError::NotFound)));
        make(&memory, 1);
        Barrier::attach(bytes).unwrap();
        assert!(matches!(
            Barrier::attach(bytes.slice(0, 527).unwrap()),
            Err(AttachError::TooSmall { needed: 528 })
        ));
        assert!(matches!(
            Barrier::init(bytes.slice(4, 528).unwrap(), 1),
            Err(AttachError::Unaligned { align: 8 })
        ));
        word(&memory, 0).fetch_add(1, Ordering::Relaxed);
        assert!(matches!(
            Barrier::attach(bytes),
            Err(AttachError::Version {
                found: 2,
                expected: 1
            })
        ));
    });
}

#[test]
fn killed_parties_hold_nobody_up() {
    const ROUNDS: usize = 200;
    const PARTIES: usize = 3;
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, PARTIES as u32);
        let (complete, stop) = (word(&memory, 2048), word(&memory, 2052));
        let start = || {
            peer(|| {
                let process = me();
                let mut party = loop {
                    match barrier.join(process) {
                        Ok(party) => break party,
                        Err(error) => assert_eq!(error, Error::Busy),
                    }
                };
                while stop.load(Ordering::Relaxed) == 0 {
                    match party.wait() {
                        Ok(true) => drop(complete.fetch_add(1, Ordering::Relaxed)),
                        Ok(false) => {}
                        Err(error) => assert_eq!(error, Error::PeerDead),
                    }
                }
            })
        };
        let mut peers = [(); PARTIES].map(|()| start());
        for round in 0..ROUNDS {
            let before = complete.load(Ordering::Relaxed);
            eventually("all go on", || {
                complete.load(Ordering::Relaxed) > before + 2
            });
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_micros(round as u64 * 53 % 400) {
                std::hint::spin_loop();
            }
            let dead = std::mem::replace(&mut peers[round % PARTIES], {
                // The successor finds the place of one who dies just now, or has died.
                start()
            });
            dead.kill();
        }
        peers.into_iter().for_each(Peer::kill);
        // It is as good as new.
        let mut parties = [(); PARTIES].map(|()| barrier.join(me()).unwrap());
        let [one, two, three] = &mut parties;
        assert_eq!(one.wait_deadline(soon()), Err(Error::TimedOut));
        assert_eq!(two.wait_deadline(soon()), Err(Error::TimedOut));
        assert_eq!(three.wait_deadline(soon()), Err(Error::TimedOut));
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, 2);
        let process = me();
        let stranger = peer(|| {
            let mut random = 1_u32;
            loop {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = [8, 8, 8, 8, 16, 20, 24, 28][random as usize >> 8 & 7];
                word(&memory, at).store(random.rotate_left(9), Ordering::Relaxed);
                word(&memory, 4).store(random >> 30, Ordering::Relaxed);
            }
        });
        for _ in 0..3000 {
            let Ok(mut party) = barrier.join(process) else {
                continue;
            };
            let now = Deadline::after(Clock::Monotonic, Duration::from_micros(50));
            let waited = party.wait_deadline(now);
            assert!(
                matches!(
                    waited,
                    Ok(_) | Err(Error::TimedOut | Error::PeerDead | Error::Corrupt)
                ),
                "{waited:?}"
            );
        }
        stranger.kill();
        word(&memory, 4).store(2, Ordering::Relaxed);
        for garbage in [0, 1, 2, 0xff, 0x0102_0304, u32::MAX - 1, u32::MAX] {
            for slot in (16..32).step_by(4) {
                word(&memory, slot).store(0, Ordering::Relaxed);
            }
            let mut party = barrier.join(process).unwrap();
            word(&memory, 8).store(garbage, Ordering::Relaxed);
            let _ = party.wait_deadline(soon());
        }
    });
}
