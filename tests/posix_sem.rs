//! POSIX semaphores between two processes. The C library's own are in `interop_posix.rs`.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::time::Duration;

use linipc::posix::sem::{OpenOptions, Semaphore as Handle};
use linipc_core::Errno;
use linipc_core::futex::{Clock, Deadline, Timespec};
use linipc_core::map::{Access, Region};
use linipc_core::posix::sem::{self, Format, Semaphore, Sharing, VALUE_MAX};
use linipc_core::posix::{Create, Mode};
use support::{peer, until_asleep};

const FORMATS: [Format; 4] = [
    Format::Glibc64,
    Format::Glibc32,
    Format::Musl64,
    Format::Musl32,
];
const NAME: &str = "/linipc-test";
const EXCLUSIVE: Create = Create::Exclusive(Mode::RUSR.union(Mode::WUSR));
const OPEN: Create = Create::Open(Mode::RUSR.union(Mode::WUSR));

fn region() -> Region {
    Region::anonymous(4096, Access::READ | Access::WRITE).unwrap()
}

/// A new shared semaphore at the beginning of `region`.
fn init(region: &Region, format: Format, value: u32) -> Semaphore<'_> {
    Semaphore::init(region.bytes(), format, Sharing::Shared, value).unwrap()
}

fn soon(clock: Clock) -> Deadline {
    Deadline::after(clock, Duration::from_millis(3))
}

