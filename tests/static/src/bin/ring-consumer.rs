//! Copies a ring in a memfd to standard output: `ring-producer <FILE | ring-consumer >COPY`.
//!
//! Standard input says the path of the memfd, and no more: what is copied goes through shared memory.

#![no_std]
#![no_main]

use core::ffi::CStr;

use linipc_core::Errno;
use linipc_core::io::{self, Mode, OFlags};
use linipc_core::ring::spsc::Consumer;
use linipc_core::ring::{self, Error, Trusted, Wait};
use linipc_static::report::{Failure, ended, print, stdin};
use linipc_static::{Args, entry};

entry!(main);

fn main(args: Args) -> u8 {
    ended(b"ring-consumer", b"ring-consumer", run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    if args.len() > 1 {
        return Err(Failure::Usage);
    }
    let mut path = [0; 64];
    let [text @ .., _] = &mut path;
    if io::read(stdin(), &mut *text)? == text.len() {
        return Err(Failure::Errno(Errno::NAMETOOLONG));
    }
    // SAFETY: The last byte is null, since nothing was read into it.
    let path = unsafe { CStr::from_ptr(path.as_ptr().cast()) };
    let fd = io::open(path, OFlags::RDWR, Mode::empty())?;
    // SAFETY: Whoever says the path trusts all who can write there: of a memfd of ring-producer, only those who have
    // its rights.
    let memory = unsafe { Trusted::new(ring::map(&fd)?) };
    let mut ring = Consumer::attach(memory)?;
    loop {
        match ring.wait(Wait::SLEEP) {
            Ok(()) => {}
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let message = ring.try_peek()?;
        print(message.as_slice())?;
        message.release();
    }
}
