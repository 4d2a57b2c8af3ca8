//! System V semaphores between two processes.

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use linipc::error::{Limit, errno};
use linipc::sysv::sem::{OpenOptions, Set};
use linipc::sysv::shm::Segment;
use linipc::sysv::{Key, Owner};
use linipc_core::Errno;
use linipc_core::io::{read, write};
use linipc_core::pipe::pipe;
use linipc_core::sysv::sem::{self, Op, Timespec, VALUE_MAX};
use linipc_core::sysv::{Create, Mode, Visibility};
use support::{drop_capabilities, eventually, peer, until_asleep};

const KEY: Key = Key::new(0x6c69_6e69);

fn rw() -> Mode {
    Mode::RUSR | Mode::WUSR
}

fn make(mode: Mode, count: usize) -> sem::Id {
    sem::get(Key::PRIVATE, count, Create::Exclusive(mode)).unwrap()
}

fn catch_usr1() {
    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: The handler does nothing, and `SA_RESTART` alone is set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()),
            0
        );
    }
}

extern "C" fn on_signal(_: libc::c_int) {}

/// Sends the signal and waits until it was delivered, so the call that waited was interrupted.
fn interrupt(pid: i32) {
    // SAFETY: kill(2) takes no pointers.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGUSR1) }, 0);
    eventually("the signal is delivered", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.contains("ShdPnd:\t0000000000000000")
    });
}

#[test]
fn a_taker_waits_until_a_giver_gives_enough() {
    isolated!(|| {
        let set = OpenOptions::new()
            .create_new(true)
            .remove_on_drop(true)
            .open(KEY, 1)
            .unwrap();
        let taker = peer(|| Set::open(KEY).unwrap().op(&[Op::new(0, -3)]).unwrap());
        until_asleep(taker.pid());
        set.op(&[Op::new(0, 2)]).unwrap();
        until_asleep(taker.pid());
        assert_eq!(
            (set.value(0).unwrap(), set.waiting_for_more(0).unwrap()),
            (2, 1)
        );
        set.op(&[Op::new(0, 2)]).unwrap();
        taker.join();
        assert_eq!(
            (set.value(0).unwrap(), set.waiting_for_more(0).unwrap()),
            (1, 0)
        );
    });
}

#[test]
fn three_operations_happen_all_or_none() {
    isolated!(|| {
        let set = Set::private(&[1, 0, 1]).unwrap();
        let ops = [Op::new(0, -1), Op::new(1, -1), Op::new(2, -1)];
        let error = set.try_op(&ops).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(set.values().unwrap(), [1, 0, 1]);

        let taker = peer(|| set.op(&ops).unwrap());
        eventually("it waits for the one that is missing", || {
            set.waiting_for_more(1).unwrap() == 1
        });
        assert_eq!(
            set.values().unwrap(),
            [1, 0, 1],
            "nothing is taken meanwhile"
        );
        // Another one may take what the waiting one would need.
        set.op(&[Op::new(0, -1)]).unwrap();
        set.op(&[Op::new(1, 1)]).unwrap();
        eventually("it waits for the first one now", || {
            set.waiting_for_more(0).unwrap() == 1
        });
        assert_eq!(set.values().unwrap(), [0, 1, 1]);
        set.op(&[Op::new(0, 1)]).unwrap();
        taker.join();
        assert_eq!(set.values().unwrap(), [0, 0, 0]);
    });
}

#[test]
fn operations_on_one_semaphore_follow_each_other() {
    isolated!(|| {
        let set = Set::private(&[0]).unwrap();
        set.op(&[Op::new(0, 0), Op::new(0, 5), Op::new(0, -2)])
            .unwrap();
        assert_eq!(set.value(0).unwrap(), 3);
        assert!(
            set.try_op(&[Op::new(0, -3), Op::new(0, -1), Op::new(0, 9)])
                .is_err()
        );
        assert_eq!(set.value(0).unwrap(), 3);
    });
}

