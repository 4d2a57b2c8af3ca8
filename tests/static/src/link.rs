//! How the memfd of a ring gets from one process to the other: through a Unix socket with a path.

use core::ffi::CStr;

use linipc_core::Errno;
use linipc_core::fd::OwnedFd;
use linipc_core::fifo::unlink;
use linipc_core::io::{IoSlice, IoSliceMut};
use linipc_core::socket::cmsg::{self, Control, Message};
use linipc_core::socket::{RecvFlags, SendFlags, SocketType, accept, bind, connect, listen, unix};

use crate::report::Failure;

/// Gives the descriptor to the first who connects to `path`, which exists as long as that takes.
///
/// # Errors
///
/// `ADDRINUSE`: there is such a file. Those of the calls on sockets.
pub fn offer(path: &CStr, fd: OwnedFd) -> Result<(), Errno> {
    let listener = unix::socket(SocketType::SEQPACKET)?;
    bind(&listener, &unix::path(path)?)?;
    let peer = listen(&listener, 1).and_then(|()| accept(&listener));
    unlink(path)?;
    let fds = [fd];
    let mut control = [0; cmsg::space_fds(1)];
    let mut control = Control::new(&mut control);
    control.push_fds(&fds)?;
    cmsg::sendmsg(
        peer?,
        &[IoSlice::new(b"ring")],
        &control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Takes the descriptor that somebody offers at `path`.
///
/// # Errors
///
/// `NOENT`, `CONNREFUSED`: nobody does. Those of the calls on sockets.
pub fn fetch(path: &CStr) -> Result<OwnedFd, Failure> {
    let socket = unix::socket(SocketType::SEQPACKET)?;
    connect(&socket, &unix::path(path)?)?;
    let (mut text, mut control) = ([0; 4], [0; cmsg::space_fds(1)]);
    let text = &mut [IoSliceMut::new(&mut text)];
    let received = cmsg::recvmsg(&socket, text, &mut control, RecvFlags::empty());
    for message in received.map_err(refused)?.control {
        if let Message::Rights(mut fds) = message {
            return fds.next().ok_or(Failure::Errno(Errno::BADF));
        }
    }
    Err(Failure::Because("nobody sent a descriptor"))
}

/// What a program says of a message that it could not receive.
pub fn refused(error: cmsg::Error) -> Errno {
    match error {
        cmsg::Error::Errno(errno) => errno,
        cmsg::Error::Truncated => Errno::MSGSIZE,
        cmsg::Error::Refused => Errno::MFILE,
    }
}
