//! Sockets: std's own, with what std leaves out.
//!
//! Built on [`linipc_core::socket`], which has the pitfalls.

use std::io;
use std::os::fd::BorrowedFd;

use linipc_core::Errno;

use crate::Deadline;
use crate::event::poll::{PollFd, PollFlags, poll};

pub mod cmsg;
pub mod inet;
pub mod mmsg;
mod seqpacket;
pub mod unix;
pub mod vsock;
pub mod zerocopy;

/// Makes a call that does not wait, each time that `socket` may be ready for it, until it does
/// something else than fail with `AGAIN` or `INTR`.
fn when_ready<T, E: From<Errno> + PartialEq>(
    socket: BorrowedFd<'_>,
    events: PollFlags,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> io::Result<Result<T, E>> {
    loop {
        match attempt() {
            Err(error) if error == Errno::INTR.into() => {}
            Err(error) if error == Errno::AGAIN.into() => wait(socket, events, deadline)?,
            done => return Ok(done),
        }
    }
}

/// Waits until `socket` is ready for one of `events`, or has an error.
fn wait(socket: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(socket, events)];
    match poll(&mut fds, deadline)? {
        0 => Err(Errno::TIMEDOUT.into()),
        _ => Ok(()),
    }
}
