//! Readers-writer locks between processes.

#[path = "support/locks.rs"]
mod locks;
mod support;

use std::mem::forget;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::rwlock::{Inconsistent, LockError, ReadGuard, RwLock};
use linipc_core::pshared::{AttachError, Error};
use locks::{
    holder, killed_at_every_step, killed_at_random, memories, memory, patient, patiently,
    scribbled, sleeper, soon, this_process as me, word,
};
use support::{SLOWNESS, eventually, peer, until_asleep};

fn make(memory: &Region) -> &RwLock {
    RwLock::init(memory.bytes()).unwrap()
}

fn failed<T: std::fmt::Debug>(result: Result<T, LockError<'_>>) -> Error {
    match result {
        Err(LockError::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn inconsistent<'a, T: std::fmt::Debug>(result: Result<T, LockError<'a>>) -> Inconsistent<'a> {
    match result {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("{other:?}"),
    }
}

#[test]
fn many_read_and_one_writes() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let reading = lock.read(me()).unwrap();
        peer(|| {
            let _second = lock.read(me()).unwrap();
            let _third = lock.try_read(me()).unwrap();
            let _fourth = lock.read_deadline(me(), soon()).unwrap();
            assert_eq!(failed(lock.try_write(me())), Error::Busy);
            assert_eq!(failed(lock.write_deadline(me(), soon())), Error::TimedOut);
        })
        .join();
        drop(reading);
        for way in 0..3 {
            let writing = match way {
                0 => lock.write(me()),
                1 => lock.try_write(me()),
                _ => lock.write_deadline(me(), soon()),
            };
            let writing = writing.unwrap();
            peer(|| {
                assert_eq!(failed(lock.try_read(me())), Error::Busy);
                assert_eq!(failed(lock.read_deadline(me(), soon())), Error::TimedOut);
                assert_eq!(failed(lock.try_write(me())), Error::Busy);
                assert_eq!(failed(lock.write_deadline(me(), soon())), Error::TimedOut);
            })
            .join();
            drop(writing);
        }
    });
}

#[test]
fn who_sleeps_is_woken() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let writing = lock.write(me()).unwrap();
        let sleepers = [
            sleeper(|| drop(lock.read(me()).unwrap())),
            sleeper(|| drop(lock.write(me()).unwrap())),
            sleeper(|| drop(lock.write_deadline(me(), patiently()).unwrap())),
            sleeper(|| drop(lock.read_deadline(me(), patiently()).unwrap())),
        ];
        drop(writing);
        for peer in sleepers {
            peer.join();
        }

        let reading = lock.read(me()).unwrap();
        let writer = sleeper(|| drop(lock.write(me()).unwrap()));
        // It goes before those who come later.
        assert_eq!(failed(lock.try_read(me())), Error::Busy);
        let reader = sleeper(|| drop(lock.read(me()).unwrap()));
        drop(reading);
        writer.join();
        reader.join();
        drop(lock.try_write(me()).unwrap());
    });
}

#[test]
fn a_writer_that_gives_up_lets_readers_in() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let reading = lock.read(me()).unwrap();
        let later = Deadline::after(Clock::Monotonic, Duration::from_millis(200));
        let writer =
            sleeper(|| assert_eq!(failed(lock.write_deadline(me(), later)), Error::TimedOut));
        let reader = sleeper(|| drop(lock.read(me()).unwrap()));
        writer.join();
        reader.join();
        drop(reading);
    });
}

#[test]
fn the_33rd_reader_waits_for_a_slot() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let mut guards: Vec<_> = (0..32).map(|_| lock.read(me()).unwrap()).collect();
        assert_eq!(failed(lock.try_read(me())), Error::Busy);
        assert_eq!(failed(lock.read_deadline(me(), soon())), Error::TimedOut);
        let reader = sleeper(|| drop(lock.read(me()).unwrap()));
        guards.pop();
        reader.join();
        drop(lock.try_read(me()).unwrap());
        let writer = sleeper(|| drop(lock.write(me()).unwrap()));
        drop(guards);
        writer.join();
    });
}