#[test]
fn a_killed_process_gives_back_what_it_took_with_undo() {
    isolated!(|| {
        let set = Set::private(&[5, 5]).unwrap();
        let (ready_reader, ready_writer) = pipe().unwrap();
        let holder = peer(|| {
            set.op(&[Op::new(0, -3).undo(), Op::new(1, -3)]).unwrap();
            set.op(&[Op::new(0, 1).undo()]).unwrap();
            write(&ready_writer, b"x").unwrap();
            std::thread::sleep(support::PATIENCE);
        });
        read(&ready_reader, &mut [0]).unwrap();
        assert_eq!(set.values().unwrap(), [3, 2]);
        holder.kill();
        assert_eq!(set.values().unwrap(), [5, 2]);
    });
}

#[test]
fn a_lock_excludes_everybody_until_its_holder_is_killed() {
    isolated!(|| {
        let set = OpenOptions::new()
            .remove_on_drop(true)
            .open_or_init(KEY, &[1])
            .unwrap();
        let memory = Segment::private(8).unwrap();
        let (ready_reader, ready_writer) = pipe().unwrap();
        let holder = peer(|| {
            let _guard = set.lock(0).unwrap();
            write(&ready_writer, b"x").unwrap();
            std::thread::sleep(support::PATIENCE);
        });
        read(&ready_reader, &mut [0]).unwrap();
        assert_eq!(set.try_lock(0).unwrap_err().kind(), ErrorKind::WouldBlock);
        let soon = Duration::from_millis(2);
        let error = set.lock_deadline(0, soon).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);

        // The counter is read and written in two steps, which the lock makes one.
        let adders: Vec<_> = (0..4)
            .map(|_| {
                peer(|| {
                    let set = OpenOptions::new().open_or_init(KEY, &[1]).unwrap();
                    let memory = memory.attach().unwrap();
                    for _ in 0..500 {
                        let _guard = set.lock(0).unwrap();
                        let mut count = [0; 8];
                        memory.bytes().read(0, &mut count).unwrap();
                        std::thread::yield_now();
                        let count = u64::from_ne_bytes(count) + 1;
                        memory.bytes().write(0, &count.to_ne_bytes()).unwrap();
                    }
                })
            })
            .collect();
        eventually("all wait for the lock", || {
            set.waiting_for_more(0).unwrap() == 4
        });
        holder.kill();
        adders.into_iter().for_each(support::Peer::join);
        let mut count = [0; 8];
        memory
            .attach()
            .unwrap()
            .bytes()
            .read(0, &mut count)
            .unwrap();
        assert_eq!(u64::from_ne_bytes(count), 2000);
        assert_eq!(set.values().unwrap(), [1, 1]);
        drop(set.lock_deadline(0, Duration::ZERO).unwrap());
    });
}

#[test]
fn a_guard_whose_set_is_gone_is_dropped_quietly() {
    isolated!(|| {
        let set = Set::private(&[1]).unwrap();
        let guard = set.lock(0).unwrap();
        sem::remove(set.id()).unwrap();
        drop(guard);
    });
}

#[test]
fn setting_a_value_forgets_what_was_to_be_undone() {
    isolated!(|| {
        let set = Set::private(&[5, 5]).unwrap();
        for set_it in [&|| set.set_value(0, 7).unwrap(), &|| {
            set.set_values(&[7, 7]).unwrap()
        }] as [&dyn Fn(); 2]
        {
            peer(|| {
                set.op(&[Op::new(0, -3).undo()]).unwrap();
                set_it();
            })
            .join();
            assert_eq!(set.value(0).unwrap(), 7);
        }
    });
}

