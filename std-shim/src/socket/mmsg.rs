//! Many datagrams in one call.
//!
//! Built on [`linipc_core::socket::mmsg`].
//!
//! ```
//! use std::net::UdpSocket;
//! use linipc::socket::mmsg::{MmsgExt, Outgoing};
//!
//! let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
//! let to = b.local_addr()?;
//! let messages = [b"one".as_slice(), b"two"].map(|data| Outgoing::new(data).to(&to));
//! assert_eq!(a.send_many(&messages)?, 2);
//!
//! let mut buffers = [[0; 16]; 8];
//! for (received, buffer) in b.recv_many(&mut buffers, 0)?.into_iter().zip(&buffers) {
//!     let received = received?;
//!     assert_eq!(received.address, Some(a.local_addr()?));
//!     assert!([b"one", b"two"].contains(&buffer[..received.len].try_into().unwrap()));
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self as unix_net, UnixDatagram};

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::socket::cmsg::{AddressBuffer, Control, space_fds};
use linipc_core::socket::mmsg::{self as core, Incoming};
use linipc_core::socket::{PollFlags, RecvFlags, SendFlags, SocketAddrAny};

use super::cmsg::{self, MAX_FDS, Received, from_any};
use super::unix::{Seqpacket, to_core};
use super::when_ready;
use crate::Deadline;

/// std's address of a family of sockets.
pub trait Address: sealed::Address {}

impl Address for net::SocketAddr {}
impl Address for unix_net::SocketAddr {}

mod sealed {
    use super::{SocketAddrAny, from_any, io, net, to_core, unix_net};

    pub trait Address: Sized {
        /// Whether the family's messages carry descriptors. The kernel ignores them if not.
        const CARRIES_FDS: bool;
        fn to_any(&self) -> io::Result<SocketAddrAny>;
        fn from_any(address: &SocketAddrAny) -> Option<Self>;
    }

    impl Address for net::SocketAddr {
        const CARRIES_FDS: bool = false;

        #[inline]
        fn to_any(&self) -> io::Result<SocketAddrAny> {
            Ok((*self).into())
        }

        #[inline]
        fn from_any(address: &SocketAddrAny) -> Option<Self> {
            Self::try_from(address.clone()).ok()
        }
    }

    impl Address for unix_net::SocketAddr {
        const CARRIES_FDS: bool = true;

        fn to_any(&self) -> io::Result<SocketAddrAny> {
            Ok(to_core(self)?.into())
        }

        fn from_any(address: &SocketAddrAny) -> Option<Self> {
            from_any(address)
        }
    }
}

/// A message to send.
#[derive(Debug)]
pub struct Outgoing<'a, A> {
    data: &'a [u8],
    fds: &'a [BorrowedFd<'a>],
    address: Option<&'a A>,
}

impl<'a, A> Outgoing<'a, A> {
    /// Bytes for the peer that the socket is connected to.
    #[inline]
    pub const fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            fds: &[],
            address: None,
        }
    }

    /// The same, to this address.
    #[inline]
    #[must_use]
    pub const fn to(mut self, address: &'a A) -> Self {
        self.address = Some(address);
        self
    }

    /// The same, with up to [`MAX_FDS`] descriptors. Only Unix sockets carry them.
    #[inline]
    #[must_use]
    pub const fn with_fds(mut self, fds: &'a [BorrowedFd<'a>]) -> Self {
        self.fds = fds;
        self
    }
}

impl<A> Clone for Outgoing<'_, A> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Outgoing<'_, A> {}

/// Sockets whose messages have borders.
///
/// `SIGPIPE` is never raised. At the end of a packet connection every buffer gets 0 bytes.
pub trait MmsgExt: AsFd {
    /// Who sends and receives.
    type Address: Address;

