//! shm_open(3)

use std::ffi::{CStr, c_char, c_int};

use linipc_core::Errno;
use linipc_core::io::{OFlags, fcntl_setfl};
use linipc_core::map::Access;
use linipc_core::posix::{Create, Mode, shm};

use crate::export;
use crate::memory::string;

export! {
    /// shm_open(3)
    fn shm_open(name: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
        let access = match flags & libc::O_ACCMODE {
            libc::O_RDONLY => Access::READ,
            libc::O_WRONLY => Access::WRITE,
            libc::O_RDWR => Access::READ | Access::WRITE,
            _ => return Err(Errno::INVAL),
        };
        let name = string(name)?;
        if is_too_long("", name) {
            return Err(Errno::INVAL);
        }
        let object = shm::open(name, access, create(flags, mode))?;
        if flags & libc::O_TRUNC != 0 {
            match access {
                // It needs the permission to write all the same.
                Access::READ => shm::ftruncate(shm::open(name, Access::WRITE, Create::No)?, 0)?,
                _ => shm::ftruncate(&object, 0)?,
            }
        }
        let status = flags & (libc::O_APPEND | libc::O_NONBLOCK);
        if status != 0 {
            fcntl_setfl(&object, OFlags::from_bits_retain(status as u32))?;
        }
        Ok(object)
    }

    /// shm_open(3)
    fn shm_unlink(name: *const c_char) -> c_int {
        unlink("", string(name)?, |name| shm::unlink(name))
    }
}

/// What `O_CREAT` and `O_EXCL` say.
pub(crate) fn create(flags: c_int, mode: libc::mode_t) -> Create {
    let mode = Mode::from_raw_mode(mode);
    match (flags & libc::O_CREAT, flags & libc::O_EXCL) {
        (0, _) => Create::No,
        (_, 0) => Create::Open(mode),
        _ => Create::Exclusive(mode),
    }
}

/// glibc calls names invalid that do not fit into its buffer, which is four bytes longer than the
/// longest name of a file.
pub(crate) fn is_too_long(prefix: &str, name: &CStr) -> bool {
    let slashes = name
        .to_bytes()
        .iter()
        .take_while(|byte| **byte == b'/')
        .count();
    prefix.len() + name.count_bytes() - slashes > libc::NAME_MAX as usize + 4
}

fn is_directory(prefix: &str, name: &CStr) -> bool {
    let name = name.to_bytes();
    let slashes = name.iter().take_while(|byte| **byte == b'/').count();
    prefix.is_empty() && matches!(name.get(slashes..), Some(b"." | b".."))
}

/// In glibc's words: what cannot be a name is not there.
pub(crate) fn unlink(
    prefix: &str,
    name: &CStr,
    unlink: impl FnOnce(&CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    match unlink(name) {
        Err(Errno::NAMETOOLONG) if is_too_long(prefix, name) => Err(Errno::NOENT),
        Err(Errno::INVAL) if is_directory(prefix, name) => Err(Errno::ISDIR),
        Err(Errno::INVAL) => Err(Errno::NOENT),
        Err(Errno::PERM) => Err(Errno::ACCESS),
        done => done,
    }
}
