//! Every way in which Linux processes talk to each other, as owned handles.
//!
//! A thin layer over [`linipc_core`], with the same module names, which are the man pages'. `core`
//! makes the calls and says what each error means; here are the handles that own what was opened,
//! std's traits, and conversions to std's own types. Where std has the type, it is used: pipes are
//! [`std::io::PipeReader`] and [`std::io::PipeWriter`], Unix and TCP streams std's, and traits add
//! what std leaves out.
//!
//! ```
//! use linipc::sysv::msg::{Queue, Select};
//!
//! let queue = Queue::private()?;
//! queue.send(2, b"second in line")?;
//! queue.send(1, b"first in line")?;
//! let mut text = [0; 64];
//! let received = queue.receive(Select::UpTo(1), &mut text)?;
//! assert_eq!(&text[..received.len], b"first in line");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Who owns what
//!
//! | module | handle | dropping it |
//! |---|---|---|
//! | [`lock`] | [`lock::Guard`] | unlocks; [`lock::Guard::unlock`] gives the file back |
//! | | [`lock::Lease`] | gives the lease up |
//! | [`shared`] | [`shared::Shared`] | closes, unmaps; unlinks if so opened |
//! | [`pshared`] | a lock, such as [`pshared::mutex::Mutex`] | closes, unmaps; unlinks if so opened |
//! | | a guard, such as [`pshared::mutex::Guard`] | unlocks |
//! | [`ring`] | a producer or consumer, such as [`ring::spsc::Producer`] | leaves, which closes the ring for the other side; unmaps |
//! | [`sysv`] | [`sysv::msg::Queue`], [`sysv::sem::Set`], [`sysv::shm::Segment`] | removes if so opened |
//! | | [`sysv::shm::Attachment`] | detaches |
//! | | [`sysv::sem::Guard`] | gives the semaphore back |
//! | [`posix`] | [`posix::mq::Queue`], [`posix::sem::Semaphore`], [`posix::shm::SharedMemory`] | closes; unlinks if so opened |
//! | | [`posix::mq::Registration`] | ends the notification |
//! | [`memfd`], [`map`] | [`memfd::Memfd`], [`map::Region`] | closes, unmaps |
//! | [`pipe`], [`fifo`] | std's pipe ends | closes |
//! | | [`fifo::Fifo`], which is the name | unlinks if so opened |
//! | [`socket`] | std's sockets, [`socket::unix::Seqpacket`], [`socket::unix::SeqpacketListener`], [`socket::vsock::VsockStream`], [`socket::vsock::VsockListener`] | closes |
//! | | [`socket::unix::Bound`] | closes; unlinks if so opened |
//! | | [`socket::zerocopy::Sender`] | waits until the kernel is done with the buffers, for a time that can be set; leaks those it is not done with |
//! | [`event`] | one for each kind of descriptor | closes |
//! | [`futex`], [`process_vm`] | none: there is nothing to own | |
//!
//! What has a name or a key outlives its users. So it is removed on drop only if that was chosen
//! when it was opened (`remove_on_drop` of System V, `unlink_on_drop` of the rest), by that handle
//! only, in the process that opened it: a child after fork(2) may drop its copy. `persist` takes the
//! choice back. A process that is killed removes nothing.
//!
//! A producer or consumer of a [`ring`] belongs to the process that attached it: after fork(2) only one of
//! the two copies may be used, and dropping the child's leaves nothing.
//!
//! # Waiting
//!
//! A call that waits has up to three forms: plain (waits for ever, and begins again after a
//! signal), `try_…` (does not wait, but fails with [`WouldBlock`](std::io::ErrorKind::WouldBlock),
//! `EAGAIN`), and `…_deadline` with a [`Deadline`], which is made of a
//! [`Duration`](std::time::Duration) or an [`Instant`](std::time::Instant) and ends with
//! [`TimedOut`](std::io::ErrorKind::TimedOut).
//!
//! Calls of a [`ring`] have a fourth form, `…_wait`, with a choice of how to wait.
//!
//! Three do as their models: [`PidFd::try_wait`](event::pidfd::PidFd::try_wait) gives an [`Option`],
//! as std's `Child` does; [`poll`](event::poll::poll()) and [`Epoll::wait`](event::epoll::Epoll::wait)
//! give 0 events when the deadline passes, as in their man pages.
//!
//! # Errors
//!
//! [`std::io::Error`] with the errno kept: see [`error`], also for errors that name a limit.
//!
//! # Features
//!
//! `zerocopy`: types with the traits of the crate zerocopy are plain values, in `shared::Zerocopy`, for
//! [`shared`], [`ring`] and [`pshared`].
//!
//! `cli`: the program `linipc`, whose `compare` sends a file through seventeen mechanisms. Nothing of it
//! is in the library.

pub use linipc_core as core;
pub use linipc_core::Errno;

pub use crate::deadline::Deadline;

mod deadline;
pub mod error;
pub mod event;
pub mod fifo;
pub mod futex;
pub mod lock;
pub mod map;
pub mod memfd;
mod on_drop;
pub mod pipe;
pub mod posix;
pub mod process_vm;
pub mod pshared;
pub mod ring;
pub mod shared;
pub mod socket;
pub mod sysv;

/// The examples of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
