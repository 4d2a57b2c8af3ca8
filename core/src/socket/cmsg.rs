//! Messages that carry descriptors, credentials and process descriptors.
//!
//! Mirrors cmsg(3), sendmsg(2), recvmsg(2) and unix(7). A [`Control`] is what goes beside the bytes
//! of [`sendmsg`]; what comes beside those of [`recvmsg`] are [`Messages`], which own every
//! descriptor that was received until they give it away. All are close-on-exec.
//!
//! ```
//! use linipc_core::io::{self, IoSlice, IoSliceMut};
//! use linipc_core::socket::cmsg::{self, Control, Message};
//! use linipc_core::socket::{RecvFlags, SendFlags, SocketType, unix};
//!
//! let (a, b) = unix::pair(SocketType::STREAM)?;
//! let (reader, writer) = linipc_core::pipe::pipe()?;
//! let fds = [writer];
//! let mut control = [0; cmsg::space_fds(1)];
//! let mut control = Control::new(&mut control);
//! control.push_fds(&fds)?;
//! cmsg::sendmsg(&a, &[IoSlice::new(b"a pipe")], &control, SendFlags::NOSIGNAL)?;
//!
//! let (mut bytes, mut control) = ([0; 16], [0; cmsg::space_fds(1)]);
//! let data = &mut [IoSliceMut::new(&mut bytes)];
//! let received = cmsg::recvmsg(&b, data, &mut control, RecvFlags::empty()).unwrap();
//! for message in received.control {
//!     if let Message::Rights(fds) = message {
//!         for fd in fds {
//!             io::write(&fd, b"through it")?;
//!         }
//!     }
//! }
//! assert_eq!((received.bytes, io::read(&reader, &mut bytes)?), (6, 10));
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Control buffers
//!
//! They are words, which gives them the alignment that the kernel wants: [`space_fds`],
//! [`SPACE_CREDENTIALS`] and [`SPACE_PIDFD`] say how many; add them up. A receiver needs room for
//! all that it switched on, and for all descriptors that a peer may send: at most [`MAX_FDS`].
//!
//! # Pitfalls
//!
//! - On a stream, descriptors need at least one byte to go with: without one, they are lost and the
//!   call succeeds. The receiver gets them with the first of these bytes, perhaps after bytes of
//!   earlier sends in the same call; nothing of a later send comes in that call.
//! - Descriptors that nobody receives with [`recvmsg`] are closed when their bytes are read.
//! - [`RecvFlags::PEEK`] makes duplicates: each look opens the descriptors again.
//! - A received descriptor shares its offset and flags (`O_NONBLOCK`) with the sender's.
//! - A sender that may send anything can send a descriptor on which every read blocks. Check with
//!   fstat(2) what you got.

use core::fmt;
use core::iter::FusedIterator;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;
use core::slice;

use linux_raw_sys::net as c;
use rustix::io::{Errno, IoSlice, IoSliceMut};

use super::copying;
use super::unix::Credentials;
use super::{RecvFlags, ReturnFlags, SendFlags, SocketAddrAny, SocketAddrArg, SocketAddrStorage};
use crate::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use crate::sys::{abi, call};

/// For `RLIMIT_NOFILE`, the limit behind [`Error::Refused`] and `TOOMANYREFS`.
pub use rustix::process::{Resource, getrlimit};

/// `SCM_MAX_FD`: the most descriptors that the kernel takes in one message.
#[doc(alias = "SCM_MAX_FD")]
pub const MAX_FDS: usize = 253;

/// Words for [`Credentials`].
pub const SPACE_CREDENTIALS: usize = space(3 * size_of::<u32>());

/// Words for the descriptor of a process.
pub const SPACE_PIDFD: usize = space_fds(1);

const WORD: usize = size_of::<usize>();
const HEADER: usize = size_of::<c::cmsghdr>();
const FD: usize = size_of::<i32>();

/// `CMSG_SPACE`: the words of a control buffer that a message with `payload` bytes takes.
#[inline]
#[doc(alias = "CMSG_SPACE")]
pub const fn space(payload: usize) -> usize {
    HEADER / WORD + payload.div_ceil(WORD)
}

