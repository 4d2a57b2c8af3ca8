//! Messages that carry descriptors and credentials, on std's Unix sockets and on packet sockets.
//!
//! Built on [`linipc_core::socket::cmsg`] and [`linipc_core::socket::fd_list`], which have the
//! pitfalls and the format of lists.
//!
//! ```
//! use std::fs::File;
//! use linipc::socket::cmsg::CmsgExt;
//! use linipc::socket::unix::UnixStream;
//!
//! let (a, b) = UnixStream::pair()?;
//! a.send_with_fds(b"a file", &[File::open("/dev/null")?])?;
//! let mut text = [0; 16];
//! let received = b.recv_with_fds(&mut text, 1)?;
//! assert_eq!((received.len, received.fds.len()), (6, 1));
//!
//! let many: Vec<File> = (0..300).map(|_| File::open("/dev/null")).collect::<Result<_, _>>()?;
//! a.send_fds(&many)?;
//! assert_eq!(b.recv_fds(1000)?.len(), 300);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::socket::cmsg::{self as core, Control, Message};
use linipc_core::socket::fd_list::{Receiver, Sender};
use linipc_core::socket::{
    PollFlags, RecvFlags, ReturnFlags, SendFlags, SocketAddrAny, SocketType, sockopt,
};

pub use linipc_core::socket::cmsg::{Error, MAX_FDS};
pub use linipc_core::socket::fd_list::Error as ListError;

use super::unix::{Credentials, Seqpacket, from_core, to_core};
use super::when_ready;
use crate::Deadline;
use crate::error::Limit;
use crate::event::pidfd::PidFd;

/// A message that was received.
#[derive(Debug)]
pub struct Received<A = SocketAddr> {
    /// How much of the buffer it fills; 0 is an empty datagram, or the end of a connection.
    pub len: usize,
    /// Whether it was a datagram or packet longer than the buffer, whose rest is lost.
    pub truncated: bool,
    /// The descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Who sent it, if the socket passes credentials.
    pub credentials: Option<Credentials>,
    /// The process that sent it, if the socket passes these. `SRCH`: it is gone, and the kernel is
    /// older than 6.16. `MFILE`: no descriptor was free.
    pub pidfd: Option<io::Result<PidFd>>,
    /// The sender's address, if it has one and there is no connection (and it is not a path of 108
    /// bytes, for which std has no type).
    pub address: Option<A>,
}

/// What can be sent and received beside bytes.
///
/// If control data was cut off, the error is [`Error::Truncated`], inside of an [`io::Error`], or
/// a [`Limit`] of `RLIMIT_NOFILE`; no descriptor stays open, the bytes are lost, and a stream is out
/// of step. `SIGPIPE` is never raised.
pub trait CmsgExt: AsFd {
    /// Sends bytes with up to [`MAX_FDS`] descriptors; gives how many bytes. On a stream these may
    /// be fewer than there are: the descriptors went with the first one.
    ///
    /// # Errors
    ///
    /// - `INVAL`: more than [`MAX_FDS`] descriptors, or no bytes to go with on a stream.
    /// - `TOOMANYREFS` with a [`Limit`]: too many descriptors are sent and not yet received.
    /// - Those of sendmsg(2).
    fn send_with_fds(&self, data: &[u8], fds: &[impl AsFd]) -> io::Result<usize> {
        send(self, data, fds, |data, control| {
            Ok(retry_on_intr(|| {
                core::sendmsg(self, data, control, SendFlags::NOSIGNAL)
            }))
        })
    }

    /// As [`send_with_fds`](Self::send_with_fds), but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`, and those of [`send_with_fds`](Self::send_with_fds).
    fn send_with_fds_deadline(
        &self,
        data: &[u8],
        fds: &[impl AsFd],
        deadline: impl Into<Deadline>,
    ) -> io::Result<usize> {
        let deadline = deadline.into();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        send(self, data, fds, |data, control| {
            when_ready(self.as_fd(), PollFlags::OUT, deadline, || {
                core::sendmsg(self, data, control, flags)
            })
        })
    }

    /// Sends a datagram with up to [`MAX_FDS`] descriptors to an address.
    ///
    /// # Errors
    ///
    /// Those of [`send_with_fds`](Self::send_with_fds); `NOENT`, `CONNREFUSED`: nobody is there.
    fn send_with_fds_to(
        &self,
        data: &[u8],
        fds: &[impl AsFd],
        address: &SocketAddr,
    ) -> io::Result<usize> {
        let address = to_core(address)?;
        send(self, data, fds, |data, control| {
            Ok(retry_on_intr(|| {
                core::sendmsg_to(self, &address, data, control, SendFlags::NOSIGNAL)
            }))
        })
    }

