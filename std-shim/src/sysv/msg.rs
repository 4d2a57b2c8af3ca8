//! System V message queues: typed messages, taken in order or out of order by type.
//!
//! Built on [`linipc_core::sysv::msg`], whose [`Message`] moves without a copy in between.
//!
//! ```
//! use linipc::sysv::msg::{Queue, Select};
//!
//! let queue = Queue::private()?;
//! queue.send(1, b"a letter")?;
//! queue.send(2, b"a parcel")?;
//!
//! let mut text = [0; 64];
//! let received = queue.receive(Select::Type(2), &mut text)?;
//! assert_eq!((received.kind, &text[..received.len]), (2, &b"a parcel"[..]));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::ffi::c_long;
use std::io;

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::sysv::msg as core;

pub use linipc_core::sysv::msg::{Id, Limits, Message, Select, Stat, Usage, limits, usage};

use linipc_core::sysv::Visibility;

use super::{Key, Open, Owner};
use crate::Deadline;
use crate::error::Limit;
use crate::on_drop::RemoveOnDrop;

/// How to open a queue.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    open: Open,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Finds an existing queue, which outlives the handle.
    pub const fn new() -> Self {
        Self { open: Open::new() }
    }

    super::open_options!();

    /// Opens the queue with this key.
    ///
    /// # Errors
    ///
    /// Those of msgget(2). `NOSPC` carries a [`Limit`].
    pub fn open(&self, key: Key) -> io::Result<Queue> {
        let id = core::get(key, self.open.how()).map_err(|error| match (error, limits()) {
            (Errno::NOSPC, Ok(limits)) => io::Error::from(Limit {
                errno: error,
                what: "message queues",
                value: limits.queues as u64,
                setting: "kernel.msgmni",
            }),
            _ => error.into(),
        })?;
        Ok(Queue {
            id,
            remove_on_drop: self.open.remove_on_drop(id, remove),
        })
    }
}

/// A message that was received: its type, and how much of the buffer it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The type.
    pub kind: c_long,
    /// The length of the text.
    pub len: usize,
}

/// A message queue.
#[derive(Debug)]
pub struct Queue {
    id: Id,
    remove_on_drop: RemoveOnDrop<Id>,
}

impl Queue {
    /// Finds the queue with this key; the same as [`OpenOptions::new`] and open.
    ///
    /// # Errors
    ///
    /// Those of msgget(2).
    pub fn open(key: Key) -> io::Result<Self> {
        OpenOptions::new().open(key)
    }

    /// A new queue that has no key, for those who get its [`id`](Self::id); removed on drop.
    ///
    /// # Errors
    ///
    /// Those of msgget(2). `NOSPC` carries a [`Limit`].
    pub fn private() -> io::Result<Self> {
        OpenOptions::new()
            .create_new(true)
            .remove_on_drop(true)
            .open(Key::PRIVATE)
    }

    /// The queue with this id, which another process sent. Nothing is checked before it is used;
    /// the queue outlives the handle.
    pub const fn from_id(id: Id) -> Self {
        Self {
            id,
            remove_on_drop: RemoveOnDrop::NEVER,
        }
    }

    /// The id, which is good in every process.
    pub const fn id(&self) -> Id {
        self.id
    }

    /// Sends a message of type `kind`; waits while the queue is full.
    ///
    /// # Errors
    ///
    /// - `INVAL` with a [`Limit`]: longer than `kernel.msgmax`.
    /// - `INVAL`: `kind` is not greater than 0, or the queue does not exist.
    /// - `IDRM`: the queue was removed meanwhile. `ACCESS`: no write permission.
    #[inline]
    pub fn send(&self, kind: c_long, text: &[u8]) -> io::Result<()> {
        self.with_message(kind, text, |message| {
            Ok(retry_on_intr(|| {
                core::send(self.id, message, core::Send::empty())
            })?)
        })
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if there is not, and those of [`Queue::send`].
    #[inline]
    pub fn try_send(&self, kind: c_long, text: &[u8]) -> io::Result<()> {
        self.with_message(kind, text, |message| {
            Ok(core::send(self.id, message, core::Send::NOWAIT)?)
        })
    }

    /// Sends a message; waits while the queue is full, but not beyond the deadline.
    ///
    /// The kernel has no such call, so this one tries with pauses of up to 2 ms.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Queue::send`].
    #[inline]
    pub fn send_deadline(
        &self,
        kind: c_long,
        text: &[u8],
        deadline: impl Into<Deadline>,
    ) -> io::Result<()> {
        let deadline = deadline.into();
        self.with_message(kind, text, |message| {
            deadline.poll(Errno::AGAIN, || {
                core::send(self.id, message, core::Send::NOWAIT)
            })
        })
    }

    /// Takes the message that `select` describes; waits until there is one.
    ///
    /// # Errors
    ///
    /// - `TOOBIG` (`E2BIG`): it is longer than `text`; it stays in the queue.
    /// - `INVAL`: `select` names a type that is not greater than 0, or the queue does not exist.
    /// - `IDRM`: the queue was removed meanwhile. `ACCESS`: no read permission.
    #[inline]
    pub fn receive(&self, select: Select, text: &mut [u8]) -> io::Result<Received> {
        let flags = core::Receive::empty();
        copy_out(text, |message| {
            Ok(retry_on_intr(|| {
                core::receive(self.id, message, select, flags)
            })?)
        })
    }

    /// As [`Queue::receive`], but a message that is longer than `text` is cut off, and its rest is
    /// lost.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::receive`] but the first.
    #[inline]
    pub fn receive_truncated(&self, select: Select, text: &mut [u8]) -> io::Result<Received> {
        let flags = core::Receive::TRUNCATE;
        copy_out(text, |message| {
            Ok(retry_on_intr(|| {
                core::receive(self.id, message, select, flags)
            })?)
        })
    }

    /// Takes the message that `select` describes if it is there now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if it is not, where msgrcv(2) has `NOMSG`; those of [`Queue::receive`].
    #[inline]
    pub fn try_receive(&self, select: Select, text: &mut [u8]) -> io::Result<Received> {
        copy_out(text, |message| Ok(self.receive_now(message, select)?))
    }

    /// Takes the message that `select` describes; waits until there is one, but not beyond the
    /// deadline.
    ///
    /// The kernel has no such call, so this one tries with pauses of up to 2 ms.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Queue::receive`].
    #[inline]
    pub fn receive_deadline(
        &self,
        select: Select,
        text: &mut [u8],
        deadline: impl Into<Deadline>,
    ) -> io::Result<Received> {
        let deadline = deadline.into();
        copy_out(text, |message| {
            deadline.poll(Errno::AGAIN, || self.receive_now(message, select))
        })
    }

    #[inline]
    fn receive_now(&self, message: &mut Message, select: Select) -> Result<usize, Errno> {
        match core::receive(self.id, message, select, core::Receive::NOWAIT) {
            Err(Errno::NOMSG) => Err(Errno::AGAIN),
            done => done,
        }
    }

    /// Copies the message at `index`, counted from 0, and leaves it in the queue.
    ///
    /// # Errors
    ///
    /// - `NOMSG`: the queue has no message there. `TOOBIG` (`E2BIG`): it is longer than `text`.
    /// - `NOSYS`: the kernel was built without `CONFIG_CHECKPOINT_RESTORE`.
    pub fn peek(&self, index: usize, text: &mut [u8]) -> io::Result<Received> {
        copy_out(text, |message| {
            Ok(core::peek(self.id, message, index, core::Receive::empty())?)
        })
    }

    /// What the kernel knows about the queue.
    ///
    /// # Errors
    ///
    /// `ACCESS`: no read permission. `INVAL`: the queue does not exist.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(core::stat(self.id)?)
    }

