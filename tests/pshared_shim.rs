//! The owned forms of the locks in shared memory, between processes.

mod support;

use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::mem::forget;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use std::{ptr, thread};

use linipc::error::errno;
use linipc::memfd::{Memfd, MemfdOptions, MissingSeals, SealFlags};
use linipc::posix::shm;
use linipc::pshared::barrier::{Barrier, PARTIES_MAX};
use linipc::pshared::condvar::{Condvar, Reason};
use linipc::pshared::event::{Event, Reset};
use linipc::pshared::mutex::{Kind, Mutex, MutexOptions, Split};
use linipc::pshared::once::{Begin, Once};
use linipc::pshared::rwlock::RwLock;
use linipc::pshared::semaphore::{self, Semaphore};
use linipc::pshared::spin::SpinLock;
use linipc::pshared::{AttachError, Error, LockError, Mismatch};
use linipc_core::Errno;
use support::{PATIENCE, Peer, eventually, peer, until_asleep};

const SOON: Duration = Duration::from_millis(20);
const NAME: &str = "/linipc-lock";

fn failed<G: Debug, I: Debug>(result: Result<G, LockError<I>>) -> io::Error {
    match result {
        Err(LockError::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn died<G: Debug, I: Debug>(result: Result<G, LockError<I>>) -> I {
    match result {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("{other:?}"),
    }
}

/// The kind of the error, and core's error in it.
fn inner<E: std::error::Error + Copy + 'static>(error: io::Error) -> (ErrorKind, E) {
    let inner = error.get_ref().unwrap_or_else(|| panic!("{error:?}"));
    let inner = inner.downcast_ref();
    (error.kind(), *inner.unwrap_or_else(|| panic!("{error:?}")))
}

/// A process that has the lock, and is asleep.
fn holder<G>(lock: impl FnOnce() -> G) -> Peer {
    let holder = peer(|| {
        let _guard = lock();
        loop {
            thread::park();
        }
    });
    until_asleep(holder.pid());
    holder
}

fn named() -> shm::OpenOptions {
    let mut options = shm::OpenOptions::new();
    options.create_new(true).unlink_on_drop(true);
    options
}

#[test]
fn processes_that_got_the_descriptor_count_together() {
    isolated!(|| {
        const ROUNDS: u64 = 2000;
        let mutex = Mutex::create([0_u64; 3]).unwrap();
        let count = |mutex: &Mutex<[u64; 3]>| {
            for _ in 0..ROUNDS {
                let mut guard = mutex.lock().unwrap();
                let seen = guard.get().unwrap();
                assert!(seen.iter().all(|number| *number == seen[0]));
                guard.set(seen.map(|number| number + 1)).unwrap();
            }
        };
        let peers = [
            peer(|| count(&mutex)), // by what it has inherited
            peer(|| count(&Mutex::attach(&mutex).unwrap())),
        ];
        count(&mutex);
        peers.into_iter().for_each(Peer::join);
        assert_eq!(mutex.lock().unwrap().get().unwrap(), [3 * ROUNDS; 3]);
    });
}

#[test]
fn processes_that_know_the_name_share_every_lock() {
    isolated!(|| {
        fn both<L>(made: io::Result<L>, open: impl FnOnce() -> io::Result<L>, check: fn(&L, &L)) {
            let made = made.unwrap();
            peer(|| check(&made, &open().unwrap())).join();
        }
        both(
            Mutex::open_named(NAME, 7_u8, &named()),
            || Mutex::open(NAME),
            |made, open| {
                let guard = made.lock().unwrap();
                assert_eq!(guard.get().unwrap(), 7);
                let error = failed(open.lock_deadline(SOON));
                assert_eq!(inner::<Error>(error).1, Error::Deadlock);
            },
        );
        both(
            RwLock::open_named(NAME, 7_u8, &named()),
            || RwLock::open(NAME),
            |made, open| {
                let guard = made.read().unwrap();
                assert_eq!(open.read().unwrap().get().unwrap(), 7);
                let error = failed(open.write_deadline(SOON));
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                drop(guard);
                drop(open.write_deadline(SOON).unwrap());
            },
        );
        both(
            SpinLock::open_named(NAME, 7_u8, &named()),
            || SpinLock::open(NAME),
            |made, open| {
                let guard = made.lock().unwrap();
                let error = open.lock_deadline(SOON).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                drop(guard);
                assert_eq!(open.try_lock().unwrap().get().unwrap(), 7);
            },
        );
        both(
            Semaphore::open_named(NAME, 1, &named()),
            || Semaphore::open(NAME),
            |made, open| {
                made.wait().unwrap();
                assert_eq!(open.try_wait().unwrap_err().kind(), ErrorKind::WouldBlock);
                made.post().unwrap();
                open.wait_deadline(SOON).unwrap();
            },
        );
        both(
            Event::open_named(NAME, Reset::Auto, &named()),
            || Event::open(NAME),
            |made, open| {
                assert_eq!(open.try_wait().unwrap_err().kind(), ErrorKind::WouldBlock);
                made.set().unwrap();
                open.wait().unwrap();
                assert!(!made.is_set().unwrap());
            },
        );
        both(
            Condvar::open_named(NAME, &named()),
            || Condvar::open(NAME),
            |made, open| {
                let mutex = Mutex::create(0_u8).unwrap();
                let sleeper = peer(|| drop(made.wait(mutex.lock().unwrap()).unwrap()));
                until_asleep(sleeper.pid());
                drop(mutex.lock().unwrap());
                open.notify_one().unwrap();
                sleeper.join();
            },
        );
        both(
            Barrier::open_named(NAME, 2, &named()),
            || Barrier::open(NAME),
            |made, open| {
                let mut party = made.join().unwrap();
                let other = peer(|| _ = open.join().unwrap().wait().unwrap());
                party.wait().unwrap();
                other.join();
            },
        );
        both(
            Once::open_named(NAME, &named()),
            || Once::open(NAME),
            |made, open| {
                made.call_once(|has_died_before| assert!(!has_died_before))
                    .unwrap();
                assert!(open.is_done().unwrap());
                open.call_once(|_| panic!("twice")).unwrap();
            },
        );
        assert_eq!(
            errno(&Semaphore::open(NAME).unwrap_err()),
            Some(Errno::NOENT)
        );
    });
}

#[test]
fn a_name_stays_if_that_was_chosen_after_all() {
    isolated!(|| {
        let mut made = Mutex::open_named(NAME, 1_u64, &named()).unwrap();
        let again = Mutex::open_named(NAME, 2_u64, &named()).unwrap_err();
        assert_eq!(errno(&again), Some(Errno::EXIST));
        made.persist();
        drop(made);
        // An existing one keeps its value.
        let mut options = shm::OpenOptions::new();
        let options = options.create(true).unlink_on_drop(true);
        let found = Mutex::open_named(NAME, 3_u64, options).unwrap();
        assert_eq!(found.lock().unwrap().get().unwrap(), 1);
    });
}

#[test]
fn a_killed_owner_is_told_with_its_last_value() {
    isolated!(|| {
        for inherits in [false, true] {
            let mutex = MutexOptions::new()
                .inherit_priority(inherits)
                .create(0_u64)
                .unwrap();
            let set = |value| {
                let mut guard = mutex.lock().unwrap();
                guard.set(value).unwrap();
                guard
            };
            let owner = holder(|| set(5));
            assert_eq!(failed(mutex.try_lock()).kind(), ErrorKind::WouldBlock);
            let sleeper = peer(|| {
                let mut guard = died(mutex.lock());
                assert_eq!(guard.get().unwrap(), 5);
                guard.update(|value| *value += 1).unwrap();
                let guard = guard.mark_consistent();
                assert_eq!(guard.get().unwrap(), 6);
            });
            until_asleep(sleeper.pid());
            owner.kill();
            sleeper.join();
            assert_eq!(mutex.lock().unwrap().get().unwrap(), 6);

            // Whoever does not say that it is consistent loses it for all.
            holder(|| set(7)).kill();
            drop(died(mutex.try_lock()));
            let error = inner(failed(mutex.lock()));
            assert_eq!(error, (ErrorKind::Other, Error::NotRecoverable));
            let error = peer(|| {
                let error = inner(failed(mutex.lock()));
                assert_eq!(error, (ErrorKind::Other, Error::NotRecoverable));
            });
            error.join();
        }
    });
}

#[test]
fn a_question_mark_gives_up_what_its_owner_left() {
    isolated!(|| {
        fn lock(mutex: &Mutex<u8>) -> io::Result<u8> {
            mutex.lock()?.get()
        }
        let mutex = Mutex::create(1).unwrap();
        assert_eq!(lock(&mutex).unwrap(), 1);
        holder(|| mutex.lock().unwrap()).kill();
        let error = lock(&mutex).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::OWNERDEAD));
        let error = lock(&mutex).unwrap_err();
        assert_eq!(
            error.to_string(),
            "its owner died, and the next one left it inconsistent"
        );
        assert_eq!(inner::<Error>(error).1, Error::NotRecoverable);
    });
}

