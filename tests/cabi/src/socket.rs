//! socket(2) and what goes with it.

use std::ffi::{c_int, c_uint, c_void};
use std::time::{Duration, Instant};

use linipc_core::Errno;
use linipc_core::fd::{BorrowedFd, IntoRawFd};
use linipc_core::io::{IoSlice, IoSliceMut};
use linipc_core::socket::{
    self, AddressFamily, Protocol, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketAddrArg,
    SocketFlags, SocketType,
    cmsg::{self, Control},
};
use linipc_core::socket::{SocketAddrLen, SocketAddrOpaque};

use crate::memory::{fd, get, get_mut, put, slice, slice_mut};
use crate::{cancellation_point, export};

/// An address as C has it, for the kernel to judge.
#[derive(Clone, Copy)]
struct Address {
    start: *const c_void,
    len: libc::socklen_t,
}

// SAFETY: The caller of the C function promised that so many bytes are there.
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f(self.start.cast(), self.len)
    }
}

export! {
    /// socket(2)
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        let (kind, flags) = split(kind);
        socket::socket_with(to_domain(domain)?, kind, flags, to_protocol(protocol))
    }

    /// socketpair(2)
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut [c_int; 2]) -> c_int {
        let pair = get_mut(pair)?;
        let (kind, flags) = split(kind);
        let (a, b) =
            socket::socketpair_with(to_domain(domain)?, kind, flags, to_protocol(protocol))?;
        *pair = [a.into_raw_fd(), b.into_raw_fd()];
        Ok(())
    }

    /// bind(2)
    fn bind(socket: c_int, start: *const c_void, len: libc::socklen_t) -> c_int {
        socket::bind(fd(socket)?, &Address { start, len })
    }

    /// listen(2)
    fn listen(socket: c_int, backlog: c_int) -> c_int {
        socket::listen(fd(socket)?, backlog)
    }

    /// accept(2)
    fn accept(socket: c_int, start: *mut c_void, len: *mut libc::socklen_t) -> c_int {
        cancellation_point();
        take(socket, start, len, SocketFlags::empty())
    }

    /// accept(2)
    fn accept4(
        socket: c_int,
        start: *mut c_void,
        len: *mut libc::socklen_t,
        flags: c_int,
    ) -> c_int {
        cancellation_point();
        take(socket, start, len, SocketFlags::from_bits_retain(flags as c_uint))
    }

    /// connect(2)
    fn connect(socket: c_int, start: *const c_void, len: libc::socklen_t) -> c_int {
        cancellation_point();
        socket::connect(fd(socket)?, &Address { start, len })
    }

    /// shutdown(2)
    fn shutdown(socket: c_int, how: c_int) -> c_int {
        let how = match how {
            libc::SHUT_RD => Shutdown::Read,
            libc::SHUT_WR => Shutdown::Write,
            libc::SHUT_RDWR => Shutdown::Both,
            _ => return Err(Errno::INVAL),
        };
        socket::shutdown(fd(socket)?, how)
    }

    /// send(2)
    fn send(socket: c_int, start: *const c_void, len: usize, flags: c_int) -> isize {
        cancellation_point();
        put_bytes(socket, slice(start.cast(), len)?, flags, None)
    }

    /// send(2)
    fn sendto(
        socket: c_int,
        start: *const c_void,
        len: usize,
        flags: c_int,
        address: *const c_void,
        address_len: libc::socklen_t,
    ) -> isize {
        cancellation_point();
        let address = Address { start: address, len: address_len };
        let address = Some(address).filter(|address| !address.start.is_null());
        put_bytes(socket, slice(start.cast(), len)?, flags, address)
    }

    /// recv(2)
    fn recv(socket: c_int, start: *mut c_void, len: usize, flags: c_int) -> isize {
        cancellation_point();
        get_bytes(socket, slice_mut(start.cast(), len)?, flags, None)
    }

    /// [`recv`] of programs that were compiled with `_FORTIFY_SOURCE`.
    fn __recv_chk(
        socket: c_int,
        start: *mut c_void,
        len: usize,
        room: usize,
        flags: c_int,
    ) -> isize {
        cancellation_point();
        fits(len, room);
        get_bytes(socket, slice_mut(start.cast(), len)?, flags, None)
    }

    /// recv(2)
    fn recvfrom(
        socket: c_int,
        start: *mut c_void,
        len: usize,
        flags: c_int,
        address: *mut c_void,
        address_len: *mut libc::socklen_t,
    ) -> isize {
        cancellation_point();
        let address = (address, address_len);
        get_bytes(socket, slice_mut(start.cast(), len)?, flags, Some(address))
    }

    /// [`recvfrom`] of programs that were compiled with `_FORTIFY_SOURCE`.
    fn __recvfrom_chk(
        socket: c_int,
        start: *mut c_void,
        len: usize,
        room: usize,
        flags: c_int,
        address: *mut c_void,
        address_len: *mut libc::socklen_t,
    ) -> isize {
        cancellation_point();
        fits(len, room);
        let address = (address, address_len);
        get_bytes(socket, slice_mut(start.cast(), len)?, flags, Some(address))
    }

    /// sendmsg(2)
    fn sendmsg(socket: c_int, message: *const libc::msghdr, flags: c_int) -> isize {
        cancellation_point();
        send_message(socket, &get(message)?, flags)
    }

    /// recvmsg(2)
    fn recvmsg(socket: c_int, message: *mut libc::msghdr, flags: c_int) -> isize {
        cancellation_point();
        receive_message(socket, get_mut(message)?, flags)
    }

    /// getsockopt(2)
    fn getsockopt(
        socket: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        len: *mut libc::socklen_t,
    ) -> c_int {
        let (socket, len) = (fd(socket)?, get_mut(len)?);
        let room = usize::try_from(*len as c_int).map_err(|_| Errno::INVAL)?;
        let value = slice_mut(value.cast(), room)?;
        *len = socket::getsockopt(socket, level as u32, name as u32, value)? as libc::socklen_t;
        Ok(())
    }

    /// getsockopt(2)
    fn setsockopt(
        socket: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: libc::socklen_t,
    ) -> c_int {
        let len = usize::try_from(len as c_int).map_err(|_| Errno::INVAL)?;
        let value = slice(value.cast(), len)?;
        socket::setsockopt(fd(socket)?, level as u32, name as u32, value)
    }

    /// getsockname(2)
    fn getsockname(socket: c_int, start: *mut c_void, len: *mut libc::socklen_t) -> c_int {
        put_address(Some(socket::getsockname(fd(socket)?)?), start, len)
    }

    /// getpeername(2)
    fn getpeername(socket: c_int, start: *mut c_void, len: *mut libc::socklen_t) -> c_int {
        put_address(socket::getpeername(fd(socket)?)?, start, len)
    }
}