    /// Sends bytes with credentials that the kernel checks. A receiver that passes credentials gets
    /// those of every sender, also without this.
    ///
    /// # Errors
    ///
    /// `PERM`: they are not the caller's. `INVAL`: no such process or user. Those of sendmsg(2).
    fn send_with_credentials(&self, data: &[u8], credentials: Credentials) -> io::Result<usize> {
        let mut words = [0; core::SPACE_CREDENTIALS];
        let mut control = Control::new(&mut words);
        control.push_credentials(credentials)?;
        let data = &[IoSlice::new(data)];
        Ok(retry_on_intr(|| {
            core::sendmsg(self, data, &control, SendFlags::NOSIGNAL)
        })?)
    }

    /// Receives bytes with up to `max_fds` descriptors, and whatever else comes with them.
    ///
    /// # Errors
    ///
    /// - [`Error::Truncated`]: more descriptors came than `max_fds`.
    /// - `MFILE` with a [`Limit`]: not all descriptors could be opened.
    /// - Those of recvmsg(2).
    fn recv_with_fds(&self, data: &mut [u8], max_fds: usize) -> io::Result<Received> {
        receive(data, max_fds, |data, control| {
            loop {
                match core::recvmsg(self, data, control, RecvFlags::empty()) {
                    Err(Error::Errno(Errno::INTR)) => {}
                    done => return take(done.map_err(to_io)?, max_fds, from_any),
                }
            }
        })
    }

    /// As [`recv_with_fds`](Self::recv_with_fds), but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`, and those of [`recv_with_fds`](Self::recv_with_fds).
    fn recv_with_fds_deadline(
        &self,
        data: &mut [u8],
        max_fds: usize,
        deadline: impl Into<Deadline>,
    ) -> io::Result<Received> {
        let deadline = deadline.into();
        receive(data, max_fds, |data, control| {
            when_ready(self.as_fd(), PollFlags::IN, deadline, || {
                let received = core::recvmsg(self, data, control, RecvFlags::DONTWAIT)?;
                Ok(take(received, max_fds, from_any))
            })?
            .map_err(to_io)?
        })
    }

    /// Sends a list of descriptors of any length, for [`recv_fds`](Self::recv_fds). Waits while the
    /// socket is full, also if it is non-blocking.
    ///
    /// One list at a time on one socket: see [`linipc_core::socket::fd_list`].
    ///
    /// # Errors
    ///
    /// - `TOOMANYREFS` with a [`Limit`]: too many descriptors are sent and not yet received.
    /// - `PIPE` and the like: the receiver is gone.
    fn send_fds(&self, fds: &[impl AsFd]) -> io::Result<()> {
        self.send_fds_deadline(fds, Deadline::NEVER)
    }

    /// As [`send_fds`](Self::send_fds), but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`: only a part was sent, close the socket. Those of [`send_fds`](Self::send_fds).
    fn send_fds_deadline(
        &self,
        fds: &[impl AsFd],
        deadline: impl Into<Deadline>,
    ) -> io::Result<()> {
        let deadline = deadline.into();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let mut sender = Sender::new(fds)?;
        while !when_ready(self.as_fd(), PollFlags::OUT, deadline, || {
            sender.step(self, flags)
        })?
        .map_err(in_flight)?
        {}
        Ok(())
    }

    /// Receives a list of up to `limit` descriptors, all or none. Waits for all of it, also if the
    /// socket is non-blocking.
    ///
    /// # Errors
    ///
    /// - A [`ListError`] inside of the error: the list is longer, the connection ended
    ///   (`UnexpectedEof`), or something else came.
    /// - `MFILE` with a [`Limit`]: not all descriptors could be opened.
    ///
    /// Whatever it is, no descriptor stays open, and the two sides are out of step: close the socket.
    fn recv_fds(&self, limit: usize) -> io::Result<Vec<OwnedFd>> {
        self.recv_fds_deadline(limit, Deadline::NEVER)
    }

