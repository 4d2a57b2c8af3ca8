//! Copies a ring in a memfd to standard output.
//!
//! `ring-consumer PATH`: gets the memfd from the `ring-producer` that listens at the socket `PATH`.

#![no_std]
#![no_main]

use linipc_core::ring::{self, Error, Wait, spsc::Consumer};
use linipc_static::link::fetch;
use linipc_static::report::{Failure, ended, print};
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
    let mut ring = Consumer::attach(ring::map(fetch(path)?)?)?;
    let mut bytes = [0; 4096];
    loop {
        match ring.pop(&mut bytes, Wait::SPIN_THEN_SLEEP) {
            Ok(len) => print(bytes.get(..len).unwrap_or_default())?,
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
