//! Robust mutexes between processes.

#[path = "support/locks.rs"]
mod locks;
mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linipc_core::Errno;
use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::memfd;
use linipc_core::pshared::mutex::{Kind, LockError, Mutex, Split, SplitMutex};
use linipc_core::pshared::{AttachError, Error};
use linipc_core::robust::{self, Head, Thread};
use locks::{
    failed, healthy, holder, inconsistent, killed_at_every_step, killed_at_random, memories,
    memory, patiently, sleeper, soon, this_thread as me, word,
};
use support::{PATIENCE, Peer, SLOWNESS, catch_signals, caught, interrupt, peer, until_asleep};

use Protocol::{Inheriting, Native, Pthread};

/// How who unlocks finds out who sleeps.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Native,
    Pthread,
    Inheriting,
}

fn make(memory: &Region, kind: Kind) -> &Mutex {
    make_with(memory, kind, Native)
}

fn make_with(memory: &Region, kind: Kind, protocol: Protocol) -> &Mutex {
    let bytes = memory.bytes();
    let made = match protocol {
        // SAFETY: Only the processes of a test have the memory.
        Native => unsafe { Mutex::init(bytes, kind) },
        // SAFETY: As above.
        Pthread => unsafe { Mutex::init_pthread(bytes, kind) },
        // SAFETY: As above.
        Inheriting => unsafe { Mutex::init_inheriting(bytes, kind) },
    };
    made.unwrap()
}

/// A process that has the mutex.
fn owner(mutex: &Mutex) -> Peer {
    holder(|| mutex.lock(me()).unwrap())
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
        let sleeper = sleeper(|| drop(mutex.lock(me()).unwrap()));
        drop(guard);
        sleeper.join();
    });
}

