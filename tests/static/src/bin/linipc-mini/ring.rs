//! Rings, in a memfd that gets from one process to the other through a Unix socket with a path.

use core::ffi::CStr;

use linipc_core::Errno;
use linipc_core::fd::OwnedFd;
use linipc_core::fifo::unlink;
use linipc_core::io::{self, IoSlice, IoSliceMut};
use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, Error, Kind, Peers, Wait};
use linipc_core::socket::cmsg::{self, Control, Message};
use linipc_core::socket::{RecvFlags, SendFlags, SocketType, accept, bind, connect, listen, unix};
use linipc_static::report::{Failure, errno, print, stdin};
use linipc_static::{Args, peer};

use crate::options::Options;

/// Copies a ring to standard output, or with `-l` makes one, listens at the socket for somebody to take
/// it, and copies standard input into it. Who is killed while it listens leaves the socket.
pub fn ring_cat(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"l")?;
    let args = options.args;
    match (args.get(0), args.len(), options.has(b'l')) {
        (Some(path), 1, true) => produce(path),
        (Some(path), 1, false) => consume(path),
        _ => Err(Failure::Usage),
    }
}

/// Copies standard input into a new ring, which it gives to the first who connects to `path`.
///
/// # Errors
///
/// Those of [`offer`] and of the ring: the consumer has not attached, has left, or has died.
fn produce(path: &CStr) -> Result<(), Failure> {
    let fd = ring::create_memfd(c"ring", Kind::Spsc, 1 << 16)?;
    let mut ring = Producer::attach(ring::map(&fd)?)?;
    let peer = offer(path, fd)?;
    peer::wait(peer, || ring.peers() == Peers::None)?;
    let mut bytes = [0; 4096];
    loop {
        let len = io::read(stdin(), &mut bytes)?;
        if len == 0 {
            return Ok(());
        }
        ring.push(bytes.get(..len).unwrap_or_default(), Wait::SPIN_THEN_SLEEP)?;
    }
}

/// Copies a ring, which somebody offers at `path`, to standard output.
///
/// # Errors
///
/// `NOENT`, `CONNREFUSED`: nobody does. Those of [`fetch`] and of the ring: the producer has died.
fn consume(path: &CStr) -> Result<(), Failure> {
    let socket = unix::socket(SocketType::SEQPACKET)?;
    connect(&socket, &unix::path(path)?)?;
    let mut ring = Consumer::attach(ring::map(&fetch(&socket)?)?)?;
    // A connection that ends before is, to the producer, that of one who will not come.
    drop(socket);
    let mut bytes = [0; 4096];
    loop {
        match ring.pop(&mut bytes, Wait::SPIN_THEN_SLEEP) {
            Ok(len) => print(bytes.get(..len).unwrap_or_default())?,
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives the descriptor to the first who connects to `path`, which exists as long as that takes; gives the connection.
///
/// # Errors
///
/// `ADDRINUSE`: there is such a file. Those of the calls on sockets.
#[inline(never)]
fn offer(path: &CStr, fd: OwnedFd) -> Result<OwnedFd, Errno> {
    let listener = unix::socket(SocketType::SEQPACKET)?;
    bind(&listener, &unix::path(path)?)?;
    let peer = listen(&listener, 1).and_then(|()| accept(&listener));
    unlink(path)?;
    let peer = peer?;
    let fds = [fd];
    let mut control = [0; cmsg::space_fds(1)];
    let mut control = Control::new(&mut control);
    control.push_fds(&fds)?;
    cmsg::sendmsg(
        &peer,
        &[IoSlice::new(b"ring")],
        &control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(peer)
}

/// Takes the descriptor that somebody sends.
///
/// # Errors
///
/// Nobody does. Those of recvmsg(2).
#[inline(never)]
fn fetch(socket: &OwnedFd) -> Result<OwnedFd, Failure> {
    let (mut text, mut control) = ([0; 4], [0; cmsg::space_fds(1)]);
    let text = &mut [IoSliceMut::new(&mut text)];
    let received = cmsg::recvmsg(socket, text, &mut control, RecvFlags::empty());
    for message in received.map_err(errno)?.control {
        if let Message::Rights(mut fds) = message {
            return fds.next().ok_or(Failure::Errno(Errno::BADF));
        }
    }
    Err(Failure::Because("nobody sent a descriptor"))
}
