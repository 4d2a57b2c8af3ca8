//! A System V queue and a POSIX queue
#![no_std]
#![no_main]

use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
use linipc_core::sysv::{self, Create, Mode};
use linipc_core::{Errno, io};
use linipc_static::{Args, entry};

entry!(main);

fn main(args: Args) -> u8 {
    match run(args) { Ok(()) => 0, Err(e) => e.raw_os_error() as u8 }
}
fn run(args: Args) -> Result<(), Errno> {
    let path = args.get(1).ok_or(Errno::INVAL)?;
    let key = sysv::ftok(path, 1)?;
    let id = msg::get(key, Create::Open(Mode::RUSR|Mode::WUSR))?;
    msg::send(id, &Message::new(1, *b"hello"), Send::empty())?;
    let mut m = Message::new(0, [0; 64]);
    let n = msg::receive(id, &mut m, Select::First, Receive::empty())?;
    io::write(unsafe { linipc_core::fd::BorrowedFd::borrow_raw(1) }, m.text.get(..n).unwrap_or(&[]))?;
    msg::remove(id)
}
