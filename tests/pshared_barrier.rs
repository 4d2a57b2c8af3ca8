//! Barriers between processes.

#[path = "support/locks.rs"]
mod locks;
mod support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::Region;
use linipc_core::pshared::barrier::{Barrier, PARTIES_MAX, Party};
use linipc_core::pshared::{AttachError, Error};
use locks::step::Stage;
use locks::{
    holder, killed_at_every_step, killed_at_random, memories, memory, patient, patiently,
    scribbled, sleeper, soon, this_process as me, word,
};
use support::{Peer, SLOWNESS, catch_signals, caught, eventually, interrupt, peer, until_asleep};

fn make(memory: &Region, parties: u32) -> &Barrier {
    Barrier::init(memory.bytes(), parties).unwrap()
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
                        count(at).store(round, Relaxed);
                        if party.wait().unwrap() {
                            leaders.fetch_add(1, Relaxed);
                        }
                        for other in 0..PARTIES {
                            let other = count(other).load(Relaxed);
                            assert!(other == round || other == round + 1, "{round}: {other}");
                        }
                    }
                })
            })
            .collect();
        peers.into_iter().for_each(Peer::join);
        assert_eq!(leaders.load(Relaxed), ROUNDS);
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
        let waiting = sleeper(|| _ = barrier.join(me()).unwrap().wait().unwrap());
        for _ in 0..3 {
            assert_eq!(party.wait_deadline(soon()), Err(Error::TimedOut));
        }
        let last = sleeper(|| _ = barrier.join(me()).unwrap().wait().unwrap());
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
                told.fetch_add(1, Relaxed);
                if was_there {
                    let _ = party.wait();
                }
                std::thread::park();
            });
            eventually("it has joined", || told.load(Relaxed) == 1);
            let waiting = [(); 2].map(|()| {
                sleeper(|| {
                    let mut party = barrier.join(me()).unwrap();
                    assert_eq!(party.wait(), Err(Error::PeerDead));
                    told.fetch_add(1, Relaxed);
                    party.wait().unwrap();
                })
            });
            until_asleep(dying.pid());
            dying.kill();
            eventually("both are told", || told.load(Relaxed) == 3);
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
        let generation = || word(&memory, 8).load(Relaxed) >> 20;
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
        sleeper(|| _ = barrier.join(me()).unwrap().wait()).kill();
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
            word(&memory, 2048).store(1, Relaxed);
            party.wait().unwrap();
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || word(&memory, 2048).load(Relaxed) == 1);
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
        word(&memory, 0).fetch_add(1, Relaxed);
        assert!(matches!(
            Barrier::attach(bytes),
            Err(AttachError::Version {
                found: 2,
                expected: 1
            })
        ));
    });
}

/// Goes on with those who are there and those who will be, until a generation is complete.
fn until_complete(party: &mut Party<'_>) -> bool {
    loop {
        match party.wait_deadline(patiently()) {
            Ok(is_leader) => return is_leader,
            Err(error) => assert_eq!(error, Error::PeerDead),
        }
    }
}

#[test]
fn killed_at_any_moment_they_hold_nobody_up() {
    const LOCKS: usize = 12_usize.div_ceil(SLOWNESS);
    const ROUNDS: usize = 200 / SLOWNESS;
    const PARTIES: usize = 3;
    isolated!(|| {
        let memories: [_; LOCKS] = std::array::from_fn(|_| memory());
        let barriers: [_; LOCKS] = std::array::from_fn(|i| {
            let memory = &memories[i];
            let words = [2048, 2052].map(|at| word(memory, at));
            (make(memory, PARTIES as u32), words)
        });
        killed_at_random::<PARTIES>(
            LOCKS,
            ROUNDS,
            |lock, _| {
                let (barrier, [complete, broken]) = barriers[lock];
                let process = me();
                let mut party = loop {
                    match barrier.join(process) {
                        Ok(party) => break party,
                        // Until the one is dead in whose place it comes.
                        Err(error) => assert_eq!(error, Error::Busy),
                    }
                    std::thread::yield_now();
                };
                loop {
                    match party.wait() {
                        Ok(true) => complete.fetch_add(1, Relaxed),
                        Ok(false) => 0,
                        Err(error) => {
                            assert_eq!(error, Error::PeerDead);
                            broken.fetch_add(1, Relaxed)
                        }
                    };
                }
            },
            |_| {},
            |_| {
                let seen = barriers.map(|(_, [complete, _])| complete.load(Relaxed));
                for ((_, [complete, _]), seen) in barriers.into_iter().zip(seen) {
                    eventually("all go on", || complete.load(Relaxed) > seen + 1);
                }
                // All have learnt of deaths.
                barriers
                    .iter()
                    .all(|(_, [_, broken])| broken.load(Relaxed) > 10)
            },
        );
        for (barrier, _) in barriers {
            // It is as good as new.
            let mut parties = [(); PARTIES].map(|()| barrier.join(me()).unwrap());
            for party in &mut parties {
                assert_eq!(party.wait_deadline(soon()), Err(Error::TimedOut));
            }
        }
    });
}

