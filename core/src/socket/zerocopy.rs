//! Sending without a copy: the kernel reads the buffer later, and says when it is done.
//!
//! Mirrors `Documentation/networking/msg_zerocopy.rst` and `<linux/errqueue.h>`. For TCP, UDP and
//! vsock (Linux 4.14, 5.0, 6.7). Each [`send`] that took at least one byte has a number: 0, 1, 2
//! and so on, for the life of the socket. When the kernel does not need its buffer any more, the
//! number is in a [`Completion`] that [`notice`] takes from the socket's error queue.
//!
//! ```
//! use linipc_core::io::IoSlice;
//! use linipc_core::socket::{self, PollFd, PollFlags, SendFlags, inet, zerocopy};
//!
//! let listener = inet::tcp(socket::AddressFamily::INET)?;
//! socket::bind(&listener, &inet::LOOPBACK)?;
//! socket::listen(&listener, 1)?;
//! let sender = inet::tcp(socket::AddressFamily::INET)?;
//! socket::connect(&sender, &inet::local_address(&listener)?)?;
//! let _receiver = socket::accept(&listener)?;
//!
//! zerocopy::enable(&sender)?;
//! static PAGE: [u8; 4096] = [7; 4096];
//! // SAFETY: A constant is never changed or freed.
//! let sent = unsafe { zerocopy::send(&sender, &[IoSlice::new(&PAGE)], SendFlags::NOSIGNAL) }?;
//! assert_eq!(sent, 4096);
//! socket::poll(&mut [PollFd::new(&sender, PollFlags::empty())], None)?; // Until `POLLERR`.
//! let zerocopy::Notice::Completed(completion) = zerocopy::notice(&sender)? else { panic!() };
//! assert!(completion.contains(0));
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - Without [`enable`] the kernel copies, and no notice ever comes.
//! - It pays from about 10 KiB a call: pages must be pinned and notices read. Over the loopback the
//!   kernel copies nevertheless ([`Completion::copied`]).
//! - A notice comes when the peer's system has acknowledged the data, so a peer can withhold it for
//!   as long as the connection lives.
//! - Notices that are not read, and pinned pages, count against `net.core.optmem_max` and
//!   `RLIMIT_MEMLOCK` (of all processes of a user together; not with `CAP_IPC_LOCK`): [`send`] then
//!   fails with `NOBUFS`. It counts the whole length of what it is given.
//! - A queue that is not empty makes poll(2) say `POLLERR`, whatever it was asked for. So does a
//!   connection that failed, with or without a queue.

use core::mem::transmute;

use linux_raw_sys::net::{IP_RECVERR, IPV6_RECVERR, SO_ZEROCOPY, SOL_IP, SOL_IPV6, SOL_SOCKET};
use rustix::fd::AsFd;
use rustix::io::{Errno, IoSlice};

use super::cmsg::{self, Control, Message, RawMessage};
use super::{AddressFamily, RecvFlags, SendFlags};
use crate::sys::abi::{self, sock_extended_err};

/// `setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, 1)`: lets [`send`] send without a copy.
///
/// # Errors
///
/// `OPNOTSUPP` (before Linux 6.0 the number 524): not a socket that can.
///
/// # References
///
/// - [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html)
#[inline]
#[doc(alias = "SO_ZEROCOPY")]
pub fn enable(socket: impl AsFd) -> Result<(), Errno> {
    super::set_option(socket.as_fd(), SOL_SOCKET, SO_ZEROCOPY, 1)
}

/// `getsockopt(fd, SOL_SOCKET, SO_ZEROCOPY)`: whether [`enable`] was called.
///
/// # Errors
///
/// `NOTSOCK`, `BADF`: not a socket.
///
/// # References
///
/// - [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html)
#[inline]
pub fn is_enabled(socket: impl AsFd) -> Result<bool, Errno> {
    let mut value = [0];
    super::get_option(socket.as_fd(), SOL_SOCKET, SO_ZEROCOPY, &mut value)?;
    Ok(value != [0])
}

/// `ssize_t sendmsg(int sockfd, const struct msghdr *msg, MSG_ZEROCOPY)`: sends from `buffers`
/// without copying them; gives how many bytes it took.
///
/// Takes fewer than there are like any send, and then has one number all the same. On a stream, a
/// send of 0 bytes, or one that failed, has none. On a datagram socket an empty send has one too,
/// and one that failed has one if the kernel had made a packet before: only the completion tells.
///
/// # Errors
///
/// - `NOBUFS`: too many pinned pages or notices that were not read. Read some, then try again.
/// - Those of send(2).
///
/// # Safety
///
/// Until the number of this send was in a [`Completion`], the bytes of `buffers` must be neither
/// changed nor given to anyone who might: the peer would get the new bytes, whatever they are. They
/// may be given up before only if the memory is never used again (leaked).
///
/// # References
///
/// - [send(2)](https://man7.org/linux/man-pages/man2/send.2.html), `MSG_ZEROCOPY`
#[inline]
#[doc(alias = "MSG_ZEROCOPY")]
pub unsafe fn send(
    socket: impl AsFd,
    buffers: &[IoSlice<'_>],
    flags: SendFlags,
) -> Result<usize, Errno> {
    let flags = flags | SendFlags::from_bits_retain(abi::MSG_ZEROCOPY);
    // SAFETY: The caller's promise.
    unsafe { cmsg::sendmsg_with(socket.as_fd(), buffers, &Control::default(), flags) }
}

/// Numbers of sends whose buffers are free again: from `first` up to and with `last`.
///
/// The numbers wrap around, so `last` may be the smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The first send.
    pub first: u32,
    /// The last send.
    pub last: u32,
    /// `SO_EE_CODE_ZEROCOPY_COPIED`: the kernel had to copy after all. If this is the rule, plain
    /// sends are cheaper.
    #[doc(alias = "SO_EE_CODE_ZEROCOPY_COPIED")]
    pub copied: bool,
}