/// The names in `/dev/shm`.
fn names() -> BTreeSet<String> {
    fs::read_dir("/dev/shm")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_post_wakes_who_sleeps_in_another_process() {
    isolated!(|| {
        for format in FORMATS {
            let region = region();
            let semaphore = init(&region, format, 0);
            let waiter = peer(|| semaphore.wait().unwrap());
            until_asleep(waiter.pid());
            assert_eq!((semaphore.value(), semaphore.waiters()), (0, 1));
            semaphore.post().unwrap();
            waiter.join();
            assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
        }
    });
}

#[test]
fn a_deadline_of_either_clock_ends_the_wait_and_a_post_comes_first() {
    isolated!(|| {
        for (format, clock) in FORMATS
            .iter()
            .flat_map(|format| [(*format, Clock::Monotonic), (*format, Clock::Realtime)])
        {
            let region = region();
            let semaphore = init(&region, format, 0);
            assert_eq!(
                semaphore.wait_deadline(soon(clock)),
                Err(Errno::TIMEDOUT),
                "{format:?}"
            );
            assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
            let waiter = peer(|| {
                let deadline = Deadline::after(clock, support::PATIENCE);
                semaphore.wait_deadline(deadline).unwrap();
            });
            until_asleep(waiter.pid());
            semaphore.post().unwrap();
            waiter.join();
            assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
        }
    });
}

#[test]
fn a_deadline_in_the_past_still_takes_what_is_there() {
    for format in FORMATS {
        let region = region();
        let semaphore = init(&region, format, 1);
        let at = |tv_sec, tv_nsec| Deadline {
            clock: Clock::Realtime,
            at: Timespec { tv_sec, tv_nsec },
        };
        assert_eq!(
            semaphore.wait_deadline(at(0, 1_000_000_000)),
            Err(Errno::INVAL)
        );
        assert_eq!(semaphore.wait_deadline(at(0, -1)), Err(Errno::INVAL));
        assert_eq!(semaphore.wait_deadline(at(-1, 0)), Ok(()));
        assert_eq!(semaphore.wait_deadline(at(-1, 0)), Err(Errno::TIMEDOUT));
        assert_eq!(semaphore.wait_deadline(at(0, 0)), Err(Errno::TIMEDOUT));
        assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
    }
}

#[test]
fn a_signal_ends_the_wait_in_core_but_not_in_the_shim() {
    isolated!(|| {
        extern "C" fn ignore(_: i32) {}
        let catch_signals = || {
            // SAFETY: All fields of a `sigaction` may be 0; so there is no `SA_RESTART`.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = ignore as *const () as usize;
            // SAFETY: The handler does nothing.
            unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
        };
        // SAFETY: kill(2) takes no pointers.
        let signal = |pid| unsafe { libc::kill(pid, libc::SIGUSR1) };
        for format in FORMATS {
            let region = region();
            let semaphore = init(&region, format, 0);
            let deadline = Deadline::after(Clock::Monotonic, support::PATIENCE);
            for deadline in [None, Some(deadline)] {
                let waiter = peer(|| {
                    catch_signals();
                    let waited = match deadline {
                        Some(deadline) => semaphore.wait_deadline(deadline),
                        None => semaphore.wait(),
                    };
                    assert_eq!(waited, Err(Errno::INTR));
                });
                support::eventually("it waits", || semaphore.waiters() == 1);
                until_asleep(waiter.pid());
                signal(waiter.pid());
                waiter.join();
                assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
            }

            let handle = Handle::attach(&region, 0, format).unwrap();
            let waiter = peer(|| {
                catch_signals();
                handle.wait().unwrap();
                handle.wait_deadline(support::PATIENCE).unwrap();
            });
            support::eventually("it waits", || semaphore.waiters() == 1);
            until_asleep(waiter.pid());
            signal(waiter.pid());
            until_asleep(waiter.pid());
            semaphore.post().unwrap();
            support::eventually("the first wait is over", || {
                (semaphore.value(), semaphore.waiters()) == (0, 1)
            });
            until_asleep(waiter.pid());
            signal(waiter.pid());
            until_asleep(waiter.pid());
            semaphore.post().unwrap();
            waiter.join();
        }
    });
}

#[test]
fn as_a_lock_it_excludes_and_counts_exactly() {
    isolated!(|| {
        const ROUNDS: u64 = 3000;
        const PEERS: u64 = 4;
        for format in FORMATS {
            let region = region();
            let semaphore = init(&region, format, 1);
            let counter = region.bytes().slice(64, 8).unwrap();
            let peers: Vec<_> = (0..PEERS)
                .map(|_| {
                    peer(|| {
                        for _ in 0..ROUNDS {
                            semaphore.wait().unwrap();
                            let mut count = [0; 8];
                            counter.read(0, &mut count).unwrap();
                            let count = u64::from_ne_bytes(count) + 1;
                            counter.write(0, &count.to_ne_bytes()).unwrap();
                            semaphore.post().unwrap();
                        }
                    })
                })
                .collect();
            peers.into_iter().for_each(support::Peer::join);
            let mut count = [0; 8];
            counter.read(0, &mut count).unwrap();
            assert_eq!(u64::from_ne_bytes(count), ROUNDS * PEERS, "{format:?}");
            assert_eq!((semaphore.value(), semaphore.waiters()), (1, 0));
        }
    });
}

#[test]
fn every_unit_is_taken_once_by_many_who_wait() {
    isolated!(|| {
        const UNITS: u32 = 2000;
        const PEERS: u32 = 4;
        for format in FORMATS {
            let region = region();
            let semaphore = init(&region, format, 0);
            let takers: Vec<_> = (0..PEERS)
                .map(|_| peer(|| (0..UNITS).for_each(|_| semaphore.wait().unwrap())))
                .collect();
            let posters: Vec<_> = (0..PEERS)
                .map(|_| peer(|| (0..UNITS).for_each(|_| semaphore.post().unwrap())))
                .collect();
            posters.into_iter().for_each(support::Peer::join);
            takers.into_iter().for_each(support::Peer::join);
            assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
        }
    });
}

#[test]
fn each_post_wakes_one_of_many_who_sleep() {
    isolated!(|| {
        for format in FORMATS {
            let region = region();
            let semaphore = init(&region, format, 0);
            let mut sleepers: Vec<_> = (0..3).map(|_| peer(|| semaphore.wait().unwrap())).collect();
            for sleeper in &sleepers {
                until_asleep(sleeper.pid());
            }
            for left in (0..3).rev() {
                assert_eq!(semaphore.waiters(), left + 1);
                semaphore.post().unwrap();
                support::eventually("one of them went on", || {
                    (semaphore.value(), semaphore.waiters()) == (0, left)
                });
            }
            sleepers.drain(..).for_each(support::Peer::join);
        }
    });
}

#[test]
fn a_number_of_waiters_that_is_out_of_date_loses_no_wake() {
    isolated!(|| {
        let region = region();
        let semaphore = init(&region, Format::MUSL, 0);
        let sleepers = [(); 2].map(|()| peer(|| semaphore.wait().unwrap()));
        for sleeper in &sleepers {
            until_asleep(sleeper.pid());
        }
        // As a post sees it that read it before the second came.
        region.bytes().write(4, &1_u32.to_ne_bytes()).unwrap();
        semaphore.post().unwrap();
        support::eventually("one of them went on", || semaphore.value() == 0);
        semaphore.post().unwrap();
        sleepers.into_iter().for_each(support::Peer::join);
    });
}

#[test]
fn a_number_of_waiters_that_a_peer_spoils_harms_nobody() {
    isolated!(|| {
        for format in FORMATS {
            let region = region();
            let semaphore = init(&region, format, 0);
            let sleeper = peer(|| semaphore.wait().unwrap());
            until_asleep(sleeper.pid());
            // A unit, and nobody who waits for it.
            init(&region, format, 1);
            let low = format == Format::Glibc64 && cfg!(target_endian = "big");
            let word = region.bytes().atomic_u32(if low { 4 } else { 0 }).unwrap();
            linipc_core::futex::Futex::shared(word).wake(1).unwrap();
            sleeper.join();
            assert_eq!(semaphore.value(), 0);
            semaphore.post().unwrap();
            semaphore.wait().unwrap();
        }
    });
}

#[test]
fn the_others_go_on_when_a_waiter_is_killed() {
    isolated!(|| {
        for format in FORMATS {
            let region = region();
            let semaphore = init(&region, format, 0);
            let killed = peer(|| semaphore.wait().unwrap());
            until_asleep(killed.pid());
            let other = peer(|| semaphore.wait().unwrap());
            until_asleep(other.pid());
            killed.kill();
            semaphore.post().unwrap();
            other.join();
            assert_eq!(semaphore.value(), 0);
            assert_eq!(semaphore.waiters(), 1, "the dead one stays counted");
            semaphore.post().unwrap();
            semaphore.wait().unwrap();
        }
    });
}

#[test]
fn a_killed_holder_gives_nothing_back() {
    isolated!(|| {
        for format in FORMATS {
            let region = region();
            let semaphore = init(&region, format, 1);
            let holder = peer(|| {
                semaphore.wait().unwrap();
                std::thread::park();
            });
            support::eventually("it is taken", || semaphore.value() == 0);
            holder.kill();
            let deadline = soon(Clock::Monotonic);
            assert_eq!(semaphore.wait_deadline(deadline), Err(Errno::TIMEDOUT));
            semaphore.post().unwrap();
            assert_eq!(semaphore.wait_deadline(deadline), Ok(()));
        }
    });
}

#[test]
fn the_others_go_on_when_a_poster_is_killed() {
    isolated!(|| {
        for format in FORMATS {
            let region = region();
            let semaphore = init(&region, format, 0);
            for _ in 0..20 {
                let poster = peer(|| {
                    loop {
                        semaphore.post().unwrap();
                    }
                });
                semaphore.wait().unwrap();
                poster.kill();
                while semaphore.try_wait().is_ok() {}
            }
            assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
        }
    });
}

#[test]
fn the_value_has_its_bounds() {
    for format in FORMATS {
        let region = region();
        let semaphore = init(&region, format, VALUE_MAX);
        assert_eq!(semaphore.value(), VALUE_MAX);
        assert_eq!(semaphore.post(), Err(Errno::OVERFLOW));
        assert_eq!(semaphore.value(), VALUE_MAX);
        semaphore.try_wait().unwrap();
        semaphore.post().unwrap();
        let above = Semaphore::init(region.bytes(), format, Sharing::Shared, VALUE_MAX + 1);
        assert_eq!(above.map(drop), Err(Errno::INVAL));
        let semaphore = init(&region, format, 0);
        assert_eq!(semaphore.try_wait(), Err(Errno::AGAIN));
    }
    // Only a peer can put more there: it does not run over into the number of waiters.
    let region = region();
    let semaphore = init(&region, Format::Glibc64, 0);
    region
        .bytes()
        .write(0, &u64::from(u32::MAX).to_ne_bytes())
        .unwrap();
    assert_eq!(semaphore.post(), Err(Errno::OVERFLOW));
    assert_eq!(semaphore.waiters(), 0);
}

#[test]
fn the_memory_must_fit() {
    let writable = region();
    let bytes = writable.bytes();
    for format in FORMATS {
        let at = |offset, len| {
            let memory = bytes.slice(offset, len).unwrap();
            Semaphore::attach(memory, format).map(drop)
        };
        assert_eq!(at(0, format.size()), Ok(()));
        assert_eq!(at(0, format.size() - 1), Err(Errno::FAULT));
        assert_eq!(at(format.align(), format.size()), Ok(()));
        assert_eq!(at(format.align() / 2, format.size()), Err(Errno::INVAL));
    }
    let mut read_only = region();
    read_only.protect(Access::READ).unwrap();
    let attached = Semaphore::attach(read_only.bytes(), Format::NATIVE);
    assert_eq!(attached.map(drop), Err(Errno::FAULT));
}

#[test]
fn a_private_semaphore_is_for_threads() {
    isolated!(|| {
        for format in FORMATS {
            let region = region();
            let semaphore = Semaphore::init(region.bytes(), format, Sharing::Private, 0).unwrap();
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| semaphore.wait());
                support::eventually("it waits", || semaphore.waiters() == 1);
                semaphore.post().unwrap();
                waiter.join().unwrap().unwrap();
            });
            // A post of another process does not find who sleeps here.
            let waiter = peer(|| {
                let deadline = Deadline::after(Clock::Monotonic, Duration::from_millis(100));
                assert_eq!(semaphore.wait_deadline(deadline), Err(Errno::TIMEDOUT));
            });
            until_asleep(waiter.pid());
            semaphore.post().unwrap();
            waiter.join();
        }
    });
}

