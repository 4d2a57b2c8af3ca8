//! Two rings, one each way, in memory that only descriptors lead to.

use std::io;
use std::os::fd::OwnedFd;

use linipc::ring::spsc::{self, Consumer, Producer};

use super::{Link, Prepared, Start, wrong_length};

/// The longest message is half of it.
const CAPACITY: u64 = 1 << 20;
const CHUNK: usize = 1 << 17;

/// Both rings, for both sides, of a length that neither can change.
pub(crate) fn prepare() -> io::Result<Prepared> {
    let rings = [spsc::create(CAPACITY)?, spsc::create(CAPACITY)?];
    let both = || -> io::Result<Vec<OwnedFd>> {
        let files = rings.iter().map(|ring| ring.as_file().try_clone());
        files.map(|file| Ok(file?.into())).collect()
    };
    Ok(Prepared {
        descriptors: [both()?, both()?],
        ..Prepared::default()
    })
}

/// The link.
#[derive(Debug)]
struct Rings {
    out: Producer,
    back: Consumer,
}

/// Attaches to one as its producer, to the other one as its consumer.
pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
    let side = start.side;
    let [out, back] = side.order(start.descriptors()?);
    Ok(Box::new(Rings {
        out: Producer::attach(out)?,
        back: Consumer::attach(back)?,
    }))
}

impl Link for Rings {
    fn max_message(&self) -> usize {
        CHUNK
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.out.push(message)
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<()> {
        match self.back.pop(message)? {
            len if len == message.len() => Ok(()),
            len => Err(wrong_length(len, message.len())),
        }
    }
}
