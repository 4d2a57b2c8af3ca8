//! Timers, also of another process.

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use linipc::event::timerfd::{Clock, First, TimerFd};
use linipc_core::Errno;
use linipc_core::event::timerfd::{self, ClockId, Flags, Timespec, clock_gettime};
use linipc_core::io::{FdFlags, fcntl_getfd};
use support::{eventually, peer, until_asleep};

const TICK: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1000);

fn plus(time: Timespec, duration: Duration) -> Timespec {
    time + Timespec::try_from(duration).unwrap()
}

#[test]
fn a_one_shot_comes_once() {
    let timer = TimerFd::new().unwrap();
    let due = plus(clock_gettime(ClockId::Monotonic), TICK);
    timer.start(First::After(TICK), None).unwrap();
    assert_eq!(timer.wait().unwrap(), 1);
    assert!(clock_gettime(ClockId::Monotonic) >= due, "too early");
    assert_eq!(timer.try_wait().unwrap_err().kind(), ErrorKind::WouldBlock);
    let remaining = timer.remaining().unwrap();
    assert_eq!((remaining.next, remaining.interval), (None, None));
}

#[test]
fn a_late_reader_of_an_interval_misses_nothing() {
    let timer = TimerFd::new().unwrap();
    timer.start(First::After(TICK), Some(TICK)).unwrap();
    let then = plus(clock_gettime(ClockId::Monotonic), 5 * TICK);
    eventually("five ticks", || clock_gettime(ClockId::Monotonic) >= then);
    assert!(timer.try_wait().unwrap() >= 5);
    assert_eq!(timer.remaining().unwrap().interval, Some(TICK));
    assert!(timer.wait().unwrap() >= 1, "it goes on");
}

#[test]
fn a_time_of_a_clock_is_waited_for_and_a_past_one_is_due() {
    for (clock, id) in [
        (Clock::Monotonic, ClockId::Monotonic),
        (Clock::Realtime, ClockId::Realtime),
        (Clock::Boottime, ClockId::Boottime),
    ] {
        let timer = TimerFd::with_clock(clock).unwrap();
        let now = clock_gettime(id);
        // Another test sets the real-time clock.
        let unless_set = match clock {
            Clock::Realtime => First::At,
            _ => First::AtUnlessSet,
        };
        for first in [First::At, unless_set] {
            timer.start(first(plus(now, TICK)), None).unwrap();
            assert_eq!(timer.wait().unwrap(), 1);
            assert!(clock_gettime(id) >= plus(now, TICK), "{clock:?} too early");
            timer.start(first(now), None).unwrap();
            assert_eq!(timer.wait().unwrap(), 1, "past");
        }
    }
}

#[test]
fn a_first_time_of_zero_is_due_and_does_not_stop() {
    let timer = TimerFd::new().unwrap();
    for first in [First::After(Duration::ZERO), First::At(Timespec::default())] {
        timer.start(first, None).unwrap();
        assert_eq!(timer.wait_deadline(support::PATIENCE).unwrap(), 1);
    }
}

#[test]
fn a_stopped_timer_is_never_due() {
    let timer = TimerFd::new().unwrap();
    assert_eq!(timer.remaining().unwrap().next, None);
    assert_eq!(timer.try_wait().unwrap_err().kind(), ErrorKind::WouldBlock);
    timer
        .start(First::At(Timespec::default()), Some(TICK))
        .unwrap();
    timer.stop().unwrap();
    let error = timer.wait_deadline(3 * TICK).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn what_remains_is_told() {
    let timer = TimerFd::new().unwrap();
    timer.start(First::After(LONG), Some(2 * LONG)).unwrap();
    let remaining = timer.remaining().unwrap();
    let next = remaining.next.unwrap();
    assert!(next <= LONG && next > LONG / 2);
    assert_eq!(remaining.interval, Some(2 * LONG));
    timer.start(First::After(Duration::MAX), None).unwrap();
    assert!(timer.remaining().unwrap().next.unwrap() > LONG, "for ever");
}

#[test]
fn another_process_waits_for_our_timer() {
    isolated!(|| {
        let timer = TimerFd::new().unwrap();
        let waiter = peer(|| assert_eq!(timer.wait().unwrap(), 1));
        until_asleep(waiter.pid());
        timer.start(First::After(TICK), None).unwrap();
        waiter.join();

        let blocking = timerfd::create(Clock::Monotonic, Flags::empty()).unwrap();
        let waiter = peer(|| assert_eq!(timerfd::read(&blocking), Ok(1)));
        until_asleep(waiter.pid());
        timerfd::start(&blocking, First::After(TICK), None).unwrap();
        waiter.join();
    });
}

#[test]
fn a_malformed_time_and_what_is_not_a_timer_are_refused() {
    let timer = timerfd::create(Clock::Monotonic, Flags::NONBLOCK).unwrap();
    for (tv_sec, tv_nsec) in [(-1, 0), (0, 1_000_000_000), (1, -1)] {
        let at = Timespec { tv_sec, tv_nsec };
        assert_eq!(
            timerfd::start(&timer, First::At(at), None),
            Err(Errno::INVAL)
        );
    }
    let (reader, writer) = linipc_core::pipe::pipe().unwrap();
    let first = First::After(TICK);
    assert_eq!(timerfd::start(&reader, first, None), Err(Errno::INVAL));
    assert_eq!(timerfd::stop(&reader), Err(Errno::INVAL));
    assert_eq!(timerfd::remaining(&reader), Err(Errno::INVAL));
    linipc_core::io::write(writer, b"x").unwrap();
    assert_eq!(timerfd::read(&reader), Err(Errno::INVAL));
}

#[test]
fn it_is_close_on_exec() {
    let timer = timerfd::create(Clock::Realtime, Flags::empty()).unwrap();
    assert!(fcntl_getfd(&timer).unwrap().contains(FdFlags::CLOEXEC));
}

#[test]
fn setting_the_clock_cancels() {
    let timer = TimerFd::with_clock(Clock::Realtime).unwrap();
    let plain = TimerFd::with_clock(Clock::Realtime).unwrap();
    let far = plus(clock_gettime(ClockId::Realtime), LONG);
    // The same test may run elsewhere, and have set the clock just now.
    let started = timerfd::start(&timer, First::AtUnlessSet(far), None);
    assert!(matches!(started, Ok(()) | Err(Errno::CANCELED)));
    plain.start(First::At(far), None).unwrap();
    if set_clock_forward(1).is_err() {
        support::skip("no permission to set the clock");
        return;
    }
    set_clock_forward(-1).unwrap();
    let error = timer.wait_deadline(support::PATIENCE).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::CANCELED.raw_os_error()));
    assert!(timer.remaining().unwrap().next.is_some(), "it goes on");
    assert_eq!(plain.try_wait().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Sets the clock forward or back by nanoseconds.
fn set_clock_forward(nanoseconds: i64) -> std::io::Result<()> {
    // SAFETY: Zero is a value of the structure.
    let mut change: libc::timex = unsafe { std::mem::zeroed() };
    change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    change.time.tv_sec = nanoseconds.div_euclid(1_000_000_000) as libc::time_t;
    change.time.tv_usec = nanoseconds.rem_euclid(1_000_000_000) as libc::suseconds_t;
    // SAFETY: The call reads and writes the structure.
    match unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut change) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}