#[test]
fn a_killed_owner_is_told() {
    isolated!(|| {
        let memory = memory();
        for protocol in [Native, Pthread, Inheriting] {
            let mutex = make_with(&memory, Kind::Normal, protocol);
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
        for protocol in [Native, Pthread, Inheriting] {
            let mutex = make_with(&memory, Kind::Normal, protocol);
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
        for protocol in [Native, Pthread, Inheriting] {
            let mutex = make_with(&memory, Kind::ErrorCheck, protocol);
            let guard = mutex.lock(me()).unwrap();
            assert_eq!(failed(mutex.lock(me())), Error::Deadlock);
            assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
            drop(guard);

            let mutex = make_with(&memory, Kind::Recursive, protocol);
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
            drop(mutex.lock_deadline(me(), patiently()).unwrap());
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
    let odd = bytes.slice(2, 40).unwrap();
    let align = align_of::<Mutex>();
    assert_eq!(error(odd), Some(AttachError::Unaligned { align }));
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
        // clone(2), since not all architectures have fork(2); of s390x the stack comes first.
        let (flags, stack) = match cfg!(target_arch = "s390x") {
            true => (0, libc::SIGCHLD),
            false => (libc::SIGCHLD, 0),
        };
        // SAFETY: Neither process has another thread that works.
        match unsafe { libc::syscall(libc::SYS_clone, flags, stack, 0, 0, 0) } {
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

/// Kills who does something with a mutex and a counter at every step, beside so many who wait to lock it
/// too. The next ones get it, and at most one of them learns of a death.
fn killed_at_every_step_of(
    protocol: Protocol,
    waiting: usize,
    begin_locked: bool,
    is_told: impl Fn(u32) -> bool,
) {
    let memories = memories();
    let mut died = 0;
    killed_at_every_step(
        &memories,
        |memory| {
            let words = [2048, 2112].map(|at| word(memory, at));
            words.iter().for_each(|word| word.store(0, Relaxed));
            (make_with(memory, Kind::Normal, protocol), words)
        },
        |(mutex, [counter, _]), begin| {
            let thread = me();
            // What is asked once is asked before.
            let locked = mutex.lock(thread).unwrap();
            let guard = match begin_locked {
                true => {
                    begin();
                    locked
                }
                false => {
                    drop(locked);
                    begin();
                    mutex.lock(thread).unwrap()
                }
            };
            counter.store(counter.load(Relaxed) + 1, Relaxed);
            drop(guard);
        },
        |(mutex, [_, told]), _| {
            let add = move || {
                let locked = mutex.lock_deadline(me(), patiently());
                if let Err(LockError::OwnerDied(_)) = &locked {
                    told.fetch_add(1, Relaxed);
                }
                drop(healthy(locked));
            };
            Vec::from_iter((0..waiting).map(|_| sleeper(add)))
        },
        |(mutex, [_, told]), waiting| {
            let locked = mutex.lock_deadline(me(), patiently());
            if let Err(LockError::OwnerDied(_)) = &locked {
                told.fetch_add(1, Relaxed);
            }
            drop(healthy(locked));
            waiting.into_iter().for_each(Peer::join);
            let told = told.load(Relaxed);
            assert!(told <= 1, "{told}");
            died += told;
            // It is nobody's, and nothing is left in a list.
            peer(|| drop(mutex.try_lock(me()).unwrap())).join();
        },
    );
    assert!(is_told(died), "{died}");
}

#[test]
fn killed_at_every_step_of_locking_and_unlocking() {
    isolated!(|| {
        for protocol in [Native, Pthread, Inheriting] {
            killed_at_every_step_of(protocol, 0, false, |died| died > 5);
        }
    });
}

#[test]
fn killed_at_every_step_of_unlocking_beside_sleepers() {
    isolated!(|| {
        for protocol in [Native, Pthread, Inheriting] {
            killed_at_every_step_of(protocol, 2, true, |died| died > 2);
        }
    });
}

#[test]
fn killed_at_any_moment_the_others_go_on() {
    isolated!(|| {
        const ROUNDS: usize = 1_000 / SLOWNESS;
        let memory = memory();
        let [before, after, repaired] = [2048, 2112, 2176].map(|at| word(&memory, at));
        for protocol in [Native, Pthread, Inheriting] {
            let mutex = make_with(&memory, Kind::Normal, protocol);
            for word in [before, after, repaired] {
                word.store(0, Relaxed);
            }
            killed_at_random::<3>(
                1,
                ROUNDS,
                |_, _| {
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
                },
                |_| {
                    let seen = before.load(Relaxed);
                    support::eventually("somebody gets on", || before.load(Relaxed) != seen);
                },
                // A kill has hit an owner.
                |_| repaired.load(Relaxed) > 0,
            );
        }
    });
}

/// Runs many rounds, until one says that it is enough, with a peer that has the first
/// 24 bytes (on 32 bit 20) and writes there what it likes.
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
                9 => (4 * draw(Split::SHARED as u32 / 4) as usize, draw(4)),
                _ => (16, [144, 0x6c70_008c][draw(2) as usize] + draw(3)),
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
        assert!(has_none(), "a peer wrote into the list");
        peer(|| std::mem::forget(honest.lock(me()).unwrap())).join();
        drop(inconsistent(honest.lock(me())).mark_consistent());
    });
}

/// Whether no lock is in this thread's list.
fn has_none() -> bool {
    let (mut head, mut len) = (0_usize, 0_usize);
    // SAFETY: The kernel writes an address and a length.
    let got = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    assert_eq!(got, 0);
    // SAFETY: The head of this thread's list is there for as long as the thread, and begins with a link.
    head == unsafe { *std::ptr::with_exposed_provenance::<usize>(head) }
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

        // The list of a thread that has ended was gone through.
        let split = Split::map(&file, 4096).unwrap();
        let mutex = split.init(Kind::Normal);
        std::thread::scope(|scope| {
            let forgetful = scope.spawn(|| std::mem::forget(mutex.lock(me()).unwrap()));
            forgetful.join().unwrap();
        });
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
    assert_eq!(split.bytes().len(), 8192 - Split::SHARED);
    assert_eq!(split.attach().err(), Some(AttachError::NotFound));
    split.init(Kind::Normal);
    let other = Split::map(&file, 8192).unwrap();
    let guard = other.attach().unwrap().lock(me()).unwrap();
    assert_eq!(failed(split.attach().unwrap().try_lock(me())), Error::Busy);
    drop(guard);
}

/// 64 bit shares 24 bytes at the end, 32 bit 20, which begin alike: neither takes the other's for its own.
#[test]
fn a_split_mutex_of_the_other_width_is_not_found() {
    let file = || {
        let file = File::from(memfd::create(c"split", memfd::Flags::empty()).unwrap());
        file.set_len(4096).unwrap();
        file
    };
    let made = file();
    let split = Split::map(&made, 4096).unwrap();
    let guard = split.init(Kind::Normal).lock(me()).unwrap();
    let mut words = [0; 20];
    made.read_exact_at(&mut words, 4096 - Split::SHARED as u64)
        .unwrap();
    drop(guard);
    for at in [Split::SHARED, 44 - Split::SHARED] {
        let file = file();
        file.write_all_at(&words, 4096 - at as u64).unwrap();
        let is_found = Split::map(&file, 4096).unwrap().attach().is_ok();
        assert_eq!(is_found, at == Split::SHARED);
    }
}

#[test]
fn threads_of_one_process_have_a_split_mutex_in_turns() {
    isolated!(|| {
        let file = memfd::create(c"split", memfd::Flags::empty()).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let split = Split::map(&file, 4096).unwrap();
        for mutex in [Split::init, Split::init_inheriting] {
            let mutex = mutex(&split, Kind::Recursive);
            let guard = mutex.lock(me()).unwrap();
            assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
            assert_eq!(failed(mutex.lock(me())), Error::Deadlock);
            let looked = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
                    assert_eq!(failed(mutex.lock_deadline(me(), soon())), Error::TimedOut);
                    // Also where somebody has made the shared word free.
                    let word =
                        Region::shared(&file, 0, 4096, Access::READ | Access::WRITE).unwrap();
                    word.bytes()
                        .atomic_u32(4096 - Split::SHARED)
                        .unwrap()
                        .store(0, Relaxed);
                    assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
                    looked.wait();
                    drop(mutex.lock(me()).unwrap());
                });
                looked.wait();
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
        }
    });
}

/// The number behind the name of a thread of this process in `/proc/thread-self/stat`, from 3 on.
fn stat(thread: u32, field: usize) -> String {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(field - 3).unwrap().to_owned()
}

#[test]
fn the_first_thread_of_a_process_ends_with_a_split_mutex() {
    isolated!(|| {
        let file = memfd::create(c"split", memfd::Flags::empty()).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let split = Split::map(&file, 4096).unwrap();
        let successors = split.bytes().atomic_u32(0).unwrap();
        for mutex in [Split::init, Split::init_inheriting] {
            let mutex = mutex(&split, Kind::Normal);
            peer(|| {
                let first = me().id();
                std::mem::forget(mutex.lock(me()).unwrap());
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        support::eventually("it has ended", || stat(first, 3) == "Z");
                        let deadline = Deadline::after(Clock::Monotonic, PATIENCE / 2);
                        let locked = mutex.lock_deadline(me(), deadline);
                        drop(inconsistent(locked).mark_consistent());
                        successors.fetch_add(1, Relaxed);
                    });
                    // SAFETY: Ends this thread, and no other.
                    unsafe { libc::syscall(libc::SYS_exit, 0) };
                });
            })
            .join();
            assert_eq!(successors.swap(0, Relaxed), 1);
        }
    });
}

