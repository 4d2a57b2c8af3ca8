//! Lists of descriptors of any length, over any Unix socket.
//!
//! The kernel takes [`MAX_FDS`] descriptors in one message. A [`Sender`] splits a longer list into
//! several messages, a [`Receiver`] joins them, so that both see one list. Each [`Sender::step`]
//! sends one part, each [`Receiver::step`] takes one: between two steps one can wait as one likes.
//!
//! ```
//! use linipc_core::Errno;
//! use linipc_core::socket::fd_list::{Receiver, Sender};
//! use linipc_core::socket::{RecvFlags, SendFlags, SocketType, unix};
//!
//! let (a, b) = unix::pair(SocketType::STREAM)?;
//! let pipe: [_; 2] = linipc_core::pipe::pipe()?.into();
//! let mut sender = Sender::new(&pipe)?;
//! while !sender.step(&a, SendFlags::NOSIGNAL)? {}
//!
//! let mut fds = Vec::new();
//! let mut receiver = Receiver::new(1000);
//! while !receiver.step(&b, RecvFlags::empty(), |fd| fds.push(fd)).unwrap() {}
//! assert_eq!(fds.len(), 2);
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Format
//!
//! A part is one message of 8 bytes, two little-endian numbers of 32 bits: how many descriptors the
//! list has, and how many of them came before this part. Beside them is one `SCM_RIGHTS` with the
//! next ones: 253, or what is left. An empty list is one part without descriptors.
//!
//! # Pitfalls
//!
//! - One list at a time on one socket: parts of two senders that get mixed are
//!   [`Error::Corrupt`], and so are other messages in between. After any error but `AGAIN` and
//!   `INTR` the two sides are out of step: close the socket.
//! - A datagram socket does not tell that its peer has died: wait with a deadline.
//! - A receiver switches on what it likes ([`set_pass_credentials`], [`set_pass_pidfd`]): there is
//!   room for it. A security label (`SO_PASSSEC`) is too long.
//!
//! [`set_pass_credentials`]: super::unix::set_pass_credentials
//! [`set_pass_pidfd`]: super::unix::set_pass_pidfd

use core::fmt;

use rustix::io::{Errno, IoSlice, IoSliceMut};

use super::cmsg::{self, Control, MAX_FDS, Message, SPACE_CREDENTIALS, SPACE_PIDFD, space_fds};
use super::{RecvFlags, ReturnFlags, SendFlags};
use crate::fd::{AsFd, OwnedFd};

/// The first bytes of each part.
const HEADER: usize = 8;

/// How many descriptors the part from `start` has, in a list of `total`.
#[inline]
fn part_len(total: usize, start: usize) -> usize {
    total.saturating_sub(start).min(MAX_FDS)
}

/// Sends one list.
#[derive(Debug)]
pub struct Sender<'l, F> {
    fds: &'l [F],
    sent: usize,
}

impl<'l, F: AsFd> Sender<'l, F> {
    /// A sender of these descriptors, which has sent nothing yet.
    ///
    /// # Errors
    ///
    /// `TOOBIG`: more than 2^32 - 1 of them.
    #[inline]
    pub fn new(fds: &'l [F]) -> Result<Self, Errno> {
        match u32::try_from(fds.len()) {
            Ok(_) => Ok(Self { fds, sent: 0 }),
            Err(_) => Err(Errno::TOOBIG),
        }
    }

    /// Sends the next part; true if it was the last one. To be called until then.
    ///
    /// # Errors
    ///
    /// Those of [`cmsg::sendmsg`]. After `AGAIN` (wait until the socket can be written) and `INTR`,
    /// call it again; after `TOOMANYREFS` too, when the receiver has taken some.
    pub fn step(&mut self, socket: impl AsFd, flags: SendFlags) -> Result<bool, Errno> {
        let end = self.sent + part_len(self.fds.len(), self.sent);
        let part = self.fds.get(self.sent..end).ok_or(Errno::INVAL)?;
        let header = ((self.sent as u64) << 32 | self.fds.len() as u64).to_le_bytes();
        let mut words = [0; space_fds(MAX_FDS)];
        let mut control = Control::new(&mut words);
        control.push_fds(part)?;
        let data = &[IoSlice::new(&header)];
        if cmsg::sendmsg(socket, data, &control, flags)? != HEADER {
            return Err(Errno::MSGSIZE);
        }
        self.sent = end;
        Ok(end == self.fds.len())
    }
}

/// What [`Receiver::step`] could not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The call failed, or descriptors are missing.
    Message(cmsg::Error),
    /// The list is longer than is allowed here.
    TooLong {
        /// How many descriptors it has, says the sender.
        len: usize,
    },
    /// The connection ended before the list did.
    Closed,
    /// What came is not the next part of the list.
    Corrupt,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(error) => error.fmt(f),
            Self::TooLong { len } => write!(f, "a list of {len} descriptors is too long"),
            Self::Closed => f.write_str("the connection ended before the list of descriptors did"),
            Self::Corrupt => f.write_str("this is not the next part of a list of descriptors"),
        }
    }
}

impl core::error::Error for Error {}

impl From<cmsg::Error> for Error {
    #[inline]
    fn from(error: cmsg::Error) -> Self {
        Self::Message(error)
    }
}

impl From<Errno> for Error {
    #[inline]
    fn from(errno: Errno) -> Self {
        Self::Message(errno.into())
    }
}

/// Receives one list.
#[derive(Debug)]
pub struct Receiver {
    /// The most descriptors that are allowed.
    limit: usize,
    /// How many the first part announced.
    total: Option<usize>,
    received: usize,
}

impl Receiver {
    /// A receiver of a list of up to `limit` descriptors, which has received nothing yet.
    #[inline]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            total: None,
            received: 0,
        }
    }

    /// Takes the next part and gives its descriptors to `take`, in order; true if it was the last
    /// one. To be called until then.
    ///
    /// Nothing is given of a part that is not right in all respects. After an error, drop what was
    /// taken before.
    ///
    /// # Errors
    ///
    /// See [`Error`]. After `AGAIN` (wait until the socket can be read) and `INTR`, call it again.
    pub fn step(
        &mut self,
        socket: impl AsFd,
        flags: RecvFlags,
        take: impl FnMut(OwnedFd),
    ) -> Result<bool, Error> {
        let mut header = [0; HEADER];
        let mut words = [0; space_fds(MAX_FDS) + SPACE_CREDENTIALS + SPACE_PIDFD];
        let data = &mut [IoSliceMut::new(&mut header)];
        let part = cmsg::recvmsg(socket, data, &mut words, flags)?;
        if part.bytes == 0 {
            return Err(Error::Closed);
        }
        if part.bytes != HEADER || part.flags.contains(ReturnFlags::TRUNC) {
            return Err(Error::Corrupt);
        }
        let header = u64::from_le_bytes(header);
        let (total, start) = (header as u32 as usize, (header >> 32) as usize);
        if start != self.received || self.total.is_some_and(|known| known != total) {
            return Err(Error::Corrupt);
        }
        if total > self.limit {
            return Err(Error::TooLong { len: total });
        }
        let mut fds = None;
        for message in part.control {
            if let Message::Rights(rights) = message {
                fds = Some(rights);
            }
        }
        let len = part_len(total, start);
        if fds.as_ref().map_or(0, ExactSizeIterator::len) != len {
            return Err(Error::Corrupt);
        }
        fds.into_iter().flatten().for_each(take);
        self.total = Some(total);
        self.received += len;
        Ok(self.received == total)
    }
}
