//! Robust mutexes between processes.

#[path = "support/step.rs"]
mod step;
mod support;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linipc_core::Errno;
use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::memfd;
use linipc_core::pshared::mutex::{Guard, Inconsistent, Kind, LockError, Mutex, Split, SplitMutex};
use linipc_core::pshared::{AttachError, Error};
use linipc_core::robust::{self, Head, Thread};
use step::Stage;
use support::{PATIENCE, Peer, catch_signals, caught, interrupt, peer, until_asleep};

fn memory() -> Region {
    Region::anonymous(8192, Access::READ | Access::WRITE).unwrap()
}

fn make(memory: &Region, kind: Kind) -> &Mutex {
    make_with(memory, kind, false)
}

fn make_with(memory: &Region, kind: Kind, inherits: bool) -> &Mutex {
    let made = if inherits {
        // SAFETY: Only the processes of a test have the memory.
        unsafe { Mutex::init_inheriting(memory.bytes(), kind) }
    } else {
        // SAFETY: As above.
        unsafe { Mutex::init(memory.bytes(), kind) }
    };
    made.unwrap()
}

/// A process that has the mutex.
fn owner(mutex: &Mutex) -> Peer {
    let owner = peer(|| {
        let _guard = mutex.lock(me()).unwrap();
        std::thread::park();
    });
    support::eventually("the owner has it", || {
        matches!(mutex.try_lock(me()), Err(LockError::Failed(Error::Busy)))
    });
    owner
}

fn me() -> Thread {
    Thread::current().unwrap()
}

fn failed<'a>(result: Result<Guard<'a>, LockError<'a>>) -> Error {
    match result {
        Err(LockError::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn inconsistent<'a>(result: Result<Guard<'a>, LockError<'a>>) -> Inconsistent<'a> {
    match result {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("{other:?}"),
    }
}

fn soon() -> Deadline {
    Deadline::after(Clock::Monotonic, Duration::from_millis(20))
}

#[test]
fn locked_is_locked_for_others() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Normal);
        let guard = mutex.lock(me()).unwrap();
        peer(|| {
            assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
            assert_eq!(failed(mutex.lock_deadline(me(), soon())), Error::TimedOut);
        })
        .join();
        drop(guard);
        peer(|| drop(mutex.lock(me()).unwrap())).join();
    });
}

#[test]
fn who_sleeps_is_woken() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Normal);
        let guard = mutex.lock(me()).unwrap();
        let sleeper = peer(|| drop(mutex.lock(me()).unwrap()));
        until_asleep(sleeper.pid());
        drop(guard);
        sleeper.join();
    });
}

#[test]
fn a_killed_owner_is_told() {
    isolated!(|| {
        let memory = memory();
        for inherits in [false, true] {
            let mutex = make_with(&memory, Kind::Normal, inherits);
            let owner = owner(mutex);
            let sleeper = peer(|| {
                let guard = inconsistent(mutex.lock(me()));
                drop(guard.mark_consistent());
            });
            until_asleep(sleeper.pid());
            owner.kill();
            sleeper.join();
            drop(mutex.lock(me()).unwrap());

            // The same of who comes later, and only tries.
            self::owner(mutex).kill();
            drop(inconsistent(mutex.try_lock(me())).mark_consistent());
            drop(mutex.try_lock(me()).unwrap());
        }
    });
}

#[test]
fn left_inconsistent_is_lost_for_all_also_for_who_waits() {
    isolated!(|| {
        let memory = memory();
        for inherits in [false, true] {
            let mutex = make_with(&memory, Kind::Normal, inherits);
            owner(mutex).kill();
            let guard = inconsistent(mutex.lock(me()));
            let sleepers = [0, 1, 2]
                .map(|_| peer(|| assert_eq!(failed(mutex.lock(me())), Error::NotRecoverable)));
            for sleeper in &sleepers {
                until_asleep(sleeper.pid());
            }
            drop(guard);
            for sleeper in sleepers {
                sleeper.join();
            }
            assert_eq!(failed(mutex.try_lock(me())), Error::NotRecoverable);
            assert_eq!(
                failed(mutex.lock_deadline(me(), soon())),
                Error::NotRecoverable
            );
        }
    });
}

