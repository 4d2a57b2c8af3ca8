//! shm_open(3)

use std::ffi::{c_char, c_int};

use linipc_core::Errno;
use linipc_core::map::Access;
use linipc_core::posix::{Create, Mode, shm};

use crate::export;
use crate::memory::string;

export! {
    /// shm_open(3)
    fn shm_open(name: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
        let access = match flags & libc::O_ACCMODE {
            libc::O_RDONLY => Access::READ,
            libc::O_RDWR => Access::READ | Access::WRITE,
            _ => return Err(Errno::INVAL),
        };
        let object = shm::open(string(name)?, access, create(flags, mode))?;
        if flags & libc::O_TRUNC != 0 {
            shm::ftruncate(&object, 0)?;
        }
        Ok(object)
    }

    /// shm_open(3)
    fn shm_unlink(name: *const c_char) -> c_int {
        shm::unlink(string(name)?)
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
