//! Futexes between two processes.

mod support;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use linipc::futex as shim;
use linipc_core::Errno;
use linipc_core::futex::{Clock, Deadline, Futex, Timespec, WAITV_MAX, Waiter, waitv};
use linipc_core::map::{Access, Region};
use rustix::time::{ClockId, clock_gettime};
use support::{Peer, catch_signals, caught, eventually, interrupt, peer, until_asleep};

fn shared_memory() -> Region {
    Region::anonymous(4096, Access::READ | Access::WRITE).unwrap()
}

fn word(region: &Region, index: usize) -> &AtomicU32 {
    region.bytes().atomic_u32(4 * index).unwrap()
}

/// A process that sleeps on `futex` while it is 0, until it is woken.
fn sleeper(futex: Futex<'_>) -> Peer {
    let peer = peer(|| futex.wait(0, None).unwrap());
    until_asleep(peer.pid());
    peer
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn bits(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

#[test]
fn a_wake_reaches_a_sleeper_in_another_process() {
    isolated!(|| {
        let region = shared_memory();
        let futex = Futex::shared(word(&region, 0));
        let sleeper = peer(|| {
            while futex.word().load(Ordering::Acquire) == 0 {
                match futex.wait(0, None) {
                    Ok(()) | Err(Errno::AGAIN) => {}
                    error => panic!("{error:?}"),
                }
            }
            assert_eq!(word(&region, 1).load(Ordering::Relaxed), 7);
        });
        until_asleep(sleeper.pid());
        word(&region, 1).store(7, Ordering::Relaxed);
        futex.word().store(1, Ordering::Release);
        assert_eq!(futex.wake(1), Ok(1));
        sleeper.join();
    });
}

#[test]
fn no_one_sleeps_on_a_word_that_differs() {
    let word = AtomicU32::new(5);
    assert_eq!(Futex::shared(&word).wait(4, None), Err(Errno::AGAIN));
    assert_eq!(Futex::private(&word).wait(4, None), Err(Errno::AGAIN));
    assert!(!shim::wait(Futex::shared(&word), 4).unwrap());
    assert!(!shim::wait_deadline(Futex::private(&word), 4, Duration::ZERO).unwrap());
}

#[test]
fn a_count_bounds_the_wakes() {
    isolated!(|| {
        let region = shared_memory();
        let futex = Futex::shared(word(&region, 0));
        let sleepers: Vec<Peer> = (0..4).map(|_| sleeper(futex)).collect();
        assert_eq!(futex.wake(0), Ok(0));
        assert_eq!(futex.wake_bitset(0, bits(1)), Ok(0));
        assert_eq!(futex.wake(1), Ok(1));
        assert_eq!(futex.wake(u32::MAX), Ok(3), "all that are left");
        assert_eq!(futex.wake(u32::MAX), Ok(0));
        sleepers.into_iter().for_each(Peer::join);
    });
}

#[test]
fn a_bitset_selects_who_is_woken() {
    isolated!(|| {
        let region = shared_memory();
        let futex = Futex::shared(word(&region, 0));
        let on_bits = |mask| {
            let peer = peer(|| futex.wait_bitset(0, None, bits(mask)).unwrap());
            until_asleep(peer.pid());
            peer
        };
        let (low, high, any) = (on_bits(0b01), on_bits(0b10), sleeper(futex));
        assert_eq!(futex.wake_bitset(u32::MAX, bits(0b100)), Ok(1));
        any.join();
        assert_eq!(futex.wake_bitset(u32::MAX, bits(0b110)), Ok(1));
        high.join();
        assert_eq!(futex.wake(u32::MAX), Ok(1));
        low.join();
    });
}

#[test]
fn requeue_wakes_some_and_moves_others() {
    isolated!(|| {
        let region = shared_memory();
        let (from, to) = (
            Futex::shared(word(&region, 0)),
            Futex::shared(word(&region, 1)),
        );
        let sleepers: Vec<Peer> = (0..4).map(|_| sleeper(from)).collect();
        assert_eq!(from.requeue(1, 1, 2, to), Err(Errno::AGAIN));
        assert_eq!(to.wake(u32::MAX), Ok(0), "nobody was moved");
        assert_eq!(from.requeue(0, 1, 2, to), Ok(3));
        assert_eq!(to.wake(u32::MAX), Ok(2));
        assert_eq!(from.requeue(0, 0, u32::MAX, to), Ok(1));
        assert_eq!(from.wake(u32::MAX), Ok(0));
        assert_eq!(to.wake(u32::MAX), Ok(1));
        sleepers.into_iter().for_each(Peer::join);
    });
}

#[test]
fn the_shim_has_bits_counts_and_requeues() {
    isolated!(|| {
        let region = shared_memory();
        let (from, to) = (
            Futex::shared(word(&region, 0)),
            Futex::shared(word(&region, 1)),
        );
        let sleepers = [0b01, 0b10, 0b10].map(|mask| {
            let peer = peer(|| {
                let slept = match mask {
                    0b01 => shim::wait_bitset(from, 0, bits(mask)),
                    _ => shim::wait_bitset_deadline(from, 0, bits(mask), support::PATIENCE),
                };
                assert!(slept.unwrap());
            });
            until_asleep(peer.pid());
            peer
        });
        assert!(!shim::wait_bitset(from, 1, bits(1)).unwrap());
        assert_eq!(shim::wake_bitset(from, u32::MAX, bits(0b100)).unwrap(), 0);
        assert_eq!(shim::wake_bitset(from, u32::MAX, bits(0b01)).unwrap(), 1);
        assert_eq!(shim::requeue(from, 1, 1, 1, to).unwrap(), None);
        assert_eq!(shim::wake(to, u32::MAX).unwrap(), 0, "nobody was moved");
        assert_eq!(shim::requeue(from, 0, 0, 1, to).unwrap(), Some(1));
        assert_eq!(shim::wake(to, u32::MAX).unwrap(), 1);
        assert_eq!(shim::wake(from, u32::MAX).unwrap(), 1);
        sleepers.into_iter().for_each(Peer::join);
    });
}

#[test]
fn a_deadline_of_std_is_on_its_own_clock() {
    use std::time::{Instant, SystemTime};
    let word = AtomicU32::new(0);
    let ends = |until: shim::Until| {
        let futex = Futex::shared(&word);
        let error = shim::wait_deadline(futex, 0, until).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        let error = shim::wait_bitset_deadline(futex, 0, bits(1), until).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "in the past");
    };
    let (day, instant) = (SystemTime::now() + millis(5), Instant::now() + millis(5));
    ends(day.into());
    assert!(SystemTime::now() >= day, "it ended early");
    ends(instant.into());
    assert!(Instant::now() >= instant, "it ended early");
    ends((SystemTime::UNIX_EPOCH - millis(1)).into());
    if !waitv_is_missing() {
        let day = SystemTime::now() + millis(5);
        let waiters = [Waiter::new(Futex::shared(&word), 0)];
        let error = shim::waitv_deadline(&waiters, day).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(SystemTime::now() >= day, "it ended early");
    }
}

#[test]
fn a_private_wake_does_not_reach_a_shared_sleeper() {
    isolated!(|| {
        let region = shared_memory();
        let futex = Futex::shared(word(&region, 0));
        let sleeper = sleeper(futex);
        assert_eq!(Futex::private(futex.word()).wake(1), Ok(0));
        assert_eq!(futex.wake(1), Ok(1));
        sleeper.join();
    });
}

#[test]
fn a_private_sleeper_is_reached_by_its_own_process_only() {
    isolated!(|| {
        let region = shared_memory();
        let futex = Futex::private(word(&region, 0));
        let sleeper = peer(|| futex.wait(0, None).unwrap());
        until_asleep(sleeper.pid());
        assert_eq!(futex.wake(1), Ok(0));
        assert_eq!(Futex::shared(futex.word()).wake(1), Ok(0));
        sleeper.kill();

        std::thread::scope(|scope| {
            let thread = scope.spawn(|| futex.wait(0, None));
            eventually("the thread is woken", || futex.wake(1) == Ok(1));
            assert_eq!(thread.join().unwrap(), Ok(()));
        });
    });
}

#[test]
fn a_deadline_ends_the_wait_on_its_own_clock() {
    let word = AtomicU32::new(0);
    for (clock, id) in [
        (Clock::Monotonic, ClockId::Monotonic),
        (Clock::Realtime, ClockId::Realtime),
    ] {
        let deadline = Deadline::after(clock, millis(5));
        assert!(deadline.at > clock_gettime(id));
        let waited = Futex::shared(&word).wait(0, Some(deadline));
        assert_eq!(waited, Err(Errno::TIMEDOUT));
        assert!(clock_gettime(id) >= deadline.at, "{clock:?} ended early");
        let waited = Futex::private(&word).wait_bitset(0, Some(deadline), bits(1));
        assert_eq!(waited, Err(Errno::TIMEDOUT), "in the past");
    }
    let error = shim::wait_deadline(Futex::shared(&word), 0, millis(1)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn a_malformed_deadline_is_refused() {
    let word = AtomicU32::new(0);
    for (tv_sec, tv_nsec) in [(-1, 0), (0, 1_000_000_000), (0, -1)] {
        let deadline = Deadline {
            clock: Clock::Monotonic,
            at: Timespec { tv_sec, tv_nsec },
        };
        let futex = Futex::shared(&word);
        assert_eq!(futex.wait(0, Some(deadline)), Err(Errno::INVAL));
    }
}

#[test]
fn a_deadline_beyond_all_time_still_waits() {
    isolated!(|| {
        let region = shared_memory();
        let futex = Futex::shared(word(&region, 0));
        let sleeper = peer(|| {
            let deadline = Deadline::after(Clock::Monotonic, Duration::MAX);
            futex.wait(0, Some(deadline)).unwrap();
            assert!(shim::wait_deadline(futex, 0, Duration::MAX).unwrap());
        });
        for _ in 0..2 {
            eventually("a sleeper", || futex.wake(1) == Ok(1));
        }
        sleeper.join();
    });
}

#[test]
fn waitv_tells_which_one_was_woken() {
    isolated!(|| {
        let region = shared_memory();
        if waitv_is_missing() {
            return;
        }
        let futex = |index| Futex::shared(word(&region, index));
        for woken in 0..3 {
            let sleeper = peer(|| {
                let waiters = [0, 1, 2].map(|index| Waiter::new(futex(index), 0));
                assert_eq!(waitv(&waiters, None), Ok(woken));
            });
            until_asleep(sleeper.pid());
            assert_eq!(Futex::private(word(&region, woken)).wake(1), Ok(0));
            assert_eq!(futex(woken).wake(1), Ok(1));
            sleeper.join();
        }
    });
}

#[test]
fn waitv_takes_both_scopes_and_as_many_as_it_says() {
    if waitv_is_missing() {
        return;
    }
    let words: [AtomicU32; WAITV_MAX + 1] = std::array::from_fn(|_| AtomicU32::new(0));
    let waiters: Vec<Waiter<'_>> = words
        .iter()
        .enumerate()
        .map(|(i, word)| match i % 2 {
            0 => Waiter::new(Futex::shared(word), 0),
            _ => Waiter::new(Futex::private(word), 0),
        })
        .collect();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| shim::waitv(&waiters[..WAITV_MAX]).unwrap());
        let last = Futex::private(&words[WAITV_MAX - 1]);
        eventually("the thread is woken", || last.wake(1) == Ok(1));
        assert_eq!(thread.join().unwrap(), Some(WAITV_MAX - 1));
    });
    assert_eq!(waitv(&waiters, None), Err(Errno::INVAL));
    assert_eq!(waitv(&[], None), Err(Errno::INVAL));
    words[3].store(1, Ordering::Relaxed);
    assert_eq!(waitv(&waiters[..4], None), Err(Errno::AGAIN));
    assert_eq!(shim::waitv(&waiters[..4]).unwrap(), None);
}