#[test]
fn what_is_neither_private_nor_shared_is_refused() {
    for format in FORMATS {
        let region = region();
        let semaphore = init(&region, format, 1);
        let offset = if format == Format::Glibc32 { 4 } else { 8 };
        region.bytes().write(offset, &1_u32.to_ne_bytes()).unwrap();
        assert_eq!(semaphore.post(), Err(Errno::INVAL));
        assert_eq!(semaphore.try_wait(), Ok(()));
        assert_eq!(semaphore.wait(), Err(Errno::INVAL));
        assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
    }
}

#[test]
fn the_old_format_of_musl_is_refused() {
    for format in [Format::Musl64, Format::Musl32] {
        let region = region();
        let semaphore = init(&region, format, 0);
        region.bytes().write(0, &(-1_i32).to_ne_bytes()).unwrap();
        assert_eq!(semaphore.try_wait(), Err(Errno::INVAL));
        assert_eq!(semaphore.wait(), Err(Errno::INVAL));
        assert_eq!(semaphore.post(), Err(Errno::INVAL));
    }
}

#[test]
fn any_bytes_are_an_answer_an_error_or_a_deadline() {
    let region = region();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let past = Deadline {
        clock: Clock::Monotonic,
        at: Timespec {
            tv_sec: 0,
            tv_nsec: 1,
        },
    };
    for round in 0..20_000 {
        for word in 0..8 {
            let value = match random() % 8 {
                0 => 0,
                1 => 128,
                2 => u32::MAX,
                3 => VALUE_MAX,
                4 => VALUE_MAX + 1,
                5 => 1,
                _ => random() as u32,
            };
            region
                .bytes()
                .write(word * 4, &value.to_ne_bytes())
                .unwrap();
        }
        for format in FORMATS {
            let semaphore = Semaphore::attach(region.bytes(), format).unwrap();
            assert!(semaphore.value() <= VALUE_MAX || format == Format::Glibc64);
            let _ = semaphore.waiters();
            let known = [
                Ok(()),
                Err(Errno::AGAIN),
                Err(Errno::TIMEDOUT),
                Err(Errno::INVAL),
                Err(Errno::OVERFLOW),
            ];
            for result in [
                semaphore.try_wait(),
                semaphore.wait_deadline(past),
                semaphore.post(),
                semaphore.wait_deadline(past),
            ] {
                assert!(known.contains(&result), "{format:?} {result:?} {round}");
            }
        }
    }
}

