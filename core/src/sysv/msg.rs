//! System V message queues: typed messages, taken in order or out of order by type.
//!
//! Mirrors msgget(2), msgop(2), msgctl(2) and `<linux/msg.h>`.
//!
//! ```
//! use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
//! use linipc_core::sysv::{Create, Key, Mode};
//!
//! let queue = msg::get(Key::PRIVATE, Create::Exclusive(Mode::RUSR | Mode::WUSR))?;
//! msg::send(queue, &Message::new(1, *b"a letter"), Send::empty())?;
//! msg::send(queue, &Message::new(2, *b"a parcel"), Send::empty())?;
//!
//! let mut message = Message::new(0, [0; 64]);
//! let len = msg::receive(queue, &mut message, Select::Type(2), Receive::empty())?;
//! assert_eq!(&message.text[..len], b"a parcel");
//! msg::remove(queue)?;
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Limits
//!
//! A message has at most `kernel.msgmax` bytes (8192 unless changed), a queue at most
//! `kernel.msgmnb` bytes (16384), a namespace at most `kernel.msgmni` queues; see [`limits`].

use core::ffi::{c_int, c_long};
use core::mem::offset_of;
use core::ptr;

use bitflags::bitflags;
use rustix::io::Errno;
use static_assertions::const_assert_eq;

use super::{Create, Key, Owner, Permissions, VERSION, Visibility};
use crate::sys::{Arg, abi, call};

super::id! {
    /// `msqid`: a message queue, in every process of the IPC namespace.
    #[doc(alias = "msqid")]
}

/// `struct msgbuf`: a message with its type in front, as the kernel takes it.
///
/// The text is an array, or by unsizing (`&Message<[u8; N]>` to `&Message<[u8]>`) a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[doc(alias = "msgbuf")]
pub struct Message<T: ?Sized = [u8]> {
    /// `mtype`: greater than 0 in every message that can be sent.
    pub kind: c_long,
    /// `mtext`: the bytes.
    pub text: T,
}

const_assert_eq!(offset_of!(Message<[u8; 1]>, text), size_of::<c_long>());

impl<const N: usize> Message<[u8; N]> {
    /// A message of type `kind`, which must be greater than 0 to be sent.
    #[inline]
    pub const fn new(kind: c_long, text: [u8; N]) -> Self {
        Self { kind, text }
    }
}

impl Message {
    /// How many words [`Message::from_words`] needs for a text of `len` bytes.
    #[inline]
    pub const fn words(len: usize) -> usize {
        1 + len.div_ceil(size_of::<c_long>())
    }

    /// A message with a text of `len` bytes in caller-given memory: the first word is its type,
    /// the others are its text.
    ///
    /// `None` if there are fewer than [`Message::words`]`(len)` words.
    #[inline]
    pub fn from_words(words: &mut [c_long], len: usize) -> Option<&mut Self> {
        if words.len() < Self::words(len) {
            return None;
        }
        let message = ptr::slice_from_raw_parts_mut(words.as_mut_ptr(), len) as *mut Self;
        // SAFETY: `words` has room for the type and `len` bytes, rounded up to words as the size
        // of `Self` is; it is aligned, initialised, and borrowed for as long as the result; any
        // bytes are a valid `Message`.
        Some(unsafe { &mut *message })
    }
}

bitflags! {
    /// How to send.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Send: c_int {
        /// `IPC_NOWAIT`: fail with `AGAIN` if the queue is full, instead of waiting.
        const NOWAIT = abi::IPC_NOWAIT;
    }
}

bitflags! {
    /// How to receive.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Receive: c_int {
        /// `IPC_NOWAIT`: fail with `NOMSG` if no message fits, instead of waiting.
        const NOWAIT = abi::IPC_NOWAIT;
        /// `MSG_NOERROR`: cut off what does not fit; the rest is lost.
        const TRUNCATE = abi::MSG_NOERROR;
    }
}

/// Which message to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// The first one, of any type.
    First,
    /// The first one of exactly this type.
    Type(c_long),
    /// Of all types up to this one, the first message of the lowest type.
    UpTo(c_long),
    /// `MSG_EXCEPT`: the first one of any type but this.
    #[doc(alias = "MSG_EXCEPT")]
    Except(c_long),
}

