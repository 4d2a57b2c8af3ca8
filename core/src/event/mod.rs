//! Notification: waiting for events, many at a time, as descriptors.
//!
//! Mirrors eventfd(2), signalfd(2), timerfd_create(2), pidfd_open(2), poll(2) and epoll(7).
//!
//! | what is waited for | use | read gives |
//! |---|---|---|
//! | "look again", from a thread or another process | [`eventfd`] | how often, added up |
//! | permits, one taker each | [`eventfd`] with `SEMAPHORE` | 1 |
//! | a signal | [`signalfd`] | who sent it, and why |
//! | a time, once or again and again | [`timerfd`] | how often it has come |
//! | the end of a process, child or not | [`pidfd`] | nothing; it is readable, and children are waited for |
//! | any of these, or sockets, pipes, FIFOs, POSIX queues | [`poll`] for a few, [`epoll`] for many | |
//! | a word of shared memory | [`crate::futex`], which no descriptor stands for | |
//!
//! All of them are descriptors: they can be sent to another process over a Unix socket, are
//! inherited over fork(2), and here are closed on exec. A wake over an eventfd costs two system
//! calls and a descriptor; over a futex it costs at most one, and none if nobody sleeps.

pub mod epoll;
pub mod eventfd;
pub mod pidfd;
pub mod poll;
pub mod signalfd;
pub mod timerfd;

use rustix::fd::AsFd;
use rustix::io::Errno;

/// Reads the 8 bytes that a counting descriptor gives.
#[inline]
fn read_count(fd: impl AsFd) -> Result<u64, Errno> {
    let mut count = [0; 8];
    match rustix::io::read(fd, &mut count)? {
        8 => Ok(u64::from_ne_bytes(count)),
        _ => Err(Errno::INVAL),
    }
}