#[test]
fn a_named_one_is_the_file_that_the_c_library_makes() {
    isolated!(|| {
        rustix::process::umask(Mode::RWXO);
        let mode = Mode::RUSR | Mode::WUSR | Mode::ROTH | Mode::WGRP;
        for format in FORMATS {
            let region = sem::open(NAME, Create::Exclusive(mode), 5, format).unwrap();
            let glibc = matches!(format, Format::Glibc64 | Format::Glibc32);
            let file = if glibc {
                "/dev/shm/sem.linipc-test"
            } else {
                "/dev/shm/linipc-test"
            };
            let stat = fs::metadata(file).unwrap();
            assert_eq!(stat.size(), format.size() as u64);
            assert_eq!(stat.permissions().mode() & 0o7777, 0o620);
            let words: Vec<u32> = fs::read(file)
                .unwrap()
                .chunks(4)
                .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
                .collect();
            let expected: &[u32] = match format {
                Format::Glibc64 if cfg!(target_endian = "big") => &[0, 5, 128, 0, 0, 0, 0, 0],
                Format::Glibc64 => &[5, 0, 128, 0, 0, 0, 0, 0],
                Format::Glibc32 => &[10, 128, 0, 0],
                Format::Musl64 => &[5, 0, 0, 0, 0, 0, 0, 0],
                Format::Musl32 => &[5, 0, 0, 0],
            };
            assert_eq!(words, expected);
            assert_eq!(region.len(), format.size());
            sem::unlink(NAME, format).unwrap();
            assert_eq!(sem::unlink(NAME, format), Err(Errno::NOENT));
            let semaphore = Semaphore::attach(region.bytes(), format).unwrap();
            assert_eq!(semaphore.value(), 5, "it lives on");
        }
    });
}

