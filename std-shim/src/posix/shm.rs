//! POSIX shared memory: memory with a name, for unrelated processes.
//!
//! Built on [`linipc_core::posix::shm`], which has the pitfalls. What is mapped is a
//! [`Region`], which outlives the handle.
//!
//! ```
//! use linipc::posix::shm::{OpenOptions, SharedMemory};
//!
//! # let name = &format!("/linipc-doc-shm-{}", std::process::id());
//! let memory = OpenOptions::new()
//!     .create_new(true)
//!     .size(4096)
//!     .unlink_on_drop(true)
//!     .open(name)?;
//! memory.map()?.bytes().write(0, b"hello")?;
//!
//! let elsewhere = SharedMemory::open(name)?;
//! let mut text = [0; 5];
//! elsewhere.map()?.bytes().read(0, &mut text)?;
//! assert_eq!(&text, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linipc_core::Errno;
use linipc_core::io::{OFlags, fcntl_getfl, retry_on_intr};
use linipc_core::map::{Access, Region};
use linipc_core::posix::Create;
use linipc_core::posix::shm as core;

pub use linipc_core::posix::shm::{Limits, limits};

use super::{Open, no_space};
use crate::on_drop::RemoveOnDrop;

/// How to open an object.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    open: Open,
    read_only: bool,
    size: u64,
    reserve: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Opens an existing object for reading and writing. It outlives the handle.
    pub const fn new() -> Self {
        Self {
            open: Open::new(),
            read_only: false,
            size: 0,
            reserve: true,
        }
    }

    /// Whether to open the object for reading only; not together with making it.
    pub const fn read_only(&mut self, read_only: bool) -> &mut Self {
        self.read_only = read_only;
        self
    }

    /// Whether to make the object if there is none.
    pub const fn create(&mut self, create: bool) -> &mut Self {
        self.open.create = create;
        self
    }

    /// Whether to make the object, and fail if there is one.
    pub const fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.open.create_new = create_new;
        self
    }

    /// The permission bits of a new object, less the umask: 0o600 unless set.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.open.mode = mode;
        self
    }

    /// The length of a new object, which has it before anybody can open it: 0 unless set, which
    /// cannot be mapped before [`SharedMemory::resize`]. An existing object keeps its own.
    pub const fn size(&mut self, bytes: u64) -> &mut Self {
        self.size = bytes;
        self
    }

    /// Whether a new object gets all its memory at once: true unless set. Without, it takes memory
    /// as it is touched, and a touch for which there is none raises `SIGBUS`.
    pub const fn reserve(&mut self, reserve: bool) -> &mut Self {
        self.reserve = reserve;
        self
    }

    /// Whether dropping the handle unlinks the name. Who has the object open keeps it.
    pub const fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.open.unlink_on_drop = unlink;
        self
    }

    /// Opens the object with this name.
    ///
    /// # Errors
    ///
    /// - Those of shm_open(3). `NOSPC` carries a [`Limit`](crate::error::Limit).
    /// - `INVAL`: read-only, and to be made.
    /// - `AGAIN`: others made and unlinked it all the time.
    pub fn open(&self, name: impl AsRef<Path>) -> io::Result<SharedMemory> {
        self.open_with(name.as_ref(), |object| match self.reserve {
            true => retry_on_intr(|| core::resize(object, self.size)),
            false => core::ftruncate(object, self.size),
        })
    }

    /// The same, with what `init` puts into a new object before anybody can open it.
    pub(crate) fn open_with(
        &self,
        name: &Path,
        init: impl Fn(&OwnedFd) -> Result<(), Errno>,
    ) -> io::Result<SharedMemory> {
        let object = self.open_object(name, init).map_err(no_space)?;
        Ok(SharedMemory {
            object,
            unlink_on_drop: RemoveOnDrop::new(
                self.open.unlink_on_drop.then(|| name.to_owned()),
                |name| unlink(name),
            ),
        })
    }

    fn open_object(
        &self,
        name: &Path,
        init: impl Fn(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<OwnedFd, Errno> {
        const TRIES: usize = 100;
        let access = if self.read_only {
            Access::READ
        } else {
            Access::READ | Access::WRITE
        };
        let existing = || retry_on_intr(|| core::open(name, access, Create::No));
        let mode = match self.open.how() {
            Create::No => return existing(),
            _ if self.read_only => return Err(Errno::INVAL),
            Create::Exclusive(mode) => return core::create(name, mode, init),
            Create::Open(mode) => mode,
        };
        for _ in 0..TRIES {
            match existing() {
                Err(Errno::NOENT) => {}
                done => return done,
            }
            match core::create(name, mode, &init) {
                Err(Errno::EXIST) => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// A shared memory object.
#[derive(Debug)]
pub struct SharedMemory {
    object: OwnedFd,
    unlink_on_drop: RemoveOnDrop<PathBuf>,
}

impl SharedMemory {
    /// Opens an existing object for reading and writing; the same as [`OpenOptions::new`] and open.
    ///
    /// # Errors
    ///
    /// Those of shm_open(3).
    pub fn open(name: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().open(name)
    }

    /// The length in bytes, as it is now.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn size(&self) -> io::Result<u64> {
        Ok(core::len(&self.object)?)
    }

    /// Makes the object `bytes` long, with memory for all of them. Shortening it kills with
    /// `SIGBUS` who touches what is gone.
    ///
    /// # Errors
    ///
    /// - `NOSPC` with a [`Limit`](crate::error::Limit): `/dev/shm` is full. It is as it was.
    /// - `INVAL`, `BADF`: opened for reading only.
    pub fn resize(&self, bytes: u64) -> io::Result<()> {
        retry_on_intr(|| core::resize(&self.object, bytes)).map_err(no_space)
    }

    /// Maps the whole object, with the access that it was opened with.
    ///
    /// # Errors
    ///
    /// `INVAL`: its length is 0, as of one that was made without [`OpenOptions::size`]. Those of
    /// [`SharedMemory::map_part`].
    pub fn map(&self) -> io::Result<Region> {
        let len = usize::try_from(self.size()?).map_err(|_| Errno::NOMEM)?;
        self.map_part(0, len)
    }

    /// Maps `len` bytes from `offset`, which is a multiple of the page size. What of it is beyond
    /// the end raises `SIGBUS` when it is touched.
    ///
    /// # Errors
    ///
    /// - `INVAL`: `len` is 0, or `offset` is not a multiple of the page size.
    /// - `NOMEM`: no room in the address space.
    pub fn map_part(&self, offset: u64, len: usize) -> io::Result<Region> {
        let writable = fcntl_getfl(&self.object)?.contains(OFlags::RDWR);
        let access = if writable {
            Access::READ | Access::WRITE
        } else {
            Access::READ
        };
        Ok(Region::shared(&self.object, offset, len, access)?)
    }

    /// Lets the name outlive the handle, whatever was chosen when it was opened.
    pub fn persist(&mut self) {
        self.unlink_on_drop.persist();
    }
}

impl AsFd for SharedMemory {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.object.as_fd()
    }
}

impl From<OwnedFd> for SharedMemory {
    /// An object that another process sent, or any other file that can be mapped.
    fn from(object: OwnedFd) -> Self {
        Self {
            object,
            unlink_on_drop: RemoveOnDrop::NEVER,
        }
    }
}

impl From<File> for SharedMemory {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

impl From<SharedMemory> for OwnedFd {
    /// The descriptor; the name goes as if the handle were dropped.
    fn from(memory: SharedMemory) -> Self {
        memory.object
    }
}

impl From<SharedMemory> for File {
    /// The descriptor as a file; the name goes as if the handle were dropped.
    fn from(memory: SharedMemory) -> Self {
        memory.object.into()
    }
}

/// Unlinks a name; who has the object open or mapped keeps it.
///
/// # Errors
///
/// `NOENT`: there is none. `ACCESS`, `PERM`: it belongs to somebody else.
pub fn unlink(name: impl AsRef<Path>) -> io::Result<()> {
    Ok(core::unlink(name.as_ref())?)
}
