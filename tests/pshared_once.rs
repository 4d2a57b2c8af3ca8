//! What is done once, between processes.

#[path = "support/locks.rs"]
mod locks;
mod support;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::Region;
use linipc_core::pshared::once::{Begin, Initialiser, Once};
use linipc_core::pshared::{AttachError, Error};
use locks::{
    holder, killed_at_every_step, killed_at_random, memories, memory, patiently, scribbled,
    sleeper, soon, this_process as me, word,
};
use support::{Peer, SLOWNESS, catch_signals, caught, eventually, interrupt, peer};

fn make(memory: &Region) -> &Once {
    Once::init(memory.bytes()).unwrap()
}

fn state(memory: &Region) -> &AtomicU64 {
    memory.bytes().atomic_u64(8).unwrap()
}

fn first<'a>(begin: Result<Begin<'a>, Error>) -> Initialiser<'a> {
    match begin {
        Ok(Begin::First(initialiser)) => initialiser,
        other => panic!("{other:?}"),
    }
}

/// Finds it done, or does it; whether one died before, if this one did it.
fn ensure(once: &Once) -> Option<bool> {
    match once.begin_deadline(me(), patiently()).unwrap() {
        Begin::Done => None,
        Begin::First(initialiser) => {
            let has_died = initialiser.has_died_before();
            initialiser.complete();
            Some(has_died)
        }
    }
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
                sleeper(|| match once.begin(me()).unwrap() {
                    Begin::Done => {}
                    Begin::First(initialiser) => {
                        assert!(gives_up && !initialiser.has_died_before());
                        word(&memory, 64).fetch_add(1, Relaxed);
                        initialiser.complete();
                    }
                })
            });
            match gives_up {
                true => drop(initialiser),
                false => initialiser.complete(),
            }
            sleepers.into_iter().for_each(Peer::join);
            assert!(once.is_done());
            assert_eq!(word(&memory, 64).load(Relaxed), u32::from(gives_up));
        }
    });
}

#[test]
fn the_next_one_takes_over_from_a_dead_one() {
    isolated!(|| {
        let memory = memory();
        let once = make(&memory);
        let dying = holder(|| first(once.begin(me())));
        let sleeper = sleeper(|| {
            let initialiser = first(once.begin(me()));
            assert!(initialiser.has_died_before());
            // It gives up, and the next one is told too.
            drop(initialiser);
        });
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
            word(&memory, 64).store(1, Relaxed);
            assert!(matches!(once.begin(me()), Ok(Begin::Done)));
            assert_eq!(caught(), 1);
        });
        eventually("it catches", || word(&memory, 64).load(Relaxed) == 1);
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
                    word(&memory, 64).fetch_add(1, Relaxed);
                    initialiser.complete();
                }
            })
        });
        peers.into_iter().for_each(Peer::join);
        assert!(Once::attach(bytes).unwrap().is_done());
        assert_eq!(word(&memory, 64).load(Relaxed), 1);
        assert!(matches!(
            Once::init(bytes.slice(0, 15).unwrap()),
            Err(AttachError::TooSmall { needed: 16 })
        ));
        assert!(matches!(
            Once::attach_or_init(bytes.slice(4, 16).unwrap()),
            Err(AttachError::Unaligned { align: 8 })
        ));
        word(&memory, 0).fetch_add(1, Relaxed);
        assert!(matches!(
            Once::attach_or_init(bytes),
            Err(AttachError::Version {
                found: 2,
                expected: 1
            })
        ));
        word(&memory, 0).store(7, Relaxed);
        assert!(matches!(
            Once::attach_or_init(bytes),
            Err(AttachError::NotFound)
        ));
    });
}

#[test]
fn killed_at_any_moment_the_next_one_goes_on() {
    const LOCKS: usize = 16_usize.div_ceil(SLOWNESS);
    const ROUNDS: usize = 150 / SLOWNESS;
    isolated!(|| {
        let memory = memory();
        let onces: [_; LOCKS] = std::array::from_fn(|i| {
            let bytes = memory.bytes().slice(128 * i, 128).unwrap();
            let words = [64, 68, 72].map(|at| word(&memory, 128 * i + at));
            (bytes, Once::init(bytes).unwrap(), words)
        });
        killed_at_random::<3>(
            LOCKS,
            ROUNDS,
            |lock, seed| {
                let (_, once, [before, after, told]) = onces[lock];
                for turn in seed.. {
                    let Begin::First(initialiser) = once.begin(me()).unwrap() else {
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    };
                    if initialiser.has_died_before() {
                        told.fetch_add(1, Relaxed);
                        after.store(before.load(Relaxed), Relaxed);
                    }
                    assert_eq!(before.load(Relaxed), after.load(Relaxed));
                    before.store(before.load(Relaxed) + 1, Relaxed);
                    for _ in 0..turn % 5_000 {
                        std::hint::spin_loop();
                    }
                    after.store(before.load(Relaxed), Relaxed);
                    // Mostly it gives up.
                    if turn % 8 == 0 {
                        initialiser.complete();
                    }
                }
            },
            |_| {},
            |_| {
                let seen = onces.map(|(_, _, [_, after, _])| after.load(Relaxed));
                for ((bytes, once, [_, after, _]), seen) in onces.into_iter().zip(seen) {
                    if !once.is_done() {
                        eventually("somebody gets on", || {
                            after.load(Relaxed) != seen || once.is_done()
                        });
                    }
                    if once.is_done() {
                        // Who is still there has nothing more to do with it.
                        Once::init(bytes).unwrap();
                    }
                }
                // So many kills have hit one at work.
                onces
                    .iter()
                    .map(|(.., [_, _, told])| told.load(Relaxed))
                    .sum::<u32>()
                    > 20
            },
        );
    });
}