#[test]
fn a_child_uses_what_its_parent_has_used() {
    isolated!(|| {
        let mutex = Mutex::create(0_u32).unwrap();
        drop(mutex.lock().unwrap()); // so the thread is known
        let mut guard = Some(mutex.lock().unwrap());
        peer(|| {
            // The copy guards nothing.
            assert_eq!(failed(mutex.try_lock()).kind(), ErrorKind::WouldBlock);
            drop(guard.take());
            assert_eq!(failed(mutex.try_lock()).kind(), ErrorKind::WouldBlock);
        })
        .join();
        peer(|| assert_eq!(failed(mutex.try_lock()).kind(), ErrorKind::WouldBlock)).join();
        drop(guard);
        peer(|| {
            mutex.lock().unwrap().set(1).unwrap();
            peer(|| mutex.lock().unwrap().update(|value| *value += 1).unwrap()).join();
            let there = thread::scope(|scope| {
                let there = scope.spawn(|| mutex.lock().unwrap().get().unwrap());
                there.join().unwrap()
            });
            assert_eq!(there, 2);
        })
        .join();
        assert_eq!(mutex.lock().unwrap().get().unwrap(), 2);
    });
}

#[test]
fn threads_share_a_handle() {
    isolated!(|| {
        const ROUNDS: u32 = 1000;
        let mutex = Mutex::create(0_u32).unwrap();
        let lock = RwLock::create(0_u32).unwrap();
        let spin = SpinLock::create(0_u32).unwrap();
        let elsewhere = Mutex::<u32>::attach(&mutex).unwrap();
        thread::scope(|scope| {
            for index in 0..4 {
                let mutex = if index % 2 == 0 { &mutex } else { &elsewhere };
                let (lock, spin) = (&lock, &spin);
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let add = |count: &mut u32| *count += 1;
                        mutex.lock().unwrap().update(add).unwrap();
                        lock.write().unwrap().update(add).unwrap();
                        assert!(lock.read().unwrap().get().unwrap() > 0);
                        spin.lock().unwrap().update(add).unwrap();
                    }
                });
            }
        });
        assert_eq!(mutex.lock().unwrap().get().unwrap(), 4 * ROUNDS);
        assert_eq!(lock.read().unwrap().get().unwrap(), 4 * ROUNDS);
        assert_eq!(spin.lock().unwrap().get().unwrap(), 4 * ROUNDS);
    });
}