#[test]
fn a_reader_becomes_the_writer() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let busy = || assert_eq!(failed(lock.try_read(me())), Error::Busy);
        for upgrade in [ReadGuard::upgrade, ReadGuard::try_upgrade] {
            let guard = upgrade(lock.read(me()).unwrap()).unwrap();
            peer(busy).join();
            drop(guard);
        }

        // Another one reads.
        let reading = lock.read(me()).unwrap();
        peer(|| {
            let failed = lock.read(me()).unwrap().try_upgrade().unwrap_err();
            assert_eq!(failed.error, Error::Busy);
            let failed = failed.guard.upgrade_deadline(soon()).unwrap_err();
            assert_eq!(failed.error, Error::TimedOut);
            // It still reads, and so may others.
            drop(lock.try_read(me()).unwrap());
            assert_eq!(crate::failed(lock.try_write(me())), Error::Busy);
        })
        .join();
        let raised = sleeper(|| drop(lock.read(me()).unwrap().upgrade().unwrap()));
        // It has the word.
        busy();
        let reading = reading.upgrade().unwrap_err();
        assert_eq!(reading.error, Error::Busy);
        drop(reading);
        raised.join();

        // A writer waits.
        let reading = lock.read(me()).unwrap();
        let writer = sleeper(|| drop(lock.write(me()).unwrap()));
        let reading = reading.upgrade().unwrap_err();
        assert_eq!(reading.error, Error::Busy);
        drop(reading);
        writer.join();
    });
}

#[test]
fn a_writer_becomes_a_reader() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let guard = lock.write(me()).unwrap();
        let reader = sleeper(|| drop(lock.read(me()).unwrap()));
        let guard = guard.downgrade();
        reader.join();
        peer(|| assert_eq!(failed(lock.try_write(me())), Error::Busy)).join();
        // And back again.
        let guard = guard.upgrade().unwrap().downgrade();
        drop(lock.try_read(me()).unwrap());
        let writer = sleeper(|| drop(lock.write(me()).unwrap()));
        drop(guard);
        writer.join();
        drop(lock.try_write(me()).unwrap());
    });
}

#[test]
fn a_dead_reader_holds_nobody_up() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let read = || lock.read(me()).unwrap();
        let reader = holder(read);
        let sleeper = self::sleeper(|| drop(lock.write(me()).unwrap()));
        reader.kill();
        sleeper.join();

        holder(read).kill();
        drop(lock.try_write(me()).unwrap());
        holder(|| lock.write(me()).unwrap().downgrade()).kill();
        drop(lock.write_deadline(me(), patiently()).unwrap());
        holder(read).kill();
        drop(lock.read(me()).unwrap().upgrade().unwrap());

        // 32 of them leave room for others.
        let all = || [(); 32].map(|()| lock.read(me()).unwrap());
        holder(all).kill();
        drop(lock.try_read(me()).unwrap());
        let readers = holder(all);
        let sleeper = self::sleeper(|| drop(lock.read(me()).unwrap()));
        readers.kill();
        sleeper.join();
        drop(lock.try_write(me()).unwrap());
    });
}

#[test]
fn who_dies_waiting_leaves_nothing() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let reading = lock.read(me()).unwrap();
        sleeper(|| drop(lock.write(me()).unwrap())).kill();
        drop(lock.try_read(me()).unwrap());
        sleeper(|| drop(lock.write(me()).unwrap())).kill();
        drop(lock.read_deadline(me(), patiently()).unwrap());
        // Its successor dies too, and who waited for that one is told.
        let writer = sleeper(|| drop(lock.write(me()).unwrap()));
        let reader = sleeper(|| drop(lock.read(me()).unwrap()));
        writer.kill();
        drop(reading);
        reader.join();
        let reading = lock.read(me()).unwrap();
        sleeper(|| drop(lock.write(me()).unwrap())).kill();
        drop(reading.upgrade().unwrap());
        drop(lock.try_write(me()).unwrap());
    });
}

