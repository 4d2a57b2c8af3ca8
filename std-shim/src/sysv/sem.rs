//! System V semaphores: sets of counters, with operations on several of them that happen all at
//! once or not at all.
//!
//! Built on [`linipc_core::sysv::sem`], which has the pitfalls.
//!
//! ```
//! use std::time::Duration;
//! use linipc::sysv::sem::{Op, Set};
//!
//! let set = Set::private(&[1, 3])?;
//! set.op(&[Op::new(0, -1), Op::new(1, -1)])?;
//! assert_eq!(set.values()?, [0, 2]);
//! // Both, or none: the first one is not there any more.
//! let none = set.op_deadline(&[Op::new(1, -1), Op::new(0, -1)], Duration::ZERO);
//! assert_eq!(none.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
//! assert_eq!(set.values()?, [0, 2]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # A lock
//!
//! A semaphore with the value 1 is a lock, and the kernel gives it back when its holder is killed.
//! [`OpenOptions::open_or_init`] makes it without a moment in which somebody could find it half
//! made, whoever comes first.
//!
//! ```
//! use linipc::sysv::Key;
//! use linipc::sysv::sem::OpenOptions;
//!
//! # let key = Key::new(std::process::id() as i32 | 0x10_0000);
//! let set = OpenOptions::new().remove_on_drop(true).open_or_init(key, &[1])?;
//! let guard = set.lock(0)?;
//! assert!(set.try_lock(0).is_err());
//! drop(guard);
//! assert!(set.try_lock(0).is_ok());
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::time::Duration;

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::sysv::sem as core;
use linipc_core::sysv::{Create, Visibility};

pub use linipc_core::sysv::sem::{Flags, Id, Limits, Op, Stat, Usage, VALUE_MAX, limits, usage};

use super::{Key, Open, Owner};
use crate::Deadline;
use crate::error::Limit;
use crate::on_drop::RemoveOnDrop;

/// How to open a set.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    open: Open,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Finds an existing set, which outlives the handle.
    pub const fn new() -> Self {
        Self { open: Open::new() }
    }

    super::open_options!();

    /// Opens the set with this key, of at least `count` semaphores; 0 finds any.
    ///
    /// The values of a new set are 0, until somebody sets them: see [`OpenOptions::open_or_init`].
    ///
    /// # Errors
    ///
    /// Those of semget(2). `INVAL` carries a [`Limit`] if `count` is too many for any set, and
    /// `NOSPC` always.
    pub fn open(&self, key: Key, count: usize) -> io::Result<Set> {
        Ok(self.set(get(key, count, self.open.how())?))
    }

    /// Opens the set with this key, or makes it with these values; nobody who opens it this way
    /// ever sees other values, and nobody waits for a maker that was killed. With `create_new`, it
    /// only makes it.
    ///
    /// For this the set has one semaphore more than `values`, the last one, which is 1 when the set
    /// has its values and must be left alone. It turns 1 in the same operation that gives the
    /// others their values, and whoever finds it 0 does that. A program in C may open the set, too;
    /// when it finds that `sem_otime` is not 0 (semget(2)), the set has its values.
    ///
    /// # Errors
    ///
    /// - `EXIST`: `create_new`, and there is one.
    /// - `INVAL`: there is a set that has not one semaphore more than `values`: one that somebody
    ///   made in another way.
    /// - `RANGE`: a value is above [`VALUE_MAX`].
    /// - `TOOBIG` (`E2BIG`) with a [`Limit`]: the values that are not 0 are more than SEMOPM (500
    ///   unless changed), less two.
    /// - Those of [`OpenOptions::open`] and [`Set::op`].
    pub fn open_or_init(&self, key: Key, values: &[u16]) -> io::Result<Set> {
        let flag = u16::try_from(values.len()).map_err(|_| Errno::INVAL)?;
        let ops = init_ops(flag, values)?;
        let create = Open {
            create: true,
            ..self.open
        };
        loop {
            let id = get(key, values.len() + 1, create.how())?;
            match init(id, values.len() + 1, &ops) {
                Ok(()) => return Ok(self.set(id)),
                // Somebody removed it after we found it.
                Err(Errno::IDRM) => {}
                Err(error) => return Err(op_error(error, ops.len())),
            }
        }
    }

    fn set(&self, id: Id) -> Set {
        Set {
            id,
            remove_on_drop: self.open.remove_on_drop(id, remove),
        }
    }
}

/// `semget`, with the limit in the error.
fn get(key: Key, count: usize, create: Create) -> io::Result<Id> {
    core::get(key, count, create)
        .map_err(|error| which_limit(error, count).map_or(error.into(), io::Error::from))
}

/// The limit because of which no set of `count` semaphores could be made.
fn which_limit(errno: Errno, count: usize) -> Option<Limit> {
    let limits = limits().ok()?;
    let (what, value, setting) = match errno {
        Errno::INVAL if count > limits.set_semaphores => (
            "semaphores in a set",
            limits.set_semaphores,
            "kernel.sem, 1st number (SEMMSL)",
        ),
        Errno::NOSPC if usage().ok()?.sets >= limits.sets => (
            "semaphore sets",
            limits.sets,
            "kernel.sem, 4th number (SEMMNI)",
        ),
        Errno::NOSPC => (
            "semaphores in all sets",
            limits.semaphores,
            "kernel.sem, 2nd number (SEMMNS)",
        ),
        _ => return None,
    };
    Some(Limit {
        errno,
        what,
        value: value as u64,
        setting,
    })
}