/// The words of a control buffer that `count` descriptors take.
#[inline]
pub const fn space_fds(count: usize) -> usize {
    space(count.saturating_mul(FD))
}

/// Control messages to send, in caller-given memory.
#[derive(Debug)]
pub struct Control<'b, 'fd> {
    words: &'b mut [usize],
    used: usize,
    fds: PhantomData<BorrowedFd<'fd>>,
}

impl Default for Control<'_, '_> {
    #[inline]
    fn default() -> Self {
        Self::new(&mut [])
    }
}

impl<'b, 'fd> Control<'b, 'fd> {
    /// No messages yet, and room for as many as fit into `words`.
    #[inline]
    pub const fn new(words: &'b mut [usize]) -> Self {
        Self {
            words,
            used: 0,
            fds: PhantomData,
        }
    }

    /// `SCM_RIGHTS`: duplicates of these descriptors for the receiver. None at all is no message.
    ///
    /// # Errors
    ///
    /// `NOBUFS`: fewer than [`space_fds`] words are left.
    #[inline]
    #[doc(alias = "SCM_RIGHTS")]
    pub fn push_fds(&mut self, fds: &'fd [impl AsFd]) -> Result<(), Errno> {
        if fds.is_empty() {
            return Ok(());
        }
        let payload = self.message(c::SOL_SOCKET, c::SCM_RIGHTS, fds.len().saturating_mul(FD))?;
        for (place, fd) in payload.chunks_exact_mut(FD).zip(fds) {
            place.copy_from_slice(&fd.as_fd().as_raw_fd().to_ne_bytes());
        }
        Ok(())
    }

    /// `SCM_CREDENTIALS`: who sends. The kernel checks that it is true (`PERM` from the send call),
    /// unless the sender is privileged. A receiver that has [`set_pass_credentials`] gets
    /// credentials without this too.
    ///
    /// [`set_pass_credentials`]: super::unix::set_pass_credentials
    ///
    /// # Errors
    ///
    /// `NOBUFS`: fewer than [`SPACE_CREDENTIALS`] words are left.
    #[inline]
    #[doc(alias = "SCM_CREDENTIALS")]
    pub fn push_credentials(&mut self, credentials: Credentials) -> Result<(), Errno> {
        let ucred = credentials.to_abi().map(u32::to_ne_bytes);
        self.push(c::SOL_SOCKET, c::SCM_CREDENTIALS, ucred.as_flattened())
    }

    /// A message of any other kind: `cmsg_level`, `cmsg_type` and its payload.
    ///
    /// # Errors
    ///
    /// - `NOBUFS`: fewer than [`space`] words are left.
    /// - `INVAL`: `SCM_RIGHTS`, whose payload would be descriptors that nobody lent, or `SOL_RDS`,
    ///   whose payloads are addresses that the kernel reads and writes.
    #[inline]
    pub fn push(&mut self, level: u32, kind: u32, payload: &[u8]) -> Result<(), Errno> {
        if (level, kind) == (c::SOL_SOCKET, c::SCM_RIGHTS) || level == c::SOL_RDS {
            return Err(Errno::INVAL);
        }
        let place = self.message(level, kind, payload.len())?;
        place.copy_from_slice(payload);
        Ok(())
    }

    /// Appends a header; gives the place of its payload, of `len` bytes.
    #[inline]
    fn message(&mut self, level: u32, kind: u32, len: usize) -> Result<&mut [u8], Errno> {
        let end = self.used.checked_add(space(len)).ok_or(Errno::NOBUFS)?;
        let words = self.words.get_mut(self.used..end).ok_or(Errno::NOBUFS)?;
        words.fill(0);
        self.used = end;
        let (header, payload) = bytes_mut(words)
            .split_at_mut_checked(HEADER)
            .ok_or(Errno::NOBUFS)?;
        let fields = HEADER - size_of::<[u32; 2]>();
        let (cmsg_len, level_and_type) = header.split_at_mut(fields);
        cmsg_len.copy_from_slice(&(HEADER + len).to_ne_bytes());
        level_and_type.copy_from_slice([level, kind].map(u32::to_ne_bytes).as_flattened());
        payload.get_mut(..len).ok_or(Errno::NOBUFS)
    }

