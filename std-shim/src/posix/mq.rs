//! POSIX message queues: messages with priorities, in a descriptor that can be polled.
//!
//! Built on [`linipc_core::posix::mq`], which has the pitfalls.
//!
//! ```
//! use std::time::Duration;
//! use linipc::posix::mq::OpenOptions;
//!
//! # let name = format!("/linipc-mq-{}", std::process::id());
//! let queue = OpenOptions::new()
//!     .read(true)
//!     .write(true)
//!     .create_new(true)
//!     .capacity(4, 64)
//!     .unlink_on_drop(true)
//!     .open(&name)?;
//! queue.send(b"can wait", 0)?;
//! queue.send(b"urgent", 9)?;
//!
//! let mut message = [0; 64];
//! let received = queue.receive_deadline(&mut message, Duration::from_secs(1))?;
//! assert_eq!((received.priority, &message[..received.len]), (9, &b"urgent"[..]));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::posix::mq::{self as core, DONT_WAIT, Flags, Resource, Timespec, getrlimit};
use linipc_core::posix::{Create, Mode};

pub use linipc_core::posix::mq::{Attributes, Capacity, MAX_PRIORITY, Notification, Received};

use crate::Deadline;
use crate::error::Limit;
use crate::on_drop::RemoveOnDrop;

/// How to open a queue.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    flags: Flags,
    create: bool,
    create_new: bool,
    mode: u32,
    capacity: Option<Capacity>,
    unlink_on_drop: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Opens an existing queue, which outlives the handle; choose `read`, `write` or both.
    pub const fn new() -> Self {
        Self {
            flags: Flags::empty(),
            create: false,
            create_new: false,
            mode: 0o600,
            capacity: None,
            unlink_on_drop: false,
        }
    }

    /// Whether to receive.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.flags.set(Flags::READ, read);
        self
    }

    /// Whether to send.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.flags.set(Flags::WRITE, write);
        self
    }

    /// Whether to fail with `WouldBlock` instead of waiting.
    pub fn nonblocking(&mut self, nonblocking: bool) -> &mut Self {
        self.flags.set(Flags::NONBLOCK, nonblocking);
        self
    }

    /// Whether to make the queue if there is none.
    pub const fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Whether to make the queue, and fail if there is one.
    pub const fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// The permission bits of a new queue, less the umask: 0o600 unless set.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// How many messages a new queue holds, and how many bytes each: the system's default unless
    /// set. A queue that exists keeps what it has.
    pub const fn capacity(&mut self, messages: usize, message_bytes: usize) -> &mut Self {
        self.capacity = Some(Capacity {
            messages,
            message_bytes,
        });
        self
    }

    /// Whether dropping the handle unlinks the name. Who has the queue open keeps it.
    pub const fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.unlink_on_drop = unlink;
        self
    }

    /// Opens the queue with this name: `/NAME`.
    ///
    /// # Errors
    ///
    /// Those of mq_open(3). `NOSPC`, `MFILE`, and `INVAL` because of the capacity, carry a
    /// [`Limit`].
    pub fn open(&self, name: impl AsRef<Path>) -> io::Result<Queue> {
        let name = name.as_ref();
        let mode = Mode::from_raw_mode(self.mode);
        let create = match self {
            Self {
                create_new: true, ..
            } => Create::Exclusive(mode),
            Self { create: true, .. } => Create::Open(mode),
            _ => Create::No,
        };
        let fd = core::open(name, self.flags, create, self.capacity)
            .map_err(|error| self.limit(error).map_or(error.into(), io::Error::from))?;
        Ok(Queue {
            fd,
            unlink_on_drop: RemoveOnDrop::new(
                self.unlink_on_drop.then(|| name.to_owned()),
                |name| unlink(name),
            ),
        })
    }

    /// The limit that refused to open or make the queue.
    fn limit(&self, errno: Errno) -> Option<Limit> {
        let (what, value, setting) = match errno {
            Errno::NOSPC => (
                "message queues",
                sysctl("queues_max")?,
                "fs.mqueue.queues_max",
            ),
            Errno::MFILE => too_many_files_or_bytes()?,
            Errno::INVAL if self.create || self.create_new => too_large(self.capacity?)?,
            _ => return None,
        };
        Some(Limit {
            errno,
            what,
            value,
            setting,
        })
    }
}

/// What is limited, how many there may be, and the limit's name.
type Bound = (&'static str, u64, &'static str);

/// Which of the two limits it was that have the same error: a full descriptor table would refuse
/// another file too.
fn too_many_files_or_bytes() -> Option<Bound> {
    // A file that may not be opened is refused after there was a descriptor for it.
    let is_full = fs::File::open("/")
        .is_err_and(|error| error.raw_os_error() == Some(Errno::MFILE.raw_os_error()));
    Some(if is_full {
        (
            "descriptors in the process",
            getrlimit(Resource::Nofile).current?,
            "RLIMIT_NOFILE",
        )
    } else {
        (
            "bytes in all message queues of the user",
            getrlimit(Resource::Msgqueue).current?,
            "RLIMIT_MSGQUEUE",
        )
    })
}

