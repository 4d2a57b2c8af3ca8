//! TCP and UDP, between processes of one machine (the loopback) or of several.
//!
//! Mirrors tcp(7), udp(7), ip(7) and ipv6(7). Sockets are bound, connected and so on with the
//! functions of [`super`], and most options are in [`super::sockopt`]; here are the two kinds of
//! socket, and the options that rustix lacks or that belong together. To send large buffers
//! without a copy there is [`super::zerocopy`].
//!
//! ```
//! use linipc_core::io;
//! use linipc_core::socket::{self, AddressFamily, inet, sockopt};
//!
//! let listener = inet::tcp(AddressFamily::INET)?;
//! socket::bind(&listener, &inet::LOOPBACK)?; // Port 0: the kernel chooses.
//! socket::listen(&listener, 16)?;
//!
//! let client = inet::tcp(AddressFamily::INET)?;
//! sockopt::set_tcp_nodelay(&client, true)?;
//! socket::connect(&client, &inet::local_address(&listener)?)?;
//! let server = socket::accept(&listener)?;
//! io::write(&client, b"ping")?;
//! assert_eq!(io::read(&server, &mut [0; 16])?, 4);
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - Anybody on the machine can connect to a port on the loopback, whatever user he is. A Unix
//!   socket has permissions and credentials; prefer it when the peer is local for certain.
//! - Small writes wait for an acknowledgement of earlier ones (Nagle): for requests and replies set
//!   `sockopt::set_tcp_nodelay`.
//! - UDP loses datagrams also on the loopback, when the receiver's buffer is full, and says nothing.
//! - A socket that is bound to port P of any address also gets the groups at P that *others* on this
//!   machine joined. Bind to the group's address to get its datagrams only.
//! - A closed TCP port cannot be bound for a minute while old connections linger, unless
//!   `sockopt::set_socket_reuseaddr` is set before binding.

use core::slice::Chunks;
use core::time::Duration;

use linux_raw_sys::net::{
    SOL_TCP, SOL_UDP, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_INFO, TCPI_OPT_SYN_DATA,
};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{SocketAddrAny, ipproto, sockopt};

use super::cmsg::{self, Control, Message};
use super::{AddressFamily, RecvFlags, ReturnFlags, SendFlags, SocketType, get_option, set_option};
use crate::fd::{AsFd, OwnedFd};
use crate::sys::abi;

pub use rustix::net::netdevice::name_to_index;
pub use rustix::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// 127.0.0.1, at a port that the kernel chooses when it is bound.
pub const LOOPBACK: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// `int socket(int family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP)`: a new TCP socket, of `INET`
/// or `INET6`.
///
/// # Errors
///
/// `AFNOSUPPORT`: the kernel has no such family. Those of [`super::socket()`].
///
/// # References
///
/// - [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html)
#[inline]
pub fn tcp(family: AddressFamily) -> Result<OwnedFd, Errno> {
    super::socket(family, SocketType::STREAM, Some(ipproto::TCP))
}

/// `int socket(int family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP)`: a new UDP socket, of `INET`
/// or `INET6`.
///
/// # Errors
///
/// `AFNOSUPPORT`: the kernel has no such family. Those of [`super::socket()`].
///
/// # References
///
/// - [udp(7)](https://man7.org/linux/man-pages/man7/udp.7.html)
#[inline]
pub fn udp(family: AddressFamily) -> Result<OwnedFd, Errno> {
    super::socket(family, SocketType::DGRAM, Some(ipproto::UDP))
}

/// The family of sockets that can use this address.
#[inline]
pub const fn family(address: &SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

/// `int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen)`: where it is bound.
///
/// # Errors
///
/// `AFNOSUPPORT`: neither `INET` nor `INET6`. `NOTSOCK`: no socket at all.
///
/// # References
///
/// - [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html)
#[inline]
#[doc(alias = "getsockname")]
pub fn local_address(socket: impl AsFd) -> Result<SocketAddr, Errno> {
    rustix::net::getsockname(socket)?.try_into()
}

/// `int getpeername(int sockfd, struct sockaddr *addr, socklen_t *addrlen)`: whom it talks to.
///
/// # Errors
///
/// `NOTCONN`: nobody. Those of [`local_address`].
///
/// # References
///
/// - [getpeername(2)](https://man7.org/linux/man-pages/man2/getpeername.2.html)
#[inline]
#[doc(alias = "getpeername")]
pub fn peer_address(socket: impl AsFd) -> Result<SocketAddr, Errno> {
    match rustix::net::getpeername(socket)? {
        Some(address) => address.try_into(),
        None => Err(Errno::NOTCONN),
    }
}

/// When to ask a silent TCP peer whether it lives. Whole seconds: parts are rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// `TCP_KEEPIDLE`: how long it may be silent.
    #[doc(alias = "TCP_KEEPIDLE")]
    pub idle: Duration,
    /// `TCP_KEEPINTVL`: from one question to the next.
    #[doc(alias = "TCP_KEEPINTVL")]
    pub interval: Duration,
    /// `TCP_KEEPCNT`: after how many without an answer the connection is `TIMEDOUT`.
    #[doc(alias = "TCP_KEEPCNT")]
    pub count: u32,
}

