//! POSIX IPC: objects named like files.

pub mod mq;
pub mod sem;
pub mod shm;
