//! `Result<T, Errno>` as C has it: a value, or -1 and `errno`.

use std::ffi::{c_int, c_void};
use std::ptr;

use linipc_core::Errno;
use linipc_core::fd::{IntoRawFd, OwnedFd};

/// What a C function returns.
pub(crate) trait Return: Copy {
    /// When it failed.
    const FAILED: Self;
}

impl Return for c_int {
    const FAILED: Self = -1;
}

impl Return for isize {
    const FAILED: Self = -1;
}

impl Return for *mut c_void {
    const FAILED: Self = ptr::without_provenance_mut(usize::MAX);
}

impl Return for *mut libc::sem_t {
    const FAILED: Self = ptr::null_mut();
}

/// What core gives, as what C returns.
pub(crate) trait Value<R> {
    fn value(self) -> R;
}

impl<R> Value<R> for R {
    fn value(self) -> R {
        self
    }
}

impl Value<c_int> for () {
    fn value(self) -> c_int {
        0
    }
}

impl Value<c_int> for usize {
    fn value(self) -> c_int {
        self as c_int
    }
}

impl Value<isize> for usize {
    fn value(self) -> isize {
        self as isize
    }
}

impl Value<c_int> for OwnedFd {
    fn value(self) -> c_int {
        self.into_raw_fd()
    }
}

/// What failed.
#[cold]
pub(crate) fn fail<R: Return>(errno: Errno) -> R {
    // SAFETY: The C library gives the address of this thread's variable.
    unsafe { *libc::__errno_location() = errno.raw_os_error() };
    R::FAILED
}

#[inline]
pub(crate) fn give<R: Return, T: Value<R>>(result: Result<T, Errno>) -> R {
    match result {
        Ok(value) => value.value(),
        Err(errno) => fail(errno),
    }
}
