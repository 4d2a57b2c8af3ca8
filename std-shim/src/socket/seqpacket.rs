//! Packet sockets, which std lacks: a part of [`super::unix`].

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;

use linipc_core::Errno;
use linipc_core::io::{ioctl_fionbio, retry_on_intr};
use linipc_core::socket::unix as core;
use linipc_core::socket::{
    self, AddressFamily, PollFlags, RecvFlags, SendFlags, SocketAddrArg, SocketFlags, SocketType,
};

use super::unix::{BACKLOG, BindOptions, SocketAddr, from_core, to_core};
use super::when_ready;
use crate::Deadline;

/// A connected packet socket (`SOCK_SEQPACKET`), which std lacks: like a stream, it has a
/// connection and an order; like a datagram, each send is one receive.
///
/// `SIGPIPE` is never raised. The end of the connection is received as 0 bytes, as an empty packet
/// is: do not send those.
#[derive(Debug)]
pub struct Seqpacket(OwnedFd);

impl Seqpacket {
    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = core::pair(SocketType::SEQPACKET)?;
        Ok((Self(a), Self(b)))
    }

    /// Connects to the listener at a path. Waits while its backlog is full.
    ///
    /// # Errors
    ///
    /// - `NOENT`: no file. `CONNREFUSED`: nobody listens. `PROTOTYPE`: not a packet socket.
    /// - `ACCESS`: no write permission. `NAMETOOLONG`, `INVAL`: not a path for a socket.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_to(&core::path(path.as_ref())?)
    }

    /// Connects to the listener at a path or an abstract name.
    ///
    /// # Errors
    ///
    /// Those of [`Seqpacket::connect`].
    pub fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::connect_to(&to_core(address)?)
    }

    fn connect_to(address: &impl SocketAddrArg) -> io::Result<Self> {
        let socket = core::socket(SocketType::SEQPACKET)?;
        retry_on_intr(|| socket::connect(&socket, address))?;
        Ok(Self(socket))
    }

    /// As [`Seqpacket::connect`], but not beyond the deadline.
    ///
    /// The kernel has no such call, so this one tries with pauses of up to 2 ms.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Seqpacket::connect`].
    pub fn connect_deadline(
        path: impl AsRef<Path>,
        deadline: impl Into<Deadline>,
    ) -> io::Result<Self> {
        Self::connect_to_deadline(&core::path(path.as_ref())?, deadline.into())
    }

    /// As [`Seqpacket::connect_addr`], but not beyond the deadline, as for
    /// [`Seqpacket::connect_deadline`].
    ///
    /// # Errors
    ///
    /// Those of [`Seqpacket::connect_deadline`].
    pub fn connect_addr_deadline(
        address: &SocketAddr,
        deadline: impl Into<Deadline>,
    ) -> io::Result<Self> {
        Self::connect_to_deadline(&to_core(address)?, deadline.into())
    }

    fn connect_to_deadline(address: &impl SocketAddrArg, deadline: Deadline) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        deadline.poll(Errno::AGAIN, || socket::connect(&socket, address))?;
        ioctl_fionbio(&socket, false)?;
        Ok(Self(socket))
    }

    /// Sends one packet, whole; waits while the receiver's queue is full.
    ///
    /// # Errors
    ///
    /// - `MSGSIZE`: longer than the send buffer (`net.core.wmem_default`) takes.
    /// - `PIPE`: the peer is gone. `AGAIN`: it would have to wait, and the socket is non-blocking.
    #[inline]
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL;
        retry_on_intr(|| socket::send(self, packet, flags))?;
        Ok(())
    }

    /// Sends one packet if there is room now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if there is not, and those of [`Seqpacket::send`].
    #[inline]
    pub fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        retry_on_intr(|| socket::send(self, packet, flags))?;
        Ok(())
    }

    /// Sends one packet; waits, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`, and those of [`Seqpacket::send`].
    #[inline]
    pub fn send_deadline(&self, packet: &[u8], deadline: impl Into<Deadline>) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        when_ready(self.as_fd(), PollFlags::OUT, deadline.into(), || {
            socket::send(self, packet, flags)
        })??;
        Ok(())
    }

    /// Receives one packet; gives its length, 0 at the end of the connection.
    ///
    /// # Errors
    ///
    /// - `MSGSIZE`: it was longer than `packet`, and its rest is lost.
    ///   [`recv_with_fds`](super::cmsg::CmsgExt::recv_with_fds) takes what fits, and tells.
    /// - `CONNRESET`: the peer is gone and had not read all. `AGAIN`: nothing is there, and the
    ///   socket is non-blocking.
    #[inline]
    pub fn recv(&self, packet: &mut [u8]) -> io::Result<usize> {
        whole(
            retry_on_intr(|| self.receive(packet, RecvFlags::empty()))?,
            packet,
        )
    }

    /// Receives one packet if it is there now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if it is not, and those of [`Seqpacket::recv`].
    #[inline]
    pub fn try_recv(&self, packet: &mut [u8]) -> io::Result<usize> {
        whole(
            retry_on_intr(|| self.receive(packet, RecvFlags::DONTWAIT))?,
            packet,
        )
    }

    /// Receives one packet; waits, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`, and those of [`Seqpacket::recv`].
    #[inline]
    pub fn recv_deadline(
        &self,
        packet: &mut [u8],
        deadline: impl Into<Deadline>,
    ) -> io::Result<usize> {
        let len = when_ready(self.as_fd(), PollFlags::IN, deadline.into(), || {
            self.receive(packet, RecvFlags::DONTWAIT)
        })??;
        whole(len, packet)
    }

    /// The length of the packet that comes next, which stays; 0 at the end of the connection. Waits
    /// until there is one.
    ///
    /// # Errors
    ///
    /// Those of [`Seqpacket::recv`] but the first.
    pub fn peek_len(&self) -> io::Result<usize> {
        Ok(retry_on_intr(|| self.receive(&mut [], RecvFlags::PEEK))?)
    }

    /// The true length of a packet, which may be more than fitted.
    #[inline]
    fn receive(&self, packet: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
        let (_, len) = socket::recv(self, packet, flags | RecvFlags::TRUNC)?;
        Ok(len)
    }

    /// Shuts down one direction or both.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => socket::Shutdown::Read,
            Shutdown::Write => socket::Shutdown::Write,
            Shutdown::Both => socket::Shutdown::Both,
        };
        Ok(socket::shutdown(self, how)?)
    }

    /// Whether calls fail with `WouldBlock` instead of waiting. This is a property of the socket,
    /// shared with all duplicates of it.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(ioctl_fionbio(self, nonblocking)?)
    }

    /// Another handle of the same socket.
    ///
    /// # Errors
    ///
    /// `MFILE`: no descriptor is free.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