#[test]
fn a_thread_that_ends_with_a_forgotten_guard_counts_as_killed() {
    isolated!(|| {
        let mutex = Mutex::create(0_u32).unwrap();
        let end_with = |mutex: &Mutex<u32>| {
            thread::scope(|scope| {
                let done = scope.spawn(|| {
                    let mut guard = mutex.lock().unwrap();
                    guard.set(9).unwrap();
                    forget(guard);
                    let error = inner(failed(mutex.lock()));
                    assert_eq!(error, (ErrorKind::Deadlock, Error::Deadlock));
                });
                done.join().unwrap();
            });
        };
        // The handle that was used is still there, or it is dropped before the thread has ended.
        end_with(&mutex);
        let guard = died(mutex.lock_deadline(PATIENCE));
        assert_eq!(guard.get().unwrap(), 9);
        drop(guard.mark_consistent());

        let elsewhere = Mutex::<u32>::attach(&mutex).unwrap();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let ends = thread::spawn(move || {
            forget(elsewhere.lock().unwrap());
            drop(elsewhere);
            wait.recv().unwrap();
        });
        eventually("the other thread has it", || mutex.try_lock().is_err());
        assert_eq!(failed(mutex.try_lock()).kind(), ErrorKind::WouldBlock);
        go.send(()).unwrap();
        ends.join().unwrap();
        drop(died(mutex.lock_deadline(PATIENCE)).mark_consistent());
        drop(mutex.lock().unwrap());
    });
}

