//! POSIX message queues.

use linipc_core::Errno;
use linipc_core::posix::mq::{self, Flags};
use linipc_core::posix::{Create, Mode};
use linipc_static::Args;
use linipc_static::memory::bytes;
use linipc_static::number::parse_as;
use linipc_static::report::{Failure, print};

use crate::options::Options;
use crate::sysv::{not_now, text};

/// Sends a text, or what standard input has, with a priority (0). `-c` makes the queue if there is none.
pub fn mq_send(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"ncp:")?;
    let args = options.args;
    let priority = options.value.map_or(Some(0), parse_as);
    let priority = priority.ok_or(Failure::Usage)?;
    let create = match options.has(b'c') {
        true => Create::Open(Mode::RUSR | Mode::WUSR),
        false => Create::No,
    };
    let flags = Flags::WRITE | waiting(&options);
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
    let options = Options::read(args, b"nr")?;
    let args = options.args;
    let (Some(name), 1) = (args.get(0), args.len()) else {
        return Err(Failure::Usage);
    };
    if options.has(b'r') {
        return Ok(mq::unlink(name)?);
    }
    let queue = mq::open(name, Flags::READ | waiting(&options), Create::No, None)?;
    let text = bytes(mq::getattr(&queue)?.capacity.message_bytes)?;
    let received = mq::receive(&queue, text, None);
    let len = received.map_or(0, |received| received.len);
    not_now(received.map(|_| ()), Errno::AGAIN)?;
    Ok(print(text.get(..len).unwrap_or_default())?)
}

fn waiting(options: &Options) -> Flags {
    match options.has(b'n') {
        true => Flags::NONBLOCK,
        false => Flags::empty(),
    }
}
