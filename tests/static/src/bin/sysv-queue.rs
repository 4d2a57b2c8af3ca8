//! A client of a System V message queue.
//!
//! - `sysv-queue send KEY TYPE TEXT`: sends a message; makes the queue if there is none.
//! - `sysv-queue receive KEY TYPE`: waits for a message of the type (0: of any), and prints it.
//! - `sysv-queue remove KEY`

#![no_std]
#![no_main]

use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
use linipc_core::sysv::{Create, Key, Mode};
use linipc_static::memory::words;
use linipc_static::number::{parse_as, parse_key};
use linipc_static::queue::message;
use linipc_static::report::{Failure, ended, print};
use linipc_static::{Args, entry};

const USAGE: &[u8] = b"sysv-queue send KEY TYPE TEXT | receive KEY TYPE | remove KEY";

entry!(main);

fn main(args: Args) -> u8 {
    ended(b"sysv-queue", USAGE, run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    let key = args.bytes(2).and_then(parse_key).ok_or(Failure::Usage)?;
    let key = Key::new(key);
    let kind = args.bytes(3).and_then(parse_as);
    match (args.bytes(1), kind, args.bytes(4), args.len()) {
        (Some(b"send"), Some(kind), Some(text), 5) => {
            let message = message(kind, text)?;
            let queue = msg::get(key, Create::Open(Mode::RUSR | Mode::WUSR))?;
            Ok(msg::send(queue, message, Send::empty())?)
        }
        (Some(b"receive"), Some(kind), None, 4) => {
            let queue = msg::get(key, Create::No)?;
            let room = msg::limits()?.message_bytes;
            let words = words(Message::words(room))?;
            let message = Message::from_words(words, room).ok_or(Failure::Usage)?;
            let select = match kind {
                0 => Select::First,
                kind => Select::Type(kind),
            };
            let len = msg::receive(queue, message, select, Receive::empty())?;
            print(message.text.get(..len).unwrap_or_default())?;
            Ok(print(b"\n")?)
        }
        (Some(b"remove"), None, None, 3) => Ok(msg::remove(msg::get(key, Create::No)?)?),
        _ => Err(Failure::Usage),
    }
}