    /// The header of a message with these bytes and this control data, without an address.
    #[inline]
    pub(super) fn header(&self, data: &[IoSlice<'_>]) -> c::msghdr {
        c::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: data.as_ptr().cast_mut().cast(),
            msg_iovlen: data.len(),
            msg_control: self.words.as_ptr().cast_mut().cast(),
            msg_controllen: self.used * WORD,
            msg_flags: 0,
        }
    }
}

/// `ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags)`: sends a message on a
/// connected socket; gives how many bytes. On a stream these may be fewer than there are: the
/// descriptors went with the first one.
///
/// # Errors
///
/// - `AGAIN`: it would have to wait, and the socket is non-blocking or [`SendFlags::DONTWAIT`].
/// - `PIPE`: no receiver is left (and `SIGPIPE`, unless [`SendFlags::NOSIGNAL`]). `CONNREFUSED`,
///   `CONNRESET`: the same, on datagram sockets. `NOTCONN`, `DESTADDRREQ`: not connected.
/// - `MSGSIZE`: longer than the socket's send buffer takes at once, or more than 1024 slices.
/// - `INVAL`: more than [`MAX_FDS`] descriptors. `PERM`: the credentials are not true.
/// - `TOOMANYREFS`: more descriptors than `RLIMIT_NOFILE` are sent by this user and not yet
///   received.
/// - `NOBUFS`: no memory. `INTR`: a signal was caught, and nothing was sent.
///
/// # References
///
/// - [sendmsg(2)](https://man7.org/linux/man-pages/man2/sendmsg.2.html)
#[inline]
pub fn sendmsg(
    socket: impl AsFd,
    data: &[IoSlice<'_>],
    control: &Control<'_, '_>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    // SAFETY: Without `MSG_ZEROCOPY`.
    unsafe { sendmsg_with(socket.as_fd(), data, control, copying(flags)) }
}

/// `sendmsg` with any flags.
///
/// # Safety
///
/// With `MSG_ZEROCOPY`, as for [`zerocopy::send`](super::zerocopy::send).
#[inline]
pub(super) unsafe fn sendmsg_with(
    socket: BorrowedFd<'_>,
    data: &[IoSlice<'_>],
    control: &Control<'_, '_>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    let header = control.header(data);
    // SAFETY: The header's pointers and lengths come from borrowed slices, which the call reads,
    // and the kernel afterwards only with `MSG_ZEROCOPY`; the descriptors in the control data are
    // borrowed by `control`.
    unsafe { call!(__NR_sendmsg, socket, &raw const header, flags.bits()) }
}

/// `sendmsg` with an address: sends a datagram to it.
///
/// # Errors
///
/// Those of [`sendmsg`]; `NOENT`, `CONNREFUSED`: nobody is there; `ISCONN`: not on a stream;
/// `ACCESS`: no write permission on the socket's file.
///
/// # References
///
/// - [sendmsg(2)](https://man7.org/linux/man-pages/man2/sendmsg.2.html)
#[inline]
pub fn sendmsg_to(
    socket: impl AsFd,
    address: &impl SocketAddrArg,
    data: &[IoSlice<'_>],
    control: &Control<'_, '_>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    let socket = socket.as_fd();
    let flags = copying(flags);
    let send = |name: *const _, len| {
        let header = c::msghdr {
            msg_name: name as *mut _,
            msg_namelen: len as i32,
            ..control.header(data)
        };
        // SAFETY: As in `sendmsg`; `with_sockaddr` gives an address that is valid for `len` bytes.
        unsafe { call!(__NR_sendmsg, socket, &raw const header, flags.bits()) }
    };
    // SAFETY: `send` only lets the call read what it is given.
    unsafe { address.with_sockaddr(send) }
}

/// What [`recvmsg`] could not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The call failed; nothing was received.
    Errno(Errno),
    /// `MSG_CTRUNC`: the control buffer is too small for what came. The bytes were received and are
    /// lost, all descriptors were closed. A stream is out of step now.
    Truncated,
    /// `MSG_CTRUNC` also, but there was room: the kernel could not open all descriptors, nearly
    /// always because the process is at `RLIMIT_NOFILE`. Else as for [`Error::Truncated`].
    Refused,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => errno.fmt(f),
            Self::Truncated => f.write_str("the control buffer is too small for what was sent"),
            Self::Refused => f.write_str("not all descriptors that were sent could be opened"),
        }
    }
}

