//! Memory as a descriptor without a name, which can be sealed against change, or kept secret.
//!
//! Built on [`linipc_core::memfd`], which has the seals and the pitfalls.
//!
//! ```
//! use std::io::{Read, Seek, Write};
//! use std::fs::File;
//! use linipc::memfd::{Memfd, MemfdOptions, SealFlags};
//!
//! // A file that whoever gets the descriptor can map, and nobody can change.
//! let mut file = File::from(MemfdOptions::new().create("settings")?);
//! file.write_all(b"volume=7")?;
//! let memfd = Memfd::from(file);
//! memfd.add_seals(Memfd::CONSTANT)?;
//!
//! // The receiver believes the seals, not the sender.
//! let received = Memfd::from(memfd.as_file().try_clone()?).require(Memfd::CONSTANT)?;
//! let mut copy = [0; 8];
//! received.map_read()?.bytes().read(0, &mut copy)?;
//! assert_eq!(&copy, b"volume=7");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::map::{self, Access, Region};
use linipc_core::memfd as core;

pub use linipc_core::memfd::{HugePages, SealFlags};

/// How to make a memfd.
#[derive(Debug, Clone)]
pub struct MemfdOptions {
    size: u64,
    seals: SealFlags,
    executable: bool,
    huge_pages: Option<HugePages>,
}

impl Default for MemfdOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MemfdOptions {
    /// Memory of length 0, without seals but the one against execution.
    pub const fn new() -> Self {
        Self {
            size: 0,
            seals: SealFlags::empty(),
            executable: false,
            huge_pages: None,
        }
    }

    /// The length in bytes, all of which is reserved. Of huge pages it is rounded up to the page.
    pub const fn size(&mut self, bytes: u64) -> &mut Self {
        self.size = bytes;
        self
    }

    /// The seals to add when the memory has its length.
    pub const fn seals(&mut self, seals: SealFlags) -> &mut Self {
        self.seals = seals;
        self
    }

    /// Whether it can be executed; if not, it is sealed to stay so (Linux 6.3).
    pub const fn executable(&mut self, executable: bool) -> &mut Self {
        self.executable = executable;
        self
    }

    /// Huge pages of this size instead of normal ones.
    pub const fn huge_pages(&mut self, size: HugePages) -> &mut Self {
        self.huge_pages = Some(size);
        self
    }

    /// Makes the memory. The name is only shown in `/proc`.
    ///
    /// # Errors
    ///
    /// - `NOSPC`: less memory, or fewer huge pages, than `size` are free. `NODEV`: there are no
    ///   huge pages of this size.
    /// - `INVAL`: the name has more than 249 bytes or a null byte.
    /// - `ACCESS`: executable, and `vm.memfd_noexec` is 2. `MFILE`: no descriptor is free.
    pub fn create(&self, name: &str) -> io::Result<Memfd> {
        let mut flags = core::Flags::empty();
        flags.set(core::Flags::EXEC, self.executable);
        if let Some(pages) = self.huge_pages {
            flags |= pages.flags();
        }
        let memfd = Memfd {
            file: core::create(name, flags)?.into(),
        };
        if self.size > 0 {
            let size = match self.huge_pages {
                Some(_) => self
                    .size
                    .checked_next_multiple_of(memfd.file.metadata()?.blksize()),
                None => Some(self.size),
            };
            let size = size.ok_or(Errno::FBIG)?;
            retry_on_intr(|| map::reserve(&memfd, size))?;
        }
        if !self.seals.is_empty() {
            memfd.add_seals(self.seals)?;
        }
        Ok(memfd)
    }
}

/// Memory as a file: std's [`File`], with seals and mappings.
#[derive(Debug)]
pub struct Memfd {
    file: File,
}

impl Memfd {
    /// The seals of a fixed length: nobody can cut it off under a mapping.
    pub const FIXED_LENGTH: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

    /// The seals of memory that nobody changes any more.
    pub const CONSTANT: SealFlags = Self::FIXED_LENGTH.union(SealFlags::WRITE);