/// `setsockopt` of `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT` and `SO_KEEPALIVE`: switches it
/// on with these times, or off.
///
/// # Errors
///
/// - `INVAL`: a time of 0 or above 32767 s, or a count of 0 or above 127. Keep-alive stays as it
///   was, though the values before the wrong one are set.
/// - `NOPROTOOPT`, `OPNOTSUPP`: not a TCP socket.
///
/// # References
///
/// - [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html), `TCP_KEEPIDLE`
#[inline]
#[doc(alias = "SO_KEEPALIVE")]
pub fn set_keep_alive(socket: impl AsFd, keep_alive: Option<KeepAlive>) -> Result<(), Errno> {
    let socket = socket.as_fd();
    if let Some(times) = keep_alive {
        sockopt::set_tcp_keepidle(socket, times.idle)?;
        sockopt::set_tcp_keepintvl(socket, times.interval)?;
        sockopt::set_tcp_keepcnt(socket, times.count)?;
    }
    sockopt::set_socket_keepalive(socket, keep_alive.is_some())
}

/// `getsockopt` of the same: the times, or `None` if it is off.
///
/// # Errors
///
/// `NOPROTOOPT`, `OPNOTSUPP`: not a TCP socket.
///
/// # References
///
/// - [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html), `TCP_KEEPIDLE`
#[inline]
pub fn keep_alive(socket: impl AsFd) -> Result<Option<KeepAlive>, Errno> {
    let socket = socket.as_fd();
    let times = KeepAlive {
        idle: sockopt::tcp_keepidle(socket)?,
        interval: sockopt::tcp_keepintvl(socket)?,
        count: sockopt::tcp_keepcnt(socket)?,
    };
    Ok(sockopt::socket_keepalive(socket)?.then_some(times))
}

/// `setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, queue)` of a listener: accepts data that comes with
/// the request to connect, for up to `queue` connections that are not complete yet. 0: none.
///
/// Needs bit 1 (value 2) of `net.ipv4.tcp_fastopen` to have any effect.
///
/// # Errors
///
/// `INVAL`: more than `i32::MAX`, or the socket is neither new nor listening. `NOPROTOOPT`: not
/// TCP.
///
/// # References
///
/// - [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html), `TCP_FASTOPEN`
#[inline]
#[doc(alias = "TCP_FASTOPEN")]
pub fn set_fast_open(listener: impl AsFd, queue: u32) -> Result<(), Errno> {
    set_option(listener.as_fd(), SOL_TCP, TCP_FASTOPEN, queue)
}

/// `setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, on)` of a new socket: the first write after
/// connect(2) goes with the request to connect, if the server gave a cookie earlier.
///
/// Connecting then returns at once, and its errors come from the first write. The server may get
/// that data twice: send only what may be repeated.
///
/// # Errors
///
/// `OPNOTSUPP`: bit 0 of `net.ipv4.tcp_fastopen` is off. `INVAL`: the socket is not new.
///
/// # References
///
/// - [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html), `TCP_FASTOPEN_CONNECT`
#[inline]
#[doc(alias = "TCP_FASTOPEN_CONNECT")]
pub fn set_fast_open_connect(socket: impl AsFd, on: bool) -> Result<(), Errno> {
    set_option(socket.as_fd(), SOL_TCP, TCP_FASTOPEN_CONNECT, on.into())
}

/// `getsockopt(fd, IPPROTO_TCP, TCP_INFO)`, `TCPI_OPT_SYN_DATA`: whether data went with the request
/// to connect, and was accepted. Known on either side.
///
/// # Errors
///
/// `NOPROTOOPT`, `OPNOTSUPP`: not a TCP socket.
///
/// # References
///
/// - [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html), `TCP_INFO`
#[inline]
#[doc(alias = "TCPI_OPT_SYN_DATA")]
pub fn fast_open_used(socket: impl AsFd) -> Result<bool, Errno> {
    // The first eight bytes of `struct tcp_info`, of which the sixth is `tcpi_options`.
    let mut info = [0; 2];
    get_option(socket.as_fd(), SOL_TCP, TCP_INFO, &mut info)?;
    let [_, second] = info;
    let [_, options, ..] = second.to_ne_bytes();
    Ok(u32::from(options) & TCPI_OPT_SYN_DATA != 0)
}

