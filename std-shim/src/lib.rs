//! Every way in which Linux processes talk to each other, as owned handles.

pub use linipc_core as core;
pub use linipc_core::Errno;

pub use crate::deadline::Deadline;

mod deadline;
pub mod error;
pub mod event;
pub mod fifo;
pub mod futex;
pub mod lock;
pub mod map;
pub mod memfd;
pub mod pipe;
pub mod posix;
pub mod process_vm;
pub mod shared;
pub mod socket;
pub mod sysv;
