//! System V semaphores: sets of counters, with operations on several of them that happen all at
//! once or not at all.
//!
//! Mirrors semget(2), semop(2), semctl(2) and `<linux/sem.h>`.
//!
//! ```
//! use linipc_core::sysv::sem::{self, Op};
//! use linipc_core::sysv::{Create, Key, Mode};
//!
//! let set = sem::get(Key::PRIVATE, 2, Create::Exclusive(Mode::RUSR | Mode::WUSR))?;
//! sem::setall(set, &[1, 3])?;
//! // Take one of each, or none at all; a process that is killed gives the first one back.
//! sem::op(set, &[Op::new(0, -1).undo(), Op::new(1, -1)])?;
//! let mut values = [0; 2];
//! sem::getall(set, &mut values)?;
//! assert_eq!(values, [0, 2]);
//! sem::remove(set)?;
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - A set is made in one call and given its values in another (it has zeros in between), so that a
//!   second process can find it too early. linipc's `OpenOptions::open_or_init` has the cure.
//! - `SEM_UNDO` remembers per process what to give back. So a semaphore that one process takes with
//!   it and another one releases ends up wrong, and so does one that is set by [`setval`] meanwhile
//!   (that forgets what is to be given back). A child has nothing to give back after fork(2).
//! - An undo happens as far as it can: a value never gets below 0 or above [`VALUE_MAX`].
//!
//! # Limits
//!
//! The four numbers of `kernel.sem`: semaphores in a set (SEMMSL), in all sets (SEMMNS), operations
//! in a call (SEMOPM, 500 unless changed), sets (SEMMNI); see [`limits`].

use core::ffi::{c_int, c_short, c_ushort, c_void};
use core::ptr::{self, NonNull};

use bitflags::bitflags;
use linux_raw_sys::general::__kernel_timespec;
use rustix::io::Errno;
use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};
use static_assertions::const_assert_eq;

use super::{Create, Key, Owner, Permissions, VERSION, Visibility};
use crate::sys::{Arg, abi, call, timespec};

pub use rustix::time::Timespec;

/// `SEMVMX`: the highest value of a semaphore.
#[doc(alias = "SEMVMX")]
pub const VALUE_MAX: u16 = 32767;

super::id! {
    /// `semid`: a set of semaphores, in every process of the IPC namespace.
    #[doc(alias = "semid")]
}

bitflags! {
    /// How one operation is done.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[repr(transparent)]
    pub struct Flags: c_short {
        /// `IPC_NOWAIT`: fail with `AGAIN` if this operation would have to wait.
        const NOWAIT = abi::IPC_NOWAIT as c_short;
        /// `SEM_UNDO`: undo this operation when the process ends, however it ends.
        const UNDO = abi::SEM_UNDO as c_short;
    }
}

/// `struct sembuf`: one operation on one semaphore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
#[doc(alias = "sembuf")]
pub struct Op {
    /// `sem_num`: which semaphore of the set, from 0.
    pub num: c_ushort,
    /// `sem_op`: what to add, if greater than 0; what to take, waiting until the value is as high,
    /// if less; and 0 waits until the value is 0.
    pub op: c_short,
    /// `sem_flg`
    pub flags: Flags,
}

const_assert_eq!(size_of::<Op>(), 6);
const_assert_eq!(align_of::<Op>(), 2);

impl Op {
    /// The operation `op` on semaphore `num`, which waits and is not undone.
    #[inline]
    pub const fn new(num: u16, op: i16) -> Self {
        let flags = Flags::empty();
        Self { num, op, flags }
    }

    /// With [`Flags::UNDO`].
    #[inline]
    #[must_use]
    pub const fn undo(mut self) -> Self {
        self.flags = self.flags.union(Flags::UNDO);
        self
    }

    /// With [`Flags::NOWAIT`].
    #[inline]
    #[must_use]
    pub const fn nowait(mut self) -> Self {
        self.flags = self.flags.union(Flags::NOWAIT);
        self
    }
}

