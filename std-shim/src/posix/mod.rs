//! POSIX IPC: [`shm`] memory, [`sem`]aphores and [`mq`] message queues, named like files.
//!
//! Built on [`linipc_core::posix`], which has the pitfalls.

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