#[test]
fn the_next_one_learns_that_a_writer_died() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let write = || lock.write(me()).unwrap();
        let writer = holder(write);
        let sleeper = self::sleeper(|| drop(inconsistent(lock.write(me())).mark_consistent()));
        writer.kill();
        sleeper.join();

        let writer = holder(write);
        let sleeper = self::sleeper(|| {
            let guard = inconsistent(lock.read(me())).mark_consistent().downgrade();
            drop(lock.try_read(me()).unwrap());
            drop(guard);
        });
        writer.kill();
        sleeper.join();

        // Who only tries learns it too; and if the next one dies, the one after that.
        holder(write).kill();
        holder(|| inconsistent(lock.try_write(me()))).kill();
        drop(inconsistent(lock.try_read(me())).mark_consistent());
        holder(|| lock.read(me()).unwrap().upgrade().unwrap()).kill();
        drop(inconsistent(lock.write_deadline(me(), patiently())).mark_consistent());
        drop(lock.try_write(me()).unwrap());
    });
}

#[test]
fn left_inconsistent_is_lost_for_all_also_for_who_waits() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        holder(|| lock.write(me()).unwrap()).kill();
        let guard = inconsistent(lock.read(me()));
        let sleepers = [0, 1, 2, 3].map(|i| {
            sleeper(move || {
                let error = match i % 2 {
                    0 => failed(lock.write(me())),
                    _ => failed(lock.read(me())),
                };
                assert_eq!(error, Error::NotRecoverable);
            })
        });
        drop(guard);
        for peer in sleepers {
            peer.join();
        }
        assert_eq!(failed(lock.try_read(me())), Error::NotRecoverable);
        assert_eq!(failed(lock.try_write(me())), Error::NotRecoverable);
        assert_eq!(
            failed(lock.read_deadline(me(), soon())),
            Error::NotRecoverable
        );
        assert_eq!(
            failed(lock.write_deadline(me(), soon())),
            Error::NotRecoverable
        );
        drop(make(&memory).try_write(me()).unwrap());
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        support::catch_signals();
        for is_reader in [true, false] {
            let guard = lock.write(me()).unwrap();
            let waiting = peer(|| {
                match is_reader {
                    true => drop(lock.read(me()).unwrap()),
                    false => drop(lock.write(me()).unwrap()),
                }
                assert!(support::caught() > 0);
            });
            support::interrupt(&waiting);
            until_asleep(waiting.pid());
            drop(guard);
            waiting.join();
        }
    });
}

#[test]
fn memory_for_one_and_memory_that_is_none() {
    let memory = memory();
    let bytes = memory.bytes();
    let short = bytes.slice(0, 2111).unwrap();
    let odd = bytes.slice(8, 4096).unwrap();
    let read_only = Region::anonymous(4096, Access::READ).unwrap();
    for call in [RwLock::init, RwLock::attach] {
        let error = |bytes| call(bytes).err();
        assert_eq!(error(short), Some(AttachError::TooSmall { needed: 2112 }));
        assert_eq!(error(odd), Some(AttachError::Unaligned { align: 64 }));
        assert_eq!(error(read_only.bytes()), Some(AttachError::ReadOnly));
    }
    assert_eq!(RwLock::attach(bytes).err(), Some(AttachError::NotFound));
    let lock = make(&memory);
    assert!(std::ptr::eq(lock, RwLock::attach(bytes).unwrap()));
    let magic = bytes.atomic_u32(0).unwrap();
    assert_eq!(magic.load(Relaxed), 0x6c70_0101);
    magic.fetch_add(1, Relaxed);
    assert_eq!(
        RwLock::attach(bytes).err(),
        Some(AttachError::Version {
            found: 2,
            expected: 1
        })
    );
}

#[test]
fn a_lock_can_be_a_static() {
    static LOCK: RwLock = RwLock::new();
    let guard = LOCK.read(me()).unwrap().upgrade().unwrap();
    assert!(std::ptr::eq(guard.rwlock(), &LOCK));
    let other = std::thread::spawn(|| drop(LOCK.read(me()).unwrap()));
    drop(guard.downgrade());
    other.join().unwrap();
}