#[test]
fn a_process_can_wait_for_zero() {
    isolated!(|| {
        let set = Set::private(&[2]).unwrap();
        let waiter = peer(|| set.op(&[Op::new(0, 0)]).unwrap());
        eventually("it waits", || set.waiting_for_zero(0).unwrap() == 1);
        assert_eq!(set.waiting_for_more(0).unwrap(), 0);
        set.op(&[Op::new(0, -1)]).unwrap();
        assert_eq!(set.waiting_for_zero(0).unwrap(), 1);
        set.op(&[Op::new(0, -1)]).unwrap();
        waiter.join();
        set.try_op(&[Op::new(0, 0)]).unwrap();
    });
}

#[test]
fn removal_wakes_who_waits() {
    isolated!(|| {
        let set = Set::private(&[1]).unwrap();
        let waiters = [-2, 0].map(|op| {
            let set = &set;
            peer(move || {
                let error = set.op(&[Op::new(0, op)]).unwrap_err();
                assert_eq!(errno(&error), Some(Errno::IDRM));
            })
        });
        for waiter in &waiters {
            until_asleep(waiter.pid());
        }
        set.remove().unwrap();
        waiters.into_iter().for_each(support::Peer::join);
    });
}

#[test]
fn a_signal_interrupts_core_and_not_the_handle() {
    isolated!(|| {
        let set = Set::private(&[0, 0]).unwrap();
        let waiter = peer(|| {
            catch_usr1();
            let id = set.id();
            assert_eq!(sem::op(id, &[Op::new(0, -1)]), Err(Errno::INTR));
            sem::op(id, &[Op::new(1, 1)]).unwrap();
            set.op(&[Op::new(0, -1)]).unwrap();
            set.op_deadline(&[Op::new(0, -1)], support::PATIENCE)
                .unwrap();
        });
        let waits = || set.waiting_for_more(0).unwrap() == 1;
        eventually("it waits in core", waits);
        interrupt(waiter.pid());
        set.op(&[Op::new(1, -1)]).unwrap();
        for _ in 0..2 {
            eventually("it waits", waits);
            interrupt(waiter.pid());
            eventually("it waits again", waits);
            set.op(&[Op::new(0, 1)]).unwrap();
        }
        waiter.join();
    });
}

#[test]
fn a_timeout_ends_the_wait_and_takes_nothing() {
    isolated!(|| {
        let set = Set::private(&[1]).unwrap();
        let two = [Op::new(0, -2)];
        let timeout = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        let wait = |timeout| sem::timedop(set.id(), &two, &timeout);
        assert_eq!(wait(timeout(0, 0)), Err(Errno::AGAIN));
        assert_eq!(wait(timeout(0, 2_000_000)), Err(Errno::AGAIN));
        assert_eq!(wait(timeout(-1, 0)), Err(Errno::INVAL));
        assert_eq!(wait(timeout(0, 1_000_000_000)), Err(Errno::INVAL));
        let start = std::time::Instant::now();
        let error = set
            .op_deadline(&two, Duration::from_millis(20))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!(set.value(0).unwrap(), 1);

        // An operation that may not wait fails for that reason, not for the time.
        let error = set
            .op_deadline(&[two[0].nowait()], support::PATIENCE)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        // What is possible is done, however late it is, and however long the time.
        set.op_deadline(&[Op::new(0, 1)], Duration::ZERO).unwrap();
        set.op_deadline(&two, Duration::MAX).unwrap();
        assert_eq!(set.value(0).unwrap(), 0);
    });
}

#[test]
fn a_deadline_call_ends_when_a_peer_makes_it_possible() {
    isolated!(|| {
        let set = Set::private(&[0]).unwrap();
        let giver = peer(|| {
            eventually("it waits", || set.waiting_for_more(0).unwrap() == 1);
            set.op(&[Op::new(0, 1)]).unwrap();
        });
        set.op_deadline(&[Op::new(0, -1)], support::PATIENCE)
            .unwrap();
        giver.join();
    });
}

