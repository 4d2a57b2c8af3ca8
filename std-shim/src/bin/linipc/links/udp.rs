//! UDP over the loopback interface, made reliable: packets have numbers, the receiver acknowledges
//! them, the sender has no more on the way than the receiver's buffer holds, and sends again what
//! was not acknowledged in time (go-back-N).
//!
//! ```text
//! 0            8                  16
//! +------------+------------------+---------------+
//! | number     | acknowledged     | the message   |
//! | u64, from 1| u64              |               |
//! +------------+------------------+---------------+
//! ```
//!
//! `acknowledged` is the number of the last packet that its sender has received in order. Packet 0
//! has no message and only acknowledges. An answer acknowledges what it answers, so a packet 0 is
//! needed only for every half window, and for what was not expected.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use linipc::core::socket::sockopt;

use super::{Link, Prepared, Start, wrong_length};

const HEADER: usize = 16;
/// The longest message. With the header, a packet is half of what fits the loopback interface.
const MAX_MESSAGE: usize = (1 << 15) - HEADER;
/// What the receiver's buffer should have; the system may give less.
const BUFFER: usize = 4 << 20;
/// After this time the packets on the way are sent again.
const REPEAT_AFTER: Duration = Duration::from_millis(20);

/// Two sockets, each connected to the other.
pub(crate) fn prepare() -> io::Result<Prepared> {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (one, other) = (bind()?, bind()?);
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    Ok(Prepared {
        descriptors: [vec![one.into()], vec![other.into()]],
        ..Prepared::default()
    })
}

/// One of the sockets.
pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
    let [socket] = start.descriptors()?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(REPEAT_AFTER))?;
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    let buffer = sockopt::socket_recv_buffer_size(&socket)?;
    Ok(Box::new(Udp {
        socket,
        // The kernel counts what it needs for a packet, which is less than twice its length.
        room: (buffer / (2 * (HEADER + MAX_MESSAGE))).max(1),
        sent: 0,
        window: VecDeque::new(),
        received: 0,
        unacknowledged: 0,
        early: VecDeque::new(),
        packet: vec![0; HEADER + MAX_MESSAGE],
    }))
}

#[derive(Debug)]
struct Udp {
    socket: UdpSocket,
    /// The most packets on the way: they fit the other side's buffer, which is as large as ours.
    room: usize,
    /// The number of the last packet that was sent.
    sent: u64,
    /// The packets up to that one that are not acknowledged.
    window: VecDeque<Vec<u8>>,
    /// The number of the last packet that was received in order.
    received: u64,
    /// How many of these the other side was not told of.
    unacknowledged: usize,
    /// Messages that came while this side waited for room to send.
    early: VecDeque<Vec<u8>>,
    /// Room for a packet.
    packet: Vec<u8>,
}

impl Udp {
    /// Waits for a packet, and does what it asks for. Gives the length of its message, which is
    /// behind the header in `packet`, if it is the next one in order.
    fn step(&mut self) -> io::Result<Option<usize>> {
        let len = match self.socket.recv(&mut self.packet) {
            Ok(len) => len,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock => self.repeat().map(|()| None),
                    io::ErrorKind::Interrupted => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let Some((number, acknowledged)) = header(&self.packet[..len]) else {
            return Ok(None);
        };
        let first = self.sent + 1 - self.window.len() as u64;
        if (first..=self.sent).contains(&acknowledged) {
            self.window.drain(..=(acknowledged - first) as usize);
        }
        match number {
            0 => Ok(None),
            number if number == self.received + 1 => {
                self.received = number;
                self.unacknowledged += 1;
                Ok(Some(len - HEADER))
            }
            // It came again, or one before it was lost.
            _ => self.acknowledge().map(|()| None),
        }
    }

    /// Sends all packets of the window again.
    fn repeat(&mut self) -> io::Result<()> {
        for packet in &mut self.window {
            packet[8..HEADER].copy_from_slice(&self.received.to_le_bytes());
            self.socket.send(packet)?;
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        self.unacknowledged = 0;
        self.socket.send(&with_header(0, self.received, &[]))?;
        Ok(())
    }
}

impl Link for Udp {
    fn max_message(&self) -> usize {
        MAX_MESSAGE
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        while self.window.len() >= self.room {
            if let Some(len) = self.step()? {
                self.early.push_back(self.packet[HEADER..][..len].to_vec());
            }
        }
        self.sent += 1;
        let packet = with_header(self.sent, self.received, message);
        self.socket.send(&packet)?;
        self.window.push_back(packet);
        self.unacknowledged = 0;
        Ok(())
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<()> {
        let early = self.early.pop_front();
        let received = match &early {
            Some(early) => early,
            None => {
                let len = loop {
                    if let Some(len) = self.step()? {
                        break len;
                    }
                };
                if self.unacknowledged * 2 >= self.room {
                    self.acknowledge()?;
                }
                &self.packet[HEADER..][..len]
            }
        };
        if received.len() != message.len() {
            return Err(wrong_length(received.len(), message.len()));
        }
        message.copy_from_slice(received);
        Ok(())
    }

    /// Waits until all is acknowledged, or nobody is there who could do so: then all had come.
    fn finish(&mut self) -> io::Result<()> {
        let mut all = || -> io::Result<()> {
            self.acknowledge()?;
            while !self.window.is_empty() {
                self.step()?;
            }
            Ok(())
        };
        match all() {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            done => done,
        }
    }
}

fn with_header(number: u64, acknowledged: u64, message: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes(), &acknowledged.to_le_bytes(), message].concat()
}

/// Number and acknowledgement of a packet, if it is one.
fn header(packet: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = packet.split_first_chunk()?;
    let (acknowledged, _) = rest.split_first_chunk()?;
    Some((
        u64::from_le_bytes(*number),
        u64::from_le_bytes(*acknowledged),
    ))
}