#[test]
fn a_thread_ends_with_a_split_mutex_for_which_others_wait() {
    isolated!(|| {
        let file = memfd::create(c"split", memfd::Flags::empty()).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let split = Split::map(&file, 4096).unwrap();
        for mutex in [Split::init, Split::init_inheriting] {
            let mutex = mutex(&split, Kind::Normal);
            let (here, waiting) = std::sync::mpsc::channel();
            let (locked, go) = std::sync::mpsc::channel();
            std::thread::scope(|scope| {
                let forgetful = scope.spawn(move || {
                    std::mem::forget(mutex.lock(me()).unwrap());
                    locked.send(()).unwrap();
                    for thread in waiting {
                        support::eventually("it waits", || stat(thread, 3) == "S");
                    }
                });
                go.recv().unwrap();
                let others = [(); 3].map(|()| {
                    let here = here.clone();
                    scope.spawn(move || {
                        here.send(me().id()).unwrap();
                        drop(here);
                        let deadline = Deadline::after(Clock::Monotonic, PATIENCE / 2);
                        match mutex.lock_deadline(me(), deadline) {
                            Ok(guard) => drop(guard),
                            Err(LockError::OwnerDied(guard)) => {
                                drop(guard.mark_consistent());
                                return 1;
                            }
                            Err(failed) => panic!("{failed}"),
                        }
                        0
                    })
                });
                drop(here);
                forgetful.join().unwrap();
                let died: u32 = others.into_iter().map(|other| other.join().unwrap()).sum();
                assert_eq!(died, 1);
            });
            drop(mutex.try_lock(me()).unwrap());
        }
    });
}

