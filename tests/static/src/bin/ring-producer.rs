//! Copies standard input into a ring in a memfd.
//!
//! `ring-producer PATH`: gives the memfd to the `ring-consumer` that connects to the socket `PATH`, which
//! is removed then.

#![no_std]
#![no_main]

use linipc_static::report::{Failure, ended};
use linipc_static::ring_link::produce;
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
    produce(path)
}