#[test]
fn create_finds_makes_or_refuses() {
    isolated!(|| {
        for format in FORMATS {
            let open = |create, value| {
                sem::open(NAME, create, value, format).map(|region| {
                    let semaphore = Semaphore::attach(region.bytes(), format).unwrap();
                    semaphore.value()
                })
            };
            assert_eq!(open(Create::No, 0), Err(Errno::NOENT));
            assert_eq!(open(OPEN, VALUE_MAX + 1), Err(Errno::INVAL));
            assert!(names().is_empty());
            assert_eq!(open(OPEN, 7), Ok(7));
            assert_eq!(open(OPEN, 8), Ok(7));
            assert_eq!(open(Create::No, 8), Ok(7));
            assert_eq!(open(EXCLUSIVE, 8), Err(Errno::EXIST));
            assert_eq!(names().len(), 1);
            sem::unlink(NAME, format).unwrap();
            assert_eq!(open(EXCLUSIVE, VALUE_MAX), Ok(VALUE_MAX));
            sem::unlink(NAME, format).unwrap();
        }
    });
}

#[test]
fn what_is_no_semaphore_is_refused() {
    isolated!(|| {
        let file = "/dev/shm/sem.linipc-test";
        for size in [0, 16, 31, 33, 4096] {
            fs::write(file, vec![0; size]).unwrap();
            let opened = sem::open(NAME, OPEN, 0, Format::Glibc64);
            assert_eq!(opened.map(drop), Err(Errno::INVAL), "{size}");
        }
        fs::write("/dev/shm/target", [0; 32]).unwrap();
        fs::remove_file(file).unwrap();
        symlink("/dev/shm/target", file).unwrap();
        for create in [Create::No, OPEN] {
            let opened = sem::open(NAME, create, 0, Format::Glibc64);
            assert_eq!(opened.map(drop), Err(Errno::LOOP));
        }
        let opened = sem::open(NAME, EXCLUSIVE, 0, Format::Glibc64);
        assert_eq!(opened.map(drop), Err(Errno::EXIST));
        for file in [file, "/dev/shm/target"] {
            fs::remove_file(file).unwrap();
        }
    });
}

