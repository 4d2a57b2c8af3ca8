//! System V IPC: objects named by number, kept by the kernel until somebody removes them.
//!
//! Mirrors sysvipc(7), ftok(3) and `<linux/ipc.h>`. The three mechanisms are [`msg`] (queues of
//! typed messages), [`sem`] (sets of semaphores) and [`shm`] (memory segments).
//!
//! An object is found by its [`Key`] and used by its id. Ids and keys are plain numbers, good in
//! every process of the same IPC namespace; nothing is closed on exit or on exec, so an object
//! that nobody removes stays until the machine is restarted.
//!
//! # Pitfalls
//!
//! - [`ftok`] folds a device and an inode into 24 bits: two files can give one key. Check what you
//!   open, or choose keys yourself.
//! - A key says nothing about who made the object. Create with [`Create::Exclusive`] to know.
//! - Ids are used again, after some millions of removals, or when a privileged process chooses the
//!   next one (`kernel.sem_next_id` and its kin). So keep an id no longer than you trust the object
//!   to live, and who owns it.

use core::ffi::c_int;

use rustix::io::Errno;
use rustix::path;

use crate::sys::abi;

/// The type of one mechanism's ids: a number that another mechanism does not take.
macro_rules! id {
    ($(#[$doc:meta])*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(transparent)]
        pub struct Id(core::ffi::c_int);

        impl Id {
            /// The object with this number, as `ipcs` prints it or another process sent it.
            #[inline]
            pub const fn new(number: i32) -> Self {
                Self(number)
            }

            /// The number, to print or to send to another process.
            #[inline]
            pub const fn number(self) -> i32 {
                self.0
            }
        }
    };
}
use id;

pub mod msg;
pub mod sem;
pub mod shm;

pub use rustix::fs::Mode;

/// `key_t`: the number by which unrelated processes find one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
#[doc(alias = "key_t")]
pub struct Key(c_int);

impl Key {
    /// `IPC_PRIVATE`: always makes a new object, which only its id leads to.
    #[doc(alias = "IPC_PRIVATE")]
    pub const PRIVATE: Self = Self(0);

    /// The key with this number. 0 is [`Key::PRIVATE`].
    #[inline]
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// The number of this key, as `ipcs` prints it.
    #[inline]
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// `key_t ftok(const char *pathname, int proj_id)`: a key made from a file and a number.
///
/// The same key as the C library's: the low 8 bits of `id`, the low 8 bits of the file's device
/// and the low 16 bits of its inode number. So two files can give the same key, and a file that
/// was replaced gives another one. POSIX leaves `id` 0 unspecified; here it is a number like any
/// other, as in glibc and musl.
///
/// # Errors
///
/// Those of stat(2); most often `NOENT` (no such file) and `ACCESS`.
///
/// # References
///
/// - [ftok(3)](https://man7.org/linux/man-pages/man3/ftok.3.html)
#[inline]
pub fn ftok(pathname: impl path::Arg, id: u8) -> Result<Key, Errno> {
    let stat = rustix::fs::stat(pathname)?;
    let [ino, dev] = [stat.st_ino as u32 & 0xffff, stat.st_dev as u32 & 0xff];
    Ok(Key((u32::from(id) << 24 | dev << 16 | ino) as c_int))
}

/// Whether a `get` call may, or must, make the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// Find an existing object; `NOENT` if there is none, as always for [`Key::PRIVATE`].
    No,
    /// As `No`, but `ACCESS` if its permissions do not grant the caller these.
    Granting(Mode),
    /// `IPC_CREAT`: find it, or make it with these permissions.
    #[doc(alias = "IPC_CREAT")]
    Open(Mode),
    /// `IPC_CREAT | IPC_EXCL`: make it with these permissions; `EXIST` if there is one already.
    #[doc(alias = "IPC_EXCL")]
    Exclusive(Mode),
}

impl Create {
    /// The flags argument of a `get` call.
    #[inline]
    pub(crate) const fn flags(self, key: Key) -> Result<c_int, Errno> {
        match self {
            // The kernel would make an object, without any permissions.
            Self::No | Self::Granting(_) if key.0 == Key::PRIVATE.0 => Err(Errno::NOENT),
            Self::No => Ok(0),
            Self::Granting(mode) => Ok((mode.bits() & 0o777) as c_int),
            Self::Open(mode) => Ok(abi::IPC_CREAT | (mode.bits() & 0o777) as c_int),
            Self::Exclusive(mode) => {
                Ok(abi::IPC_CREAT | abi::IPC_EXCL | (mode.bits() & 0o777) as c_int)
            }
        }
    }
}

/// `struct ipc_perm`: who owns an object, who made it, and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "ipc_perm")]
pub struct Permissions {
    /// The key it was made with; [`Key::PRIVATE`] for memory that was removed and is still attached.
    pub key: Key,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the owner.
    pub gid: u32,
    /// User id of the creator.
    pub creator_uid: u32,
    /// Group id of the creator.
    pub creator_gid: u32,
    /// The nine permission bits. Read permission lets others receive, wait for zero, attach
    /// read-only and stat; write permission lets them send, change and attach for writing.
    pub mode: Mode,
}

impl From<abi::ipc64_perm> for Permissions {
    #[inline]
    fn from(perm: abi::ipc64_perm) -> Self {
        #[allow(
            clippy::unnecessary_cast,
            reason = "mode_t has 16 bits on some architectures"
        )]
        let mode = Mode::from_raw_mode(perm.mode as u32 & 0o777);
        Self {
            key: Key(perm.key),
            uid: perm.uid,
            gid: perm.gid,
            creator_uid: perm.cuid,
            creator_gid: perm.cgid,
            mode,
        }
    }
}

/// What `IPC_SET` may change of any object's permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "IPC_SET")]
pub struct Owner {
    /// The new owner's user id.
    pub uid: u32,
    /// The new owner's group id.
    pub gid: u32,
    /// The new permission bits.
    pub mode: Mode,
}

impl Owner {
    #[inline]
    pub(crate) fn to_abi(self) -> abi::ipc64_perm {
        abi::ipc64_perm {
            uid: self.uid,
            gid: self.gid,
            mode: (self.mode.bits() & 0o777) as abi::mode_t,
            ..abi::ipc64_perm::default()
        }
    }
}

impl From<Permissions> for Owner {
    #[inline]
    fn from(permissions: Permissions) -> Self {
        Self {
            uid: permissions.uid,
            gid: permissions.gid,
            mode: permissions.mode,
        }
    }
}

/// Whose objects an enumeration shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// `*_STAT`: the object at the index must be readable for the caller, else `ACCESS`.
    Readable,
    /// `*_STAT_ANY`: any object, as `/proc/sysvipc` shows to everybody.
    Any,
}

/// What arm's calls want in each command, so as to use the structures of [`abi`]; everywhere else
/// there is no other form of them.
pub(crate) const VERSION: c_int = if cfg!(target_arch = "arm") {
    abi::IPC_64
} else {
    0
};
