//! Two pipes, or two FIFOs: one each way.

use std::io;

use linipc::pipe::{PipeExt, PipeOptions};

use super::stream::Stream;
use super::{Link, Prepared, Start};

/// Fewer and longer waits; a system that allows less has the capacity that it gives.
const CAPACITY: usize = 1 << 20;
const CHUNK: usize = 1 << 18;

/// Two anonymous pipes.
pub(crate) fn prepare() -> io::Result<Prepared> {
    let (there_reader, there_writer) = PipeOptions::new().open()?;
    let (back_reader, back_writer) = PipeOptions::new().open()?;
    let _ = there_writer.set_capacity(CAPACITY);
    Ok(Prepared {
        descriptors: [
            vec![back_reader.into(), there_writer.into()],
            vec![there_reader.into(), back_writer.into()],
        ],
        ..Prepared::default()
    })
}

/// The ends that were inherited.
pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
    let [reader, writer] = start.descriptors()?;
    Ok(Box::new(Stream::new(reader, writer, CHUNK)))
}

/// FIFOs, and their ends by path.
pub(crate) mod fifo {
    use std::io;

    use linipc::fifo::{Fifo, OpenOptions};

    use super::{CAPACITY, CHUNK, Link, PipeExt, Prepared, Start, Stream};
    use crate::links::{Side, unique_path};

    /// Two names.
    pub(crate) fn prepare() -> io::Result<Prepared> {
        let make = || {
            OpenOptions::new()
                .create_new(true)
                .unlink_on_drop(true)
                .open(unique_path())
        };
        let fifos = [make()?, make()?];
        Ok(Prepared {
            arguments: fifos.iter().map(|fifo| fifo.path().into()).collect(),
            names: fifos.map(|fifo| Box::new(fifo) as _).into(),
            ..Prepared::default()
        })
    }

    /// An end of each. Both sides open first the one that leads to the receiver, so each finds
    /// the other one.
    pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
        let [there, back] = [start.path(0)?, start.path(1)?].map(Fifo::open);
        let (there, back) = (there?, back?);
        let (reader, writer) = match start.side {
            Side::Sender => {
                let writer = there.open_writer()?;
                let _ = writer.set_capacity(CAPACITY);
                (back.open_reader()?, writer)
            }
            Side::Receiver => (there.open_reader()?, back.open_writer()?),
        };
        Ok(Box::new(Stream::new(reader.into(), writer.into(), CHUNK)))
    }
}