fn to_domain(domain: c_int) -> Result<AddressFamily, Errno> {
    match u16::try_from(domain) {
        Ok(domain) => Ok(AddressFamily::from_raw(domain)),
        Err(_) => Err(Errno::AFNOSUPPORT),
    }
}

fn to_protocol(protocol: c_int) -> Option<Protocol> {
    std::num::NonZeroU32::new(protocol as u32).map(Protocol::from_raw)
}

/// The type and the flags that C has in one argument.
fn split(kind: c_int) -> (SocketType, SocketFlags) {
    const TYPE: u32 = 0xf;
    let kind = kind as u32;
    (
        SocketType::from_raw(kind & TYPE),
        SocketFlags::from_bits_retain(kind & !TYPE),
    )
}

unsafe fn take(
    socket: c_int,
    start: *mut c_void,
    len: *mut libc::socklen_t,
    flags: SocketFlags,
) -> Result<c_int, Errno> {
    let socket = fd(socket)?;
    if start.is_null() {
        return Ok(socket::accept_with(socket, flags)?.into_raw_fd());
    }
    let (accepted, from) = socket::acceptfrom_with(socket, flags)?;
    put_address(from, start, len)?;
    Ok(accepted.into_raw_fd())
}

/// As much of it as there is room for, and how long it is.
unsafe fn put_address(
    address: Option<SocketAddrAny>,
    start: *mut c_void,
    len: *mut libc::socklen_t,
) -> Result<(), Errno> {
    let room = get_mut(len)?;
    let has = address.as_ref().map_or(0, SocketAddrAny::addr_len);
    let fits = usize::try_from(*room as c_int)
        .map_err(|_| Errno::INVAL)?
        .min(has as usize);
    if let (Some(address), false) = (address, fits == 0) {
        let to = slice_mut::<u8>(start.cast(), fits)?;
        to.as_mut_ptr().copy_from(address.as_ptr().cast(), fits);
    }
    *room = has;
    Ok(())
}