#[test]
fn names_are_those_of_the_c_library() {
    isolated!(|| {
        let open = |name: &str, format| {
            let result = sem::open(name, EXCLUSIVE, 0, format).map(drop);
            if result.is_ok() {
                sem::unlink(name, format).unwrap();
            }
            result
        };
        for format in [Format::GLIBC, Format::MUSL] {
            for name in ["", "/", "//", "/a/b", "a/b", "/a/", "nul\0byte"] {
                assert_eq!(open(name, format), Err(Errno::INVAL), "{name:?}");
            }
            for name in ["a", "/a", "///a", "/..."] {
                assert_eq!(open(name, format), Ok(()), "{name:?}");
            }
        }
        for name in ["/.", "/..", ".", ".."] {
            assert_eq!(open(name, Format::MUSL), Err(Errno::INVAL), "{name:?}");
        }
        for (format, longest) in [(Format::GLIBC, 251), (Format::MUSL, 255)] {
            let name = "x".repeat(longest);
            assert_eq!(open(&name, format), Ok(()));
            assert_eq!(open(&format!("/{name}x"), format), Err(Errno::NAMETOOLONG));
            let name = "x".repeat(5000);
            assert_eq!(open(&name, format), Err(Errno::NAMETOOLONG));
        }
    });
}

/// Each way in which making a semaphore can fail, and nothing is left behind.
fn no_failure_leaves_a_file() {
    let format = Format::NATIVE;
    let open = |create| sem::open(NAME, create, 1, format).map(drop);
    assert_eq!(open(EXCLUSIVE), Ok(()));
    let one = names();
    assert_eq!(one.len(), 1);
    assert_eq!(open(EXCLUSIVE), Err(Errno::EXIST));
    assert_eq!(names(), one);
    sem::unlink(NAME, format).unwrap();

    support::mount_tmpfs("/dev/shm", "size=4k");
    fs::write("/dev/shm/all", [0; 4096]).unwrap();
    assert_eq!(open(EXCLUSIVE), Err(Errno::NOSPC));
    assert_eq!(open(OPEN), Err(Errno::NOSPC));
    assert_eq!(names().len(), 1);
    support::unmount("/dev/shm");

    support::mount_tmpfs("/dev/shm", "nr_inodes=2");
    fs::write("/dev/shm/all", []).unwrap();
    assert_eq!(open(EXCLUSIVE), Err(Errno::NOSPC));
    assert_eq!(names().len(), 1);
    support::unmount("/dev/shm");

    support::mount_tmpfs("/dev/shm", "mode=0555");
    peer(|| {
        support::drop_privileges();
        assert_eq!(open(EXCLUSIVE), Err(Errno::ACCESS));
        assert_eq!(open(OPEN), Err(Errno::ACCESS));
    })
    .join();
    assert!(names().is_empty());
    support::unmount("/dev/shm");

    // No room to map it.
    peer(|| {
        let none = rustix::process::Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        rustix::process::setrlimit(rustix::process::Resource::As, none).unwrap();
        let result = open(EXCLUSIVE);
        // SAFETY: Ends the process, which can do nothing more.
        unsafe { libc::_exit(if result == Err(Errno::NOMEM) { 0 } else { 1 }) }
    })
    .join();
    assert!(names().is_empty());
}