/// The operations that give a new set its values, unless the semaphore `flag` says it has them.
fn init_ops(flag: u16, values: &[u16]) -> Result<Vec<Op>, Errno> {
    let mut ops = vec![Op::new(flag, 0).nowait(), Op::new(flag, 1)];
    for (num, &value) in (0..).zip(values).filter(|&(_, &value)| value > 0) {
        let value = i16::try_from(value).map_err(|_| Errno::RANGE)?;
        ops.push(Op::new(num, value));
    }
    Ok(ops)
}

/// Does these operations on a set of `count` semaphores, if nobody did them before.
fn init(id: Id, count: usize, ops: &[Op]) -> Result<(), Errno> {
    let gone = |error| match error {
        Errno::INVAL => Errno::IDRM,
        error => error,
    };
    if core::stat(id).map_err(gone)?.semaphores != count {
        return Err(Errno::INVAL);
    }
    match core::op(id, ops).map_err(gone) {
        Err(Errno::AGAIN) => Ok(()),
        done => done,
    }
}

/// The error of a call with `count` operations.
fn op_error(error: Errno, count: usize) -> io::Error {
    match (error, limits()) {
        (Errno::TOOBIG, Ok(limits)) if count > limits.ops => Limit {
            errno: error,
            what: "operations in a call",
            value: limits.ops as u64,
            setting: "kernel.sem, 3rd number (SEMOPM)",
        }
        .into(),
        _ => error.into(),
    }
}

/// A set of semaphores.
#[derive(Debug)]
pub struct Set {
    id: Id,
    remove_on_drop: RemoveOnDrop<Id>,
}

impl Set {
    /// Finds the set with this key; the same as [`OpenOptions::new`] and open with count 0.
    ///
    /// # Errors
    ///
    /// Those of semget(2).
    pub fn open(key: Key) -> io::Result<Self> {
        OpenOptions::new().open(key, 0)
    }

    /// A new set with these values that has no key, for those who get its [`id`](Self::id); removed
    /// on drop.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`]. `RANGE`: a value is above [`VALUE_MAX`].
    pub fn private(values: &[u16]) -> io::Result<Self> {
        let set = OpenOptions::new()
            .create_new(true)
            .remove_on_drop(true)
            .open(Key::PRIVATE, values.len())?;
        set.set_values(values)?;
        Ok(set)
    }

    /// The set with this id, which another process sent. Nothing is checked before it is used; the
    /// set outlives the handle.
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

    /// Does all operations at once; waits until all are possible.
    ///
    /// # Errors
    ///
    /// - `AGAIN` (`WouldBlock`): an operation with [`Flags::NOWAIT`] is not possible now.
    /// - `TOOBIG` (`E2BIG`) with a [`Limit`]: more operations than SEMOPM.
    /// - `FBIG`: there is no such semaphore. `RANGE`: a value would get above [`VALUE_MAX`].
    /// - `IDRM`: the set was removed meanwhile. `INVAL`: it does not exist, or no operations.
    /// - `ACCESS`: no permission.
    #[inline]
    pub fn op(&self, ops: &[Op]) -> io::Result<()> {
        self.op_deadline(ops, Deadline::NEVER)
    }

    /// Does all operations at once if they are possible now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if they are not, and those of [`Set::op`].
    #[inline]
    pub fn try_op(&self, ops: &[Op]) -> io::Result<()> {
        let ops: Vec<Op> = ops.iter().copied().map(Op::nowait).collect();
        core::op(self.id, &ops).map_err(|error| op_error(error, ops.len()))
    }

    /// Does all operations at once; waits until all are possible, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Set::op`].
    #[inline]
    pub fn op_deadline(&self, ops: &[Op], deadline: impl Into<Deadline>) -> io::Result<()> {
        let deadline = deadline.into();
        let done = retry_on_intr(
            || match deadline.remaining().map(core::Timespec::try_from) {
                Some(Ok(timeout)) => core::timedop(self.id, ops, &timeout),
                // A time that the kernel cannot count to is no deadline, as none is.
                None | Some(Err(_)) => core::op(self.id, ops),
            },
        );
        match done {
            // The kernel's time ran out, not before ours.
            Err(Errno::AGAIN) if deadline.remaining() == Some(Duration::ZERO) => {
                Err(Errno::TIMEDOUT.into())
            }
            done => done.map_err(|error| op_error(error, ops.len())),
        }
    }