/// `IP_ADD_MEMBERSHIP` or `IPV6_ADD_MEMBERSHIP`: receives what is sent to the multicast group
/// through this interface. 0 lets the kernel choose one by its routes.
///
/// For sending, see `set_ip_multicast_if_with_ifindex`, `set_ipv6_multicast_if` and their kin in
/// [`super::sockopt`]. [`name_to_index`] finds an interface.
///
/// # Errors
///
/// - `INVAL`: not the address of a group. `NODEV`: no such interface, or none has a route.
/// - `ADDRINUSE`: joined already. `NOBUFS`: more than `net.ipv4.igmp_max_memberships` groups.
/// - `NOPROTOOPT`: a socket of the other family.
///
/// # References
///
/// - [ip(7)](https://man7.org/linux/man-pages/man7/ip.7.html), `IP_ADD_MEMBERSHIP`
#[inline]
#[doc(alias = "IP_ADD_MEMBERSHIP")]
#[doc(alias = "IPV6_ADD_MEMBERSHIP")]
pub fn join(socket: impl AsFd, group: IpAddr, interface: u32) -> Result<(), Errno> {
    let any = Ipv4Addr::UNSPECIFIED;
    match group {
        IpAddr::V4(group) => {
            sockopt::set_ip_add_membership_with_ifindex(socket, &group, &any, interface)
        }
        IpAddr::V6(group) => sockopt::set_ipv6_add_membership(socket, &group, interface),
    }
}

/// `IP_DROP_MEMBERSHIP` or `IPV6_DROP_MEMBERSHIP`: undoes [`join`].
///
/// # Errors
///
/// `ADDRNOTAVAIL`: not joined there. `NODEV`, `NOPROTOOPT`: as for [`join`].
///
/// # References
///
/// - [ip(7)](https://man7.org/linux/man-pages/man7/ip.7.html), `IP_DROP_MEMBERSHIP`
#[inline]
#[doc(alias = "IP_DROP_MEMBERSHIP")]
#[doc(alias = "IPV6_DROP_MEMBERSHIP")]
pub fn leave(socket: impl AsFd, group: IpAddr, interface: u32) -> Result<(), Errno> {
    let any = Ipv4Addr::UNSPECIFIED;
    match group {
        IpAddr::V4(group) => {
            sockopt::set_ip_drop_membership_with_ifindex(socket, &group, &any, interface)
        }
        IpAddr::V6(group) => sockopt::set_ipv6_drop_membership(socket, &group, interface),
    }
}

/// `IP_MULTICAST_IF` or `IPV6_MULTICAST_IF`: sends to groups through the interface with this index,
/// whatever the routes say; 0 undoes that. An IPv6 socket has one choice for each family, and gets
/// both.
///
/// # Errors
///
/// - `ADDRNOTAVAIL` (IPv4), `NODEV` (IPv6): no such interface.
/// - `INVAL`: the socket is bound to another interface.
///
/// # References
///
/// - [ip(7)](https://man7.org/linux/man-pages/man7/ip.7.html), `IP_MULTICAST_IF`
#[inline]
#[doc(alias = "IP_MULTICAST_IF")]
#[doc(alias = "IPV6_MULTICAST_IF")]
pub fn set_multicast_interface(socket: impl AsFd, interface: u32) -> Result<(), Errno> {
    let any = Ipv4Addr::UNSPECIFIED;
    if sockopt::socket_domain(&socket)? == AddressFamily::INET6 {
        sockopt::set_ipv6_multicast_if(&socket, interface)?;
    }
    // IPv6 sockets take IPv4's options.
    sockopt::set_ip_multicast_if_with_ifindex(socket, &any, &any, interface)
}

/// `setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, bytes)`: cuts each send into datagrams of `bytes`, the
/// last of which may be shorter. 0: does not cut.
///
/// # Errors
///
/// `NOPROTOOPT`, `OPNOTSUPP`: not a UDP socket.
///
/// # References
///
/// - [udp(7)](https://man7.org/linux/man-pages/man7/udp.7.html), `UDP_SEGMENT`
#[inline]
#[doc(alias = "UDP_SEGMENT")]
#[doc(alias = "GSO")]
pub fn set_segment_size(socket: impl AsFd, bytes: u16) -> Result<(), Errno> {
    set_option(socket.as_fd(), SOL_UDP, abi::UDP_SEGMENT, bytes.into())
}