#[test]
fn no_failure_to_make_one_leaves_a_file() {
    isolated!(no_failure_leaves_a_file);
}

#[test]
fn no_failure_leaves_a_file_where_it_needs_a_temporary_one() {
    isolated!(|| support::without_proc(no_failure_leaves_a_file));
}

#[test]
fn a_maker_that_is_killed_leaves_no_temporary_file() {
    isolated!(|| {
        for pause in 0..60 {
            let maker = peer(|| {
                loop {
                    sem::open(NAME, EXCLUSIVE, 0, Format::NATIVE).unwrap();
                    sem::unlink(NAME, Format::NATIVE).unwrap();
                }
            });
            support::eventually("it made one", || !names().is_empty());
            std::thread::sleep(Duration::from_micros(pause * 7));
            maker.kill();
            let _ = sem::unlink(NAME, Format::NATIVE);
            assert_eq!(names(), BTreeSet::new());
        }
    });
}

/// Of many who create one at the same time, all get the same one, complete.
fn creators_race() {
    for _ in 0..30 {
        let start = region();
        let start = init(&start, Format::NATIVE, 0);
        let got = region();
        let got = init(&got, Format::NATIVE, 0);
        let peers: Vec<_> = (0..4)
            .map(|_| {
                peer(|| {
                    start.wait().unwrap();
                    let region = sem::open(NAME, OPEN, 1, Format::NATIVE).unwrap();
                    let semaphore = Semaphore::attach(region.bytes(), Format::NATIVE).unwrap();
                    if semaphore.try_wait().is_ok() {
                        got.post().unwrap();
                    }
                })
            })
            .collect();
        (0..4).for_each(|_| start.post().unwrap());
        peers.into_iter().for_each(support::Peer::join);
        assert_eq!(got.value(), 1, "one unit in one semaphore");
        assert_eq!(names().len(), 1);
        sem::unlink(NAME, Format::NATIVE).unwrap();
    }
}

#[test]
fn creators_that_race_get_one_semaphore() {
    isolated!(creators_race);
}

#[test]
fn creators_that_race_get_one_semaphore_without_proc() {
    isolated!(|| support::without_proc(creators_race));
}

#[test]
fn a_handle_takes_its_name_away_or_lets_it_live() {
    isolated!(|| {
        let mut options = OpenOptions::new();
        options.create_new(true).value(2);
        drop(options.unlink_on_drop(true).open(NAME).unwrap());
        assert!(names().is_empty());
        drop(options.unlink_on_drop(false).open(NAME).unwrap());
        assert_eq!(Handle::open(NAME).unwrap().value().unwrap(), 2);
        let error = options.open(NAME).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        let mut handle = OpenOptions::new().unlink_on_drop(true).open(NAME).unwrap();
        handle.persist();
        drop(handle);
        assert_eq!(names().len(), 1);
        linipc::posix::sem::unlink(NAME).unwrap();
        let error = Handle::open(NAME).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);

        let musl = Format::MUSL;
        let handle = options
            .unlink_on_drop(true)
            .format(musl)
            .open(NAME)
            .unwrap();
        assert_eq!(names().into_iter().next().unwrap(), &NAME[1..]);
        drop(handle);
        assert!(names().is_empty());

        // The two formats have names of their own.
        drop(options.unlink_on_drop(false).open(NAME).unwrap());
        let error = linipc::posix::sem::unlink(NAME).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        options.unlink(NAME).unwrap();
        let error = options.unlink(NAME).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    });
}

