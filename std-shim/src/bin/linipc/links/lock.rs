//! A file of both, and file locks that say whose turn it is.
//!
//! # The baton
//!
//! Three bytes of the file are locked, each by one of the two processes. Who has two of them has
//! the turn. It passes the turn by unlocking one, and then waits for the byte that the other one
//! had alone:
//!
//! | turn | who has it | has | and the other has | who waits for | unlocked at its end |
//! |--:|---|---|---|--:|--:|
//! | 0 | sender | 0, 1 | 2 | 0 | 0 |
//! | 1 | receiver | 2, 0 | 1 | 2 | 2 |
//! | 2 | sender | 1, 2 | 0 | 1 | 1 |
//! | 3 | receiver | 0, 1 | 2 | 0 | 0 |
//!
//! and so on: in turn k the byte that the other waits for, and that is unlocked at its end, is
//! 2k mod 3. Nobody but the waiter wants a byte that is unlocked: who unlocked it wants the one
//! that the waiter has had since before. So the turn goes to the waiter, and comes back only when
//! the waiter passes it, whether its wait had begun already or not; nobody polls, and no turn is
//! lost or taken twice. The locks belong to the open file, so they end with a process.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use linipc::core::io::retry_on_intr;
use linipc::core::lock::{Kind, Owner, Range, acquire, release};

use super::{Link, Prepared, Side, Start, unique_path};

const CHUNK: usize = 1 << 18;
/// Behind the locked bytes, and at the start of a page.
const DATA: u64 = 1 << 16;

/// A file for the time until both have opened it.
pub(crate) fn prepare() -> io::Result<Prepared> {
    let path = unique_path();
    File::create_new(&path)?;
    Ok(Prepared {
        arguments: vec![path.clone().into()],
        names: vec![Box::new(Remove(path))],
        ..Prepared::default()
    })
}

/// Opens the file and takes the locks that this side has at first.
pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
    let file = File::options()
        .read(true)
        .write(true)
        .open(start.path(0)?)?;
    let link = FileLock {
        file,
        turn: 0,
        mine: start.side == Side::Sender,
    };
    let bytes = if link.mine { 0..2 } else { 2..3 };
    for byte in bytes {
        link.lock(byte)?;
    }
    Ok(Box::new(link))
}

/// Removes a file when dropped.
#[derive(Debug)]
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        // It may be gone already, which is what was wanted.
        let _ = fs::remove_file(&self.0);
    }
}

#[derive(Debug)]
struct FileLock {
    file: File,
    /// How many turns are over.
    turn: i64,
    /// Whether this side has the turn.
    mine: bool,
}

impl FileLock {
    fn lock(&self, byte: i64) -> io::Result<()> {
        let range = Range::new(byte, 1);
        Ok(retry_on_intr(|| {
            acquire(&self.file, Owner::Description, range, Kind::Exclusive)
        })?)
    }

    /// Passes the turn.
    fn pass(&mut self) -> io::Result<()> {
        let range = Range::new(self.turn * 2 % 3, 1);
        release(&self.file, Owner::Description, range)?;
        self.turn += 1;
        self.mine = false;
        Ok(())
    }

    /// Waits for the turn.
    fn wait(&mut self) -> io::Result<()> {
        self.lock(self.turn * 2 % 3)?;
        self.turn += 1;
        self.mine = true;
        Ok(())
    }
}

/// Every message is in the file in one turn, and read in the next. Who has read keeps the turn, to
/// answer; or passes it to get another message.
impl Link for FileLock {
    fn max_message(&self) -> usize {
        CHUNK
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if !self.mine {
            self.wait()?;
        }
        self.file.write_all_at(message, DATA)?;
        self.pass()
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<()> {
        if self.mine {
            self.pass()?;
        }
        self.wait()?;
        self.file.read_exact_at(message, DATA)
    }
}