impl core::error::Error for Error {}

impl From<Errno> for Error {
    #[inline]
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// A message that was received.
#[derive(Debug)]
pub struct Received<'c> {
    /// How many bytes; with [`RecvFlags::TRUNC`] how many there were, which may be more than fitted.
    pub bytes: usize,
    /// [`ReturnFlags::TRUNC`] says that a datagram was longer than the buffer, and cut off.
    pub flags: ReturnFlags,
    /// Who sent it, if the socket has a name and no connection.
    pub address: Option<SocketAddrAny>,
    /// What came beside the bytes.
    pub control: Messages<'c>,
}

/// Memory for an address that the kernel writes.
pub type AddressBuffer = MaybeUninit<SocketAddrStorage>;

/// `ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags)`: receives a message, with
/// `MSG_CMSG_CLOEXEC`.
///
/// 0 bytes are an empty datagram, or the end of a stream or packet connection.
///
/// # Errors
///
/// - [`Error::Truncated`], [`Error::Refused`]: control data is missing.
/// - `AGAIN`: nothing is there, and the socket is non-blocking or [`RecvFlags::DONTWAIT`].
/// - `INTR`: a signal was caught, and nothing was received.
/// - `CONNRESET`: the peer closed without reading all. `NOTCONN`: not connected.
///
/// # References
///
/// - [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html)
#[inline]
pub fn recvmsg<'c>(
    socket: impl AsFd,
    data: &mut [IoSliceMut<'_>],
    control: &'c mut [usize],
    flags: RecvFlags,
) -> Result<Received<'c>, Error> {
    let mut name = AddressBuffer::uninit();
    let room = size_of_val(control);
    let mut header = receive_header(data, control, Some(&mut name));
    let flags = (flags | RecvFlags::CMSG_CLOEXEC).bits();
    // SAFETY: The header's pointers and lengths come from mutable borrows, to which the call writes.
    let bytes = unsafe { call!(__NR_recvmsg, socket.as_fd(), &raw mut header, flags) }?;
    // SAFETY: The call filled `header`, which was made from `name` and `control`.
    unsafe { Received::new(&header, bytes, room) }
}

