//! POSIX semaphores, named and unnamed, which C programs can use at the same time.
//!
//! Built on [`linipc_core::posix::sem`], which has the formats and the pitfalls.
//!
//! ```
//! use std::time::Duration;
//! use linipc::posix::sem::{OpenOptions, Semaphore};
//!
//! # let name = &format!("/linipc-doc-sem-{}", std::process::id());
//! let semaphore = OpenOptions::new()
//!     .create_new(true)
//!     .value(1)
//!     .unlink_on_drop(true)
//!     .open(name)?;
//!
//! let elsewhere = Semaphore::open(name)?;
//! elsewhere.wait()?;
//! assert!(semaphore.wait_deadline(Duration::from_millis(1)).is_err());
//! elsewhere.post()?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::borrow::Borrow;
use std::io;
use std::path::{Path, PathBuf};

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::map::Region;
use linipc_core::posix::sem as core;

pub use linipc_core::posix::sem::{Format, Sharing, VALUE_MAX};

use super::{Open, no_space};
use crate::Deadline;
use crate::futex::absolute;
use crate::on_drop::RemoveOnDrop;

/// How to open a named semaphore.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    open: Open,
    value: u32,
    format: Format,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Opens an existing semaphore, which outlives the handle.
    pub const fn new() -> Self {
        Self {
            open: Open::new(),
            value: 0,
            format: Format::NATIVE,
        }
    }

    /// Whether to make the semaphore if there is none.
    pub const fn create(&mut self, create: bool) -> &mut Self {
        self.open.create = create;
        self
    }

    /// Whether to make the semaphore, and fail if there is one.
    pub const fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.open.create_new = create_new;
        self
    }

    /// The permission bits of a new semaphore, less the umask: 0o600 unless set. Whoever may use it
    /// needs both to read and to write.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.open.mode = mode;
        self
    }

    /// The value of a new semaphore: 0 unless set. An existing one keeps its own.
    #[inline]
    pub const fn value(&mut self, value: u32) -> &mut Self {
        self.value = value;
        self
    }

    /// For programs with which C library: this one's unless set.
    pub const fn format(&mut self, format: Format) -> &mut Self {
        self.format = format;
        self
    }

    /// Whether dropping the handle unlinks the name. Who has the semaphore open keeps it.
    pub const fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.open.unlink_on_drop = unlink;
        self
    }

    /// Opens the semaphore with this name.
    ///
    /// # Errors
    ///
    /// Those of sem_open(3). `NOSPC` carries a [`Limit`](crate::error::Limit).
    pub fn open(&self, name: impl AsRef<Path>) -> io::Result<Semaphore> {
        let name = name.as_ref();
        let (how, value, format) = (self.open.how(), self.value, self.format);
        let region = retry_on_intr(|| core::open(name, how, value, format)).map_err(no_space)?;
        Ok(Semaphore {
            region,
            offset: 0,
            format,
            unlink_on_drop: RemoveOnDrop::new(
                self.open.unlink_on_drop.then(|| (name.to_owned(), format)),
                |(name, format)| unlink_format(name, *format),
            ),
        })
    }

    /// Unlinks a name of this [`format`](Self::format); who has the semaphore open keeps it.
    ///
    /// # Errors
    ///
    /// `NOENT`: there is none. `ACCESS`, `PERM`: it belongs to somebody else.
    pub fn unlink(&self, name: impl AsRef<Path>) -> io::Result<()> {
        unlink_format(name.as_ref(), self.format)
    }
}

/// A semaphore: a named one, or one in a part of a [`Region`] of the caller's (`Semaphore<&Region>`,
/// `Semaphore<Arc<Region>>`).
#[derive(Debug)]
pub struct Semaphore<R: Borrow<Region> = Region> {
    region: R,
    offset: usize,
    format: Format,
    unlink_on_drop: RemoveOnDrop<(PathBuf, Format)>,
}

impl Semaphore {
    /// Opens an existing semaphore; the same as [`OpenOptions::new`] and open.
    ///
    /// # Errors
    ///
    /// Those of sem_open(3).
    pub fn open(name: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().open(name)
    }
}

