//! Every way in which Linux processes talk to each other, without libc and without allocation.

#![no_std]

pub use rustix::fd;
pub use rustix::io::Errno;

pub mod event;
pub mod fifo;
pub mod futex;
pub mod io;
pub mod lock;
pub mod map;
pub mod memfd;
pub mod pipe;
pub mod posix;
pub mod process_vm;
pub mod shared;
pub mod socket;
pub mod sysv;

#[doc(hidden)]
#[allow(
    non_camel_case_types,
    non_upper_case_globals,
    reason = "the kernel's own names of calls and structures"
)]
pub mod sys;
