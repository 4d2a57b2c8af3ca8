//! Streams between a virtual machine and its host, in the manner of std's TCP types.
//!
//! Built on [`linipc_core::socket::vsock`], which has the pitfalls.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use linipc::socket::vsock::{Address, Cid, VsockListener, VsockStream};
//!
//! // In the virtual machine:
//! let listener = VsockListener::bind(Address::new(Cid::ANY, 5000))?;
//! let (mut stream, _host) = listener.accept()?;
//! stream.write_all(b"hello, host")?;
//!
//! // On its host, which gave it the number 3:
//! let mut stream = VsockStream::connect(Address::new(Cid::new(3), 5000))?;
//! let mut text = String::new();
//! stream.read_to_string(&mut text)?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::socket;
use linipc_core::socket::vsock as core;

pub use linipc_core::socket::vsock::{Address, Cid, PORT_ANY};

/// The id of this machine.
///
/// # Errors
///
/// `NOENT`: no vsock. `ACCESS`: this system keeps `/dev/vsock` for root.
pub fn local_cid() -> io::Result<Cid> {
    Ok(core::local_cid()?)
}

/// A connection. Reading, writing and the timeouts of both are std's own: to these calls, a stream
/// is a stream.
#[derive(Debug)]
pub struct VsockStream(UnixStream);

impl VsockStream {
    /// Connects to a listener.
    ///
    /// # Errors
    ///
    /// - `AFNOSUPPORT`: the kernel has no vsock. `NODEV`: nothing leads to this machine.
    /// - `CONNRESET`: nobody listens there. `TIMEDOUT`: no answer for two seconds.
    pub fn connect(address: Address) -> io::Result<Self> {
        let stream = core::stream()?;
        // Unlike with TCP, a signal ends the attempt.
        retry_on_intr(|| socket::connect(&stream, &address))?;
        Ok(stream.into())
    }

    /// This end's address.
    ///
    /// # Errors
    ///
    /// `AFNOSUPPORT`: made from a descriptor that is not vsock.
    pub fn local_addr(&self) -> io::Result<Address> {
        Ok(core::local_address(self)?)
    }

    /// The other end's address.
    ///
    /// # Errors
    ///
    /// `NOTCONN`: not connected any more.
    pub fn peer_addr(&self) -> io::Result<Address> {
        Ok(core::peer_address(self)?)
    }

    /// A second handle of the same connection.
    ///
    /// # Errors
    ///
    /// `MFILE`: no descriptor is free.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Closes one direction or both, for all handles and processes.
    ///
    /// # Errors
    ///
    /// `NOTCONN`: not connected any more.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }

    /// Whether reads and writes fail with `WouldBlock` instead of waiting.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.set_nonblocking(nonblocking)
    }

    /// How long a read waits before it fails with `WouldBlock`; `None`: for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(timeout)
    }

    /// How long a write waits before it fails with `WouldBlock`; `None`: for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(timeout)
    }
}

impl Read for VsockStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    #[inline]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(buffers)
    }
}

impl Write for VsockStream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    #[inline]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(buffers)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for &VsockStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    #[inline]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&self.0).read_vectored(buffers)
    }
}

impl Write for &VsockStream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    #[inline]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.0).write_vectored(buffers)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for VsockStream {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for VsockStream {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for VsockStream {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<VsockStream> for OwnedFd {
    fn from(stream: VsockStream) -> Self {
        stream.0.into()
    }
}

impl From<VsockStream> for Stdio {
    fn from(stream: VsockStream) -> Self {
        OwnedFd::from(stream).into()
    }
}

/// A socket that takes connections.
#[derive(Debug)]
pub struct VsockListener(OwnedFd);

impl VsockListener {
    /// Listens at an address, with the longest queue that the kernel permits.
    ///
    /// # Errors
    ///
    /// - `AFNOSUPPORT`: the kernel has no vsock.
    /// - `ADDRNOTAVAIL`: not an id of this machine. `ADDRINUSE`: the port is taken.
    /// - `ACCESS`: a port below 1024, without `CAP_NET_BIND_SERVICE`.
    pub fn bind(address: Address) -> io::Result<Self> {
        let listener = core::stream()?;
        socket::bind(&listener, &address)?;
        // The kernel lowers it to its maximum.
        socket::listen(&listener, i32::MAX)?;
        Ok(Self(listener))
    }

    /// Takes a connection, and says who it is; waits for one.
    ///
    /// # Errors
    ///
    /// - `AGAIN` (`WouldBlock`): none is there, and the listener is non-blocking.
    /// - `MFILE`: no descriptor is free.
    pub fn accept(&self) -> io::Result<(VsockStream, Address)> {
        let (stream, address) = retry_on_intr(|| socket::acceptfrom(self))?;
        let address = address.ok_or(Errno::AFNOSUPPORT)?.try_into()?;
        Ok((stream.into(), address))
    }

    /// The connections, one after the other, without an end.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<VsockStream>> {
        std::iter::repeat_with(|| self.accept().map(|(stream, _)| stream))
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// `AFNOSUPPORT`: made from a descriptor that is not vsock.
    pub fn local_addr(&self) -> io::Result<Address> {
        Ok(core::local_address(self)?)
    }

    /// Whether [`VsockListener::accept`] fails with `WouldBlock` instead of waiting.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(linipc_core::io::ioctl_fionbio(self, nonblocking)?)
    }
}

impl AsFd for VsockListener {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for VsockListener {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for VsockListener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<VsockListener> for OwnedFd {
    fn from(listener: VsockListener) -> Self {
        listener.0
    }
}