#[test]
fn wrong_operations_are_refused() {
    isolated!(|| {
        let id = make(rw(), 2);
        assert_eq!(sem::op(id, &[]), Err(Errno::INVAL));
        assert_eq!(sem::op(id, &[Op::new(2, 1)]), Err(Errno::FBIG));
        assert_eq!(
            sem::op(id, &[Op::new(0, 1), Op::new(9, 1)]),
            Err(Errno::FBIG)
        );
        sem::op(id, &[Op::new(0, i16::MAX)]).unwrap();
        assert_eq!(sem::op(id, &[Op::new(0, 1)]), Err(Errno::RANGE));
        let both = [Op::new(1, 1), Op::new(0, 1)];
        assert_eq!(sem::op(id, &both), Err(Errno::RANGE));
        let most = sem::limits().unwrap().ops;
        let many = vec![Op::new(1, 1); most + 1];
        assert_eq!(sem::op(id, &many), Err(Errno::TOOBIG));
        sem::op(id, &many[1..]).unwrap();
        let mut values = [0; 2];
        sem::getall(id, &mut values).unwrap();
        assert_eq!(values, [VALUE_MAX, most as u16]);
        sem::remove(id).unwrap();
        assert_eq!(sem::op(id, &[Op::new(0, 1)]), Err(Errno::INVAL));
        assert_eq!(sem::remove(id), Err(Errno::INVAL));
    });
}

#[test]
fn values_are_set_and_read_one_by_one() {
    isolated!(|| {
        let id = make(rw(), 3);
        assert_eq!(sem::getval(id, 1), Ok(0), "a new set has zeros");
        assert_eq!(sem::getpid(id, 1), Ok(0));
        sem::setval(id, 1, VALUE_MAX).unwrap();
        let values = [0, 1, 2].map(|num| sem::getval(id, num).unwrap());
        assert_eq!(values, [0, VALUE_MAX, 0]);
        assert_eq!(sem::getpid(id, 1), Ok(std::process::id() as i32));
        assert_eq!(sem::setval(id, 1, VALUE_MAX + 1), Err(Errno::RANGE));
        assert_eq!(sem::setval(id, 3, 0), Err(Errno::INVAL));
        for ask in [sem::getncnt, sem::getzcnt] {
            assert_eq!(ask(id, 0), Ok(0));
            assert_eq!(ask(id, 3), Err(Errno::INVAL));
        }
        assert_eq!(sem::getval(id, 3), Err(Errno::INVAL));
        assert_eq!(sem::getpid(id, 3), Err(Errno::INVAL));
        let user = peer(|| sem::op(id, &[Op::new(1, -1)]).unwrap());
        let user_pid = user.pid();
        user.join();
        assert_eq!(sem::getpid(id, 1), Ok(user_pid));
        sem::remove(id).unwrap();
    });
}

#[test]
fn values_are_set_and_read_all_at_once() {
    isolated!(|| {
        let id = make(rw(), 3);
        sem::setall(id, &[1, 2, VALUE_MAX]).unwrap();
        let read = || {
            let mut values = [9; 3];
            sem::getall(id, &mut values).map(|()| values)
        };
        assert_eq!(read(), Ok([1, 2, VALUE_MAX]));
        // The kernel is not told how long the array is: too short must not be read beyond.
        for short in [&[][..], &[7], &[7, 7]] {
            assert_eq!(sem::setall(id, short), Err(Errno::TOOBIG));
            let mut values = short.to_vec();
            assert_eq!(sem::getall(id, &mut values), Err(Errno::TOOBIG));
            assert_eq!(values, short);
        }
        assert_eq!(sem::setall(id, &[7, 7, VALUE_MAX + 1]), Err(Errno::RANGE));
        assert_eq!(read(), Ok([1, 2, VALUE_MAX]));
        sem::setall(id, &[4, 5, 6, VALUE_MAX + 1]).unwrap();
        let mut more = [9; 5];
        sem::getall(id, &mut more).unwrap();
        assert_eq!(more, [4, 5, 6, 0, 0]);
        sem::remove(id).unwrap();
        assert_eq!(read(), Err(Errno::INVAL));
        assert_eq!(sem::setall(id, &[1]), Err(Errno::INVAL));
    });
}

