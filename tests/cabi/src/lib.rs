//! The C library's names over linipc-core: existing C programs run on linipc unchanged.
//!
//! ```text
//! cargo build --release --manifest-path tests/cabi/Cargo.toml --target-dir target/cabi
//! LINIPC_CABI_STATS=1 LD_PRELOAD=$PWD/target/cabi/release/liblinipc_cabi.so PROGRAM
//! cc program.c target/cabi/release/liblinipc_cabi.a       # or linked: our definitions come first
//! ```
//!
//! `LINIPC_CABI_STATS` has a line for each function that was called, at exit: see [`stats`]. Programs must be
//! dynamic, linked with 64-bit glibc: what is passed on is looked up with dlsym(3), which in a static
//! program finds nothing, and the program is aborted.
//!
//! # What goes where
//!
//! *Yes* is a cancellation point: `cancellation_point` is called first, so a thread that is cancelled
//! before the call does not begin it. Our system calls are not the C library's, so one that waits
//! already is not woken by pthread_cancel(3), and is cancelled at its next point. *No* is none in POSIX either.
//!
//! | C | through | cancellation point |
//! |---|---|---|
//! | `flock` | [`lock::flock`](linipc_core::lock::flock); operations that it does not have: the C library | no |
//! | `fcntl` `fcntl64`: `F_SETLK` `F_SETLKW` `F_GETLK`, and `F_OFD_` | [`try_acquire`](linipc_core::lock::try_acquire), [`acquire`](linipc_core::lock::acquire), [`release`](linipc_core::lock::release), [`holder`](linipc_core::lock::holder), [`held`](linipc_core::lock::held) | the waiting ones: yes |
//! | `fcntl`: `F_SETLEASE` `F_GETLEASE` | [`set_lease`](linipc_core::lock::set_lease), [`lease`](linipc_core::lock::lease) | no |
//! | `fcntl`: all else | the C library | no |
//! | `lockf` `lockf64` | as `fcntl` | `F_LOCK`: yes |
//! | `ftok` | [`sysv::ftok`](linipc_core::sysv::ftok) | no |
//! | `shmget` `shmat` `shmdt` `shmctl` | [`sysv::shm`](linipc_core::sysv::shm): each its function | no |
//! | `semget` `semop` `semtimedop` `semctl` | [`sysv::sem`](linipc_core::sysv::sem): each its function | no |
//! | `msgget` `msgctl` | [`sysv::msg`](linipc_core::sysv::msg): each its function | no |
//! | `msgsnd` `msgrcv` | [`msg::send`](linipc_core::sysv::msg::send), [`msg::receive`](linipc_core::sysv::msg::receive), [`msg::peek`](linipc_core::sysv::msg::peek) | yes |
//! | `shm_open` `shm_unlink` | [`posix::shm`](linipc_core::posix::shm) | no |
//! | `sem_init` `sem_destroy` `sem_post` `sem_trywait` `sem_getvalue` | [`Semaphore`](linipc_core::posix::sem::Semaphore), in glibc's format | no |
//! | `sem_wait` `sem_timedwait` `sem_clockwait` | the same | yes |
//! | `sem_open` `sem_close` `sem_unlink` | [`sem::open_with_file`](linipc_core::posix::sem::open_with_file), and a list of what is open | no |
//! | `mq_open` `__mq_open_2` `mq_close` `mq_unlink` `mq_getattr` `mq_setattr` | [`posix::mq`](linipc_core::posix::mq) | no |
//! | `mq_send` `mq_timedsend` `mq_receive` `mq_timedreceive` | [`mq::send`](linipc_core::posix::mq::send), [`mq::receive`](linipc_core::posix::mq::receive) | yes |
//! | `mq_notify` | [`mq::notify`](linipc_core::posix::mq::notify); `SIGEV_THREAD` by a raw call, for core has no threads | no |
//! | `pipe` `pipe2` `mkfifo` `mkfifoat` | [`pipe::pipe_with`](linipc_core::pipe::pipe_with), [`fifo`](linipc_core::fifo) | no |
//! | `splice` `tee` `vmsplice` | [`pipe`](linipc_core::pipe) | yes, as glibc's |
//! | `socket` `socketpair` `bind` `listen` `shutdown` `getsockname` `getpeername` | [`socket`](linipc_core::socket): each its function; addresses as they are in C's memory, by a `SocketAddrArg` | no |
//! | `accept` `accept4` `connect` | the same | yes |
//! | `send` `sendto` | [`socket::send`](linipc_core::socket::send), [`socket::sendto`](linipc_core::socket::sendto); `MSG_ZEROCOPY` without an address: [`zerocopy::send`](linipc_core::socket::zerocopy::send) | yes |
//! | `recv` `recvfrom` `__recv_chk` `__recvfrom_chk` | [`socket::recv`](linipc_core::socket::recv), [`socket::recvfrom`](linipc_core::socket::recvfrom) | yes |
//! | `sendmsg` | [`cmsg::sendmsg`](linipc_core::socket::cmsg::sendmsg), [`cmsg::sendmsg_to`](linipc_core::socket::cmsg::sendmsg_to): C's control data go message by message into a [`Control`](linipc_core::socket::cmsg::Control) | yes |
//! | `recvmsg` | [`cmsg::recvmsg_unparsed`](linipc_core::socket::cmsg::recvmsg_unparsed): C parses for itself | yes |
//! | `sendmmsg` `recvmmsg` | the same, in a loop as the kernel's: core's `mmsg` has no timeout, and a number of messages that is known when it is compiled | yes, as glibc's |
//! | `getsockopt` `setsockopt` | [`socket::getsockopt`](linipc_core::socket::getsockopt), [`socket::setsockopt`](linipc_core::socket::setsockopt): bytes | no |
//! | `eventfd` `signalfd` `timerfd_create` | [`event`](linipc_core::event): `create`, and close-on-exec taken off | no |
//! | `timerfd_settime` `timerfd_gettime` | [`timerfd::settime`](linipc_core::event::timerfd::settime), [`timerfd::gettime`](linipc_core::event::timerfd::gettime) | no |
//! | `memfd_create` | [`memfd::memfd_create`](linipc_core::memfd::memfd_create) | no |
//! | `process_vm_readv` `process_vm_writev` | [`process_vm`](linipc_core::process_vm) | no |
//! | `pthread_mutex_init` `_lock` `_trylock` `_timedlock` `_clocklock` `_unlock` `_consistent` | robust, or process-shared: [`Mutex`](linipc_core::pshared::mutex::Mutex); all others, adaptive ones, those with a priority ceiling, and those that inherit priority and are not robust: the C library | no |
//! | `pthread_cond_init` `_signal` `_broadcast` | process-shared: [`Condvar`](linipc_core::pshared::condvar::Condvar); private: the C library | no |
//! | `pthread_cond_wait` `_timedwait` `_clockwait` | the same | yes; the mutex is locked then |
//! | `pthread_rwlock_rdlock` `_wrlock` and all that try or have a deadline, `_unlock` | process-shared: [`pthread`], on core's [`Futex`](linipc_core::futex::Futex); private: the C library | no |
//! | `pthread_barrier_wait` `_destroy` | the same | no |
//! | `pthread_mutexattr_*`, `pthread_condattr_*`, `pthread_rwlockattr_*`, `pthread_barrierattr_*`, other `_init` and `_destroy` | not taken: the C library's, whose attributes are read | no |
//!
//! # Differences from the C library
//!
//! - A pointer that is neither null nor valid is our death, where the kernel would have said `EFAULT`.
//! - `shm_open` refuses what is not a regular file; its `O_TRUNC` is a call of its own.
//! - `ipc_perm.__seq` is 0.
//! - `MSG_ZEROCOPY` with an address or control data copies.
//! - A condition variable between processes returns after 50 ms for no reason, which POSIX permits.
//! - All processes that share a condition variable, a read-write lock or a barrier must be preloaded; mutexes
//!   and semaphores have the C library's format.
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
pub mod stats;

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
