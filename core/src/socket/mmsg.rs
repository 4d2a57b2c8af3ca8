//! Many messages in one call.
//!
//! Mirrors sendmmsg(2) and recvmmsg(2), with buffers and headers that the caller has.
//!
//! ```
//! use linipc_core::io::{IoSlice, IoSliceMut};
//! use linipc_core::socket::cmsg::Control;
//! use linipc_core::socket::mmsg::{self, Incoming, Outgoing};
//! use linipc_core::socket::{RecvFlags, SendFlags, SocketType, unix};
//!
//! let (a, b) = unix::pair(SocketType::DGRAM)?;
//! let (one, two) = ([IoSlice::new(b"one")], [IoSlice::new(b"two")]);
//! let none = Control::default();
//! let mut messages = [Outgoing::new(&one, &none), Outgoing::new(&two, &none)];
//! assert_eq!(mmsg::sendmmsg(&a, &mut messages, SendFlags::empty())?, 2);
//!
//! let mut bytes = [[0; 8]; 4];
//! let mut data = bytes.each_mut().map(|bytes| [IoSliceMut::new(bytes)]);
//! let incoming = data.each_mut().map(|data| Incoming::new(data, &mut []));
//! let received = mmsg::recvmmsg(&b, incoming, mmsg::WAIT_FOR_ONE)?;
//! assert_eq!(received.map(|one| one.unwrap().bytes).collect::<Vec<_>>(), [3, 3]);
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - Without [`WAIT_FOR_ONE`], [`recvmmsg`] waits until *all* its buffers are filled.
//! - The timeout of recvmmsg(2) is not offered: the kernel looks at it only after each message, so
//!   that the call waits for ever if none comes. Use poll(2) first.
//! - An error after the first message is told by the next call, if at all.

use core::array;
use core::fmt;
use core::iter::FusedIterator;
use core::marker::PhantomData;

use linux_raw_sys::net as c;
use rustix::fd::AsFd;
use rustix::io::{Errno, IoSlice, IoSliceMut};

use super::cmsg::{self, AddressBuffer, Control, Received};
use super::copying;
use super::{RecvFlags, SendFlags, SocketAddrAny};
use crate::sys::call;

/// `MSG_WAITFORONE`: wait for the first message, and take what else is there.
#[doc(alias = "MSG_WAITFORONE")]
pub const WAIT_FOR_ONE: RecvFlags = RecvFlags::from_bits_retain(0x1_0000);

/// `struct mmsghdr`: one message to send.
///
/// # Invariants
///
/// The header's pointers and lengths are those of slices that are borrowed for `'a`.
#[repr(transparent)]
#[doc(alias = "mmsghdr")]
pub struct Outgoing<'a> {
    header: c::mmsghdr,
    borrowed: PhantomData<&'a [u8]>,
}

impl<'a> Outgoing<'a> {
    /// A message on a connected socket.
    #[inline]
    pub fn new(data: &'a [IoSlice<'a>], control: &'a Control<'_, 'a>) -> Self {
        // INVARIANT: `data` and `control` are borrowed for `'a`.
        Self {
            header: c::mmsghdr {
                msg_hdr: control.header(data),
                msg_len: 0,
            },
            borrowed: PhantomData,
        }
    }

    /// The same message, to this address.
    #[inline]
    #[must_use]
    pub fn to(mut self, address: &'a SocketAddrAny) -> Self {
        // INVARIANT: `address` is borrowed for `'a`.
        self.header.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
        self.header.msg_hdr.msg_namelen = address.addr_len() as i32;
        self
    }

    /// How many bytes of it were sent, if it is one of those that were.
    #[inline]
    pub const fn sent(&self) -> usize {
        self.header.msg_len as usize
    }
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("sent", &self.sent())
            .finish_non_exhaustive()
    }
}

