//! Unix sockets: addresses, and who is at the other end.
//!
//! Mirrors unix(7). Sockets are made by [`socket()`] and [`pair`], and used with the calls of
//! [`super`]; what they carry besides bytes is in [`super::cmsg`]. A stream is a two-way pipe, a
//! datagram socket keeps borders and has no connection, a packet socket (`SEQPACKET`) has both.
//!
//! ```
//! use linipc_core::socket::unix::{self, SocketAddrUnix};
//! use linipc_core::socket::{SocketType, accept, bind, connect, listen};
//!
//! let listener = unix::socket(SocketType::STREAM)?;
//! bind(&listener, &SocketAddrUnix::new_unnamed())?;
//! listen(&listener, 16)?;
//!
//! let client = unix::socket(SocketType::STREAM)?;
//! connect(&client, &unix::local_address(&listener)?)?;
//! let server = accept(&listener)?;
//! assert_eq!(unix::peer_credentials(&server)?.pid as u32, std::process::id());
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Addresses
//!
//! - A path, [`path`]: the file is made by `bind`, and stays when the socket is closed. Who may
//!   connect is who may write to the file: [`fchmod`] of the socket *before* `bind` sets its mode
//!   (the umask is taken off). At most 108 bytes; most other programs can use only 107.
//! - An abstract name, `SocketAddrUnix::new_abstract_name`: up to 107 bytes of any value, in the
//!   network namespace. It goes when the socket is closed. Everybody may connect.
//! - Unnamed, `SocketAddrUnix::new_unnamed`: `bind` makes the kernel choose a free abstract name of
//!   five hexadecimal digits (autobind), which [`local_address`] tells.
//!
//! # Pitfalls
//!
//! - Credentials say who called `connect`, `listen` or `socketpair`, not who writes now: descriptors
//!   can be handed on. A pid may be another process by now; [`peer_pidfd`] cannot.
//! - A pid of 0 is a process that this PID namespace does not see.
//! - A receiver that is not reading holds its senders up: `connect` waits on a full backlog, a
//!   datagram on a full queue (`net.unix.max_dgram_qlen`).
//! - The end of a packet connection reads as 0 bytes, as does an empty packet.

use core::ffi::c_char;
use core::mem::offset_of;
use core::slice;

use linux_raw_sys::net as c;
use rustix::io::Errno;
use rustix::path::Arg;

use super::cmsg::{self, AddressBuffer};
use super::{
    AddressFamily, SocketAddrAny, SocketType, get_option, getpeername, getsockname, set_option,
};
use crate::fd::{AsFd, OwnedFd};
use crate::sys::own;

pub use rustix::fs::{Mode, fchmod};
pub use rustix::net::SocketAddrUnix;
pub use rustix::net::sockopt::{
    set_socket_passcred as set_pass_credentials, socket_passcred as pass_credentials,
};

/// `int socket(AF_UNIX, int type, 0)` with `SOCK_CLOEXEC`: a new Unix socket.
///
/// # Errors
///
/// `MFILE`, `NFILE`: no descriptor is free in the process, or in the system. `NOMEM`.
///
/// # References
///
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)
#[inline]
pub fn socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    super::socket(AddressFamily::UNIX, kind, None)
}

/// `int socketpair(AF_UNIX, int type, 0, int sv[2])` with `SOCK_CLOEXEC`: two Unix sockets that
/// are connected to each other.
///
/// # Errors
///
/// Those of [`socket()`].
///
/// # References
///
/// - [socketpair(2)](https://man7.org/linux/man-pages/man2/socketpair.2.html)
#[inline]
#[doc(alias = "socketpair")]
pub fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd), Errno> {
    super::socketpair(AddressFamily::UNIX, kind, None)
}

const MAX_PATH: usize = size_of::<c::sockaddr_un>() - offset_of!(c::sockaddr_un, sun_path);