#[test]
fn a_child_has_no_use_for_its_parents_token_or_guard() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let process = me();
        let mut reading = Some(lock.read(process).unwrap());
        peer(|| {
            assert_eq!(failed(lock.read(process)), Error::Forked);
            assert_eq!(failed(lock.write(process)), Error::Forked);
            let failed = reading.take().unwrap().upgrade().unwrap_err();
            assert_eq!(failed.error, Error::Forked);
            drop(failed);
            assert_eq!(crate::failed(lock.try_write(me())), Error::Busy);
        })
        .join();
        let mut writing = Some(reading.unwrap().upgrade().unwrap());
        peer(|| {
            drop(writing.take().unwrap().downgrade());
            assert_eq!(failed(lock.try_read(me())), Error::Busy);
        })
        .join();
        peer(|| {
            drop(writing.take());
            assert_eq!(failed(lock.try_read(me())), Error::Busy);
        })
        .join();
        drop(writing);
        drop(lock.try_write(me()).unwrap());
    });
}

#[test]
fn without_membarrier_sleepers_are_woken_too() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let turns = memory.bytes().atomic_u32(4096).unwrap();
        let work = || {
            for _ in 0..2_000 {
                let guard = lock.write(me()).unwrap();
                turns.fetch_add(1, Relaxed);
                let guard = guard.downgrade();
                drop(guard);
                drop(lock.read(me()).unwrap());
            }
        };
        // Who is refused it, and who is not, among each other.
        let others = [0, 1, 2].map(|i| {
            peer(move || {
                if i > 0 {
                    support::refuse_membarrier();
                }
                work();
            })
        });
        for peer in others {
            peer.join();
        }
        assert_eq!(turns.load(Relaxed), 6_000);
    });
}

/// Two numbers that are the same but while a writer changes them.
#[derive(Clone, Copy)]
struct Pair<'a>(&'a AtomicU32, &'a AtomicU32);

impl<'a> Pair<'a> {
    fn new(memory: &'a Region) -> Self {
        let word = |i: usize| memory.bytes().atomic_u32(4096 + 64 * i).unwrap();
        Self(word(0), word(1))
    }

    fn check(&self) {
        assert_eq!(self.0.load(Relaxed), self.1.load(Relaxed));
    }

    fn change(&self) {
        self.check();
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
        std::hint::spin_loop();
        self.1.store(self.1.load(Relaxed) + 1, Relaxed);
    }

    /// What it is after a writer may have died; whether one did.
    fn repair<'l, T>(&self, result: Result<T, LockError<'l>>) -> bool {
        match result {
            Ok(_guard) => {
                self.check();
                false
            }
            Err(LockError::OwnerDied(guard)) => {
                self.1.store(self.0.load(Relaxed), Relaxed);
                drop(guard.mark_consistent());
                true
            }
            Err(failed) => panic!("{failed}"),
        }
    }
}

#[test]
fn killed_at_every_step_of_reading_and_writing() {
    isolated!(|| {
        let memories = memories();
        let operation = |lock: &RwLock, pair: &Pair<'_>, process| {
            let guard = lock.read(process).unwrap();
            let guard = guard.upgrade().unwrap();
            pair.change();
            drop(guard.downgrade());
            let guard = lock.write(process).unwrap();
            pair.change();
            drop(guard);
        };
        let (mut died, mut turn) = (0, 0);
        killed_at_every_step(
            &memories,
            |memory| (make(memory), Pair::new(memory)),
            |(lock, pair), begin| {
                let process = me();
                operation(lock, &pair, process);
                begin();
                operation(lock, &pair, process);
            },
            |_, _| {},
            |(lock, pair), ()| {
                turn += 1;
                let is_told = match turn % 16 {
                    0 => pair.repair(lock.write_deadline(me(), patiently())),
                    1 => pair.repair(lock.read_deadline(me(), patiently())),
                    turn if turn % 2 == 0 => pair.repair(lock.try_write(me())),
                    _ => pair.repair(lock.try_read(me())),
                };
                died += u32::from(is_told);
                // It is nobody's.
                drop(lock.try_write(me()).unwrap());
            },
        );
        assert!(died > 20 / SLOWNESS as u32, "{died}");
    });
}