#[test]
fn a_thread_without_a_robust_list_gets_one() {
    isolated!(|| {
        let mutex = Mutex::create(0_u32).unwrap();
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                let head = ptr::null::<u8>();
                // SAFETY: The thread, which has no robust lock, has no list from now on, as in a program
                // that is linked with musl.
                let set = unsafe {
                    libc::syscall(libc::SYS_set_robust_list, head, 3 * size_of::<usize>())
                };
                assert_eq!(set, 0);
                mutex.lock().unwrap().set(1).unwrap();
                peer(|| mutex.lock().unwrap().set(2).unwrap()).join();
                forget(mutex.lock().unwrap());
            });
            done.join().unwrap();
        });
        let guard = died(mutex.lock_deadline(PATIENCE));
        assert_eq!(guard.get().unwrap(), 2);
        drop(guard.mark_consistent());
    });
}

#[test]
fn deadlines_are_on_either_clock() {
    isolated!(|| {
        let mutex = Mutex::create(0_u8).unwrap();
        let owner = holder(|| mutex.lock().unwrap());
        assert_eq!(
            failed(mutex.lock_deadline(SOON)).kind(),
            ErrorKind::TimedOut
        );
        let until = SystemTime::now() + SOON;
        assert_eq!(
            failed(mutex.lock_deadline(until)).kind(),
            ErrorKind::TimedOut
        );
        owner.kill();
        // What can be had is had, also when it is too late.
        let guard = died(mutex.lock_deadline(SystemTime::UNIX_EPOCH));
        drop(guard.mark_consistent());
        drop(mutex.lock_deadline(Duration::ZERO).unwrap());
    });
}

#[test]
fn a_change_that_panics_changes_nothing() {
    isolated!(|| {
        let mutex = Mutex::create(1_u8).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut guard = mutex.lock().unwrap();
            guard.update(|value| {
                *value = 2;
                panic!("on purpose")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(mutex.try_lock().unwrap().get().unwrap(), 1);
    });
}

fn memory(len: usize, seals: SealFlags) -> Memfd {
    let mut options = MemfdOptions::new();
    options
        .size(len as u64)
        .seals(seals)
        .create("test")
        .unwrap()
}

#[test]
fn what_is_not_the_lock_is_refused() {
    isolated!(|| {
        fn refused<L: Debug>(attach: impl Fn(&Memfd) -> io::Result<L>, needed: usize) {
            let unsealed = attach(&memory(4096, SealFlags::empty())).unwrap_err();
            let missing = MissingSeals(SealFlags::SHRINK);
            assert_eq!(inner(unsealed), (ErrorKind::InvalidData, missing));
            let short = attach(&memory(1, Memfd::FIXED_LENGTH)).unwrap_err();
            let small = AttachError::TooSmall { needed };
            assert_eq!(inner(short), (ErrorKind::InvalidData, small));
            let empty = attach(&memory(0, Memfd::FIXED_LENGTH)).unwrap_err();
            assert_eq!(inner(empty), (ErrorKind::InvalidData, small));
            assert!(attach(&memory(1 << 16, Memfd::FIXED_LENGTH)).is_err());
        }
        refused(|fd| Mutex::<u64>::attach(fd), 4096);
        refused(|fd| Semaphore::attach(fd), 8);
        refused(|fd| Event::attach(fd), 8);
        refused(|fd| SpinLock::<u64>::attach(fd), 64 + 64 + 2 * 64);

        let blank = memory(4096, Memfd::FIXED_LENGTH);
        let error = Mutex::<u64>::attach(&blank).unwrap_err();
        assert_eq!(inner(error), (ErrorKind::InvalidData, Mismatch::Blank));
        let error = Semaphore::attach(&blank).unwrap_err();
        assert_eq!(
            inner(error),
            (ErrorKind::InvalidData, AttachError::NotFound)
        );

        // Another type, another lock.
        let mutex = Mutex::create(1_u64).unwrap();
        let error = Mutex::<u32>::attach(&mutex).unwrap_err();
        assert_eq!(inner(error), (ErrorKind::InvalidData, Mismatch::Size(8)));
        let spin = SpinLock::create(1_u64).unwrap();
        let error = SpinLock::<u32>::attach(&spin).unwrap_err();
        assert_eq!(inner(error), (ErrorKind::InvalidData, Mismatch::Size(8)));
        let error = Semaphore::attach(&spin).unwrap_err();
        assert_eq!(
            inner(error),
            (ErrorKind::InvalidData, AttachError::NotFound)
        );

        // A descriptor for reading only.
        let path = format!("/proc/self/fd/{}", {
            use std::os::fd::AsRawFd;
            mutex.as_fd().as_raw_fd()
        });
        let read_only = std::fs::File::open(path).unwrap();
        let error = Mutex::<u64>::attach(&read_only).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::ACCESS));
    });
}

