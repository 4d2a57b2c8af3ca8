//! System V shared memory: segments, found by key, that processes attach to their address space.
//!
//! Built on [`linipc_core::sysv::shm`], which has the pitfalls. An [`Attachment`] is core's own: it
//! is detached when dropped, and its bytes are copied in and out.
//!
//! ```
//! use linipc::sysv::shm::Segment;
//!
//! let segment = Segment::private(4096)?;
//! let attachment = segment.attach()?;
//! attachment.bytes().write(0, b"for all who attach")?;
//!
//! let mut text = [0; 18];
//! segment.attach_read_only()?.bytes().read(0, &mut text)?;
//! assert_eq!(&text, b"for all who attach");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::ptr::NonNull;

use linipc_core::Errno;
use linipc_core::sysv::Visibility;
use linipc_core::sysv::shm as core;

pub use linipc_core::sysv::shm::{
    Attach, Attachment, Id, Limits, Memory, Pages, Stat, Usage, limits, usage,
};

use super::{Key, Open, Owner};
use crate::error::Limit;
use crate::on_drop::RemoveOnDrop;

/// How to open a segment.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    open: Open,
    memory: Memory,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Finds an existing segment, which outlives the handle.
    pub const fn new() -> Self {
        Self {
            open: Open::new(),
            memory: Memory::USUAL,
        }
    }

    super::open_options!();

    /// The pages of a new segment, for huge ones.
    pub const fn pages(&mut self, pages: Pages) -> &mut Self {
        self.memory.pages = pages;
        self
    }

    /// Whether a new segment may be larger than the memory there is. If it is, and fills up, a
    /// process is killed.
    pub const fn no_reserve(&mut self, no_reserve: bool) -> &mut Self {
        self.memory.no_reserve = no_reserve;
        self
    }

    /// Opens the segment with this key, of at least `size` bytes; 0 finds any.
    ///
    /// # Errors
    ///
    /// Those of shmget(2). `INVAL` carries a [`Limit`] if `size` is above `kernel.shmmax`, and
    /// `NOSPC` always.
    pub fn open(&self, key: Key, size: usize) -> io::Result<Segment> {
        let id = core::get(key, size, self.open.how(), self.memory)
            .map_err(|error| which_limit(error, size).map_or(error.into(), io::Error::from))?;
        Ok(Segment {
            id,
            remove_on_drop: self.open.remove_on_drop(id, remove),
        })
    }
}

/// The limit because of which no segment of `size` bytes could be made.
fn which_limit(errno: Errno, size: usize) -> Option<Limit> {
    let limits = limits().ok()?;
    let (what, value, setting) = match errno {
        Errno::INVAL if size > limits.segment_bytes => {
            ("bytes in a segment", limits.segment_bytes, "kernel.shmmax")
        }
        Errno::NOSPC if usage().ok()?.segments >= limits.segments => {
            ("segments", limits.segments, "kernel.shmmni")
        }
        Errno::NOSPC => ("pages in all segments", limits.pages, "kernel.shmall"),
        _ => return None,
    };
    Some(Limit {
        errno,
        what,
        value: value as u64,
        setting,
    })
}

/// A segment of shared memory.
#[derive(Debug)]
pub struct Segment {
    id: Id,
    remove_on_drop: RemoveOnDrop<Id>,
}

impl Segment {
    /// Finds the segment with this key; the same as [`OpenOptions::new`] and open with size 0.
    ///
    /// # Errors
    ///
    /// Those of shmget(2).
    pub fn open(key: Key) -> io::Result<Self> {
        OpenOptions::new().open(key, 0)
    }

