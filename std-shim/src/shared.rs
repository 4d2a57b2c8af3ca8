//! A locked shared variable: plain data that any number of processes read and replace.
//!
//! Built on [`linipc_core::shared::variable`], which has the layout, and [`linipc_core::lock`]. The
//! value lies in a file, a memfd or a POSIX segment that all of them map. It is read under a shared
//! OFD lock of that file and written under an exclusive one, so a lock dies with its owner. The
//! value is kept twice: a writer that is killed half-way leaves the old value, never a mix.
//!
//! ```
//! use linipc::shared::{OpenOptions, Shared};
//!
//! # let path = std::env::temp_dir().join(format!("linipc-shared-{}", std::process::id()));
//! let mut counter = OpenOptions::new().create(0_u64).unlink_on_drop(true).open(&path)?;
//! let mut elsewhere: Shared<u64> = Shared::open(&path)?;
//!
//! counter.update(|count| *count += 1)?;
//! assert_eq!(elsewhere.wait()?, 1);
//! elsewhere.set(10)?;
//! assert_eq!(counter.get()?, 10);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Structures of your own are defined with [`plain!`], which makes sure that any bytes are one:
//!
//! ```
//! linipc::shared::plain! {
//!     struct Position {
//!         at: [f64; 2],
//!         since: u64,
//!     }
//! }
//!
//! let start = Position { at: [0.0, 0.0], since: 1 };
//! let mut position = linipc::shared::Shared::anonymous(start)?;
//! position.update(|position| position.at[0] += 0.5)?;
//! assert_eq!(position.get()?.at, [0.5, 0.0]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Whom a handle excludes
//!
//! Every handle has an open file description of its own, so it excludes all other handles, those of
//! the same process too. That is why reading takes `&mut self`: one handle is for one thread at a
//! time; give each its own with [`Shared::try_clone`]. A handle that a child inherited over fork(2)
//! opens a new description when it is first used there. A peer that is not written in Rust takes
//! part with an OFD or POSIX lock of the whole file, and copies the layout.
//!
//! # Pitfalls
//!
//! - A handle that is used while another one of the same thread is in [`Shared::update`] waits for
//!   ever.
//! - A child that is forked in the closure of [`Shared::update`] must not return from it: both
//!   would write, and the first to do so would unlock for both.
//! - Who can write the file can put any bytes there, and can truncate it, which makes the next
//!   access raise `SIGBUS`. Its permissions are the trust. [`Shared::anonymous`] is sealed against
//!   truncation; check a stranger's descriptor with [`Memfd::require`].
//! - If the parent is killed while it holds the lock, a child that neither uses nor drops its handle
//!   keeps the lock.
//! - Locks of network file systems do not order the memory of different machines.

use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::map::{self, Access, Region};
use linipc_core::shared::variable::Variable;

pub use linipc_core::plain;
#[cfg(feature = "zerocopy")]
pub use linipc_core::shared::variable::Zerocopy;
pub use linipc_core::shared::variable::{Mismatch, Plain};

use crate::Deadline;
use crate::futex;
use crate::lock::{Guard, Kind, Range};
use crate::memfd::{Memfd, MemfdOptions};
use crate::on_drop::RemoveOnDrop;

/// How to open a variable.
#[derive(Debug, Clone)]
pub struct OpenOptions<T> {
    initial: Option<T>,
    create_new: bool,
    mode: u32,
    unlink_on_drop: bool,
}

impl<T: Plain> Default for OpenOptions<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Plain> OpenOptions<T> {
    /// Opens an existing variable, which outlives the handle.
    pub const fn new() -> Self {
        Self {
            initial: None,
            create_new: false,
            mode: 0o600,
            unlink_on_drop: false,
        }
    }

    /// Makes the variable with this value if there is none, also in an empty file.
    pub const fn create(&mut self, initial: T) -> &mut Self {
        self.initial = Some(initial);
        self.create_new = false;
        self
    }

    /// Makes the variable with this value, and fails if there is a file.
    pub const fn create_new(&mut self, initial: T) -> &mut Self {
        self.initial = Some(initial);
        self.create_new = true;
        self
    }

