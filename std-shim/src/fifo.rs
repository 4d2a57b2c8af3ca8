//! FIFOs: pipes with a name in the file system.
//!
//! Built on [`linipc_core::fifo`], which has the rules of who waits for whom. The ends are std's
//! [`PipeReader`] and [`PipeWriter`], with all of [`PipeExt`].
//!
//! ```
//! use std::io::{Read, Write};
//! use linipc::fifo::OpenOptions;
//!
//! # let path = std::env::temp_dir().join(format!("linipc-doc-fifo-{}", std::process::id()));
//! let fifo = OpenOptions::new().create_new(true).unlink_on_drop(true).open(&path)?;
//! std::thread::scope(|scope| {
//!     scope.spawn(|| fifo.open_writer()?.write_all(b"hello"));
//!     let mut text = String::new();
//!     fifo.open_reader()?.read_to_string(&mut text)?;
//!     assert_eq!(text, "hello");
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What a dead process leaves
//!
//! A name, but never bytes: [`OpenOptions::create`] takes an old FIFO over as if it were new, and
//! refuses what is not a FIFO. [`Fifo::try_open_writer`] tells whether anybody reads from it. If
//! the name is later given to another FIFO, opening an end here fails with `STALE`, and dropping
//! leaves the other one alone.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;

use linipc_core::Errno;
use linipc_core::fifo::{self as core, End, Flags, Mode};
use linipc_core::io::retry_on_intr;

pub use std::io::{PipeReader, PipeWriter};

use crate::Deadline;
use crate::on_drop::RemoveOnDrop;
use crate::pipe::PipeExt;

/// How to open a FIFO's name.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    create: bool,
    create_new: bool,
    mode: u32,
    unlink_on_drop: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Finds an existing FIFO, whose name outlives the handle.
    pub const fn new() -> Self {
        Self {
            create: false,
            create_new: false,
            mode: 0o600,
            unlink_on_drop: false,
        }
    }

    /// Whether to make the FIFO if there is none.
    pub const fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Whether to make the FIFO, and fail if the name is taken.
    pub const fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// The permission bits of a new FIFO, less the umask: 0o600 unless set.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Whether dropping the handle unlinks the name. Ends that are open go on.
    pub const fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.unlink_on_drop = unlink;
        self
    }

    /// Finds or makes the FIFO. No end is opened, so this does not wait.
    ///
    /// # Errors
    ///
    /// - `EXIST`: [`OpenOptions::create_new`], and the name is taken.
    /// - `NOENT`: there is none, and it was not to be made; or the directory does not exist.
    /// - `INVAL`: the name is not that of a FIFO.
    /// - and the others of mkfifo(3).
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<Fifo> {
        self.open_in(None, path::absolute(path)?)
    }

    /// As [`OpenOptions::open`], of a name that is counted from a directory. The handle keeps the
    /// directory open, wherever it is moved.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`]. `NOTDIR`: `dir` is not a directory.
    pub fn open_at(&self, dir: impl AsFd, name: impl AsRef<Path>) -> io::Result<Fifo> {
        let dir = dir.as_fd().try_clone_to_owned()?;
        self.open_in(Some(dir), name.as_ref().to_owned())
    }

    fn open_in(&self, dir: Option<OwnedFd>, path: PathBuf) -> io::Result<Fifo> {
        let at = dir.as_ref().map_or(core::CWD, AsFd::as_fd);
        if self.create || self.create_new {
            match core::create_at(at, &path, Mode::from_raw_mode(self.mode)) {
                Err(Errno::EXIST) if !self.create_new => {}
                made => made?,
            }
        }
        let identity = core::identity_at(at, &path, Flags::empty())?;
        let name = Arc::new(Name {
            dir,
            path,
            identity,
        });
        let chosen = self.unlink_on_drop.then(|| Arc::clone(&name));
        Ok(Fifo {
            name,
            unlink_on_drop: RemoveOnDrop::new(chosen, |name| name.remove()),
        })
    }
}

/// Where a name is, and which FIFO has it.
#[derive(Debug)]
struct Name {
    /// `None` if the path is absolute.
    dir: Option<OwnedFd>,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Name {
    fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_ref().map_or(core::CWD, AsFd::as_fd)
    }

    fn open(&self, end: End, flags: Flags) -> Result<OwnedFd, Errno> {
        core::open_at(self.dir(), &self.path, end, flags)
    }

    /// Whether the name still leads to this FIFO.
    fn is_known(&self) -> bool {
        core::identity_at(self.dir(), &self.path, Flags::empty()) == Ok(self.identity)
    }

