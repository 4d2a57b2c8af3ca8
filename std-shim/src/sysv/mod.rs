//! System V IPC: [`msg`] queues, [`sem`] sets and [`shm`] segments.
//!
//! Built on [`linipc_core::sysv`], which has the pitfalls.

use linipc_core::sysv as core;

pub use linipc_core::sysv::{Key, Owner, Permissions, ftok};

pub mod msg;
pub mod sem;
pub mod shm;

/// The options that all three mechanisms have when an object is opened.
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