/// `int semget(key_t key, int nsems, int semflg)`: finds or makes a set of `count` semaphores.
///
/// One that exists must have at least `count`; 0 finds any. The values of a new one are 0 on Linux
/// (POSIX leaves them open).
///
/// # Errors
///
/// - `INVAL`: a new one would have 0 semaphores or more than SEMMSL, or the one that exists has
///   fewer than `count`.
/// - `ACCESS`: the set's permissions do not let the caller use it.
/// - `EXIST`: [`Create::Exclusive`], and there is one.
/// - `NOENT`: [`Create::No`] or [`Create::Granting`], and there is none.
/// - `NOSPC`: the namespace has SEMMNI sets already, or would have more than SEMMNS semaphores.
/// - `NOMEM`: the kernel is out of memory.
///
/// # References
///
/// - [semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html)
#[inline]
#[doc(alias = "semget")]
pub fn get(key: Key, count: usize, create: Create) -> Result<Id, Errno> {
    let count = c_int::try_from(count).map_err(|_| Errno::INVAL)?;
    let flags = create.flags(key)?;
    // SAFETY: The call takes no pointers.
    let id = unsafe { call!(__NR_semget, key.number(), count, flags) }?;
    Ok(Id(id as c_int))
}

/// `int semop(int semid, struct sembuf *sops, size_t nsops)`: does all of `ops` at once; waits until
/// all are possible.
///
/// # Errors
///
/// - `AGAIN`: an operation with [`Flags::NOWAIT`] is not possible now.
/// - `FBIG`: an operation is on a semaphore that the set does not have.
/// - `RANGE`: a value, or what is to be undone, would get above [`VALUE_MAX`].
/// - `TOOBIG` (`E2BIG`): more operations than SEMOPM.
/// - `INVAL`: no operations, or there is no such set.
/// - `IDRM`: the set was removed while the call waited.
/// - `INTR`: a signal was caught while the call waited; nothing was done. Never restarted by the
///   kernel, whatever `SA_RESTART` says.
/// - `ACCESS`: no write permission; no read permission if all operations wait for zero.
/// - `NOMEM`: no memory to remember what to undo.
///
/// # References
///
/// - [semop(2)](https://man7.org/linux/man-pages/man2/semop.2.html)
#[inline]
#[doc(alias = "semop")]
pub fn op(id: Id, ops: &[Op]) -> Result<(), Errno> {
    semtimedop(id, ops, ptr::null())
}

/// `int semtimedop(int semid, struct sembuf *sops, size_t nsops, const struct timespec *timeout)`:
/// as [`op`], but waits no longer than `timeout` from now.
///
/// # Errors
///
/// Those of [`op`]; `AGAIN` also when the time is over, `INVAL` also for a `timeout` that is less
/// than 0 or has 10⁹ nanoseconds.
///
/// # References
///
/// - [semop(2)](https://man7.org/linux/man-pages/man2/semop.2.html)
#[inline]
#[doc(alias = "semtimedop")]
pub fn timedop(id: Id, ops: &[Op], timeout: &Timespec) -> Result<(), Errno> {
    let timeout = timespec(*timeout);
    semtimedop(id, ops, &raw const timeout)
}

/// `semop` is not a call of its own on x86 and s390x, so all go this way; null waits for ever.
#[inline]
fn semtimedop(id: Id, ops: &[Op], timeout: *const __kernel_timespec) -> Result<(), Errno> {
    // The kernel takes 32 bits of the count.
    let count = u32::try_from(ops.len()).map_err(|_| Errno::TOOBIG)?;
    let start = ops.as_ptr();
    // SAFETY: `Op` is the kernel's `sembuf`, of which the call reads `count`; `timeout` is null or
    // borrowed by our callers.
    unsafe { call!(__NR_semtimedop, id.0, start, count, timeout) }?;
    Ok(())
}

/// `int semctl(int semid, int semnum, GETVAL)`: the value of one semaphore.
///
/// # Errors
///
/// - `INVAL`: there is no such set, or it has no such semaphore. `IDRM`: it was removed.
/// - `ACCESS`: no read permission.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "GETVAL")]
pub fn getval(id: Id, num: u16) -> Result<u16, Errno> {
    Ok(ask(id, num, abi::GETVAL)? as u16)
}