#[test]
fn threads_inherit_priority_from_each_other() {
    isolated!(|| {
        let file = memfd::create(c"split", memfd::Flags::empty()).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let split = Split::map(&file, 4096).unwrap();
        let mutex = split.init_inheriting(Kind::Normal);
        let urgent = || {
            let parameter = libc::sched_param { sched_priority: 1 };
            // SAFETY: The kernel reads the parameter. It is for this thread.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) }
        };
        let guard = mutex.lock(me()).unwrap();
        let first = me().id();
        let usual = stat(first, 18);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                if urgent() == -1 {
                    return support::skip("no permission for SCHED_FIFO");
                }
                drop(mutex.lock(me()).unwrap());
                assert_eq!(stat(first, 18), usual);
            });
            // As of `SCHED_FIFO` with 1.
            support::eventually("it has the other one's priority", || {
                other.is_finished() || stat(first, 18) == "-2"
            });
            drop(guard);
            other.join().unwrap();
        });
    });
}

/// It frees the word, and is killed before it wakes one of the C library's, which sleeps for as long as
/// nobody does. (Those of 32 bit are others.)
#[test]
#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
fn killed_before_the_wake_the_kernel_wakes() {
    isolated!(|| {
        let memory = memory();
        // SAFETY: Only the processes of the test have the memory.
        let mutex = unsafe { Mutex::init_pthread(memory.bytes(), Kind::Normal) }.unwrap();
        let word = memory.bytes().atomic_u32(0).unwrap();
        let stage = locks::step::Stage::new();
        let victim = peer(|| {
            let guard = mutex.lock(me()).unwrap();
            stage.begin();
            drop(guard);
            stage.end();
        });
        support::eventually("it is locked", || word.load(Relaxed) != 0);
        let waiting = peer(|| {
            let mutex = std::ptr::from_ref(mutex).cast_mut().cast();
            // SAFETY: It is a mutex of this format, in memory of this process.
            assert_eq!(unsafe { libc::pthread_mutex_lock(mutex) }, 0);
        });
        support::eventually("it waits", || word.load(Relaxed) >> 31 == 1);
        until_asleep(waiting.pid());
        stage.expect_begin(&victim);
        while word.load(Relaxed) != 0 {
            assert!(!stage.steps(&victim, 1), "it is unlocked");
        }
        victim.kill();
        waiting.join();
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
            for protocol in [Native, Pthread, Inheriting] {
                let mutex = make_with(&memory, kind, protocol);
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
