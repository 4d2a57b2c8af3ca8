//! Messages that are looked at before there is a queue for them: who refuses a message leaves no queue behind.

use core::ffi::{CStr, c_long};

use linipc_core::Errno;
use linipc_core::posix::mq::{self, Flags};
use linipc_core::posix::{Create, Mode};
use linipc_core::sysv::msg::{Message, limits};

use crate::memory::words;

/// A System V message.
///
/// # Errors
///
/// As msgsnd(2) has them: `INVAL`, the type is less than 1, or the text longer than `kernel.msgmax`.
pub fn message(kind: c_long, text: &[u8]) -> Result<&'static mut Message, Errno> {
    if kind < 1 || text.len() > limits()?.message_bytes {
        return Err(Errno::INVAL);
    }
    let words = words(Message::words(text.len()))?;
    let message = Message::from_words(words, text.len()).ok_or(Errno::NOMEM)?;
    message.kind = kind;
    let bytes = message.text.iter_mut().zip(text);
    bytes.for_each(|(to, from)| *to = *from);
    Ok(message)
}

/// Sends a text to a POSIX queue, which it makes if there is none.
///
/// # Errors
///
/// Those of mq_open(3) and mq_send(3); a queue that was made for a text that is too long is removed.
pub fn send(
    name: &CStr,
    flags: Flags,
    create: bool,
    priority: u32,
    text: &[u8],
) -> Result<(), Errno> {
    if priority > mq::MAX_PRIORITY {
        return Err(Errno::INVAL);
    }
    let mode = Mode::RUSR | Mode::WUSR;
    let made = match create {
        true => mq::open(name, flags, Create::Exclusive(mode), None),
        false => Err(Errno::EXIST),
    };
    let (queue, is_new) = match made {
        Err(Errno::EXIST) => (mq::open(name, flags, Create::No, None)?, false),
        made => (made?, true),
    };
    let sent = mq::send(&queue, text, priority, None);
    // What the longest message of a new queue is, only the queue tells.
    if is_new && sent == Err(Errno::MSGSIZE) {
        mq::unlink(name)?;
    }
    sent
}