/// The header of a message to receive into these buffers.
#[inline]
pub(super) fn receive_header<T>(
    data: &mut [IoSliceMut<'_>],
    control: &mut [T],
    name: Option<&mut AddressBuffer>,
) -> c::msghdr {
    let (msg_name, msg_namelen) = match name {
        Some(name) => (
            name.as_mut_ptr().cast(),
            size_of::<SocketAddrStorage>() as i32,
        ),
        None => (ptr::null_mut(), 0),
    };
    c::msghdr {
        msg_name,
        msg_namelen,
        msg_iov: data.as_mut_ptr().cast(),
        msg_iovlen: data.len(),
        msg_control: control.as_mut_ptr().cast(),
        msg_controllen: size_of_val(control),
        msg_flags: 0,
    }
}

/// The address that a receiving call wrote, if there is one.
///
/// # Safety
///
/// As for [`Received::new`].
#[inline]
unsafe fn sender(header: &c::msghdr) -> Option<SocketAddrAny> {
    // SAFETY: The kernel wrote an address of this length there, if there is a buffer.
    unsafe { address(header.msg_name.cast(), header.msg_namelen as u32) }
}

/// A message that was received, with its control data as the kernel wrote them.
#[derive(Debug)]
pub struct Unparsed {
    /// As of [`Received`].
    pub bytes: usize,
    /// [`ReturnFlags::CTRUNC`] says that control data are missing.
    pub flags: ReturnFlags,
    /// As of [`Received`].
    pub address: Option<SocketAddrAny>,
    /// How many bytes of control data there are.
    pub control: usize,
}

/// [`recvmsg`] that leaves the control data to the caller, also when they are cut off, and makes
/// descriptors close-on-exec only if [`RecvFlags::CMSG_CLOEXEC`] says so. Descriptors that are never made
/// owned ones stay open: parse the data with [`Messages::new`], once.
///
/// ```
/// use linipc_core::io::{IoSlice, IoSliceMut};
/// use linipc_core::socket::cmsg::{self, Control, Message, Messages};
/// use linipc_core::socket::{RecvFlags, ReturnFlags, SendFlags, SocketType, unix};
///
/// let (a, b) = unix::pair(SocketType::STREAM)?;
/// let mut words = [0; cmsg::space_fds(2)];
/// let mut control = Control::new(&mut words);
/// let lent = [&a, &a];
/// control.push_fds(&lent)?;
/// cmsg::sendmsg(&a, &[IoSlice::new(b"two")], &control, SendFlags::empty())?;
///
/// // Room for length, level, type and one of the two: it comes, and so do the bytes.
/// const ONE: usize = size_of::<usize>() + 3 * size_of::<u32>();
/// let (mut bytes, mut room) = ([0; 8], [0; ONE]);
/// let mut data = [IoSliceMut::new(&mut bytes)];
/// let received = cmsg::recvmsg_unparsed(&b, &mut data, &mut room, RecvFlags::CMSG_CLOEXEC)?;
/// assert_eq!((received.bytes, received.control), (3, ONE));
/// assert!(received.flags.contains(ReturnFlags::CTRUNC));
/// // SAFETY: The kernel wrote them, and they are parsed this once.
/// let mut messages = unsafe { Messages::new(&room[..received.control]) };
/// assert!(matches!(messages.next(), Some(Message::Rights(fds)) if fds.len() == 1));
/// # Ok::<(), linipc_core::Errno>(())
/// ```
///
/// # Errors
///
/// Those of the call, as of [`recvmsg`].
///
/// # References
///
/// - [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html)
#[inline]
pub fn recvmsg_unparsed(
    socket: impl AsFd,
    data: &mut [IoSliceMut<'_>],
    control: &mut [u8],
    flags: RecvFlags,
) -> Result<Unparsed, Errno> {
    let mut name = AddressBuffer::uninit();
    let mut header = receive_header(data, control, Some(&mut name));
    let flags = flags.bits();
    // SAFETY: The header's pointers and lengths come from mutable borrows, to which the call writes.
    let bytes = unsafe { call!(__NR_recvmsg, socket.as_fd(), &raw mut header, flags) }?;
    Ok(Unparsed {
        bytes,
        flags: ReturnFlags::from_bits_retain(header.msg_flags),
        // SAFETY: The call filled `header`, which was made from `name`.
        address: unsafe { sender(&header) },
        control: header.msg_controllen.min(control.len()),
    })
}

impl<'c> Received<'c> {
    /// Takes over what the kernel wrote: the descriptors are closed if it is an error.
    ///
    /// # Safety
    ///
    /// A receiving call must have succeeded and filled `header`, which [`receive_header`] made from
    /// a control buffer of `room` bytes that is borrowed for `'c`, and from an address buffer that
    /// still is there. This must be the only time.
    #[inline]
    pub(super) unsafe fn new(header: &c::msghdr, bytes: usize, room: usize) -> Result<Self, Error> {
        let len = header.msg_controllen.min(room);
        // SAFETY: The kernel wrote `len` bytes of control data to the buffer, which is borrowed for
        // `'c` (the caller's promise).
        let written = unsafe { slice::from_raw_parts(header.msg_control.cast::<u8>(), len) };
        // SAFETY: The kernel wrote it, and this is the only time (the caller's promise).
        let control = unsafe { Messages::new(written) };
        let flags = ReturnFlags::from_bits_retain(header.msg_flags);
        if flags.contains(ReturnFlags::CTRUNC) {
            return Err(cut_off(written, room));
        }
        // SAFETY: The call filled `header` (the caller's promise).
        let address = unsafe { sender(header) };
        Ok(Self {
            bytes,
            flags,
            address,
            control,
        })
    }
}

/// The address in a buffer, if there is one.
///
/// Not inlined: the compiler sees here that the panics of rustix's function cannot come.
///
/// # Safety
///
/// If `name` is not null, it is valid for a read, and its first `len` bytes are an address.
#[inline(never)]
pub(super) unsafe fn address(name: *const AddressBuffer, len: u32) -> Option<SocketAddrAny> {
    const MAX: u32 = size_of::<SocketAddrStorage>() as u32;
    match len {
        2..=MAX if !name.is_null() => {
            // SAFETY: The caller's promise.
            let storage = unsafe { name.read() };
            // SAFETY: The caller's promise; a family fits into the length.
            Some(unsafe { SocketAddrAny::new(storage, len) })
        }
        _ => None,
    }
}

/// Why control data that was `written` to a buffer of `room` bytes is not all that there was.
#[cold]
fn cut_off(written: &[u8], room: usize) -> Error {
    let mut raw = Raw::new(written);
    let mut start = 0;
    let fits = loop {
        let Some(message) = raw.next() else {
            break room.saturating_sub(start) >= HEADER + FD;
        };
        if (message.level, message.kind) == (c::SOL_SOCKET, c::SCM_RIGHTS) {
            let could = room.saturating_sub(start + HEADER) / FD;
            break message.payload.len() / FD < could;
        }
        start = written.len() - raw.rest.len();
    };
    if fits {
        Error::Refused
    } else {
        Error::Truncated
    }
}

/// A control message.
#[derive(Debug)]
#[non_exhaustive]
pub enum Message<'c> {
    /// `SCM_RIGHTS`: descriptors.
    #[doc(alias = "SCM_RIGHTS")]
    Rights(Fds<'c>),
    /// `SCM_CREDENTIALS`: who sent, as the kernel knows or the sender was allowed to say.
    #[doc(alias = "SCM_CREDENTIALS")]
    Credentials(Credentials),
    /// `SCM_PIDFD`: the process that sent, as a descriptor, close-on-exec. `SRCH`: it is gone, and
    /// the kernel is older than 6.16. `MFILE`: no descriptor is free.
    #[doc(alias = "SCM_PIDFD")]
    Pidfd(Result<OwnedFd, Errno>),
    /// Any other kind. It carries no descriptor.
    Other(RawMessage<'c>),
}

/// The control messages of one received message. Descriptors that are not taken out are closed
/// with it.
///
/// # Invariants
///
/// The kernel wrote the bytes, and nobody else owns the descriptors whose numbers are in `raw`.
#[derive(Debug)]
pub struct Messages<'c> {
    raw: Raw<'c>,
}

impl<'c> Messages<'c> {
    /// The messages in control data.
    ///
    /// # Safety
    ///
    /// A receiving call must have written the bytes, and nobody else may take the descriptors whose
    /// numbers are in them.
    #[inline]
    pub const unsafe fn new(written: &'c [u8]) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            raw: Raw::new(written),
        }
    }
}

impl<'c> Iterator for Messages<'c> {
    type Item = Message<'c>;

    #[inline]
    fn next(&mut self) -> Option<Message<'c>> {
        // INVARIANT: The descriptors of `message` are no longer in `raw`.
        let message = self.raw.next()?;
        let payload = message.payload;
        Some(match (message.level, message.kind) {
            (c::SOL_SOCKET, c::SCM_RIGHTS) => Message::Rights(Fds { numbers: payload }),
            (c::SOL_SOCKET, abi::SCM_PIDFD) => match words(payload) {
                // SAFETY: The kernel wrote it for us (the type's invariant), or an error number.
                Some([number]) => Message::Pidfd(unsafe { own(number) }),
                None => Message::Other(message),
            },
            (c::SOL_SOCKET, c::SCM_CREDENTIALS) => match words(payload) {
                Some(ucred) => Message::Credentials(Credentials::from_abi(ucred)),
                None => Message::Other(message),
            },
            _ => Message::Other(message),
        })
    }
}

