//! System V IPC: [`msg`] queues, [`sem`] sets and [`shm`] segments.
//!
//! Built on [`linipc_core::sysv`], which has the pitfalls.
//!
//! ```
//! use linipc::sysv::{Key, msg};
//!
//! // Unrelated programs agree on a key: a number that they all have, or `ftok` of a file.
//! let key = Key::new(0x6c69_6e69);
//! # let key = Key::new(std::process::id() as i32 | 0x20_0000);
//! let ours = msg::OpenOptions::new().create_new(true).remove_on_drop(true).open(key)?;
//! let theirs = msg::Queue::open(key)?;
//! theirs.send(1, b"found by its key")?;
//!
//! // A child or a partner can be given the id instead.
//! let given = msg::Queue::from_id(ours.id());
//! assert_eq!(given.stat()?.messages, 1);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Keys and ids
//!
//! A [`Key`] finds an object, an id *is* one: a number that every process of the IPC namespace may
//! use, if the object's permissions let it. Nothing is opened or closed, so a handle is an id and
//! the choice whether to remove. An object with [`Key::PRIVATE`] is found by its id only; `private`
//! makes one.
//!
//! # Who removes
//!
//! Not the kernel: an object outlives all processes. `remove_on_drop`, which `private`
//! has, removes it with this handle, in the process that opened it; `remove` at once. It is gone for
//! everybody: who waits on a queue or a set gets `IDRM`. Only a segment stays until the last process
//! has detached it. What killed processes left, `list` finds, as ipcs(1) does, and ipcrm(1) removes.

use std::io;

use linipc_core::sysv as core;

use crate::on_drop::RemoveOnDrop;

pub use linipc_core::sysv::{Key, Mode, Owner, Permissions, ftok};

/// The options that all three mechanisms have: methods of a builder with an [`Open`] as `open`.
macro_rules! open_options {
    () => {
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

        /// The permission bits of a new object: 0o600 unless set. There is no umask here.
        pub const fn mode(&mut self, mode: u32) -> &mut Self {
            self.open.mode = mode;
            self
        }

        /// Whether dropping the handle removes the object, for everybody.
        pub const fn remove_on_drop(&mut self, remove: bool) -> &mut Self {
            self.open.remove_on_drop = remove;
            self
        }
    };
}
use open_options;

pub mod msg;
pub mod sem;
pub mod shm;

/// What the methods above set.
#[derive(Debug, Clone, Copy)]
struct Open {
    create: bool,
    create_new: bool,
    mode: u32,
    remove_on_drop: bool,
}

impl Open {
    const fn new() -> Self {
        Self {
            create: false,
            create_new: false,
            mode: 0o600,
            remove_on_drop: false,
        }
    }

    fn remove_on_drop<T>(self, id: T, remove: fn(&T) -> io::Result<()>) -> RemoveOnDrop<T> {
        RemoveOnDrop::new(self.remove_on_drop.then_some(id), remove)
    }

    fn how(self) -> core::Create {
        let mode = core::Mode::from_raw_mode(self.mode);
        match self {
            Self {
                create_new: true, ..
            } => core::Create::Exclusive(mode),
            Self { create: true, .. } => core::Create::Open(mode),
            _ => core::Create::No,
        }
    }
}