#[test]
fn a_set_of_the_largest_size_is_read_whole_and_never_beyond_the_array() {
    isolated!(|| {
        let before = fences();
        std::fs::write("/proc/sys/kernel/sem", "65536 1000000 500 100").unwrap();
        for count in [32_000, 65_536] {
            let id = make(rw(), count);
            let values: Vec<u16> = (0..count).map(|num| (num % 30_000) as u16).collect();
            sem::setall(id, &values).unwrap();
            assert_eq!(Set::from_id(id).values().unwrap(), values);
            sem::op(id, &[Op::new((count - 1) as u16, 1)]).unwrap();
            for short in [0, 1, 100, 2048, 31_999] {
                let mut few = vec![9; short];
                assert_eq!(sem::getall(id, &mut few), Err(Errno::TOOBIG));
                assert!(few.iter().all(|&value| value == 9));
                assert_eq!(sem::setall(id, &few), Err(Errno::TOOBIG));
            }
            sem::remove(id).unwrap();
        }
        assert_eq!(fences(), before, "mappings left behind");
    });
}

/// What is mapped so that nobody reads or writes there, and of the size of a fence: on aarch64 also the ends
/// of the stacks of threads.
fn fences() -> Vec<String> {
    let is_fence = |line: &&str| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let hex = |text| u64::from_str_radix(text, 16).unwrap();
        line.trim_end().ends_with(" ---p 00000000 00:00 0") && hex(end) - hex(start) == 1 << 16
    };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(is_fence).map(str::to_owned).collect()
}

#[test]
fn create_finds_makes_or_refuses() {
    isolated!(|| {
        let get = |count, create| sem::get(KEY, count, create);
        assert_eq!(get(0, Create::No), Err(Errno::NOENT));
        assert_eq!(get(0, Create::Open(rw())), Err(Errno::INVAL));
        let made = get(2, Create::Open(rw())).unwrap();
        assert_eq!(get(0, Create::No), Ok(made));
        assert_eq!(get(2, Create::Open(rw())), Ok(made));
        assert_eq!(get(3, Create::No), Err(Errno::INVAL));
        let error = OpenOptions::new().open(KEY, 3).unwrap_err();
        let raw = error.raw_os_error();
        assert_eq!(
            raw,
            Some(Errno::INVAL.raw_os_error()),
            "no limit is to blame"
        );
        assert_eq!(get(usize::MAX, Create::No), Err(Errno::INVAL));
        if let Ok(count) = usize::try_from(1_u64 << 32) {
            assert_eq!(get(count, Create::No), Err(Errno::INVAL));
        }
        assert_eq!(get(2, Create::Exclusive(rw())), Err(Errno::EXIST));
        sem::remove(made).unwrap();
    });
}

#[test]
fn permissions_are_checked() {
    isolated!(|| {
        let readable = make(Mode::RUSR, 1);
        let writable = make(Mode::WUSR, 2);
        peer(|| {
            drop_capabilities();
            sem::op(readable, &[Op::new(0, 0)]).unwrap();
            assert_eq!(sem::op(readable, &[Op::new(0, 1)]), Err(Errno::ACCESS));
            assert_eq!(sem::setval(readable, 0, 1), Err(Errno::ACCESS));
            assert_eq!(sem::setall(readable, &[1]), Err(Errno::ACCESS));
            sem::getall(readable, &mut [0]).unwrap();

            sem::setall(writable, &[1, 1]).unwrap();
            sem::op(writable, &[Op::new(0, -1)]).unwrap();
            assert_eq!(sem::op(writable, &[Op::new(0, 0)]), Err(Errno::ACCESS));
            assert_eq!(sem::getval(writable, 0), Err(Errno::ACCESS));
            assert_eq!(sem::getall(writable, &mut [0; 2]), Err(Errno::ACCESS));
            assert_eq!(sem::stat(writable), Err(Errno::ACCESS));

            let all = 0..=sem::usage().unwrap().highest_index;
            let refused = |visibility| {
                all.clone()
                    .filter(|&index| sem::stat_index(index, visibility) == Err(Errno::ACCESS))
                    .count()
            };
            assert_eq!(refused(Visibility::Readable), 1);
            assert_eq!(refused(Visibility::Any), 0);
        })
        .join();
        sem::remove(readable).unwrap();
        sem::remove(writable).unwrap();
    });
}