impl FusedIterator for Messages<'_> {}

impl Drop for Messages<'_> {
    #[inline]
    fn drop(&mut self) {
        // Not `for_each`, into which a second copy of `next` would be inlined.
        while self.next().is_some() {}
    }
}

/// Received descriptors. Those that are not taken out are closed with it.
///
/// # Invariants
///
/// The kernel wrote the numbers, and nobody else owns the descriptors.
#[derive(Debug)]
pub struct Fds<'c> {
    numbers: &'c [u8],
}

impl Iterator for Fds<'_> {
    type Item = OwnedFd;

    #[inline]
    fn next(&mut self) -> Option<OwnedFd> {
        let (number, rest) = self.numbers.split_first_chunk::<FD>()?;
        // INVARIANT: This number is no longer among them.
        self.numbers = rest;
        // SAFETY: The kernel wrote it for us, and it is not among `numbers` any more.
        unsafe { own(u32::from_ne_bytes(*number)) }.ok()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.numbers.len() / FD;
        (len, Some(len))
    }
}

impl ExactSizeIterator for Fds<'_> {}
impl FusedIterator for Fds<'_> {}

impl Drop for Fds<'_> {
    #[inline]
    fn drop(&mut self) {
        // Not `for_each`, into which a second copy of `next` would be inlined.
        while self.next().is_some() {}
    }
}

