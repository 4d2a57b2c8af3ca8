//! POSIX message queues.

use linipc_core::Errno;
use linipc_core::posix::Create;
use linipc_core::posix::mq::{self, Flags};
use linipc_static::memory::bytes;
use linipc_static::number::parse_as;
use linipc_static::report::{Failure, print};
use linipc_static::{Args, queue};

use crate::options::Options;
use crate::sysv::{not_now, text};

/// `HARD_MSGSIZEMAX`: no queue takes longer messages.
const LONGEST: usize = 1 << 24;

/// Sends a text, or what standard input has, with a priority (0). `-c` makes the queue if there is none.
pub fn mq_send(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"ncp:")?;
    let args = options.args;
    let priority = options.value.map_or(Some(0), parse_as);
    let priority = priority.ok_or(Failure::Usage)?;
    let flags = Flags::WRITE | waiting(&options);
    let (Some(name), 1..=2) = (args.get(0), args.len()) else {
        return Err(Failure::Usage);
    };
    let text = text(args, LONGEST)?;
    let sent = queue::send(name, flags, options.has(b'c'), priority, text);
    not_now(sent, Errno::AGAIN)
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