#[test]
fn stat_tells_how_many_and_when() {
    isolated!(|| {
        let id = sem::get(KEY, 7, Create::Exclusive(rw() | Mode::ROTH)).unwrap();
        let stat = sem::stat(id).unwrap();
        assert_eq!((stat.semaphores, stat.last_op), (7, None));
        assert_eq!(stat.permissions.key, KEY);
        assert_eq!(stat.permissions.mode, rw() | Mode::ROTH);
        let changed = stat.last_change.unwrap();
        assert!(
            (1_700_000_000..10_000_000_000).contains(&changed),
            "{changed}"
        );
        sem::setval(id, 0, 1).unwrap();
        assert_eq!(sem::stat(id).unwrap().last_op, None);
        sem::op(id, &[Op::new(0, -1)]).unwrap();
        assert!(sem::stat(id).unwrap().last_op.unwrap() >= changed);
        sem::remove(id).unwrap();
        assert_eq!(sem::stat(id), Err(Errno::INVAL));
    });
}

#[test]
fn set_changes_the_mode_for_its_owner_only() {
    isolated!(|| {
        let set = Set::private(&[0]).unwrap();
        let owner = Owner {
            mode: Mode::RUSR | Mode::RGRP,
            ..set.stat().unwrap().permissions.into()
        };
        set.set(owner).unwrap();
        let mode = set.stat().unwrap().permissions.mode;
        assert_eq!(mode, Mode::RUSR | Mode::RGRP);
        peer(|| {
            let nobody = rustix::process::Uid::from_raw(65534);
            if rustix::thread::set_thread_uid(nobody).is_err() {
                return support::skip("another user: needs root");
            }
            assert_eq!(sem::set(set.id(), owner), Err(Errno::PERM));
            assert_eq!(sem::remove(set.id()), Err(Errno::PERM));
        })
        .join();
    });
}

#[test]
fn enumeration_shows_every_set() {
    isolated!(|| {
        assert_eq!(linipc::sysv::sem::list().unwrap(), []);
        let sets = [&[1][..], &[2, 2], &[3, 3, 3]].map(|values| Set::private(values).unwrap());
        let mut listed = linipc::sysv::sem::list().unwrap();
        listed.sort_by_key(|(_, stat)| stat.semaphores);
        let listed: Vec<_> = listed
            .into_iter()
            .map(|(id, stat)| (id, stat.semaphores))
            .collect();
        let expected: Vec<_> = sets.iter().map(Set::id).zip(1..).collect();
        assert_eq!(listed, expected);
        let usage = sem::usage().unwrap();
        assert_eq!((usage.sets, usage.semaphores), (3, 6));
        let next = sem::stat_index(usage.highest_index + 1, Visibility::Any);
        assert_eq!(next, Err(Errno::INVAL));
        assert_eq!(
            sem::stat_index(usize::MAX, Visibility::Any),
            Err(Errno::INVAL)
        );
    });
}

