//! Copies standard input into a ring in a memfd.
//!
//! `ring-producer PATH`: gives the memfd to the `ring-consumer` that connects to the socket `PATH`, which
//! is removed then.

#![no_std]
#![no_main]

use linipc_core::io;
use linipc_core::ring::{self, Kind, Wait, spsc::Producer};
use linipc_static::link::offer;
use linipc_static::report::{Failure, ended, stdin};
use linipc_static::{Args, entry};

const USAGE: &[u8] = b"ring-producer PATH";

entry!(main);

fn main(args: Args) -> u8 {
    ended(b"ring-producer", USAGE, run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    let (Some(path), 2) = (args.get(1), args.len()) else {
        return Err(Failure::Usage);
    };
    let fd = ring::create_memfd(c"ring", Kind::Spsc, 1 << 16)?;
    let mut ring = Producer::attach(ring::map(&fd)?)?;
    offer(path, fd)?;
    let mut bytes = [0; 4096];
    loop {
        let len = io::read(stdin(), &mut bytes)?;
        if len == 0 {
            return Ok(());
        }
        ring.push(bytes.get(..len).unwrap_or_default(), Wait::SPIN_THEN_SLEEP)?;
    }
}
