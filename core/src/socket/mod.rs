//! Sockets: streams, datagrams and packets, on one machine or several.
//!
//! Mirrors socket(2) and socket(7). What all families share is here, as rustix has it;
//! [`socket()`], [`socketpair`], [`accept`] and [`acceptfrom`] differ from the C functions in that
//! their descriptors are close-on-exec. [`unix`] has addresses and credentials, [`cmsg`] messages
//! that carry descriptors, [`mmsg`] many messages in one call, and [`fd_list`] long lists of
//! descriptors. [`inet`] has TCP and UDP, [`vsock`] virtual machines, [`zerocopy`] large sends.
//!
//! ```
//! use linipc_core::socket::{self, AddressFamily, RecvFlags, SendFlags, SocketType};
//!
//! let (a, b) = socket::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
//! socket::send(&a, b"hello", SendFlags::NOSIGNAL)?;
//! let mut buf = [0; 16];
//! let (_, len) = socket::recv(&b, &mut buf, RecvFlags::empty())?;
//! assert_eq!(&buf[..len], b"hello");
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - Sending to a stream whose peer is gone raises `SIGPIPE` (Rust's std ignores it at start-up),
//!   unless [`SendFlags::NOSIGNAL`].
//! - A stream has no borders: one send may be received in several parts, and several sends at once.
//!   Datagrams and packets have them: what does not fit into the receiver's buffer is lost, and only
//!   [`ReturnFlags::TRUNC`], or [`RecvFlags::TRUNC`], which gives the true length, tells.
//! - rustix's own `socket_peercred` and decoder of control messages must not be used with peers in
//!   another PID namespace, nor with sockets that have no peer: their process id is 0, which
//!   rustix's type cannot hold. Use [`unix::peer_credentials`] and [`cmsg`].
//! - `SocketAddrUnix::try_from(SocketAddrAny)` panics on a path of 108 bytes, and takes the address
//!   of an unnamed socket for a name. Use [`unix::address`].

use core::ptr;

use rustix::io::Errno;

use crate::fd::{AsFd, BorrowedFd, OwnedFd};
use crate::sys::{abi, call, own, own_pair};

pub mod cmsg;
pub mod fd_list;
pub mod inet;
pub mod mmsg;
pub mod unix;
pub mod vsock;
pub mod zerocopy;

pub use crate::event::poll::{PollFd, PollFlags, poll};
pub use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque, SocketAddrStorage};
pub use rustix::net::{
    AddressFamily, Protocol, RecvFlags, ReturnFlags, SendFlags, Shutdown, SocketAddrAny,
    SocketFlags, SocketType, bind, connect, connect_unspec, getpeername, getsockname, listen, recv,
    recvfrom, shutdown,
};

/// `int socket(int domain, int type, int protocol)` with `SOCK_CLOEXEC`: a new socket.
///
/// # Errors
///
/// - `AFNOSUPPORT`, `PROTONOSUPPORT`, `INVAL`: the kernel has no such family, type or protocol.
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system.
/// - `ACCESS`, `PERM`: not allowed. `NOBUFS`, `NOMEM`: no memory.
///
/// # References
///
/// - [socket(2)](https://man7.org/linux/man-pages/man2/socket.2.html)
#[inline]
pub fn socket(
    domain: AddressFamily,
    kind: SocketType,
    protocol: Option<Protocol>,
) -> Result<OwnedFd, Errno> {
    socket_with(domain, kind, SocketFlags::CLOEXEC, protocol)
}

/// `int socket(int domain, int type, int protocol)`: a new socket, with the flags as they are.
///
/// # Errors
///
/// Those of [`socket()`].
///
/// # References
///
/// - [socket(2)](https://man7.org/linux/man-pages/man2/socket.2.html)
#[inline]
pub fn socket_with(
    domain: AddressFamily,
    kind: SocketType,
    flags: SocketFlags,
    protocol: Option<Protocol>,
) -> Result<OwnedFd, Errno> {
    let kind = kind.as_raw() | flags.bits();
    let protocol = protocol.map_or(0, |protocol| protocol.as_raw().get());
    // SAFETY: The call takes no pointers.
    let fd = unsafe { call!(__NR_socket, u32::from(domain.as_raw()), kind, protocol) }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(fd) }
}

/// `int socketpair(int domain, int type, int protocol, int sv[2])` with `SOCK_CLOEXEC`: two
/// sockets that are connected to each other.
///
/// # Errors
///
/// Those of [`socket()`]; `OPNOTSUPP` for every family but Unix (and TIPC).
///
/// # References
///
/// - [socketpair(2)](https://man7.org/linux/man-pages/man2/socketpair.2.html)
#[inline]
pub fn socketpair(
    domain: AddressFamily,
    kind: SocketType,
    protocol: Option<Protocol>,
) -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair_with(domain, kind, SocketFlags::CLOEXEC, protocol)
}