    /// As [`recv_fds`](Self::recv_fds), but not beyond the deadline. On datagram sockets,
    /// which do not tell that the sender has died, this is the one to use.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`, and those of [`recv_fds`](Self::recv_fds).
    fn recv_fds_deadline(
        &self,
        limit: usize,
        deadline: impl Into<Deadline>,
    ) -> io::Result<Vec<OwnedFd>> {
        let deadline = deadline.into();
        let mut fds = Vec::new();
        let mut receiver = Receiver::new(limit);
        while !when_ready(self.as_fd(), PollFlags::IN, deadline, || {
            receiver.step(self, RecvFlags::DONTWAIT, |fd| fds.push(fd))
        })?
        .map_err(list_to_io)?
        {}
        Ok(fds)
    }
}

impl CmsgExt for UnixStream {}
impl CmsgExt for UnixDatagram {}
impl CmsgExt for Seqpacket {}
impl CmsgExt for OwnedFd {}

const ROOM: usize = core::space_fds(MAX_FDS) + core::SPACE_CREDENTIALS + core::SPACE_PIDFD;

/// Calls `send` with a message made of `data` and `fds`.
fn send(
    socket: &(impl AsFd + ?Sized),
    data: &[u8],
    fds: &[impl AsFd],
    send: impl FnOnce(&[IoSlice<'_>], &Control<'_, '_>) -> io::Result<Result<usize, Errno>>,
) -> io::Result<usize> {
    let lost = data.is_empty() && !fds.is_empty();
    if fds.len() > MAX_FDS || (lost && sockopt::socket_type(socket)? == SocketType::STREAM) {
        return Err(Errno::INVAL.into());
    }
    let mut words = [0; ROOM];
    let mut control = Control::new(&mut words);
    control.push_fds(fds)?;
    send(&[IoSlice::new(data)], &control)?.map_err(in_flight)
}

/// Calls `receive` with `data` and a control buffer for `max_fds` descriptors and all else.
fn receive(
    data: &mut [u8],
    max_fds: usize,
    receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut [usize]) -> io::Result<Received>,
) -> io::Result<Received> {
    let mut words = [0; ROOM];
    receive(&mut [IoSliceMut::new(data)], &mut words[..room(max_fds)])
}

/// The words of a control buffer for `max_fds` descriptors and all else.
pub(super) fn room(max_fds: usize) -> usize {
    ROOM - core::space_fds(MAX_FDS) + core::space_fds(max_fds.min(MAX_FDS))
}

/// Takes everything out of a message, if it has no more than `max_fds` descriptors.
pub(super) fn take<A>(
    message: core::Received<'_>,
    max_fds: usize,
    address: impl FnOnce(&SocketAddrAny) -> Option<A>,
) -> io::Result<Received<A>> {
    let mut received = Received {
        len: message.bytes,
        truncated: message.flags.contains(ReturnFlags::TRUNC),
        fds: Vec::new(),
        credentials: None,
        pidfd: None,
        address: message.address.as_ref().and_then(address),
    };
    for message in message.control {
        match message {
            Message::Rights(fds) => received.fds.extend(fds),
            Message::Credentials(credentials) => received.credentials = Some(credentials),
            Message::Pidfd(pidfd) => {
                received.pidfd = Some(pidfd.map(PidFd::from).map_err(io::Error::from));
            }
            _ => {}
        }
    }
    // The kernel fills all of the control buffer, which is rounded up to words and has room for
    // more than descriptors.
    if received.fds.len() > max_fds {
        return Err(to_io(Error::Truncated));
    }
    Ok(received)
}

pub(super) fn from_any(address: &SocketAddrAny) -> Option<SocketAddr> {
    from_core(&linipc_core::socket::unix::address(address).ok()?)
}

pub(super) fn to_io(error: Error) -> io::Error {
    match error {
        Error::Errno(errno) => errno.into(),
        Error::Refused => nofile(Errno::MFILE, "open descriptors"),
        Error::Truncated => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

fn list_to_io(error: ListError) -> io::Error {
    match error {
        ListError::Message(error) => to_io(error),
        ListError::Closed => io::Error::new(io::ErrorKind::UnexpectedEof, error),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

/// `TOOMANYREFS` with its limit; any other as it is.
pub(super) fn in_flight(errno: Errno) -> io::Error {
    match errno {
        Errno::TOOMANYREFS => nofile(errno, "descriptors that are sent and not yet received"),
        errno => errno.into(),
    }
}

/// The limit of open descriptors, as the reason of `errno`.
fn nofile(errno: Errno, what: &'static str) -> io::Error {
    let limit = Limit {
        errno,
        what,
        value: core::getrlimit(core::Resource::Nofile)
            .current
            .unwrap_or(u64::MAX),
        setting: "RLIMIT_NOFILE",
    };
    limit.into()
}