#[test]
fn killed_at_any_moment_the_others_go_on() {
    isolated!(|| {
        const LOCKS: usize = 1;
        const ROUNDS: usize = 1_000 / SLOWNESS;
        let memories = memories();
        let all: [_; LOCKS] = std::array::from_fn(|i| {
            let memory = &memories[i];
            let words = [2, 3, 4].map(|i| word(memory, 4096 + 64 * i));
            (make(memory), Pair::new(memory), words)
        });
        let work = |at: usize, seed: u64| {
            let process = me();
            let (lock, pair, [reads, repaired, raised]) = all[at];
            for turn in seed.. {
                match turn % 8 {
                    0 | 1 => match lock.write(process) {
                        Ok(guard) => {
                            pair.change();
                            if turn % 3 == 0 {
                                let _guard = guard.downgrade();
                                pair.check();
                            }
                        }
                        died => {
                            repaired.fetch_add(1, Relaxed);
                            pair.repair(died);
                        }
                    },
                    2 => match lock.read(process) {
                        Ok(guard) => {
                            pair.check();
                            match guard.upgrade() {
                                Ok(_guard) => {
                                    raised.fetch_add(1, Relaxed);
                                    pair.change();
                                }
                                Err(failed) => {
                                    assert_eq!(failed.error, Error::Busy);
                                    pair.check();
                                }
                            }
                        }
                        died => {
                            repaired.fetch_add(1, Relaxed);
                            pair.repair(died);
                        }
                    },
                    _ => {
                        if pair.repair(lock.read(process)) {
                            repaired.fetch_add(1, Relaxed);
                        }
                        reads.fetch_add(1, Relaxed);
                    }
                }
            }
        };
        killed_at_random::<4>(
            LOCKS,
            ROUNDS,
            work,
            |_| {
                let seen =
                    all.map(|(_, pair, [reads, ..])| (reads.load(Relaxed), pair.1.load(Relaxed)));
                for ((_, pair, [reads, ..]), seen) in all.into_iter().zip(seen) {
                    eventually("somebody reads", || reads.load(Relaxed) != seen.0);
                    eventually("somebody writes", || pair.1.load(Relaxed) != seen.1);
                }
            },
            // A kill has hit a writer, and one was upgraded.
            |_| {
                all.iter().all(|(.., [_, repaired, raised])| {
                    repaired.load(Relaxed) > 0 && raised.load(Relaxed) > 0
                })
            },
        );
        for (lock, pair, _) in all {
            pair.repair(lock.try_write(me()));
            drop(lock.try_write(me()).unwrap());
        }
    });
}

/// Calls everything, with deadlines, on whatever is there.
fn call_everything(lock: &RwLock) {
    let soon = || Deadline::after(Clock::Monotonic, Duration::from_millis(1));
    match lock.read_deadline(me(), soon()) {
        Ok(guard) => match guard.upgrade_deadline(soon()) {
            Ok(guard) => drop(guard.downgrade().try_upgrade()),
            Err(failed) => drop(failed.guard),
        },
        Err(LockError::OwnerDied(guard)) => drop(guard.mark_consistent().downgrade()),
        Err(LockError::Failed(_)) => {}
    }
    match lock.write_deadline(me(), soon()) {
        Ok(guard) => drop(guard),
        Err(LockError::OwnerDied(guard)) => drop(guard),
        Err(LockError::Failed(_)) => {}
    }
    drop(lock.try_read(me()));
    drop(lock.try_write(me()));
}

#[test]
fn garbage_does_no_harm() {
    isolated!(|| {
        let memory = memory();
        let lock = make(&memory);
        let mut random = locks::Random::new();
        let process = memory.bytes().atomic_u64(16).unwrap();
        drop(lock.write(me()).unwrap().downgrade());
        forget(lock.write(me()).unwrap().downgrade());
        let identity = process.load(Relaxed);
        let mut garbage = move || match random.below(8) {
            0 | 1 => 0,
            2 => random.below(4),
            // Of the living, and of a dead one of the same namespace.
            3 => identity,
            4 => identity ^ random.below(1024),
            5 => identity ^ (random.next() << 42),
            6 => u64::MAX,
            _ => (random.next() << 32) ^ random.next(),
        };
        let mut scribble = || {
            for at in (8..2112).step_by(8).filter(|at| *at < 64 || at % 64 == 0) {
                let word = memory.bytes().atomic_u64(at).unwrap();
                word.store(garbage(), Relaxed);
            }
        };
        patient(300, || {
            scribble();
            call_everything(lock);
        });
        // The same while it changes.
        scribbled(&mut scribble, 300, || call_everything(lock));
        drop(make(&memory).try_write(me()).unwrap());
    });
}
