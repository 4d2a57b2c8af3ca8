//! POSIX message queues: messages with priorities, in a descriptor that can be polled.
//!
//! Mirrors mq_overview(7). A queue keeps whole messages, the highest priority first, and those of
//! one priority in the order in which they were sent. What it can hold is chosen when it is made.
//!
//! ```
//! use linipc_core::Errno;
//! use linipc_core::posix::mq::{self, Capacity, Flags};
//! use linipc_core::posix::{Create, Mode};
//!
//! # let name = format!("/linipc-core-mq-{}", std::process::id());
//! # let name = name.as_str();
//! let capacity = Capacity { messages: 4, message_bytes: 64 };
//! let create = Create::Exclusive(Mode::RUSR | Mode::WUSR);
//! let queue = mq::open(name, Flags::READ | Flags::WRITE, create, Some(capacity))?;
//! mq::send(&queue, b"can wait", 0, None)?;
//! mq::send(&queue, b"urgent", 9, None)?;
//!
//! let mut message = [0; 64];
//! let received = mq::receive(&queue, &mut message, None)?;
//! assert_eq!((received.priority, &message[..received.len]), (9, &b"urgent"[..]));
//! mq::unlink(name)?;
//! # Ok::<(), Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - The buffer to receive must hold the queue's [`Capacity::message_bytes`], however short the
//!   message is; else the error is `MSGSIZE` and the message stays.
//! - Deadlines are on the clock that can be set (`CLOCK_REALTIME`): a wait ends early or late when
//!   somebody sets it. Take the time with `clock_gettime`, never from a monotonic clock.
//! - A queue charges its whole capacity to the user until it is unlinked and closed. `MFILE` from
//!   [`open`] can mean `RLIMIT_MSGQUEUE` (see [`getrlimit`]) or a full descriptor table.
//! - Whether to wait is a property of the open queue, shared with all duplicates and heirs of the
//!   descriptor. A deadline that has passed makes a single call not wait: see [`DONT_WAIT`].
//! - poll(2) and epoll(7) see `IN` when a message is there and `OUT` when there is room.

use core::ffi::{c_int, c_long};
use core::mem;
use core::ptr;

use bitflags::bitflags;
use linux_raw_sys::general::{SIGEV_MAX_SIZE, SIGEV_NONE, SIGEV_SIGNAL, sigevent};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::path;
use static_assertions::const_assert_eq;

use super::{Create, with_queue_name};
use crate::fd::{AsFd, OwnedFd};
use crate::sys::{abi, call, own, timespec};

pub use rustix::process::{Resource, getrlimit};
pub use rustix::time::Timespec;

bitflags! {
    /// How to open a queue: for reading, writing or both, and whether to wait.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Flags: u32 {
        /// To receive.
        const READ = 1;
        /// To send.
        const WRITE = 2;
        /// `O_NONBLOCK`: [`send`] and [`receive`] fail with `AGAIN` instead of waiting.
        const NONBLOCK = 4;
    }
}

impl Flags {
    /// The same as `O_*`.
    #[inline]
    fn to_abi(self) -> Result<OFlags, Errno> {
        let access = match (self.contains(Self::READ), self.contains(Self::WRITE)) {
            (true, true) => OFlags::RDWR,
            (true, false) => OFlags::RDONLY,
            (false, true) => OFlags::WRONLY,
            (false, false) => return Err(Errno::INVAL),
        };
        let nonblock = nonblock_flag(self.contains(Self::NONBLOCK));
        Ok(access | nonblock | OFlags::CLOEXEC)
    }
}

#[inline]
fn nonblock_flag(nonblocking: bool) -> OFlags {
    if nonblocking {
        OFlags::NONBLOCK
    } else {
        OFlags::empty()
    }
}

/// What a queue can hold; fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Capacity {
    /// `mq_maxmsg`: the most messages.
    pub messages: usize,
    /// `mq_msgsize`: the most bytes of one message, and the least of a buffer to receive.
    pub message_bytes: usize,
}