unsafe fn put_bytes(
    socket: c_int,
    bytes: &[u8],
    flags: c_int,
    address: Option<Address>,
) -> Result<usize, Errno> {
    let (socket, flags) = (fd(socket)?, SendFlags::from_bits_retain(flags as c_uint));
    match address {
        Some(address) => socket::sendto(socket, bytes, flags, &address),
        None if flags.bits() & libc::MSG_ZEROCOPY as c_uint != 0 => {
            socket::zerocopy::send(socket, &[IoSlice::new(bytes)], flags)
        }
        None => socket::send(socket, bytes, flags),
    }
}

unsafe fn get_bytes(
    socket: c_int,
    bytes: &mut [u8],
    flags: c_int,
    address: Option<(*mut c_void, *mut libc::socklen_t)>,
) -> Result<usize, Errno> {
    let (socket, flags) = (fd(socket)?, RecvFlags::from_bits_retain(flags as c_uint));
    match address {
        Some((start, len)) if !start.is_null() => {
            let (_, received, from) = socket::recvfrom(socket, bytes, flags)?;
            put_address(from, start, len)?;
            Ok(received)
        }
        _ => socket::recv(socket, bytes, flags).map(|(_, received)| received),
    }
}

/// The check of `_FORTIFY_SOURCE`.
unsafe fn fits(len: usize, room: usize) {
    if len > room {
        libc::abort();
    }
}

/// Room on the stack for control data, which are rarely more than one list of descriptors.
const CONTROL: usize = 512;

/// More than any kernel takes (`net.core.optmem_max`), and perhaps more than there is.
const TOO_MUCH_CONTROL: usize = 1 << 24;