#[test]
fn kinds_differ_when_the_owner_locks_again() {
    isolated!(|| {
        let memory = memory();
        for inherits in [false, true] {
            let mutex = make_with(&memory, Kind::ErrorCheck, inherits);
            let guard = mutex.lock(me()).unwrap();
            assert_eq!(failed(mutex.lock(me())), Error::Deadlock);
            assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
            drop(guard);

            let mutex = make_with(&memory, Kind::Recursive, inherits);
            let guards = [mutex.lock(me()).unwrap(), mutex.try_lock(me()).unwrap()];
            let [first, second] = guards;
            drop(first);
            peer(|| assert_eq!(failed(mutex.try_lock(me())), Error::Busy)).join();
            drop(second);
            peer(|| drop(mutex.try_lock(me()).unwrap())).join();
        }
        let mutex = make(&memory, Kind::Normal);
        let _guard = mutex.lock(me()).unwrap();
        assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
        assert_eq!(failed(mutex.lock_deadline(me(), soon())), Error::TimedOut);
    });
}

#[test]
fn a_recursive_mutex_counts_to_its_end() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Recursive);
        let _guard = mutex.lock(me()).unwrap();
        memory
            .bytes()
            .atomic_u32(4)
            .unwrap()
            .store(u32::MAX, Relaxed);
        assert_eq!(failed(mutex.lock(me())), Error::Overflow);
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Normal);
        let guard = mutex.lock(me()).unwrap();
        let sleeper = peer(|| {
            catch_signals();
            drop(
                mutex
                    .lock_deadline(me(), Deadline::after(Clock::Realtime, PATIENCE))
                    .unwrap(),
            );
            assert!(caught() > 0);
        });
        support::eventually("it catches signals", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", sleeper.pid()));
            status.unwrap().contains("SigCgt:\t0000000000000200") || {
                until_asleep(sleeper.pid());
                true
            }
        });
        interrupt(&sleeper);
        until_asleep(sleeper.pid());
        drop(guard);
        sleeper.join();
    });
}

#[test]
fn memory_for_one_and_memory_that_is_none() {
    let memory = memory();
    let bytes = memory.bytes();
    // SAFETY: Only this test has the memory, and nobody locks.
    let error = |bytes| unsafe { Mutex::init(bytes, Kind::Normal) }.err();
    let short = bytes.slice(0, 39).unwrap();
    assert_eq!(error(short), Some(AttachError::TooSmall { needed: 40 }));
    let odd = bytes.slice(4, 40).unwrap();
    assert_eq!(error(odd), Some(AttachError::Unaligned { align: 8 }));
    let read_only = Region::anonymous(4096, Access::READ).unwrap();
    assert_eq!(error(read_only.bytes()), Some(AttachError::ReadOnly));
    // SAFETY: As above.
    let none = unsafe { Mutex::attach(bytes) }.err();
    assert_eq!(none, Some(AttachError::NotFound));
}

#[test]
fn what_is_no_mutex_any_more_is_corrupt() {
    let memory = memory();
    let mutex = make(&memory, Kind::Normal);
    for kind in [0, 1, 144 | 3, 144 | 4, 144 | 64, u32::MAX] {
        memory.bytes().atomic_u32(16).unwrap().store(kind, Relaxed);
        assert_eq!(failed(mutex.lock(me())), Error::Corrupt);
    }
}

#[test]
fn a_child_has_no_use_for_its_parents_token_or_guard() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Normal);
        let thread = me();
        let mut guard = Some(mutex.lock(thread).unwrap());
        peer(|| {
            assert!(thread.is_forked());
            assert_eq!(failed(mutex.lock(thread)), Error::Forked);
            assert!(!me().is_forked());
            // It unlocks nothing.
            drop(guard.take());
            assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
        })
        .join();
        assert!(!thread.is_forked());
        drop(guard);
        peer(|| drop(mutex.lock(me()).unwrap())).join();
    });
}

#[test]
fn a_thread_without_a_list_registers_one() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Normal);
        let head = || Box::leak(Box::new(Head::new()));
        assert_eq!(Thread::register(head()).err(), Some(robust::Error::InUse));
        // The kernel's fork, of which the C library knows nothing: the child has no list.
        // SAFETY: Neither process has another thread that works.
        match unsafe { libc::syscall(libc::SYS_fork) } {
            0 => {
                assert_eq!(Thread::current().err(), Some(robust::Error::None));
                let thread = Thread::register(head()).unwrap();
                assert_eq!(Thread::current().unwrap().id(), thread.id());
                drop(mutex.lock(thread).unwrap());
                std::mem::forget(mutex.lock(thread).unwrap());
                // SAFETY: Ends the child here.
                unsafe { libc::_exit(0) }
            }
            child => {
                let mut status = 0;
                // SAFETY: `status` is writable.
                unsafe { libc::waitpid(child as i32, &raw mut status, 0) };
                assert_eq!(status, 0);
            }
        }
        drop(inconsistent(mutex.lock(me())).mark_consistent());
    });
}

