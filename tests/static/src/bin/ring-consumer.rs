//! Copies a ring in a memfd to standard output.
//!
//! `ring-consumer PATH`: gets the memfd from the `ring-producer` that listens at the socket `PATH`.

#![no_std]
#![no_main]

use linipc_static::report::{Failure, ended};
use linipc_static::ring_link::consume;
use linipc_static::{Args, entry};

const USAGE: &[u8] = b"ring-consumer PATH";

entry!(main);

fn main(args: Args) -> u8 {
    ended(b"ring-consumer", USAGE, run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    let (Some(path), 2) = (args.get(1), args.len()) else {
        return Err(Failure::Usage);
    };
    consume(path)
}