impl<R: Borrow<Region>> Semaphore<R> {
    /// Makes an unnamed semaphore at `offset` of a region, for all who map it. It takes
    /// [`Format::size`] bytes, and nobody may be using what is there.
    ///
    /// # Errors
    ///
    /// - `INVAL`: `value` is above [`VALUE_MAX`], or `offset` not a multiple of [`Format::align`].
    /// - `FAULT`: it reaches beyond the end, or the region cannot be read and written.
    pub fn init(region: R, offset: usize, format: Format, value: u32) -> io::Result<Self> {
        let memory = region.borrow().bytes().slice(offset, format.size())?;
        core::Semaphore::init(memory, format, Sharing::Shared, value)?;
        Ok(Self::at(region, offset, format))
    }

    /// The semaphore that somebody made at `offset` of a region.
    ///
    /// # Errors
    ///
    /// - `INVAL`: `offset` is not a multiple of [`Format::align`].
    /// - `FAULT`: it reaches beyond the end, or the region cannot be read and written.
    pub fn attach(region: R, offset: usize, format: Format) -> io::Result<Self> {
        let semaphore = Self::at(region, offset, format);
        semaphore.inner()?;
        Ok(semaphore)
    }

    const fn at(region: R, offset: usize, format: Format) -> Self {
        Self {
            region,
            offset,
            format,
            unlink_on_drop: RemoveOnDrop::NEVER,
        }
    }

    #[inline]
    fn inner(&self) -> Result<core::Semaphore<'_>, Errno> {
        let memory = self.region.borrow().bytes();
        core::Semaphore::attach(memory.slice(self.offset, self.format.size())?, self.format)
    }

    /// Takes a unit; waits until there is one.
    ///
    /// # Errors
    ///
    /// `INVAL`: not a semaphore of this format.
    #[inline]
    pub fn wait(&self) -> io::Result<()> {
        let semaphore = self.inner()?;
        Ok(retry_on_intr(|| semaphore.wait())?)
    }

    /// Takes a unit if there is one.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if there is none, and those of [`Semaphore::wait`].
    #[inline]
    pub fn try_wait(&self) -> io::Result<()> {
        Ok(self.inner()?.try_wait()?)
    }

    /// Takes a unit; waits until there is one, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Semaphore::wait`].
    #[inline]
    pub fn wait_deadline(&self, deadline: impl Into<Deadline>) -> io::Result<()> {
        let semaphore = self.inner()?;
        let waited = match absolute(deadline.into()) {
            Some(deadline) => retry_on_intr(|| semaphore.wait_deadline(deadline)),
            None => retry_on_intr(|| semaphore.wait()),
        };
        Ok(waited?)
    }

    /// Adds a unit, and wakes one who waits.
    ///
    /// # Errors
    ///
    /// `OVERFLOW`: the value is [`VALUE_MAX`] already. `INVAL`: not a semaphore of this format.
    #[inline]
    pub fn post(&self) -> io::Result<()> {
        Ok(self.inner()?.post()?)
    }

    /// The value, which may have changed already.
    ///
    /// # Errors
    ///
    /// `INVAL`: above [`VALUE_MAX`], so not a semaphore of this format.
    #[inline]
    pub fn value(&self) -> io::Result<u32> {
        match self.inner()?.value() {
            value if value <= VALUE_MAX => Ok(value),
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// Lets the name outlive the handle, whatever was chosen when it was opened.
    pub fn persist(&mut self) {
        self.unlink_on_drop.persist();
    }
}

/// Unlinks a name of this C library's format; the same as [`OpenOptions::new`] and unlink.
///
/// # Errors
///
/// Those of [`OpenOptions::unlink`].
pub fn unlink(name: impl AsRef<Path>) -> io::Result<()> {
    OpenOptions::new().unlink(name)
}

fn unlink_format(name: &Path, format: Format) -> io::Result<()> {
    Ok(core::unlink(name, format)?)
}