#[test]
fn many_are_held_and_given_back_in_any_order() {
    isolated!(|| {
        const N: usize = 5;
        let memory = memory();
        let mutexes: [&Mutex; N] = std::array::from_fn(|i| {
            let bytes = memory.bytes().slice(64 * i, 64).unwrap();
            // SAFETY: Only the processes of the test have the memory.
            match i % 2 {
                0 => unsafe { Mutex::init(bytes, Kind::Normal) },
                _ => unsafe { Mutex::init_inheriting(bytes, Kind::Normal) },
            }
            .unwrap()
        });
        // Each leaves out another one, of which the kernel must tell, in another order.
        for kept in 0..N {
            for first in 0..N {
                peer(|| {
                    let mut guards = mutexes.map(|mutex| Some(mutex.lock(me()).unwrap()));
                    for i in (0..N).map(|i| (first + 2 * i) % N) {
                        if i != kept {
                            drop(guards[i].take());
                        }
                    }
                    std::mem::forget(guards);
                })
                .join();
                for (i, mutex) in mutexes.iter().enumerate() {
                    match mutex.try_lock(me()) {
                        Ok(guard) => assert_ne!(i, kept, "{guard:?}"),
                        died => {
                            assert_eq!(i, kept);
                            drop(inconsistent(died).mark_consistent());
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn killed_at_every_step_of_locking_and_unlocking() {
    isolated!(|| {
        let memory = memory();
        let counter = memory.bytes().atomic_u32(2048).unwrap();
        for inherits in [false, true] {
            let mutex = make_with(&memory, Kind::Normal, inherits);
            let mut stage = Stage::new();
            let child = |stage: &Stage| {
                peer(|| {
                    let thread = me();
                    // What is asked once is asked before.
                    drop(mutex.lock(thread).unwrap());
                    stage.begin();
                    let guard = mutex.lock(thread).unwrap();
                    counter.store(counter.load(Relaxed) + 1, Relaxed);
                    drop(guard);
                    stage.end();
                })
            };
            let first = child(&stage);
            stage.expect_begin(&first);
            let plan = stage.plan(&memory, &first);
            first.kill();
            let mut died = 0;
            for steps in plan {
                stage = Stage::new();
                let victim = child(&stage);
                stage.expect_begin(&victim);
                stage.steps(&victim, steps);
                victim.kill();
                match mutex.lock_deadline(me(), Deadline::after(Clock::Monotonic, PATIENCE)) {
                    Ok(guard) => drop(guard),
                    Err(LockError::OwnerDied(guard)) => {
                        died += 1;
                        drop(guard.mark_consistent());
                    }
                    failed => panic!("after {steps} steps: {failed:?}"),
                }
                // It is nobody's, and nothing is left in a list.
                peer(|| drop(mutex.try_lock(me()).unwrap())).join();
            }
            assert!(died > 5, "{died}");
        }
    });
}

#[test]
fn killed_at_any_moment_the_others_go_on() {
    isolated!(|| {
        const ROUNDS: usize = 1_000;
        let memory = memory();
        let word = |i: usize| memory.bytes().atomic_u32(2048 + 64 * i).unwrap();
        let (before, after, repaired) = (word(0), word(1), word(2));
        for inherits in [false, true] {
            let mutex = make_with(&memory, Kind::Normal, inherits);
            before.store(0, Relaxed);
            after.store(0, Relaxed);
            let work = || {
                loop {
                    let _guard = match mutex.lock(me()) {
                        Ok(guard) => guard,
                        Err(LockError::OwnerDied(guard)) => {
                            after.store(before.load(Relaxed), Relaxed);
                            repaired.store(repaired.load(Relaxed) + 1, Relaxed);
                            guard.mark_consistent()
                        }
                        Err(failed) => panic!("{failed}"),
                    };
                    assert_eq!(before.load(Relaxed), after.load(Relaxed));
                    before.store(before.load(Relaxed) + 1, Relaxed);
                    std::hint::spin_loop();
                    after.store(after.load(Relaxed) + 1, Relaxed);
                }
            };
            let mut workers = [0, 1, 2].map(|_| Some(peer(work)));
            for round in 0..ROUNDS {
                let seen = before.load(Relaxed);
                support::eventually("somebody gets on", || before.load(Relaxed) != seen);
                for _ in 0..round * 37 % 5_000 {
                    std::hint::spin_loop();
                }
                let victim = &mut workers[round % 3];
                victim.take().unwrap().kill();
                *victim = Some(peer(work));
            }
            for worker in workers {
                worker.unwrap().kill();
            }
        }
        assert!(repaired.load(Relaxed) > 0, "no kill has hit an owner");
    });
}

/// Runs many rounds, until one says that it is enough, with a peer that has the first 24 bytes and
/// writes there what it likes.
fn scribbled(mut round: impl FnMut(SplitMutex<'_>) -> bool) {
    let file = memfd::create(c"split", memfd::Flags::empty()).unwrap();
    rustix::fs::ftruncate(&file, 4096).unwrap();
    let split = Split::map(&file, 4096).unwrap();
    let mutex = split.init(Kind::Recursive);
    let region = Region::shared(&file, 0, 4096, Access::READ | Access::WRITE).unwrap();
    let scribbler = peer(|| {
        let words = region
            .bytes()
            .slice(4096 - Split::SHARED, Split::SHARED)
            .unwrap();
        let mut random = 0x9e37_79b9_u32;
        let mut draw = |n: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % n
        };
        loop {
            // What means something, more often than what does not.
            let (at, value) = match draw(16) {
                0..6 => (
                    0,
                    [0, 0, 1 << 30, 1 << 31, 3 << 30, draw(u32::MAX)][draw(6) as usize],
                ),
                6..8 => (8, i32::MAX as u32 - draw(3)),
                8 => (16, [145, draw(u32::MAX)][usize::from(draw(64) == 0)]),
                9 => (4 * draw(6) as usize, draw(4)),
                _ => (16, 144 + draw(3)),
            };
            words.atomic_u32(at).unwrap().store(value, Relaxed);
        }
    });
    let (mut rounds, mut is_enough) = (0, false);
    let end = std::time::Instant::now() + PATIENCE;
    while rounds < 20_000 || !is_enough {
        is_enough = round(mutex);
        rounds += 1;
        assert!(std::time::Instant::now() < end, "not all has happened");
    }
    scribbler.kill();
}

#[test]
fn a_scribbling_peer_does_no_harm() {
    isolated!(|| {
        let memory = memory();
        let honest = make(&memory, Kind::Normal);
        let mut results = [0; 3];
        scribbled(|mutex| {
            let deadline = Deadline::after(Clock::Monotonic, Duration::from_micros(50));
            let guard = mutex.lock_deadline(me(), deadline);
            let which = match &guard {
                Ok(_) => 0,
                Err(LockError::OwnerDied(_)) => 1,
                Err(LockError::Failed(_)) => 2,
            };
            results[which] += 1;
            // The thread's list stays in order.
            let other = honest.lock(me()).unwrap();
            drop(guard);
            drop(other);
            results.iter().all(|n| *n > 0)
        });
        peer(|| std::mem::forget(honest.lock(me()).unwrap())).join();
        drop(inconsistent(honest.lock(me())).mark_consistent());
    });
}

#[test]
fn a_forgotten_guard_keeps_the_mapping() {
    isolated!(|| {
        let file = memfd::create(c"split", memfd::Flags::empty()).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let split = Split::map(&file, 4096).unwrap();
        std::mem::forget(split.init(Kind::Normal).lock(me()).unwrap());
        let at = split.bytes().as_ptr();
        drop(split);
        // SAFETY: mincore(2) with one byte of room asks about one page.
        let mapped = unsafe { libc::mincore(at.cast(), 4096, [0_u8].as_mut_ptr()) };
        assert_eq!(mapped, 0);
        // Who locks next writes into it.
        let memory = memory();
        drop(make(&memory, Kind::Normal).lock(me()).unwrap());

        let split = Split::map(&file, 4096).unwrap();
        drop(split.init(Kind::Normal).lock(me()).unwrap());
        let at = split.bytes().as_ptr();
        drop(split);
        // SAFETY: As above.
        let mapped = unsafe { libc::mincore(at.cast(), 4096, [0_u8].as_mut_ptr()) };
        assert_eq!(mapped, -1);
    });
}

#[test]
fn split_maps_whole_pages() {
    let file = memfd::create(c"split", memfd::Flags::empty()).unwrap();
    for len in [0, 1, 4095, 4097, 8191] {
        assert_eq!(Split::map(&file, len).err(), Some(Errno::INVAL));
    }
    rustix::fs::ftruncate(&file, 8192).unwrap();
    let split = Split::map(&file, 8192).unwrap();
    assert_eq!(split.bytes().len(), 8192 - 24);
    assert_eq!(split.attach().err(), Some(AttachError::NotFound));
    split.init(Kind::Normal);
    let other = Split::map(&file, 8192).unwrap();
    let guard = other.attach().unwrap().lock(me()).unwrap();
    assert_eq!(failed(split.attach().unwrap().try_lock(me())), Error::Busy);
    drop(guard);
}

#[test]
fn threads_of_one_process_have_a_split_mutex_in_turns() {
    isolated!(|| {
        let file = memfd::create(c"split", memfd::Flags::empty()).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let split = Split::map(&file, 4096).unwrap();
        let mutex = split.init(Kind::Recursive);
        let guard = mutex.lock(me()).unwrap();
        assert_eq!(failed(mutex.lock(me())), Error::Deadlock);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
                assert_eq!(failed(mutex.lock_deadline(me(), soon())), Error::TimedOut);
                // Also where somebody has made the shared word free.
                let word = Region::shared(&file, 0, 4096, Access::READ | Access::WRITE).unwrap();
                word.bytes()
                    .atomic_u32(4096 - Split::SHARED)
                    .unwrap()
                    .store(0, Relaxed);
                assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
                drop(mutex.lock(me()).unwrap());
            });
            std::thread::sleep(Duration::from_millis(100));
            drop(guard);
            other.join().unwrap();
            // A thread that ends has it no more.
            scope
                .spawn(|| std::mem::forget(mutex.lock(me()).unwrap()))
                .join()
                .unwrap();
        });
        drop(inconsistent(mutex.try_lock(me())).mark_consistent());
        drop(mutex.try_lock(me()).unwrap());
    });
}

#[test]
fn an_owner_that_the_kernel_does_not_tell_of_is_found() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Normal);
        // As after execve(2) in another thread than the first: nobody has this id, and the word stays.
        let gone = peer(|| {});
        let id = gone.pid() as u32;
        gone.join();
        memory.bytes().atomic_u32(0).unwrap().store(id, Relaxed);
        assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
        drop(inconsistent(mutex.lock(me())).mark_consistent());
        drop(mutex.try_lock(me()).unwrap());
    });
}