/// `mqd_t mq_open(const char *name, int oflag, mode_t mode, struct mq_attr *attr)`: opens or makes
/// a queue.
///
/// A new queue has `capacity`, or the system's default (`fs.mqueue.msg_default` messages of
/// `fs.mqueue.msgsize_default` bytes, at most the two limits below). An existing one keeps its own,
/// whatever is asked: see [`getattr`]. The descriptor is close-on-exec.
///
/// # Errors
///
/// - `ACCESS`: the queue's permissions refuse it, or `name` has a second slash, or is `/.` or `/..`.
/// - `EXIST`: [`Create::Exclusive`], and there is one.
/// - `NOENT`: [`Create::No`], and there is none; or `name` is only a slash.
/// - `INVAL`: `name` does not begin with a slash; `flags` neither reads nor writes; `capacity` has
///   a 0, or more than `fs.mqueue.msg_max` messages or `fs.mqueue.msgsize_max` bytes (65536 and
///   16 MiB for `CAP_SYS_RESOURCE`).
/// - `MFILE`: all queues of the user would be larger than `RLIMIT_MSGQUEUE`, or no descriptor is
///   free. `NFILE`: none is free in the system.
/// - `NOSPC`: the IPC namespace has `fs.mqueue.queues_max` queues, and no `CAP_SYS_RESOURCE`.
/// - `NAMETOOLONG`: `name` is longer than a slash and 255 bytes.
/// - `OVERFLOW`, `NOMEM`: `capacity` is more than the kernel can count, or has.
///
/// # References
///
/// - [mq_open(3)](https://man7.org/linux/man-pages/man3/mq_open.3.html)
#[inline]
#[doc(alias = "mq_open")]
pub fn open(
    name: impl path::Arg,
    flags: Flags,
    create: Create,
    capacity: Option<Capacity>,
) -> Result<OwnedFd, Errno> {
    let (create_flags, mode) = create.to_abi();
    let flags = flags.to_abi()? | create_flags;
    let attr = match capacity {
        Some(capacity) => Some(abi::mq_attr {
            mq_maxmsg: c_long::try_from(capacity.messages).map_err(|_| Errno::INVAL)?,
            mq_msgsize: c_long::try_from(capacity.message_bytes).map_err(|_| Errno::INVAL)?,
            ..abi::mq_attr::default()
        }),
        None => None,
    };
    let attr = attr.as_ref().map_or(ptr::null(), ptr::from_ref);
    with_queue_name(name, |name| {
        // SAFETY: The call reads the null-terminated name and, if it is not null, the `mq_attr`;
        // both are borrowed until it returns.
        let fd = unsafe { call!(__NR_mq_open, name.as_ptr(), flags.bits(), mode.bits(), attr) }?;
        // SAFETY: The kernel just made this descriptor, and nobody else has it.
        unsafe { own(fd) }
    })
}

/// `int mq_unlink(const char *name)`: removes the name; who has the queue open keeps it.
///
/// # Errors
///
/// - `NOENT`: there is no such queue. `INVAL`: `name` does not begin with a slash.
/// - `ACCESS`, `PERM`: the queue is another user's (the directory is sticky), or `name` has a
///   second slash.
/// - `NAMETOOLONG`: `name` is longer than a slash and 255 bytes.
///
/// # References
///
/// - [mq_unlink(3)](https://man7.org/linux/man-pages/man3/mq_unlink.3.html)
#[inline]
#[doc(alias = "mq_unlink")]
pub fn unlink(name: impl path::Arg) -> Result<(), Errno> {
    with_queue_name(name, |name| {
        // SAFETY: The call reads the null-terminated name, which is borrowed until it returns.
        unsafe { call!(__NR_mq_unlink, name.as_ptr()) }?;
        Ok(())
    })
}

/// The highest priority; the lowest is 0.
#[doc(alias = "MQ_PRIO_MAX")]
pub const MAX_PRIORITY: u32 = 32767;

/// A deadline that has always passed: a call that would wait fails with `TIMEDOUT` at once.
pub const DONT_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// `int mq_timedsend(mqd_t mqdes, const char *msg_ptr, size_t msg_len, unsigned int msg_prio,
/// const struct timespec *abs_timeout)`: sends a message.
///
/// While the queue is full it waits until `deadline`, a time of `CLOCK_REALTIME`, or for ever.
/// A deadline is not looked at if there is room.
///
/// # Errors
///
/// - `AGAIN`: the queue is full, and was opened with [`Flags::NONBLOCK`].
/// - `TIMEDOUT`: the queue is still full at `deadline`.
/// - `MSGSIZE`: the message is longer than the queue's [`Capacity::message_bytes`].
/// - `INVAL`: `priority` is above [`MAX_PRIORITY`], or `deadline` is before 1970 or has nanoseconds
///   outside 0 to 999,999,999.
/// - `INTR`: a signal was caught while the call waited (without `SA_RESTART`); nothing was sent.
/// - `BADF`: not a queue, or not opened for writing. `NOMEM`: no memory for a copy.
///
/// # References
///
/// - [mq_send(3)](https://man7.org/linux/man-pages/man3/mq_send.3.html)
#[inline]
#[doc(alias = "mq_send")]
#[doc(alias = "mq_timedsend")]
pub fn send(
    queue: impl AsFd,
    message: &[u8],
    priority: u32,
    deadline: Option<Timespec>,
) -> Result<(), Errno> {
    let deadline = deadline.map(timespec);
    // SAFETY: The call reads the message and, if it is not null, the time; both are borrowed until
    // it returns.
    unsafe {
        call!(
            __NR_mq_timedsend,
            queue.as_fd(),
            message.as_ptr(),
            message.len(),
            priority,
            deadline.as_ref().map_or(ptr::null(), ptr::from_ref)
        )
    }?;
    Ok(())
}