#[test]
fn a_number_out_of_range_is_refused_with_the_range() {
    isolated!(|| {
        let (min, max) = (1, PARTIES_MAX);
        let parties = (
            ErrorKind::InvalidInput,
            AttachError::OutOfRange { min, max },
        );
        for count in [0, PARTIES_MAX + 1] {
            assert_eq!(inner(Barrier::create(count).unwrap_err()), parties);
            let error = Barrier::open_named(NAME, count, &named()).unwrap_err();
            assert_eq!(error.to_string(), "it must be for 1 to 64");
            assert_eq!(inner(error), parties);
        }
        let (min, max) = (0, semaphore::VALUE_MAX);
        let units = (
            ErrorKind::InvalidInput,
            AttachError::OutOfRange { min, max },
        );
        assert_eq!(inner(Semaphore::create(u32::MAX).unwrap_err()), units);
        let error = Semaphore::open_named(NAME, u32::MAX, &named()).unwrap_err();
        assert_eq!(inner(error), units);
        // Nothing is left of it.
        let error = shm::SharedMemory::open(NAME).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::NOENT));
    });
}

#[test]
fn a_name_of_something_else_is_refused() {
    isolated!(|| {
        let mut options = named();
        let _text = options.size(10_000).open(NAME).unwrap();
        let error = Mutex::<u64>::open(NAME).unwrap_err();
        assert_eq!(inner(error), (ErrorKind::InvalidData, Mismatch::Blank));
        let error = RwLock::<u64>::open(NAME).unwrap_err();
        assert_eq!(
            inner(error),
            (ErrorKind::InvalidData, AttachError::NotFound)
        );
        // It is not sealed, as a name's memory never is.
        let named = shm::SharedMemory::open(NAME).unwrap();
        assert!(Semaphore::attach(&named).is_err());
        let named = Semaphore::attach_memory(OwnedFd::from(named).into());
        assert_eq!(
            inner(named.unwrap_err()),
            (ErrorKind::InvalidData, AttachError::NotFound)
        );
    });
}

#[test]
fn a_peer_that_scribbles_gives_errors() {
    isolated!(|| {
        let mutex = Mutex::create(1_u64).unwrap();
        let spin = SpinLock::create(1_u64).unwrap();
        let scribble = |fd: OwnedFd| {
            let region = Memfd::from(fd).map().unwrap();
            let bytes = vec![0xa5; region.len()];
            peer(|| region.bytes().write(0, &bytes).unwrap()).join();
        };
        let guard = mutex.lock().unwrap();
        scribble(mutex.as_fd().try_clone_to_owned().unwrap());
        guard.get().unwrap();
        drop(guard);
        let error = failed(mutex.lock());
        assert_eq!(
            inner(error),
            (ErrorKind::InvalidData, AttachError::NotFound)
        );
        let guard = spin.lock().unwrap();
        scribble(spin.as_fd().try_clone_to_owned().unwrap());
        guard.get().unwrap();
        drop(guard);
        let error = spin.lock().unwrap_err();
        assert_eq!(
            inner(error),
            (ErrorKind::InvalidData, AttachError::NotFound)
        );
    });
}

