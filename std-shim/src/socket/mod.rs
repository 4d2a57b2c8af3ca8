//! Sockets: std's own, with what std leaves out.
//!
//! Built on [`linipc_core::socket`], which has the pitfalls.
//!
//! ```
//! use std::io::{Read, Write};
//! use linipc::socket::unix::{UnixExt, UnixStream};
//!
//! // std's sockets, to which traits add what std leaves out.
//! let (mut a, mut b) = UnixStream::pair()?;
//! assert_eq!(b.peer_credentials()?.pid as u32, std::process::id());
//! a.write_all(b"hello")?;
//! let mut text = [0; 5];
//! b.read_exact(&mut text)?;
//! assert_eq!(&text, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Which to use
//!
//! | for | use |
//! |---|---|
//! | bytes, on one machine | `UnixStream`, with [`unix::UnixExt`] |
//! | messages with borders, on one machine | [`unix::Seqpacket`], with a connection; `UnixDatagram`, without |
//! | descriptors, and who sent a message | [`cmsg::CmsgExt`] on any of these |
//! | a path that a killed server left, and who may connect | [`unix::BindOptions`] |
//! | other machines | [`inet`]; [`vsock`] between a virtual machine and its host |
//! | many datagrams in one call | [`mmsg`] |
//! | large buffers over a network | [`zerocopy`] |
//!
//! A stream has no borders: one write may be read in parts, and two at once. std's sockets wait as
//! long as `set_read_timeout` and its kin say; the `…_deadline` forms here use poll(2), and leave
//! these timeouts alone.

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
#[inline]
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
#[inline]
fn wait(socket: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(socket, events)];
    match poll(&mut fds, deadline)? {
        0 => Err(Errno::TIMEDOUT.into()),
        _ => Ok(()),
    }
}