/// A message that was received: its priority, and how much of the buffer it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The priority.
    pub priority: u32,
    /// The length of the message.
    pub len: usize,
}

/// `ssize_t mq_timedreceive(mqd_t mqdes, char *msg_ptr, size_t msg_len, unsigned int *msg_prio,
/// const struct timespec *abs_timeout)`: takes the oldest message of the highest priority.
///
/// While the queue is empty it waits until `deadline`, a time of `CLOCK_REALTIME`, or for ever.
/// A deadline is not looked at if there is a message.
///
/// # Errors
///
/// - `MSGSIZE`: `message` is shorter than the queue's [`Capacity::message_bytes`]. The kernel
///   refuses it before it looks whether a message would fit; nothing was taken.
/// - `AGAIN`: the queue is empty, and was opened with [`Flags::NONBLOCK`].
/// - `TIMEDOUT`: the queue is still empty at `deadline`.
/// - `INVAL`: `deadline` is before 1970 or has nanoseconds outside 0 to 999,999,999.
/// - `INTR`: a signal was caught while the call waited (without `SA_RESTART`); nothing was taken.
/// - `BADF`: not a queue, or not opened for reading.
///
/// # References
///
/// - [mq_receive(3)](https://man7.org/linux/man-pages/man3/mq_receive.3.html)
#[inline]
#[doc(alias = "mq_receive")]
#[doc(alias = "mq_timedreceive")]
pub fn receive(
    queue: impl AsFd,
    message: &mut [u8],
    deadline: Option<Timespec>,
) -> Result<Received, Errno> {
    let deadline = deadline.map(timespec);
    let mut priority = 0_u32;
    // SAFETY: The call writes at most `message.len()` bytes and the priority, and reads the time if
    // it is not null; all are borrowed until it returns.
    let len = unsafe {
        call!(
            __NR_mq_timedreceive,
            queue.as_fd(),
            message.as_mut_ptr(),
            message.len(),
            &raw mut priority,
            deadline.as_ref().map_or(ptr::null(), ptr::from_ref)
        )
    }?;
    Ok(Received { priority, len })
}

/// `struct mq_attr`: what the kernel knows about an open queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "mq_attr")]
pub struct Attributes {
    /// What it can hold.
    pub capacity: Capacity,
    /// Messages in the queue.
    pub messages: usize,
    /// Whether calls fail instead of waiting; belongs to the open queue, not to the queue.
    pub nonblocking: bool,
}

impl From<abi::mq_attr> for Attributes {
    #[inline]
    fn from(attr: abi::mq_attr) -> Self {
        Self {
            capacity: Capacity {
                messages: attr.mq_maxmsg as usize,
                message_bytes: attr.mq_msgsize as usize,
            },
            messages: attr.mq_curmsgs as usize,
            nonblocking: attr.mq_flags & OFlags::NONBLOCK.bits() as c_long != 0,
        }
    }
}

/// `int mq_getattr(mqd_t mqdes, struct mq_attr *attr)`: asks about an open queue.
///
/// # Errors
///
/// `BADF`: not a queue.
///
/// # References
///
/// - [mq_getattr(3)](https://man7.org/linux/man-pages/man3/mq_getattr.3.html)
#[inline]
#[doc(alias = "mq_getattr")]
pub fn getattr(queue: impl AsFd) -> Result<Attributes, Errno> {
    let mut attr = abi::mq_attr::default();
    let new: *const abi::mq_attr = ptr::null();
    // SAFETY: The call writes one `mq_attr`, and reads none because the other pointer is null.
    unsafe { call!(__NR_mq_getsetattr, queue.as_fd(), new, &raw mut attr) }?;
    Ok(attr.into())
}

