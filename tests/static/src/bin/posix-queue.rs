//! A client of a POSIX message queue.
//!
//! - `posix-queue send NAME PRIORITY TEXT`: sends a message; makes the queue if there is none.
//! - `posix-queue receive NAME`: waits for a message, and prints its priority and the text.
//! - `posix-queue unlink NAME`

#![no_std]
#![no_main]

use linipc_core::posix::Create;
use linipc_core::posix::mq::{self, Flags};
use linipc_static::memory::bytes;
use linipc_static::number::{decimal, parse_as};
use linipc_static::report::{Failure, ended, print};
use linipc_static::{Args, entry, queue};

const USAGE: &[u8] = b"posix-queue send NAME PRIORITY TEXT | receive NAME | unlink NAME";

entry!(main);

fn main(args: Args) -> u8 {
    ended(b"posix-queue", USAGE, run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    let name = args.get(2).ok_or(Failure::Usage)?;
    let priority = args.bytes(3).and_then(parse_as);
    match (args.bytes(1), priority, args.bytes(4), args.len()) {
        (Some(b"send"), Some(priority), Some(text), 5) => {
            Ok(queue::send(name, Flags::WRITE, true, priority, text)?)
        }
        (Some(b"receive"), None, None, 3) => {
            let queue = mq::open(name, Flags::READ, Create::No, None)?;
            let text = bytes(mq::getattr(&queue)?.capacity.message_bytes)?;
            let received = mq::receive(&queue, text, None)?;
            print(decimal(received.priority.into(), &mut [0; 20]))?;
            print(b" ")?;
            print(text.get(..received.len).unwrap_or_default())?;
            Ok(print(b"\n")?)
        }
        (Some(b"unlink"), None, None, 3) => Ok(mq::unlink(name)?),
        _ => Err(Failure::Usage),
    }
}