impl Select {
    /// The `msgtyp` argument and the flag that goes with it.
    #[inline]
    const fn to_abi(self) -> Result<(c_long, c_int), Errno> {
        match self {
            Self::First => Ok((0, 0)),
            Self::Type(kind) if kind > 0 => Ok((kind, 0)),
            Self::UpTo(kind) if kind > 0 => Ok((-kind, 0)),
            Self::Except(kind) if kind > 0 => Ok((kind, abi::MSG_EXCEPT)),
            _ => Err(Errno::INVAL),
        }
    }
}

/// `int msgget(key_t key, int msgflg)`: finds or makes a queue.
///
/// # Errors
///
/// - `ACCESS`: the queue's permissions do not let the caller use it.
/// - `EXIST`: [`Create::Exclusive`], and there is one.
/// - `NOENT`: [`Create::No`] or [`Create::Granting`], and there is none.
/// - `NOSPC`: the namespace has `kernel.msgmni` queues already.
/// - `NOMEM`: the kernel is out of memory.
///
/// # References
///
/// - [msgget(2)](https://man7.org/linux/man-pages/man2/msgget.2.html)
#[inline]
#[doc(alias = "msgget")]
pub fn get(key: Key, create: Create) -> Result<Id, Errno> {
    let flags = create.flags(key)?;
    // SAFETY: The call takes no pointers.
    let id = unsafe { call!(__NR_msgget, key.number(), flags) }?;
    Ok(Id(id as c_int))
}

/// `int msgsnd(int msqid, const void *msgp, size_t msgsz, int msgflg)`: sends the whole message.
///
/// Waits while the queue is full, unless told not to.
///
/// # Errors
///
/// - `AGAIN`: the queue is full, and [`Send::NOWAIT`].
/// - `INVAL`: the type is not greater than 0, the text is longer than `kernel.msgmax`, or there is
///   no such queue.
/// - `IDRM`: the queue was removed while the call waited.
/// - `INTR`: a signal was caught while the call waited; nothing was sent. Never restarted by the
///   kernel, whatever `SA_RESTART` says.
/// - `ACCESS`: no write permission. `NOMEM`: no memory for a copy.
///
/// # References
///
/// - [msgop(2)](https://man7.org/linux/man-pages/man2/msgop.2.html)
#[inline]
#[doc(alias = "msgsnd")]
pub fn send(id: Id, message: &Message, flags: Send) -> Result<(), Errno> {
    let len = message.text.len();
    // SAFETY: `Message` is the kernel's `msgbuf` with `len` bytes of text, which the call reads.
    unsafe {
        call!(
            __NR_msgsnd,
            id.0,
            (&raw const *message).cast::<u8>(),
            len,
            flags.bits()
        )
    }?;
    Ok(())
}

/// `ssize_t msgrcv(int msqid, void *msgp, size_t msgsz, long msgtyp, int msgflg)`: takes a message
/// out of the queue; gives the length of its text.
///
/// Waits until there is a message that `select` describes, unless told not to.
///
/// # Errors
///
/// - `TOOBIG` (`E2BIG`): the message is longer than `message.text`. It stays in the queue.
/// - `NOMSG`: no such message, and [`Receive::NOWAIT`].
/// - `INVAL`: `select` names a type that is not greater than 0, or there is no such queue.
/// - `IDRM`: the queue was removed while the call waited.
/// - `INTR`: a signal was caught while the call waited; nothing was taken. Never restarted by the
///   kernel, whatever `SA_RESTART` says.
/// - `ACCESS`: no read permission.
///
/// # References
///
/// - [msgop(2)](https://man7.org/linux/man-pages/man2/msgop.2.html)
#[inline]
#[doc(alias = "msgrcv")]
pub fn receive(
    id: Id,
    message: &mut Message,
    select: Select,
    flags: Receive,
) -> Result<usize, Errno> {
    let (kind, select_flag) = select.to_abi()?;
    msgrcv(id, message, kind, flags.bits() | select_flag)
}

