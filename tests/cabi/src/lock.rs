//! flock(2), fcntl_locking(2), lockf(3).

use std::ffi::{c_int, c_short};

use linipc_core::Errno;
use linipc_core::lock::{self, FlockOperation, Holder, Kind, Origin, Owner, Pid, Range};

use crate::memory::{fd, get, get_mut};
use crate::next::next;
use crate::{cancellation_point, export};

export! {
    /// flock(2)
    fn flock(number: c_int, operation: c_int) -> c_int {
        let operation = match operation {
            libc::LOCK_SH => FlockOperation::LockShared,
            libc::LOCK_EX => FlockOperation::LockExclusive,
            libc::LOCK_UN => FlockOperation::Unlock,
            _ => match operation ^ libc::LOCK_NB {
                libc::LOCK_SH => FlockOperation::NonBlockingLockShared,
                libc::LOCK_EX => FlockOperation::NonBlockingLockExclusive,
                libc::LOCK_UN => FlockOperation::NonBlockingUnlock,
                // Some kernels take more, such as the mandatory locks of old.
                _ => return Ok(next!(flock(number => c_int, operation => c_int) -> c_int)),
            },
        };
        lock::flock(fd(number)?, operation).map(|()| 0)
    }

    /// fcntl(2): locks and leases; what else there is, is passed on. C's argument is variable: an
    /// integer or a pointer, which are passed in the same register as a word is.
    fn fcntl(number: c_int, command: c_int, argument: usize) -> c_int {
        control(number, command, argument)
    }

    /// [`fcntl`], under the name that programs with 64-bit offsets have.
    fn fcntl64(number: c_int, command: c_int, argument: usize) -> c_int {
        control(number, command, argument)
    }

    /// lockf(3)
    fn lockf(number: c_int, command: c_int, len: i64) -> c_int {
        region(number, command, len)
    }

    /// [`lockf`], under the name that programs with 64-bit offsets have.
    fn lockf64(number: c_int, command: c_int, len: i64) -> c_int {
        region(number, command, len)
    }
}

unsafe fn control(number: c_int, command: c_int, argument: usize) -> Result<c_int, Errno> {
    use Owner::{Description, Process};

    let lock = argument as *mut libc::flock;
    match command {
        // It is for the kernel to say what is wrong first.
        libc::F_GETLK | libc::F_SETLK | libc::F_SETLKW if lock.is_null() => {}
        libc::F_OFD_GETLK | libc::F_OFD_SETLK | libc::F_OFD_SETLKW if lock.is_null() => {}
        libc::F_SETLK => return set(number, Process, get(lock)?, false),
        libc::F_SETLKW => {
            cancellation_point();
            return set(number, Process, get(lock)?, true);
        }
        libc::F_OFD_SETLK => return set(number, Description, get(lock)?, false),
        libc::F_OFD_SETLKW => {
            cancellation_point();
            return set(number, Description, get(lock)?, true);
        }
        libc::F_GETLK => return ask(number, Process, get_mut(lock)?),
        libc::F_OFD_GETLK => return ask(number, Description, get_mut(lock)?),
        libc::F_SETLEASE => {
            let lease = match argument as c_int {
                libc::F_UNLCK => None,
                kind => Some(to_kind(kind)?),
            };
            return lock::set_lease(fd(number)?, lease).map(|()| 0);
        }
        libc::F_GETLEASE => return Ok(from_kind(lock::lease(fd(number)?)?).into()),
        _ => {}
    }
    Ok(next!(fcntl(number => c_int, command => c_int, argument => usize) -> c_int))
}

unsafe fn set(number: c_int, owner: Owner, lock: libc::flock, waits: bool) -> Result<c_int, Errno> {
    let (fd, range) = (fd(number)?, to_range(owner, &lock)?);
    match (lock.l_type.into(), waits) {
        (libc::F_UNLCK, _) => lock::release(fd, owner, range),
        (kind, true) => lock::acquire(fd, owner, range, to_kind(kind)?),
        (kind, false) => lock::try_acquire(fd, owner, range, to_kind(kind)?),
    }?;
    Ok(0)
}

unsafe fn ask(number: c_int, owner: Owner, lock: &mut libc::flock) -> Result<c_int, Errno> {
    let (fd, range) = (fd(number)?, to_range(owner, lock)?);
    let holder = match (owner, lock.l_type.into()) {
        (Owner::Description, libc::F_UNLCK) => lock::held(fd, range),
        (owner, kind) => lock::holder(fd, owner, range, to_kind(kind)?),
    }?;
    lock.l_type = from_kind(holder.map(|holder| holder.kind));
    if let Some(Holder {
        owner, pid, range, ..
    }) = holder
    {
        lock.l_whence = libc::SEEK_SET as c_short;
        lock.l_start = range.start;
        lock.l_len = range.len;
        lock.l_pid = match owner {
            Owner::Description => -1,
            Owner::Process => Pid::as_raw(pid),
        };
    }
    Ok(0)
}

unsafe fn region(number: c_int, command: c_int, len: i64) -> Result<(), Errno> {
    let range = Range {
        origin: Origin::Current,
        start: 0,
        len,
    };
    match command {
        libc::F_LOCK => {
            cancellation_point();
            lock::acquire(fd(number)?, Owner::Process, range, Kind::Exclusive)
        }
        libc::F_TLOCK => lock::try_acquire(fd(number)?, Owner::Process, range, Kind::Exclusive),
        libc::F_ULOCK => lock::release(fd(number)?, Owner::Process, range),
        libc::F_TEST => match lock::holder(fd(number)?, Owner::Process, range, Kind::Shared)? {
            None => Ok(()),
            Some(_) => Err(Errno::ACCESS),
        },
        _ => Err(Errno::INVAL),
    }
}

fn to_range(owner: Owner, lock: &libc::flock) -> Result<Range, Errno> {
    if owner == Owner::Description && lock.l_pid != 0 {
        return Err(Errno::INVAL);
    }
    let origin = match lock.l_whence.into() {
        libc::SEEK_SET => Origin::Start,
        libc::SEEK_CUR => Origin::Current,
        libc::SEEK_END => Origin::End,
        _ => return Err(Errno::INVAL),
    };
    Ok(Range {
        origin,
        start: lock.l_start,
        len: lock.l_len,
    })
}

fn to_kind(kind: c_int) -> Result<Kind, Errno> {
    match kind {
        libc::F_RDLCK => Ok(Kind::Shared),
        libc::F_WRLCK => Ok(Kind::Exclusive),
        _ => Err(Errno::INVAL),
    }
}

fn from_kind(kind: Option<Kind>) -> c_short {
    let kind = match kind {
        Some(Kind::Shared) => libc::F_RDLCK,
        Some(Kind::Exclusive) => libc::F_WRLCK,
        None => libc::F_UNLCK,
    };
    kind as c_short
}
