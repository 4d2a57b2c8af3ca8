//! TCP and UDP: std's own types, with what std leaves out.
//!
//! Built on [`linipc_core::socket::inet`], which has the pitfalls. Sending large buffers without a
//! copy is in [`super::zerocopy`].
//!
//! ```
//! use std::io::{Read, Write};
//! use std::time::Duration;
//! use linipc::socket::inet::{LOOPBACK, TcpOptions};
//!
//! let options = TcpOptions::new().no_delay(true).clone();
//! let listener = options.listen(LOOPBACK)?; // Port 0: the kernel chooses.
//! let address = listener.local_addr()?;
//! let mut client = options.connect_deadline(address, Duration::from_secs(5))?;
//! client.write_all(b"ping")?;
//! let mut bytes = [0; 4];
//! listener.accept()?.0.read_exact(&mut bytes)?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use linipc_core::Errno;
use linipc_core::io::{IoSlice, ioctl_fionbio, retry_on_intr};
use linipc_core::socket::inet as core;
use linipc_core::socket::{self, PollFlags, RecvFlags, SendFlags, sockopt};

pub use linipc_core::socket::inet::{KeepAlive, LOOPBACK, Segments, name_to_index};

use super::{wait, when_ready};
use crate::Deadline;

/// How to make a connection, or a listener: what std's own functions have no time to set.
#[derive(Debug, Clone, Default)]
pub struct TcpOptions {
    no_delay: bool,
    keep_alive: Option<KeepAlive>,
    fast_open: bool,
    backlog: Option<u32>,
}

impl TcpOptions {
    /// As std does it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`). A listener's connections inherit it.
    pub fn no_delay(&mut self, no_delay: bool) -> &mut Self {
        self.no_delay = no_delay;
        self
    }

    /// When to ask a silent peer whether it lives. A listener's connections inherit it.
    pub fn keep_alive(&mut self, keep_alive: KeepAlive) -> &mut Self {
        self.keep_alive = Some(keep_alive);
        self
    }

    /// Whether the first data goes with the request to connect (`TCP_FASTOPEN`), if the peer and
    /// `net.ipv4.tcp_fastopen` permit it. See [`TcpExt::fast_open_used`].
    ///
    /// The server may get that data twice: send only what may be repeated. Errors of connecting can
    /// come from the first write.
    pub fn fast_open(&mut self, fast_open: bool) -> &mut Self {
        self.fast_open = fast_open;
        self
    }

    /// How many connections may wait for a listener: as many as the kernel permits
    /// (`net.core.somaxconn`) unless set.
    pub fn backlog(&mut self, connections: u32) -> &mut Self {
        self.backlog = Some(connections);
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// - `CONNREFUSED`: nobody listens. `TIMEDOUT`: no answer. `NETUNREACH`: no way.
    /// - `OPNOTSUPP`: fast open, and bit 0 of `net.ipv4.tcp_fastopen` is off.
    /// - `INVAL`: times to keep alive out of range.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.connect_deadline(address, Deadline::NEVER)
    }

    /// As [`TcpOptions::connect`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`, and those of [`TcpOptions::connect`].
    pub fn connect_deadline(
        &self,
        address: SocketAddr,
        deadline: impl Into<Deadline>,
    ) -> io::Result<TcpStream> {
        let stream = core::tcp(core::family(&address))?;
        self.apply(&stream)?;
        if self.fast_open {
            core::set_fast_open_connect(&stream, true)?;
        }
        ioctl_fionbio(&stream, true)?;
        match socket::connect(&stream, &address) {
            // The attempt goes on, and its end, good or bad, makes the socket writable.
            Err(Errno::INPROGRESS | Errno::INTR) => {
                wait(stream.as_fd(), PollFlags::OUT, deadline.into())?;
                sockopt::socket_error(&stream)??;
            }
            done => done?,
        }
        ioctl_fionbio(&stream, false)?;
        Ok(stream.into())
    }

    /// Listens. As with std, the port can be used again at once after an earlier listener.
    ///
    /// # Errors
    ///
    /// - `ADDRINUSE`: somebody listens there. `ADDRNOTAVAIL`: not an address of this machine.
    /// - `ACCESS`: a port below 1024, without `CAP_NET_BIND_SERVICE`.
    /// - `INVAL`: times to keep alive out of range.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let listener = core::tcp(core::family(&address))?;
        self.apply(&listener)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        socket::bind(&listener, &address)?;
        // The kernel lowers it to its maximum.
        let backlog = self.backlog.unwrap_or(u32::MAX).min(i32::MAX as u32);
        if self.fast_open {
            core::set_fast_open(&listener, backlog)?;
        }
        socket::listen(&listener, backlog as i32)?;
        Ok(listener.into())
    }

    fn apply(&self, socket: impl AsFd) -> io::Result<()> {
        sockopt::set_tcp_nodelay(&socket, self.no_delay)?;
        if self.keep_alive.is_some() {
            core::set_keep_alive(&socket, self.keep_alive)?;
        }
        Ok(())
    }
}