/// As C programs do it: what was locked here is unlocked there.
#[test]
fn a_forgotten_guard_is_taken_up_again() {
    // SAFETY: All guards of the test are forgotten but those that this gives.
    let resume = |mutex: &Mutex| {
        unsafe { mutex.resume(me()).map(drop) }.map_err(|error| match error {
            LockError::Failed(error) => Some(error),
            LockError::OwnerDied(_) => None,
        })
    };
    isolated!(|| {
        let memory = memory();
        for (kind, times) in [
            (Kind::Normal, 1),
            (Kind::Recursive, 3),
            (Kind::ErrorCheck, 1),
        ] {
            for inherits in [false, true] {
                let mutex = make_with(&memory, kind, inherits);
                let not_mine = Err(Some(Error::System(Errno::PERM)));
                assert_eq!(resume(mutex), not_mine);
                for _ in 0..times {
                    std::mem::forget(mutex.lock(me()).unwrap());
                }
                for _ in 0..times {
                    peer(|| {
                        assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
                        assert_eq!(resume(mutex), not_mine);
                    })
                    .join();
                    assert_eq!(resume(mutex), Ok(()));
                }
                assert_eq!(resume(mutex), not_mine);
                peer(|| drop(mutex.lock(me()).unwrap())).join();

                // The owner died: what is taken up is inconsistent, until it is marked.
                peer(|| std::mem::forget(mutex.lock(me()).unwrap())).join();
                std::mem::forget(inconsistent(mutex.lock(me())));
                // SAFETY: As above.
                match unsafe { mutex.resume(me()) } {
                    Err(LockError::OwnerDied(guard)) => {
                        std::mem::forget(guard.mark_consistent());
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(resume(mutex), Ok(()));
                peer(|| std::mem::forget(mutex.lock(me()).unwrap())).join();
                std::mem::forget(inconsistent(mutex.lock(me())));
                // Dropped like that, it is lost.
                assert_eq!(resume(mutex), Err(None));
                assert_eq!(failed(mutex.lock(me())), Error::NotRecoverable);
            }
        }
    });
}
