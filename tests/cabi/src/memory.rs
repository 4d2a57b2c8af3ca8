//! What C passes, as what core takes.
//!
//! A null pointer is `FAULT`, as the kernel would say. Of any other pointer the caller promised that it
//! is valid: where the C library hands it to the kernel unseen, and so gives `EFAULT` for a bad one, we
//! may die by SIGSEGV.

use std::ffi::{CStr, c_char, c_int};
use std::slice;

use linipc_core::Errno;
use linipc_core::fd::BorrowedFd;
use linipc_core::futex::{Clock, Deadline};
use linipc_core::sysv::sem::Timespec;

/// A descriptor, which the caller keeps open. -1 is none.
pub(crate) unsafe fn fd<'a>(number: c_int) -> Result<BorrowedFd<'a>, Errno> {
    match number {
        -1 => Err(Errno::BADF),
        number => Ok(BorrowedFd::borrow_raw(number)),
    }
}

pub(crate) unsafe fn string<'a>(start: *const c_char) -> Result<&'a CStr, Errno> {
    match start.is_null() {
        true => Err(Errno::FAULT),
        false => Ok(CStr::from_ptr(start)),
    }
}

pub(crate) unsafe fn get<T: Copy>(from: *const T) -> Result<T, Errno> {
    match from.is_null() {
        true => Err(Errno::FAULT),
        false => Ok(from.read()),
    }
}

pub(crate) unsafe fn get_mut<'a, T>(from: *mut T) -> Result<&'a mut T, Errno> {
    from.as_mut().ok_or(Errno::FAULT)
}

pub(crate) unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Errno> {
    match to.is_null() {
        true => Err(Errno::FAULT),
        false => {
            to.write(value);
            Ok(())
        }
    }
}

pub(crate) unsafe fn put_if<T>(to: *mut T, value: T) {
    if !to.is_null() {
        to.write(value);
    }
}

/// No slice of Rust is longer, and no call of the kernel transfers more at once.
const MOST: usize = 0x7fff_f000;

pub(crate) unsafe fn slice<'a, T>(start: *const T, len: usize) -> Result<&'a [T], Errno> {
    match (start.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Errno::FAULT),
        (false, len) => Ok(slice::from_raw_parts(start, len.min(MOST / size_of::<T>()))),
    }
}

pub(crate) unsafe fn slice_mut<'a, T>(start: *mut T, len: usize) -> Result<&'a mut [T], Errno> {
    match (start.is_null(), len) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Errno::FAULT),
        (false, len) => Ok(slice::from_raw_parts_mut(
            start,
            len.min(MOST / size_of::<T>()),
        )),
    }
}

pub(crate) fn timespec(time: libc::timespec) -> Timespec {
    Timespec {
        tv_sec: time.tv_sec,
        tv_nsec: time.tv_nsec,
    }
}

/// A point in time, if the clock is one that a futex can have.
pub(crate) unsafe fn deadline(clock: c_int, at: *const libc::timespec) -> Result<Deadline, Errno> {
    let clock = match clock {
        libc::CLOCK_REALTIME => Clock::Realtime,
        libc::CLOCK_MONOTONIC => Clock::Monotonic,
        _ => return Err(Errno::INVAL),
    };
    let at = timespec(get(at)?);
    Ok(Deadline { clock, at })
}
