//! Sockets between a virtual machine and its host, or on one machine through the loopback.
//!
//! Mirrors vsock(7) and `<linux/vm_sockets.h>`. An [`Address`] goes wherever [`super::bind`],
//! [`super::connect`] and their kin take an address, and comes out of what they return.
//!
//! ```
//! use linipc_core::socket::{bind, vsock};
//!
//! # fn main() -> Result<(), linipc_core::Errno> {
//! let Ok(socket) = vsock::stream() else {
//!     return Ok(()); // A kernel without vsock.
//! };
//! bind(&socket, &vsock::Address::new(vsock::Cid::ANY, vsock::PORT_ANY))?;
//! assert_ne!(vsock::local_address(&socket)?.port, vsock::PORT_ANY);
//! # Ok(())
//! # }
//! ```
//!
//! # Pitfalls
//!
//! - [`Cid::LOCAL`] needs the loopback transport (Linux 5.6, `vsock_loopback`), which is a module
//!   of its own; without it binding there is `ADDRNOTAVAIL`, and connecting `NODEV` or `TIMEDOUT`.
//! - Connecting from the host to a machine that does not run is `NODEV` or, after two seconds,
//!   `TIMEDOUT`.
//! - Ports below 1024 need `CAP_NET_BIND_SERVICE`.

use core::fmt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketAddrAny, SocketType};

use crate::fd::{AsFd, OwnedFd};
use crate::io;
use crate::sys::abi::{self, sockaddr_vm};
use crate::sys::call;

/// `AF_VSOCK`
#[doc(alias = "AF_VSOCK")]
pub const FAMILY: AddressFamily = AddressFamily::VSOCK;

/// `VMADDR_PORT_ANY`: binds to a port that the kernel chooses.
#[doc(alias = "VMADDR_PORT_ANY")]
pub const PORT_ANY: u32 = u32::MAX;

/// A context id: which machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Cid(u32);

impl Cid {
    /// `VMADDR_CID_ANY`: binds to every id that this machine has.
    #[doc(alias = "VMADDR_CID_ANY")]
    pub const ANY: Self = Self(u32::MAX);
    /// `VMADDR_CID_HYPERVISOR`: services of the hypervisor itself. Reserved.
    #[doc(alias = "VMADDR_CID_HYPERVISOR")]
    pub const HYPERVISOR: Self = Self(0);
    /// `VMADDR_CID_LOCAL`: this machine, through the loopback.
    #[doc(alias = "VMADDR_CID_LOCAL")]
    pub const LOCAL: Self = Self(1);
    /// `VMADDR_CID_HOST`: the host, seen from a virtual machine.
    #[doc(alias = "VMADDR_CID_HOST")]
    pub const HOST: Self = Self(2);

    /// The machine with this number, as its host configured it: 3 and up.
    #[inline]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ANY => f.write_str("ANY"),
            Self::HYPERVISOR => f.write_str("HYPERVISOR"),
            Self::LOCAL => f.write_str("LOCAL"),
            Self::HOST => f.write_str("HOST"),
            Self(number) => number.fmt(f),
        }
    }
}

/// `struct sockaddr_vm`: a machine and a port on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "sockaddr_vm")]
pub struct Address {
    /// The machine.
    pub cid: Cid,
    /// The port: 32 bits, in the machine's byte order.
    pub port: u32,
    /// `VMADDR_FLAG_TO_HOST`: connects by way of the host, also to an id that this machine could
    /// reach itself (sibling machines, Linux 5.11).
    #[doc(alias = "VMADDR_FLAG_TO_HOST")]
    pub to_host: bool,
}

impl Address {
    /// A port of a machine, reached in the usual way.
    #[inline]
    pub const fn new(cid: Cid, port: u32) -> Self {
        Self {
            cid,
            port,
            to_host: false,
        }
    }
}