/// The descriptor that the kernel opened as `number`, or the error that it wrote instead.
///
/// # Safety
///
/// If it is a descriptor, nobody else may own it.
#[inline]
unsafe fn own(number: u32) -> Result<OwnedFd, Errno> {
    let number = number as i32;
    if number < 0 {
        let error = number.wrapping_neg();
        // `Errno` takes no other numbers.
        let known = matches!(error, 1..=4095);
        return Err(if known {
            Errno::from_raw_os_error(error)
        } else {
            Errno::BADF
        });
    }
    // SAFETY: The caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A control message as it is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawMessage<'c> {
    /// `cmsg_level`
    pub level: u32,
    /// `cmsg_type`
    pub kind: u32,
    /// `CMSG_DATA`
    pub payload: &'c [u8],
}

/// `CMSG_FIRSTHDR` and `CMSG_NXTHDR`: the control messages in any bytes. Makes no descriptors.
///
/// Stops at a header that is cut off, or whose length is less than its own or beyond the end.
#[derive(Debug, Clone)]
#[doc(alias = "CMSG_NXTHDR")]
pub struct Raw<'c> {
    rest: &'c [u8],
}

impl<'c> Raw<'c> {
    /// The messages in `control`.
    #[inline]
    pub const fn new(control: &'c [u8]) -> Self {
        Self { rest: control }
    }
}

impl<'c> Iterator for Raw<'c> {
    type Item = RawMessage<'c>;

    #[inline]
    fn next(&mut self) -> Option<RawMessage<'c>> {
        let rest = core::mem::take(&mut self.rest);
        let (cmsg_len, after) = rest.split_first_chunk()?;
        let len = usize::from_ne_bytes(*cmsg_len);
        let (level, after) = after.split_first_chunk()?;
        let (kind, _) = after.split_first_chunk()?;
        let message = RawMessage {
            level: u32::from_ne_bytes(*level),
            kind: u32::from_ne_bytes(*kind),
            payload: rest.get(HEADER..len)?,
        };
        self.rest = rest.get(len.next_multiple_of(WORD)..).unwrap_or_default();
        Some(message)
    }
}

impl FusedIterator for Raw<'_> {}

/// The payload as `N` words of 32 bits, if it has them.
#[inline]
fn words<const N: usize>(payload: &[u8]) -> Option<[u32; N]> {
    let mut words = [0; N];
    let mut rest = payload;
    for word in &mut words {
        let (bytes, after) = rest.split_first_chunk()?;
        *word = u32::from_ne_bytes(*bytes);
        rest = after;
    }
    Some(words)
}

#[inline]
fn bytes_mut(words: &mut [usize]) -> &mut [u8] {
    let len = size_of_val(words);
    // SAFETY: Words are bytes, all of which are initialised and borrowed.
    unsafe { slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) }
}
