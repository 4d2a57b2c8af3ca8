//! The C library's names over linipc-core: preload it, and existing programs run on linipc.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "the promise of every function here is its man page's: what pointers and descriptors are"
)]
#![allow(clippy::missing_safety_doc, reason = "the same: it is said once, here")]

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "the layouts and calling conventions here are those of 64-bit glibc on x86_64 and aarch64"
);

mod errno;
mod memory;
mod next;
mod stats;

pub mod event;
pub mod lock;
pub mod mq;
pub mod pipe;
pub mod process_vm;
pub mod pthread;
pub mod sem;
pub mod shm;
pub mod socket;
pub mod sysv;

/// A name for C.
macro_rules! c_name {
    ($name:ident) => {
        match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => panic!(),
        }
    };
}
pub(crate) use c_name;

/// Functions with C's names. The body gives a result, of which C gets the value, or -1 and `errno`;
/// with `=> errno` the value is the error, as of the functions of pthreads.
macro_rules! export {
    ($(
        $(#[$meta:meta])*
        fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $out:ty $body:block
    )*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($arg: $type),*) -> $out {
            static CALLS: $crate::stats::Counter =
                $crate::stats::Counter::new($crate::c_name!($name));
            CALLS.count();
            let body = || -> Result<_, linipc_core::Errno> { $body };
            $crate::errno::give(body())
        }
    )*};
}
pub(crate) use export;

unsafe extern "C-unwind" {
    fn pthread_testcancel();
}

/// A cancellation point: here, and not while the call that follows waits.
///
/// # Safety
///
/// Nothing in the caller's frames needs to be dropped.
#[inline]
pub(crate) unsafe fn cancellation_point() {
    pthread_testcancel();
}
