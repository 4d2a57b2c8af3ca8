//! POSIX message queues.

use linipc_core::Errno;
use linipc_core::posix::mq::{self, Flags};
use linipc_core::posix::{Create, Mode};
use linipc_static::Args;
use linipc_static::memory::bytes;
use linipc_static::number::parse_as;
use linipc_static::report::{Failure, print};

use crate::options::options;
use crate::sysv::{not_now, text};

/// Sends a text, or what standard input has, with a priority (0). `-c` makes the queue if there is none.
pub fn mq_send(args: Args) -> Result<(), Failure> {
    let (mut priority, mut create, mut flags) = (0, Create::No, Flags::WRITE);
    let args = options(args, |letter, value| {
        match letter {
            b'n' => flags |= Flags::NONBLOCK,
            b'c' => create = Create::Open(Mode::RUSR | Mode::WUSR),
            b'p' => {
                priority = value.and_then(parse_as).ok_or(Failure::Usage)?;
                return Ok(true);
            }
            _ => return Err(Failure::Usage),
        }
        Ok(false)
    })?;
    let (Some(name), 1..=2) = (args.get(0), args.len()) else {
        return Err(Failure::Usage);
    };
    let queue = mq::open(name, flags, create, None)?;
    let room = bytes(mq::getattr(&queue)?.capacity.message_bytes + 1)?;
    let text = text(args, room)?;
    not_now(mq::send(&queue, text, priority, None), Errno::AGAIN)
}

/// Receives a message and prints it. `-r` removes the queue instead.
pub fn mq_recv(args: Args) -> Result<(), Failure> {
    let (mut flags, mut remove) = (Flags::READ, false);
    let args = options(args, |letter, _| {
        match letter {
            b'n' => flags |= Flags::NONBLOCK,
            b'r' => remove = true,
            _ => return Err(Failure::Usage),
        }
        Ok(false)
    })?;
    let (Some(name), 1) = (args.get(0), args.len()) else {
        return Err(Failure::Usage);
    };
    if remove {
        return Ok(mq::unlink(name)?);
    }
    let queue = mq::open(name, flags, Create::No, None)?;
    let text = bytes(mq::getattr(&queue)?.capacity.message_bytes)?;
    let received = mq::receive(&queue, text, None);
    let len = received.map_or(0, |received| received.len);
    not_now(received.map(|_| ()), Errno::AGAIN)?;
    Ok(print(text.get(..len).unwrap_or_default())?)
}
