//! Sending large buffers without a copy: a [`Sender`] keeps them until the kernel is done.
//!
//! Built on [`linipc_core::socket::zerocopy`], which says when it pays. Buffers are any owned bytes
//! (`Vec<u8>`, `Box<[u8]>`, `Arc<[u8]>`); each comes back, exactly once, from one of the `reclaim`
//! calls.
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use linipc::socket::zerocopy::Sender;
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let stream = TcpStream::connect(listener.local_addr()?)?;
//! let _peer = listener.accept()?;
//!
//! let mut sender = Sender::new(stream)?;
//! sender.send(vec![7; 10_000])?;
//! let sent = sender.reclaim()?.expect("one buffer is on its way");
//! assert_eq!((sent.bytes, sent.buffer.len()), (10_000, 10_000));
//! assert!(sender.reclaim()?.is_none());
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use linipc_core::Errno;
use linipc_core::io::{IoSlice, OFlags, fcntl_getfl};
use linipc_core::socket::zerocopy as core;
use linipc_core::socket::{PollFlags, SendFlags, SocketType, sockopt};

pub use linipc_core::socket::zerocopy::{Completion, Notice};

use super::wait;
use crate::Deadline;

/// A buffer that the kernel is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent<B> {
    /// The buffer.
    pub buffer: B,
    /// How many of its bytes were sent: fewer than it has only if [`Sender::send`] failed.
    pub bytes: usize,
    /// Whether the kernel copied some of them after all.
    pub copied: bool,
}

/// Sends buffers of type `B` through the socket `S`, and owns them until the kernel is done.
///
/// Dropping it waits until all buffers are done, but not longer than [`Sender::set_linger`] says,
/// so that a peer that does not read cannot hold it for ever. The buffers that are not done then
/// are leaked: they must not be used again.
///
/// Only this sender may use zero-copy sends and the error queue of the socket: it counts the sends.
///
/// # Invariants
///
/// The buffers of `pending` are neither changed, moved nor freed: the kernel may be reading them.
pub struct Sender<S: AsFd, B: AsRef<[u8]> + 'static> {
    socket: S,
    /// Sends so far: the number of the next one.
    next: u32,
    /// In the order of their sends.
    pending: VecDeque<Pending<B>>,
    done: VecDeque<Sent<B>>,
    linger: Duration,
    /// The most bytes of one send: all of them are pinned, however few the socket takes.
    most: usize,
}

/// Fewer bytes than these pin no less memory, on most machines.
const PAGE: usize = 4096;

/// A buffer of which some sends are not done.
struct Pending<B> {
    /// In a box, so that its bytes stay where they are, wherever it keeps them.
    buffer: Box<B>,
    bytes: usize,
    copied: bool,
    /// The number of its first send.
    first: u32,
    /// How many sends it took.
    sends: u32,
    /// How many of them are not done.
    left: u32,
    /// Whether more sends may follow.
    open: bool,
}

impl<B> Pending<B> {
    /// Takes note of those of its sends that are among the completed ones.
    fn complete(&mut self, completion: Completion) {
        let done = completion.count_of(self.first, self.sends);
        self.left = self.left.saturating_sub(done);
        self.copied |= completion.copied && done > 0;
    }

    const fn is_done(&self) -> bool {
        self.left == 0 && !self.open
    }
}

