//! Shared variables: each way one with the message, and one that tells that it was read.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use linipc::Errno;
use linipc::shared::Shared;

use super::{Link, Prepared, Start};

/// A variable is replaced as a whole, so one much larger makes short messages slow.
const LEN: usize = 1 << 17;
type Message = [u8; LEN];

/// Four variables without a name.
pub(crate) fn prepare() -> io::Result<Prepared> {
    let mut prepared = Prepared::default();
    for _way in 0..2 {
        let message = Shared::<Message>::anonymous([0; LEN])?;
        let receipts = Shared::<u64>::anonymous(0)?;
        for descriptors in &mut prepared.descriptors {
            descriptors.push(message.as_fd().try_clone_to_owned()?);
            descriptors.push(receipts.as_fd().try_clone_to_owned()?);
        }
    }
    Ok(prepared)
}

/// The variables by their descriptors.
pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
    let side = start.side;
    let [there, there_receipts, back, back_receipts] = start.descriptors()?;
    let there = Way::open(there, there_receipts);
    let back = Way::open(back, back_receipts);
    let [out, back] = side.order([there?, back?]);
    Ok(Box::new(Variables { out, back }))
}

#[derive(Debug)]
struct Variables {
    out: Way,
    back: Way,
}

/// One way: the message is replaced when the last one was read. So no value is missed, and the
/// variable's own count of changes is enough to tell a message from the last one.
#[derive(Debug)]
struct Way {
    message: Shared<Message>,
    receipts: Shared<u64>,
    /// Messages that were sent, or received.
    count: u64,
}

impl Way {
    fn open(message: OwnedFd, receipts: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            message: Shared::open_fd(message)?,
            receipts: Shared::open_fd(receipts)?,
            count: 0,
        })
    }
}

impl Link for Variables {
    fn max_message(&self) -> usize {
        LEN
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let way = &mut self.out;
        let mut value = [0; LEN];
        let room = value.get_mut(..message.len());
        room.ok_or(Errno::MSGSIZE)?.copy_from_slice(message);
        if way.count > 0 {
            way.receipts.wait()?;
        }
        way.message.set(value)?;
        way.count += 1;
        Ok(())
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<()> {
        let way = &mut self.back;
        let value = way.message.wait()?;
        way.count += 1;
        way.receipts.set(way.count)?;
        let value = value.get(..message.len());
        message.copy_from_slice(value.ok_or(Errno::MSGSIZE)?);
        Ok(())
    }
}