unsafe fn send_message(
    socket: c_int,
    message: &libc::msghdr,
    flags: c_int,
) -> Result<usize, Errno> {
    let (socket, flags) = (fd(socket)?, SendFlags::from_bits_retain(flags as c_uint));
    let data = slice(message.msg_iov.cast::<IoSlice<'_>>(), message.msg_iovlen)?;
    let control = slice(message.msg_control.cast::<u8>(), message.msg_controllen)?;
    if control.len() > TOO_MUCH_CONTROL {
        return Err(Errno::NOBUFS);
    }
    let address = Address {
        start: message.msg_name,
        len: message.msg_namelen,
    };
    if flags.bits() & libc::MSG_ZEROCOPY as c_uint != 0
        && control.is_empty()
        && address.start.is_null()
    {
        return socket::zerocopy::send(socket, data, flags);
    }
    if control.is_empty() {
        return send_with(socket, address, data, &Control::default(), flags);
    }
    let (mut stack, mut heap) = ([0; CONTROL], Vec::new());
    let words = control.len().div_ceil(size_of::<usize>());
    let words = match stack.get_mut(..words) {
        Some(stack) => stack,
        None => {
            heap.resize(words, 0);
            &mut heap
        }
    };
    let mut lent = [BorrowedFd::borrow_raw(0); cmsg::MAX_FDS];
    let control = lend(control, words, &mut lent)?;
    send_with(socket, address, data, &control, flags)
}

fn send_with(
    socket: BorrowedFd<'_>,
    address: Address,
    data: &[IoSlice<'_>],
    control: &Control<'_, '_>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    match address.start.is_null() {
        true => cmsg::sendmsg(socket, data, control, flags),
        false => cmsg::sendmsg_to(socket, &address, data, control, flags),
    }
}

/// The control data of C, message by message.
unsafe fn lend<'b, 'fd>(
    bytes: &[u8],
    words: &'b mut [usize],
    mut free: &'fd mut [BorrowedFd<'fd>],
) -> Result<Control<'b, 'fd>, Errno> {
    const HEADER: usize = size_of::<libc::cmsghdr>();

    let mut control = Control::new(words);
    let mut at = 0;
    for message in cmsg::Raw::new(bytes) {
        at = (at + HEADER + message.payload.len()).next_multiple_of(size_of::<usize>());
        if (message.level, message.kind) != (libc::SOL_SOCKET as u32, libc::SCM_RIGHTS as u32) {
            control.push(message.level, message.kind, message.payload)?;
            continue;
        }
        let (numbers, _) = message.payload.as_chunks();
        let (places, rest) = free
            .split_at_mut_checked(numbers.len())
            .ok_or(Errno::INVAL)?;
        free = rest;
        for (place, number) in places.iter_mut().zip(numbers) {
            *place = fd(c_int::from_ne_bytes(*number))?;
        }
        control.push_fds(places)?;
    }
    // What is left is shorter than a header, or says that it is longer than there is.
    match bytes.len().saturating_sub(at) < HEADER {
        true => Ok(control),
        false => Err(Errno::INVAL),
    }
}

unsafe fn receive_message(
    socket: c_int,
    message: &mut libc::msghdr,
    flags: c_int,
) -> Result<usize, Errno> {
    let (socket, flags) = (fd(socket)?, RecvFlags::from_bits_retain(flags as c_uint));
    let data = slice_mut(message.msg_iov.cast::<IoSliceMut<'_>>(), message.msg_iovlen)?;
    let control = slice_mut(message.msg_control.cast::<u8>(), message.msg_controllen)?;
    if !message.msg_name.is_null() && (message.msg_namelen as c_int) < 0 {
        return Err(Errno::INVAL);
    }
    let received = cmsg::recvmsg_unparsed(socket, data, control, flags)?;
    message.msg_flags = received.flags.bits() as c_int;
    message.msg_controllen = received.control;
    if !message.msg_name.is_null() {
        put_address(received.address, message.msg_name, &mut message.msg_namelen)?;
    }
    Ok(received.bytes)
}

export! {
    /// sendmmsg(2)
    fn sendmmsg(socket: c_int, messages: *mut libc::mmsghdr, count: c_uint, flags: c_int) -> c_int {
        cancellation_point();
        let mut sent = 0;
        for message in slice_mut(messages, count.min(1024) as usize)? {
            match send_message(socket, &message.msg_hdr, flags) {
                Ok(bytes) => message.msg_len = bytes as c_uint,
                // As the kernel has it, the next call meets the error, if it lasts.
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
            sent += 1;
        }
        Ok(sent)
    }

    /// recvmmsg(2)
    fn recvmmsg(
        socket: c_int,
        messages: *mut libc::mmsghdr,
        count: c_uint,
        flags: c_int,
        timeout: *mut libc::timespec,
    ) -> c_int {
        cancellation_point();
        let until = match timeout.is_null() {
            true => None,
            false => Instant::now().checked_add(to_duration(get(timeout)?)?),
        };
        let (mut flags, mut received) = (flags, 0);
        for message in slice_mut(messages, count.min(1024) as usize)? {
            match receive_message(socket, &mut message.msg_hdr, flags & !libc::MSG_WAITFORONE) {
                Ok(bytes) => message.msg_len = bytes as c_uint,
                Err(_) if received > 0 => break,
                Err(error) => return Err(error),
            }
            received += 1;
            if flags & libc::MSG_WAITFORONE != 0 {
                flags |= libc::MSG_DONTWAIT;
            }
            // The kernel too looks at the time only after a message.
            if let Some(until) = until {
                let left = until.saturating_duration_since(Instant::now());
                put(timeout, libc::timespec {
                    tv_sec: left.as_secs() as _,
                    tv_nsec: left.subsec_nanos().into(),
                })?;
                if left.is_zero() {
                    break;
                }
            }
            if message.msg_hdr.msg_flags & libc::MSG_OOB != 0 {
                break;
            }
        }
        Ok(received)
    }
}

fn to_duration(time: libc::timespec) -> Result<Duration, Errno> {
    match (u64::try_from(time.tv_sec), time.tv_nsec) {
        (Ok(seconds), nanos @ 0..1_000_000_000) => Ok(Duration::new(seconds, nanos as u32)),
        _ => Err(Errno::INVAL),
    }
}
