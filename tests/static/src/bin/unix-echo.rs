//! An echo over a Unix socket: what comes back are the bytes and the descriptor.
//!
//! - `unix-echo serve PATH`: sends each packet back with its descriptor, if it has one, until it is killed;
//!   the socket is left then.
//! - `unix-echo send PATH TEXT`: sends the text with its standard output; writes the text that comes back
//!   into the descriptor that comes back.

#![no_std]
#![no_main]

use core::ffi::CStr;

use linipc_core::Errno;
use linipc_core::fd::{AsFd, BorrowedFd, OwnedFd};
use linipc_core::io::{IoSlice, IoSliceMut};
use linipc_core::socket::cmsg::{self, Control, Message};
use linipc_core::socket::{RecvFlags, SendFlags, SocketType, accept, bind, connect, listen, unix};
use linipc_static::report::{errno, refused, stdout, write_all, wrong};
use linipc_static::{Args, entry};

const USAGE: &[u8] = b"unix-echo serve PATH | send PATH TEXT";

/// The longest packet.
const BYTES: usize = 4096;

entry!(main);

fn main(args: Args) -> u8 {
    let done = match (args.bytes(1), args.get(2), args.bytes(3), args.len()) {
        (Some(b"serve"), Some(path), None, 3) => serve(path),
        // An empty packet is the end.
        (Some(b"send"), Some(path), Some(text @ [_, ..]), 4) => send(path, text),
        _ => return wrong(USAGE),
    };
    match done {
        Ok(()) => 0,
        Err(errno) => refused(b"unix-echo", errno),
    }
}

fn serve(path: &CStr) -> Result<(), Errno> {
    let listener = unix::socket(SocketType::SEQPACKET)?;
    bind(&listener, &unix::path(path)?)?;
    listen(&listener, 16)?;
    loop {
        let client = accept(&listener)?;
        // One client at a time: the next one waits for a silent one, but an error is not its trouble.
        let _ = echo(&client);
    }
}

/// Until the client has closed its end.
fn echo(client: impl AsFd) -> Result<(), Errno> {
    let mut bytes = [0; BYTES];
    loop {
        let (bytes, fd) = receive(client.as_fd(), &mut bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        transmit(client.as_fd(), bytes, fd.as_ref().map(AsFd::as_fd))?;
    }
}

fn send(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    if text.len() > BYTES {
        return Err(Errno::MSGSIZE);
    }
    let socket = unix::socket(SocketType::SEQPACKET)?;
    connect(&socket, &unix::path(path)?)?;
    transmit(socket.as_fd(), text, Some(stdout()))?;
    let mut bytes = [0; BYTES];
    let (text, fd) = receive(socket.as_fd(), &mut bytes)?;
    let fd = fd.ok_or(Errno::BADF)?;
    write_all(fd.as_fd(), text)?;
    write_all(fd.as_fd(), b"\n")
}

/// Sends a packet, and a descriptor with it.
#[inline(never)]
fn transmit(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut control = [0; cmsg::space_fds(1)];
    let mut control = Control::new(&mut control);
    control.push_fds(fd.as_slice())?;
    cmsg::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives a packet, and the descriptor that came with it.
#[inline(never)]
fn receive<'b>(
    socket: BorrowedFd<'_>,
    bytes: &'b mut [u8],
) -> Result<(&'b [u8], Option<OwnedFd>), Errno> {
    let mut control = [0; cmsg::space_fds(1)];
    let data = &mut [IoSliceMut::new(bytes)];
    let received = cmsg::recvmsg(socket, data, &mut control, RecvFlags::TRUNC).map_err(errno)?;
    let mut fd = None;
    for message in received.control {
        if let Message::Rights(mut fds) = message {
            fd = fds.next();
        }
    }
    // There may have been more than fit.
    let bytes = bytes.get(..received.bytes).ok_or(Errno::MSGSIZE)?;
    Ok((bytes, fd))
}
