//! Two processes without libc talk through a System V queue, a semaphore and a FIFO.
//!
//! `mechanisms PATH give` and `mechanisms PATH take`, started in this order or the other: `PATH` is
//! the FIFO, and the key of the other two comes from it. The giver sends one message through each;
//! the taker prints them, removes everything, and ends with 0. Errors are told as an exit code.

#![no_std]
#![no_main]

use core::ffi::CStr;

use linipc_core::fifo::{self, End};
use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
use linipc_core::sysv::sem::{self, Op};
use linipc_core::sysv::{self, Create, Mode};
use linipc_core::{Errno, io};
use linipc_static::report::stdout;
use linipc_static::{Args, entry};

entry!(main);

fn main(args: Args) -> u8 {
    let done = match (args.get(1), args.get(2).map(CStr::to_bytes)) {
        (Some(path), Some(b"give")) => give(path),
        (Some(path), Some(b"take")) => take(path),
        _ => Err(Errno::INVAL),
    };
    done.map_or_else(|error| error.raw_os_error() as u8, |()| 0)
}

/// The queue and the semaphore, whoever comes first.
fn objects(path: &CStr) -> Result<(msg::Id, sem::Id), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    match fifo::create(path, mode) {
        // Else the others would be left for nothing.
        Err(Errno::EXIST) => drop(fifo::identity_at(fifo::CWD, path, fifo::Flags::empty())?),
        made => made?,
    }
    let key = sysv::ftok(path, b'm')?;
    Ok((
        msg::get(key, Create::Open(mode))?,
        sem::get(key, 1, Create::Open(mode))?,
    ))
}

fn give(path: &CStr) -> Result<(), Errno> {
    let (queue, semaphore) = objects(path)?;
    msg::send(queue, &Message::new(1, *b"a message\n"), Send::empty())?;
    sem::op(semaphore, &[Op::new(0, 1)])?;
    let writer = fifo::open(path, End::Writer, fifo::Flags::empty())?;
    io::write(&writer, b"a line through the FIFO\n")?;
    Ok(())
}

fn take(path: &CStr) -> Result<(), Errno> {
    let (queue, semaphore) = objects(path)?;
    // A stop and a continue end the call too (signal(7)).
    io::retry_on_intr(|| sem::op(semaphore, &[Op::new(0, -1)]))?;
    let mut message = Message::new(0, [0; 64]);
    let text = msg::receive(queue, &mut message, Select::Type(1), Receive::empty())?;

    let reader = fifo::open(path, End::Reader, fifo::Flags::empty())?;
    let mut line = [0; 64];
    let len = io::read(&reader, &mut line)?;

    // Before the output, which may fail.
    fifo::unlink(path)?;
    sem::remove(semaphore)?;
    msg::remove(queue)?;
    print(message.text.get(..text))?;
    print(line.get(..len))
}

fn print(text: Option<&[u8]>) -> Result<(), Errno> {
    io::write(stdout(), text.ok_or(Errno::INVAL)?)?;
    Ok(())
}
