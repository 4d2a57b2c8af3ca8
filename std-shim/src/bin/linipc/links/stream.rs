//! Links over descriptors that are read and written: pipes, FIFOs, sockets.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use super::Link;

/// A link over two descriptors, or over one and its duplicate.
#[derive(Debug)]
pub(crate) struct Stream {
    reader: File,
    writer: File,
    max_message: usize,
}

impl Stream {
    /// What `max_message` bytes at once go through best. Sockets that keep messages whole must be
    /// able to send them.
    pub(crate) fn new(reader: OwnedFd, writer: OwnedFd, max_message: usize) -> Self {
        Self {
            reader: reader.into(),
            writer: writer.into(),
            max_message,
        }
    }
}

impl Link for Stream {
    fn max_message(&self) -> usize {
        self.max_message
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.writer.write_all(message)
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(message)
    }
}