/// Which limit `capacity` exceeds.
fn too_large(capacity: Capacity) -> Option<Bound> {
    let (messages, messages_setting, bytes, bytes_setting) = if is_privileged() {
        (65536, "HARD_MSGMAX", 16 << 20, "HARD_MSGSIZEMAX")
    } else {
        (
            sysctl("msg_max")?,
            "fs.mqueue.msg_max",
            sysctl("msgsize_max")?,
            "fs.mqueue.msgsize_max",
        )
    };
    if capacity.messages as u64 > messages {
        Some(("messages in a queue", messages, messages_setting))
    } else if capacity.message_bytes as u64 > bytes {
        Some(("bytes in a message", bytes, bytes_setting))
    } else {
        None
    }
}

/// Whether the kernel lets this process exceed the sysctls: `CAP_SYS_RESOURCE` in the first user
/// namespace, which always has this number.
fn is_privileged() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let first = fs::read_link("/proc/self/ns/user")
        .is_ok_and(|link| link.as_os_str() == "user:[4026531837]");
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    first && effective & 1 << CAP_SYS_RESOURCE != 0
}

fn sysctl(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}")).ok()?;
    text.trim().parse().ok()
}

/// An open message queue: closed when dropped, and unlinked if that was chosen.
#[derive(Debug)]
pub struct Queue {
    fd: OwnedFd,
    unlink_on_drop: RemoveOnDrop<PathBuf>,
}

impl Queue {
    /// Sends a message; waits while the queue is full.
    ///
    /// # Errors
    ///
    /// - `MSGSIZE` with a [`Limit`]: longer than the queue's messages may be.
    /// - `INVAL`: `priority` is above [`MAX_PRIORITY`]. `BADF`: not opened for writing.
    /// - `AGAIN` (`WouldBlock`): the queue is full, and opened non-blocking.
    #[inline]
    pub fn send(&self, message: &[u8], priority: u32) -> io::Result<()> {
        retry_on_intr(|| core::send(self, message, priority, None))
            .map_err(|error| self.named(error))
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if there is not, and those of [`Queue::send`].
    #[inline]
    pub fn try_send(&self, message: &[u8], priority: u32) -> io::Result<()> {
        core::send(self, message, priority, Some(DONT_WAIT))
            .map_err(|error| self.named(would_block(error)))
    }

    /// Sends a message; waits while the queue is full, but not beyond the deadline. A queue that
    /// was opened non-blocking does not wait at all.
    ///
    /// The kernel waits by the clock that can be set. If it is set forward the wait goes on until
    /// the deadline; if it is set back the wait is longer by as much.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Queue::send`].
    #[inline]
    pub fn send_deadline(
        &self,
        message: &[u8],
        priority: u32,
        deadline: impl Into<Deadline>,
    ) -> io::Result<()> {
        until(deadline.into(), |at| {
            core::send(self, message, priority, at)
        })
        .map_err(|error| self.named(error))
    }

    /// Takes the oldest message of the highest priority; waits until there is one.
    ///
    /// # Errors
    ///
    /// - `MSGSIZE`: `message` is shorter than the queue's messages may be
    ///   ([`Capacity::message_bytes`]), however short they are; nothing was taken.
    /// - `BADF`: not opened for reading.
    /// - `AGAIN` (`WouldBlock`): the queue is empty, and opened non-blocking.
    #[inline]
    pub fn receive(&self, message: &mut [u8]) -> io::Result<Received> {
        Ok(retry_on_intr(|| core::receive(self, message, None))?)
    }

    /// Takes the oldest message of the highest priority if there is one now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if there is not, and those of [`Queue::receive`].
    #[inline]
    pub fn try_receive(&self, message: &mut [u8]) -> io::Result<Received> {
        Ok(core::receive(self, message, Some(DONT_WAIT)).map_err(would_block)?)
    }

    /// Takes the oldest message of the highest priority; waits until there is one, but not beyond
    /// the deadline. What [`Queue::send_deadline`] says about clocks holds here too.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Queue::receive`].
    #[inline]
    pub fn receive_deadline(
        &self,
        message: &mut [u8],
        deadline: impl Into<Deadline>,
    ) -> io::Result<Received> {
        Ok(until(deadline.into(), |at| {
            core::receive(self, message, at)
        })?)
    }

    /// What the queue can hold, what it holds, and whether calls wait.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn attributes(&self) -> io::Result<Attributes> {
        Ok(core::getattr(self)?)
    }

