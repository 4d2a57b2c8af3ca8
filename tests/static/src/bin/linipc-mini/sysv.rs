//! System V semaphores and message queues.

use linipc_core::Errno;
use linipc_core::io;
use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
use linipc_core::sysv::sem::{self, Op};
use linipc_core::sysv::{Create, Key, Mode};
use linipc_static::Args;
use linipc_static::memory::{bytes, words};
use linipc_static::number::{parse_as, parse_key};
use linipc_static::report::{Failure, print, stdin};

use crate::options::Options;

/// The most operations of one call.
const OPERATIONS: usize = 32;

const MINE: Create = Create::Open(Mode::RUSR.union(Mode::WUSR));

/// Does operations on semaphores, all at once: `+1` adds, `-1` takes, `0` waits for zero; `2:-1` takes
/// from number 2 of the set. `-c` makes a set of so many if there is none. `-r` removes the set instead.
pub fn semop(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"nrc:")?;
    let (args, remove) = (options.args, options.has(b'r'));
    let count: Option<u16> = options.value.map_or(Some(0), parse_as);
    let count = count.ok_or(Failure::Usage)?;
    let key = key(args)?;
    let mut ops = [Op::new(0, 0); OPERATIONS];
    for (index, place) in ops.iter_mut().enumerate().take(args.len() - 1) {
        let op = args.bytes(index + 1).and_then(operation);
        *place = op.ok_or(Failure::Usage)?;
        if options.has(b'n') {
            *place = place.nowait();
        }
    }
    let ops = ops.get(..args.len() - 1).ok_or(Failure::Usage)?;
    if remove != ops.is_empty() {
        return Err(Failure::Usage);
    }
    let create = if count > 0 { MINE } else { Create::No };
    let set = sem::get(key, count.into(), create)?;
    match remove {
        true => Ok(sem::remove(set)?),
        false => not_now(sem::op(set, ops), Errno::AGAIN),
    }
}

/// `OPERATION` or `NUMBER:OPERATION`.
fn operation(text: &[u8]) -> Option<Op> {
    let (number, op) = match text.iter().position(|byte| *byte == b':') {
        Some(colon) => (parse_as(text.get(..colon)?)?, text.get(colon + 1..)?),
        None => (0, text),
    };
    Some(Op::new(number, parse_as(op)?))
}

/// Sends a text, or what standard input has, as a message of a type (1). `-c` makes the queue if there is
/// none.
pub fn msgsnd(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"nct:")?;
    let args = options.args;
    let kind = options.value.map_or(Some(1), parse_as);
    let kind = kind.ok_or(Failure::Usage)?;
    let create = match options.has(b'c') {
        true => MINE,
        false => Create::No,
    };
    let flags = match options.has(b'n') {
        true => Send::NOWAIT,
        false => Send::empty(),
    };
    let (key, 1..=2) = (key(args)?, args.len()) else {
        return Err(Failure::Usage);
    };
    let queue = msg::get(key, create)?;
    let text = text(args, bytes(msg::limits()?.message_bytes + 1)?)?;
    let words = words(Message::words(text.len()))?;
    let message = Message::from_words(words, text.len()).ok_or(Errno::NOMEM)?;
    message.kind = kind;
    let bytes = message.text.iter_mut().zip(text);
    bytes.for_each(|(to, from)| *to = *from);
    not_now(msg::send(queue, message, flags), Errno::AGAIN)
}

/// Receives a message of a type (0: of any) and prints it. `-r` removes the queue instead.
pub fn msgrcv(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"nrt:")?;
    let args = options.args;
    let kind = options.value.map_or(Some(0), parse_as);
    let select = match kind.ok_or(Failure::Usage)? {
        0 => Select::First,
        kind => Select::Type(kind),
    };
    let flags = match options.has(b'n') {
        true => Receive::NOWAIT,
        false => Receive::empty(),
    };
    let (key, 1) = (key(args)?, args.len()) else {
        return Err(Failure::Usage);
    };
    let queue = msg::get(key, Create::No)?;
    if options.has(b'r') {
        return Ok(msg::remove(queue)?);
    }
    let room = msg::limits()?.message_bytes;
    let words = words(Message::words(room))?;
    let message = Message::from_words(words, room).ok_or(Errno::NOMEM)?;
    let received = msg::receive(queue, message, select, flags);
    not_now(received.map(|_| ()), Errno::NOMSG)?;
    Ok(print(message.text.get(..received?).unwrap_or_default())?)
}

fn key(args: Args) -> Result<Key, Failure> {
    let key = args.bytes(0).and_then(parse_key).ok_or(Failure::Usage)?;
    Ok(Key::new(key))
}

/// The second argument, or else all of standard input that fits into `room`.
pub fn text(args: Args, room: &'static mut [u8]) -> Result<&'static [u8], Failure> {
    if let Some(text) = args.bytes(1) {
        return Ok(text);
    }
    let mut len = 0;
    while let Some(rest @ [_, ..]) = room.get_mut(len..) {
        match io::read(stdin(), rest)? {
            0 => break,
            read => len += read,
        }
    }
    Ok(room.get(..len).unwrap_or_default())
}

/// What was done, or the exit code that says that it cannot be done without waiting.
pub fn not_now(done: Result<(), Errno>, would_wait: Errno) -> Result<(), Failure> {
    match done {
        Err(errno) if errno == would_wait => Err(Failure::Silent(1)),
        done => Ok(done?),
    }
}
