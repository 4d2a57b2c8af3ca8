//! eventfd(2), signalfd(2), timerfd_create(2), memfd_create(2).

use std::ffi::{c_char, c_int, c_uint};

use linipc_core::Errno;
use linipc_core::event::timerfd::{Clock, Itimerspec, TimerFlags};
use linipc_core::event::{eventfd, signalfd, timerfd};
use linipc_core::fd::OwnedFd;
use linipc_core::io::{FdFlags, fcntl_setfd};
use linipc_core::memfd;

use crate::export;
use crate::memory::{fd, get, put, put_if, string, timespec};

export! {
    /// eventfd(2)
    fn eventfd(initial: c_uint, flags: c_int) -> c_int {
        let made = eventfd::create(initial, eventfd::Flags::from_bits_retain(flags as u32))?;
        inherited_unless(made, flags & libc::EFD_CLOEXEC)
    }

    /// signalfd(2)
    fn signalfd(number: c_int, mask: *const u64, flags: c_int) -> c_int {
        let set = signalfd::SignalSet::from_bits(get(mask)?);
        if number == -1 {
            let made = signalfd::create(set, signalfd::Flags::from_bits_retain(flags as u32))?;
            return inherited_unless(made, flags & libc::SFD_CLOEXEC);
        }
        if flags & !(libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) != 0 {
            return Err(Errno::INVAL);
        }
        signalfd::set(fd(number)?, set)?;
        Ok(number)
    }

    /// timerfd_create(2)
    fn timerfd_create(clock: c_int, flags: c_int) -> c_int {
        let clock = match clock {
            libc::CLOCK_REALTIME => Clock::Realtime,
            libc::CLOCK_MONOTONIC => Clock::Monotonic,
            libc::CLOCK_BOOTTIME => Clock::Boottime,
            libc::CLOCK_REALTIME_ALARM => Clock::RealtimeAlarm,
            libc::CLOCK_BOOTTIME_ALARM => Clock::BoottimeAlarm,
            _ => return Err(Errno::INVAL),
        };
        let made = timerfd::create(clock, timerfd::Flags::from_bits_retain(flags as u32))?;
        inherited_unless(made, flags & libc::TFD_CLOEXEC)
    }

    /// timerfd_create(2)
    fn timerfd_settime(
        number: c_int,
        flags: c_int,
        new: *const libc::itimerspec,
        old: *mut libc::itimerspec,
    ) -> c_int {
        let new = get(new)?;
        let new = Itimerspec {
            it_interval: timespec(new.it_interval),
            it_value: timespec(new.it_value),
        };
        let flags = TimerFlags::from_bits_retain(flags as u32);
        put_if(old, to_c(timerfd::settime(fd(number)?, flags, &new)?));
        Ok(())
    }

    /// timerfd_create(2)
    fn timerfd_gettime(number: c_int, now: *mut libc::itimerspec) -> c_int {
        put(now, to_c(timerfd::gettime(fd(number)?)?))
    }

    /// memfd_create(2)
    fn memfd_create(name: *const c_char, flags: c_uint) -> c_int {
        memfd::memfd_create(string(name)?, memfd::Flags::from_bits_retain(flags))
    }
}

/// Core makes all close-on-exec, which C must ask for.
fn inherited_unless(made: OwnedFd, close_on_exec: c_int) -> Result<c_int, Errno> {
    if close_on_exec == 0 {
        fcntl_setfd(&made, FdFlags::empty())?;
    }
    Ok(crate::errno::Value::value(made))
}

fn to_c(time: Itimerspec) -> libc::itimerspec {
    let [it_interval, it_value] = [time.it_interval, time.it_value].map(|at| libc::timespec {
        tv_sec: at.tv_sec,
        tv_nsec: at.tv_nsec,
    });
    libc::itimerspec {
        it_interval,
        it_value,
    }
}
