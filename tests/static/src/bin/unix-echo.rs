//! An echo over a Unix socket: what comes back are the bytes and the descriptors.
//!
//! - `unix-echo serve PATH`: sends each packet back with its descriptors, until it is killed.
//! - `unix-echo send PATH TEXT`: sends the text with the writing end of a pipe; writes what comes back
//!   into the descriptor that comes back, and prints what comes out of the pipe.

#![no_std]
#![no_main]

use core::ffi::CStr;
use core::slice;

use linipc_core::fd::{AsFd, OwnedFd};
use linipc_core::io::{self, IoSlice, IoSliceMut};
use linipc_core::pipe::pipe;
use linipc_core::socket::cmsg::{self, Control, Message};
use linipc_core::socket::{RecvFlags, SendFlags, SocketType, accept, bind, connect, listen, unix};
use linipc_static::report::{Failure, ended, print, write_all};
use linipc_static::ring_link::refused;
use linipc_static::{Args, entry};

const USAGE: &[u8] = b"unix-echo serve PATH | send PATH TEXT";

/// The longest packet, and the most descriptors of one.
const BYTES: usize = 4096;
const FDS: usize = 8;

entry!(main);

fn main(args: Args) -> u8 {
    ended(b"unix-echo", USAGE, run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    match (args.bytes(1), args.get(2), args.bytes(3), args.len()) {
        (Some(b"serve"), Some(path), None, 3) => Ok(serve(path)?),
        (Some(b"send"), Some(path), Some(text), 4) => send(path, text),
        _ => Err(Failure::Usage),
    }
}

fn serve(path: &CStr) -> Result<(), linipc_core::Errno> {
    let listener = unix::socket(SocketType::SEQPACKET)?;
    bind(&listener, &unix::path(path)?)?;
    listen(&listener, 16)?;
    loop {
        let client = accept(&listener)?;
        // What one client does wrong is not the next one's trouble.
        let _ = echo(&client);
    }
}

/// Until the client has closed its end.
fn echo(client: impl AsFd) -> Result<(), linipc_core::Errno> {
    let mut bytes = [0; BYTES];
    loop {
        let mut fds = [const { None }; FDS];
        let len = receive(&client, &mut bytes, &mut fds)?;
        if len == 0 {
            return Ok(());
        }
        transmit(&client, bytes.get(..len).unwrap_or_default(), &fds)?;
    }
}

fn send(path: &CStr, text: &[u8]) -> Result<(), Failure> {
    let (reader, writer) = pipe()?;
    let socket = unix::socket(SocketType::SEQPACKET)?;
    connect(&socket, &unix::path(path)?)?;
    transmit(&socket, text, &[Some(writer)])?;
    let mut bytes = [0; BYTES];
    let mut fds = [None];
    let len = receive(&socket, &mut bytes, &mut fds)?;
    let [Some(writer)] = fds else {
        return Err(Failure::Because("the descriptor did not come back"));
    };
    write_all(&writer, bytes.get(..len).unwrap_or_default())?;
    drop(writer);
    let len = io::read(&reader, &mut bytes)?;
    print(bytes.get(..len).unwrap_or_default())?;
    Ok(print(b"\n")?)
}

/// Sends a packet with descriptors.
fn transmit(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[Option<OwnedFd>],
) -> Result<(), linipc_core::Errno> {
    let mut control = [0; FDS * cmsg::space_fds(1)];
    let mut control = Control::new(&mut control);
    for fd in fds.iter().flatten() {
        control.push_fds(slice::from_ref(fd))?;
    }
    cmsg::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives a packet with descriptors; gives its length.
fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    fds: &mut [Option<OwnedFd>],
) -> Result<usize, linipc_core::Errno> {
    let mut control = [0; cmsg::space_fds(FDS)];
    let data = &mut [IoSliceMut::new(bytes)];
    let received =
        cmsg::recvmsg(socket, data, &mut control, RecvFlags::empty()).map_err(refused)?;
    for message in received.control {
        if let Message::Rights(received) = message {
            for (place, fd) in fds.iter_mut().zip(received) {
                *place = Some(fd);
            }
        }
    }
    Ok(received.bytes)
}
