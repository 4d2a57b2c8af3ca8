//! Every way in which Linux processes talk to each other, without libc and without allocation.
//!
//! Each module is one mechanism, named as its man page. Its functions are the system calls, typed:
//! what goes in and out is right by its type, descriptors go in borrowed and come out owned and
//! close-on-exec, and each page says what every error means. All calls inline into the caller.
//! The crate `linipc` has owned handles on `std` with the same module names.
//!
//! ```
//! use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
//! use linipc_core::sysv::{Create, Key, Mode};
//!
//! let queue = msg::get(Key::PRIVATE, Create::Exclusive(Mode::RUSR | Mode::WUSR))?;
//! msg::send(queue, &Message::new(1, *b"hello"), Send::empty())?;
//! let mut message = Message::new(0, [0; 64]);
//! let len = msg::receive(queue, &mut message, Select::First, Receive::empty())?;
//! assert_eq!(message.text.get(..len), Some(&b"hello"[..]));
//! msg::remove(queue)?;
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Mechanisms
//!
//! | mechanism | module | man page |
//! |---|---|---|
//! | file locks: whole file, byte ranges, leases | [`lock`] | flock(2), fcntl_locking(2) |
//! | System V keys and permissions | [`sysv`] | sysvipc(7), ftok(3) |
//! | System V shared memory | [`sysv::shm`] | shmget(2), shmop(2), shmctl(2) |
//! | System V semaphore sets | [`sysv::sem`] | semget(2), semop(2), semctl(2) |
//! | System V message queues | [`sysv::msg`] | msgget(2), msgop(2), msgctl(2) |
//! | POSIX shared memory | [`posix::shm`] | shm_overview(7) |
//! | POSIX semaphores, in the C library's format | [`posix::sem`] | sem_overview(7) |
//! | POSIX message queues | [`posix::mq`] | mq_overview(7) |
//! | memory as a descriptor, seals, secret memory | [`memfd`] | memfd_create(2), memfd_secret(2) |
//! | mapping any of them | [`map`] | mmap(2) |
//! | bytes that a peer may be writing | [`shared`] | |
//! | messages through shared memory, without system calls | [`ring`] | |
//! | locks in shared memory | [`pshared`] | pthread_mutexattr_setpshared(3) |
//! | what makes a lock survive its owner | [`robust`] | get_robust_list(2) |
//! | pipes | [`pipe`] | pipe(7), splice(2), tee(2), vmsplice(2) |
//! | FIFOs | [`fifo`] | fifo(7) |
//! | Unix sockets | [`socket::unix`] | unix(7) |
//! | descriptors, credentials and pidfds in messages | [`socket::cmsg`] | cmsg(3), sendmsg(2), recvmmsg(2) |
//! | TCP and UDP | [`socket::inet`] | tcp(7), udp(7), ip(7) |
//! | sockets between virtual machines and their host | [`socket::vsock`] | vsock(7) |
//! | counters as descriptors | [`event::eventfd`] | eventfd(2) |
//! | signals as descriptors | [`event::signalfd`] | signalfd(2) |
//! | timers as descriptors | [`event::timerfd`] | timerfd_create(2) |
//! | processes as descriptors | [`event::pidfd`] | pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2) |
//! | waiting for many descriptors | [`event::poll`], [`event::epoll`] | poll(2), epoll(7) |
//! | sleeping on a word of memory | [`futex`] | futex(2), futex_waitv(2) |
//! | another process's memory | [`process_vm`] | process_vm_readv(2) |
//! | reading, writing and descriptor flags | [`io`] | read(2), write(2), fcntl(2) |
//!
//! # Trust
//!
//! A peer can write whatever it wants into memory and messages that are shared with it. What it
//! writes is copied out by [`shared::SharedBytes`], checked in the copy, and never lent as a
//! reference; [`map::Region::as_slice`], for peers that are trusted, is `unsafe`. A peer that can
//! truncate a file that we map can kill us with `SIGBUS`: seal the file ([`memfd`]).
//!
//! # Errors
//!
//! The kernel's, as [`Errno`]. `INTR` is returned, not retried: [`io::retry_on_intr`] retries.
//! Nothing here panics, and unknown values from the kernel are passed on.
//!
//! # Features
//!
//! `std`: [`fd::OwnedFd`] and [`fd::BorrowedFd`] are std's own types. Without it they are alike.
//!
//! `zerocopy`: types with the traits of the crate zerocopy are plain values, in
//! [`shared::variable`]'s `Zerocopy`.
//!
//! # Not supported
//!
//! - Systems other than Linux, and architectures other than x86_64, aarch64, riscv64, x86, arm and
//!   s390x. s390x needs `--cfg rustix_use_experimental_asm`, or rustix links libc. On 32-bit x86
//!   rustix can panic when it looks for the vDSO; a program without std can tell it not to, by its
//!   feature `use-explicitly-provided-auxv`.
//! - Notification by thread (`SIGEV_THREAD`): the C library makes that thread, not the kernel.
//! - Rings whose consumers map the memory for reading only: also who only reads must be able to sleep,
//!   which needs a word to write.
//! - Cancellation points: they are the C library's.
//! - io_uring, inotify, fanotify and D-Bus: each has a well-kept crate of its own.
//! - STREAMS, `mkfifo` over a network file system, SCTP, netlink: no IPC between processes of one
//!   Linux machine needs them.

#![no_std]

pub use rustix::io::Errno;

pub mod event;
pub mod fd;
pub mod fifo;
pub mod futex;
pub mod io;
pub mod lock;
pub mod map;
pub mod memfd;
pub mod pipe;
pub mod posix;
pub mod process_vm;
pub mod pshared;
pub mod ring;
pub mod robust;
pub mod shared;
pub mod socket;
pub mod sysv;

#[doc(hidden)]
pub mod sync;

#[doc(hidden)]
#[allow(
    non_camel_case_types,
    non_upper_case_globals,
    reason = "the kernel's own names of calls and structures"
)]
pub mod sys;