/// `int mq_setattr(mqd_t mqdes, const struct mq_attr *newattr, struct mq_attr *oldattr)`: chooses
/// whether calls fail instead of waiting; gives what was before. Nothing else can be changed.
///
/// # Errors
///
/// `BADF`: not a queue.
///
/// # References
///
/// - [mq_getattr(3)](https://man7.org/linux/man-pages/man3/mq_getattr.3.html)
#[inline]
#[doc(alias = "mq_setattr")]
pub fn setattr(queue: impl AsFd, nonblocking: bool) -> Result<Attributes, Errno> {
    let new = abi::mq_attr {
        mq_flags: nonblock_flag(nonblocking).bits() as c_long,
        ..abi::mq_attr::default()
    };
    let mut old = abi::mq_attr::default();
    // SAFETY: The call reads one `mq_attr` and writes another.
    unsafe {
        call!(
            __NR_mq_getsetattr,
            queue.as_fd(),
            &raw const new,
            &raw mut old
        )
    }?;
    Ok(old.into())
}

/// What happens, once, when a message comes into the empty queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "sigevent")]
pub enum Notification {
    /// `SIGEV_NONE`: nothing. It keeps others from registering.
    #[doc(alias = "SIGEV_NONE")]
    Silent,
    /// `SIGEV_SIGNAL`: the process gets a signal, with `si_code` `SI_MESGQ` and the sender's ids.
    #[doc(alias = "SIGEV_SIGNAL")]
    Signal {
        /// The number of the signal.
        number: i32,
        /// What comes with it: `si_int` of `siginfo_t`, `ssi_int` of signalfd(2).
        value: i32,
    },
    /// As [`Notification::Signal`], with a word as its value (`sival_ptr`).
    SignalPointer {
        /// The signal's number.
        number: i32,
        /// What the handler finds as `si_ptr`.
        pointer: usize,
    },
}

const_assert_eq!(size_of::<sigevent>(), SIGEV_MAX_SIZE as usize);

impl Notification {
    #[inline]
    fn to_abi(self) -> Result<sigevent, Errno> {
        // SAFETY: Integers, null pointers and no function are all zeros.
        let mut event: sigevent = unsafe { mem::zeroed() };
        match self {
            Self::Silent => event.sigev_notify = SIGEV_NONE as c_int,
            // The kernel takes it and then sends nothing.
            Self::Signal { number: 0, .. } | Self::SignalPointer { number: 0, .. } => {
                return Err(Errno::INVAL);
            }
            Self::Signal { number, value } => {
                event.sigev_notify = SIGEV_SIGNAL as c_int;
                event.sigev_signo = number;
                event.sigev_value.sival_int = value;
            }
            Self::SignalPointer { number, pointer } => {
                event.sigev_notify = SIGEV_SIGNAL as c_int;
                event.sigev_signo = number;
                event.sigev_value.sival_ptr = ptr::without_provenance_mut(pointer);
            }
        }
        Ok(event)
    }
}

/// `int mq_notify(mqd_t mqdes, const struct sigevent *sevp)`: registers this process for one
/// notification, or with `None` ends its registration (and no other process's).
///
/// It comes when a message arrives in the *empty* queue while nobody waits in [`receive`]; then the
/// registration is over. So register again first, and after that receive until the queue is empty.
/// It is over also when this process closes *any* descriptor of the queue. To wait for several
/// things at once poll(2) is simpler, and `SIGEV_THREAD`, a thread of the C library, is not here.
///
/// # Errors
///
/// - `BUSY`: a process, maybe this one, is registered already.
/// - `INVAL`: there is no such signal. `BADF`: not a queue. `NOMEM`: no memory.
///
/// # References
///
/// - [mq_notify(3)](https://man7.org/linux/man-pages/man3/mq_notify.3.html)
#[inline]
#[doc(alias = "mq_notify")]
pub fn notify(queue: impl AsFd, notification: Option<Notification>) -> Result<(), Errno> {
    let event = match notification {
        Some(notification) => Some(notification.to_abi()?),
        None => None,
    };
    let event = event.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: The call reads one `sigevent` if the pointer is not null. A signal only does what
    // the process chose for it.
    unsafe { call!(__NR_mq_notify, queue.as_fd(), event) }?;
    Ok(())
}