#[test]
fn waitv_has_deadlines_on_each_clock() {
    if waitv_is_missing() {
        return;
    }
    let word = AtomicU32::new(0);
    let waiters = [Waiter::new(Futex::shared(&word), 0)];
    for (clock, id) in [
        (Clock::Monotonic, ClockId::Monotonic),
        (Clock::Realtime, ClockId::Realtime),
    ] {
        let deadline = Deadline::after(clock, millis(5));
        assert_eq!(waitv(&waiters, Some(deadline)), Err(Errno::TIMEDOUT));
        assert!(clock_gettime(id) >= deadline.at, "{clock:?} ended early");
    }
    let error = shim::waitv_deadline(&waiters, millis(1)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

fn waitv_is_missing() -> bool {
    let missing = waitv(&[], None) == Err(Errno::NOSYS);
    if missing {
        support::skip("futex_waitv needs Linux 5.16");
    }
    missing
}

#[test]
fn a_signal_interrupts_core_and_not_the_shim() {
    isolated!(|| {
        let region = shared_memory();
        let (futex, phase) = (Futex::shared(word(&region, 0)), word(&region, 1));
        let phases = if waitv_is_missing() { 2 } else { 3 };
        let sleeper = peer(|| {
            catch_signals();
            phase.store(1, Ordering::Release);
            assert_eq!(futex.wait(0, None), Err(Errno::INTR));
            phase.store(2, Ordering::Release);
            assert!(shim::wait_deadline(futex, 0, support::PATIENCE).unwrap());
            if phases == 3 {
                phase.store(3, Ordering::Release);
                assert_eq!(shim::waitv(&[Waiter::new(futex, 0)]).unwrap(), Some(0));
            }
            assert_eq!(caught(), phases);
        });
        for now in 1..=phases {
            eventually("the next phase", || phase.load(Ordering::Acquire) == now);
            interrupt(&sleeper);
            if now > 1 {
                eventually("it sleeps again", || futex.wake(1) == Ok(1));
            }
        }
        sleeper.join();
    });
}

#[test]
fn the_kernel_takes_a_word_in_a_read_only_mapping() {
    isolated!(|| {
        let file = rustix::fs::memfd_create("word", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let writable = Region::shared(&file, 0, 4096, Access::READ | Access::WRITE).unwrap();
        let readable = Region::shared(&file, 0, 4096, Access::READ).unwrap();
        assert!(readable.bytes().atomic_u32(0).is_err());
        // SAFETY: Mapped and aligned; only the kernel reads the word through this reference.
        let word = unsafe { AtomicU32::from_ptr(readable.as_ptr().cast()) };
        let sleeper = peer(|| Futex::shared(word).wait(0, None).unwrap());
        until_asleep(sleeper.pid());
        let futex = Futex::shared(writable.bytes().atomic_u32(0).unwrap());
        assert_eq!(futex.wake(1), Ok(1));
        sleeper.join();
        let sleeper = self::sleeper(futex);
        assert_eq!(Futex::shared(word).wake(1), Ok(1));
        sleeper.join();
    });
}
