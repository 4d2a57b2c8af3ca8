//! shm_open(3)

use std::ffi::{CStr, c_char, c_int};

use linipc_core::Errno;
use linipc_core::io::{OFlags, fcntl_setfl};
use linipc_core::map::Access;
use linipc_core::posix::{Create, Mode, shm};

use crate::errno::Value;
use crate::export;
use crate::memory::string;
use crate::next::next;

export! {
    /// shm_open(3)
    fn shm_open(name: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
        let access = match flags & libc::O_ACCMODE {
            libc::O_RDONLY if flags & libc::O_TRUNC == 0 => Access::READ,
            libc::O_RDWR => Access::READ | Access::WRITE,
            // POSIX does not say what these do.
            _ => {
                return Ok(next!(shm_open(
                    name => *const c_char,
                    flags => c_int,
                    mode => libc::mode_t,
                ) -> c_int));
            }
        };
        let name = string(name)?;
        if is_too_long("", name) {
            return Err(Errno::INVAL);
        }
        let object = shm::open(name, access, create(flags, mode))?;
        if flags & libc::O_TRUNC != 0 {
            shm::ftruncate(&object, 0)?;
        }
        // Core opens it without waiting, whatever it is; the rest is C's.
        fcntl_setfl(&object, OFlags::from_bits_retain(flags as u32))?;
        Ok(object.value())
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

/// In glibc's words: what cannot be a name is not there.
pub(crate) fn unlink(
    prefix: &str,
    name: &CStr,
    unlink: impl FnOnce(&CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    match unlink(name) {
        Err(Errno::NAMETOOLONG) if is_too_long(prefix, name) => Err(Errno::NOENT),
        Err(Errno::INVAL) if matches!(name.to_bytes(), b"/." | b"/.." | b"." | b"..") => {
            Err(Errno::ISDIR)
        }
        Err(Errno::INVAL) => Err(Errno::NOENT),
        Err(Errno::PERM) => Err(Errno::ACCESS),
        done => done,
    }
}