/// One that is killed at every step, beside two that wait. They learn of it together, or nobody does, and
/// with successors all go on. Gives how many times the dead one was the last to come, and not.
fn killed_at_every_step_beside_two(
    parties: u32,
    also_dead: bool,
    dies: impl Fn(&Barrier, &dyn Fn()),
) -> [u32; 2] {
    let memories = memories();
    let mut ends = [0, 0];
    killed_at_every_step(
        &memories,
        |memory| {
            let words = [2048, 2052, 2056].map(|at| word(memory, at));
            words.iter().for_each(|word| word.store(0, Relaxed));
            (make(memory, parties), words)
        },
        |(barrier, _), begin| dies(barrier, begin),
        |(barrier, [complete, broken, leaders]), _| {
            let dying = also_dead.then(|| holder(|| barrier.join(me()).unwrap()));
            let waiting = [(); 2].map(|()| {
                sleeper(move || {
                    let mut party = barrier.join(me()).unwrap();
                    match party.wait_deadline(patiently()) {
                        Ok(_) => complete.fetch_add(1, Relaxed),
                        Err(error) => {
                            assert_eq!(error, Error::PeerDead);
                            broken.fetch_add(1, Relaxed)
                        }
                    };
                    leaders.fetch_add(u32::from(until_complete(&mut party)), Relaxed);
                })
            });
            dying.into_iter().for_each(Peer::kill);
            waiting
        },
        |(barrier, [complete, broken, leaders]), waiting| {
            let told = || (complete.load(Relaxed), broken.load(Relaxed));
            eventually("both go on", || told() == (2, 0) || told() == (0, 2));
            ends[usize::from(told().0 == 0)] += 1;
            let successors: Vec<_> = (2..parties)
                .map(|_| {
                    peer(|| {
                        let mut party = barrier.join(me()).unwrap();
                        leaders.fetch_add(u32::from(until_complete(&mut party)), Relaxed);
                    })
                })
                .collect();
            waiting.into_iter().for_each(Peer::join);
            successors.into_iter().for_each(Peer::join);
            assert_eq!(leaders.load(Relaxed), 1);
        },
    );
    ends
}

#[test]
fn killed_at_every_step_of_coming_last() {
    isolated!(|| {
        let [complete, broken] = killed_at_every_step_beside_two(3, false, |barrier, begin| {
            let mut party = barrier.join(me()).unwrap();
            begin();
            party.wait().unwrap();
        });
        assert!(complete > 0 && broken > 0, "{complete} {broken}");
    });
}

#[test]
fn killed_at_every_step_of_coming_in_vain() {
    isolated!(|| {
        let [complete, broken] = killed_at_every_step_beside_two(4, false, |barrier, begin| {
            let mut party = barrier.join(me()).unwrap();
            begin();
            let past = Deadline::after(Clock::Monotonic, Duration::ZERO);
            assert_eq!(party.wait_deadline(past), Err(Error::TimedOut));
            // It does not leave.
            std::mem::forget(party);
        });
        assert!(complete == 0 && broken > 0, "{complete} {broken}");
    });
}

#[test]
fn killed_at_every_step_of_joining_in_a_dead_ones_place() {
    isolated!(|| {
        let [complete, broken] = killed_at_every_step_beside_two(3, true, |barrier, begin| {
            let process = me();
            begin();
            std::mem::forget(barrier.join(process).unwrap());
        });
        assert!(complete == 0 && broken > 0, "{complete} {broken}");
    });
}

#[test]
fn killed_at_every_step_of_joining_and_leaving() {
    isolated!(|| {
        let memories = memories();
        let mut dead = 0;
        killed_at_every_step(
            &memories,
            |memory| (make(memory, 2), word(memory, 16)),
            |(barrier, _), begin| {
                let process = me();
                begin();
                drop(barrier.join(process).unwrap());
            },
            |_, _| {},
            |(barrier, slot), ()| {
                dead += u32::from(slot.load(Relaxed) != 0);
                let mut party = barrier.join(me()).unwrap();
                // In the dead one's place, if need be.
                let other = peer(|| _ = until_complete(&mut barrier.join(me()).unwrap()));
                until_complete(&mut party);
                other.join();
            },
        );
        assert!(dead > 0, "nobody was killed when it had joined");
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let memory = memory();
        let barrier = make(&memory, 2);
        let process = me();
        let mut random = locks::Random::new();
        scribbled(
            || {
                let at = [8, 8, 8, 8, 16, 20, 24, 28][random.below(8) as usize];
                word(&memory, at).store(random.next() as u32, Relaxed);
                word(&memory, 4).store(random.below(4) as u32, Relaxed);
            },
            3000,
            || {
                let Ok(mut party) = barrier.join(process) else {
                    return;
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
            },
        );
        word(&memory, 4).store(2, Relaxed);
        let mut garbage = [0, 1, 2, 0xff, 0x0102_0304, u32::MAX - 1, u32::MAX].into_iter();
        patient(garbage.len(), || {
            for slot in (16..32).step_by(4) {
                word(&memory, slot).store(0, Relaxed);
            }
            let mut party = barrier.join(process).unwrap();
            word(&memory, 8).store(garbage.next().unwrap(), Relaxed);
            let _ = party.wait_deadline(soon());
        });
    });
}