    /// Changes the owner, the permissions and the most bytes that the queue holds.
    ///
    /// # Errors
    ///
    /// - `PERM` with a [`Limit`]: `max_bytes` is above `kernel.msgmnb`, and the caller is not
    ///   privileged.
    /// - `PERM`: the caller is neither owner nor creator. `INVAL`: the queue does not exist.
    pub fn set(&self, owner: Owner, max_bytes: usize) -> io::Result<()> {
        core::set(self.id, owner, max_bytes).map_err(|error| match (error, limits()) {
            (Errno::PERM, Ok(limits)) if max_bytes > limits.queue_bytes => Limit {
                errno: error,
                what: "bytes in a message queue",
                value: limits.queue_bytes as u64,
                setting: "kernel.msgmnb",
            }
            .into(),
            _ => error.into(),
        })
    }

    /// Removes the queue, for everybody; who waits on it gets `IDRM`.
    ///
    /// # Errors
    ///
    /// - `PERM`: the caller is neither owner nor creator.
    /// - `INVAL`, `IDRM`: it was removed already.
    pub fn remove(mut self) -> io::Result<()> {
        self.remove_on_drop.persist();
        remove(&self.id)
    }

    /// Lets the queue outlive the handle, whatever was chosen when it was opened.
    pub fn persist(&mut self) {
        self.remove_on_drop.persist();
    }

    /// Calls `send` with a message made of `kind` and `text`, and names the limit if there is one.
    #[inline]
    fn with_message(
        &self,
        kind: c_long,
        text: &[u8],
        send: impl FnOnce(&Message) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut words = vec![0; Message::words(text.len())];
        let message = Message::from_words(&mut words, text.len()).ok_or(Errno::INVAL)?;
        message.kind = kind;
        message.text.copy_from_slice(text);
        send(message).map_err(|error| self.too_long(&error, text.len()).unwrap_or(error))
    }

    /// The limit that a text of `len` bytes exceeds, if that is why `error` came.
    fn too_long(&self, error: &io::Error, len: usize) -> Option<io::Error> {
        if error.raw_os_error() != Some(Errno::INVAL.raw_os_error()) {
            return None;
        }
        let value = limits().ok()?.message_bytes;
        let limit = Limit {
            errno: Errno::INVAL,
            what: "bytes in a message",
            value: value as u64,
            setting: "kernel.msgmax",
        };
        (len > value).then(|| limit.into())
    }
}

fn remove(id: &Id) -> io::Result<()> {
    Ok(core::remove(*id)?)
}

/// Receives into a message as large as `text`, and copies its text there.
fn copy_out(
    text: &mut [u8],
    receive: impl FnOnce(&mut Message) -> io::Result<usize>,
) -> io::Result<Received> {
    let mut words = vec![0; Message::words(text.len())];
    let message = Message::from_words(&mut words, text.len()).ok_or(Errno::INVAL)?;
    let len = receive(message)?;
    text[..len].copy_from_slice(&message.text[..len]);
    Ok(Received {
        kind: message.kind,
        len,
    })
}

/// All queues of the IPC namespace, also those that the caller may not read.
///
/// A queue that is made or removed meanwhile may or may not be among them.
///
/// # Errors
///
/// None in practice.
pub fn list() -> io::Result<Vec<(Id, Stat)>> {
    let indices = 0..=usage()?.highest_index;
    Ok(indices
        .filter_map(|index| core::stat_index(index, Visibility::Any).ok())
        .collect())
}