    /// Whether calls fail with `WouldBlock` instead of waiting. This is a property of the open
    /// queue, shared with all duplicates of its descriptor.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        core::setattr(self, nonblocking)?;
        Ok(())
    }

    /// Registers this process to be told, once, when a message comes into the empty queue; ends
    /// when the result is dropped.
    ///
    /// # Errors
    ///
    /// `BUSY`: a process, maybe this one, is registered already. `INVAL`: there is no such signal.
    pub fn notify(&self, notification: Notification) -> io::Result<Registration<'_>> {
        core::notify(self, Some(notification))?;
        Ok(Registration {
            queue: self,
            notification,
        })
    }

    /// Lets the name outlive the handle, whatever was chosen when it was opened.
    pub fn persist(&mut self) {
        self.unlink_on_drop.persist();
    }

    /// Names the limit if the message was too long.
    fn named(&self, errno: Errno) -> io::Error {
        if errno != Errno::MSGSIZE {
            return errno.into();
        }
        core::getattr(self).map_or(errno.into(), |attributes| {
            io::Error::from(Limit {
                errno,
                what: "bytes in a message",
                value: attributes.capacity.message_bytes as u64,
                setting: "mq_msgsize of the queue",
            })
        })
    }
}

impl AsFd for Queue {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl TryFrom<OwnedFd> for Queue {
    type Error = io::Error;

    /// Takes a descriptor that came from elsewhere, which must be a queue's (else `BADF`).
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        core::getattr(&fd)?;
        Ok(Self {
            fd,
            unlink_on_drop: RemoveOnDrop::NEVER,
        })
    }
}

impl From<Queue> for OwnedFd {
    /// The descriptor; a name that was to be unlinked with the handle is unlinked.
    fn from(queue: Queue) -> Self {
        queue.fd
    }
}

/// The registration for a notification: ended when dropped.
///
/// Only this process's own registration is ended, also if it was made by another `Registration`
/// after this one's notification came. Closing any other descriptor of the queue ends it early.
#[derive(Debug)]
pub struct Registration<'queue> {
    queue: &'queue Queue,
    notification: Notification,
}

impl Registration<'_> {
    /// Registers again, after the notification came. Do this *before* emptying the queue, or a
    /// message that comes between is not told.
    ///
    /// # Errors
    ///
    /// `BUSY`: the notification did not come yet, or another process was faster.
    pub fn renew(&self) -> io::Result<()> {
        Ok(core::notify(self.queue, Some(self.notification))?)
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        // It cannot fail: the descriptor is a queue's.
        let _ = core::notify(self.queue, None);
    }
}

/// Unlinks a name; who has the queue open keeps it.
///
/// # Errors
///
/// `NOENT`: there is none. `ACCESS`, `PERM`: it belongs to somebody else. `INVAL`, `NAMETOOLONG`:
/// not a queue's name.
pub fn unlink(name: impl AsRef<Path>) -> io::Result<()> {
    Ok(core::unlink(name.as_ref())?)
}

/// What a call says that was not to wait.
fn would_block(error: Errno) -> Errno {
    match error {
        Errno::TIMEDOUT => Errno::AGAIN,
        error => error,
    }
}

/// Calls `call` with the deadline on the kernel's clock, again if that clock was ahead of ours.
fn until<T>(
    deadline: Deadline,
    mut call: impl FnMut(Option<Timespec>) -> Result<T, Errno>,
) -> Result<T, Errno> {
    loop {
        let at = deadline.remaining().and_then(realtime);
        match call(at) {
            Err(Errno::INTR) => {}
            Err(Errno::TIMEDOUT) if deadline.remaining() != Some(Duration::ZERO) => {}
            done => return done,
        }
    }
}

/// The time on `CLOCK_REALTIME` that is `left` from now; `None` if no clock gets there.
fn realtime(left: Duration) -> Option<Timespec> {
    let at = SystemTime::now().checked_add(left)?;
    // A clock before 1970 has a deadline that has passed for the kernel: see `DONT_WAIT`.
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Timespec {
        tv_sec: at.as_secs().try_into().ok()?,
        tv_nsec: at.subsec_nanos().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_forward_does_not_end_the_wait() {
        let mut results = [Err(Errno::TIMEDOUT), Err(Errno::INTR), Ok(7)].into_iter();
        let hour = Duration::from_secs(3600).into();
        let done = until(hour, |at| {
            assert!(at.is_some());
            results.next().unwrap()
        });
        assert_eq!(done, Ok(7));
        let timed_out = until(Duration::ZERO.into(), |_| Err::<(), _>(Errno::TIMEDOUT));
        assert_eq!(timed_out, Err(Errno::TIMEDOUT));
        assert_eq!(until(Deadline::NEVER, Ok), Ok(None));
    }
}
