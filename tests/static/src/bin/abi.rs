//! Prints what linipc-core says about the kernel's interface on this architecture, as a C program:
//! `tests/cross` compiles it with the headers of this architecture.

#![no_std]
#![no_main]

use linipc_core::io;
use linipc_static::report::stdout;
use linipc_static::{Args, entry};

#[path = "../../../support/abi.rs"]
mod values;

entry!(main);

fn main(_: Args) -> u8 {
    let mut done = 0;
    values::source(&mut |piece| {
        if io::write(stdout(), piece.as_bytes()) != Ok(piece.len()) {
            done = 1;
        }
    });
    done
}