/// `msgrcv` with `MSG_COPY`: copies the message at `index`, from 0, and leaves it in the queue.
///
/// Never waits. Needs a kernel with `CONFIG_CHECKPOINT_RESTORE`.
///
/// # Errors
///
/// - `NOMSG`: the queue has no message at `index`.
/// - `TOOBIG` (`E2BIG`): the message is longer than `message.text`, unless
///   [`Receive::TRUNCATE`].
/// - `NOSYS`: the kernel was built without it.
/// - `INVAL`: there is no such queue. `ACCESS`: no read permission.
///
/// # References
///
/// - [msgop(2)](https://man7.org/linux/man-pages/man2/msgop.2.html), `MSG_COPY`
#[inline]
#[doc(alias = "MSG_COPY")]
pub fn peek(id: Id, message: &mut Message, index: usize, flags: Receive) -> Result<usize, Errno> {
    let index = c_long::try_from(index).map_err(|_| Errno::NOMSG)?;
    msgrcv(
        id,
        message,
        index,
        flags.bits() | abi::IPC_NOWAIT | abi::MSG_COPY,
    )
}

#[inline]
fn msgrcv(id: Id, message: &mut Message, kind: c_long, flags: c_int) -> Result<usize, Errno> {
    let len = message.text.len();
    let message = (&raw mut *message).cast::<u8>();
    // SAFETY: `Message` is the kernel's `msgbuf` with room for `len` bytes of text, which the call
    // writes; any bytes are valid there.
    unsafe { call!(__NR_msgrcv, id.0, message, len, kind as isize, flags) }
}

/// `struct msqid_ds`: what the kernel knows about a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "msqid_ds")]
pub struct Stat {
    /// Owner and permissions.
    pub permissions: Permissions,
    /// Messages in the queue.
    pub messages: usize,
    /// Bytes of text in the queue.
    pub bytes: usize,
    /// The most bytes of text that the queue takes.
    pub max_bytes: usize,
    /// When a message was last sent, in seconds since the epoch.
    pub last_send: Option<i64>,
    /// When a message was last received.
    pub last_receive: Option<i64>,
    /// When the queue was made or last changed by [`set`].
    pub last_change: Option<i64>,
    /// Process that sent last, 0 if none.
    pub last_sender: i32,
    /// Process that received last, 0 if none.
    pub last_receiver: i32,
}

impl From<abi::msqid64_ds> for Stat {
    #[inline]
    fn from(ds: abi::msqid64_ds) -> Self {
        Self {
            permissions: ds.msg_perm.into(),
            messages: ds.msg_qnum as usize,
            bytes: ds.msg_cbytes as usize,
            max_bytes: ds.msg_qbytes as usize,
            last_send: ds.msg_stime.seconds(),
            last_receive: ds.msg_rtime.seconds(),
            last_change: ds.msg_ctime.seconds(),
            last_sender: ds.msg_lspid,
            last_receiver: ds.msg_lrpid,
        }
    }
}

/// `int msgctl(int msqid, int cmd, struct msqid_ds *buf)` with `IPC_STAT`: asks about a queue.
///
/// # Errors
///
/// - `ACCESS`: no read permission.
/// - `INVAL`: there is no such queue. `IDRM`: it was removed.
///
/// # References
///
/// - [msgctl(2)](https://man7.org/linux/man-pages/man2/msgctl.2.html)
#[inline]
#[doc(alias = "msgctl")]
pub fn stat(id: Id) -> Result<Stat, Errno> {
    let mut ds = abi::msqid64_ds::default();
    // SAFETY: `IPC_STAT` writes one `msqid64_ds`.
    unsafe { ctl(id.0, abi::IPC_STAT, &raw mut ds) }?;
    Ok(ds.into())
}

/// `msgctl` with `IPC_SET`: changes the owner, the permissions and the most bytes it takes.
///
/// # Errors
///
/// - `PERM`: the caller is neither owner nor creator nor privileged, or raises `max_bytes` above
///   `kernel.msgmnb` without `CAP_SYS_RESOURCE`.
/// - `INVAL`: there is no such queue, or a user or group id that does not exist here.
///
/// # References
///
/// - [msgctl(2)](https://man7.org/linux/man-pages/man2/msgctl.2.html)
#[inline]
pub fn set(id: Id, owner: Owner, max_bytes: usize) -> Result<(), Errno> {
    let ds = abi::msqid64_ds {
        msg_perm: owner.to_abi(),
        msg_qbytes: max_bytes as _,
        ..abi::msqid64_ds::default()
    };
    // SAFETY: `IPC_SET` reads one `msqid64_ds`.
    unsafe { ctl(id.0, abi::IPC_SET, &raw const ds) }?;
    Ok(())
}