/// `struct sockaddr_un`: the address of a file.
///
/// # Errors
///
/// - `INVAL`: the path is empty, which the kernel would take for an abstract name, or has a NUL.
/// - `NAMETOOLONG`: longer than 108 bytes.
///
/// # References
///
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), "Address format"
#[inline]
#[doc(alias = "sockaddr_un")]
pub fn path(path: impl Arg) -> Result<SocketAddrAny, Errno> {
    path.into_with_c_str(|path| {
        let bytes = path.to_bytes();
        if bytes.is_empty() {
            return Err(Errno::INVAL);
        }
        if bytes.len() > MAX_PATH {
            return Err(Errno::NAMETOOLONG);
        }
        let mut address = c::sockaddr_un {
            sun_family: c::AF_UNIX as c::__kernel_sa_family_t,
            sun_path: [0; MAX_PATH],
        };
        for (to, from) in address.sun_path.iter_mut().zip(bytes) {
            *to = *from as c_char;
        }
        // With the null byte, if there is room for it.
        let len = offset_of!(c::sockaddr_un, sun_path) + (bytes.len() + 1).min(MAX_PATH);
        let mut storage = AddressBuffer::uninit();
        // SAFETY: An address of any family fits into it, and is no more aligned.
        unsafe { storage.as_mut_ptr().cast::<c::sockaddr_un>().write(address) };
        // SAFETY: An address of this length was written.
        unsafe { cmsg::address(&storage, len as u32) }.ok_or(Errno::INVAL)
    })
}

/// The Unix address in what a call returned: a path, an abstract name or unnamed.
///
/// # Errors
///
/// `AFNOSUPPORT`: the address of another family.
#[inline]
pub fn address(any: &SocketAddrAny) -> Result<SocketAddrUnix, Errno> {
    if any.address_family() != AddressFamily::UNIX {
        return Err(Errno::AFNOSUPPORT);
    }
    // SAFETY: `SocketAddrAny` promises that its first `addr_len` bytes are initialised, and it is
    // borrowed while the slice is used.
    let bytes =
        unsafe { slice::from_raw_parts(any.as_ptr().cast::<u8>(), any.addr_len() as usize) };
    match bytes.get(offset_of!(c::sockaddr_un, sun_path)..) {
        None | Some([]) => Ok(SocketAddrUnix::new_unnamed()),
        Some([0, name @ ..]) => SocketAddrUnix::new_abstract_name(name),
        Some(path) => SocketAddrUnix::new(path.split(|byte| *byte == 0).next().unwrap_or(path)),
    }
}

/// `int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen)`: the socket's own
/// address.
///
/// # Errors
///
/// `AFNOSUPPORT`: not a Unix socket. `NOTSOCK`: not a socket.
///
/// # References
///
/// - [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html)
#[inline]
#[doc(alias = "getsockname")]
pub fn local_address(socket: impl AsFd) -> Result<SocketAddrUnix, Errno> {
    address(&getsockname(socket)?)
}

/// `int getpeername(int sockfd, struct sockaddr *addr, socklen_t *addrlen)`: the address of the
/// socket at the other end. Most are unnamed.
///
/// # Errors
///
/// `NOTCONN`: not connected. `AFNOSUPPORT`: not a Unix socket. `NOTSOCK`: not a socket.
///
/// # References
///
/// - [getpeername(2)](https://man7.org/linux/man-pages/man2/getpeername.2.html)
#[inline]
#[doc(alias = "getpeername")]
pub fn peer_address(socket: impl AsFd) -> Result<SocketAddrUnix, Errno> {
    match getpeername(socket)? {
        Some(any) => address(&any),
        None => Ok(SocketAddrUnix::new_unnamed()),
    }
}

