//! sem_overview(7): named and unnamed semaphores, in the C library's own format.

use std::collections::TryReserveError;
use std::ffi::{c_char, c_int, c_uint};
use std::mem::zeroed;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use linipc_core::Errno;
use linipc_core::fd::AsRawFd;
use linipc_core::map::{Access, Region};
use linipc_core::posix::sem::{self, Format, Semaphore, Sharing};
use linipc_core::shared::SharedBytes;

use crate::memory::{deadline, put, string};
use crate::shm::{create, is_too_long, unlink};
use crate::{cancellation_point, export};

/// Of the names of their files.
const PREFIX: &str = "sem.";

/// A named semaphore that this process has open: one mapping, however often.
struct Open {
    device: u64,
    inode: u64,
    region: Region,
    times: usize,
}

static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

fn open() -> MutexGuard<'static, Vec<Open>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

export! {
    /// sem_init(3)
    fn sem_init(semaphore: *mut libc::sem_t, shared: c_int, value: c_uint) -> c_int {
        let sharing = match shared {
            0 => Sharing::Private,
            _ => Sharing::Shared,
        };
        Semaphore::init(memory(semaphore)?, Format::GLIBC, sharing, value).map(drop)
    }

    /// sem_destroy(3)
    fn sem_destroy(semaphore: *mut libc::sem_t) -> c_int {
        memory(semaphore).map(drop)
    }

    /// sem_open(3). C's arguments from the third on are variable.
    fn sem_open(
        name: *const c_char,
        flags: c_int,
        mode: libc::mode_t,
        value: c_uint,
    ) -> *mut libc::sem_t {
        let create = create(flags, mode);
        let name = string(name)?;
        if is_too_long(PREFIX, name) {
            return Err(Errno::INVAL);
        }
        let (file, region) = sem::open_with_file(name, create, value, Format::GLIBC)?;
        // Not std's `File`: the C library's close(2), with which it ends, is a cancellation point.
        let mut stat: libc::stat = zeroed();
        if libc::fstat(file.as_raw_fd(), &mut stat) != 0 {
            return Err(Errno::ACCESS);
        }
        let (device, inode) = (stat.st_dev, stat.st_ino);
        let mut open = open();
        if let Some(open) = open.iter_mut().find(|o| (o.device, o.inode) == (device, inode)) {
            open.times += 1;
            return Ok(open.region.as_ptr().cast::<libc::sem_t>());
        }
        open.try_reserve(1).map_err(|_: TryReserveError| Errno::NOMEM)?;
        let start = region.as_ptr();
        open.push(Open { device, inode, region, times: 1 });
        Ok(start.cast::<libc::sem_t>())
    }

    /// sem_close(3)
    fn sem_close(semaphore: *mut libc::sem_t) -> c_int {
        let mut open = open();
        let at = open.iter().position(|open| open.region.as_ptr().cast() == semaphore);
        let at = at.ok_or(Errno::INVAL)?;
        match open.get_mut(at) {
            Some(open) if open.times > 1 => open.times -= 1,
            _ => drop(open.swap_remove(at)),
        }
        Ok(())
    }

    /// sem_unlink(3)
    fn sem_unlink(name: *const c_char) -> c_int {
        unlink(PREFIX, string(name)?, |name| sem::unlink(name, Format::GLIBC))
    }

    /// sem_wait(3)
    fn sem_wait(semaphore: *mut libc::sem_t) -> c_int {
        cancellation_point();
        at(semaphore)?.wait()
    }

    /// sem_wait(3)
    fn sem_trywait(semaphore: *mut libc::sem_t) -> c_int {
        at(semaphore)?.try_wait()
    }

    /// sem_wait(3)
    fn sem_timedwait(semaphore: *mut libc::sem_t, until: *const libc::timespec) -> c_int {
        cancellation_point();
        at(semaphore)?.wait_deadline(deadline(libc::CLOCK_REALTIME, until)?)
    }

    /// sem_wait(3)
    fn sem_clockwait(
        semaphore: *mut libc::sem_t,
        clock: c_int,
        until: *const libc::timespec,
    ) -> c_int {
        cancellation_point();
        at(semaphore)?.wait_deadline(deadline(clock, until)?)
    }

    /// sem_post(3)
    fn sem_post(semaphore: *mut libc::sem_t) -> c_int {
        at(semaphore)?.post()
    }

    /// sem_getvalue(3)
    fn sem_getvalue(semaphore: *mut libc::sem_t, value: *mut c_int) -> c_int {
        put(value, at(semaphore)?.value() as c_int)
    }
}

unsafe fn memory<'a>(semaphore: *mut libc::sem_t) -> Result<SharedBytes<'a>, Errno> {
    let start = NonNull::new(semaphore.cast()).ok_or(Errno::INVAL)?;
    let access = Access::READ | Access::WRITE;
    Ok(SharedBytes::from_raw(
        start,
        size_of::<libc::sem_t>(),
        access,
    ))
}

unsafe fn at<'a>(semaphore: *mut libc::sem_t) -> Result<Semaphore<'a>, Errno> {
    Semaphore::attach(memory(semaphore)?, Format::GLIBC)
}
