//! Sockets: a connected pair for each end, which carries both ways.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use linipc::core::socket::sockopt;
use linipc::socket::unix::Seqpacket;

use super::stream::Stream;
use super::{Link, Prepared, Start};

const STREAM_CHUNK: usize = 1 << 17;
const PACKET: usize = 1 << 17;

fn prepared(ends: (OwnedFd, OwnedFd)) -> Prepared {
    Prepared {
        descriptors: [vec![ends.0], vec![ends.1]],
        ..Prepared::default()
    }
}

/// A pair of Unix stream sockets.
pub(crate) fn unix_stream() -> io::Result<Prepared> {
    let (one, other) = UnixStream::pair()?;
    Ok(prepared((one.into(), other.into())))
}

/// A pair of Unix sockets that keep messages whole, and have an end.
pub(crate) fn unix_seqpacket() -> io::Result<Prepared> {
    let (one, other) = Seqpacket::pair()?;
    Ok(prepared((one.into(), other.into())))
}

/// A pair of Unix datagram sockets. A sender waits while the receiver's queue is full, so these
/// datagrams are not lost.
pub(crate) fn unix_dgram() -> io::Result<Prepared> {
    let (one, other) = UnixDatagram::pair()?;
    Ok(prepared((one.into(), other.into())))
}

/// A TCP connection over the loopback interface.
pub(crate) fn tcp() -> io::Result<Prepared> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    // Any process of the host can connect; only ours is taken.
    let other = loop {
        let (stream, from) = listener.accept()?;
        if from == one.local_addr()? {
            break stream;
        }
    };
    for stream in [&one, &other] {
        stream.set_nodelay(true)?;
    }
    Ok(prepared((one.into(), other.into())))
}

/// One end of a stream.
pub(crate) fn open_stream(start: Start) -> io::Result<Box<dyn Link>> {
    open(start, |_| Ok(STREAM_CHUNK))
}

/// One end of a socket that keeps messages whole. They must fit its buffer, with what the kernel
/// adds (32 bytes in unix(7) of Linux 6).
pub(crate) fn open_packets(start: Start) -> io::Result<Box<dyn Link>> {
    open(start, |socket| {
        let buffer = sockopt::socket_send_buffer_size(socket)?;
        Ok(PACKET.min(buffer.saturating_sub(256)))
    })
}

fn open(start: Start, max_message: fn(&OwnedFd) -> io::Result<usize>) -> io::Result<Box<dyn Link>> {
    let [socket] = start.descriptors()?;
    let duplicate = socket.try_clone()?;
    let max_message = max_message(&socket)?;
    Ok(Box::new(Stream::new(socket, duplicate, max_message)))
}