#[test]
fn kinds_are_for_c() {
    isolated!(|| {
        for (kind, word) in [
            (Kind::Normal, 0),
            (Kind::Recursive, 1),
            (Kind::ErrorCheck, 2),
        ] {
            // What C reads: robust, shared, inheriting; or a kind that it refuses.
            for (pthread, inherits, protocol) in [
                (false, false, 0x6c70_008c),
                (true, false, 16 | 128),
                (false, true, 16 | 32 | 128),
            ] {
                let mut options = MutexOptions::new();
                options
                    .kind(kind)
                    .pthread(pthread)
                    .inherit_priority(inherits);
                let mutex = options.create(0_u8).unwrap();
                let _guard = mutex.lock().unwrap();
                let error = inner(failed(mutex.lock()));
                assert_eq!(error, (ErrorKind::Deadlock, Error::Deadlock));
                let memory = Memfd::from(mutex.as_fd().try_clone_to_owned().unwrap());
                let region = memory.map().unwrap();
                let found = region
                    .bytes()
                    .atomic_u32(region.len() - Split::SHARED + 16)
                    .unwrap();
                assert_eq!(found.load(Relaxed), word | protocol);
            }
        }
    });
}

#[test]
fn readers_share_and_become_writers() {
    isolated!(|| {
        let lock = RwLock::create(1_u32).unwrap();
        let reader = lock.read().unwrap();
        let there = holder(|| lock.read().unwrap());
        assert_eq!(failed(lock.try_write()).kind(), ErrorKind::WouldBlock);
        let error = reader.upgrade_deadline(SOON).unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::TimedOut);
        let error = error.guard.try_upgrade().unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::WouldBlock);
        // A reader that is killed is forgotten.
        there.kill();
        let mut writer = error.guard.upgrade().unwrap();
        writer.update(|value| *value += 1).unwrap();
        let reader = writer.downgrade();
        peer(|| assert_eq!(lock.try_read().unwrap().get().unwrap(), 2)).join();
        drop(reader);

        let there = holder(|| {
            let mut guard = lock.write().unwrap();
            guard.set(3).unwrap();
            guard
        });
        assert_eq!(failed(lock.read_deadline(SOON)).kind(), ErrorKind::TimedOut);
        there.kill();
        let guard = died(lock.read());
        assert_eq!(guard.get().unwrap(), 3);
        drop(guard.mark_consistent().downgrade());
        holder(|| lock.write().unwrap()).kill();
        drop(died(lock.write()));
        let error = inner(failed(lock.read()));
        assert_eq!(error, (ErrorKind::Other, Error::NotRecoverable));
    });
}

#[test]
fn a_spin_lock_is_lost_with_its_owner() {
    isolated!(|| {
        let lock = SpinLock::create(0_u8).unwrap();
        let owner = holder(|| lock.lock().unwrap());
        let until = SystemTime::now() + SOON;
        let error = lock.lock_deadline(until).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        owner.kill();
        let error = inner(lock.lock().unwrap_err());
        assert_eq!(error, (ErrorKind::ConnectionReset, Error::PeerDead));
    });
}

#[test]
fn semaphores_and_events_wake_other_processes() {
    isolated!(|| {
        let semaphore = Semaphore::create(0).unwrap();
        let event = Event::create(Reset::Manual).unwrap();
        let sleepers = [0, 1].map(|_| {
            peer(|| {
                semaphore.wait().unwrap();
                event.wait().unwrap();
            })
        });
        for sleeper in &sleepers {
            until_asleep(sleeper.pid());
        }
        let timed_out = semaphore.wait_deadline(SOON).unwrap_err();
        assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
        semaphore.post_many(2).unwrap();
        event.set().unwrap();
        sleepers.into_iter().for_each(Peer::join);
        assert!(event.reset().unwrap());
        let timed_out = event.wait_deadline(SystemTime::now() + SOON).unwrap_err();
        assert_eq!(timed_out.kind(), ErrorKind::TimedOut);

        let full = Semaphore::create(semaphore::VALUE_MAX).unwrap();
        let error = inner(full.post().unwrap_err());
        assert_eq!(error, (ErrorKind::Other, Error::Overflow));
    });
}