/// `msgctl` with `IPC_RMID`: removes the queue and its messages; who waits on it gets `IDRM`.
///
/// # Errors
///
/// - `PERM`: the caller is neither owner nor creator nor privileged.
/// - `INVAL`: there is no such queue. `IDRM`: it was removed.
///
/// # References
///
/// - [msgctl(2)](https://man7.org/linux/man-pages/man2/msgctl.2.html)
#[inline]
#[doc(alias = "IPC_RMID")]
pub fn remove(id: Id) -> Result<(), Errno> {
    // SAFETY: `IPC_RMID` ignores the pointer.
    unsafe { ctl(id.0, abi::IPC_RMID, 0_usize) }?;
    Ok(())
}

/// `msgctl` with `MSG_STAT` or `MSG_STAT_ANY`: the queue at an index of the kernel's table.
///
/// All queues are at the indices from 0 to [`Usage::highest_index`]; there are gaps.
///
/// # Errors
///
/// - `INVAL`: nothing is at this index.
/// - `ACCESS`: [`Visibility::Readable`], and there is no read permission.
///
/// # References
///
/// - [msgctl(2)](https://man7.org/linux/man-pages/man2/msgctl.2.html)
#[inline]
#[doc(alias = "MSG_STAT")]
#[doc(alias = "MSG_STAT_ANY")]
pub fn stat_index(index: usize, visibility: Visibility) -> Result<(Id, Stat), Errno> {
    let index = c_int::try_from(index).map_err(|_| Errno::INVAL)?;
    let cmd = match visibility {
        Visibility::Readable => abi::MSG_STAT,
        Visibility::Any => abi::MSG_STAT_ANY,
    };
    let mut ds = abi::msqid64_ds::default();
    // SAFETY: `MSG_STAT` and `MSG_STAT_ANY` write one `msqid64_ds`.
    let id = unsafe { ctl(index, cmd, &raw mut ds) }?;
    Ok((Id(id as c_int), ds.into()))
}

/// The limits of the IPC namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "msginfo")]
pub struct Limits {
    /// `kernel.msgmax`: the most bytes of one message.
    pub message_bytes: usize,
    /// `kernel.msgmnb`: the most bytes of a new queue.
    pub queue_bytes: usize,
    /// `kernel.msgmni`: the most queues.
    pub queues: usize,
}

/// `msgctl` with `IPC_INFO`: the limits of the IPC namespace.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [msgctl(2)](https://man7.org/linux/man-pages/man2/msgctl.2.html)
#[inline]
#[doc(alias = "IPC_INFO")]
pub fn limits() -> Result<Limits, Errno> {
    let (info, _) = msginfo(abi::IPC_INFO)?;
    Ok(Limits {
        message_bytes: info.msgmax as usize,
        queue_bytes: info.msgmnb as usize,
        queues: info.msgmni as usize,
    })
}

/// What all queues of the IPC namespace use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The highest index that [`stat_index`] can find something at (0 also if there is no queue).
    pub highest_index: usize,
    /// Queues.
    pub queues: usize,
    /// Messages in all of them.
    pub messages: usize,
    /// Bytes of text in all of them.
    pub bytes: usize,
}

/// `msgctl` with `MSG_INFO`: what all queues use together, and where to stop enumerating.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [msgctl(2)](https://man7.org/linux/man-pages/man2/msgctl.2.html)
#[inline]
#[doc(alias = "MSG_INFO")]
pub fn usage() -> Result<Usage, Errno> {
    let (info, highest_index) = msginfo(abi::MSG_INFO)?;
    Ok(Usage {
        highest_index,
        queues: info.msgpool as usize,
        messages: info.msgmap as usize,
        bytes: info.msgtql as usize,
    })
}

#[inline]
fn msginfo(cmd: c_int) -> Result<(abi::msginfo, usize), Errno> {
    let mut info = abi::msginfo::default();
    // SAFETY: `IPC_INFO` and `MSG_INFO` write one `msginfo`.
    let highest_index = unsafe { ctl(0, cmd, &raw mut info) }?;
    Ok((info, highest_index))
}

/// `msgctl`, whose `arg` is what `cmd` takes.
///
/// # Safety
///
/// As for [`call!`]: a pointer is valid for what `cmd` reads or writes.
#[inline(always)]
unsafe fn ctl(id: c_int, cmd: c_int, arg: impl Arg) -> Result<usize, Errno> {
    // SAFETY: The caller's promise.
    unsafe { call!(__NR_msgctl, id, cmd | VERSION, arg) }
}
