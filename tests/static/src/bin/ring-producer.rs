//! Copies standard input into a ring in a memfd: `ring-producer <FILE | ring-consumer >COPY`.
//!
//! It writes the path of the memfd to standard output, and waits until somebody has attached, or, if that is a pipe,
//! nobody can read the path any more: with `>FILE` it waits for ever. Both are of the same user, and have `/proc`.

#![no_std]
#![no_main]

use linipc_core::fd::AsRawFd;
use linipc_core::io::{self, IoSlice};
use linipc_core::ring::spsc::Producer;
use linipc_core::ring::{self, Kind, Peers, Trusted, Wait};
use linipc_static::number::decimal;
use linipc_static::report::{Failure, ended, stdin, stdout};
use linipc_static::{Args, entry, peer};
use rustix::process::getpid;

/// The longest message.
const BYTES: usize = 4096;

entry!(main);

fn main(args: Args) -> u8 {
    ended(b"ring-producer", b"ring-producer", run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    if args.len() > 1 {
        return Err(Failure::Usage);
    }
    let fd = ring::create_memfd(c"ring", Kind::Spsc, 1 << 16)?;
    // SAFETY: Only who has the rights of this process can open its memfd: they trust each other.
    let memory = unsafe { Trusted::new(ring::map(&fd)?) };
    let mut ring = Producer::attach(memory)?;
    let (mut digits, mut more_digits) = ([0; 20], [0; 20]);
    let pid = getpid().as_raw_nonzero().get().unsigned_abs();
    let number = fd.as_raw_fd().unsigned_abs();
    let path = [
        IoSlice::new(b"/proc/"),
        IoSlice::new(decimal(pid.into(), &mut digits)),
        IoSlice::new(b"/fd/"),
        IoSlice::new(decimal(number.into(), &mut more_digits)),
    ];
    io::writev(stdout(), &path)?;
    peer::wait(stdout(), || ring.peers() == Peers::None)?;
    loop {
        ring.wait(BYTES, Wait::SLEEP)?;
        let mut claim = ring.try_claim(BYTES)?;
        let len = io::read(stdin(), claim.as_mut_slice())?;
        if len == 0 {
            return Ok(());
        }
        claim.truncate(len)?;
        claim.commit();
    }
}