/// `semctl` with `GETPID`: the process that changed a semaphore last, 0 if none.
///
/// # Errors
///
/// Those of [`getval`].
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "GETPID")]
pub fn getpid(id: Id, num: u16) -> Result<i32, Errno> {
    Ok(ask(id, num, abi::GETPID)? as i32)
}

/// `semctl` with `GETNCNT`: how many tasks wait for a semaphore to get higher.
///
/// # Errors
///
/// Those of [`getval`].
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "GETNCNT")]
pub fn getncnt(id: Id, num: u16) -> Result<usize, Errno> {
    ask(id, num, abi::GETNCNT)
}

/// `semctl` with `GETZCNT`: how many tasks wait for a semaphore to get 0.
///
/// # Errors
///
/// Those of [`getval`].
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "GETZCNT")]
pub fn getzcnt(id: Id, num: u16) -> Result<usize, Errno> {
    ask(id, num, abi::GETZCNT)
}

#[inline]
fn ask(id: Id, num: u16, cmd: c_int) -> Result<usize, Errno> {
    // SAFETY: These commands take no pointer.
    unsafe { ctl(id.0, num, cmd, 0_usize) }
}

/// `semctl` with `SETVAL`: sets one semaphore, and forgets what processes would undo on it.
///
/// # Errors
///
/// - `RANGE`: `value` is above [`VALUE_MAX`].
/// - `INVAL`: there is no such set, or it has no such semaphore. `IDRM`: it was removed.
/// - `ACCESS`: no write permission.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "SETVAL")]
pub fn setval(id: Id, num: u16, value: u16) -> Result<(), Errno> {
    // The fourth argument is a union of an `int` and pointers, as a register: on big-endian 64-bit
    // architectures, the `int` is its upper half.
    let value = if cfg!(all(target_endian = "big", target_pointer_width = "64")) {
        usize::from(value) << (usize::BITS - c_int::BITS)
    } else {
        usize::from(value)
    };
    // SAFETY: `SETVAL` takes no pointer.
    unsafe { ctl(id.0, num, abi::SETVAL, value) }?;
    Ok(())
}

/// `semctl` with `GETALL`: copies all values at once.
///
/// `values` must have room for all; what it has beyond is set to 0. This maps and unmaps memory,
/// which costs some microseconds; [`getval`] does not.
///
/// # Errors
///
/// - `TOOBIG` (`E2BIG`): the set has more semaphores than `values`. Nothing was copied.
/// - `INVAL`: there is no such set. `IDRM`: it was removed.
/// - `ACCESS`: no read permission. `NOMEM`: no memory.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "GETALL")]
pub fn getall(id: Id, values: &mut [u16]) -> Result<(), Errno> {
    let fenced = Fenced::new(values.len())?;
    fenced.ctl(id, abi::GETALL)?;
    // SAFETY: `Fenced` has room for as many values as `values`, which is borrowed by us alone; the
    // mapping is new, so they do not overlap.
    unsafe { ptr::copy_nonoverlapping(fenced.values.as_ptr(), values.as_mut_ptr(), values.len()) };
    Ok(())
}

/// `semctl` with `SETALL`: sets all semaphores at once, and forgets what processes would undo.
///
/// `values` must have one for each; what it has beyond is ignored.
///
/// # Errors
///
/// - `TOOBIG` (`E2BIG`): the set has more semaphores than `values`. None was set.
/// - `RANGE`: a value is above [`VALUE_MAX`]. None was set.
/// - `INVAL`: there is no such set. `IDRM`: it was removed.
/// - `ACCESS`: no write permission. `NOMEM`: no memory.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "SETALL")]
pub fn setall(id: Id, values: &[u16]) -> Result<(), Errno> {
    let fenced = Fenced::new(values.len())?;
    // SAFETY: As in `getall`, the other way round.
    unsafe { ptr::copy_nonoverlapping(values.as_ptr(), fenced.values.as_ptr(), values.len()) };
    fenced.ctl(id, abi::SETALL)
}