#[test]
fn a_handle_waits_tries_and_times_out() {
    isolated!(|| {
        let handle = OpenOptions::new()
            .create_new(true)
            .unlink_on_drop(true)
            .open(NAME)
            .unwrap();
        let error = handle.try_wait().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        let error = handle.wait_deadline(Duration::from_millis(2)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        let waiter = peer(|| {
            let handle = Handle::open(NAME).unwrap();
            handle.wait().unwrap();
            handle.wait_deadline(linipc::Deadline::NEVER).unwrap();
        });
        until_asleep(waiter.pid());
        handle.post().unwrap();
        handle.post().unwrap();
        waiter.join();
        handle.post().unwrap();
        handle.try_wait().unwrap();
        assert_eq!(handle.value().unwrap(), 0);
    });
}

#[test]
fn a_handle_shares_any_region() {
    isolated!(|| {
        let region = Arc::new(region());
        let format = Format::NATIVE;
        let first = Handle::init(Arc::clone(&region), 128, format, 0).unwrap();
        let second = Handle::init(&*region, 256, format, 0).unwrap();
        let child = peer(|| {
            let first = Handle::attach(&*region, 128, format).unwrap();
            let second = Handle::attach(Arc::clone(&region), 256, format).unwrap();
            first.wait().unwrap();
            second.post().unwrap();
        });
        first.post().unwrap();
        second.wait().unwrap();
        child.join();
        if format == Format::Glibc64 {
            region.bytes().write(128, &[0xff; 32]).unwrap();
            let error = first.value().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        }
        for (offset, errno) in [(4090, Errno::FAULT), (2, Errno::INVAL)] {
            let error = Handle::init(&*region, offset, format, 0).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
            let error = Handle::attach(&*region, offset, format).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
        }
    });
}

#[test]
fn a_limit_is_named() {
    isolated!(|| {
        use linipc::error::{Limit, errno};
        let mut options = OpenOptions::new();
        options.create_new(true);
        for (mount, filled, setting, value) in [
            ("size=4k", 4096, "mount option size", 4096),
            ("nr_inodes=2", 0, "mount option nr_inodes", 2),
        ] {
            support::mount_tmpfs("/dev/shm", mount);
            fs::write("/dev/shm/all", vec![0; filled]).unwrap();
            let error = options.open(NAME).unwrap_err();
            let limit = error.get_ref().unwrap().downcast_ref::<Limit>().unwrap();
            assert_eq!((limit.setting, limit.value), (setting, value));
            assert_eq!(errno(&error), Some(Errno::NOSPC));
            support::unmount("/dev/shm");
        }
    });
}

#[test]
fn the_file_says_which_semaphore_it_is() {
    isolated!(|| {
        let create = Create::Open(Mode::RUSR | Mode::WUSR);
        let open = || sem::open_with_file("/one", create, 1, Format::NATIVE).unwrap();
        let identity = |file| {
            let stat = rustix::fs::fstat(&file).unwrap();
            (stat.st_dev, stat.st_ino)
        };
        let ((one, region), (same, _)) = (open(), open());
        let one = identity(one);
        assert_eq!(one, identity(same));
        // Also once the file is closed.
        let semaphore = Semaphore::attach(region.bytes(), Format::NATIVE).unwrap();
        assert_eq!(semaphore.try_wait(), Ok(()));
        sem::unlink("/one", Format::NATIVE).unwrap();
        let (other, _) = open();
        assert_ne!(one, identity(other));
        sem::unlink("/one", Format::NATIVE).unwrap();
    });
}
