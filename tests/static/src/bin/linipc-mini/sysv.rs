//! System V semaphores and message queues.

use linipc_core::Errno;
use linipc_core::io;
use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
use linipc_core::sysv::sem::{self, Op};
use linipc_core::sysv::{Create, Key, Mode};
use linipc_static::Args;
use linipc_static::memory::{bytes, words};
use linipc_static::number::{parse_as, parse_key};
use linipc_static::queue::message;
use linipc_static::report::{Failure, print, stdin};

use crate::options::Options;

/// The most operations of one call.
const OPERATIONS: usize = 32;

const MINE: Create = Create::Open(Mode::RUSR.union(Mode::WUSR));

/// Does operations on semaphores, all at once: `+1` adds, `-1` takes, `0` waits for zero; `2:-1` takes
/// from number 2 of the set. `-c` makes a set of so many if there is none, and then takes numbers of such a
/// set only. `-r` removes the set instead.
pub fn semop(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"nrc:")?;
    let (args, remove) = (options.args, options.has(b'r'));
    let key = key(args)?;
    let (count, create): (u16, _) = match options.value {
        Some(_) if remove => return Err(Failure::Usage),
        Some(count) => (parse_as(count).ok_or(Failure::Usage)?, MINE),
        None => (0, Create::No),
    };
    let mut ops = [Op::new(0, 0); OPERATIONS];
    let mut is_in_set = true;
    for (index, place) in ops.iter_mut().enumerate().take(args.len() - 1) {
        let op = args.bytes(index + 1).and_then(operation);
        let (number, op) = op.ok_or(Failure::Usage)?;
        is_in_set &= create == Create::No || number < count;
        *place = Op::new(number, op);
        if options.has(b'n') {
            *place = place.nowait();
        }
    }
    let ops = ops.get(..args.len() - 1).ok_or(Errno::TOOBIG)?;
    if remove != ops.is_empty() {
        return Err(Failure::Usage);
    }
    if !is_in_set {
        return Err(Failure::Errno(Errno::FBIG));
    }
    let set = sem::get(key, count.into(), create)?;
    match remove {
        true => Ok(sem::remove(set)?),
        // A stop and a continue end the call too (signal(7)).
        false => not_now(io::retry_on_intr(|| sem::op(set, ops)), Errno::AGAIN),
    }
}

/// `OPERATION` or `NUMBER:OPERATION`.
fn operation(text: &[u8]) -> Option<(u16, i16)> {
    let (number, op) = match text.iter().position(|byte| *byte == b':') {
        Some(colon) => (parse_as(text.get(..colon)?)?, text.get(colon + 1..)?),
        None => (0, text),
    };
    Some((number, parse_as(op)?))
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
    let message = message(kind, text(args, msg::limits()?.message_bytes)?)?;
    let queue = msg::get(key, create)?;
    not_now(msg::send(queue, message, flags), Errno::AGAIN)
}

/// Receives a message of a type (0: of any; -5: of the lowest up to 5) and prints it. `-r` removes the queue
/// instead.
pub fn msgrcv(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"nrt:")?;
    let args = options.args;
    let kind = options.value.map_or(Some(0), parse_as);
    let kind = kind.ok_or(Failure::Usage)?;
    let select = match kind {
        0 => Select::First,
        1.. => Select::Type(kind),
        ..0 => Select::UpTo(kind.saturating_neg()),
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

/// The second argument, or else standard input, of which a byte more than `most` shows that it is too long.
pub fn text(args: Args, most: usize) -> Result<&'static [u8], Errno> {
    if let Some(text) = args.bytes(1) {
        return Ok(text);
    }
    let room = bytes(most + 1)?;
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
