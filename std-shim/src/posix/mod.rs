//! POSIX IPC: [`shm`] memory, [`sem`]aphores and [`mq`] message queues, named like files.
//!
//! Built on [`linipc_core::posix`], which has the pitfalls.
//!
//! ```
//! use linipc::posix::{sem, shm};
//!
//! # let [text, ready] = ["text", "ready"].map(|name| format!("/linipc-doc-{name}-{}", std::process::id()));
//! // Memory, and a semaphore that says when there is something in it.
//! let memory = shm::OpenOptions::new().create(true).size(4096).unlink_on_drop(true).open(&text)?;
//! let semaphore = sem::OpenOptions::new().create(true).unlink_on_drop(true).open(&ready)?;
//! memory.map()?.bytes().write(0, b"hello")?;
//! semaphore.post()?;
//!
//! // Another process:
//! sem::Semaphore::open(&ready)?.wait()?;
//! let mut copy = [0; 5];
//! shm::SharedMemory::open(&text)?.map()?.bytes().read(0, &mut copy)?;
//! assert_eq!(&copy, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Names
//!
//! A name is `/NAME`: one slash, and no other. [`mq`] insists on it; [`shm`] and [`sem`] strip
//! leading slashes, many or none, as the C library does. `NAME` has up to 255 bytes, a semaphore's
//! 251 for glibc.
//!
//! | | where it shows up |
//! |---|---|
//! | [`shm`] | `/dev/shm/NAME` |
//! | [`sem`] | `/dev/shm/sem.NAME` for glibc, `/dev/shm/NAME` for musl: [`sem::Format`] |
//! | [`mq`] | the file system `mqueue`, usually at `/dev/mqueue` |
//!
//! Permissions are a file's: `mode`, 0o600 unless set, less the umask. Who has an object open or
//! mapped keeps it when its name is unlinked, and the name is free at once. The kernel
//! never unlinks it: `unlink_on_drop` does with this handle, in the process that opened it, and
//! `unlink` does at once. What killed processes left, rm(1) removes in those directories.

use std::io;

use linipc_core::Errno;
use linipc_core::posix as core;

use crate::error::Limit;

pub mod mq;
pub mod sem;
pub mod shm;

/// The options that semaphores and memory have when they are opened.
#[derive(Debug, Clone, Copy)]
struct Open {
    create: bool,
    create_new: bool,
    mode: u32,
    unlink_on_drop: bool,
}

impl Open {
    const fn new() -> Self {
        Self {
            create: false,
            create_new: false,
            mode: 0o600,
            unlink_on_drop: false,
        }
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

/// The limit of `/dev/shm`, if that is why `error` came.
fn no_space(error: Errno) -> io::Error {
    match (error, core::shm::limits()) {
        (Errno::NOSPC, Ok(limits)) if limits.objects > 0 && limits.objects_free == 0 => Limit {
            errno: error,
            what: "objects in /dev/shm",
            value: limits.objects,
            setting: "mount option nr_inodes",
        }
        .into(),
        (Errno::NOSPC, Ok(limits)) => Limit {
            errno: error,
            what: "bytes in /dev/shm",
            value: limits.bytes,
            setting: "mount option size",
        }
        .into(),
        _ => error.into(),
    }
}