/// `int socketpair(int domain, int type, int protocol, int sv[2])`: two sockets that are connected to
/// each other, with the flags as they are.
///
/// # Errors
///
/// Those of [`socketpair`].
///
/// # References
///
/// - [socketpair(2)](https://man7.org/linux/man-pages/man2/socketpair.2.html)
#[inline]
pub fn socketpair_with(
    domain: AddressFamily,
    kind: SocketType,
    flags: SocketFlags,
    protocol: Option<Protocol>,
) -> Result<(OwnedFd, OwnedFd), Errno> {
    let kind = kind.as_raw() | flags.bits();
    let protocol = protocol.map_or(0, |protocol| protocol.as_raw().get());
    let domain = u32::from(domain.as_raw());
    let mut fds = [0_u32; 2];
    // SAFETY: The call writes two descriptors.
    unsafe { call!(__NR_socketpair, domain, kind, protocol, fds.as_mut_ptr()) }?;
    // SAFETY: The call made them, and nobody else knows of them.
    unsafe { own_pair(fds) }
}

/// `int accept4(int sockfd, NULL, NULL, SOCK_CLOEXEC)`: takes one connection that waits.
///
/// # Errors
///
/// - `AGAIN`: none waits, and the socket is non-blocking.
/// - `INVAL`: it does not listen. `OPNOTSUPP`: not a stream or packet socket.
/// - `CONNABORTED`: the connection ended meanwhile. `INTR`: a signal was caught.
/// - `MFILE`, `NFILE`: no descriptor is free; the connection keeps waiting.
///
/// # References
///
/// - [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html)
#[inline]
#[doc(alias = "accept4")]
pub fn accept(listener: impl AsFd) -> Result<OwnedFd, Errno> {
    accept_with(listener, SocketFlags::CLOEXEC)
}

/// `int accept4(int sockfd, NULL, NULL, int flags)`: [`accept`] with the flags as they are.
///
/// # Errors
///
/// Those of [`accept`].
///
/// # References
///
/// - [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html)
#[inline]
pub fn accept_with(listener: impl AsFd, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let (address, flags) = (ptr::null::<u8>(), flags.bits());
    // SAFETY: The call writes no address, as there is no place for one.
    let fd = unsafe { call!(__NR_accept4, listener.as_fd(), address, address, flags) }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(fd) }
}

/// `int accept4(int sockfd, struct sockaddr *addr, socklen_t *addrlen, SOCK_CLOEXEC)`: takes one
/// connection, with the address of its peer if it has one.
///
/// # Errors
///
/// Those of [`accept`].
///
/// # References
///
/// - [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html)
#[inline]
pub fn acceptfrom(listener: impl AsFd) -> Result<(OwnedFd, Option<SocketAddrAny>), Errno> {
    acceptfrom_with(listener, SocketFlags::CLOEXEC)
}

/// `int accept4(int sockfd, struct sockaddr *addr, socklen_t *addrlen, int flags)`: [`acceptfrom`] with
/// the flags as they are.
///
/// # Errors
///
/// Those of [`accept`].
///
/// # References
///
/// - [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html)
#[inline]
pub fn acceptfrom_with(
    listener: impl AsFd,
    flags: SocketFlags,
) -> Result<(OwnedFd, Option<SocketAddrAny>), Errno> {
    let mut address = cmsg::AddressBuffer::uninit();
    let mut len = size_of_val(&address) as u32;
    // SAFETY: The call writes at most `len` bytes of an address, and its length.
    let fd = unsafe {
        call!(
            __NR_accept4,
            listener.as_fd(),
            address.as_mut_ptr(),
            &raw mut len,
            flags.bits()
        )
    }?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    let fd = unsafe { own(fd) }?;
    // SAFETY: The call wrote an address of this length.
    let address = unsafe { cmsg::address(&address, len) };
    Ok((fd, address))
}

/// `ssize_t send(int sockfd, const void *buf, size_t len, int flags)`: sends bytes, or one packet;
/// gives how many.
///
/// # Errors
///
/// Those of [`cmsg::sendmsg`].
///
/// # References
///
/// - [send(2)](https://man7.org/linux/man-pages/man2/send.2.html)
#[inline]
pub fn send(socket: impl AsFd, bytes: &[u8], flags: SendFlags) -> Result<usize, Errno> {
    rustix::net::send(socket, bytes, copying(flags))
}

