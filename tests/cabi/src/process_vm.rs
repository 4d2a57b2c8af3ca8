//! process_vm_readv(2)

use std::ffi::{c_int, c_ulong};

use linipc_core::Errno;
use linipc_core::io::{IoSlice, IoSliceMut};
use linipc_core::process_vm::{self, Pid, Remote};

use crate::export;
use crate::memory::{slice, slice_mut};

export! {
    /// process_vm_readv(2)
    fn process_vm_readv(
        pid: c_int,
        local: *mut IoSliceMut<'_>,
        locals: c_ulong,
        remote: *const Remote,
        remotes: c_ulong,
        flags: c_ulong,
    ) -> isize {
        let local = slice_mut(local, locals as usize)?;
        process_vm::readv(to_pid(pid, flags)?, local, slice(remote, remotes as usize)?)
    }

    /// process_vm_readv(2)
    fn process_vm_writev(
        pid: c_int,
        local: *const IoSlice<'_>,
        locals: c_ulong,
        remote: *const Remote,
        remotes: c_ulong,
        flags: c_ulong,
    ) -> isize {
        let local = slice(local, locals as usize)?;
        process_vm::writev(to_pid(pid, flags)?, local, slice(remote, remotes as usize)?)
    }
}

fn to_pid(pid: c_int, flags: c_ulong) -> Result<Pid, Errno> {
    match flags {
        0 if pid > 0 => Pid::from_raw(pid).ok_or(Errno::SRCH),
        0 => Err(Errno::SRCH),
        _ => Err(Errno::INVAL),
    }
}