    /// The permission bits of a new file, less the umask: 0o600 unless set.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Whether dropping the handle unlinks the name. Who has the variable open keeps it.
    pub const fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.unlink_on_drop = unlink;
        self
    }

    /// Opens the variable in the file at `path`; `/dev/shm/NAME` is a POSIX segment.
    ///
    /// # Errors
    ///
    /// - Those of open(2), among them `NOENT` and `EXIST`.
    /// - `InvalidData` with a [`Mismatch`]: the file holds something else. [`Mismatch::Blank`] also
    ///   while another process makes the variable; who may be that early should [`create`] it.
    /// - `NOSPC`: no room for it in the file system.
    ///
    /// [`create`]: OpenOptions::create
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<Shared<T>> {
        let path = path.as_ref();
        let file = File::options()
            .read(true)
            .write(true)
            .create(self.initial.is_some())
            .create_new(self.create_new)
            .mode(self.mode)
            .open(path)?;
        let mut shared = Shared::attach(file, self.initial).inspect_err(|_| {
            if self.create_new {
                // Nobody but us can want the file.
                let _ = fs::remove_file(path);
            }
        })?;
        shared.unlink_on_drop =
            RemoveOnDrop::new(self.unlink_on_drop.then(|| path.to_owned()), |path| {
                fs::remove_file(path)
            });
        Ok(shared)
    }

    /// Opens the variable in the file that `fd` is: a memfd, a POSIX segment, any mappable file.
    ///
    /// The file is opened anew through `/proc`, so that the handle does not share the locks of the
    /// process that `fd` comes from. `create` makes the variable if the file is empty.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`]; `EXIST` for `create_new`.
    pub fn open_fd(&self, fd: impl AsFd) -> io::Result<Shared<T>> {
        if self.create_new {
            return Err(Errno::EXIST.into());
        }
        Shared::attach(open_anew(fd)?, self.initial)
    }
}

/// A locked shared variable.
#[derive(Debug)]
pub struct Shared<T> {
    file: File,
    region: Region,
    /// The process that opened `file`.
    process: u32,
    /// The generation that this handle last read or wrote.
    seen: u32,
    unlink_on_drop: RemoveOnDrop<PathBuf>,
    value: PhantomData<T>,
}

impl<T: Plain> Shared<T> {
    /// A new variable in memory that has no name, for those who get its descriptor.
    ///
    /// # Errors
    ///
    /// Those of memfd_create(2). `NOSPC`, `NOMEM`: no memory.
    pub fn anonymous(initial: T) -> io::Result<Self> {
        let memory = MemfdOptions::new()
            .size(Variable::<T>::LEN as u64)
            .seals(Memfd::FIXED_LENGTH)
            .create("linipc-shared")?;
        Self::attach(memory.into(), Some(initial))
    }