#[test]
fn each_limit_is_read_and_named() {
    isolated!(|| {
        let limit = |error: std::io::Error| {
            let limit = error.get_ref().unwrap().downcast_ref::<Limit>().unwrap();
            (
                limit.errno,
                limit.setting.rsplit(' ').next().unwrap(),
                limit.value,
            )
        };
        std::fs::write("/proc/sys/kernel/sem", "5 9 3 2").unwrap();
        let limits = sem::limits().unwrap();
        assert_eq!(
            (
                limits.set_semaphores,
                limits.semaphores,
                limits.ops,
                limits.sets
            ),
            (5, 9, 3, 2)
        );
        let refused = |count: usize| limit(Set::private(&vec![0; count]).unwrap_err());
        assert_eq!(refused(6), (Errno::INVAL, "(SEMMSL)", 5));
        let first = Set::private(&[0; 5]).unwrap();
        assert_eq!(refused(5), (Errno::NOSPC, "(SEMMNS)", 9));
        let second = Set::private(&[0; 4]).unwrap();
        assert_eq!(refused(1), (Errno::NOSPC, "(SEMMNI)", 2));
        let too_many = [Op::new(0, 1); 4];
        let expected = (Errno::TOOBIG, "(SEMOPM)", 3);
        assert_eq!(limit(first.op(&too_many).unwrap_err()), expected);
        assert_eq!(limit(first.try_op(&too_many).unwrap_err()), expected);
        drop(second);
        let error = OpenOptions::new().open_or_init(KEY, &[1, 1]).unwrap_err();
        assert_eq!(limit(error), expected);
        sem::remove(sem::get(KEY, 0, Create::No).unwrap()).unwrap();
        let error = Set::private(&[]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    });
}

#[test]
fn create_new_makes_and_initialises_or_refuses() {
    isolated!(|| {
        let mut options = OpenOptions::new();
        options.create_new(true);
        let set = options
            .remove_on_drop(true)
            .open_or_init(KEY, &[4])
            .unwrap();
        assert_eq!(set.values().unwrap(), [4, 1]);
        let error = options.open_or_init(KEY, &[4]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        options.create_new(false).remove_on_drop(false);
        assert_eq!(options.open_or_init(KEY, &[4]).unwrap().id(), set.id());
    });
}

#[test]
fn whoever_comes_first_initialises_exactly_once() {
    isolated!(|| {
        let start = Set::private(&[0]).unwrap();
        for round in 1..=40 {
            let key = Key::new(round);
            let openers: Vec<_> = (0..4)
                .map(|_| {
                    peer(|| {
                        start.op(&[Op::new(0, -1)]).unwrap();
                        let set = OpenOptions::new().open_or_init(key, &[0, 3, 1]).unwrap();
                        // Each takes and gives at once, so that the values get down to 0 while
                        // others are still opening.
                        set.op(&[Op::new(1, -3), Op::new(2, -1)]).unwrap();
                        set.op(&[Op::new(1, 3), Op::new(2, 1)]).unwrap();
                    })
                })
                .collect();
            start.op(&[Op::new(0, 4)]).unwrap();
            openers.into_iter().for_each(support::Peer::join);
            let set = Set::open(key).unwrap();
            assert_eq!(set.values().unwrap(), [0, 3, 1, 1]);
            set.remove().unwrap();
        }
    });
}

#[test]
fn the_death_of_a_maker_between_its_two_steps_harms_nobody() {
    isolated!(|| {
        // The first step of `open_or_init`, and no second one.
        peer(|| {
            sem::get(KEY, 3, Create::Open(rw())).unwrap();
        })
        .join();
        let set = OpenOptions::new()
            .remove_on_drop(true)
            .open_or_init(KEY, &[2, 1])
            .unwrap();
        assert_eq!(set.values().unwrap(), [2, 1, 1]);
        assert!(set.stat().unwrap().last_op.is_some());
    });
}

#[test]
fn makers_killed_at_any_moment_leave_a_set_that_is_right() {
    isolated!(|| {
        for round in 0..60 {
            let (ready_reader, ready_writer) = pipe().unwrap();
            let maker = peer(|| {
                write(&ready_writer, b"x").unwrap();
                for number in 1.. {
                    let set = OpenOptions::new().open_or_init(Key::new(number), &[7]);
                    drop(set.unwrap());
                    if number > 1000 {
                        Set::open(Key::new(number - 1000))
                            .unwrap()
                            .remove()
                            .unwrap();
                    }
                }
            });
            read(&ready_reader, &mut [0]).unwrap();
            std::thread::sleep(Duration::from_micros(round * 37));
            maker.kill();
            for (id, stat) in linipc::sysv::sem::list().unwrap() {
                let key = stat.permissions.key;
                let set = OpenOptions::new().open_or_init(key, &[7]).unwrap();
                assert_eq!((set.id(), set.values().unwrap()), (id, vec![7, 1]));
                set.remove().unwrap();
            }
        }
    });
}

#[test]
fn a_set_that_was_emptied_is_not_initialised_again() {
    isolated!(|| {
        let set = OpenOptions::new()
            .remove_on_drop(true)
            .open_or_init(KEY, &[1, 0])
            .unwrap();
        let _guard = set.lock(0).unwrap();
        let again = OpenOptions::new().open_or_init(KEY, &[1, 0]).unwrap();
        assert_eq!(again.values().unwrap(), [0, 0, 1]);
        assert!(again.try_lock(0).is_err());
    });
}

#[test]
fn a_set_that_is_removed_while_it_is_opened_is_made_again() {
    isolated!(|| {
        let remover = peer(|| {
            loop {
                if let Ok(id) = sem::get(KEY, 0, Create::No) {
                    let _ = sem::remove(id);
                }
            }
        });
        for _ in 0..50_000 {
            OpenOptions::new().open_or_init(KEY, &[1]).unwrap();
        }
        remover.kill();
        if let Ok(set) = Set::open(KEY) {
            set.remove().unwrap();
        }
    });
}

#[test]
fn a_set_made_in_another_way_is_not_touched() {
    isolated!(|| {
        for count in [1, 2, 4] {
            let id = sem::get(KEY, count, Create::Exclusive(rw())).unwrap();
            let error = OpenOptions::new().open_or_init(KEY, &[5, 5]).unwrap_err();
            assert_eq!(errno(&error), Some(Errno::INVAL));
            let set = Set::from_id(id);
            assert_eq!(set.values().unwrap(), vec![0; count]);
            assert_eq!(set.stat().unwrap().last_op, None);
            set.remove().unwrap();
        }
        let error = OpenOptions::new()
            .open_or_init(KEY, &[VALUE_MAX + 1])
            .unwrap_err();
        assert_eq!(errno(&error), Some(Errno::RANGE));
        let error = OpenOptions::new()
            .open_or_init(KEY, &vec![0; 65_536])
            .unwrap_err();
        assert_eq!(errno(&error), Some(Errno::INVAL));
        assert!(Set::open(KEY).is_err(), "nothing was made");
    });
}

#[test]
fn a_handle_removes_its_set_or_lets_it_live() {
    isolated!(|| {
        let make = || {
            OpenOptions::new()
                .create_new(true)
                .mode(0o640)
                .remove_on_drop(true)
                .open(KEY, 1)
                .unwrap()
        };
        drop(make());
        assert!(Set::open(KEY).is_err());
        let mut handle = make();
        handle.persist();
        let id = handle.id();
        drop(handle);
        let found = OpenOptions::new().create(true).open(KEY, 1).unwrap();
        assert_eq!(found.id(), id);
        assert_eq!(found.stat().unwrap().permissions.mode.bits(), 0o640);
        drop(found);
        Set::from_id(id).remove().unwrap();
        assert_eq!(Set::open(KEY).unwrap_err().kind(), ErrorKind::NotFound);
    });
}