#[test]
fn killed_at_every_step_the_next_one_knows() {
    isolated!(|| {
        for gives_up in [false, true] {
            let memories = memories();
            let (mut died, mut done) = (0, 0);
            killed_at_every_step(
                &memories,
                |memory| {
                    word(memory, 64).store(0, Relaxed);
                    (make(memory), word(memory, 64))
                },
                |(once, begun), begin| {
                    let process = me();
                    begin();
                    let initialiser = first(once.begin(process));
                    begun.store(1, Relaxed);
                    match gives_up {
                        true => drop(initialiser),
                        false => initialiser.complete(),
                    }
                },
                |_, _| {},
                |(once, begun), ()| {
                    let is_done = once.is_done();
                    let mut told = None;
                    if !is_done {
                        let initialiser = first(once.try_begin(me()));
                        told = Some(initialiser.has_died_before());
                        initialiser.complete();
                    }
                    // Who has given up has done so in order.
                    assert!(begun.load(Relaxed) == 0 || told != Some(false) || gives_up);
                    died += u32::from(told == Some(true));
                    done += u32::from(is_done);
                    peer(|| assert_eq!(ensure(once), None)).join();
                },
            );
            assert!(died > 0, "nobody was killed at work");
            assert_eq!(done > 0, !gives_up);
        }
    });
}

#[test]
fn killed_at_every_step_of_the_end_beside_sleepers() {
    isolated!(|| {
        for (gives_up, took_over) in [(false, false), (true, false), (false, true), (true, true)] {
            let memories = memories();
            let mut died = 0;
            killed_at_every_step(
                &memories,
                |memory| {
                    let once = make(memory);
                    if took_over {
                        holder(|| first(once.begin(me()))).kill();
                    }
                    let words = [64, 68].map(|at| word(memory, at));
                    words.iter().for_each(|word| word.store(0, Relaxed));
                    (once, words)
                },
                |(once, _), begin| {
                    let initialiser = first(once.begin(me()));
                    assert_eq!(initialiser.has_died_before(), took_over);
                    begin();
                    match gives_up {
                        true => drop(initialiser),
                        false => initialiser.complete(),
                    }
                },
                |(once, [made, told]), _| {
                    [(); 2].map(|()| {
                        sleeper(move || {
                            if let Some(has_died) = ensure(once) {
                                made.fetch_add(1, Relaxed);
                                told.fetch_add(u32::from(has_died), Relaxed);
                            }
                        })
                    })
                },
                |(once, [made, told]), sleepers| {
                    sleepers.into_iter().for_each(Peer::join);
                    assert!(once.is_done());
                    let (made, told) = (made.load(Relaxed), told.load(Relaxed));
                    match gives_up {
                        true => assert_eq!(made, 1),
                        false => assert!(made <= 1),
                    }
                    if took_over || !gives_up {
                        assert_eq!(told, made, "who goes on knows of a death");
                    }
                    died += told;
                },
            );
            assert!(died > 0, "nobody was killed at work");
        }
    });
}

#[test]
fn killed_at_every_step_of_taking_over_from_a_dead_one() {
    isolated!(|| {
        let memories = memories();
        let mut done = [0, 0];
        killed_at_every_step(
            &memories,
            |memory| {
                let once = make(memory);
                holder(|| first(once.begin(me()))).kill();
                once
            },
            |once, begin| {
                let process = me();
                begin();
                let initialiser = first(once.begin(process));
                assert!(initialiser.has_died_before());
                initialiser.complete();
            },
            |_, _| {},
            |once, ()| {
                done[usize::from(once.is_done())] += 1;
                let expected = (!once.is_done()).then_some(true);
                // The first one that comes does it, if need be; for the other one it is done.
                let both =
                    [(); 2].map(|()| peer(|| assert!([None, expected].contains(&ensure(once)))));
                both.into_iter().for_each(Peer::join);
                assert!(once.is_done());
            },
        );
        assert!(done[0] > 0 && done[1] > 0, "{done:?}");
    });
}

#[test]
fn a_stranger_may_write_anything() {
    isolated!(|| {
        let memory = memory();
        let once = make(&memory);
        let process = me();
        let mut random = locks::Random::new();
        scribbled(
            || {
                word(&memory, 4).store(random.next() as u32, Relaxed);
                let garbage = match random.below(4) {
                    0 => 0,
                    1 => 1,
                    _ => random.next() << random.below(32),
                };
                state(&memory).store(garbage, Relaxed);
            },
            3000,
            || {
                let now = Deadline::after(Clock::Monotonic, Duration::from_micros(20));
                match once.begin_deadline(process, now) {
                    Ok(Begin::First(initialiser)) => initialiser.complete(),
                    Ok(Begin::Done) | Err(Error::TimedOut) => {}
                    Err(error) => panic!("{error}"),
                }
            },
        );
    });
}