    /// Opens an existing variable; the same as [`OpenOptions::new`] and open.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().open(path)
    }

    /// Opens the variable in the file that `fd` is; the same as [`OpenOptions::new`] and open_fd.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    pub fn open_fd(fd: impl AsFd) -> io::Result<Self> {
        OpenOptions::new().open_fd(fd)
    }

    /// Another handle of the same variable, for another thread, say. It does not unlink the file.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open_fd`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Self::open_fd(self)
    }

    /// Lets the file outlive the handle, whatever was chosen when it was opened.
    pub fn persist(&mut self) {
        self.unlink_on_drop.persist();
    }

    /// Maps the variable in `file`, a description that nobody shares, or makes it if there is none.
    fn attach(file: File, initial: Option<T>) -> io::Result<Self> {
        let kind = match initial {
            Some(_) => Kind::Exclusive,
            None => Kind::Shared,
        };
        let guard = Guard::lock(&file, Range::ALL, kind)?;
        let initial = match (look::<T>(&file)?, initial) {
            (Ok(()), _) => None,
            (Err(Mismatch::Blank), Some(initial)) => Some(initial),
            (Err(mismatch), _) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, mismatch));
            }
        };
        if initial.is_some() {
            retry_on_intr(|| map::reserve(&file, Variable::<T>::LEN as u64))?;
        }
        let region = map::<T>(&file)?;
        let variable = Variable::new(region.bytes())?;
        if let Some(initial) = initial {
            variable.format(initial)?;
        }
        let seen = variable.generation()?;
        drop(guard);
        Ok(Self {
            file,
            region,
            process: process::id(),
            seen,
            unlink_on_drop: RemoveOnDrop::NEVER,
            value: PhantomData,
        })
    }

    /// The value; waits while it is written.
    ///
    /// # Errors
    ///
    /// None in practice; in a child process those of [`OpenOptions::open_fd`], as for all below.
    pub fn get(&mut self) -> io::Result<T> {
        self.read(Some(Deadline::NEVER))
    }

    /// The value, if nobody writes it now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if somebody does.
    pub fn try_get(&mut self) -> io::Result<T> {
        self.read(None)
    }

    /// The value; waits while it is written, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`).
    pub fn get_deadline(&mut self, deadline: impl Into<Deadline>) -> io::Result<T> {
        self.read(Some(deadline.into()))
    }

    /// Replaces the value; waits while others read or write it.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn set(&mut self, value: T) -> io::Result<()> {
        self.replace(Some(Deadline::NEVER), |_| Ok((value, ())))
    }

    /// Replaces the value, if nobody reads or writes it now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if somebody does.
    pub fn try_set(&mut self, value: T) -> io::Result<()> {
        self.replace(None, |_| Ok((value, ())))
    }

    /// Replaces the value; waits while others read or write it, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`).
    pub fn set_deadline(&mut self, value: T, deadline: impl Into<Deadline>) -> io::Result<()> {
        self.replace(Some(deadline.into()), |_| Ok((value, ())))
    }

    /// Lets `change` change the value while nobody else reads or writes it; waits until that is so.
    ///
    /// If `change` panics, or the process dies in it, the old value stays.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> io::Result<R> {
        self.change(Some(Deadline::NEVER), change)
    }

    /// As [`Shared::update`], if nobody reads or writes the value now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if somebody does.
    pub fn try_update<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> io::Result<R> {
        self.change(None, change)
    }

    /// As [`Shared::update`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`).
    pub fn update_deadline<R>(
        &mut self,
        deadline: impl Into<Deadline>,
        change: impl FnOnce(&mut T) -> R,
    ) -> io::Result<R> {
        self.change(Some(deadline.into()), change)
    }

    /// Whether the value was replaced since this handle was opened, or last read or wrote it.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn has_changed(&self) -> io::Result<bool> {
        Ok(self.variable()?.generation()? != self.seen)
    }

    /// Waits until [`Shared::has_changed`]; gives the value, which is the latest: those in between
    /// are not seen.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn wait(&mut self) -> io::Result<T> {
        self.wait_deadline(Deadline::NEVER)
    }

    /// As [`Shared::wait`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`).
    pub fn wait_deadline(&mut self, deadline: impl Into<Deadline>) -> io::Result<T> {
        /// A writer that was killed before it woke the others, or that is not of this crate, is
        /// noticed after this time.
        const LOOK_AGAIN: Duration = Duration::from_millis(100);

        let deadline = deadline.into();
        while !self.has_changed()? {
            let left = deadline.remaining().unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN);
            if left.is_zero() {
                return Err(Errno::TIMEDOUT.into());
            }
            let generation = self.variable()?.futex()?;
            match futex::wait_deadline(generation, self.seen, left) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) => return Err(error),
            }
        }
        self.get_deadline(deadline)
    }

    fn variable(&self) -> io::Result<Variable<'_, T>> {
        Ok(Variable::new(self.region.bytes())?)
    }

    fn read(&mut self, wait: Option<Deadline>) -> io::Result<T> {
        self.leave_parent()?;
        let guard = Guard::with(&self.file, Range::ALL.into(), Kind::Shared, wait)?;
        let (value, seen) = self.variable()?.read()?;
        drop(guard);
        self.seen = seen;
        Ok(value)
    }

    fn change<R>(
        &mut self,
        wait: Option<Deadline>,
        change: impl FnOnce(&mut T) -> R,
    ) -> io::Result<R> {
        self.replace(wait, |variable| {
            let (mut value, _) = variable.read()?;
            let result = change(&mut value);
            Ok((value, result))
        })
    }

    fn replace<R>(
        &mut self,
        wait: Option<Deadline>,
        make: impl FnOnce(Variable<'_, T>) -> io::Result<(T, R)>,
    ) -> io::Result<R> {
        self.leave_parent()?;
        let guard = Guard::with(&self.file, Range::ALL.into(), Kind::Exclusive, wait)?;
        let variable = self.variable()?;
        let (value, result) = make(variable)?;
        let seen = variable.write(value)?;
        drop(guard);
        variable.futex()?.wake(u32::MAX)?;
        self.seen = seen;
        Ok(result)
    }

    /// Opens the file anew in a child process: the inherited description is the parent's too, and
    /// its locks would not exclude the parent.
    fn leave_parent(&mut self) -> io::Result<()> {
        let process = process::id();
        if self.process != process {
            self.file = open_anew(&self.file)?;
            self.process = process;
        }
        Ok(())
    }
}

impl<T> AsFd for Shared<T> {
    /// The file, to hand to a process that opens the variable with [`Shared::open_fd`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A new open file description of the same file.
fn open_anew(fd: impl AsFd) -> io::Result<File> {
    let number = fd.as_fd().as_raw_fd();
    File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/thread-self/fd/{number}"))
}

fn map<T: Plain>(file: &File) -> io::Result<Region> {
    let access = Access::READ | Access::WRITE;
    Ok(Region::shared(file, 0, Variable::<T>::LEN, access)?)
}

/// Whether the file holds a variable of type `T`.
fn look<T: Plain>(file: &File) -> io::Result<Result<(), Mismatch>> {
    let len = file.metadata()?.len();
    if len == 0 {
        return Ok(Err(Mismatch::Blank));
    }
    if len < Variable::<T>::LEN as u64 {
        // The first page can be touched however short the file is; it has the header.
        let region = map::<[u8; 0]>(file)?;
        let found = Variable::<[u8; 0]>::new(region.bytes())?.check()?;
        return Ok(found.and(Err(Mismatch::Size(0))));
    }
    let region = map::<T>(file)?;
    Ok(Variable::<T>::new(region.bytes())?.check()?)
}