/// `ssize_t sendto(int sockfd, const void *buf, size_t len, int flags, const struct sockaddr
/// *dest_addr, socklen_t addrlen)`: sends a datagram to an address; gives how many bytes.
///
/// # Errors
///
/// Those of [`cmsg::sendmsg_to`].
///
/// # References
///
/// - [send(2)](https://man7.org/linux/man-pages/man2/send.2.html)
#[inline]
pub fn sendto(
    socket: impl AsFd,
    bytes: &[u8],
    flags: SendFlags,
    address: &impl SocketAddrArg,
) -> Result<usize, Errno> {
    rustix::net::sendto(socket, bytes, copying(flags), address)
}

/// The flags without `MSG_ZEROCOPY`, with which the kernel would read the bytes after the call:
/// only [`zerocopy::send`], which is unsafe, has it.
#[inline]
const fn copying(flags: SendFlags) -> SendFlags {
    flags.difference(SendFlags::from_bits_retain(abi::MSG_ZEROCOPY))
}

/// Socket options: rustix's, one function each.
pub mod sockopt {
    pub use rustix::net::sockopt::*;

    /// `getsockopt(fd, SOL_SOCKET, SO_PEERCRED)`. Ours: rustix's makes a number of a process id of
    /// 0 that its type cannot hold.
    pub use super::unix::peer_credentials as socket_peercred;
}

/// `int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen)`: an option
/// that has no function of its own, as bytes; gives how many there are.
///
/// # Errors
///
/// - `NOPROTOOPT`, `OPNOTSUPP`: the socket has no such option. `INVAL`: `value` has not its length.
/// - `NOTSOCK`: not a socket.
///
/// # Safety
///
/// If the option has the kernel read or write memory that `value` has the address of
/// (`TCP_ZEROCOPY_RECEIVE`), that memory is as it must be.
///
/// # References
///
/// - [getsockopt(2)](https://man7.org/linux/man-pages/man2/getsockopt.2.html)
#[inline]
pub unsafe fn getsockopt(
    socket: impl AsFd,
    level: u32,
    name: u32,
    value: &mut [u8],
) -> Result<usize, Errno> {
    let mut len = u32::try_from(value.len()).map_err(|_| Errno::INVAL)?;
    let (socket, value) = (socket.as_fd(), value.as_mut_ptr());
    // SAFETY: The call writes at most `len` bytes to `value`, and `len`; the caller answers for the
    // memory of which they are addresses.
    unsafe { call!(__NR_getsockopt, socket, level, name, value, &raw mut len) }?;
    Ok(len as usize)
}

/// `int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen)`: sets an
/// option that has no function of its own, as bytes.
///
/// # Errors
///
/// Those of [`getsockopt`]; `PERM`, `ACCESS`: not allowed; `DOM`, `ADDRINUSE` and others of the option.
///
/// # Safety
///
/// If `value` has the address of memory that the kernel reads (`SO_ATTACH_FILTER`), that memory is as it
/// must be. If the option lends memory to the kernel (`XDP_UMEM_REG`), that stays, and is used for nothing
/// that the kernel must not read or write, for as long as the socket uses it.
///
/// # References
///
/// - [setsockopt(2)](https://man7.org/linux/man-pages/man2/setsockopt.2.html)
#[inline]
pub unsafe fn setsockopt(
    socket: impl AsFd,
    level: u32,
    name: u32,
    value: &[u8],
) -> Result<(), Errno> {
    let len = u32::try_from(value.len()).map_err(|_| Errno::INVAL)?;
    let (socket, value) = (socket.as_fd(), value.as_ptr());
    // SAFETY: The call reads `len` bytes from `value`; the caller answers for the memory of which they
    // are addresses.
    unsafe { call!(__NR_setsockopt, socket, level, name, value, len) }?;
    Ok(())
}

/// `getsockopt` of an option that is made of 32-bit words; gives how many bytes there are.
#[inline]
pub(crate) fn get_option(
    socket: BorrowedFd<'_>,
    level: u32,
    name: u32,
    value: &mut [u32],
) -> Result<usize, Errno> {
    let mut len = u32::try_from(size_of_val(value)).map_err(|_| Errno::INVAL)?;
    // SAFETY: The call writes at most `len` bytes to `value`, for which any are valid, and `len`.
    unsafe {
        call!(
            __NR_getsockopt,
            socket,
            level,
            name,
            value.as_mut_ptr(),
            &raw mut len
        )
    }?;
    Ok(len as usize)
}

/// `setsockopt` of an option that is one 32-bit word.
#[inline]
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: u32,
    name: u32,
    value: u32,
) -> Result<(), Errno> {
    // SAFETY: The call reads the bytes of `value`; whoever names an option that lends memory to the
    // kernel answers for that memory.
    unsafe {
        call!(
            __NR_setsockopt,
            socket,
            level,
            name,
            &raw const value,
            size_of::<u32>()
        )
    }?;
    Ok(())
}
