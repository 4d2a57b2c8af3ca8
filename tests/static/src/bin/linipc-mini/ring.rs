//! Rings.

use linipc_static::Args;
use linipc_static::report::Failure;
use linipc_static::ring_link::{consume, produce};

use crate::options::Options;

/// Copies a ring to standard output, or with `-l` makes one, listens at the socket for somebody to take
/// it, and copies standard input into it.
pub fn ring_cat(args: Args) -> Result<(), Failure> {
    let options = Options::read(args, b"l")?;
    let args = options.args;
    match (args.get(0), args.len(), options.has(b'l')) {
        (Some(path), 1, true) => produce(path),
        (Some(path), 1, false) => consume(path),
        _ => Err(Failure::Usage),
    }
}