#[test]
fn processes_hand_items_over() {
    isolated!(|| {
        const ITEMS: u32 = 500;
        let items = Mutex::create([0_u32; 2]).unwrap();
        let (more, fewer) = (Condvar::create().unwrap(), Condvar::create().unwrap());
        let consume = || {
            let items: Mutex<[u32; 2]> = Mutex::attach(&items).unwrap();
            let more = Condvar::attach(&more).unwrap();
            loop {
                let guard = items.lock().unwrap();
                let mut guard = more
                    .wait_while(guard, |[left, sent]| *left == 0 && *sent < ITEMS)
                    .unwrap();
                let [left, sent] = guard.get().unwrap();
                if left == 0 {
                    return;
                }
                guard.set([left - 1, sent]).unwrap();
                fewer.notify_one().unwrap();
            }
        };
        let consumers = [peer(consume), peer(consume)];
        for sent in 1..=ITEMS {
            let guard = items.lock().unwrap();
            let mut guard = fewer.wait_while(guard, |[left, _]| *left > 2).unwrap();
            guard.update(|[left, _]| *left += 1).unwrap();
            guard.update(|[_, total]| *total = sent).unwrap();
            match sent {
                ITEMS => more.notify_all(&guard).unwrap(),
                _ => more.notify_one().unwrap(),
            }
        }
        consumers.into_iter().for_each(Peer::join);
        assert_eq!(items.lock().unwrap().get().unwrap(), [0, ITEMS]);
    });
}

#[test]
fn who_waits_for_a_change_has_a_deadline_and_learns_of_deaths() {
    isolated!(|| {
        let mutex = Mutex::create(0_u8).unwrap();
        let changed = Condvar::create().unwrap();
        let (guard, reason) = changed.wait_deadline(mutex.lock().unwrap(), SOON).unwrap();
        assert_eq!(reason, Reason::TimedOut);
        let until = SystemTime::now() + SOON;
        let (guard, reason) = changed
            .wait_while_deadline(guard, until, |value| *value == 0)
            .unwrap();
        assert_eq!(reason, Reason::TimedOut);
        assert_eq!(guard.get().unwrap(), 0);
        let (guard, reason) = changed
            .wait_while_deadline(guard, SOON, |value| *value == 1)
            .unwrap();
        assert_eq!(reason, Reason::Notified);
        drop(guard);

        let sleepers = [0, 1].map(|_| {
            peer(|| {
                let guard = match changed.wait(mutex.lock().unwrap()) {
                    Ok(guard) => guard,
                    Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
                    Err(LockError::Failed(error)) => panic!("{error}"),
                };
                assert_eq!(guard.get().unwrap(), 1);
            })
        });
        for sleeper in &sleepers {
            until_asleep(sleeper.pid());
        }
        let notifier = holder(|| {
            let mut guard = mutex.lock().unwrap();
            guard.set(1).unwrap();
            changed.notify_all(&guard).unwrap();
            guard
        });
        notifier.kill();
        sleepers.into_iter().for_each(Peer::join);
        drop(mutex.lock().unwrap());
    });
}