    /// Sends messages in order, in as few calls as possible; waits until all are sent. Gives how
    /// many: fewer than there are only if an error came after the first.
    ///
    /// # Errors
    ///
    /// Of the first message:
    ///
    /// - `INVAL`: more than [`MAX_FDS`] descriptors, or any on a socket that carries none.
    /// - `TOOMANYREFS` with a [`Limit`](crate::error::Limit): too many descriptors are sent and not
    ///   yet received.
    /// - `AGAIN` (`WouldBlock`): it would have to wait, and the socket is non-blocking.
    /// - `MSGSIZE`: longer than the socket takes. Those of sendmsg(2).
    #[inline]
    #[doc(alias = "sendmmsg")]
    fn send_many(&self, messages: &[Outgoing<'_, Self::Address>]) -> io::Result<usize> {
        send(messages, |part| {
            let flags = SendFlags::NOSIGNAL;
            Ok(retry_on_intr(|| core::sendmmsg(self, part, flags)))
        })
    }

    /// Sends as many of the messages as can be sent now; gives how many.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): none. Those of [`MmsgExt::send_many`].
    #[inline]
    fn try_send_many(&self, messages: &[Outgoing<'_, Self::Address>]) -> io::Result<usize> {
        send(messages, |part| {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(retry_on_intr(|| core::sendmmsg(self, part, flags)))
        })
    }

    /// As [`MmsgExt::send_many`], but not beyond the deadline; gives how many were sent until then.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`: none. Those of [`MmsgExt::send_many`].
    #[inline]
    fn send_many_deadline(
        &self,
        messages: &[Outgoing<'_, Self::Address>],
        deadline: impl Into<Deadline>,
    ) -> io::Result<usize> {
        let deadline = deadline.into();
        send(messages, |part| {
            when_ready(self.as_fd(), PollFlags::OUT, deadline, || {
                core::sendmmsg(self, part, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
            })
        })
    }

    /// Waits for a message, and takes with it what else is there: at most one for each buffer, in
    /// their order, each with up to `max_fds` descriptors.
    ///
    /// # Errors
    ///
    /// Of one message, which is lost, with all its descriptors:
    ///
    /// - [`Error::Truncated`](cmsg::Error::Truncated): more descriptors came than `max_fds`.
    /// - `MFILE` with a [`Limit`](crate::error::Limit): not all descriptors could be opened.
    ///
    /// Of the call, which then received nothing: those of recvmsg(2).
    #[inline]
    #[doc(alias = "recvmmsg")]
    fn recv_many<B: AsMut<[u8]>, const N: usize>(
        &self,
        buffers: &mut [B; N],
        max_fds: usize,
    ) -> io::Result<Vec<io::Result<Received<Self::Address>>>> {
        Ok(retry_on_intr(|| {
            receive(self, buffers, max_fds, core::WAIT_FOR_ONE)
        })?)
    }

    /// As [`MmsgExt::recv_many`], without waiting.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): no message is there. Those of [`MmsgExt::recv_many`].
    #[inline]
    fn try_recv_many<B: AsMut<[u8]>, const N: usize>(
        &self,
        buffers: &mut [B; N],
        max_fds: usize,
    ) -> io::Result<Vec<io::Result<Received<Self::Address>>>> {
        Ok(retry_on_intr(|| {
            receive(self, buffers, max_fds, RecvFlags::DONTWAIT)
        })?)
    }

    /// As [`MmsgExt::recv_many`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`, and those of [`MmsgExt::recv_many`].
    #[inline]
    fn recv_many_deadline<B: AsMut<[u8]>, const N: usize>(
        &self,
        buffers: &mut [B; N],
        max_fds: usize,
        deadline: impl Into<Deadline>,
    ) -> io::Result<Vec<io::Result<Received<Self::Address>>>> {
        let received = when_ready(self.as_fd(), PollFlags::IN, deadline.into(), || {
            receive(self, buffers, max_fds, RecvFlags::DONTWAIT)
        })?;
        Ok(received?)
    }
}

impl MmsgExt for net::UdpSocket {
    type Address = net::SocketAddr;
}

impl MmsgExt for UnixDatagram {
    type Address = unix_net::SocketAddr;
}

impl MmsgExt for Seqpacket {
    type Address = unix_net::SocketAddr;
}

/// Calls `send` with the messages, and again with those that are left.
fn send<A: Address>(
    messages: &[Outgoing<'_, A>],
    mut send: impl FnMut(&mut [core::Outgoing<'_>]) -> io::Result<Result<usize, Errno>>,
) -> io::Result<usize> {
    let mut words: Vec<Vec<usize>> = Vec::with_capacity(messages.len());
    let mut addresses = Vec::with_capacity(messages.len());
    for message in messages {
        if message.fds.len() > MAX_FDS || !(message.fds.is_empty() || A::CARRIES_FDS) {
            return Err(Errno::INVAL.into());
        }
        // Without descriptors this allocates nothing.
        words.push(match message.fds.len() {
            0 => Vec::new(),
            count => vec![0; space_fds(count)],
        });
        addresses.push(message.address.map(A::to_any).transpose()?);
    }
    let mut controls = Vec::with_capacity(messages.len());
    for (message, words) in messages.iter().zip(&mut words) {
        let mut control = Control::new(words);
        control.push_fds(message.fds)?;
        controls.push(control);
    }
    let data: Vec<_> = messages
        .iter()
        .map(|one| [IoSlice::new(one.data)])
        .collect();
    let mut headers: Vec<_> = data
        .iter()
        .zip(&controls)
        .zip(&addresses)
        .map(|((data, control), address)| {
            let header = core::Outgoing::new(data, control);
            match address {
                Some(address) => header.to(address),
                None => header,
            }
        })
        .collect();

    let mut sent = 0;
    while let left @ [_, ..] = &mut headers[sent..] {
        match send(left).and_then(|sent| sent.map_err(cmsg::in_flight)) {
            Ok(count) => sent += count,
            Err(_) if sent > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Makes the call once.
fn receive<A: Address, B: AsMut<[u8]>, const N: usize>(
    socket: &(impl AsFd + ?Sized),
    buffers: &mut [B; N],
    max_fds: usize,
    flags: RecvFlags,
) -> Result<Vec<io::Result<Received<A>>>, Errno> {
    let room = cmsg::room(max_fds);
    let mut words = vec![0; N * room];
    let mut rooms = words.chunks_exact_mut(room);
    let mut addresses: [_; N] = array::from_fn(|_| AddressBuffer::uninit());
    let mut spaces = addresses.iter_mut();
    let mut data = buffers
        .each_mut()
        .map(|buffer| [IoSliceMut::new(buffer.as_mut())]);
    let incoming = data.each_mut().map(|data| Incoming {
        data,
        control: rooms.next().unwrap_or_default(),
        address: spaces.next(),
    });
    Ok(core::recvmmsg(socket, incoming, flags)?
        .map(|message| cmsg::take(message.map_err(cmsg::to_io)?, max_fds, A::from_any))
        .collect())
}