impl<S: AsFd, B: AsRef<[u8]> + 'static> Sender<S, B> {
    /// Sends through a TCP or vsock stream, which should be connected and blocking, and on which
    /// nobody made zero-copy sends before. `S` may be a reference.
    ///
    /// # Errors
    ///
    /// - `BUSY`: zero-copy sends are enabled already, so somebody may have made some.
    /// - `OPNOTSUPP` (before Linux 6.0 the number 524): not a socket that can. Also not a stream:
    ///   where a send that failed may or may not have a number, a buffer could come back too early.
    pub fn new(socket: S) -> io::Result<Self> {
        if sockopt::socket_type(&socket)? != SocketType::STREAM {
            return Err(Errno::OPNOTSUPP.into());
        }
        if core::is_enabled(&socket)? {
            return Err(Errno::BUSY.into());
        }
        core::enable(&socket)?;
        Ok(Self {
            socket,
            next: 0,
            pending: VecDeque::new(),
            done: VecDeque::new(),
            linger: Duration::from_secs(1),
            most: usize::MAX,
        })
    }

    /// How long dropping the sender may wait for the kernel: one second unless set.
    pub const fn set_linger(&mut self, linger: Duration) {
        self.linger = linger;
    }

    /// The socket.
    pub const fn get_ref(&self) -> &S {
        &self.socket
    }

    /// How many buffers were not reclaimed yet.
    pub fn len(&self) -> usize {
        self.pending.len() + self.done.len()
    }

    /// Whether all buffers were reclaimed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends the whole buffer, in as many parts as the stream takes. Waits while
    /// the socket's send buffer is full, or too much memory is pinned.
    ///
    /// The buffer comes back from [`Sender::reclaim`] also if this fails, and says how much was
    /// sent.
    ///
    /// # Errors
    ///
    /// - `NOBUFS`: too much memory is pinned (`net.core.optmem_max`, `RLIMIT_MEMLOCK`), not by this
    ///   sender. A stream tries with smaller parts first.
    /// - `AGAIN` (`WouldBlock`): the socket is non-blocking, and its send buffer is full, or this
    ///   sender has pinned too much.
    /// - Those of send(2); `PIPE` never comes with a signal.
    pub fn send(&mut self, buffer: B) -> io::Result<()> {
        self.pending.push_back(Pending {
            buffer: Box::new(buffer),
            bytes: 0,
            copied: false,
            first: self.next,
            sends: 0,
            left: 0,
            open: true,
        });
        let result = self.send_last();
        if let Some(last) = self.pending.back_mut() {
            last.open = false;
        }
        self.take_done();
        result
    }

    /// Sends what the last pending buffer has left.
    fn send_last(&mut self) -> io::Result<()> {
        while let Some(last) = self.pending.back_mut() {
            let all = (*last.buffer).as_ref();
            let rest = all.get(last.bytes..).unwrap_or_default();
            let part = &rest[..rest.len().min(self.most)];
            // SAFETY: The buffer is pending from before this send until all its sends are done, or
            // for ever (the type's invariant). It is `'static`, so nothing it borrows ends before.
            match unsafe { core::send(&self.socket, &[IoSlice::new(part)], SendFlags::NOSIGNAL) } {
                Ok(sent) => {
                    if sent > 0 {
                        self.next = self.next.wrapping_add(1);
                        last.sends += 1;
                        last.left += 1;
                    }
                    last.bytes += sent;
                    if sent >= rest.len() {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => {
                    let len = part.len();
                    self.make_room(len)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// After `NOBUFS` from a send of `len` bytes: waits until less is pinned, or pins less at once.
    fn make_room(&mut self, len: usize) -> io::Result<()> {
        if self.pending.iter().any(|pending| pending.left > 0) {
            if !fcntl_getfl(&self.socket)?.contains(OFlags::NONBLOCK) {
                return self.next_notice(Deadline::NEVER);
            }
            let notice = core::notice(&self.socket)?;
            return self.apply(notice);
        }
        if len <= PAGE {
            return Err(Errno::NOBUFS.into());
        }
        self.most = len / 2;
        Ok(())
    }

    /// Gives back the next buffer that the kernel is done with; waits until there is one. `None`:
    /// all were reclaimed.
    ///
    /// A peer decides when: the kernel is done when the data was acknowledged.
    ///
    /// # Errors
    ///
    /// What `IP_RECVERR`, if it was set, put into the error queue. The buffers stay: call again.
    pub fn reclaim(&mut self) -> io::Result<Option<Sent<B>>> {
        self.reclaim_deadline(Deadline::NEVER)
    }

    /// As [`Sender::reclaim`], but does not wait.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`): the kernel is not done with any. Those of [`Sender::reclaim`].
    pub fn try_reclaim(&mut self) -> io::Result<Option<Sent<B>>> {
        while self.done.is_empty() && !self.pending.is_empty() {
            let notice = core::notice(&self.socket)?;
            self.apply(notice)?;
        }
        Ok(self.done.pop_front())
    }

    /// As [`Sender::reclaim`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Sender::reclaim`].
    pub fn reclaim_deadline(
        &mut self,
        deadline: impl Into<Deadline>,
    ) -> io::Result<Option<Sent<B>>> {
        let deadline = deadline.into();
        while self.done.is_empty() && !self.pending.is_empty() {
            self.next_notice(deadline)?;
        }
        Ok(self.done.pop_front())
    }

    /// Waits for a notice and applies it.
    fn next_notice(&mut self, deadline: Deadline) -> io::Result<()> {
        let mut woken = false;
        loop {
            match core::notice(&self.socket) {
                Ok(notice) => return self.apply(notice),
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if deadline.remaining() == Some(Duration::ZERO) {
                return Err(Errno::TIMEDOUT.into());
            }
            if woken {
                // The connection failed, and poll(2) says so at once and for ever.
                thread::sleep(Duration::from_millis(1));
            }
            wait(self.socket.as_fd(), PollFlags::empty(), deadline)?;
            woken = true;
        }
    }

    fn apply(&mut self, notice: Notice) -> io::Result<()> {
        match notice {
            Notice::Completed(completion) => {
                for pending in &mut self.pending {
                    pending.complete(completion);
                }
                self.take_done();
                Ok(())
            }
            Notice::Other { errno: 0, .. } => Ok(()),
            Notice::Other { errno, .. } => Err(io::Error::from_raw_os_error(errno as i32)),
        }
    }

    /// Moves the buffers that are done to the others.
    fn take_done(&mut self) {
        while let Some(at) = self.pending.iter().position(Pending::is_done) {
            let Some(pending) = self.pending.remove(at) else {
                return;
            };
            self.done.push_back(Sent {
                buffer: *pending.buffer,
                bytes: pending.bytes,
                copied: pending.copied,
            });
        }
    }
}

impl<S: AsFd, B: AsRef<[u8]> + 'static> Drop for Sender<S, B> {
    fn drop(&mut self) {
        let deadline = Deadline::from(self.linger);
        while !self.pending.is_empty() && self.next_notice(deadline).is_ok() {}
        for pending in self.pending.drain(..) {
            // INVARIANT: Leaked, so that it is never freed.
            Box::leak(pending.buffer);
        }
    }
}

impl<S: AsFd + fmt::Debug, B: AsRef<[u8]> + 'static> fmt::Debug for Sender<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("socket", &self.socket)
            .field("pending", &self.pending.len())
            .field("done", &self.done.len())
            .finish_non_exhaustive()
    }
}