#[test]
fn a_barrier_has_one_leader_and_tells_of_deaths() {
    isolated!(|| {
        const GENERATIONS: u32 = 50;
        let leaders = Mutex::create(0_u32).unwrap();
        let barrier = Barrier::create(3).unwrap();
        let pass = || {
            let mut party = barrier.join().unwrap();
            for _ in 0..GENERATIONS {
                if party.wait().unwrap() {
                    leaders
                        .lock()
                        .unwrap()
                        .update(|leaders| *leaders += 1)
                        .unwrap();
                }
            }
        };
        let others = [peer(pass), peer(pass)];
        pass();
        others.into_iter().for_each(Peer::join);
        assert_eq!(leaders.lock().unwrap().get().unwrap(), GENERATIONS);

        let mut party = barrier.join().unwrap();
        let timed_out = party.wait_deadline(SOON).unwrap_err();
        assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
        peer(|| {
            let error = inner(party.wait().unwrap_err());
            assert_eq!(error, (ErrorKind::Other, Error::Forked));
        })
        .join();
        let dies = holder(|| barrier.join().unwrap());
        let waits = peer(|| {
            let mut party = barrier.join().unwrap();
            let full = barrier.join().unwrap_err();
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
            let error = inner(party.wait().unwrap_err());
            assert_eq!(error, (ErrorKind::ConnectionReset, Error::PeerDead));
        });
        until_asleep(waits.pid());
        dies.kill();
        waits.join();

        for parties in [0, PARTIES_MAX + 1] {
            let error = Barrier::create(parties).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn what_is_done_once_is_done_by_the_next_one_if_it_fails() {
    isolated!(|| {
        let once = Once::create().unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            once.call_once(|_| panic!("on purpose"))
        }));
        assert!(panicked.is_err());
        assert!(!once.is_done().unwrap());

        let dies = holder(|| match once.try_begin().unwrap() {
            Begin::First(initialiser) => {
                assert!(!initialiser.has_died_before());
                initialiser
            }
            Begin::Done => panic!("nobody did it"),
        });
        assert_eq!(once.try_begin().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(
            once.begin_deadline(SOON).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        let waits = peer(|| {
            let mut has_died = false;
            once.call_once(|has_died_before| has_died = has_died_before)
                .unwrap();
            assert!(has_died);
        });
        until_asleep(waits.pid());
        dies.kill();
        waits.join();
        assert!(once.is_done().unwrap());
    });
}

#[test]
fn whoever_is_killed_at_any_moment_leaves_a_value_that_somebody_set() {
    isolated!(|| {
        const ROUNDS: u64 = 200;
        let mutex = Mutex::create([0_u64; 100]).unwrap();
        let lock = RwLock::create([0_u64; 100]).unwrap();
        let next = |value: &mut [u64; 100]| *value = value.map(|number| number + 1);
        let begin = Instant::now();
        let mut deaths = 0;
        let mut last = 0;
        let mut round = 0;
        // And until one was killed while it had a lock.
        while round < ROUNDS || deaths == 0 {
            round += 1;
            assert!(
                begin.elapsed() < PATIENCE,
                "{round} rounds, {deaths} deaths"
            );
            let dies = peer(|| {
                loop {
                    mutex.lock().unwrap().update(next).unwrap();
                    lock.write().unwrap().update(next).unwrap();
                    let seen = lock.read().unwrap().get().unwrap();
                    assert!(seen.iter().all(|number| *number == seen[0]));
                }
            });
            // At another place each time.
            let started = mutex_value(&mutex);
            eventually("it has begun", || mutex_value(&mutex) > started);
            thread::sleep(Duration::from_micros(round % 50));
            dies.kill();

            let guard = match mutex.lock() {
                Ok(guard) => guard,
                Err(LockError::OwnerDied(guard)) => {
                    deaths += 1;
                    guard.mark_consistent()
                }
                Err(LockError::Failed(error)) => panic!("{error}"),
            };
            let seen = guard.get().unwrap();
            assert!(seen.iter().all(|number| *number == seen[0]) && seen[0] > last);
            last = seen[0];
            drop(guard);
            let guard = match lock.write() {
                Ok(guard) => guard,
                Err(LockError::OwnerDied(guard)) => {
                    deaths += 1;
                    guard.mark_consistent()
                }
                Err(LockError::Failed(error)) => panic!("{error}"),
            };
            let seen = guard.get().unwrap();
            assert!(seen.iter().all(|number| *number == seen[0]));
            drop(guard);
        }
    });
}

fn mutex_value(mutex: &Mutex<[u64; 100]>) -> u64 {
    let [value, ..] = mutex.lock().unwrap().get().unwrap();
    value
}