impl Completion {
    /// How many sends, at least 1.
    #[inline]
    pub const fn count(self) -> u64 {
        self.last.wrapping_sub(self.first) as u64 + 1
    }

    /// How many of `count` sends, of which `first` is the first, are among them.
    #[inline]
    pub const fn count_of(self, first: u32, count: u32) -> u32 {
        // Counted from `first`, since the numbers wrap around.
        let start = self.first.wrapping_sub(first) as i32 as i64;
        let end = start + self.count() as i64;
        let (start, end) = (
            if start > 0 { start } else { 0 },
            if end < count as i64 {
                end
            } else {
                count as i64
            },
        );
        if start < end { (end - start) as u32 } else { 0 }
    }

    /// Whether send number `number` is among them.
    #[inline]
    pub const fn contains(self, number: u32) -> bool {
        number.wrapping_sub(self.first) <= self.last.wrapping_sub(self.first)
    }
}

/// `struct sock_extended_err`: an entry of the error queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "sock_extended_err")]
pub enum Notice {
    /// `SO_EE_ORIGIN_ZEROCOPY`: buffers are free again.
    #[doc(alias = "SO_EE_ORIGIN_ZEROCOPY")]
    Completed(Completion),
    /// Anything else, which only other socket options put there (`IP_RECVERR`, `SO_TIMESTAMPING`).
    Other {
        /// `ee_errno`: the error, 0 if it is none.
        errno: u32,
        /// `ee_origin`: who reports it, an `SO_EE_ORIGIN_*`.
        origin: u8,
        /// `ee_type`: the type of the ICMP message.
        kind: u8,
        /// `ee_code`: the code of the ICMP message.
        code: u8,
        /// `ee_info`: more, such as the path's MTU.
        info: u32,
        /// `ee_data`: more.
        data: u32,
    },
}

/// `ssize_t recvmsg(int sockfd, struct msghdr *msg, MSG_ERRQUEUE)`: takes one entry from the error
/// queue. Never waits.
///
/// # Errors
///
/// - `AGAIN`: the queue is empty.
/// - `BADMSG`: the entry has no `sock_extended_err`. It is lost.
/// - `OPNOTSUPP`: the family has no error queue.
///
/// # References
///
/// - [recv(2)](https://man7.org/linux/man-pages/man2/recv.2.html), `MSG_ERRQUEUE`
#[inline]
#[doc(alias = "MSG_ERRQUEUE")]
pub fn notice(socket: impl AsFd) -> Result<Notice, Errno> {
    let socket = socket.as_fd();
    // Unix sockets would receive a message instead.
    if super::sockopt::socket_domain(socket)? == AddressFamily::UNIX {
        return Err(Errno::OPNOTSUPP);
    }
    let mut control = [0; CONTROL];
    let flags = RecvFlags::ERRQUEUE | RecvFlags::DONTWAIT;
    let received = match cmsg::recvmsg(socket, &mut [], &mut control, flags) {
        Ok(received) => received,
        Err(cmsg::Error::Errno(error)) => return Err(error),
        Err(_) => return Err(Errno::BADMSG),
    };
    let entry = received
        .control
        .into_iter()
        .find_map(|message| match message {
            Message::Other(raw) => extended_error(raw),
            _ => None,
        });
    let entry = entry.ok_or(Errno::BADMSG)?;
    Ok(match entry.ee_origin {
        abi::SO_EE_ORIGIN_ZEROCOPY => Notice::Completed(Completion {
            first: entry.ee_info,
            last: entry.ee_data,
            copied: entry.ee_code & abi::SO_EE_CODE_ZEROCOPY_COPIED != 0,
        }),
        origin => Notice::Other {
            errno: entry.ee_errno,
            origin,
            kind: entry.ee_type,
            code: entry.ee_code,
            info: entry.ee_info,
            data: entry.ee_data,
        },
    })
}

/// The `sock_extended_err` in a control message, if it is one that has it.
#[inline]
fn extended_error(message: RawMessage<'_>) -> Option<sock_extended_err> {
    if !matches!(
        (message.level, message.kind),
        (SOL_IP, IP_RECVERR) | (SOL_IPV6, IPV6_RECVERR) | (abi::SOL_VSOCK, abi::VSOCK_RECVERR)
    ) {
        return None;
    }
    let entry = *message.payload.first_chunk()?;
    // SAFETY: Any bytes are a `sock_extended_err`; that there are enough is checked by `transmute`.
    Some(unsafe { transmute::<[u8; size_of::<sock_extended_err>()], sock_extended_err>(entry) })
}

/// Words of control data: room for an entry, the address behind it, and what other options add.
const CONTROL: usize = 64;