/// The length of a packet that was received, if it fitted.
fn whole(len: usize, packet: &[u8]) -> io::Result<usize> {
    if len > packet.len() {
        return Err(Errno::MSGSIZE.into());
    }
    Ok(len)
}

/// A packet socket that listens.
///
/// It is non-blocking in the kernel and waits with poll(2), so that who comes too late for a
/// connection still has its deadline. A descriptor that comes from elsewhere is used as it is: make
/// it so with [`set_nonblocking`](crate::event::set_nonblocking).
#[derive(Debug)]
pub struct SeqpacketListener(OwnedFd);

impl SeqpacketListener {
    /// Binds to a path, and listens; the same as [`BindOptions::new`] and [`BindOptions::seqpacket`].
    ///
    /// # Errors
    ///
    /// Those of [`BindOptions::listener`].
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(BindOptions::new().seqpacket(path)?.persist())
    }

    /// Binds to a path, an abstract name, or if the address is unnamed, to an abstract name that
    /// the kernel chooses; and listens.
    ///
    /// # Errors
    ///
    /// `ADDRINUSE`: it is taken. Those of bind(2) and listen(2).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        socket::bind(&socket, &to_core(address)?)?;
        socket::listen(&socket, BACKLOG)?;
        Ok(Self(socket))
    }

    /// Takes one connection; waits until there is one.
    ///
    /// # Errors
    ///
    /// `MFILE`, `NFILE`: no descriptor is free; the connection keeps waiting.
    pub fn accept(&self) -> io::Result<Seqpacket> {
        self.accept_deadline(Deadline::NEVER)
    }

    /// Takes one connection if there is one now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if there is none, and those of [`SeqpacketListener::accept`].
    pub fn try_accept(&self) -> io::Result<Seqpacket> {
        Ok(Seqpacket(retry_on_intr(|| socket::accept(self))?))
    }

    /// Takes one connection; waits until there is one, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`SeqpacketListener::accept`].
    pub fn accept_deadline(&self, deadline: impl Into<Deadline>) -> io::Result<Seqpacket> {
        let socket = when_ready(self.as_fd(), PollFlags::IN, deadline.into(), || {
            socket::accept(self)
        })??;
        Ok(Seqpacket(socket))
    }
}

macro_rules! handle {
    ($name:ident) => {
        impl $name {
            /// The socket's own address.
            ///
            /// # Errors
            ///
            /// `InvalidInput`: a path of 108 bytes, for which std has no type.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                from_core(&core::local_address(self)?)
                    .ok_or_else(|| io::ErrorKind::InvalidInput.into())
            }
        }

        impl AsFd for $name {
            #[inline]
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl AsRawFd for $name {
            #[inline]
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_raw_fd()
            }
        }

        impl From<OwnedFd> for $name {
            /// Nothing is checked: calls on what is no such socket fail.
            fn from(socket: OwnedFd) -> Self {
                Self(socket)
            }
        }

        impl From<$name> for OwnedFd {
            fn from(socket: $name) -> Self {
                socket.0
            }
        }
    };
}

handle!(Seqpacket);
handle!(SeqpacketListener);

impl From<Seqpacket> for Stdio {
    fn from(socket: Seqpacket) -> Self {
        socket.0.into()
    }
}