// SAFETY: `with_sockaddr` gives a pointer to a whole `sockaddr_vm`, which lives until `f` returns.
unsafe impl SocketAddrArg for Address {
    #[inline]
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let address = sockaddr_vm {
            svm_family: FAMILY.as_raw(),
            svm_reserved1: 0,
            svm_port: self.port,
            svm_cid: self.cid.0,
            svm_flags: u8::from(self.to_host) * abi::VMADDR_FLAG_TO_HOST,
            svm_zero: [0; 3],
        };
        f((&raw const address).cast(), size_of::<sockaddr_vm>() as u32)
    }
}

impl From<Address> for SocketAddrAny {
    #[inline]
    fn from(address: Address) -> Self {
        address.as_any()
    }
}

impl TryFrom<SocketAddrAny> for Address {
    type Error = Errno;

    /// `AFNOSUPPORT`: of another family. `INVAL`: too short for one of this.
    #[inline]
    fn try_from(any: SocketAddrAny) -> Result<Self, Errno> {
        if any.address_family() != FAMILY {
            return Err(Errno::AFNOSUPPORT);
        }
        if (any.addr_len() as usize) < size_of::<sockaddr_vm>() {
            return Err(Errno::INVAL);
        }
        // SAFETY: `SocketAddrAny` has as many initialised bytes as it says, which are enough.
        let address = unsafe { any.as_ptr().cast::<sockaddr_vm>().read_unaligned() };
        Ok(Self {
            cid: Cid(address.svm_cid),
            port: address.svm_port,
            to_host: address.svm_flags & abi::VMADDR_FLAG_TO_HOST != 0,
        })
    }
}

/// `int socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0)`: a new stream socket.
///
/// # Errors
///
/// - `AFNOSUPPORT`: the kernel has no vsock.
/// - Those of [`super::socket()`].
///
/// # References
///
/// - [vsock(7)](https://man7.org/linux/man-pages/man7/vsock.7.html)
#[inline]
pub fn stream() -> Result<OwnedFd, Errno> {
    super::socket(FAMILY, SocketType::STREAM, None)
}

/// `int socket(AF_VSOCK, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)`: a new socket for packets (Linux 5.14).
///
/// # Errors
///
/// - `SOCKTNOSUPPORT`: an older kernel. `NODEV`, when it is connected: not this transport.
/// - Those of [`stream`].
///
/// # References
///
/// - [vsock(7)](https://man7.org/linux/man-pages/man7/vsock.7.html)
#[inline]
pub fn seqpacket() -> Result<OwnedFd, Errno> {
    super::socket(FAMILY, SocketType::SEQPACKET, None)
}

/// `int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen)`: where it is bound.
///
/// # Errors
///
/// `AFNOSUPPORT`: not a vsock socket. `NOTSOCK`: no socket at all.
///
/// # References
///
/// - [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html)
#[inline]
#[doc(alias = "getsockname")]
pub fn local_address(socket: impl AsFd) -> Result<Address, Errno> {
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
pub fn peer_address(socket: impl AsFd) -> Result<Address, Errno> {
    match rustix::net::getpeername(socket)? {
        Some(address) => address.try_into(),
        None => Err(Errno::NOTCONN),
    }
}

/// `int ioctl(int fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, unsigned int *cid)` of `/dev/vsock`: the id
/// of this machine.
///
/// On a host it is [`Cid::HOST`], without any transport [`Cid::ANY`].
///
/// # Errors
///
/// - `NOENT`: the kernel has no vsock, or `/dev` does not show it.
/// - `ACCESS`: the caller may not open `/dev/vsock`, which some systems keep for root.
///
/// # References
///
/// - [vsock(7)](https://man7.org/linux/man-pages/man7/vsock.7.html), "Ioctls"
#[inline]
#[doc(alias = "IOCTL_VM_SOCKETS_GET_LOCAL_CID")]
pub fn local_cid() -> Result<Cid, Errno> {
    let device = io::open(c"/dev/vsock", OFlags::RDONLY, Mode::empty())?;
    let mut cid = 0_u32;
    // SAFETY: The call writes one `unsigned int`.
    unsafe {
        call!(
            __NR_ioctl,
            device.as_fd(),
            abi::IOCTL_VM_SOCKETS_GET_LOCAL_CID,
            &raw mut cid
        )
    }?;
    Ok(Cid(cid))
}