/// The array for `GETALL` and `SETALL`, with memory behind it that nobody can access.
///
/// The two copy as many values as the set has and take no length. To ask for the number first is
/// not enough: ids come round again after some millions of removals (or at once, with the sysctl
/// `kernel.sem_next_id`), so whoever owns the set could put a larger one in its place between the
/// two calls. Here the kernel's copy ends at the fence with `FAULT`, whatever the set has.
///
/// # Invariants
///
/// `len` bytes at `map` are a mapping of ours alone. `values` points at room for as many values as
/// it was made for, readable and writable, that ends where the fence begins: 64 KiB or more that
/// nobody can access. The kernel copies upwards, and all values of a set of 32000 semaphores, the
/// SEMMSL unless raised, are shorter than the fence.
struct Fenced {
    map: *mut c_void,
    len: usize,
    values: NonNull<u16>,
}

impl Fenced {
    /// The fence, a multiple of the page size of every architecture.
    const FENCE: usize = 1 << 16;

    fn new(count: usize) -> Result<Self, Errno> {
        let bytes = count.checked_mul(size_of::<u16>()).ok_or(Errno::NOMEM)?;
        let room = bytes.checked_next_multiple_of(Self::FENCE);
        let room = room.ok_or(Errno::NOMEM)?;
        let len = room.checked_add(Self::FENCE).ok_or(Errno::NOMEM)?;
        let (none, flags) = (ProtFlags::empty(), MapFlags::PRIVATE);
        // SAFETY: The address is the kernel's choice, so no existing mapping changes.
        let map = unsafe { mm::mmap_anonymous(ptr::null_mut(), len, none, flags) }?;
        let values = map.wrapping_byte_add(room - bytes).cast();
        let values = NonNull::new(values).ok_or(Errno::NOMEM)?;
        // INVARIANT: `room` is a multiple of the page size and at least `bytes`, and the rest stays
        // inaccessible.
        let fenced = Self { map, len, values };
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: The range is part of our new mapping.
        unsafe { mm::mprotect(map, room, access) }?;
        Ok(fenced)
    }