    /// A new segment that has no key, for those who get its [`id`](Self::id); removed on drop.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    pub fn private(size: usize) -> io::Result<Self> {
        OpenOptions::new()
            .create_new(true)
            .remove_on_drop(true)
            .open(Key::PRIVATE, size)
    }

    /// The segment with this id, which another process sent. Nothing is checked before it is used;
    /// the segment outlives the handle.
    pub const fn from_id(id: Id) -> Self {
        Self {
            id,
            remove_on_drop: RemoveOnDrop::NEVER,
        }
    }

    /// The id, which is good in every process.
    pub const fn id(&self) -> Id {
        self.id
    }

    /// Attaches the segment, to read and write. The attachment does not need the handle.
    ///
    /// # Errors
    ///
    /// - `ACCESS`: no permission to read or to write. `NOMEM`: no memory or room.
    /// - `INVAL`, `IDRM`: the segment does not exist.
    pub fn attach(&self) -> io::Result<Attachment> {
        self.attach_with(None, Attach::empty())
    }

    /// Attaches the segment, only to read.
    ///
    /// # Errors
    ///
    /// Those of [`Segment::attach`].
    pub fn attach_read_only(&self) -> io::Result<Attachment> {
        self.attach_with(None, Attach::RDONLY)
    }

    /// Attaches the segment, at an address if there is one, as the flags say.
    ///
    /// # Errors
    ///
    /// Those of [`linipc_core::sysv::shm::attach`].
    pub fn attach_with(
        &self,
        address: Option<NonNull<u8>>,
        flags: Attach,
    ) -> io::Result<Attachment> {
        Ok(core::attach(self.id, address, flags)?)
    }

    /// Attaches the segment at an address, in place of what is mapped there (`SHM_REMAP`).
    ///
    /// # Safety
    ///
    /// What is mapped in the segment's pages from `address`, rounded down with [`Attach::RND`], must
    /// be the caller's to give up: nothing may use or unmap it any more.
    ///
    /// # Errors
    ///
    /// Those of [`linipc_core::sysv::shm::attach_over`].
    pub unsafe fn attach_over(
        &self,
        address: NonNull<u8>,
        flags: Attach,
    ) -> io::Result<Attachment> {
        // SAFETY: The caller gives up what is mapped there.
        Ok(unsafe { core::attach_over(self.id, address, flags) }?)
    }

    /// Keeps the segment in memory, from when each page is first touched.
    ///
    /// # Errors
    ///
    /// - `NOMEM` with a [`Limit`]: the user would lock more than `RLIMIT_MEMLOCK`.
    /// - `PERM`: that limit is 0, or the caller is neither owner nor creator.
    /// - `INVAL`, `IDRM`: the segment does not exist.
    pub fn lock(&self) -> io::Result<()> {
        core::lock(self.id).map_err(|error| match (error, lockable_bytes()) {
            (Errno::NOMEM, Some(value)) => io::Error::from(Limit {
                errno: error,
                what: "bytes of locked memory",
                value,
                setting: "RLIMIT_MEMLOCK",
            }),
            _ => error.into(),
        })
    }

    /// Lets the segment be swapped out again.
    ///
    /// # Errors
    ///
    /// Those of [`Segment::lock`] but `NOMEM`.
    pub fn unlock(&self) -> io::Result<()> {
        Ok(core::unlock(self.id)?)
    }

    /// What the kernel knows about the segment.
    ///
    /// # Errors
    ///
    /// `ACCESS`: no read permission. `INVAL`: the segment does not exist.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(core::stat(self.id)?)
    }

    /// Changes the owner and the permissions.
    ///
    /// # Errors
    ///
    /// `PERM`: the caller is neither owner nor creator. `INVAL`: the segment does not exist.
    pub fn set(&self, owner: Owner) -> io::Result<()> {
        Ok(core::set(self.id, owner)?)
    }

    /// Removes the segment, for everybody, as soon as nobody has it attached; its key is free at
    /// once.
    ///
    /// # Errors
    ///
    /// - `PERM`: the caller is neither owner nor creator.
    /// - `INVAL`, `IDRM`: it was removed already.
    pub fn remove(mut self) -> io::Result<()> {
        self.remove_on_drop.persist();
        remove(&self.id)
    }

    /// Lets the segment outlive the handle, whatever was chosen when it was opened.
    pub fn persist(&mut self) {
        self.remove_on_drop.persist();
    }
}

fn remove(id: &Id) -> io::Result<()> {
    Ok(core::remove(*id)?)
}

/// The soft `RLIMIT_MEMLOCK` of this process.
fn lockable_bytes() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// All segments of the IPC namespace, also those that the caller may not read.
///
/// A segment that is made or removed meanwhile may or may not be among them.
///
/// # Errors
///
/// None in practice.
pub fn list() -> io::Result<Vec<(Id, Stat)>> {
    let indices = 0..=usage()?.highest_index;
    Ok(indices
        .filter_map(|index| core::stat_index(index, Visibility::Any).ok())
        .collect())
}