    /// The name may change hands between the look and the removal: the kernel has no call for both.
    fn remove(&self) -> io::Result<()> {
        match core::identity_at(self.dir(), &self.path, Flags::NOFOLLOW) {
            Ok(found) if found == self.identity => Ok(core::unlink_at(self.dir(), &self.path)?),
            Ok(_) | Err(Errno::INVAL) => Err(Errno::STALE.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A FIFO's name: opens its ends.
#[derive(Debug)]
pub struct Fifo {
    name: Arc<Name>,
    unlink_on_drop: RemoveOnDrop<Arc<Name>>,
}

impl Fifo {
    /// Finds an existing FIFO; the same as [`OpenOptions::new`] and open.
    ///
    /// # Errors
    ///
    /// `NOENT`: there is none. `INVAL`: not a FIFO.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().open(path)
    }

    /// The absolute path; the name as it was given, if that was [`OpenOptions::open_at`].
    pub fn path(&self) -> &Path {
        &self.name.path
    }

    /// Opens the reading end; waits until a writer opens.
    ///
    /// # Errors
    ///
    /// `STALE`: the name is now another FIFO's. `ACCESS`: no read permission. Those of open(2).
    pub fn open_reader(&self) -> io::Result<PipeReader> {
        Ok(self.end(End::Reader, Flags::empty())?.into())
    }

    /// Opens the writing end; waits until a reader opens.
    ///
    /// # Errors
    ///
    /// `STALE`: the name is now another FIFO's. `ACCESS`: no write permission. Those of open(2).
    pub fn open_writer(&self) -> io::Result<PipeWriter> {
        Ok(self.end(End::Writer, Flags::empty())?.into())
    }

    /// Opens the reading end without waiting. Reads give 0, the end, while there is no writer, and
    /// wait when there is one.
    ///
    /// # Errors
    ///
    /// Those of [`Fifo::open_reader`].
    pub fn try_open_reader(&self) -> io::Result<PipeReader> {
        Ok(blocking(self.end(End::Reader, Flags::NONBLOCK)?)?.into())
    }

    /// Opens the writing end if there is a reader. Writes wait while the pipe is full.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if there is none, where open(2) has `NXIO`; those of
    /// [`Fifo::open_writer`].
    pub fn try_open_writer(&self) -> io::Result<PipeWriter> {
        let writer = retry_on_intr(|| self.writer_now())?;
        Ok(blocking(self.check(writer)?)?.into())
    }

    /// Opens the reading end; waits until a writer opens, but not beyond the deadline.
    ///
    /// The kernel has no such call: the end is opened at once, so that writers find a reader, and
    /// looks for a writer with pauses of up to 2 ms. When the deadline passes it is closed, and a
    /// writer that came at that moment finds its pipe broken.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Fifo::open_reader`].
    pub fn open_reader_deadline(&self, deadline: impl Into<Deadline>) -> io::Result<PipeReader> {
        let deadline = deadline.into();
        let reader = self.end(End::Reader, Flags::NONBLOCK)?;
        deadline.poll(Errno::AGAIN, || match core::has_writer(&reader)? {
            true => Ok(()),
            false => Err(Errno::AGAIN),
        })?;
        Ok(blocking(reader)?.into())
    }

    /// Opens the writing end; waits until a reader opens, but not beyond the deadline.
    ///
    /// The kernel has no such call, so this one tries with pauses of up to 2 ms. A reader that
    /// opens without waiting and closes between two tries is missed.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Fifo::open_writer`].
    pub fn open_writer_deadline(&self, deadline: impl Into<Deadline>) -> io::Result<PipeWriter> {
        let writer = deadline.into().poll(Errno::AGAIN, || self.writer_now())?;
        Ok(blocking(self.check(writer)?)?.into())
    }

    /// Opens both ends in one descriptor, which never waits. While it is open, readers do not see
    /// an end and writers always find a reader.
    ///
    /// # Errors
    ///
    /// `STALE`: the name is now another FIFO's. `ACCESS`: no permission. Those of open(2).
    pub fn open_both(&self) -> io::Result<File> {
        Ok(self.end(End::Both, Flags::empty())?.into())
    }

    /// Unlinks the name. Ends that are open go on.
    ///
    /// # Errors
    ///
    /// `STALE`: the name is now another file's, which stays. `NOENT`: it was removed already.
    pub fn unlink(mut self) -> io::Result<()> {
        self.unlink_on_drop.persist();
        self.name.remove()
    }

    /// Lets the name outlive the handle, whatever was chosen when it was opened.
    pub fn persist(&mut self) {
        self.unlink_on_drop.persist();
    }

    fn end(&self, end: End, flags: Flags) -> io::Result<OwnedFd> {
        self.check(retry_on_intr(|| self.name.open(end, flags))?)
    }

    fn writer_now(&self) -> Result<OwnedFd, Errno> {
        match self.name.open(End::Writer, Flags::NONBLOCK) {
            // No reader; or a socket that got the name.
            Err(Errno::NXIO) if self.name.is_known() => Err(Errno::AGAIN),
            Err(Errno::NXIO) => Err(Errno::STALE),
            opened => opened,
        }
    }

    /// Refuses an end of another FIFO that got the name.
    fn check(&self, end: OwnedFd) -> io::Result<OwnedFd> {
        let file = File::from(end);
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != self.name.identity {
            return Err(Errno::STALE.into());
        }
        Ok(file.into())
    }
}

/// Makes an end that was opened without waiting one that waits.
fn blocking(end: OwnedFd) -> io::Result<OwnedFd> {
    end.set_nonblocking(false)?;
    Ok(end)
}