    /// The seals it has.
    ///
    /// # Errors
    ///
    /// `INVAL`: not memory that can have seals.
    pub fn seals(&self) -> io::Result<SealFlags> {
        Ok(core::fcntl_get_seals(self)?)
    }

    /// Adds seals, for everybody and for ever.
    ///
    /// # Errors
    ///
    /// - `PERM`: it has [`SealFlags::SEAL`], or is not open for writing.
    /// - `BUSY`: [`SealFlags::WRITE`], and somebody has a writable shared mapping.
    /// - `INVAL`: not memory that can have seals, or a seal that this kernel does not know.
    pub fn add_seals(&self, seals: SealFlags) -> io::Result<()> {
        Ok(core::fcntl_add_seals(self, seals)?)
    }

    /// Gives the handle back if it has all these seals: what to ask of a stranger's descriptor.
    ///
    /// # Errors
    ///
    /// `InvalidData` with [`MissingSeals`], also of what cannot have seals.
    pub fn require(self, seals: SealFlags) -> io::Result<Self> {
        let has = match core::fcntl_get_seals(&self) {
            Err(Errno::INVAL) => SealFlags::empty(),
            seals => seals?,
        };
        match seals - has {
            missing if missing.is_empty() => Ok(self),
            missing => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                MissingSeals(missing),
            )),
        }
    }

    /// Maps all of it, to read and to write.
    ///
    /// # Errors
    ///
    /// `INVAL`: the length is 0. `PERM`: sealed against writing; use [`Memfd::map_read`].
    pub fn map(&self) -> io::Result<Region> {
        self.map_with(Access::READ | Access::WRITE)
    }

    /// Maps all of it, to read.
    ///
    /// # Errors
    ///
    /// `INVAL`: the length is 0.
    pub fn map_read(&self) -> io::Result<Region> {
        self.map_with(Access::READ)
    }

    fn map_with(&self, access: Access) -> io::Result<Region> {
        let len = usize::try_from(self.file.metadata()?.len()).map_err(|_| Errno::NOMEM)?;
        Ok(Region::shared(self, 0, len, access)?)
    }

    /// The file, for its length, position, and reading and writing without a mapping.
    pub const fn as_file(&self) -> &File {
        &self.file
    }
}

impl AsFd for Memfd {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<Memfd> for File {
    fn from(memfd: Memfd) -> Self {
        memfd.file
    }
}

impl From<Memfd> for OwnedFd {
    fn from(memfd: Memfd) -> Self {
        memfd.file.into()
    }
}

impl From<File> for Memfd {
    /// Takes a file as it is. [`Memfd::require`] tells whether it is what the sender says.
    fn from(file: File) -> Self {
        Self { file }
    }
}

impl From<OwnedFd> for Memfd {
    /// Takes a descriptor as it is. [`Memfd::require`] tells whether it is what the sender says.
    fn from(fd: OwnedFd) -> Self {
        Self { file: fd.into() }
    }
}

/// The seals that were required, and that the memory does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingSeals(pub SealFlags);

impl fmt::Display for MissingSeals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the memory is not sealed against ")?;
        let names = self.0.iter_names().map(|(name, _)| name);
        f.write_str(&names.collect::<Vec<_>>().join(" and "))
    }
}

impl Error for MissingSeals {}

/// Memory of `size` bytes that only those see who map its descriptor: not the kernel, nor a
/// debugger. It has no seals, and cannot be read or written but through [`Memfd::map`].
///
/// # Errors
///
/// - `NOSYS`: this kernel has none, or it is not enabled (`secretmem.enable=1`).
/// - `MFILE`: no descriptor is free. Mapping it is `AGAIN` above `RLIMIT_MEMLOCK`.
pub fn secret(size: u64) -> io::Result<Memfd> {
    let memfd = Memfd::from(core::secret()?);
    memfd.file.set_len(size)?;
    Ok(memfd)
}