/// `ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags)` with `UDP_SEGMENT`: sends
/// `data` as datagrams of `segment` bytes, the last of which may be shorter, in one call; gives how
/// many bytes, which are all. To the connected peer if there is no address. If `segment` is 0, as
/// one datagram.
///
/// # Errors
///
/// - `INVAL`: more than 128 datagrams (64 in older kernels). `MSGSIZE`: more than 65507 bytes
///   together, or a segment does not fit the path's MTU.
/// - `IO`: the device cannot do it with these options (no checksums).
/// - `DESTADDRREQ`: no address, and not connected. `CONNREFUSED`: nobody was there last time.
/// - `AGAIN`: the send buffer is full, and the socket is non-blocking. `INTR`: a signal was caught.
///
/// # References
///
/// - [udp(7)](https://man7.org/linux/man-pages/man7/udp.7.html), `UDP_SEGMENT`
#[inline]
pub fn send_segments(
    socket: impl AsFd,
    data: &[IoSlice<'_>],
    segment: u16,
    address: Option<&SocketAddr>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut words = [0; cmsg::space(size_of::<u16>())];
    let mut control = Control::new(&mut words);
    control.push(SOL_UDP, abi::UDP_SEGMENT, &segment.to_ne_bytes())?;
    match address {
        Some(address) => cmsg::sendmsg_to(socket, address, data, &control, flags),
        None => cmsg::sendmsg(socket, data, &control, flags),
    }
}

/// `setsockopt(fd, IPPROTO_UDP, UDP_GRO, on)`: lets one receive take several datagrams of one
/// sender, if they came together. Use [`receive_segments`], and a buffer of 64 KiB.
///
/// # Errors
///
/// `NOPROTOOPT`, `OPNOTSUPP`: not a UDP socket.
///
/// # References
///
/// - [udp(7)](https://man7.org/linux/man-pages/man7/udp.7.html), `UDP_GRO`
#[inline]
#[doc(alias = "UDP_GRO")]
#[doc(alias = "GRO")]
pub fn set_coalescing(socket: impl AsFd, on: bool) -> Result<(), Errno> {
    set_option(socket.as_fd(), SOL_UDP, abi::UDP_GRO, on.into())
}

/// Datagrams that one call received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// The bytes of all of them together.
    pub len: usize,
    /// The length of each but the last, which may be shorter. `None`: there is one only.
    pub segment: Option<usize>,
    /// Who sent them.
    pub from: Option<SocketAddr>,
    /// `MSG_TRUNC`: the buffer was too small, and the rest is lost.
    pub truncated: bool,
}

impl Segments {
    /// The datagrams in the buffer that they were received into. An empty one is left out.
    #[inline]
    pub fn split(self, buffer: &[u8]) -> Chunks<'_, u8> {
        let bytes = buffer.get(..self.len).unwrap_or(buffer);
        bytes.chunks(self.segment.unwrap_or(self.len).max(1))
    }
}

/// `ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags)` with `UDP_GRO`: receives one
/// datagram, or with [`set_coalescing`] several that lie end to end.
///
/// # Errors
///
/// - `AGAIN`: none is there, and the socket is non-blocking. `INTR`: a signal was caught.
/// - `CONNREFUSED`: an earlier send found nobody.
/// - `NOBUFS`: other options made more control data than there is room for (512 bytes); the
///   datagrams are lost.
///
/// # References
///
/// - [udp(7)](https://man7.org/linux/man-pages/man7/udp.7.html), `UDP_GRO`
#[inline]
pub fn receive_segments(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Result<Segments, Errno> {
    let mut control = [0; 64];
    let data = &mut [IoSliceMut::new(buffer)];
    let received = match cmsg::recvmsg(socket, data, &mut control, flags) {
        Ok(received) => received,
        Err(cmsg::Error::Errno(error)) => return Err(error),
        Err(_) => return Err(Errno::NOBUFS),
    };
    let segment = received
        .control
        .into_iter()
        .find_map(|message| match message {
            Message::Other(raw) if (raw.level, raw.kind) == (SOL_UDP, abi::UDP_GRO) => {
                let size = raw.payload.first_chunk()?;
                usize::try_from(i32::from_ne_bytes(*size)).ok()
            }
            _ => None,
        });
    Ok(Segments {
        len: received.bytes,
        segment,
        from: received.address.and_then(from_any),
        truncated: received.flags.contains(ReturnFlags::TRUNC),
    })
}

#[inline]
fn from_any(address: SocketAddrAny) -> Option<SocketAddr> {
    address.try_into().ok()
}