    /// `GETALL` or `SETALL`.
    fn ctl(&self, id: Id, cmd: c_int) -> Result<(), Errno> {
        let values = self.values.as_ptr();
        // SAFETY: The call reads or writes values from the first on, and stops at the fence (the
        // type's invariant).
        match unsafe { ctl(id.0, 0, cmd, values) } {
            Ok(_) => Ok(()),
            Err(Errno::FAULT) => Err(Errno::TOOBIG),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours alone (the type's invariant).
        let _ = unsafe { mm::munmap(self.map, self.len) };
    }
}

/// `struct semid_ds`: what the kernel knows about a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "semid_ds")]
pub struct Stat {
    /// Owner and permissions.
    pub permissions: Permissions,
    /// How many semaphores it has.
    pub semaphores: usize,
    /// When an operation was last done, in seconds since the epoch.
    pub last_op: Option<i64>,
    /// When the set was made or last changed by [`set`], [`setval`] or [`setall`].
    pub last_change: Option<i64>,
}

impl From<abi::semid64_ds> for Stat {
    #[inline]
    fn from(ds: abi::semid64_ds) -> Self {
        Self {
            permissions: ds.sem_perm.into(),
            semaphores: ds.sem_nsems as usize,
            last_op: ds.sem_otime.time.seconds(),
            last_change: ds.sem_ctime.time.seconds(),
        }
    }
}

/// `int semctl(int semid, 0, IPC_STAT, struct semid_ds *buf)`: asks about a set.
///
/// # Errors
///
/// - `ACCESS`: no read permission.
/// - `INVAL`: there is no such set. `IDRM`: it was removed.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "semctl")]
pub fn stat(id: Id) -> Result<Stat, Errno> {
    let mut ds = abi::semid64_ds::default();
    // SAFETY: `IPC_STAT` writes one `semid64_ds`.
    unsafe { ctl(id.0, 0, abi::IPC_STAT, &raw mut ds) }?;
    Ok(ds.into())
}

/// `semctl` with `IPC_SET`: changes the owner and the permissions.
///
/// # Errors
///
/// - `PERM`: the caller is neither owner nor creator nor privileged.
/// - `INVAL`: there is no such set, or a user or group id that does not exist here.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
pub fn set(id: Id, owner: Owner) -> Result<(), Errno> {
    let ds = abi::semid64_ds {
        sem_perm: owner.to_abi(),
        ..abi::semid64_ds::default()
    };
    // SAFETY: `IPC_SET` reads one `semid64_ds`.
    unsafe { ctl(id.0, 0, abi::IPC_SET, &raw const ds) }?;
    Ok(())
}

/// `semctl` with `IPC_RMID`: removes the set; who waits on it gets `IDRM`.
///
/// # Errors
///
/// - `PERM`: the caller is neither owner nor creator nor privileged.
/// - `INVAL`: there is no such set. `IDRM`: it was removed.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "IPC_RMID")]
pub fn remove(id: Id) -> Result<(), Errno> {
    // SAFETY: `IPC_RMID` ignores the pointer.
    unsafe { ctl(id.0, 0, abi::IPC_RMID, 0_usize) }?;
    Ok(())
}

/// `semctl` with `SEM_STAT` or `SEM_STAT_ANY`: the set at an index of the kernel's table.
///
/// All sets are at the indices from 0 to [`Usage::highest_index`]; there are gaps.
///
/// # Errors
///
/// - `INVAL`: nothing is at this index.
/// - `ACCESS`: [`Visibility::Readable`], and there is no read permission.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "SEM_STAT")]
#[doc(alias = "SEM_STAT_ANY")]
pub fn stat_index(index: usize, visibility: Visibility) -> Result<(Id, Stat), Errno> {
    let index = c_int::try_from(index).map_err(|_| Errno::INVAL)?;
    let cmd = match visibility {
        Visibility::Readable => abi::SEM_STAT,
        Visibility::Any => abi::SEM_STAT_ANY,
    };
    let mut ds = abi::semid64_ds::default();
    // SAFETY: `SEM_STAT` and `SEM_STAT_ANY` write one `semid64_ds`.
    let id = unsafe { ctl(index, 0, cmd, &raw mut ds) }?;
    Ok((Id(id as c_int), ds.into()))
}

/// The limits of the IPC namespace, the four numbers of `kernel.sem` in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "seminfo")]
pub struct Limits {
    /// SEMMSL: the most semaphores of a set.
    pub set_semaphores: usize,
    /// SEMMNS: the most semaphores of all sets together.
    pub semaphores: usize,
    /// SEMOPM: the most operations in one call.
    pub ops: usize,
    /// SEMMNI: the most sets.
    pub sets: usize,
}

/// `semctl` with `IPC_INFO`: the limits of the IPC namespace.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "IPC_INFO")]
pub fn limits() -> Result<Limits, Errno> {
    let (info, _) = seminfo(abi::IPC_INFO)?;
    Ok(Limits {
        set_semaphores: info.semmsl as usize,
        semaphores: info.semmns as usize,
        ops: info.semopm as usize,
        sets: info.semmni as usize,
    })
}

/// What all sets of the IPC namespace use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The highest index that [`stat_index`] can find something at (0 also if there is no set).
    pub highest_index: usize,
    /// Sets.
    pub sets: usize,
    /// Semaphores in all of them.
    pub semaphores: usize,
}

/// `semctl` with `SEM_INFO`: what all sets use together, and where to stop enumerating.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)
#[inline]
#[doc(alias = "SEM_INFO")]
pub fn usage() -> Result<Usage, Errno> {
    let (info, highest_index) = seminfo(abi::SEM_INFO)?;
    Ok(Usage {
        highest_index,
        sets: info.semusz as usize,
        semaphores: info.semaem as usize,
    })
}

#[inline]
fn seminfo(cmd: c_int) -> Result<(abi::seminfo, usize), Errno> {
    let mut info = abi::seminfo::default();
    // SAFETY: `IPC_INFO` and `SEM_INFO` write one `seminfo`.
    let highest_index = unsafe { ctl(0, 0, cmd, &raw mut info) }?;
    Ok((info, highest_index))
}

/// `semctl`, whose `arg` is what `cmd` takes.
///
/// # Safety
///
/// As for [`call!`]: a pointer is valid for what `cmd` reads or writes.
#[inline(always)]
unsafe fn ctl(id: c_int, num: u16, cmd: c_int, arg: impl Arg) -> Result<usize, Errno> {
    // SAFETY: The caller's promise.
    unsafe { call!(__NR_semctl, id, c_int::from(num), cmd | VERSION, arg) }
}
