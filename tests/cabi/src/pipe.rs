//! pipe(2), mkfifo(3), splice(2), tee(2), vmsplice(2).

use std::ffi::{c_char, c_int, c_uint};

use linipc_core::Errno;
use linipc_core::fd::{BorrowedFd, IntoRawFd};
use linipc_core::fifo::{self, CWD, Mode};
use linipc_core::pipe::{self, IoSliceRaw, PipeFlags, SpliceFlags};

use crate::memory::{fd, get_mut, slice, string};
use crate::{cancellation_point, export};

export! {
    /// pipe(2)
    fn pipe(ends: *mut [c_int; 2]) -> c_int {
        make(ends, PipeFlags::empty())
    }

    /// pipe(2)
    fn pipe2(ends: *mut [c_int; 2], flags: c_int) -> c_int {
        make(ends, PipeFlags::from_bits_retain(flags as c_uint))
    }

    /// mkfifo(3)
    fn mkfifo(path: *const c_char, mode: libc::mode_t) -> c_int {
        fifo::create(string(path)?, Mode::from_bits_retain(mode))
    }

    /// mkfifo(3)
    fn mkfifoat(directory: c_int, path: *const c_char, mode: libc::mode_t) -> c_int {
        let path = string(path)?;
        fifo::create_at(at(directory, path)?, path, Mode::from_bits_retain(mode))
    }

    /// splice(2)
    fn splice(
        from: c_int,
        from_offset: *mut u64,
        to: c_int,
        to_offset: *mut u64,
        len: usize,
        flags: c_uint,
    ) -> isize {
        cancellation_point();
        let (from_offset, to_offset) = (from_offset.as_mut(), to_offset.as_mut());
        let flags = SpliceFlags::from_bits_retain(flags);
        pipe::splice(fd(from)?, from_offset, fd(to)?, to_offset, len, flags)
    }

    /// tee(2)
    fn tee(from: c_int, to: c_int, len: usize, flags: c_uint) -> isize {
        cancellation_point();
        pipe::tee(fd(from)?, fd(to)?, len, SpliceFlags::from_bits_retain(flags))
    }

    /// vmsplice(2)
    fn vmsplice(pipe: c_int, data: *const IoSliceRaw, count: usize, flags: c_uint) -> isize {
        cancellation_point();
        let flags = SpliceFlags::from_bits_retain(flags);
        pipe::vmsplice(fd(pipe)?, slice(data, count)?, flags)
    }
}

unsafe fn make(ends: *mut [c_int; 2], flags: PipeFlags) -> Result<(), Errno> {
    let ends = get_mut(ends)?;
    let (reader, writer) = pipe::pipe_with(flags)?;
    *ends = [reader.into_raw_fd(), writer.into_raw_fd()];
    Ok(())
}

/// The directory, which is of no importance to an absolute path.
unsafe fn at<'a>(directory: c_int, path: &std::ffi::CStr) -> Result<BorrowedFd<'a>, Errno> {
    match path.to_bytes() {
        [b'/', ..] => Ok(CWD),
        _ => fd(directory),
    }
}