/// `struct ucred`: a process, and whom it acts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "ucred")]
pub struct Credentials {
    /// The process, 0 if this PID namespace does not see it.
    pub pid: i32,
    /// The user; the overflow user (65534) if this user namespace does not know it.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Credentials {
    /// Those of the calling process, with its effective user and group.
    #[inline]
    pub fn current() -> Self {
        Self {
            pid: rustix::process::getpid().as_raw_pid(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    #[inline]
    pub(crate) const fn from_abi([pid, uid, gid]: [u32; 3]) -> Self {
        let pid = pid as i32;
        Self { pid, uid, gid }
    }

    #[inline]
    pub(crate) const fn to_abi(self) -> [u32; 3] {
        [self.pid as u32, self.uid, self.gid]
    }
}

/// `getsockopt` with `SO_PEERCRED`: who called `connect`, `listen` or `socketpair` at the other end.
///
/// # Errors
///
/// - `NODATA`: no connection, or a datagram socket that no `socketpair` made.
/// - `NOTSOCK`: not a socket.
///
/// # References
///
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SO_PEERCRED`
#[inline]
#[doc(alias = "SO_PEERCRED")]
pub fn peer_credentials(socket: impl AsFd) -> Result<Credentials, Errno> {
    const NOBODY: [u32; 3] = [0, u32::MAX, u32::MAX];
    let mut ucred = NOBODY;
    get_option(socket.as_fd(), c::SOL_SOCKET, c::SO_PEERCRED, &mut ucred)?;
    if ucred == NOBODY {
        return Err(Errno::NODATA);
    }
    Ok(Credentials::from_abi(ucred))
}

/// `getsockopt` with `SO_PEERPIDFD`: the process that called `connect`, `listen` or `socketpair` at
/// the other end, as a descriptor that always means that process, also when it has ended.
///
/// Close-on-exec. Needs Linux 6.5.
///
/// # Errors
///
/// - `NODATA`: no connection, or a datagram socket that no `socketpair` made.
/// - `SRCH`, `INVAL`: the process is gone, and the kernel is older than 6.16.
/// - `NOPROTOOPT`: the kernel is older than 6.5. `NOTSOCK`: not a socket.
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system.
///
/// # References
///
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)
#[inline]
#[doc(alias = "SO_PEERPIDFD")]
pub fn peer_pidfd(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    let mut pidfd = [u32::MAX];
    get_option(socket.as_fd(), c::SOL_SOCKET, c::SO_PEERPIDFD, &mut pidfd)?;
    let [pidfd] = pidfd;
    // SAFETY: The call succeeded, so the kernel opened this descriptor for us alone.
    unsafe { own(pidfd as usize) }
}

/// `getsockopt` with `SO_PEERGROUPS`: the supplementary groups of the process that
/// [`peer_credentials`] tells. Gives the part of `groups` that is filled.
///
/// # Errors
///
/// - `RANGE`: `groups` is too short; 65536 always suffice.
/// - `NODATA`: no connection, or a datagram socket that no `socketpair` made.
/// - `NOTSOCK`: not a socket.
///
/// # References
///
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)
#[inline]
#[doc(alias = "SO_PEERGROUPS")]
pub fn peer_groups(socket: impl AsFd, groups: &mut [u32]) -> Result<&[u32], Errno> {
    let bytes = get_option(socket.as_fd(), c::SOL_SOCKET, c::SO_PEERGROUPS, groups)?;
    groups.get(..bytes / size_of::<u32>()).ok_or(Errno::RANGE)
}

/// `setsockopt` with `SO_PASSPIDFD`: whether each message comes with a descriptor of the process
/// that sent it (see [`Message::Pidfd`](super::cmsg::Message::Pidfd)). Needs Linux 6.5.
///
/// Each receive then opens a descriptor, and needs room for it in its control buffer.
///
/// # Errors
///
/// `NOPROTOOPT`: the kernel is older. `OPNOTSUPP`: not a Unix socket. `NOTSOCK`: not a socket.
///
/// # References
///
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)
#[inline]
#[doc(alias = "SO_PASSPIDFD")]
pub fn set_pass_pidfd(socket: impl AsFd, pass: bool) -> Result<(), Errno> {
    let pass = pass.into();
    set_option(socket.as_fd(), c::SOL_SOCKET, c::SO_PASSPIDFD, pass)
}

/// `getsockopt` with `SO_PASSPIDFD`: what [`set_pass_pidfd`] set.
///
/// # Errors
///
/// `NOPROTOOPT`: the kernel is older than 6.5. `NOTSOCK`: not a socket.
#[inline]
pub fn pass_pidfd(socket: impl AsFd) -> Result<bool, Errno> {
    let mut pass = [0];
    get_option(socket.as_fd(), c::SOL_SOCKET, c::SO_PASSPIDFD, &mut pass)?;
    Ok(pass != [0])
}