/// What std leaves out of TCP sockets.
pub trait TcpExt: AsFd {
    /// When a silent peer is asked whether it lives, if at all.
    ///
    /// # Errors
    ///
    /// None in practice.
    fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        Ok(core::keep_alive(self)?)
    }

    /// Sets it, in whole seconds, or switches it off.
    ///
    /// # Errors
    ///
    /// `INVAL`: a time of 0 or above 32767 s, or a count of 0 or above 127.
    fn set_keep_alive(&self, keep_alive: Option<KeepAlive>) -> io::Result<()> {
        Ok(core::set_keep_alive(self, keep_alive)?)
    }

    /// Whether data went with the request to connect, and was accepted. Known on either side.
    ///
    /// # Errors
    ///
    /// None in practice.
    fn fast_open_used(&self) -> io::Result<bool> {
        Ok(core::fast_open_used(self)?)
    }
}

impl TcpExt for TcpStream {}
impl TcpExt for TcpListener {}

/// What std leaves out of UDP sockets.
pub trait UdpExt: AsFd {
    /// Sends `bytes` to the connected peer as datagrams of `segment` bytes, the last of which may be
    /// shorter, in as few calls as possible (`UDP_SEGMENT`). Gives how many bytes: fewer than there
    /// are only if an error came after the first call.
    ///
    /// # Errors
    ///
    /// - `INVAL`: `segment` is 0. `MSGSIZE`: it does not fit the path's MTU.
    /// - `DESTADDRREQ`: not connected. `CONNREFUSED`: nobody was there last time.
    /// - `AGAIN` (`WouldBlock`): the send buffer is full, and the socket is non-blocking.
    fn send_segments(&self, bytes: &[u8], segment: u16) -> io::Result<usize> {
        send_all(bytes, segment, |part| {
            core::send_segments(self, part, segment, None, SendFlags::NOSIGNAL)
        })
    }

    /// As [`UdpExt::send_segments`], to an address.
    ///
    /// # Errors
    ///
    /// Those of [`UdpExt::send_segments`] but `DESTADDRREQ`.
    fn send_segments_to(
        &self,
        bytes: &[u8],
        segment: u16,
        address: SocketAddr,
    ) -> io::Result<usize> {
        send_all(bytes, segment, |part| {
            core::send_segments(self, part, segment, Some(&address), SendFlags::NOSIGNAL)
        })
    }

    /// Whether one receive may take several datagrams of one sender (`UDP_GRO`): use
    /// [`UdpExt::receive_segments`] then.
    ///
    /// # Errors
    ///
    /// None in practice.
    fn set_coalescing(&self, on: bool) -> io::Result<()> {
        Ok(core::set_coalescing(self, on)?)
    }

    /// Receives one datagram, or several that lie end to end: [`Segments::split`] separates them.
    /// With [`UdpExt::set_coalescing`], give it 64 KiB.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): none is there, and the socket is non-blocking or has a timeout.
    /// `CONNREFUSED`: an earlier send found nobody.
    fn receive_segments(&self, buffer: &mut [u8]) -> io::Result<Segments> {
        let flags = RecvFlags::empty();
        Ok(retry_on_intr(|| {
            core::receive_segments(self, buffer, flags)
        })?)
    }

    /// As [`UdpExt::receive_segments`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT`, and those of [`UdpExt::receive_segments`].
    fn receive_segments_deadline(
        &self,
        buffer: &mut [u8],
        deadline: impl Into<Deadline>,
    ) -> io::Result<Segments> {
        let flags = RecvFlags::DONTWAIT;
        let received = when_ready(self.as_fd(), PollFlags::IN, deadline.into(), || {
            core::receive_segments(self, buffer, flags)
        })?;
        Ok(received?)
    }

    /// Sends to multicast groups of IPv4 or IPv6 through the interface with this index, of
    /// [`name_to_index`]. 0 lets the kernel choose one by its routes.
    ///
    /// # Errors
    ///
    /// `NODEV`, `ADDRNOTAVAIL`: no such interface. `INVAL`: the socket is bound to another one.
    fn set_multicast_interface(&self, interface: u32) -> io::Result<()> {
        Ok(core::set_multicast_interface(self, interface)?)
    }

    /// Receives what is sent to the multicast group through the interface with this index. 0 lets
    /// the kernel choose one by its routes.
    ///
    /// # Errors
    ///
    /// `INVAL`: not the address of a group. `NODEV`: no such interface. `ADDRINUSE`: joined already.
    fn join(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        Ok(core::join(self, group, interface)?)
    }

    /// Undoes [`UdpExt::join`].
    ///
    /// # Errors
    ///
    /// `ADDRNOTAVAIL`: not joined there.
    fn leave(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        Ok(core::leave(self, group, interface)?)
    }
}

impl UdpExt for UdpSocket {}

/// The most bytes of one send: a datagram of IP, less its headers.
const MOST_BYTES: usize = 65507;
/// The most datagrams of one send that every kernel takes.
const MOST_SEGMENTS: usize = 64;

fn send_all(
    bytes: &[u8],
    segment: u16,
    mut send: impl FnMut(&[IoSlice<'_>]) -> Result<usize, Errno>,
) -> io::Result<usize> {
    if segment == 0 {
        return Err(Errno::INVAL.into());
    }
    let segment = usize::from(segment);
    let most = segment * (MOST_BYTES / segment).clamp(1, MOST_SEGMENTS);
    let mut sent = 0;
    for part in bytes.chunks(most) {
        match retry_on_intr(|| send(&[IoSlice::new(part)])) {
            Ok(len) => sent += len,
            Err(_) if sent > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}