/// `int sendmmsg(int sockfd, struct mmsghdr *msgvec, unsigned int vlen, int flags)`: sends messages
/// until one cannot be sent; gives how many. The kernel takes at most 1024.
///
/// # Errors
///
/// Those of [`cmsg::sendmsg`], of the first message.
///
/// # References
///
/// - [sendmmsg(2)](https://man7.org/linux/man-pages/man2/sendmmsg.2.html)
#[inline]
pub fn sendmmsg(
    socket: impl AsFd,
    messages: &mut [Outgoing<'_>],
    flags: SendFlags,
) -> Result<usize, Errno> {
    // SAFETY: `Outgoing` is the kernel's `mmsghdr`, whose pointers are valid (its invariant); the
    // call, and without `MSG_ZEROCOPY` nothing after it, reads what they point at and writes the
    // lengths that were sent.
    unsafe {
        call!(
            __NR_sendmmsg,
            socket.as_fd(),
            messages.as_mut_ptr(),
            messages.len(),
            copying(flags).bits()
        )
    }
}

/// The buffers for one message to receive.
pub struct Incoming<'d, 'v, 'c> {
    /// For its bytes.
    pub data: &'d mut [IoSliceMut<'v>],
    /// For its control messages.
    pub control: &'c mut [usize],
    /// For the sender's address, if that is wanted.
    pub address: Option<&'c mut AddressBuffer>,
}

impl<'d, 'v, 'c> Incoming<'d, 'v, 'c> {
    /// Buffers for a message whose sender's address is not wanted.
    #[inline]
    pub const fn new(data: &'d mut [IoSliceMut<'v>], control: &'c mut [usize]) -> Self {
        Self {
            data,
            control,
            address: None,
        }
    }
}

impl fmt::Debug for Incoming<'_, '_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("slices", &self.data.len())
            .field("control", &self.control.len())
            .finish_non_exhaustive()
    }
}

/// `int recvmmsg(int sockfd, struct mmsghdr *msgvec, unsigned int vlen, int flags, NULL)`: receives
/// up to `N` messages, with `MSG_CMSG_CLOEXEC`. Waits for all of them, unless [`WAIT_FOR_ONE`] or
/// [`RecvFlags::DONTWAIT`].
///
/// # Errors
///
/// Those of [`cmsg::recvmsg`], of the first message. That control data is missing is told of the
/// message that it belongs to.
///
/// # References
///
/// - [recvmmsg(2)](https://man7.org/linux/man-pages/man2/recvmmsg.2.html)
#[inline]
pub fn recvmmsg<'c, const N: usize>(
    socket: impl AsFd,
    messages: [Incoming<'_, '_, 'c>; N],
    flags: RecvFlags,
) -> Result<Batch<'c, N>, Errno> {
    let rooms = array::from_fn(|i| messages.get(i).map_or(0, |one| size_of_val(one.control)));
    let mut headers = messages.map(|one| c::mmsghdr {
        msg_hdr: cmsg::receive_header(one.data, one.control, one.address),
        msg_len: 0,
    });
    let flags = (flags | RecvFlags::CMSG_CLOEXEC).bits();
    // SAFETY: The headers' pointers and lengths come from mutable borrows, to which the call writes.
    let count = unsafe {
        call!(
            __NR_recvmmsg,
            socket.as_fd(),
            headers.as_mut_ptr(),
            N,
            flags,
            0_usize
        )
    }?;
    // INVARIANT: The call filled the first `count` headers, and their buffers are borrowed for `'c`.
    Ok(Batch {
        headers,
        rooms,
        next: 0,
        count,
        control: PhantomData,
    })
}

/// The messages that one call received, in order. Descriptors of those that are not taken out are
/// closed with it.
///
/// # Invariants
///
/// A receiving call filled the first `count` headers, whose control and address buffers, of `rooms`
/// bytes, are borrowed for `'c`. Nobody else owns the descriptors of the ones from `next`.
pub struct Batch<'c, const N: usize> {
    headers: [c::mmsghdr; N],
    rooms: [usize; N],
    next: usize,
    count: usize,
    control: PhantomData<&'c mut [usize]>,
}

impl<'c, const N: usize> Iterator for Batch<'c, N> {
    type Item = Result<Received<'c>, cmsg::Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        let header = self.headers.get(self.next)?;
        let room = *self.rooms.get(self.next)?;
        // INVARIANT: The descriptors of this message are given away here.
        self.next += 1;
        // SAFETY: The type's invariant; `next` is beyond this message now.
        Some(unsafe { Received::new(&header.msg_hdr, header.msg_len as usize, room) })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.count.saturating_sub(self.next);
        (len, Some(len))
    }
}

impl<const N: usize> ExactSizeIterator for Batch<'_, N> {}
impl<const N: usize> FusedIterator for Batch<'_, N> {}

impl<const N: usize> Drop for Batch<'_, N> {
    #[inline]
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<const N: usize> fmt::Debug for Batch<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}