    /// Takes 1 from a semaphore, until the guard is dropped or the process ends, however it ends;
    /// waits until it can.
    ///
    /// So a semaphore of value 1 is a lock. Who gets it cannot know whether the last holder was
    /// killed, so what it protects must be checked, or be right at any moment.
    ///
    /// # Errors
    ///
    /// Those of [`Set::op`].
    #[inline]
    pub fn lock(&self, num: u16) -> io::Result<Guard<'_>> {
        self.lock_deadline(num, Deadline::NEVER)
    }

    /// As [`Set::lock`], if it is possible now.
    ///
    /// # Errors
    ///
    /// `AGAIN` (`WouldBlock`) if it is not, and those of [`Set::op`].
    #[inline]
    pub fn try_lock(&self, num: u16) -> io::Result<Guard<'_>> {
        self.try_op(&[Op::new(num, -1).undo()])?;
        Ok(Guard { set: self, num })
    }

    /// As [`Set::lock`], but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// `TIMEDOUT` (`TimedOut`), and those of [`Set::op`].
    #[inline]
    pub fn lock_deadline(&self, num: u16, deadline: impl Into<Deadline>) -> io::Result<Guard<'_>> {
        self.op_deadline(&[Op::new(num, -1).undo()], deadline)?;
        Ok(Guard { set: self, num })
    }

    /// The value of one semaphore.
    ///
    /// # Errors
    ///
    /// `ACCESS`: no read permission. `INVAL`: there is no such set or semaphore.
    #[inline]
    pub fn value(&self, num: u16) -> io::Result<u16> {
        Ok(core::getval(self.id, num)?)
    }

    /// Sets one semaphore, and forgets what processes would undo on it.
    ///
    /// # Errors
    ///
    /// - `RANGE`: `value` is above [`VALUE_MAX`].
    /// - `ACCESS`: no write permission. `INVAL`: there is no such set or semaphore.
    #[inline]
    pub fn set_value(&self, num: u16, value: u16) -> io::Result<()> {
        Ok(core::setval(self.id, num, value)?)
    }

    /// All values, as they are at one moment.
    ///
    /// # Errors
    ///
    /// `ACCESS`: no read permission. `INVAL`: there is no such set.
    pub fn values(&self) -> io::Result<Vec<u16>> {
        let mut values = vec![0; core::stat(self.id)?.semaphores];
        core::getall(self.id, &mut values)?;
        Ok(values)
    }

    /// Sets all semaphores at once, and forgets what processes would undo.
    ///
    /// # Errors
    ///
    /// - `RANGE`: a value is above [`VALUE_MAX`].
    /// - `TOOBIG` (`E2BIG`): the set has more semaphores than `values`. Beyond those of the set,
    ///   `values` are ignored.
    /// - `ACCESS`: no write permission. `INVAL`: there is no such set.
    pub fn set_values(&self, values: &[u16]) -> io::Result<()> {
        Ok(core::setall(self.id, values)?)
    }

    /// The process that changed a semaphore last, 0 if none.
    ///
    /// # Errors
    ///
    /// Those of [`Set::value`].
    pub fn last_process(&self, num: u16) -> io::Result<i32> {
        Ok(core::getpid(self.id, num)?)
    }

    /// How many tasks wait for a semaphore to get higher.
    ///
    /// # Errors
    ///
    /// Those of [`Set::value`].
    pub fn waiting_for_more(&self, num: u16) -> io::Result<usize> {
        Ok(core::getncnt(self.id, num)?)
    }

    /// How many tasks wait for a semaphore to get 0.
    ///
    /// # Errors
    ///
    /// Those of [`Set::value`].
    pub fn waiting_for_zero(&self, num: u16) -> io::Result<usize> {
        Ok(core::getzcnt(self.id, num)?)
    }

    /// What the kernel knows about the set.
    ///
    /// # Errors
    ///
    /// `ACCESS`: no read permission. `INVAL`: the set does not exist.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(core::stat(self.id)?)
    }

    /// Changes the owner and the permissions.
    ///
    /// # Errors
    ///
    /// `PERM`: the caller is neither owner nor creator. `INVAL`: the set does not exist.
    pub fn set(&self, owner: Owner) -> io::Result<()> {
        Ok(core::set(self.id, owner)?)
    }

    /// Removes the set, for everybody; who waits on it gets `IDRM`.
    ///
    /// # Errors
    ///
    /// - `PERM`: the caller is neither owner nor creator.
    /// - `INVAL`, `IDRM`: it was removed already.
    pub fn remove(mut self) -> io::Result<()> {
        self.remove_on_drop.persist();
        remove(&self.id)
    }

    /// Lets the set outlive the handle, whatever was chosen when it was opened.
    pub fn persist(&mut self) {
        self.remove_on_drop.persist();
    }
}

fn remove(id: &Id) -> io::Result<()> {
    Ok(core::remove(*id)?)
}

/// What [`Set::lock`] took; given back on drop.
///
/// A child that was forked meanwhile must not drop its copy: that would give it back, too.
#[derive(Debug)]
#[must_use = "dropping the guard gives the semaphore back"]
pub struct Guard<'a> {
    set: &'a Set,
    num: u16,
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // The set may be gone, or set so high that nothing can be given back. Giving never waits.
        let _ = core::op(self.set.id, &[Op::new(self.num, 1).undo()]);
    }
}

/// All sets of the IPC namespace, also those that the caller may not read.
///
/// A set that is made or removed meanwhile may or may not be among them.
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
